#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Upstream mode "channel" with the kernel's client over soft-RoCE: data goes between its memory and that of the process
which serves it, the data areas registered with the device."""

import functools
import sys

from lib import cifs, client_cases, storage
from lib.cases import Cases
from lib.network import DRAIN, resources
from lib.process import wait_until
from lib.world import fresh, mounted, native_world

PLAIN = {"rsize": 1048576, "wsize": 1048576}
AREA = 16 << 20

cases = Cases(functools.partial(native_world, "rxe", "verbs", PLAIN, workers=2,
                                smbd_options={"interfaces": 'lo "v0;speed=10000000000,capability=RSS,capability=RDMA"'}),
              allow=[DRAIN])  # fmt: skip


def areas():
    """The regions registered with the device that are as long as an area."""
    return [mr for mr in resources("mr") if mr.get("mrlen") == AREA]


@cases.case()
def the_area_is_registered_while_the_connection_lasts(world):
    name = "registered"
    fresh(world, name)
    with mounted(world, **world.plain) as mount:
        assert len(world.peer.children()) == 1
        storage.copy_tree(world.tree, mount.path / name)
        assert len(areas()) == 1, f"regions: {resources('mr')}"
    wait_until(lambda: not areas(), 20, lambda: f"no area is registered: {areas()}")
    world.peer.wait_children(0, 20)


@cases.case()
def files(world):
    return client_cases.files(world, "3.1.1", "none", PLAIN)


@cases.case()
def fio(world):
    return client_cases.fio(world, "3.1.1", PLAIN)


@cases.case()
def multichannel(world):
    """max_channels=4: one process serves all four, each from the area of its own."""
    server_side = fresh(world, "channels")
    options = {"multichannel": True, "max_channels": 4, "cache": "none", **PLAIN}
    with cifs.Mount("/mnt/many", world.network.address, rdma=True, options=options) as mount:
        clients = wait_until(
            lambda: [c for c in world.daemon.ctl("clients") if c["channels"] == 4], 30, lambda: world.daemon.ctl("clients")
        )
        (process,) = world.peer.children()
        assert [c["smbd"] for c in clients] == [[process]], clients
        storage.copy_tree(world.tree, mount.path / "channels" / "tree")
        done = storage.fio(mount.path / "channels", sizes="64k-1m", size="8m", jobs=4)
        storage.compare(world.tree, server_side / "tree")
        assert len(areas()) == 4
    wait_until(lambda: not areas(), 20, lambda: f"no area is registered: {areas()}")
    return f"fio {done}; process {process}"


if __name__ == "__main__":
    sys.exit(cases.main())
