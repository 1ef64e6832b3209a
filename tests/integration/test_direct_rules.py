# SPDX-License-Identifier: MIT
"""What smbd does about a WRITE or READ besides the system call, and a worker would not: where there is something, the file is not
read or written directly, and a client sees what it sees over TCP."""

import os
import signal
import stat
import time
import uuid

import pytest

from lib import module_fixture, rdma, smb2
from lib.direct_use import done, warm
from lib.leases import RWH, open_leased
from lib.process import wait_until

SERIES = ("4.17", "4.22")
LOCK_CONFLICT = 0xC0000054
TOGETHER = 0o6755  # set-user-ID and set-group-ID


@pytest.fixture(scope="module", params=SERIES)
def server(request, scratch):
    shares = {"share": {"vfs objects": "smbdirect"}, "plain": {}}
    with module_fixture.running(scratch / f"rules-{request.param}", request.param, shares=shares) as smbd:
        yield smbd


class Client:
    """Over TCP to a share without the module, or through a daemon to one that has it."""

    def __init__(self, server, daemon):
        self.server, self.daemon = server, daemon
        self.share = "share" if daemon else "plain"
        if daemon:
            self.c = rdma.session(daemon, server, user=True)
            return
        self.c = smb2.over_tcp((server.address, server.port))
        self.c.start(self.share, (smb2.SMB_3_0_2,), user=server.user, password=server.password, host=server.netbios_name)

    def path(self, name):
        return self.server.share_path(self.share) / name

    def warm(self, file):
        if self.daemon:
            warm(self.daemon, self.c, file)

    def written(self):
        return done(self.daemon)[1] if self.daemon else 0


@pytest.fixture(params=["tcp", "direct"])
def client(request, server, make_daemon):
    pool = {"upstream": {"area": {"directory": str(server.links)}}}
    one = Client(server, make_daemon(server.port, pool=pool) if request.param == "direct" else None)
    yield one
    one.c.close_transport()


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("when", ["before it is opened", "while it is open"])
def test_set_user_id_stays(client, when):
    """smbd's threads are root's, which keep it; others who write to the file take it away. smbd hears of a mode that somebody
    sets on the host when it next looks: at its next request, for which it is due every two seconds."""
    c, path = client.c, client.path(f"mode-{uuid.uuid4().hex}")
    path.write_bytes(bytes(8192))
    path.chmod(TOGETHER if when == "before it is opened" else 0o755)
    file = open_leased(c, path.name, RWH).file_id
    c.write(file, bytes(8192)).check()
    if when == "while it is open":
        client.warm(file)
        path.chmod(TOGETHER)
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            c.read(file, 8).check()
    before = client.written()
    for _ in range(4):
        c.write(file, b"once more").check()
    assert mode_of(path) == TOGETHER and client.written() == before
    c.close_file(file).check()


def test_smb_conf_is_obeyed_when_it_is_read_again(client, server):
    """With "strict locking" a READ of what another open has locked is refused, whatever the lease."""
    c, conf = client.c, server.config.read_text()
    name = f"locked-{uuid.uuid4().hex}"
    one = open_leased(c, name, RWH)
    two = open_leased(c, name, RWH, key=one.key).file_id
    c.write(one.file_id, bytes(8192)).check()
    client.warm(one.file_id)
    c.rpc(smb2.LOCK, smb2.lock_body(two, 0, 100, immediate=True)).check()
    assert c.read(one.file_id, 10).check()
    try:
        server.config.write_text(conf.replace("read only = no", "read only = no\n    strict locking = yes"))
        hang_up(server)
        wait_until(lambda: c.read(one.file_id, 10).status == LOCK_CONFLICT, 10, "it is obeyed")
        assert {c.read(one.file_id, 10).status for _ in range(10)} == {LOCK_CONFLICT}
    finally:
        server.config.write_text(conf)
        hang_up(server)


def hang_up(server):
    for pid in [server.pid, *server.client_pids()]:
        os.kill(pid, signal.SIGHUP)


def test_an_open_that_waits_for_the_disk(client):
    """smbd alone writes there: the kernel says once that something is lost, to whoever hears it first."""
    c = client.c
    file = open_leased(c, f"through-{uuid.uuid4().hex}", RWH, options=0x42).file_id
    for _ in range(10):
        c.write(file, bytes(100)).check()
        c.read(file, 100).check()
    if client.daemon:
        wait_until(lambda: c.read(file, 100).check() and done(client.daemon)[0] > 0, 10, "READs are direct")
    for _ in range(10):
        c.write(file, bytes(100)).check()
    assert client.written() == 0
