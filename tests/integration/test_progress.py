# SPDX-License-Identifier: MIT
"""What a client owes and does not do ends its connection, with the reason; what is only slow, or waits, never does."""

import concurrent.futures
import os
import random
import signal
import struct
import time

import pytest

from lib import rdma, smb2
from lib.process import wait_until

MIB = 1 << 20
LAST = b"\xff" * 16  # the file of the request before, in a compound
TIMEOUT_MS = 1000


@pytest.fixture(scope="module")
def strict(scratch, smbd):
    """One worker; what is owed for a second ends the connection."""
    from lib.daemon import Smbdirectd

    limits = {"progress_timeout_ms": TIMEOUT_MS, "upstream_progress_timeout_ms": TIMEOUT_MS}
    with Smbdirectd(scratch / "strict", smbd.port, workers=1, pool={"limits": limits}) as d:
        yield d


def ends(connection, daemon, reason):
    """The connection ends after about the time, for this reason."""
    began = time.monotonic()
    _, cause = rdma.assert_terminated(connection, daemon, within=8)
    assert reason in cause, cause
    assert time.monotonic() - began > TIMEOUT_MS / 1000 / 2


def test_the_data_of_a_write_never_comes(strict, smbd):
    c = rdma.session(strict, smbd)
    f = c.create("owed-read")
    c.transport.iwarp.answer_reads = False
    rdma.send_channel_write(c, f, bytes(65536))
    ends(c, strict, "no data for outstanding RDMA READs")


def test_a_message_that_stops_in_the_middle(strict, smbd):
    c = rdma.session(strict, smbd)
    f = c.create("owed-message")
    pdu = c.build(smb2.WRITE, smb2.write_body(f, bytes(100_000), 0), charge=2)
    c.transport.send_message(pdu[:5000], remaining=len(pdu) - 5000)
    ends(c, strict, "no more of a message that it began")


def test_a_slow_message_arrives(strict, smbd):
    """A fragment every third of the time."""
    with rdma.session(strict, smbd) as c:
        f = c.create("slow-message")
        data = random.Random(5).randbytes(6000)
        message_id = c.take_message_id()
        pdu = c.build(smb2.WRITE, smb2.write_body(f, data, 0), message_id=message_id)
        for at in range(0, len(pdu), 1000):
            piece = pdu[at : at + 1000]
            c.transport.send_message(piece, remaining=len(pdu) - at - len(piece))
            time.sleep(TIMEOUT_MS / 3000)
        c.wait(message_id).check()
        assert c.read(f, 6000).data == data


def test_slow_answers_to_reads_are_waited_for(strict, smbd):
    """The data of a WRITE comes in pieces, each within the time, all of it long after."""
    with rdma.session(strict, smbd) as c:
        f = c.create("slow-reads")
        data = random.Random(6).randbytes(8 * 4096)
        c.transport.iwarp.answer_reads = False
        region = rdma.expose(c, bytearray(data), "r")
        info = rdma.describe(region, 0, len(data), splits=range(4096, len(data), 4096))
        message_id, _ = rdma.send_channel_write(c, f, data, region=region, info=info)
        for _ in range(8):
            end = time.monotonic() + TIMEOUT_MS / 2500
            while time.monotonic() < end:
                c.transport.pump(0.05)
            c.transport.iwarp.answer_held_reads(1)
        c.wait(message_id).check()
        assert (smbd.share_path() / "slow-reads").read_bytes() == data


def test_an_smbd_that_reads_nothing_is_given_up(strict, smbd):
    c = rdma.session(strict, smbd)
    f = c.create("stopped-smbd")
    before = set(smbd.client_pids())
    (pid,) = [p for p in smbd.client_pids() if p in before][-1:]
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises((rdma.Closed, rdma.Terminated)):
            while time.monotonic() < began + 15:
                c.send_write(f, bytes(60_000), 0)
        row = strict.wait_closed(c.local, 5)
        assert "smbd has read nothing" in row["cause"], row
        assert "upstream_progress_timeout_ms" in row["cause"]
    finally:
        os.kill(pid, signal.SIGCONT)
        c.transport.close()


def notify_body(file_id, size):
    """MS-SMB2 2.2.35"""
    return struct.pack("<HHI16sII", 32, 0, size, file_id, 0xFFF, 0)


