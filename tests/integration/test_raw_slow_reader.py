# SPDX-License-Identifier: MIT
"""Clients that do not read: bounded memory, smbd always drained, nobody else slowed (facts: samba.md 2.5)."""

import pathlib
import random
import struct
import time

import pytest

from lib import rdma, smb2
from lib.bystander import Bystander
from lib.process import wait_until

MIB = 1 << 20


def resident(pid):
    """Resident bytes of a process."""
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


@pytest.fixture
def narrow(make_daemon, smbd):
    """One worker, 8 MiB per connection."""
    pool = {"iwarp": {"crc": False}, "limits": {"buffered_bytes_per_connection": 8 * MIB}}
    return make_daemon(smbd.port, workers=1, pool=pool)


def test_slow_reader_is_bounded(narrow, smbd):
    """64 READs of 1 MiB asked for, nothing read: the worker holds its budget, no more; then all arrives intact."""
    data = random.Random(64).randbytes(64 * MIB)
    (smbd.share_path() / "slow").write_bytes(data)
    (pid,) = narrow.worker_pids()
    bystander = Bystander(narrow, smbd, name="slow-bystander")
    try:
        with rdma.session(narrow, smbd, crc=False) as c:
            f = c.create("slow")
            while c.credits < 64 * 16:
                c.echo().check()
            base = resident(pid)
            ids = [c.send_read(f, MIB, o * MIB) for o in range(64)]
            most = base
            for _ in range(20):
                time.sleep(0.05)
                most = max(most, resident(pid))
            bystander.check()
            assert most - base < 20 * MIB, f"the worker grew by {(most - base) / MIB:.1f} MiB"
            for o, message_id in enumerate(ids):
                assert c.wait(message_id, 60).check().data == data[o * MIB : (o + 1) * MIB], o
            assert c.echo().status == smb2.SUCCESS
            bystander.check()
    finally:
        bystander.stop()


@pytest.mark.parametrize("budget", [8 * MIB, 32 * MIB], ids=["8MiB", "32MiB"])
def test_oplock_break_behind_unread_data(make_daemon, smbd, budget):
    """smbd kills a channel whose oplock break stays unread for 1.2 s: the worker reads it, whatever the client does.

    Three times the connection's budget is asked for. With 32 MiB the replies admitted are far more than the
    kernel's socket buffers could hide from smbd, were they not read.
    """
    pool = {"iwarp": {"crc": False}, "limits": {"buffered_bytes_per_connection": budget}}
    daemon = make_daemon(smbd.port, workers=1, pool=pool)
    count = 3 * budget // MIB
    data = random.Random(65).randbytes(count * MIB)
    (smbd.share_path() / "oplock").write_bytes(data)
    with rdma.session(daemon, smbd, crc=False) as c:
        f = c.create("oplock", oplock=9)  # batch
        while c.credits < count * 16:
            c.echo().check()
        ids = [c.send_read(f, MIB, o * MIB) for o in range(count)]
        with smb2.over_tcp((smbd.address, smbd.port)) as other:
            other.start(host=smbd.netbios_name)
            opening = other.send(smb2.CREATE, smb2.create_body("oplock"))
            time.sleep(2.5)
            assert not daemon.closed(c.local), daemon.closed(c.local)
            for o, message_id in enumerate(ids):
                assert c.wait(message_id, 60).check().data == data[o * MIB : (o + 1) * MIB], o
            while not c.unsolicited:
                c._receive(5)
            (broken,) = c.unsolicited
            assert broken.command == smb2.OPLOCK_BREAK
            level = broken.pdu[66]
            acknowledgement = struct.pack("<HBBI16s", 24, level, 0, 0, f)
            c.rpc(smb2.OPLOCK_BREAK, acknowledgement).check()
            other.wait(opening, 10).check()


def test_client_that_never_reads_is_ended(make_daemon, smbd):
    """Its credits are used up, more waits, and the Send Credit Grant Timer ends it; smbd's child is free at once."""
    pool = {"iwarp": {"crc": False}, "smbdirect": {"send_credit_timeout_ms": 700}}
    daemon = make_daemon(smbd.port, pool=pool)
    (smbd.share_path() / "never-reads").write_bytes(bytes(16 * MIB))
    before = set(smbd.client_pids())
    c = rdma.session(daemon, smbd, crc=False, receive_credits=20)
    f = c.create("never-reads")
    (child,) = wait_until(lambda: set(smbd.client_pids()) - before, 2, "smbd's child")
    while c.credits < 16 * 16:
        c.echo().check()
    for o in range(16):
        c.send_read(f, MIB, o * MIB)
    closed = daemon.wait_closed(c.local, 4)
    assert "credit" in closed["cause"], closed
    wait_until(lambda: child not in smbd.client_pids(), 3, "smbd's child ending")
    c.close_transport()
