# SPDX-License-Identifier: MIT
"""What smbd does with a READ or WRITE because of smb.conf, a flag, or what became of the open before: the same with memory shared
with it as over TCP."""

import contextlib
import os
import random
import signal
import time
import uuid

import pytest

from lib import module_fixture, rdma, smb2
from lib.area_use import THRESHOLD, moved
from lib.held_file import HeldFile, why_not
from lib.leases import RWH, create_body, durable_context, lease_context, open_leased, opened, reconnect_context
from lib.process import wait_until

UNBUFFERED = 2  # MS-SMB2 2.2.21, Flags of a WRITE
AUDIT = {"full_audit:success": "fsync_send pwrite_send pwrite pread", "full_audit:failure": "none", "full_audit:syslog": "no"}
SHARES = {
    "share": {},
    "audit": {"vfs objects": "full_audit", **AUDIT},
    "filled": {"aio write size": "0", "strict allocate": "yes"},
    "desired": {"server smb encrypt": "desired"},
    "durable": {"kernel oplocks": "no", "kernel share modes": "no", "posix locking": "no", "durable handles": "yes"},
    "ordered": {"aio write size": "0", "aio read size": "0"},
    "order": {"aio write size": "0", "aio read size": "0", "vfs objects": "full_audit", **AUDIT},
}


@pytest.fixture(scope="module", params=["4.17", "4.22"])
def server(request, scratch):
    shares = {}
    for name, settings in SHARES.items():
        shares[f"{name}-tcp"] = settings
        objects = f"smbdirect {settings.get('vfs objects', '')}".strip()
        shares[name] = {**settings, "vfs objects": objects, "smbdirect:direct": "both" if name == "ordered" else "no"}
    with module_fixture.running(scratch / f"odd-{request.param}", request.param, shares=shares) as smbd:
        yield smbd


class Way:
    """READs and WRITEs by the area, or over TCP to a share without the module."""

    def __init__(self, server, daemon, how):
        self.server, self.daemon, self.how = server, daemon, how
        self.clients = []

    def connect(self, share="share", guid=None, user=True, dialect=smb2.SMB_3_0_2, **kw):
        self.share = share if self.daemon else f"{share}-tcp"
        if self.daemon and self.how == "area":
            c = rdma.session(self.daemon, self.server, share=self.share, user=user, guid=guid, dialect=dialect, **kw)
        else:
            who = {"user": self.server.user, "password": self.server.password} if user else {}
            c = smb2.over_tcp((self.server.address, self.server.port), guid)
            c.start(self.share, (dialect,), host=self.server.netbios_name, **who, **kw)
        self.clients.append(c)
        while c.credits < 300:
            c.echo().check()
        return c

    def path(self, name):
        return self.server.share_path(self.share) / name

    def send_write(self, c, file, data, offset=0, **kw):
        if self.how == "tcp":
            return c.send_write(file, data, offset, **kw)
        return rdma.send_channel_write(c, file, data, offset, **kw)[0]

    def write(self, c, file, data, offset=0, **kw):
        return c.wait(self.send_write(c, file, data, offset, **kw))

    def send_read(self, c, file, length, offset=0, **kw):
        if self.how == "tcp":
            message_id = c.send_read(file, length, offset, **kw)
            return lambda: (lambda r: (r.status, r.data if r.status == 0 else b""))(c.wait(message_id))
        message_id, region = rdma.send_channel_read(c, file, length, offset, **kw)

        def done():
            r = c.wait(message_id)
            return r.status, bytes(region.memory[: r.data_remaining]) if r.status == 0 else b""

        return done

    def read(self, *args, **kw):
        return self.send_read(*args, **kw)()

    def warm(self, c, file, allowed=(0,)):
        """An area is in use, and the file has that many bytes."""
        if self.how == "tcp":
            return

        def used():
            before = sum(moved(self.daemon))
            assert self.read(c, file, THRESHOLD)[0] in allowed
            end = time.monotonic() + 0.6
            while time.monotonic() < end:
                if sum(moved(self.daemon)) > before:
                    return True
                time.sleep(0.05)
            return False

        wait_until(used, 10, "an area in use")


