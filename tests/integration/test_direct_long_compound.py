# SPDX-License-Identifier: MIT
"""A very long compound that waits for a WRITE of another channel costs the worker's other clients nothing."""

import contextlib
import time

import pytest

from lib import module_fixture, rdma, smb2
from lib.held_file import HeldFile
from lib.module_smbd import own_series
from test_direct_closing import again, needs_held_files
from test_direct_hangs import Writing

ELEMENTS = 50_000
SECONDS = 3

pytestmark = pytest.mark.costs_workers


@pytest.fixture(scope="module")
def server(scratch):
    with module_fixture.running(scratch / "long", own_series()) as smbd:
        yield smbd


def long_compound(c, file):
    """A CLOSE, and TREE_DISCONNECTs of trees that there are not."""

    def element(command, body, tree, last=False):
        body += bytes(-len(body) % 8)
        next_command = 0 if last else 64 + len(body)
        return smb2.header(command, c.take_message_id(), c.session_id, tree, 1, 1, 0, next_command) + body

    first = element(smb2.CLOSE, smb2.close_body(file), c.tree_id)
    return first + b"".join(element(smb2.TREE_DISCONNECT, b"\4\0\0\0", 1000 + n, n == ELEMENTS) for n in range(1, ELEMENTS + 1))


@needs_held_files
def test_a_neighbour_goes_on(server, make_daemon):
    daemon = make_daemon(server.port, workers=1, pool={"upstream": {"area": {"directory": str(server.links)}}})
    writing = Writing(daemon, server, user=True)
    with contextlib.ExitStack() as stack:
        stack.callback(writing.c.close_transport)
        second = again(writing, server, daemon)
        stack.callback(second.close_transport)
        second.bind(writing.c, server.user, server.password)
        second.sign = False
        second.read(writing.file, 8).check()
        neighbour = rdma.session(daemon, server)
        stack.callback(neighbour.close_transport)
        held = stack.enter_context(HeldFile(writing.path))
        writing.hanging()
        second.transport.send_pdu(long_compound(second, writing.file))
        time.sleep(0.5)
        times = []
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            begin = time.monotonic()
            neighbour.echo(timeout=10).check()
            times.append(time.monotonic() - begin)
        held.let_go()
    times.sort()
    assert times[len(times) // 2] < 0.005