@pytest.mark.parametrize("count, size", [(40, MIB), (540, 65536)], ids=["40x1MiB", "540x64KiB"])
def test_watchers_of_folders_stall_nobody(daemon, smbd, count, size):
    """Requests that wait hold no memory: what else is asked is answered, and each of them ends as it should."""
    (smbd.share_path() / "watched").mkdir(exist_ok=True)
    with rdma.session(daemon, smbd) as c:
        d = c.create("watched", options=1, attributes=0x10)
        ids = [c.send(smb2.CHANGE_NOTIFY, notify_body(d, size), charge=size // 65536) for _ in range(count)]
        assert c.echo(10).status == smb2.SUCCESS
        big = c.create("beside-watchers")
        data = random.Random(count).randbytes(4 * MIB)
        while c.credits < 70:
            c.echo().check()
        rdma.channel_write(c, big, data).check()
        assert rdma.channel_read(c, big, len(data))[1] == data
        for message_id in ids:
            c.cancel(message_id)
        assert {c.wait(message_id, 20).status for message_id in ids} == {0xC0000120}  # STATUS_CANCELLED


def compound_read(c, name, size, offset):
    """CREATE, READ, CLOSE in one message; the MessageIds."""
    elements = [
        (smb2.CREATE, smb2.create_body(name, disposition=1), 1),
        (smb2.READ, smb2.read_body(LAST, size, offset), smb2.charge_for(size)),
        (smb2.CLOSE, smb2.close_body(LAST), 1),
    ]
    chain, ids = b"", []
    for i, (command, body, charge) in enumerate(elements):
        last = i == len(elements) - 1
        padding = b"" if last else bytes(-(64 + len(body)) % 8)
        ids.append(c.take_message_id(charge))
        chain += (
            c.build(
                command,
                body,
                charge=charge,
                message_id=ids[-1],
                flags=0 if i == 0 else 4,
                next_command=0 if last else 64 + len(body) + len(padding),
            )
            + padding
        )
    c.send_pdu(chain)
    return ids


@pytest.mark.parametrize("budget", [MIB, 32 * MIB], ids=["smallest budget", "default"])
def test_compounds_larger_than_their_budget_take_turns(make_daemon, smbd, budget):
    """Whole files by compounds, several under way at once: none is lost, whatever the connection may hold."""
    size, count = 3 * MIB, 4
    data = random.Random(3).randbytes(size + count)
    (smbd.share_path() / "whole").write_bytes(data)
    daemon = make_daemon(smbd.port, pool={"limits": {"buffered_bytes_per_connection": budget}, "iwarp": {"crc": False}})
    with rdma.session(daemon, smbd, crc=False) as c:
        while c.credits < count * (smb2.charge_for(size) + 2):
            c.echo().check()
        asked = [compound_read(c, "whole", size, k) for k in range(count)]
        for k, ids in enumerate(asked):
            create, read, close = (c.wait(i, 60) for i in ids)
            assert (create.status, read.status, close.status) == (0, 0, 0)
            assert read.data == data[k : k + size], k


def test_before_a_session_there_is_no_rdma(daemon, smbd):
    c = rdma.client(daemon)
    c.negotiate((smb2.SMB_3_0_2,))
    rdma.send_channel_write(c, LAST, bytes(65536))
    _, cause = rdma.assert_terminated(c, daemon)
    assert "before it had a session" in cause, cause


def test_before_a_session_requests_are_small(daemon, smbd):
    c = rdma.client(daemon)
    c.negotiate((smb2.SMB_3_0_2,))
    pdu = c.build(smb2.WRITE, smb2.write_body(LAST, bytes(2 * MIB), 0), charge=32)
    with pytest.raises((rdma.Closed, rdma.Terminated)):
        c.transport.send_pdu(pdu)
        c.transport.wait_end(3)
    c.transport.close()
    assert "before it had a session" in daemon.wait_closed(c.local, 3)["cause"]


def test_clients_that_share_little_memory_all_go_on(make_daemon, smbd):
    """Eight clients at once, a worker's memory for less than two of their transfers: slower, but every byte."""
    limits = {"buffered_bytes_per_worker": 2 * MIB, "buffered_bytes_per_connection": MIB}
    daemon = make_daemon(smbd.port, workers=1, pool={"limits": limits, "iwarp": {"crc": False}})
    data = random.Random(8).randbytes(MIB // 2)
    (smbd.share_path() / "shared-memory").write_bytes(data)
    clients = [rdma.session(daemon, smbd, source=(f"127.0.0.{n}", 0), crc=False) for n in range(2, 10)]

    def read_twice(c):
        f = c.create("shared-memory")
        while c.credits < 10:
            c.echo().check()
        return [rdma.channel_read(c, f, len(data))[1] == data for _ in range(2)]

    try:
        with concurrent.futures.ThreadPoolExecutor(len(clients)) as pool:
            assert [ok for oks in pool.map(read_twice, clients) for ok in oks] == [True] * 16
    finally:
        for c in clients:
            c.close_transport()
    wait_until(lambda: not daemon.ctl("connections"), 5, "the connections' end")