@pytest.fixture(params=["tcp", "area"])
def way(request, server, make_daemon):
    daemon = None
    if request.param == "area":
        daemon = make_daemon(server.port, pool={"upstream": {"area": {"directory": str(server.links), "threshold": 1}}})
    one = Way(server, daemon, request.param)
    yield one
    for c in one.clients:
        c.close_transport()


def fresh(way, c, size=THRESHOLD, **kw):
    name = f"odd-{uuid.uuid4().hex}"
    file = c.create(name, **kw)
    c.write(file, random.Random(1).randbytes(size)).check()
    way.warm(c, file)
    return name, file


def hang_up(server):
    for pid in [server.pid, *server.client_pids()]:
        os.kill(pid, signal.SIGHUP)


@pytest.mark.parametrize("flags", [0, 1, UNBUFFERED, 3])
@pytest.mark.parametrize("dialect", [smb2.SMB_3_0, smb2.SMB_3_0_2, smb2.SMB_3_1_1])
def test_a_write_that_is_to_be_on_disk(way, server, flags, dialect):
    c = way.connect("audit", dialect=dialect)
    _, file = fresh(way, c)
    at = server.log_path.stat().st_size
    way.write(c, file, bytes(THRESHOLD), flags=flags).check()
    log = server.log_path.read_bytes()[at:]
    wanted = flags & 1 or (flags & UNBUFFERED and dialect >= smb2.SMB_3_0_2)
    assert (b"|fsync_send|" in log) == bool(wanted), log[-600:]


def test_smaller_limits_for_those_who_come_later(way, server):
    """What a connection was promised at NEGOTIATE holds when smb.conf is read again."""
    c = way.connect()
    _, file = fresh(way, c, 1 << 20)
    conf = server.config.read_text()
    try:
        server.config.write_text(conf.replace("[global]", "[global]\n    smb2 max read = 65536\n    smb2 max write = 65536", 1))
        hang_up(server)
        time.sleep(1)
        for _ in range(3):
            assert hex(way.read(c, file, 1 << 20)[0]) == "0x0"
            assert hex(way.write(c, file, bytes(1 << 20)).status) == "0x0"
    finally:
        server.config.write_text(conf)
        hang_up(server)


def test_strict_allocate_without_aio(way):
    c = way.connect("filled")
    name, file = fresh(way, c)
    way.write(c, file, bytes(THRESHOLD), 4 << 20).check()
    c.close_file(file).check()
    assert way.path(name).stat().st_blocks * 512 >= 4 << 20


def pump(c):
    """What may come meanwhile, such as RDMA READs of what is to be written."""
    end = time.monotonic() + 0.4
    while (left := end - time.monotonic()) > 0:
        with contextlib.suppress(rdma.Timeout):
            c._receive(left)


def test_one_after_the_other_without_aio(way):
    """With "aio read size = 0" and "aio write size = 0" smbd does one request at a time: a READ has what was written before it."""
    if why_not():
        pytest.skip(why_not())
    c = way.connect("order")
    name, file = fresh(way, c)
    data = b"w" * THRESHOLD
    with HeldFile(way.path(name)) as held:
        written = way.send_write(c, file, data[:100])
        pump(c)
        read = way.send_read(c, file, 100)
        pump(c)
        held.let_go()
    assert read() == (0, data[:100])
    c.wait(written).check()


