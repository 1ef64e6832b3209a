#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The guest itself: RDMA devices that carry data, and the kernel's SMB client over plain TCP. Nothing of ours."""

import contextlib
import pathlib
import sys
import types

from lib import cifs, storage
from lib.cases import Cases
from lib.files import make_file, make_tree, sha256
from lib.network import Network, rdma_device, resources, run
from lib.process import Server, wait_until
from lib.smbd import SmbdServer


@contextlib.contextmanager
def world():
    with Network() as network, storage.ext4("/srv/test") as directory:
        yield types.SimpleNamespace(network=network, directory=directory)


cases = Cases(world)


def ping(world, kind):
    """rping's own server and client, each checking the data it gets: by SEND, RDMA READ and RDMA WRITE."""
    address = world.network.address
    with rdma_device(kind):
        server = Server("rping", ["rping", "-s", "-v", "-a", address, "-C", "20", "-S", "4000"], f"/tmp/{kind}.log")
        try:
            wait_until(lambda: resources("cm_id"), 20, "rping's server listens")
            client = run("rping", "-c", "-v", "-V", "-a", address, "-C", "20", "-S", "4000", timeout=60)
            wait_until(lambda: not server.running(), 20, "rping's server ends")
        finally:
            server.kill_group()
            server.end()
        pings = client.stdout.count("ping data: rdma-ping")
        assert pings == 20, f"{pings} of 20 pings: {client.stdout[-400:]}{client.stderr}\n{server.log[-400:]}"
    return f"{pings} pings of 4000 bytes"


@cases.case()
def rping_over_rxe(world):
    return ping(world, "rxe")


@cases.case()
def rping_over_siw(world):
    return ping(world, "siw")


@cases.case()
def cifs_has_smb_direct(_):
    cifs.load()
    features = next(line for line in cifs.debug_data().splitlines() if line.startswith("Features:"))
    assert "SMB_DIRECT" in features, features
    return features


@cases.case()
def cifs_over_tcp(world):
    """Everything the other programs do over RDMA, over TCP: what fails here is not SMB Direct's doing."""
    cifs.load()
    tree = pathlib.Path("/tmp/tree")
    make_tree(tree, 60, seed=1)
    smbd_directory = world.directory / "smbd"
    smbd_directory.mkdir()
    with SmbdServer(smbd_directory) as smbd:
        mount = cifs.Mount("/mnt/test", "127.0.0.1", port=smbd.port, options={"cache": "none"})
        with mount:
            cifs.clear_stats()
            files, size = storage.copy_and_compare(tree, mount.path / "tree")
            digest = make_file(mount.path / "large", 16 << 20, seed=2)
            mount.remount()
            storage.compare(tree, smbd.share_path() / "tree")
            storage.compare(tree, mount.path / "tree")
            assert sha256(mount.path / "large") == digest == sha256(smbd.share_path() / "large")
            moved = storage.fio(mount.path, size="4m", jobs=2)
            operations = cifs.stats()
            assert operations["Writes"][0] > 0 and operations["Reads"][0] > 0, operations
    return f"{files} files, {size} bytes; fio {moved}"


if __name__ == "__main__":
    sys.exit(cases.main())
