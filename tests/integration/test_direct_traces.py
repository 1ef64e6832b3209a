# SPDX-License-Identifier: MIT
"""Direct I/O changes nothing that a client can see: random traces of two clients, once against a stock smbd over TCP and once
through smbdirectd with vfs_smbdirect. Every answer's status and data; what a third client is told that watches the folder; and
every file's bytes, size, attributes and times in the end.

The rules for what smbd does not see: the first WRITE of each open goes to smbd, so that who watches the folder hears of each file
that was changed, and its last write time is that of a change, of which smbd never says more precisely when it is to be seen."""

import contextlib
import os
import struct
import time

import pytest

from lib import module_fixture, rdma, smb2
from lib.traces import FILES, Player, contents, trace

SEED = int(os.environ.get("SMBDIRECTD_SEED", "20261130"))
TRACES = 2000 if os.environ.get("SMBDIRECTD_FULL") else 36
ATTRIBUTES = 4  # FileBasicInformation
LONG_AGO = 1_000_000_000  # when the files were written last, before a trace


@pytest.fixture(scope="module", params=["4.17", "4.22"])
def server(request, scratch):
    shares = {"share": {"vfs objects": "smbdirect"}, "plain": {}}
    options = {"kernel change notify": "no"}  # which tells of the same once more, or twice, as the kernel finds time
    with module_fixture.running(scratch / f"traces-{request.param}", request.param, shares=shares, options=options) as smbd:
        yield smbd


@contextlib.contextmanager
def over_tcp(smbd):
    who = {"user": smbd.user, "password": smbd.password, "host": smbd.netbios_name}
    address = (smbd.address, smbd.port)
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(smb2.over_tcp(address)).start("plain", (smb2.SMB_3_0_2,), **who)
        second = stack.enter_context(smb2.over_tcp(address, first.guid)).bind(first, smbd.user, smbd.password)
        other = stack.enter_context(smb2.over_tcp(address)).start("plain", (smb2.SMB_3_0_2,), **who)
        yield {(0, 0): first, (0, 1): second, (1, 0): other}


@contextlib.contextmanager
def through(daemon, smbd):
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(rdma.session(daemon, smbd, user=True))
        second = stack.enter_context(rdma.client(daemon, first.guid)).bind(first, smbd.user, smbd.password)
        other = stack.enter_context(rdma.session(daemon, smbd, user=True))
        yield {(0, 0): first, (0, 1): second, (1, 0): other}


def fill(smbd, share, label, seed):
    for number, data in enumerate(contents(seed)):
        if data is not None:
            path = smbd.share_path(share) / f"{label}-{number}"
            path.write_bytes(data)
            os.utime(path, (LONG_AGO, LONG_AGO))


class Watcher:
    """A third client that watches the folder of a share: what happened to which file."""

    def __init__(self, smbd, share):
        self.c = smb2.over_tcp((smbd.address, smbd.port))
        self.c.start(share, user=smbd.user, password=smbd.password, host=smbd.netbios_name)
        self.path = smbd.share_path(share)
        self.folder = self.c.create("", access=0x00100081, disposition=1, options=1)
        self.asked = self.c.change_notify(self.folder)
        self.heard = []

    def seen(self, label):
        """All that was seen of the files of a trace, which is over: {(number, action)}. In any order, for it comes from several
        processes, and each once, since one WRITE after the other is one change."""
        end = f"{label}-end"
        self.c.close_file(self.c.create(end)).check()
        while not any(name == end for name, _ in self.heard):
            self.take(self.c.wait(self.asked))
            self.asked = self.c.change_notify(self.folder)
        (self.path / end).unlink()
        found = {(name.rsplit("-", 1)[1], action) for name, action in self.heard if name.startswith(f"{label}-") and name != end}
        self.heard = []
        return found

    def take(self, response):
        at, length = struct.unpack_from("<HI", response.check().pdu, 66)
        assert length, "more than there is room for"
        step = -1
        while step:
            step, action, size = struct.unpack_from("<III", response.pdu, at)
            self.heard.append((response.pdu[at + 12 : at + 12 + size].decode("utf-16le"), action))
            at += step


def last_write(path, began):
    """Whether the trace has changed the time, which then is one of the trace's."""
    written = path.stat().st_mtime
    if written == LONG_AGO:
        return False
    assert began - 0.1 <= written <= time.time() + 0.1, f"{path.name}: written at {written}, the trace began at {began}"
    return True


def left(smbd, share, label, began):
    """Of each file: its bytes, its attributes as a client sees them, and whether its last write time has changed."""
    found = {}
    with smb2.over_tcp((smbd.address, smbd.port)) as c:
        c.start(share, user=smbd.user, password=smbd.password, host=smbd.netbios_name)
        for number in range(FILES):
            path = smbd.share_path(share) / f"{label}-{number}"
            if not path.exists():
                continue
            file = c.create(path.name, disposition=1)
            body = struct.pack("<HBBIHHIII16s", 41, 1, ATTRIBUTES, 64, 0, 0, 0, 0, 0, file)
            answer = c.rpc(smb2.QUERY_INFO, body).check()
            found[number] = path.read_bytes(), last_write(path, began), struct.unpack_from("<I", answer.pdu, 72 + 32)
            c.close_file(file).check()
            path.unlink()
    return found


def direct(daemon):
    """(READs, WRITEs) that workers did themselves."""
    rows = daemon.ctl("workers")
    return tuple(sum(row[name] or 0 for row in rows) for name in ("direct_reads", "direct_writes"))


def shown(step, number, plain, ours):
    def short(answer):
        return answer and (hex(answer[0]), f"{len(answer[1])} bytes" if isinstance(answer[1], bytes) else answer[1])

    return f"step {number}, {step}: {short(plain)} over TCP, {short(ours)} through smbdirectd"


def test_a_client_sees_no_difference(server, make_daemon):
    daemon = make_daemon(server.port, pool={"upstream": {"area": {"directory": str(server.links)}}})
    other_leases = []
    watchers = {share: Watcher(server, share) for share in ("plain", "share")}
    changes = 0
    with over_tcp(server) as tcp, through(daemon, server) as ours:
        plain, proxied = Player(tcp, False), Player(ours, True)
        for seed in range(SEED, SEED + TRACES):
            steps, label = trace(seed), f"t{seed}"
            for share in ("plain", "share"):
                fill(server, share, label, seed)
            began = time.time()
            expected, their_leases = plain.play(steps, label)
            answers, our_leases = proxied.play(steps, label)
            for number, step in enumerate(steps):
                assert answers[number] == expected[number], f"seed {seed}: {shown(step, number, expected[number], answers[number])}"
            their_changes, our_changes = watchers["plain"].seen(label), watchers["share"].seen(label)
            assert our_changes == their_changes, f"seed {seed}: who watches the folder is told something else"
            changes += len(our_changes)
            ends = [left(server, share, label, began) for share in ("share", "plain")]
            assert ends[0] == ends[1], f"seed {seed}: what is left differs"
            if sorted(map(str, our_leases)) != sorted(map(str, their_leases)):
                other_leases.append((seed, their_leases, our_leases))
        # smbd tells another process of a break by a message that the next request may overtake.
        assert len(other_leases) <= TRACES // 10, other_leases[:3]
        reads, writes = direct(daemon)
    for watcher in watchers.values():
        watcher.c.close_transport()
    assert changes > 2 * TRACES, f"{changes} changes were seen by who watches the folder"
    assert reads > 2 * TRACES and writes > TRACES, f"{reads} READs and {writes} WRITEs were direct in {TRACES} traces"
