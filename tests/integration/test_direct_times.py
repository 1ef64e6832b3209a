# SPDX-License-Identifier: MIT
"""When a file was written last: what another client sees while it is open, what its own CLOSE says, and what who watches the folder
hears, are over TCP and directly the same. smbd of 4.17 and 4.22 sets the time when the file is closed, and tells of it; but once
it has set it at once (FLUSH, SET_INFO of the end, two seconds after the first WRITE), only if another WRITE comes after that."""

import concurrent.futures
import contextlib
import select
import struct
import time
import uuid

import pytest

from lib import module_fixture, rdma, smb2
from lib.direct_use import done, warm
from lib.leases import RWH, open_leased

ATTRIBUTES_ALONE = 0x80  # an open that breaks no lease
LAST_WRITE = 0x10
BASIC, END_OF_FILE = 4, 20  # information classes
EPOCH = 11644473600
GRANULE = 0.02  # of what a file system calls now


@pytest.fixture(scope="module", params=[("4.17", "no"), ("4.17", "yes"), ("4.22", "no")], ids="-".join)
def server(request, scratch):
    """Kernel change notify tells a watcher of every write(2) as well, on 4.17."""
    series, kernel = request.param
    shares = {"share": {"vfs objects": "smbdirect"}, "plain": {}}
    options = {"kernel change notify": kernel}
    with module_fixture.running(scratch / f"times-{series}-{kernel}", series, shares=shares, options=options) as smbd:
        yield smbd


def over_tcp(server, share):
    c = smb2.over_tcp((server.address, server.port))
    return c.start(share, (smb2.SMB_3_0_2,), user=server.user, password=server.password, host=server.netbios_name)


def seconds(pdu, at):
    return struct.unpack_from("<Q", pdu, at)[0] / 1e7 - EPOCH


def last_write(c, file):
    body = struct.pack("<HBBIHHIII16s", 41, 1, BASIC, 64, 0, 0, 0, 0, 0, file)
    return seconds(c.rpc(smb2.QUERY_INFO, body).check().pdu, 72 + 16)


def close_says(c, file):
    """SMB2_CLOSE_FLAG_POSTQUERY_ATTRIB"""
    return seconds(c.rpc(smb2.CLOSE, struct.pack("<HHI16s", 24, 1, 0, file)).check().pdu, 64 + 8 + 16)


def set_info(c, file, level, data):
    c.rpc(smb2.SET_INFO, struct.pack("<HBBIHHI16s", 33, 1, level, len(data), 96, 0, 0, file) + data).check()


class Watcher:
    """Another client that asks for changes of the last write time alone."""

    def __init__(self, server, share):
        self.c = over_tcp(server, share)
        self.folder = self.c.create("", access=0x00100081, disposition=1, options=1)
        self.ask()

    def ask(self):
        body = struct.pack("<HHI16sII", 32, 0, 65536, self.folder, LAST_WRITE, 0)
        self.asked = self.c.send(smb2.CHANGE_NOTIFY, body)

    def heard(self, within):
        """How often it was told of something."""
        count, end = 0, time.monotonic() + within
        while time.monotonic() < end:
            if self.asked in self.c.responses:
                self.c.wait(self.asked).check()
                count += 1
                self.ask()
            elif select.select([self.c.transport.sock], [], [], 0.05)[0]:
                self.c._receive(1)
        return count


# --- what has smbd set the time at once -------------------------------------------------------------------------------


def flush(c, file):
    c.rpc(smb2.FLUSH, struct.pack("<HHI16s", 24, 0, 0, file)).check()


def set_end(c, file):
    set_info(c, file, END_OF_FILE, struct.pack("<Q", 5000))


def timer(c, file):
    """Two seconds after the first WRITE."""
    time.sleep(2.5)


def set_time(c, file):
    """A client's own time stays."""
    long_ago = int((1_000_000_000 + EPOCH) * 1e7)
    set_info(c, file, BASIC, struct.pack("<QQQQII", 0, 0, long_ago, 0, 0, 0))


@contextlib.contextmanager
def client(server, daemon, how):
    c = rdma.session(daemon, server, user=True) if how == "direct" else over_tcp(server, "plain")
    try:
        yield c
    finally:
        c.close_transport()


def what_is_seen(server, daemon, how, event, writes):
    """Of a file that is written, then `event`, then WRITEs and CLOSE; and how many of the WRITEs were done directly."""
    share = "share" if how == "direct" else "plain"
    with client(server, daemon, how) as c:
        name = f"times-{uuid.uuid4().hex}"
        file = open_leased(c, name, RWH).file_id
        c.write(file, bytes(8192)).check()
        if how == "direct":
            warm(daemon, c, file)
        watcher, other = Watcher(server, share), over_tcp(server, share)
        theirs = other.create(name, access=ATTRIBUTES_ALONE, disposition=1)
        event(c, file)
        watcher.heard(1.2)
        before = done(daemon)[1]
        written = time.time() - GRANULE
        for _ in range(writes):
            c.write(file, b"changed after that").check()
        told = watcher.heard(0.3)
        closed = time.time() - GRANULE
        says = close_says(c, file)
        told += watcher.heard(1)
        seen = last_write(other, theirs)
        other.close_file(theirs).check()
        disk = (server.share_path(share) / name).stat().st_mtime

        def when(at):
            return "closed" if at >= closed else "written" if at >= written else "before"

        for one in (watcher.c, other):
            one.close_transport()
        return {"told": told > 0, "CLOSE": when(says), "others": when(seen), "disk": when(disk)}, done(daemon)[1] - before


@pytest.mark.parametrize("writes", [0, 12])
@pytest.mark.parametrize("event", [flush, set_end, timer, set_time], ids=lambda event: event.__name__)
def test_the_last_write_is_seen(server, make_daemon, event, writes):
    daemon = make_daemon(server.port, pool={"upstream": {"area": {"directory": str(server.links)}}})
    with concurrent.futures.ThreadPoolExecutor() as both:  # most of it is waiting
        ways = [both.submit(what_is_seen, server, daemon, how, event, writes) for how in ("tcp", "direct")]
        (plain, _), (ours, direct) = (way.result() for way in ways)
    assert ours == plain
    assert direct >= writes - 4, f"{direct} of {writes} WRITEs were direct: smbd does two, and one now and then"
