# SPDX-License-Identifier: MIT
"""Memory shared with a stock smbd that has vfs_smbdirect, in the upstream modes in which smbd sees the client: the same
contents both ways, each channel of a client with an area of its own, and in mode "handoff" in the process that has the
stream in the end. Each test has a server's and a client's network namespace of its own, and smbd its own mounts."""

import os
import random
import time

import pytest

from lib import module_fixture, rdma, smb2
from lib.area_link import mapped
from lib.area_use import THRESHOLD, moved, moved_by, warm
from lib.lan import FAMILIES, Lan
from lib.module_smbd import ModuleSpace
from lib.process import alive, wait_until

SEED = int(os.environ.get("SMBDIRECTD_SEED", "20261129"))
SHARES = {"share": {"vfs objects": "smbdirect"}, "plain": {}}
MODES = pytest.mark.parametrize("mode", ["transparent", "handoff"])


@pytest.fixture(params=["4.17", "4.22"])
def make_lan(request, scratch):
    """make_lan(mode, **kw) -> a Lan whose smbd has the module, stopped at the end of the test."""
    module_fixture.skip_if_missing(request.param)
    made = []

    def make(mode, **kw):
        directory = scratch / f"lan-{time.monotonic_ns()}"  # short: smbd has sockets below it
        directory.mkdir()
        links = directory / "run" / "smbd"
        here = ModuleSpace(directory, request.param)
        made.append(
            Lan(
                directory,
                mode,
                here=here,
                options={"smbdirect:directory": links},
                shares=SHARES,
                upstream={"area": {"directory": str(links)}},
                **kw,
            )
        )
        assert request.param in here.run("smbd", "--version")
        return made[-1]

    yield make
    for lan in made:
        lan.stop()
        log = lan.smbd_log()
        assert "PANIC" not in log and "INTERNAL ERROR" not in log, log[-4000:]


def exchange(daemon, c, file, path, seed):
    """Writes and reads that all go by the area, byte for byte."""
    chance, before, model = random.Random(f"{SEED}{seed}"), moved(daemon), bytearray(path.read_bytes())
    sizes = [THRESHOLD, THRESHOLD + 4097, 1 << 20, 3 << 20]
    for size in sizes:
        data, at = chance.randbytes(size), chance.randrange(len(model) + 1)
        assert rdma.channel_write(c, file, data, at).check().count == size
        model[at : at + size] = data
        assert path.read_bytes() == model, f"seed {SEED}: {size} bytes written at {at}"
        at = chance.randrange(len(model) - size + 1)
        response, read = rdma.channel_read(c, file, size, at)
        assert response.check() and read == model[at : at + size], f"seed {SEED}: {size} bytes read at {at}"
    wanted = tuple(n + len(sizes) for n in before)
    wait_until(lambda: moved(daemon) >= wanted, 5, lambda: f"{wanted} by the area, not {moved(daemon)}")


@MODES
def test_contents(make_lan, mode):
    lan = make_lan(mode)
    for family, (_, client, _) in FAMILIES.items():
        with lan.session(family) as c:
            path, file = lan.smbd.share_path() / family, c.create(family)
            rdma.channel_write(c, file, bytes(THRESHOLD)).check()
            warm(lan.daemon, c, file)
            exchange(lan.daemon, c, file, path, family)
            assert client in lan.smbd.status()
            assert len(lan.spawned()) == (mode == "handoff")
    wait_until(lambda: not lan.spawned(), 5, "the client's smbd ending")


@pytest.mark.parametrize("mode, affinity", [("transparent", "spread"), ("handoff", "client")])
def test_two_channels_of_a_client(make_lan, mode, affinity):
    """In one smbd, which is the first one's: each has an area there, and either ends without the other. The second asks
    for its own when the stream has gone there: in mode "handoff" it began with an smbd of its own."""
    lan = make_lan(mode, affinity=affinity)
    with lan.session("IPv4") as first:
        path, file = lan.smbd.share_path() / "both", first.create("both")
        rdma.channel_write(first, file, bytes(THRESHOLD)).check()
        warm(lan.daemon, first, file)
        (pid,) = lan.serving()
        assert mapped(pid) == 1
        with lan.client("IPv4", guid=first.guid) as second:
            second.bind(first, lan.smbd.user, lan.smbd.password)
            warm(lan.daemon, second, file)
            assert lan.serving() == [pid] and mapped(pid) == 2
            exchange(lan.daemon, second, file, path, "second")
            exchange(lan.daemon, first, file, path, "first")
            workers = 2 if affinity == "spread" else 1
            assert sum(count > 0 for count in moved_by(lan.daemon).values()) == workers, moved_by(lan.daemon)
        wait_until(lambda: mapped(pid) == 1, 5, "the second's area is unmapped")
        exchange(lan.daemon, first, file, path, "first alone")
        # The one that is left is the younger.
        with lan.client("IPv4", guid=first.guid) as third:
            third.bind(first, lan.smbd.user, lan.smbd.password)
            warm(lan.daemon, third, file)
            first.close_transport()
            wait_until(lambda: mapped(pid) == 1, 5, "the first's area is unmapped")
            exchange(lan.daemon, third, file, path, "third alone")
            assert lan.serving() == [pid]
    wait_until(lambda: not alive(pid), 10, "the client's smbd ending")


@MODES
def test_asks_again_after_a_tree_connect(make_lan, mode):
    """At the first tree connect smbd had no module to ask for."""
    lan = make_lan(mode)
    smbd = lan.smbd
    c = lan.client("IPv4").start(
        "plain", (smb2.SMB_3_0_2,), user=smbd.user, password=smbd.password, host=smbd.netbios_name
    )
    with c:
        data = random.Random(SEED).randbytes(1 << 20)
        file = c.create("inline")
        for _ in range(3):
            rdma.channel_write(c, file, data).check()
            assert rdma.channel_read(c, file, len(data))[1] == data
        assert moved(lan.daemon) == (0, 0)
        c.tree_connect(f"\\\\{smbd.netbios_name}\\share").check()
        path, file = smbd.share_path() / "by-area", c.create("by-area")
        rdma.channel_write(c, file, bytes(THRESHOLD)).check()
        warm(lan.daemon, c, file)
        exchange(lan.daemon, c, file, path, "again")
