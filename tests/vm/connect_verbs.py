#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""smbclient through smbdirect-connect over RDMA devices: librdmacm's side of the verbs fabric against ours."""

import contextlib
import sys

from lib import storage
from lib.cases import Cases
from lib.counters import Moved, summary
from lib.daemon import Connect, Smbdirectd, program
from lib.files import make_file, make_tree, sha256
from lib.network import PORTS, rdma_device, run
from lib.smbd import smbclient
from lib.world import smbd_world

LARGE = 32 << 20


@contextlib.contextmanager
def world():
    with smbd_world() as w:
        make_tree(w.directory / "tree", 60, seed=5, largest=100_000)
        w.digest = make_file(w.directory / "large", LARGE, seed=6)
        yield w


cases = Cases(world)


@contextlib.contextmanager
def served(world, device, port, name):
    pool = {
        "listeners": [{"address": world.network.address, "port": port, "fabric": "verbs"}],
        "upstream": {"allow": ["192.0.2.0/24"]},
        "verbs": {"device_idle_ms": 200},
    }
    folder = world.directory / f"daemon-{name}"  # its own: what waits for a line of the log must not find an old one
    with rdma_device(device), Smbdirectd(folder, world.smbd.port, pool=pool) as daemon:
        yield daemon


def transfer(world, device, port, protocol, protection):
    name = f"{device}-{protocol}-{protection}"
    with served(world, device, port, name) as daemon:
        moved = Moved(daemon)
        with Connect(world.directory / f"connect-{name}", daemon, "--fabric", "verbs") as connect:
            back = world.directory / f"back-{name}"
            back.mkdir()
            commands = (
                f"mkdir {name}; cd {name}; lcd {world.directory}; put large; recurse; prompt; mput tree; "
                f"lcd {back}; get large; mget tree"
            )
            smbclient(world.smbd, commands, port=connect.port, protocol=protocol, timeout=200,
                      sign=protection == "sign", encrypt=protection == "encrypt")  # fmt: skip
        assert sha256(back / "large") == world.digest == sha256(world.smbd.share_path() / name / "large")
        files, size = storage.compare(world.directory / "tree", back / "tree")
        storage.compare(world.directory / "tree", world.smbd.share_path() / name / "tree")
        got = moved.since()
    by_rdma = got["rdma_read_bytes"] >= LARGE and got["rdma_write_bytes"] >= LARGE
    assert by_rdma == (protection == "plain"), f"{summary(got)}"
    return f"{files + 1} files, {size + LARGE} bytes each way: {summary(got)}"


for device, port in PORTS.items():
    cases.add(f"{device}_3.0", transfer, device, port, "SMB3_00", "plain")
    cases.add(f"{device}_3.1.1", transfer, device, port, "SMB3_11", "plain")
    cases.add(f"{device}_signed", transfer, device, port, "SMB3_11", "sign")
    cases.add(f"{device}_encrypted", transfer, device, port, "SMB3_11", "encrypt")


@cases.case()
def probe(world):
    """What is agreed, for a person; and what is said when nothing listens."""
    out = []
    for device, port in PORTS.items():
        with served(world, device, port, f"probe-{device}") as daemon:
            done = run(program("smbdirect-connect"), "--fabric", "verbs", "--to", daemon.target, "--probe")
            assert "SMB Direct with" in done.stdout, done.stdout
            daemon.stop()
            done = run(program("smbdirect-connect"), "--fabric", "verbs", "--to", daemon.target, "--probe", check=False)
            assert done.returncode == 1 and "refused" in done.stderr, done.stdout + done.stderr
            out.append(device)
    return f"over {' and '.join(out)}"


if __name__ == "__main__":
    sys.exit(cases.main())
