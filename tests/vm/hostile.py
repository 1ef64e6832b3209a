#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Clients that do not behave, on RDMA devices: each ends alone, and a bystander's mount goes on."""

import contextlib
import os
import signal
import subprocess
import sys
import types

from lib import cifs
from lib.cases import Cases
from lib.daemon import build_dir
from lib.files import make_file, sha256
from lib.network import queue_pairs
from lib.process import wait_until
from lib.world import fresh, world

PLAIN = {"rsize": 524288, "wsize": 524288}
POOL = {
    "smbdirect": {"negotiate_timeout_ms": 1500, "idle_timeout_ms": 4000, "keepalive_timeout_ms": 2000},
    "limits": {"handshake_timeout_ms": 1500},
}


@contextlib.contextmanager
def beside_a_mount():
    """One worker for everybody: what hurts it hurts the bystander."""
    with world("siw", "verbs", PLAIN, pool=POOL, workers=1) as place:
        fresh(place, "bystander")
        # 6.1's client does not answer every keepalive; its own echoes tell that it lives.
        options = {"cache": "none", "echo_interval": 1, **PLAIN}
        with cifs.Mount("/mnt/bystander", place.network.address, rdma=True, options=options) as mount:
            yield types.SimpleNamespace(**vars(place), mount=mount, workers=place.daemon.worker_pids())


cases = Cases(beside_a_mount)


def hostile(world, mode, **kw):
    argv = [build_dir() / "tests/vm/hostile", world.network.address, "5445", mode]
    return subprocess.Popen([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw)


def nobody_else_noticed(world, before):
    """The same worker serves the bystander over the same connection, byte for byte."""
    wait_until(lambda: len(connections(world)) == 1, 20, lambda: f"the bystander's alone: {connections(world)}")
    assert connections(world) == before, "the bystander's connection is another one"
    assert world.daemon.worker_pids() == world.workers, "a worker ended"
    path = world.mount.path / "bystander" / "file"
    assert make_file(path, 3 << 20, seed=9) == sha256(path)


def connections(world):
    return [qp["lqpn"] for qp in queue_pairs() if qp.get("pid") in world.workers]


def ends(world, mode, *wanted):
    before = connections(world)
    client = hostile(world, mode)
    try:
        output, _ = client.communicate(timeout=30)
    finally:
        client.kill()
    assert client.returncode == 0 and all(text in output for text in wanted), f"{client.returncode}: {output}"
    nobody_else_noticed(world, before)
    return ", ".join(output.split("\n")[:-1])


for mode, wanted in {
    "silent": ["ended"],
    "malformed": ["answered c00000bb", "ended"],  # STATUS_NOT_SUPPORTED
    "short": ["ended"],
    "oversized": ["ended"],
    "private": ["answered 00000000"],
}.items():
    cases.add(mode, ends, mode, *wanted)


@cases.case()
def token(world):
    """A descriptor that names no memory: the RDMA READ of it ends this connection, and nobody else's."""
    before = connections(world)
    client = hostile(world, "token")
    try:
        said(client, "asked")
        nobody_else_noticed(world, before)
    finally:
        client.kill()
        client.wait()
    return "the server ended it"


def said(client, wanted):
    while client.stdout.readline() != wanted + "\n":
        assert client.poll() is None, "it ended by itself"


@cases.case()
def vanish(world):
    """Killed, with nothing said: the kernel ends its queue pair. Stopped: keepalive finds it."""
    before = connections(world)
    for number in (signal.SIGKILL, signal.SIGSTOP):
        client = hostile(world, "vanish")
        try:
            said(client, "negotiated")
            os.kill(client.pid, number)
            nobody_else_noticed(world, before)
        finally:
            client.kill()
            client.wait()
    return "found by the kernel, and by keepalive"


if __name__ == "__main__":
    sys.exit(cases.main())
