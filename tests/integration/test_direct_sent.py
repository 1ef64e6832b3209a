# SPDX-License-Identifier: MIT
"""READs that a worker sends from the page cache itself, over iWARP without CRC32C: byte for byte the file's, and what happens when
the file becomes shorter under them."""

import os
import pathlib
import random
import struct
import tempfile
import uuid

import pytest

from lib import module_fixture, rdma, smb2
from lib.daemon import Smbdirectd
from lib.direct_use import warm
from lib.leases import RWH, open_leased
from lib.process import wait_until

SEED = int(os.environ.get("SMBDIRECTD_SEED", "20261130"))
SERIES = ("4.17", "4.22")
MIB = 1 << 20
MEMORY = pathlib.Path("/dev/shm")
END_OF_FILE_INFO = 20
MOST = 24  # READs of 1 MiB: more than sockets take, less than the credits of a client


@pytest.fixture(scope="module", params=SERIES)
def server(request):
    """Its files are in memory: of others it is not known what may be sent so."""
    with tempfile.TemporaryDirectory(prefix="smbdirectd-test-", dir=MEMORY) as scratch:
        directory = pathlib.Path(scratch)
        directory.chmod(0o755)
        with module_fixture.running(directory / "smbd", request.param, shares={"share": {"vfs objects": "smbdirect"}}) as smbd:
            yield smbd


@pytest.fixture
def daemon(server, scratch):
    pool = {"upstream": {"area": {"directory": str(server.links)}}, "iwarp": {"crc": False}}
    with Smbdirectd(scratch / f"sent-{uuid.uuid4().hex}", server.port, pool=pool, workers=1) as daemon:
        yield daemon


def sent(daemon):
    return sum(row["direct_uncopied_bytes"] or 0 for row in daemon.ctl("workers"))


class Reader:
    """A client with a file of random bytes open, whose READs are done directly."""

    def __init__(self, daemon, server, crc=False, size=3 * MIB):
        self.path = pathlib.Path(server.share_path("share")) / f"sent-{uuid.uuid4().hex}"
        self.contents = random.Random(SEED).randbytes(size)
        self.client = rdma.session(daemon, server, crc=crc)
        self.file = open_leased(self.client, self.path.name, RWH).file_id
        for at in range(0, size, MIB):
            self.client.write(self.file, self.contents[at : at + MIB], at).check()
        warm(daemon, self.client, self.file)

    def part(self, size, at):
        return self.contents[at : at + size]

    def send(self, count):
        """So many READs, of which nothing is received: (MessageId, region, where)."""
        all_of_it = []
        for i in range(count):
            at = i % (len(self.contents) // MIB) * MIB
            message_id, region = rdma.send_channel_read(self.client, self.file, MIB, at)
            all_of_it.append((message_id, region, at))
        return all_of_it

    def close(self):
        self.client.close_transport()


def test_contents(daemon, server):
    reader, chance, total = Reader(daemon, server), random.Random(SEED), 0
    before = sent(daemon)
    contents = bytearray(reader.contents)
    for size in (MIB, 64 * 1024, 65535, 300_001, 2 * MIB + 17, 4096) * 3:
        at = chance.randrange(len(contents) - size + 1)
        response, data = rdma.channel_read(reader.client, reader.file, size, at)
        assert response.check() and data == contents[at : at + size], f"seed {SEED}: {size} bytes at {at}"
        total += size if size >= 64 * 1024 else 0
        written = chance.randbytes(70_000)
        assert rdma.channel_write(reader.client, reader.file, written, at // 2).check()
        contents[at // 2 : at // 2 + len(written)] = written
    response, data = rdma.channel_read(reader.client, reader.file, MIB, len(contents) - 100_000)
    assert response.check() and data == contents[-100_000:]  # over the end of the file
    assert reader.path.read_bytes() == contents
    # One now and then is smbd's.
    wait_until(lambda: sent(daemon) - before >= total * 2 // 3, 5, lambda: f"{total} bytes, most of them so: {sent(daemon) - before}")
    reader.close()


def test_not_with_checksums(daemon, server):
    reader = Reader(daemon, server, crc=True)
    for at in (0, 5, MIB):
        response, data = rdma.channel_read(reader.client, reader.file, 100_000, at)
        assert response.check() and data == reader.part(100_000, at)
    reader.close()
    without = Reader(daemon, server)
    before = sent(daemon)
    wait_until(lambda: rdma.channel_read(without.client, without.file, 70_000)[0].check() and sent(daemon) > before, 10, "one so")
    assert (sent(daemon) - before) % 70_000 == 0
    without.close()


def test_a_file_that_becomes_shorter_ends_one_connection(daemon, server):
    """Somebody on the server does it, whom no lease keeps from it."""
    victim, other = Reader(daemon, server), Reader(daemon, server)
    workers, before = daemon.worker_pids(), sent(daemon)
    victim.send(MOST)
    wait_until(lambda: sent(daemon) - before >= (MOST - 1) * MIB, 10, lambda: f"all so: {sent(daemon) - before}")
    os.truncate(victim.path, 0)
    end = victim.client.transport.iwarp.wait_end(timeout=30)
    assert isinstance(end, rdma.Closed), end
    for size in (MIB, 4096):
        response, data = rdma.channel_read(other.client, other.file, size)
        assert response.check() and data == other.part(size, 0)
    wait_until(lambda: "a file became shorter while it was being sent" in daemon.log, 10, lambda: daemon.log)
    assert daemon.worker_pids() == workers
    victim.close()
    other.close()


def test_a_client_may_shorten_what_it_is_being_sent(daemon, server):
    """Its request waits for that."""
    reader = Reader(daemon, server)
    before = sent(daemon)
    reads = reader.send(MOST)
    body = struct.pack("<HBBIHHI16sQ", 33, 1, END_OF_FILE_INFO, 8, 64 + 32, 0, 0, reader.file, 100)
    shorten = reader.client.send(smb2.SET_INFO, body)
    wait_until(lambda: sent(daemon) - before >= (MOST - 1) * MIB, 10, lambda: f"all so: {sent(daemon) - before}")
    for message_id, region, at in reads:
        assert reader.client.wait(message_id, 30).check()
        assert region.memory == reader.part(MIB, at)
    assert reader.client.wait(shorten).check()
    assert reader.path.read_bytes() == reader.part(100, 0)
    reader.close()
