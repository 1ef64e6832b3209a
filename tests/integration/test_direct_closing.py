# SPDX-License-Identifier: MIT
"""A's file is closed while a WRITE of it is under way in a worker, or before one that would still come: whoever has the file next
has it after that, as at smbd over TCP. What is different there: smbd knows what is under way."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
import uuid

import pytest

from lib import held_file, leases, module_fixture, rdma, smb2
from lib.area_link import connect
from lib.direct_use import warm
from lib.held_file import HeldFile, blocked_writers
from lib.leases import RWH, open_leased
from lib.process import wait_until
from lib.traces import hear
from test_direct_hangs import NEW, SIZE, Writing, send_log_on

STILL = 2.5  # seconds: a WRITE is not waited for because it is quick

pytestmark = pytest.mark.costs_workers
needs_held_files = pytest.mark.skipif(held_file.why_not() is not None, reason=f"a file cannot be made to hang: {held_file.why_not()}")


@pytest.fixture(scope="module", params=["4.17", "4.22"])
def server(request, scratch):
    shares = {"share": {"vfs objects": "smbdirect"}, "plain": {}}
    with module_fixture.running(scratch / f"closing-{request.param}-{uuid.uuid4().hex[:4]}", request.param, shares=shares) as smbd:
        yield smbd


@pytest.fixture
def daemon(server, make_daemon):
    return make_daemon(server.port, workers=2, pool={"upstream": {"area": {"directory": str(server.links)}}})


def over_tcp(server, share="share", guid=None):
    c = smb2.over_tcp((server.address, server.port), guid)
    return c.start(share, (smb2.SMB_3_0_2,), user=server.user, password=server.password, host=server.netbios_name)


class ByTcp(Writing):
    """The same with nothing between A and smbd."""

    def __init__(self, server):
        self.daemon = None
        self.name = f"hangs-{uuid.uuid4().hex}"
        self.path = server.share_path() / self.name
        self.contents = os.urandom(SIZE)
        self.path.write_bytes(self.contents)
        known = set(server.client_pids())
        self.c = over_tcp(server)
        (self.worker,) = set(server.client_pids()) - known
        self.file = open_leased(self.c, self.name, RWH).file_id
        self.c.write(self.file, self.contents).check()


@contextlib.contextmanager
def begun(how, server, daemon):
    """A, over TCP or by the daemon, with a file of which WRITEs can be made to hang."""
    made = ByTcp(server) if how == "tcp" else Writing(daemon, server, user=True)
    made.set_time()
    with contextlib.closing(made.c.transport):
        yield made


@pytest.fixture(params=["tcp", "direct"])
def writing(request, server, daemon):
    with begun(request.param, server, daemon) as made:
        yield made


def again(writing, server, daemon=None):
    c = rdma.client(daemon, writing.c.guid) if daemon else smb2.over_tcp((server.address, server.port), writing.c.guid)
    c.timeout = 60
    return c


def waits(c, message_id, seconds=STILL):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        hear(c, 0.1)
        assert message_id not in c.responses, "somebody else has the file while a WRITE of its last owner's is under way"


def then_has_it(held, writing, other, waiting):
    """With what A wrote, and nothing comes later."""
    waits(other, waiting)
    assert blocked_writers(writing.worker) >= 1
    held.let_go()
    theirs = leases.opened(other.wait(waiting, 60), None)
    other.write(theirs.file_id, b"B").check()
    time.sleep(0.5)
    assert other.read(theirs.file_id, SIZE).check().data == b"B" + (NEW + writing.contents[4096:])[1:]


@needs_held_files
@pytest.mark.parametrize("same_guid", [False, True])
def test_its_session_is_ended_from_elsewhere(writing, server, same_guid):
    """A comes again over TCP, past the daemon: to another process of smbd's, or to the same one."""
    with connect(server) as other, HeldFile(writing.path) as held:
        comes = again(writing, server) if same_guid else smb2.over_tcp((server.address, server.port))
        comes.timeout = 60
        with contextlib.closing(comes.transport):
            comes.negotiate((smb2.SMB_3_0_2,)).check()
            writing.hanging()
            waiting = leases.send_open_that_waits(other, writing.name)
            log_on = send_log_on(comes, server.user, server.password, writing.c.session_id)
            then_has_it(held, writing, other, waiting)
            comes.wait(log_on, 20).check()


@needs_held_files
@pytest.mark.parametrize("how", ["CLOSE", "TREE_DISCONNECT", "LOGOFF"])
def test_another_channel_closes_it(writing, server, daemon, how):
    direct = not isinstance(writing, ByTcp)
    second = again(writing, server, daemon if direct else None)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(second.transport))
        other = stack.enter_context(connect(server))
        second.bind(writing.c, server.user, server.password)
        if direct:
            second.read(writing.file, 8).check()  # with the first one it asks for a link
            warm(daemon, second, writing.file)
            writing.set_time()
        held = stack.enter_context(HeldFile(writing.path))
        writing.hanging()
        body = smb2.close_body(writing.file) if how == "CLOSE" else b"\4\0\0\0"
        command = {"CLOSE": smb2.CLOSE, "TREE_DISCONNECT": smb2.TREE_DISCONNECT, "LOGOFF": smb2.LOGOFF}[how]
        closing = second.send(command, body)
        time.sleep(0.2)
        waiting, _ = leases.send_open(other, writing.name, leases.R)
        then_has_it(held, writing, other, waiting)
        second.wait(closing, 20)


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("how", ["tcp", "direct"])
def test_an_administrator_closes_it(server, daemon, how):
    """smbd sets the file's time between giving it away and closing it. A disk may take its time for that, and A's WRITEs come
    meanwhile."""
    share = "plain" if how == "tcp" else "share"
    known = set(server.client_pids())
    a = over_tcp(server, share) if how == "tcp" else rdma.session(daemon, server, user=True)
    (pid,) = set(server.client_pids()) - known
    name = f"closed-{uuid.uuid4().hex}"
    file = open_leased(a, name, RWH).file_id
    a.write(file, bytes(8192)).check()
    if how == "direct":
        warm(daemon, a, file)
    b = over_tcp(server, share)
    time.sleep(2.2)  # smbd has set the time: the next WRITE has it set once more, at the end
    a.write(file, bytes(8)).check()
    slow = ["strace", "-f", "-p", str(pid), "-o", "/dev/null", "-e", "trace=utimensat", "-e", "inject=utimensat:delay_enter=3000000"]
    strace = subprocess.Popen(slow, stderr=subprocess.PIPE)
    try:
        assert b"attached" in strace.stderr.readline()
        a.write(file, bytes(8)).check()
        server.run_there("smbcontrol", "-s", server.config, str(pid), "close-share", share)
        theirs = open_leased(b, name, RWH)
        b.write(theirs.file_id, b"written by B").check()
        with contextlib.suppress(rdma.Closed, rdma.Terminated, smb2.Timeout):
            for _ in range(3):
                message_id = a.send_write(file, b"A, too late ", 0)
                end = time.monotonic() + 0.5
                while message_id not in a.responses and time.monotonic() < end:
                    hear(a, 0.05)
        assert b.read(theirs.file_id, 12).check().data == b"written by B"
    finally:
        strace.send_signal(signal.SIGINT)
        strace.wait()
    assert b.read(theirs.file_id, 12).check().data == b"written by B"
    for c in (a, b):
        c.close_transport()
