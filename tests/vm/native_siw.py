#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Upstream mode "channel" with the kernel's client over an iWARP device; the processes on the way are killed."""

import functools
import os
import signal
import sys

from lib import client_cases
from lib.cases import Cases
from lib.process import wait_until
from lib.transfer import survives
from lib.world import native_world

PLAIN = {"rsize": 524288, "wsize": 524288}
POOL = {"restart": {"backoff_increment_s": 1}}

cases = Cases(functools.partial(native_world, "siw", "verbs", PLAIN, pool=POOL, workers=2))


@cases.case()
def files(world):
    return client_cases.files(world, "3.0", "none", PLAIN)


@cases.case()
def the_process_that_serves_is_killed(world):
    def strike(world):
        (pid,) = world.peer.children()
        os.kill(pid, signal.SIGKILL)
        (other,) = wait_until(lambda: [p for p in world.peer.children() if p != pid], 30, "another process")
        return f"process {pid} was killed, {other} serves"

    return survives(world, "process", strike)


@cases.case()
def the_main_process_is_killed(world):
    """Its children go with it; the client waits until another server registers."""

    def strike(world):
        world.peer.end(signal.SIGKILL, check=False)
        wait_until(lambda: not world.daemon.ctl("clients"), 5, "no client is served")
        world.peer.start()
        return "the server was killed and another registered"

    return survives(world, "main", strike)


if __name__ == "__main__":
    sys.exit(cases.main())
