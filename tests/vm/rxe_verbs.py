#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The kernel's SMB Direct client over soft-RoCE against the verbs fabric."""

import functools
import sys

from lib import client_cases
from lib.cases import Cases
from lib.network import DRAIN, queue_pairs
from lib.process import wait_until
from lib.world import mounted, world

PLAIN = {"rsize": 1048576, "wsize": 1048576}

cases = Cases(functools.partial(world, "rxe", "verbs", PLAIN), allow=[DRAIN])


@cases.case()
def queue_pairs_are_the_workers(world):
    """While a mount is there its queue pair is a worker's; afterwards there is none. The supervisor has none ever."""
    workers = set(world.daemon.worker_pids())
    with mounted(world, **world.plain):
        pids = {qp["pid"] for qp in queue_pairs() if "pid" in qp}
        assert len(pids) == 1 and pids <= workers, f"queue pairs of {pids}, workers are {workers}"
    wait_until(lambda: not [qp for qp in queue_pairs() if "pid" in qp], 20, lambda: f"none left: {queue_pairs()}")
    return f"of worker {pids.pop()}"


client_cases.add_all(cases, PLAIN)

if __name__ == "__main__":
    sys.exit(cases.main())
