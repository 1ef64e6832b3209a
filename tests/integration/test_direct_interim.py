# SPDX-License-Identifier: MIT
"""A WRITE whose storage hangs: the client is told that it takes time (STATUS_PENDING), as at smbd, and so waits longer for it."""

import contextlib
import time

import pytest

from lib import held_file, module_fixture
from lib.held_file import HeldFile
from lib.traces import hear
from test_direct_closing import begun, daemon  # noqa: F401
from test_direct_hangs import NEW

pytestmark = [
    pytest.mark.costs_workers,
    pytest.mark.skipif(held_file.why_not() is not None, reason=f"a file cannot be made to hang: {held_file.why_not()}"),
]


@pytest.fixture(scope="module", params=["4.17", "4.22"])
def server(request, scratch):
    with module_fixture.running(scratch / f"interim-{request.param}", request.param) as smbd:
        yield smbd


@pytest.fixture(params=["tcp", "direct"])
def writing(request, server, daemon):  # noqa: F811
    with begun(request.param, server, daemon) as made:
        yield made


@pytest.mark.parametrize("writes", [1, 3, 12])
def test_the_client_hears_that_it_takes_time(writing, writes):
    """With more of them than a worker has threads, some are smbd's."""
    c = writing.c
    with HeldFile(writing.path) as held:
        asked = [writing.hanging(), *(writing.send() for _ in range(writes - 1))]
        end = time.monotonic() + 10
        while not set(asked) <= set(c.interims) and time.monotonic() < end:
            hear(c, 0.1)
        assert set(asked) <= set(c.interims)
        assert not any(one in c.responses for one in asked)
        held.let_go()
        for one in asked:
            answer = c.wait(one, 30).check()
            assert answer.flags & 2 and answer.async_id == one
    assert writing.path.read_bytes() == NEW + writing.contents[4096:]
    c.write(writing.file, b"on it goes").check()
    c.echo().check()
