#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The kernel's SMB Direct client over soft-RoCE against the verbs fabric."""

import functools
import json
import sys

from lib import client_cases, storage
from lib.cases import Cases
from lib.network import DRAIN, queue_pairs
from lib.process import wait_until
from lib.world import fresh, mounted, world

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


@cases.case()
def workers_change_while_it_is_mounted(world):
    """Reloads that replace every worker, and other numbers of workers: the mount stays with its worker, a new one goes to a
    new worker, and both have their files right."""
    daemon = world.daemon
    count = size = 0
    with mounted(world, **world.plain) as mount:
        (mine,) = daemon.ctl("connections")
        for number, workers in enumerate((3, 1, 2)):
            daemon.pool.update(workers=workers, smbdirect={"idle_timeout_ms": 200_000 + number})
            daemon.pool_path.write_text(json.dumps(daemon.pool))
            assert "/smbdirect/idle_timeout_ms" in [c["key"] for c in daemon.ctl("reload")]
            daemon.ctl("resize", str(workers + 1))
            name = f"reload-{number}"
            server_side = fresh(world, name)
            with mounted(world, where="/mnt/later", nosharesock=True, **world.plain) as later:
                workers_now = {c["number"]: c["worker"] for c in daemon.ctl("connections")}
                assert len(workers_now) == 2 and workers_now[mine["number"]] == mine["worker"], workers_now
                assert len(set(workers_now.values())) == 2, f"the later mount went to a worker that is to end: {workers_now}"
                for here, one in (("first", mount), ("later", later)):
                    storage.copy_tree(world.tree, one.path / name / here)
                    files, octets = storage.compare(world.tree, server_side / here)
                    count, size = count + files, size + octets
        daemon.ctl("resize", "2")
    wait_until(lambda: len(daemon.workers()) == 2, 30, lambda: daemon.ctl("workers"))
    return f"{count} files, {size} bytes"


client_cases.add_all(cases, PLAIN)

if __name__ == "__main__":
    sys.exit(cases.main())
