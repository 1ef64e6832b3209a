# SPDX-License-Identifier: MIT
"""Storage that takes its time, or hangs, for one client: the others of its worker do not wait for it, as smbd's processes do not
wait for one another."""

import contextlib
import os
import time
import uuid

import pytest

from lib import held_file, leases, module_fixture, rdma, smb2
from lib.direct_use import shares
from lib.held_file import HeldFile, blocked_writers
from lib.leases import RWH, open_leased
from lib.module_smbd import own_series
from lib.process import wait_until
from lib.slow_fuse import SlowFuse
from test_direct_hangs import NEW, Writing, closing

THREADS = 4  # a worker's, for files
SLOW = 5  # seconds

pytestmark = pytest.mark.costs_workers


@pytest.fixture(scope="module")
def server(scratch):
    with module_fixture.running(scratch / "storage", own_series()) as smbd:
        yield smbd


@pytest.fixture(scope="module")
def far(scratch):
    """One of whose share a folder is far away. It is mounted before smbd is started, which has mounts of its own."""
    with contextlib.ExitStack() as stack:
        fs = SlowFuse(scratch / "far/shares/share/far")
        with module_fixture.running(scratch / "far", own_series(), before_start=lambda _: stack.enter_context(fs)) as smbd:
            smbd.fs = fs
            yield smbd


def one_worker(make_daemon, server):
    return make_daemon(server.port, workers=1, pool={"upstream": {"area": {"directory": str(server.links)}}})


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="needs root and /dev/fuse")
@pytest.mark.parametrize("what", ["statfs", "getattr"])
def test_a_file_is_granted_that_is_far_away(make_daemon, far, what):
    """The worker looks at what it is given, and its loop does not wait for what that costs."""
    daemon = one_worker(make_daemon, far)
    with contextlib.ExitStack() as stack:
        stack.callback(far.fs.slow, what, 0)
        a, other = (rdma.session(daemon, far, source=(f"127.0.0.{n}", 0)) for n in (8, 9))
        stack.callback(a.close_transport)
        stack.callback(other.close_transport)

        def opens():
            return a.send(smb2.CREATE, leases.create_body(f"far\\{uuid.uuid4().hex}", [leases.lease_context(os.urandom(16), RWH)]))

        a.wait(opens(), 20).check()  # with the first one it asks for a link
        wait_until(lambda: shares(daemon)[2] == 1, 20, "a file that is granted")
        far.fs.slow(what, SLOW, pid=daemon.workers()[0])
        asked, begin, slowest = opens(), time.monotonic(), 0
        while shares(daemon)[2] < 2 or time.monotonic() - begin < 1:
            assert time.monotonic() - begin < 4 * SLOW, "the second file is not granted"
            sent = time.monotonic()
            other.echo(timeout=30).check()
            slowest = max(slowest, time.monotonic() - sent)
        a.wait(asked, 20).check()
        assert slowest < SLOW / 2


@pytest.mark.skipif(held_file.why_not() is not None, reason=f"a file cannot be made to hang: {held_file.why_not()}")
@pytest.mark.parametrize("hanging", [THREADS // 2, 2 * THREADS])
def test_writes_of_another_client_hang(make_daemon, server, hanging):
    """There are more of them than threads: what would wait for one goes to smbd, whose process for this client has its own."""
    daemon = one_worker(make_daemon, server)
    with contextlib.ExitStack() as stack:
        hangs, other = (stack.enter_context(closing(Writing(daemon, server))) for _ in range(2))
        hangs.set_time()
        held = stack.enter_context(HeldFile(hangs.path))
        hangs.c.read(hangs.file, 8).check()  # every two seconds one is smbd's
        asked = [hangs.send() for _ in range(hanging)]
        wait_until(lambda: blocked_writers(hangs.worker) >= min(hanging, THREADS), 10, "threads in their system calls")
        for _ in range(10):
            other.c.write(other.file, NEW, 0).check()
            with open(other.path, "rb") as f:
                os.fsync(f.fileno())
                os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert other.c.read(other.file, 8192).check().data == NEW + other.contents[4096:8192]
        held.let_go()
        for message_id in asked:
            hangs.c.wait(message_id, 60).check()
        assert hangs.c.read(hangs.file, 8192).check().data == NEW + hangs.contents[4096:8192]
