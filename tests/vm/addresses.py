#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Addresses of RDMA devices that come and go: smbdirectctl leave and take, listeners that are there before their address, and
connections whose address has gone, which nothing in the kernel ends."""

import contextlib
import sys

from lib import smb2
from lib.cases import Cases
from lib.daemon import Connect, Smbdirectd, program
from lib.network import PORTS, queue_pairs, rdma_device, run
from lib.process import wait_until
from lib.world import smbd_world

MOVES = "192.0.2.9"  # the host has it while a case says so


cases = Cases(smbd_world)


@contextlib.contextmanager
def moving(here):
    """here(bool) gives the host the address, or takes it away."""
    has = False

    def change(wanted):
        nonlocal has
        if wanted != has:
            run("ip", "address", "add" if wanted else "del", f"{MOVES}/24", "dev", "v0")
        has = wanted

    change(here)
    try:
        yield change
    finally:
        change(False)


@contextlib.contextmanager
def served(world, kind, name):
    pool = {
        "listeners": [{"address": MOVES, "port": PORTS[kind], "fabric": "verbs"}],
        "upstream": {"allow": ["192.0.2.0/24"]},
        "verbs": {"device_idle_ms": 200},
        "limits": {"connection_rate_per_client": 0},
    }
    with Smbdirectd(world.directory / f"{name}-{kind}", world.smbd.port, pool=pool) as daemon:
        yield daemon


@contextlib.contextmanager
def client(world, kind, name, daemon):
    with Connect(world.directory / f"connect-{name}-{kind}", daemon, "--fabric", "verbs") as connect:
        with smb2.over_tcp((connect.address, connect.port)) as smb:
            smb.timeout = 60
            yield smb.start()


def probe(daemon):
    argv = [program("smbdirect-connect"), "--probe", "--fabric", "verbs", "--to", daemon.target]
    return run(*argv, timeout=120, check=False)


def is_served(daemon):
    return probe(daemon).returncode == 0


def held(daemon):
    """The queue pairs of its workers: there is one as long as there is a connection."""
    workers = daemon.worker_pids()
    return [qp for qp in queue_pairs() if qp.get("pid") in workers]


def wait_for_end(daemon, smb):
    """The connection is nowhere: in the daemon, in the device, at the client."""
    wait_until(lambda: not daemon.ctl("connections") and not held(daemon), 30, lambda: f"{held(daemon)} {daemon.log[-2000:]}")
    try:
        while True:
            smb.echo()
    except (smb2.Closed, OSError):
        pass


@cases.on_each(["siw"])  # leave_rxe.py has the other
def leave_ends_an_idle_connection_and_refuses_others(world, kind):
    with rdma_device(kind), moving(True), served(world, kind, "leave") as daemon:
        with client(world, kind, "leave", daemon) as smb:
            wait_until(lambda: held(daemon), 30, "its queue pair")
            assert daemon.ctl("leave", MOVES) == {"address": MOVES, "connections": 1}
            wait_for_end(daemon, smb)
            refused = probe(daemon)
            assert refused.returncode != 0, refused
            status = daemon.ctl("status")
            assert status["leaving"] == [MOVES] and status["refused_leaving"] == 1, status
        assert daemon.ctl("take", MOVES) == {"address": MOVES, "left": True}
        assert is_served(daemon), daemon.log[-2000:]
    return refused.stderr.strip().splitlines()[-1]


@cases.on_each(PORTS)
def a_listener_waits_for_its_address(world, kind):
    with rdma_device(kind), moving(False) as here, served(world, kind, "waits") as daemon:
        waits = f"{MOVES} port {PORTS[kind]} (verbs), waiting for its address"
        assert daemon.ctl("status")["listeners"] == waits, daemon.log
        here(True)
        wait_until(lambda: daemon.ctl("status")["listeners"] == waits.split(",")[0], 30, lambda: daemon.log[-2000:])
        wait_until(lambda: is_served(daemon), 60, lambda: daemon.log[-2000:])  # rxe has its GID a little later


@cases.on_each(PORTS)
def a_connection_goes_with_its_address(world, kind):
    with rdma_device(kind), moving(True) as here, served(world, kind, "goes") as daemon:
        with client(world, kind, "goes", daemon):
            wait_until(lambda: held(daemon), 30, "its queue pair")
            here(False)
            wait_until(lambda: not daemon.ctl("connections") and not held(daemon), 60, lambda: daemon.log[-2000:])
            assert f'{MOVES} left this host without "smbdirectctl leave": 1 connections are ended' in daemon.log


if __name__ == "__main__":
    sys.exit(cases.main())
