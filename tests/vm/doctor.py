#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""smbdirectctl doctor at real RDMA devices: what a healthy listener on one looks like to it, and what ails one."""

import functools
import json
import sys

from lib.cases import Cases
from lib.daemon import Smbdirectd, program
from lib.network import PORTS, rdma_device, run
from lib.world import smbd_world

OPTIONS = {"interfaces": 'lo "v0;capability=RDMA,speed=10000000000"'}

cases = Cases(functools.partial(smbd_world, smbd_options=OPTIONS))


def daemon_for(world, kind):
    pool = {
        "listeners": [{"address": world.network.address, "port": PORTS[kind], "fabric": "verbs"}],
        "upstream": {"allow": ["192.0.2.0/24"], "handoff": {"configfile": str(world.smbd.config)}},
        "verbs": {"device_idle_ms": 200},
    }
    return Smbdirectd(world.directory / f"daemon-{kind}", world.smbd.port, pool=pool)


def examined(daemon):
    """Name -> (state, what) of every check; of several findings the worst."""
    argv = [program("smbdirectctl"), "doctor", "--json", "--configfile", daemon.pool_path]
    done = run(*argv, "--connect", program("smbdirect-connect"), timeout=120, check=False)
    order = ["skipped", "ok", "warning", "failed"]
    found = {}
    for one in json.loads(done.stdout)["doctor"]:
        before = found.get(one["name"], ("skipped", ""))
        if order.index(one["state"]) >= order.index(before[0]):
            found[one["name"]] = (one["state"], one["what"])
    failures = {name: what for name, (state, what) in found.items() if state == "failed"}
    assert done.returncode == (1 if failures else 0), done
    return found, failures


@cases.on_each(PORTS)
def a_device_that_serves(world, kind):
    with rdma_device(kind) as device, daemon_for(world, kind) as daemon:
        found, failures = examined(daemon)
        assert found["rdma-modules"][0] == "ok" and found["path"][0] == "ok", found
        assert found["port-numbers"][0] == "ok", found
        assert device in found["rdma-devices"][1], found
        kernel = tuple(int(n) for n in open("/proc/sys/kernel/osrelease").read().split("-")[0].split(".")[:2])
        if kind == "siw" and kernel > (6, 1):
            assert list(failures) == ["rdma-devices"] and "wrong bytes" in failures["rdma-devices"], failures
        else:
            assert failures == {} and "software only" in found["rdma-devices"][1], found


@cases.case()
def no_device_and_a_port_that_is_down(world):
    daemon = daemon_for(world, "rxe")
    with rdma_device("rxe"), daemon:
        run("ip", "link", "set", "v0", "down")
        try:
            _, failures = examined(daemon)
            assert "DOWN" in failures["rdma-devices"], failures
        finally:
            run("ip", "link", "set", "v0", "up")
    _, failures = examined(daemon)
    assert "no RDMA device at all" in failures["rdma-devices"] and "daemon" in failures, failures


if __name__ == "__main__":
    sys.exit(cases.main())
