# SPDX-License-Identifier: MIT
"""READs and WRITEs that a worker does itself, on files that a stock smbd with vfs_smbdirect has opened for its client: byte for
byte what smbd has of them, for this client and for others."""

import os
import pathlib
import random
import uuid

import pytest

from lib import leases, module_fixture, rdma, smb2
from lib.area_link import connect
from lib.daemon import Smbdirectd, program
from lib.direct_use import done, warm
from lib.leases import R, RH, RWH, acknowledge, open_leased, send_open, wait_break
from lib.process import wait_until

SEED = int(os.environ.get("SMBDIRECTD_SEED", "20261130"))
SERIES = ("4.17", "4.22")
MIB = 1 << 20


@pytest.fixture(scope="module", params=SERIES)
def server(request, scratch):
    shares = {"share": {"vfs objects": "smbdirect"}, "plain": {}}
    with module_fixture.running(scratch / f"direct-{request.param}", request.param, shares=shares) as smbd:
        yield smbd


@pytest.fixture
def make_pool(server, make_daemon):
    def make(**direct):
        return make_daemon(server.port, pool={"upstream": {"area": {"directory": str(server.links)}, "direct": direct}})

    return make


class Opened:
    """A client of a daemon that has a file open with a lease, on which READs and WRITEs are done directly."""

    def __init__(self, daemon, server, size=3 * MIB):
        self.daemon, self.server = daemon, server
        self.name = f"direct-{uuid.uuid4().hex}"
        self.path = pathlib.Path(server.share_path("share")) / self.name
        self.model = bytearray(random.Random(SEED).randbytes(size))
        self.client = rdma.session(daemon, server)
        self.open = open_leased(self.client, self.name, RWH)
        self.file = self.open.file_id
        for at in range(0, size, MIB):
            self.client.write(self.file, self.model[at : at + MIB], at).check()
        warm(daemon, self.client, self.file)

    def write(self, data, at, channel):
        if channel:
            response = rdma.channel_write(self.client, self.file, data, at)
        else:
            response = self.client.write(self.file, data, at)
        assert response.check().count == len(data)
        self.model[at : at + len(data)] = data

    def read(self, size, at, channel):
        if channel:
            response, data = rdma.channel_read(self.client, self.file, size, at)
        else:
            response = self.client.read(self.file, size, at)
            data = response.check().data
        assert response.check() and data == bytes(self.model[at : at + size]), f"seed {SEED}: {size} bytes at {at}"


@pytest.fixture
def opened(server, make_pool):
    opened = Opened(make_pool(), server)
    yield opened
    opened.client.close_transport()


def over_tcp(opened, other, state=R):
    """All bytes as another client sees them, who opens the file: our client has been asked for its lease, and has given it."""
    waiting, _ = send_open(other, opened.name, state)
    broken = wait_break(opened.client)
    assert (broken.key, broken.current) == (opened.open.key, RWH)
    acknowledge(opened.client, broken).check()
    theirs = leases.opened(other.wait(waiting), None)
    size, data = len(opened.model), b""
    while len(data) < size:
        data += other.read(theirs.file_id, MIB, len(data)).check().data
    other.close_file(theirs.file_id).check()
    return data


def test_contents(opened, server):
    """4 KiB, 1 MiB and odd sizes, inline and by an RDMA channel, within the file and over its end."""
    chance = random.Random(SEED)
    before = done(opened.daemon)
    sizes = [4096, MIB, 1, 65535, 300_001]
    count = 0
    for size in sizes * 2:
        for channel in (False, True):
            opened.write(chance.randbytes(size), chance.randrange(len(opened.model) + 1), channel)
            opened.read(size, chance.randrange(len(opened.model)), channel)
            count += 1
    assert opened.path.read_bytes() == opened.model
    # One now and then is smbd's; and so are inline WRITEs that do not fit a slab.
    large = sum(size > 256 * 1024 - 200 for size in sizes) * 2
    wait_until(
        lambda: done(opened.daemon)[0] >= before[0] + count * 3 // 4
        and done(opened.daemon)[1] >= before[1] + (count - large) * 3 // 4,
        5,
        lambda: f"most of {count} directly: {before} -> {done(opened.daemon)}",
    )
    other = connect(server)
    assert over_tcp(opened, other) == opened.model
    other.close_transport()


def test_a_break_is_seen_and_the_rest_goes_as_always(opened, server):
    other = connect(server)
    opened.write(b"the last of it", 77, False)
    assert over_tcp(opened, other, RH) == opened.model
    for channel in (False, True):
        opened.write(random.Random(1).randbytes(70_000), 1_000, channel)
        opened.read(100_000, 0, channel)
    assert opened.path.read_bytes() == opened.model
    other.close_transport()


