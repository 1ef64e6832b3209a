# SPDX-License-Identifier: MIT
"""What smbdirectctl says of memory shared with smbd: whether a connection uses it, how much, and why it does not."""

import os
import random
import uuid

import pytest

from lib import module_smbd, rdma, smb2
from lib.daemon import Smbdirectd
from lib.module_smbd import ModuleSmbd
from lib.netspace import NetSpace, SmbdInside
from lib.process import kill_all_of, wait_until

SEED = int(os.environ.get("SMBDIRECTD_SEED", "20261129"))
LARGE = 65536
pytestmark = pytest.mark.skipif(module_smbd.missing() is not None, reason=str(module_smbd.missing()))


@pytest.fixture
def make_server(scratch):
    """A ModuleSmbd; afterwards nothing in it may have failed."""
    made = []

    def make(**kw):
        directory = scratch / f"shown-{uuid.uuid4().hex[:8]}"
        directory.mkdir()
        made.append(ModuleSmbd(directory, **kw))
        return made[-1].start()

    yield make
    for smbd in made:
        smbd.stop()


@pytest.fixture
def server(make_server):
    shares = {"share": {"vfs objects": "smbdirect"}, "plain": {}, "btrfs": {"vfs objects": "btrfs smbdirect"}}
    return make_server(shares=shares)


@pytest.fixture
def make_pool(make_daemon):
    """A daemon in front of a server; its own keys of /upstream/area go on top. Without direct I/O, which would ask for the link when
    a file is opened: it might be there for the first request already."""

    def make(server, workers=2, **area):
        pool = {"upstream": {"area": {"directory": str(server.links), **area}, "direct": {"enabled": False}}}
        return make_daemon(server.port, workers=workers, pool=pool)

    return make


def row_of(daemon, c):
    (row,) = [row for row in daemon.ctl("connections") if row["client"] == c.transport.local]
    return row


def shown(daemon, c, state, deadline=10):
    """The client's row, once it has that state."""
    row = wait_until(
        lambda: (lambda row: row if row["area"] == state else None)(row_of(daemon, c)), deadline, lambda: f"{state}: {row_of(daemon, c)}"
    )
    assert (row["area_reason"] is None) == (state == "used"), row
    return row


def read(c, file, size=LARGE):
    response, data = rdma.channel_read(c, file, size)
    response.check()
    return data


def opened(c, size=LARGE):
    """A new file of that size on the client's share, written by RDMA."""
    file = c.create(f"shown-{uuid.uuid4().hex}")
    rdma.channel_write(c, file, random.Random(SEED).randbytes(size)).check()
    return file


def use(daemon, c, file):
    """Until the area is in use; nothing when that does not come."""
    shown(daemon, c, "ready")
    read(c, file)
    return shown(daemon, c, "used")


def test_from_the_first_request_on(server, make_pool):
    daemon = make_pool(server)
    with rdma.session(daemon, server) as c:
        assert "/upstream/area/threshold" in shown(daemon, c, "unasked")["area_reason"]
        file = opened(c)
        before = use(daemon, c, file)
        assert before["area_in"] == 0 and before["rdma_read"] == LARGE
        assert before["area_out"] == LARGE == before["rdma_write"]
        data = random.Random(SEED).randbytes(3 * LARGE)
        rdma.channel_write(c, file, data).check()
        assert read(c, file, 2 * LARGE) == data[: 2 * LARGE]
        rdma.channel_read(c, file, 1000)[0].check()  # small: not that way
        row = wait_until(
            lambda: (lambda row: row if row["rdma_write"] == 3 * LARGE + 1000 else None)(row_of(daemon, c)), 5, "the bytes"
        )
        assert (row["area_in"], row["area_out"]) == (3 * LARGE, 3 * LARGE)
        assert (row["rdma_read"], row["area"]) == (4 * LARGE, "used")
        text = daemon.ctl("connections", check=False).stdout
        header, line, *rest = text.splitlines()
        columns = dict(zip(header.split(), line.split(), strict=True))
        assert [columns[name] for name in ("AREA_IN", "AREA_OUT", "AREA")] == [str(3 * LARGE), str(3 * LARGE), "used"]
        assert not any(line.startswith("AREA") for line in rest)
        (client,) = daemon.ctl("clients")
        assert (client["area_in"], client["area_out"]) == (3 * LARGE, 3 * LARGE)


def test_why_not(server, make_pool):
    """Each share of one client, in turn: the state is that of the last large request."""
    daemon = make_pool(server)
    with rdma.session(daemon, server, share="plain") as c:
        plain = opened(c)
        row = shown(daemon, c, "no-module")
        assert (row["area_in"], row["area_out"], row["rdma_read"]) == (0, 0, LARGE)
        text = daemon.ctl("connections", check=False).stdout
        assert f"\n\nAREA no-module: {row['area_reason']}\n" in text
        trees = {"plain": c.tree_id}
        for share in ("share", "btrfs"):
            c.tree_connect(f"\\\\{server.netbios_name}\\{share}")
            trees[share] = c.tree_id
        c.tree_id = trees["share"]
        file = opened(c)
        use(daemon, c, file)
        c.tree_id = trees["plain"]
        read(c, plain)
        assert "replace the global" in shown(daemon, c, "no-share")["area_reason"]
        c.tree_id = trees["btrfs"]
        opened(c)
        # vfs_btrfs of Samba 4.22 no longer takes the copies of others.
        shown(daemon, c, "misplaced" if server.series == "4.17" else "used")
        c.tree_id = trees["share"]
        read(c, file)
        shown(daemon, c, "used")


