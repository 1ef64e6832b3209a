# SPDX-License-Identifier: MIT
"""A READ that is under way in a worker while another channel of its client closes the file: smbd waits for READs too before it
lets somebody else have the file."""

import contextlib
import os
import time
import uuid

import pytest

from lib import leases, module_fixture, rdma, smb2
from lib.area_link import connect
from lib.direct_use import warm
from lib.leases import RWH, open_leased
from lib.module_smbd import own_series
from lib.slow_fuse import SlowFuse
from test_direct_closing import again, daemon, over_tcp  # noqa: F401

SIZE = 240 << 10
SLOW = 2.0  # seconds, each of the file system's READs

pytestmark = [
    pytest.mark.costs_workers,
    pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="needs root and /dev/fuse"),
]


@pytest.fixture(scope="module")
def server(scratch):
    with contextlib.ExitStack() as stack:
        fs = SlowFuse(scratch / "reads/shares/share/far", attr_seconds=60)
        with module_fixture.running(scratch / "reads", own_series(), before_start=lambda _: stack.enter_context(fs)) as smbd:
            smbd.fs = fs
            yield smbd


@pytest.mark.parametrize("how", ["tcp", "direct"])
def test_another_channel_closes_what_is_read(server, daemon, how):  # noqa: F811
    name = f"far\\{uuid.uuid4().hex}"
    with contextlib.ExitStack() as stack:
        stack.callback(server.fs.slow, "read", 0)
        a = over_tcp(server) if how == "tcp" else rdma.session(daemon, server, user=True)
        a.timeout = 60
        stack.callback(a.close_transport)
        file = open_leased(a, name, RWH).file_id
        old = b"A" * SIZE
        a.write(file, old).check()
        second = again(type("A", (), {"c": a}), server, daemon if how == "direct" else None)
        stack.callback(second.close_transport)
        second.bind(a, server.user, server.password)
        second.sign = False
        if how == "direct":
            warm(daemon, a, file)
            second.read(file, 8).check()
            warm(daemon, second, file)
        a.rpc(smb2.FLUSH, b"\x18\0" + bytes(6) + file).check()
        path = server.share_path() / name.replace("\\", "/")
        with open(path, "rb") as f:
            os.fsync(f.fileno())
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        other = stack.enter_context(connect(server))
        other.timeout = 60
        server.fs.slow("read", SLOW)
        reading = a.send_read(file, SIZE, 0)
        time.sleep(SLOW / 2)
        closing = second.send(smb2.CLOSE, smb2.close_body(file))
        second.wait(closing, 60).check()
        theirs = open_leased(other, name, RWH).file_id
        other.write(theirs, b"B" * 4096, SIZE - 4096).check()
        answer = a.wait(reading, 60)
        assert answer.status != 0 or answer.data == old, "A was told that it has read what B wrote after A's CLOSE"
