# SPDX-License-Identifier: MIT
"""What smbdirectctl says of READs and WRITEs that the worker does itself: how many, of how many files, and why it does not."""

import os
import uuid

import pytest

from lib import leases, module_smbd, rdma, smb2
from lib.area_link import connect
from lib.leases import open_leased
from lib.module_smbd import ModuleSmbd
from lib.process import wait_until

pytestmark = pytest.mark.skipif(module_smbd.missing() is not None, reason=str(module_smbd.missing()))
SMALL = 4096
DATA = bytes(range(256)) * (SMALL // 256)


@pytest.fixture
def server(scratch):
    """A ModuleSmbd; afterwards nothing in it may have failed."""
    directory = scratch / f"direct-{uuid.uuid4().hex[:8]}"
    directory.mkdir()
    shares = {"share": {"vfs objects": "smbdirect"}, "sync": {"vfs objects": "smbdirect", "sync always": "yes"}, "plain": {}}
    smbd = ModuleSmbd(directory, shares=shares)
    yield smbd.start()
    smbd.stop()


@pytest.fixture
def make_pool(make_daemon):
    """A daemon in front of a server; its own keys of /upstream/direct go on top."""

    def make(server, workers=2, **direct):
        pool = {"upstream": {"area": {"directory": str(server.links)}, "direct": direct}}
        return make_daemon(server.port, workers=workers, pool=pool)

    return make


def row_of(daemon, c):
    (row,) = [row for row in daemon.ctl("connections") if row["client"] == c.transport.local]
    return row


def row_with(daemon, c, deadline=10, **wanted):
    """The client's row, once it has these members."""

    def there():
        row = row_of(daemon, c)
        return row if all(row[name] == value for name, value in wanted.items()) else None

    row = wait_until(there, deadline, lambda: f"{wanted}: {row_of(daemon, c)}")
    assert (row["direct_reason"] is None) == (row["direct"] == "used"), row
    return row


def fresh():
    return f"direct-{os.urandom(4).hex()}"


def linked(daemon, c):
    """The first file that is opened has the link asked for; a later one is granted."""
    c.close_file(open_leased(c, fresh()).file_id).check()
    return row_with(daemon, c, direct="ready")


def total(daemon, name):
    return sum(row[name] or 0 for row in daemon.ctl("workers"))


def test_from_the_first_open_on(server, make_pool):
    daemon = make_pool(server)
    with rdma.session(daemon, server) as c:
        assert "no file" in row_with(daemon, c, direct="unasked")["direct_reason"]
        linked(daemon, c)
        file = open_leased(c, fresh()).file_id
        row_with(daemon, c, direct_files=1)
        c.write(file, DATA).check()
        row = row_with(daemon, c, direct_files=1)
        assert (row["direct_writes"], row["direct_in"]) == (0, 0)  # the first is smbd's
        c.write(file, DATA, SMALL).check()
        assert c.read(file, 2 * SMALL).data == 2 * DATA
        assert c.read(file, 100, 1).data == DATA[1:101]
        row = row_with(daemon, c, direct="used", direct_reads=2)
        assert (row["direct_writes"], row["direct_in"], row["direct_out"]) == (1, SMALL, 2 * SMALL + 100)
        (client,) = daemon.ctl("clients")
        assert (client["direct"], client["direct_reads"], client["direct_out"]) == (["used"], 2, 2 * SMALL + 100)
        columns = daemon.ctl("connections", check=False).stdout.splitlines()
        shown = dict(zip(columns[0].split(), columns[1].split(), strict=True))
        assert [shown[name] for name in ("DIRECT_FILES", "DIRECT_READS", "DIRECT")] == ["1", "2", "used"]
        c.close_file(file).check()
        row_with(daemon, c, direct_files=0)
        assert wait_until(lambda: total(daemon, "direct_reads") == 2, 5, "the worker's counters")
        assert (total(daemon, "direct_writes"), total(daemon, "direct_read_bytes")) == (1, 2 * SMALL + 100)
        assert total(daemon, "direct_grants") >= 1 and total(daemon, "direct_revocations") == 0


def test_a_worker_stays_awake_if_it_may(server, make_pool):
    """Its client's pauses are shorter than it may wait at most, and it learns that; when the client stops it was in vain."""
    for busy_poll_us in (10_000, 0):
        daemon = make_pool(server, busy_poll_us=busy_poll_us)
        with rdma.session(daemon, server) as c:
            linked(daemon, c)
            file = open_leased(c, fresh()).file_id
            row_with(daemon, c, direct_files=1)
            for _ in range(2):
                c.write(file, DATA).check()

            def in_vain(daemon=daemon, c=c, file=file):
                for _ in range(50):
                    c.read(file, 100).check()
                return total(daemon, "direct_idle_us")

            if busy_poll_us:
                wait_until(in_vain, 60, "microseconds in vain, where the processors suffice at times")
            else:
                assert in_vain() == in_vain() == 0
            row_with(daemon, c, direct="used")


def test_files_that_stay_with_smbd_say_why(server, make_pool):
    daemon = make_pool(server)
    with rdma.session(daemon, server) as c:
        linked(daemon, c)
        file = c.create(fresh())
        c.write(file, DATA).check()
        c.read(file, 10).check()
        assert "lease" in row_with(daemon, c, direct="no-lease")["direct_reason"]
        c.tree_connect(f"\\\\{server.netbios_name}\\sync")
        file = open_leased(c, fresh()).file_id
        c.write(file, DATA).check()
        c.read(file, 10).check()
        row_with(daemon, c, direct="share", direct_reads=0)


def test_a_lease_that_is_taken_back(server, make_pool):
    daemon = make_pool(server)
    name = fresh()
    with rdma.session(daemon, server) as c, connect(server) as other:
        linked(daemon, c)
        file = open_leased(c, name).file_id
        c.write(file, DATA).check()
        c.read(file, 10).check()
        row_with(daemon, c, direct="used")
        waiting = other.send(smb2.CREATE, smb2.create_body(name))
        leases.acknowledge(c, leases.wait_break(c)).check()
        other.wait(waiting).check()
        c.write(file, DATA).check()
        row_with(daemon, c, direct="revoked")
        assert wait_until(lambda: total(daemon, "direct_revocations") >= 1, 5, "a revocation")


def test_no_more_files_than_are_allowed(server, make_pool):
    daemon = make_pool(server, files=2)
    with rdma.session(daemon, server) as c:
        linked(daemon, c)
        name = fresh()
        files = [open_leased(c, f"{name}-{i}").file_id for i in range(4)]
        c.write(files[3], DATA).check()
        c.read(files[3], 10).check()
        assert "/upstream/direct/files" in row_with(daemon, c, direct="full", direct_files=2)["direct_reason"]
        c.write(files[0], DATA).check()
        c.read(files[0], 10).check()
        row_with(daemon, c, direct="used")


def test_where_it_is_off_or_there_is_no_module(server, make_pool):
    daemon = make_pool(server, enabled=False)
    with rdma.session(daemon, server) as c:
        c.close_file(open_leased(c, fresh()).file_id).check()
        assert "/upstream/direct/enabled" in row_with(daemon, c, direct="off")["direct_reason"]
    daemon = make_pool(server)
    with rdma.session(daemon, server, share="plain") as c:
        c.close_file(open_leased(c, fresh()).file_id).check()
        row_with(daemon, c, direct="no-module")


@pytest.mark.parametrize("how", ["sign", "encrypt"])
def test_clients_that_sign_or_encrypt(server, make_pool, how):
    daemon = make_pool(server)
    with rdma.session(daemon, server, **{how: True}) as c:
        file = open_leased(c, fresh()).file_id
        c.write(file, DATA).check()
        row_with(daemon, c, direct="signed" if how == "sign" else "encrypted", direct_files=0)