def test_switched_off_and_small(server, make_pool):
    daemon = make_pool(server, enabled=False)
    with rdma.session(daemon, server) as c:
        opened(c)
        assert "/upstream/area/enabled" in shown(daemon, c, "off")["area_reason"]


def test_signed_and_encrypted(server, make_pool):
    daemon = make_pool(server)
    for how, state in (({"sign": True}, "signed"), ({"encrypt": True, "dialect": smb2.SMB_3_1_1}, "encrypted")):
        with rdma.session(daemon, server, **how) as c:
            shown(daemon, c, "unasked" if state == "signed" else state)
            file = c.create(f"safe-{uuid.uuid4().hex}")
            c.write(file, bytes(LARGE)).check()
            shown(daemon, c, state)


def test_no_room(server, make_pool):
    daemon = make_pool(server, bytes=1 << 20)
    with rdma.session(daemon, server) as c:
        file = opened(c, 2 << 20)
        use(daemon, c, file)
        read(c, file, 2 << 20)
        assert "/upstream/area/bytes)" in shown(daemon, c, "full")["area_reason"]
        read(c, file)
        shown(daemon, c, "used")


def test_no_memory(server, make_pool):
    daemon = make_pool(server, workers=1, bytes=1 << 20, bytes_per_worker=1 << 20)
    with rdma.session(daemon, server) as first, rdma.session(daemon, server) as second:
        use(daemon, first, opened(first))
        opened(second)
        assert "/upstream/area/bytes_per_worker" in shown(daemon, second, "no-memory")["area_reason"]
        shown(daemon, first, "used")


def test_no_build_for_this_samba(make_server, make_pool):
    server = make_server(builds=())
    daemon = make_pool(server)
    with rdma.session(daemon, server) as c:
        opened(c)
        assert "no build for this Samba" in shown(daemon, c, "no-module")["area_reason"]


def test_another_directory(server, make_pool, scratch):
    (scratch / "elsewhere").mkdir(mode=0o700)
    daemon = make_pool(server, directory=str(scratch / "elsewhere"))
    with rdma.session(daemon, server) as c:
        opened(c)
        shown(daemon, c, "no-module")


def test_the_directory_is_everybodys(server, make_pool):
    daemon = make_pool(server)
    with rdma.session(daemon, server) as c:
        file = opened(c)
        use(daemon, c, file)
    server.links.chmod(0o777)
    with rdma.session(daemon, server) as c:
        opened(c)
        assert "the log of the daemon" in shown(daemon, c, "unreachable")["area_reason"]
    daemon.wait_for_log("no links to smbds' modules")


def test_after_adoption(server, make_pool):
    """Another supervisor shows what the worker has, as the one before did."""
    daemon = make_pool(server)
    with rdma.session(daemon, server) as c:
        file = opened(c)
        before = use(daemon, c, file)
        daemon.server.process.kill()
        daemon.server.process.wait()
        daemon.server.end()
        try:
            daemon.start()
            wait_until(lambda: daemon.ctl("connections"), 5, "the adopted connection")
            row = shown(daemon, c, "used")
            assert all(row[name] == before[name] for name in ("number", "area_in", "area_out", "rdma_write"))
            read(c, file)
            wait_until(lambda: row_of(daemon, c)["area_out"] == before["area_out"] + LARGE, 5, "a READ by the area, counted")
        finally:
            c.close_transport()
            daemon.stop(check=False)
            kill_all_of(daemon.directory)


def test_smbd_of_another_host(scratch):
    """In a network namespace of its own, where no process has the module."""
    directory = scratch / f"shown-{uuid.uuid4().hex[:8]}"
    directory.mkdir()
    with NetSpace() as here, NetSpace() as there:
        here.link_to(there, ["10.9.9.1/24"], ["10.9.9.2/24"])
        smbd = SmbdInside(there, directory, options={"bind interfaces only": "no"}).start()
        pool = {
            "run_directory": str(directory / "run"),
            "listeners": [{"address": "127.0.0.1", "port": 5445}],
            "upstream": {"mode": "connect", "address": "10.9.9.2", "port": 445},
        }
        daemon = Smbdirectd(directory, 445, pool=pool, space=here).start()
        try:
            c = here.socket_in(lambda: smb2.Client(rdma.SmbDirect.connect(("127.0.0.1", 5445))))
            with c.start(host=smbd.netbios_name):
                opened(c)
                assert "within a host" in shown(daemon, c, "other-host")["area_reason"]
        finally:
            daemon.stop(check=False)
            smbd.stop()
