# SPDX-License-Identifier: MIT
"""What every test of SMB Direct in the guest stands on: a network, an RDMA device, smbd, and smbdirectd before it."""

import contextlib
import ipaddress
import pathlib
import shutil
import types

from lib import cifs, storage
from lib.daemon import Smbdirectd, build_dir
from lib.files import make_file, make_tree
from lib.network import PORTS, Network, rdma_device
from lib.peer import ReferencePeer
from lib.smbd import SmbdServer

LARGE = 64 << 20


@contextlib.contextmanager
def smbd_world(addresses=("192.0.2.1/24",), smbd_options=None, shares=None):
    """A network, a directory on ext4 and smbd: for cases that make RDMA devices and smbdirectd themselves."""
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network(addresses))
        directory = stack.enter_context(storage.ext4("/srv/test", megabytes=6144))
        (directory / "smbd").mkdir()
        smbd = stack.enter_context(SmbdServer(directory / "smbd", options=smbd_options, shares=shares))
        yield types.SimpleNamespace(network=network, directory=directory, smbd=smbd)


@contextlib.contextmanager
def world(device, fabric, plain, pool=None, addresses=("192.0.2.1/24",), smbd_options=None, workers=2, shares=None):
    """device    the client's RDMA device, "rxe" or "siw"
    fabric    the listener's, "iwarp" or "verbs"
    plain     mount options for sessions that are neither signed nor sealed
    Gives network, directory (on ext4), smbd, daemon, plain, and what to copy: the directories tree and
    large_tree (one file of LARGE bytes), with their digests."""
    cifs.load()
    # The kernel would complain of a client that hangs (network.client_hangs) in whatever case comes two minutes later.
    pathlib.Path("/proc/sys/kernel/hung_task_timeout_secs").write_text("0")
    with contextlib.ExitStack() as stack:
        w = stack.enter_context(smbd_world(addresses, smbd_options, shares))
        w.plain, w.tree, w.large = plain, w.directory / "tree", w.directory / "large"
        for made in (w.tree, w.large):
            made.mkdir()
        make_tree(w.tree, 150, seed=3, largest=200_000)
        make_file(w.large / "large", LARGE, seed=4)
        stack.enter_context(rdma_device(device, serves=fabric == "verbs"))
        listeners = [{"address": a.split("/")[0], "port": PORTS[device], "fabric": fabric} for a in addresses]
        networks = sorted({str(ipaddress.ip_interface(a).network) for a in addresses})
        settings = {"listeners": listeners, "upstream": {"allow": networks}, **(pool or {})}
        w.daemon = stack.enter_context(Smbdirectd(w.directory / "smbdirectd", w.smbd.port, pool=settings, workers=workers))
        yield w


def mounted(world, vers="3.1.1", where="/mnt/test", **options):
    """The share, mounted over SMB Direct; options as for mount -o."""
    return cifs.Mount(where, world.network.address, rdma=True, vers=vers, options=options)


def fresh(world, name):
    """An empty directory on the share for one case: its path on the server's side."""
    path = world.smbd.share_path() / name
    if path.exists():  # of an attempt that was void
        shutil.rmtree(path)
    path.mkdir()
    return path


@contextlib.contextmanager
def native_world(*args, pool=None, **kw):
    """world() in upstream mode "channel": `peer` is the server, reference-peer, before the same smbd."""
    pool = {**(pool or {}), "upstream": {"mode": "channel"}}
    with world(*args, pool=pool, **kw) as w:
        control = w.daemon.directory / "run" / "control"
        with ReferencePeer(build_dir(), control, w.smbd.port, w.directory / "peer.log") as w.peer:
            yield w
