#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Things break in the middle of a transfer, over siw and the verbs fabric; the mount recovers and no byte is wrong.

Over siw, because the client up to 6.12 can hang for good when it ends a connection over rxe, whatever the server does.
"""

import functools
import os
import signal
import sys

from lib import kernels
from lib.cases import Cases
from lib.network import delete_device, link, queue_pairs, run
from lib.process import alive, wait_until
from lib.transfer import survives
from lib.world import world

PLAIN = {"rsize": 524288, "wsize": 524288}
# A client that has vanished is found within seconds.
POOL = {"smbdirect": {"idle_timeout_ms": 3000, "keepalive_timeout_ms": 3000}, "restart": {"backoff_increment_s": 1}}

cases = Cases(functools.partial(world, "siw", "verbs", PLAIN, pool=POOL, workers=3))


def serving(world):
    """The worker that has the mount's queue pair."""
    pids = {qp["pid"] for qp in queue_pairs() if "pid" in qp} & set(world.daemon.worker_pids())
    assert len(pids) == 1, f"workers with a queue pair: {pids}"
    return pids.pop()


@cases.case()
def a_worker_is_killed(world):
    def strike(world):
        pid = serving(world)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(world.daemon.worker_pids()) == 3 and not alive(pid), 20, "a new worker")
        return f"worker {pid} was killed"

    return survives(world, "worker", strike)


@cases.case()
def smbd_is_killed(world):
    def strike(world):
        serving = world.smbd.client_pids()
        assert len(serving) == 1, f"smbd's processes with a client: {serving}"
        os.kill(serving[0], signal.SIGKILL)
        return f"smbd {serving[0]} was killed"

    return survives(world, "smbd", strike)


@cases.case()
def the_link_goes_down(world):
    def strike(world):
        run("ip", "link", "set", "v0", "down")
        wait_until(lambda: link("siw0")["state"] != "ACTIVE", 20, "siw0 is down")
        if kernels.SIW_ENDS_WITH_ITS_LINK:
            wait_until(lambda: not queue_pairs(state="RTS"), 30, lambda: f"connections end: {queue_pairs()}")
        else:
            assert queue_pairs(state="RTS"), "this kernel's siw ends connections with their link, after all"
        run("ip", "link", "set", "v0", "up")
        lived = "ended by it" if kernels.SIW_ENDS_WITH_ITS_LINK else "as siw keeps it since 6.12, alive through it"
        return f"v0 went down and up, the connection {lived},"

    return survives(world, "link", strike)


@cases.case()
def the_device_is_deleted(world):
    def strike(world):
        delete_device("siw0", 60)
        assert link("siw0") is None
        run("rdma", "link", "add", "siw0", "type", "siw", "netdev", "v0")
        return "siw0 was deleted and made again"

    workers = world.daemon.worker_pids()
    told = survives(world, "device", strike)
    assert world.daemon.worker_pids() == workers, "a worker ended because its device did"
    return told


@cases.case()
def the_supervisor_is_killed(world):
    """Its workers serve what they have; another supervisor listens beside them at once."""

    def strike(world):
        old = world.daemon.worker_pids()
        os.kill(world.daemon.pid, signal.SIGKILL)
        world.daemon.server.end(signal.SIGKILL)
        world.daemon.start()
        assert all(alive(pid) for pid in old if pid == serving_of(old)), "the worker in use went with it"
        return "the supervisor was killed and another started"

    def serving_of(pids):
        return next(iter({qp["pid"] for qp in queue_pairs() if "pid" in qp} & set(pids)), None)

    return survives(world, "supervisor", strike, interrupts=False)


if __name__ == "__main__":
    sys.exit(cases.main())
