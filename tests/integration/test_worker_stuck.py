# SPDX-License-Identifier: MIT
"""A worker is killed while a thread of it waits for storage that hangs: no signal ends it, and others are served all the same."""

import os
import signal

import pytest
from lib import held_file, module_fixture, rdma
from lib.held_file import HeldFile
from lib.module_smbd import own_series
from lib.process import alive, wait_until
from test_direct_hangs import Writing, closing

pytestmark = [
    pytest.mark.costs_workers,
    pytest.mark.skipif(held_file.why_not() is not None, reason=f"a file cannot be made to hang: {held_file.why_not()}"),
]


@pytest.fixture(scope="module")
def server(scratch):
    with module_fixture.running(scratch / "stuck", own_series()) as smbd:
        yield smbd


def served(daemon, server):
    try:
        with rdma.session(daemon, server) as client:
            return client.echo().check()
    except (OSError, rdma.Closed, rdma.Terminated):
        return None


def test_others_are_served_while_it_cannot_end(make_daemon, server):
    pool = {
        "upstream": {"area": {"directory": str(server.links)}},
        "restart": {"ping_interval_ms": 200, "ping_timeout_ms": 1000},
    }
    daemon = make_daemon(server.port, workers=1, pool=pool)
    with closing(Writing(daemon, server)) as writing, HeldFile(writing.path) as held:
        writing.hanging()
        os.kill(writing.worker, signal.SIGKILL)
        try:
            wait_until(lambda: served(daemon, server), 15, "another client is served")
        finally:
            held.let_go()
        wait_until(lambda: not alive(writing.worker), 10, "the worker ending when its write has")
        assert not os.path.exists(f"/proc/{writing.worker}"), "nobody waited for it"
    assert served(daemon, server)
    assert "is left behind" in daemon.log