def test_statuses_are_smbds(opened):
    c, size = opened.client, len(opened.model)
    assert c.read(opened.file, 4096, size).status == smb2.END_OF_FILE
    assert rdma.channel_read(c, opened.file, 4096, size + MIB)[0].status == smb2.END_OF_FILE
    assert len(c.read(opened.file, 4096, size - 5).check().data) == 5
    c.close_file(opened.file).check()
    assert c.read(opened.file, 4096).status == smb2.FILE_CLOSED
    assert c.write(opened.file, bytes(4096)).status == smb2.FILE_CLOSED


def test_smbds_window_survives(opened):
    """20,000 done directly, mixed with requests that go to smbd, eight at a time: smbd's window has 8,192 ids at most."""
    c, chance = opened.client, random.Random(SEED)
    count, depth, size = 20_000, 8, 100  # small, for this client counts checksums slowly
    before = done(opened.daemon)
    waiting = []
    for i in range(count):
        if i % 7 == 0:
            waiting.append((c.send(smb2.ECHO, smb2.ECHO_BODY), None))
        if i % 1009 == 0:
            region = rdma.expose(c, MIB, "w")
            waiting.append((rdma.send_channel_read(c, opened.file, MIB, MIB, region=region)[0], region))
        at = chance.randrange(len(opened.model) - size)
        waiting.append((c.send_read(opened.file, size, at), at))
        while len(waiting) >= depth:
            message_id, what = waiting.pop(0)
            response = c.wait(message_id).check()
            if isinstance(what, int):
                assert response.data == opened.model[what : what + size]
            elif what is not None:
                assert bytes(what.memory) == opened.model[MIB : 2 * MIB]
                c.transport.iwarp.regions.pop(what.stag)
    for message_id, _ in waiting:
        c.wait(message_id).check()
    wait_until(lambda: done(opened.daemon)[0] >= before[0] + count * 3 // 4, 5, lambda: f"most: {done(opened.daemon)}")
    assert c.echo().check()


def test_a_client_that_had_lost_a_channel(server, make_pool):
    """It numbers its requests so from then on (MS-SMB2 3.3.5.2.10): files are read and written directly all the same, those that it
    has open when it loses another one as well. What comes with a number of before is smbd's, which refuses a WRITE."""
    daemon = make_pool()
    c = rdma.session(daemon, server)
    c.channel_sequence = 3
    opened = open_leased(c, f"direct-{uuid.uuid4().hex}", RWH)
    data = random.Random(SEED).randbytes(4096)
    c.write(opened.file_id, data).check()
    warm(daemon, c, opened.file_id)
    c.channel_sequence = 2
    assert c.write(opened.file_id, b"older").status == smb2.FILE_NOT_AVAILABLE
    c.channel_sequence = 4
    before = done(daemon)
    for _ in range(5):
        assert c.read(opened.file_id, 4096).check().data == data
        c.write(opened.file_id, data).check()
    wait_until(lambda: done(daemon) == (before[0] + 4, before[1] + 5), 10, lambda: f"all but one: {before} {done(daemon)}")
    c.channel_sequence = 3
    assert c.write(opened.file_id, b"older").status == smb2.FILE_NOT_AVAILABLE
    c.close_transport()


def test_where_few_files_may_be_open(server, scratch, tmp_path):
    """As many systems limit a process that no unit of ours starts: files get a share of them."""
    limited = tmp_path / "smbdirectd"
    limited.write_text(f'#!/bin/sh\nulimit -n 2048\nexec {program("smbdirectd")} "$@"\n')
    limited.chmod(0o755)
    pool = {"upstream": {"area": {"directory": str(server.links)}}}
    daemon = Smbdirectd(scratch / f"direct-few-{uuid.uuid4().hex}", server.port, pool=pool)
    daemon.binary = limited
    with daemon:
        opened = Opened(daemon, server, 2 * MIB)  # waits until it is done directly
        opened.read(4096, 5, channel=True)
        opened.client.close_transport()


@pytest.mark.parametrize("how", ["switched off", "no lease", "no module"])
def test_not_done_directly(server, make_pool, how):
    daemon = make_pool(enabled=how != "switched off")
    c = rdma.session(daemon, server, share="plain" if how == "no module" else "share")
    name = f"not-{uuid.uuid4().hex}"
    file = c.create(name) if how == "no lease" else open_leased(c, name).file_id
    data = random.Random(SEED).randbytes(100_000)
    for _ in range(5):
        c.write(file, data).check()
        assert rdma.channel_read(c, file, len(data))[1] == data
    assert done(daemon) == (0, 0)
    c.close_transport()
