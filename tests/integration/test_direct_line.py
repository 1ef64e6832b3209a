# SPDX-License-Identifier: MIT
"""What waits for a file whose storage hangs does not keep what the same client asks of other files: as over TCP."""

import contextlib
import os
import struct
import time
import uuid

import pytest

from lib import held_file, module_fixture, rdma, smb2
from lib.held_file import HeldFile, blocked_writers
from lib.leases import RWH, open_leased
from lib.module_smbd import own_series
from lib.traces import hear
from test_direct_closing import begun, daemon  # noqa: F401
from test_direct_hangs import NEW

pytestmark = [
    pytest.mark.costs_workers,
    pytest.mark.skipif(held_file.why_not() is not None, reason=f"a file cannot be made to hang: {held_file.why_not()}"),
]


@pytest.fixture(scope="module")
def server(scratch):
    with module_fixture.running(scratch / "line", own_series()) as smbd:
        yield smbd


@pytest.fixture(params=["tcp", "direct"])
def writing(request, server, daemon):  # noqa: F811
    with begun(request.param, server, daemon) as made:
        yield made


def ask(c, what, file):
    if what == "FLUSH":
        return c.send(smb2.FLUSH, struct.pack("<HHI16s", 24, 0, 0, file))
    if what == "CLOSE":
        return c.send(smb2.CLOSE, smb2.close_body(file))
    return c.send(smb2.LOCK, smb2.lock_body(file, 100_000, 10))


@pytest.mark.parametrize("what", ["FLUSH", "CLOSE", "LOCK"])
def test_others_go_on(writing, server, what):
    c = writing.c
    second = open_leased(c, uuid.uuid4().hex, RWH).file_id
    c.write(second, b"12345678").check()
    with HeldFile(writing.path) as held:
        hangs = writing.hanging()
        behind = ask(c, what, writing.file)
        c.echo(timeout=8).check()
        assert c.read(second, 8).check().data == b"12345678"
        c.write(second, b"87654321").check()
        c.rpc(smb2.FLUSH, struct.pack("<HHI16s", 24, 0, 0, second)).check()
        held.let_go()
        c.wait(hangs, 30).check()
        c.wait(behind, 30).check()
    assert writing.path.read_bytes() == NEW + writing.contents[4096:]


def test_a_path_is_looked_at(writing, server):
    """By a compound, which may be about any file."""
    c, name = writing.c, uuid.uuid4().hex
    (server.share_path() / name).write_bytes(os.urandom(8))
    with HeldFile(writing.path) as held:
        hangs = writing.hanging()
        begin = time.monotonic()
        asked = c.chain((smb2.CREATE, smb2.create_body(name, access=0x80)), (smb2.CLOSE, smb2.close_body(b"\xff" * 16)))
        for answer in asked:
            c.wait(answer, 8).check()
        c.echo(timeout=8).check()
        assert time.monotonic() - begin < 8
        held.let_go()
        c.wait(hangs, 30).check()


def test_its_own_close_comes_after_it(writing, server):
    """The WRITE that hangs is answered before what has stepped aside."""
    c = writing.c
    with HeldFile(writing.path) as held:
        hangs = writing.hanging()
        closing = ask(c, "CLOSE", writing.file)
        time.sleep(0.5)
        c.echo(timeout=8).check()
        assert closing not in c.responses
        held.let_go()
        c.wait(closing, 30).check()
        assert hangs in c.responses
        c.wait(hangs, 1).check()
    assert writing.path.read_bytes() == NEW + writing.contents[4096:]


def test_others_go_on_beside_part_of_a_write(writing, server):
    """What has come of it hangs, being written while the rest comes."""
    c, data = writing.c, os.urandom(2 << 20)
    c.read(writing.file, 8).check()  # as hanging() does
    with HeldFile(writing.path) as held:
        if writing.daemon is None:
            hangs = c.send_write(writing.file, data, 0)
        else:
            hangs, _ = rdma.send_channel_write(c, writing.file, data)
        end = time.monotonic() + 10
        while blocked_writers(writing.worker) == 0 and time.monotonic() < end:
            hear(c, 0.05)
        assert blocked_writers(writing.worker) == 1
        begin = time.monotonic()
        for _ in range(3):
            c.wait(c.send(smb2.CREATE, smb2.create_body(uuid.uuid4().hex, disposition=3)), 8).check()
            c.echo(timeout=8).check()
        assert time.monotonic() - begin < 4
        assert hangs not in c.responses
        held.let_go()
        c.wait(hangs, 30).check()
    assert writing.path.read_bytes() == data
