# SPDX-License-Identifier: MIT
"""The former daemon stands still while it finishes its connections: the new one ends in its time all the same."""

import os
import signal
import time

from lib import rdma
from lib.process import alive, wait_until
from test_upgrade import make_pool  # noqa: F401

STOP_DEADLINE = 1  # seconds


def test_the_end_of_the_new_daemon(make_pool, smbd):  # noqa: F811
    daemon = make_pool(workers=1, pool={"shutdown": {"stop_deadline_ms": 1000 * STOP_DEADLINE}})
    former, (worker,) = daemon.pid, daemon.worker_pids()
    with rdma.session(daemon, smbd):
        new = daemon.upgrade()["pid"]
        os.kill(former, signal.SIGSTOP)
        try:
            os.kill(new, signal.SIGTERM)
            began = time.monotonic()
            wait_until(lambda: not alive(new), STOP_DEADLINE + 7, lambda: daemon.log)
            print(f"{time.monotonic() - began:.1f} s")
            assert f"the former daemon (pid {former}) does not end" in daemon.log
        finally:
            os.kill(former, signal.SIGCONT)
    wait_until(lambda: not daemon.server.running() and not alive(worker), 10, "the end of the former one and its worker")
    daemon.successors.clear()
    daemon.server, server = None, daemon.server
    server.end()
