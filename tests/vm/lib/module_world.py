# SPDX-License-Identifier: MIT
"""A world of lib.world whose smbd has vfs_smbdirect."""

import contextlib
import functools
import pathlib

from lib.cases import Skip
from lib.module_smbd import built, own_series, stage
from lib.world import world

LINKS = pathlib.Path("/run/smbdirectd-area")
OPTIONS = {
    "smbdirect:directory": LINKS,
    "interfaces": 'lo "v0;speed=10000000000,capability=RSS,capability=RDMA"',
}


@contextlib.contextmanager
def module_world(device, fabric, plain, upstream):
    """world() with the module among smbd's own: /usr is the guest's, and is lost with it. None where it is not built.
    upstream: keys of /upstream; those of the area beside its directory."""
    if not (built() / f"smbdirect-{own_series()}.so").exists():
        yield None
        return
    stage(pathlib.Path("/usr"))
    LINKS.mkdir(mode=0o700)
    area = {**upstream.get("area", {}), "directory": str(LINKS)}
    pool = {"upstream": {"mode": "transparent", **upstream, "area": area}}
    shares = {"share": {"vfs objects": "smbdirect"}}
    with world(device, fabric, plain, pool, smbd_options=OPTIONS, shares=shares) as w:
        yield w


def where_it_is_built(case):
    """A case that is skipped in a world without the module."""

    @functools.wraps(case)
    def run(world, *args):
        if world is None:
            raise Skip("vfs_smbdirect is not built for this machine's Samba: scripts/setup module fetches its headers")
        return case(world, *args)

    return run
