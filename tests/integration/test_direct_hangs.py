# SPDX-License-Identifier: MIT
"""Storage that hangs while a worker writes to it, or a worker that stands still with WRITEs to do: whoever needs it to go on
waits as at smbd, nobody's later bytes are written over, and the daemon ends all the same."""

import contextlib
import os
import random
import signal
import struct
import subprocess
import time
import uuid

import pytest

from lib import held_file, leases, module_fixture, ntlm, rdma, smb2
from lib.area_link import connect
from lib.direct_use import done, warm
from lib.ground import Ground
from lib.held_file import HeldFile, blocked_writers
from lib.leases import RWH, open_leased
from lib.module_smbd import own_series
from lib.process import alive, wait_until
from lib.traces import hear

SEED = int(os.environ.get("SMBDIRECTD_SEED", "20261130"))
SIZE = 64 * 1024
STOP_DEADLINE = 1  # seconds
NEW = b"written by A".ljust(4096, b"-")

pytestmark = [
    pytest.mark.costs_workers,
    pytest.mark.skipif(held_file.why_not() is not None, reason=f"a file cannot be made to hang: {held_file.why_not()}"),
]


@pytest.fixture(scope="module")
def server(scratch):
    with module_fixture.running(scratch / "hangs", own_series()) as smbd:
        yield smbd


@pytest.fixture
def daemon(server, make_daemon):
    pool = {"upstream": {"area": {"directory": str(server.links)}}, "shutdown": {"stop_deadline_ms": 1000 * STOP_DEADLINE}}
    return make_daemon(server.port, workers=2, pool=pool)


class Writing:
    """A has a file open with a write lease; READs and WRITEs of it are done directly."""

    def __init__(self, daemon, server, user=False):
        self.daemon = daemon
        self.name = f"hangs-{uuid.uuid4().hex}"
        self.path = server.share_path() / self.name
        self.contents = random.Random(SEED).randbytes(SIZE)
        self.path.write_bytes(self.contents)
        known = set(server.client_pids())
        self.c = rdma.session(daemon, server, user=user)
        (self.smbd,) = set(server.client_pids()) - known
        self.file = open_leased(self.c, self.name, RWH).file_id
        warm(daemon, self.c, self.file)
        (row,) = [row for row in daemon.ctl("connections") if row["client"] == self.c.local]
        self.worker = daemon.workers()[row["worker"]]

    def send(self):
        """A WRITE of the first page."""
        return self.c.send_write(self.file, NEW, 0)

    def hanging(self):
        """One that is in its system call."""
        self.c.read(self.file, 8).check()  # every two seconds one is smbd's: this one, then
        message_id = self.send()
        wait_until(lambda: blocked_writers(self.worker) == 1, 10, "a thread in its system call")
        return message_id

    def set_time(self):
        """The client's, of the last WRITE: smbd sets none two seconds after its own, whatever that waits for."""
        times = struct.pack("<QQQQII", 0, 0, 133_000_000_000_000_000, 0, 0, 0)
        body = struct.pack("<HBBIHHI16s", 33, 1, 4, len(times), 96, 0, 0, self.file) + times
        self.c.rpc(smb2.SET_INFO, body).check()
        if self.daemon is not None:
            warm(self.daemon, self.c, self.file)  # smbd is to see the next WRITE

    def reset(self):
        Ground.reset(self.c.transport.iwarp)


@contextlib.contextmanager
def closing(writing):
    yield writing
    writing.c.close_transport()


@pytest.fixture
def writing(daemon, server):
    with closing(Writing(daemon, server)) as writing:
        yield writing


def stays_unanswered(c, message_id, seconds=1.5):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        hear(c, 0.1)
        assert message_id not in c.responses, "the file was opened while a WRITE of its last owner's is under way"


@pytest.mark.parametrize("its_time", ["smbd's", "the client's"])
def test_the_client_goes_while_its_write_hangs(writing, server, its_time):
    """smbd closes a file when what is under way has ended: nobody opens it before, and nothing of it comes later. What smbd does
    to the file itself at the end, such as to set the time of the last WRITE, waits like everything else; but there is nothing of
    this if the client has set that time."""
    if its_time == "the client's":
        writing.set_time()
    with HeldFile(writing.path) as held, connect(server) as other:
        writing.hanging()
        writing.reset()
        waiting, _ = leases.send_open(other, writing.name, leases.R)
        stays_unanswered(other, waiting)
        held.let_go()
        theirs = leases.opened(other.wait(waiting, 60), None)
        assert other.read(theirs.file_id, SIZE).check().data == NEW + writing.contents[4096:]
        wait_until(lambda: not alive(writing.smbd), 10, "A's smbd ending")


def send_log_on(c, user, password, previous):
    """MessageId of the last SESSION_SETUP of a log-on that ends the session `previous`."""
    r = c._session_setup(ntlm.negotiate()).check(smb2.MORE_PROCESSING_REQUIRED)
    offset, length = struct.unpack_from("<HH", r.pdu, 68)
    token, c.session_key = ntlm.authenticate(r.pdu[offset : offset + length], user, password)
    return c.send(smb2.SESSION_SETUP, struct.pack("<HBBIIHHQ", 25, 0, 1, 1, 0, 88, len(token), previous) + token)