@pytest.mark.parametrize("area", ["before", "after"])
def test_a_durable_open_that_has_another_sequence(way, server, area):
    """A client that lost a channel counted on; then it lost all, came again, and begins at 0. READs are served."""
    known = set(server.client_pids())
    c = way.connect("durable")
    gone = set(server.client_pids()) - known
    key, create_guid = os.urandom(16), os.urandom(16)
    name = f"durable-{uuid.uuid4().hex}"
    parts = [lease_context(key, RWH), durable_context(create_guid)]
    one = opened(c.rpc(smb2.CREATE, create_body(name, parts)), key)
    assert b"DH2Q" in one.contexts
    c.write(one.file_id, bytes(range(256)) * 256).check()
    c.channel_sequence = 3
    assert c.read(one.file_id, 16).check()
    c.close_transport()
    wait_until(lambda: not gone & set(server.client_pids()), 10, "the end of its smbd")
    c = way.connect("durable", guid=c.guid)
    other = c.create(f"other-{uuid.uuid4().hex}")
    c.write(other, bytes(THRESHOLD)).check()
    if area == "before":
        way.warm(c, other)
    parts = [lease_context(key, RWH), reconnect_context(one.file_id, create_guid)]
    back = opened(c.rpc(smb2.CREATE, create_body(name, parts)), key)
    for _ in range(10):
        for file in other, back.file_id:
            status, data = way.read(c, file, THRESHOLD)
            assert (hex(status), len(data)) == ("0x0", THRESHOLD)
        time.sleep(0.05)
    assert hex(way.write(c, back.file_id, b"older").status) == hex(smb2.FILE_NOT_AVAILABLE)  # that is smbd's


def test_encryption_that_is_desired(way):
    """smbd encrypts its answers to who could, and did not."""
    c = way.connect("desired")
    name = f"odd-{uuid.uuid4().hex}"
    file = c.create(name)
    c.write(file, bytes(THRESHOLD)).check()
    for _ in range(20):
        if way.how == "tcp":
            r = c.read(file, THRESHOLD)
        else:
            r = c.wait(rdma.send_channel_read(c, file, THRESHOLD)[0])
        assert (r.command, r.status, r.data_length + r.data_remaining) == (smb2.READ, 0, THRESHOLD)
        time.sleep(0.05)


@pytest.fixture(scope="module", params=["4.17", "4.22"])
def signing(request, scratch):
    shares = {"share-tcp": {}, "share": {"vfs objects": "smbdirect", "smbdirect:direct": "no"}}
    options = {"server signing": "mandatory"}
    with module_fixture.running(scratch / f"sign-{request.param}", request.param, shares=shares, options=options) as smbd:
        yield smbd


@pytest.mark.parametrize("how", ["tcp", "area"])
def test_unsigned_where_it_must_not_be(signing, make_daemon, how):
    """It is refused, and the connection goes on."""
    pool = {"upstream": {"area": {"directory": str(signing.links), "threshold": 1}}}
    way = Way(signing, make_daemon(signing.port, pool=pool) if how == "area" else None, how)
    c = way.connect()
    c.sign = True
    file = c.create(f"odd-{uuid.uuid4().hex}")
    c.sign = False
    for _ in range(20):
        assert hex(way.read(c, file, THRESHOLD)[0]) == hex(smb2.ACCESS_DENIED)
        time.sleep(0.05)
    c.sign = True
    c.write(file, bytes(8)).check()
    c.close_transport()


@pytest.mark.parametrize("how", ["tcp", "direct"])
def test_one_after_the_other_on_the_open_file_itself(server, make_daemon, how):
    """The same as test_one_after_the_other_without_aio, of what a worker would do directly."""
    if why_not():
        pytest.skip(why_not())
    if how == "direct":
        daemon = make_daemon(server.port, pool={"upstream": {"area": {"directory": str(server.links)}}})
        c = rdma.session(daemon, server, share="ordered", user=True)
    else:
        c = smb2.over_tcp((server.address, server.port))
        c.start("ordered-tcp", (smb2.SMB_3_0_2,), user=server.user, password=server.password, host=server.netbios_name)
    name = f"ordered-{uuid.uuid4().hex}"
    path = server.share_path("ordered" if how == "direct" else "ordered-tcp") / name
    file = open_leased(c, name).file_id
    for _ in range(40):  # long enough for what is granted to be used
        c.write(file, b"o" * 65536).check()
        time.sleep(0.05)
    with HeldFile(path) as held:
        written = c.send_write(file, b"n" * 100, 0)
        pump(c)
        read = c.send_read(file, 100, 0)
        pump(c)
        held.let_go()
    assert c.wait(read).check().data == b"n" * 100
    c.wait(written).check()
    c.close_transport()
