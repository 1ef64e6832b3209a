#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Many mounts at once over soft-RoCE: which worker serves whom, and the kernel's own multichannel."""

import contextlib
import functools
import sys
from concurrent.futures import ThreadPoolExecutor

from lib import cifs, storage
from lib.cases import Cases
from lib.network import DRAIN, queue_pairs
from lib.files import make_tree
from lib.process import wait_until
from lib.world import fresh, world

# The daemon opens smbd's side in the clients' names.
TRANSPARENT = {"upstream": {"mode": "transparent"}}
# Each in a network of its own, or the kernel would speak from the first one to all of them.
ADDRESSES = [f"192.0.2.{n}/32" for n in range(1, 9)]
PLAIN = {"rsize": 1048576, "wsize": 1048576}

cases = Cases(functools.partial(world, "rxe", "verbs", PLAIN, TRANSPARENT, ADDRESSES, workers=4,
                                smbd_options={"interfaces": 'lo "v0;speed=10000000000,capability=RSS,capability=RDMA"'}),
              allow=[DRAIN])  # fmt: skip


def by_worker(world):
    """Worker -> how many connections it has."""
    out = {pid: 0 for pid in world.daemon.worker_pids()}
    for qp in queue_pairs():
        if qp.get("pid") in out:
            out[qp["pid"]] += 1
    return out


def none_left(world):
    wait_until(lambda: not any(by_worker(world).values()), 30, lambda: f"all connections end: {by_worker(world)}")


@cases.case()
def eight_clients_on_four_workers(world):
    """To a server on the same machine a client's address is the one it connects to."""
    none_left(world)
    fresh(world, "eight")
    tree = world.directory / "small-tree"
    make_tree(tree, 15, seed=8, largest=300_000)
    with contextlib.ExitStack() as stack:
        mounts = [
            stack.enter_context(cifs.Mount(f"/mnt/eight{n}", a.split("/")[0], rdma=True, options=PLAIN))
            for n, a in enumerate(ADDRESSES)
        ]
        counts = by_worker(world)
        assert sorted(counts.values()) == [2, 2, 2, 2], f"connections of the workers: {counts}"
        seen = {c["addresses"][0] for c in world.daemon.ctl("clients")}
        assert seen == {a.split("/")[0] for a in ADDRESSES}, f"clients' addresses: {seen}"
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: storage.copy_tree(tree, mounts[n].path / "eight" / str(n)), range(8)))
            list(pool.map(lambda n: storage.compare(tree, mounts[-1 - n].path / "eight" / str(n)), range(8)))
    return f"connections of the workers: {list(counts.values())}"


@cases.case()
def two_connections_of_one_client(world):
    """The second mount has a connection of its own, and it ends at the first one's worker."""
    none_left(world)
    options = {"nosharesock": True, **PLAIN}
    address = world.network.address
    with cifs.Mount("/mnt/one", address, rdma=True, options=options):
        with cifs.Mount("/mnt/two", address, rdma=True, options=options):
            counts = by_worker(world)
            assert sorted(counts.values()) == [0, 0, 0, 2], f"connections of the workers: {counts}"
    return f"connections of the workers: {list(counts.values())}"


@cases.case()
def multichannel(world):
    """max_channels=4: all channels are SMB Direct, carry data, and end in one smbd."""
    none_left(world)
    server_side = fresh(world, "channels")
    options = {"multichannel": True, "max_channels": 4, "cache": "none", **PLAIN}
    with cifs.Mount("/mnt/many", world.network.address, rdma=True, options=options) as mount:
        wait_until(lambda: sum(by_worker(world).values()) == 4, 30, lambda: f"four channels: {by_worker(world)}")
        storage.copy_tree(world.tree, mount.path / "channels" / "tree")
        done = storage.fio(mount.path / "channels", sizes="64k-1m", size="8m", jobs=4)
        storage.compare(world.tree, server_side / "tree")
        pids = world.smbd.client_pids()
        assert len(pids) == 1, f"smbd processes with sessions: {pids}"
        (client,) = world.daemon.ctl("clients")
        assert (client["channels"], client["smbd"]) == (4, pids), client
        counts = by_worker(world)
    return f"connections of the workers: {list(counts.values())}; fio {done}; smbd {pids}"


if __name__ == "__main__":
    sys.exit(cases.main())