def test_the_client_comes_again_while_its_write_hangs(daemon, server):
    """To the server its connection is still there, and the log-on ends its session. What the client writes then is not written
    over; and smbd, which would wait for the file's storage with all that it does, goes on."""
    writing = Writing(daemon, server, user=True)
    writing.set_time()
    again = rdma.client(daemon, writing.c.guid)
    with contextlib.closing(writing.c.transport), contextlib.closing(again.transport), HeldFile(writing.path) as held:
        again.negotiate((writing.c.dialect,)).check()
        (row,) = [row for row in daemon.ctl("connections") if row["client"] == again.local]
        assert daemon.workers()[row["worker"]] == writing.worker
        hangs = writing.hanging()
        log_on = send_log_on(again, server.user, server.password, writing.c.session_id)
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            writing.c.echo().check()
            with contextlib.suppress(smb2.Timeout):
                again.wait(log_on, 0.1)
                pytest.fail("the session was ended while a WRITE of it is under way")
        assert blocked_writers(writing.worker) == 1
        held.let_go()
        again.wait(log_on, 20).check()
        writing.c.wait(hangs, 10).check()
        again.tree_connect(f"\\\\{server.netbios_name}\\share").check()
        file = open_leased(again, writing.name, RWH).file_id
        assert again.read(file, SIZE).check().data == NEW + writing.contents[4096:]
        again.write(file, b"newer", 0).check()
        again.close_file(file).check()
    assert writing.path.read_bytes() == b"newer" + (NEW + writing.contents[4096:])[5:]
    daemon.wait_for_log("the log-on waits for a WRITE")


def test_the_worker_is_killed_while_a_write_hangs(writing, server):
    """The kernel lets go of its connection to smbd when the last thread has ended."""
    with HeldFile(writing.path) as held, connect(server) as other:
        writing.hanging()
        os.kill(writing.worker, signal.SIGKILL)
        waiting, _ = leases.send_open(other, writing.name, leases.R)
        stays_unanswered(other, waiting)
        held.let_go()
        theirs = leases.opened(other.wait(waiting, 60), None)
        # Unanswered: the kernel does none of it once it comes to it, or did it before.
        data = other.read(theirs.file_id, SIZE).check().data
        assert data in (writing.contents, NEW + writing.contents[4096:])
        wait_until(lambda: not alive(writing.worker), 10, "the worker's end")
        assert writing.path.read_bytes() == data


def test_smbd_is_killed_while_the_worker_stands_still(writing, server):
    """WRITEs that the worker finds afterwards: the file is somebody else's by then."""
    for _ in range(3):
        os.kill(writing.worker, signal.SIGSTOP)
        try:
            asked = [writing.send() for _ in range(8)]
            os.kill(writing.smbd, signal.SIGKILL)
            wait_until(lambda: not os.path.exists(f"/proc/{writing.smbd}"), 10, "A's smbd gone")
            with connect(server) as other:
                theirs = open_leased(other, writing.name, RWH)
                assert theirs.state == RWH
                assert other.write(theirs.file_id, b"written by B", 0).check()
                os.kill(writing.worker, signal.SIGCONT)
                with pytest.raises((rdma.Closed, rdma.Terminated)):
                    writing.c.wait(asked[0])
                assert other.read(theirs.file_id, 12).check().data == b"written by B"
                other.close_file(theirs.file_id).check()
        finally:
            os.kill(writing.worker, signal.SIGCONT)
        assert writing.path.read_bytes()[:12] == b"written by B"
        writing.__init__(writing.daemon, server)


def test_other_clients_go_on_while_writes_hang(make_daemon, server):
    """On a file system that cannot say what would block, ext4 for one, the first one hangs in the loop's own thread: another runs
    the loop. The next ones hang in threads, and the clients of the same worker have their answers, from smbd and from the worker itself."""
    daemon = make_daemon(server.port, workers=1, pool={"upstream": {"area": {"directory": str(server.links)}}})

    on_ext4 = "ext" in subprocess.check_output(["stat", "-f", "-c", "%T", server.share_path()], text=True)

    def held_up():
        return sum(row["direct_held_up"] or 0 for row in daemon.ctl("workers"))

    with contextlib.ExitStack() as stack:
        hang, other = ([stack.enter_context(closing(Writing(daemon, server))) for _ in range(2)] for _ in range(2))
        for client in hang:
            client.set_time()  # else smbd does, and sees the next WRITE after that
        assert held_up() == 0
        before = done(daemon)
        for client in hang:
            client.held = stack.enter_context(HeldFile(client.path))
        asked = [hang[0].hanging()]
        hang[1].c.read(hang[1].file, 8).check()  # as hanging() does
        asked.append(hang[1].send())
        wait_until(lambda: blocked_writers(hang[0].worker) == 2, 10, "two threads in their system calls")
        for _ in range(20):
            for client in other:
                client.c.write(client.file, NEW, 0).check()
                assert client.c.read(client.file, 8192).check().data == NEW + client.contents[4096:8192]
                client.c.rpc(smb2.ECHO, struct.pack("<HH", 4, 0)).check()
        wait_until(lambda: done(daemon)[0] >= before[0] + 30 and done(daemon)[1] >= before[1] + 30, 10, "direct I/O going on")
        for client in hang:
            client.held.let_go()
        for client, message_id in zip(hang, asked, strict=True):
            client.c.wait(message_id, 60).check()
            assert client.c.read(client.file, SIZE).check().data == NEW + client.contents[4096:]
        if on_ext4:
            wait_until(lambda: held_up() == 1, 10, "what held up the loop counted")


def test_the_daemon_stops_while_a_write_hangs(writing, daemon):
    """It ends in its time, whatever becomes of the worker, which no signal ends; that goes when the storage is back."""
    with HeldFile(writing.path) as held:
        writing.hanging()
        server, daemon.server = daemon.server, None
        server.send_signal(signal.SIGTERM)
        assert server.process.wait(STOP_DEADLINE + 10) == 0
        assert blocked_writers(writing.worker) == 1
        assert "a thread of it waits in the kernel" in server.log
        held.let_go()
    wait_until(lambda: not alive(writing.worker), 10, "the worker ending when its write has")
    server.end()
