# SPDX-License-Identifier: MIT
"""What a client is answered is the same with memory shared with smbd and without: the same odd READs and WRITEs over two
shares of one directory, of which one has the module, through a real worker; status, data and the file compared.

Each case says whether it goes by the area. What would not be the same must not: smbd takes an IOCTL for a request that
changes something, and a READ not (MS-SMB2 3.3.5.2.10)."""

import random

import pytest

from lib import module_fixture, rdma, smb2
from lib.area_use import moved, warm
from lib.daemon import Smbdirectd
from lib.process import wait_until

SERIES = ("4.17", "4.22")
DATA = random.Random("area answers").randbytes(100_000)
REPLAY = 0x20000000  # of a header
READ_DATA, WRITE_DATA, APPEND, EXECUTE, ATTRIBUTES = 0x1, 0x2, 0x4, 0x20, 0x80


@pytest.fixture(scope="module", params=SERIES)
def server(request, scratch):
    directory = scratch / f"answers-{request.param}"
    same = {"path": directory / "shares" / "share", "store dos attributes": "yes"}
    shares = {
        "share": {"vfs objects": "smbdirect streams_xattr", **same},
        "plain": {"vfs objects": "streams_xattr", **same},
    }
    with module_fixture.running(directory, request.param, shares=shares) as smbd:
        yield smbd


@pytest.fixture(scope="module")
def daemon(server, scratch):
    area = {"directory": str(server.links), "threshold": 1}
    with Smbdirectd(scratch / f"answers-daemon-{server.series}", server.port, pool={"upstream": {"area": area}}) as made:
        yield made


class Way:
    """A client of one of the shares, with a file of its own that has DATA in it."""

    def __init__(self, daemon, server, share, **kw):
        self.daemon, self.name = daemon, f"by-{share}"
        self.path = server.share_path("share") / self.name
        self.path.write_bytes(DATA)
        self.path.chmod(0o666)
        self.c = rdma.session(daemon, server, share=share, **kw)
        self.file = self.c.create(self.name)
        while self.c.credits < 200:
            self.c.echo().check()
        if share == "share":
            warm(daemon, self.c, self.file)

    def open(self, access, **kw):
        return self.c.create(self.name, access=access, disposition=1, **kw)

    def read(self, length, offset=0, file=None, charge=None, head=None, **body):
        """(status, count, all of the client's memory)"""
        region = rdma.expose(self.c, max(length, 1), "w")
        info = rdma.describe(region, 0, length)
        request = smb2.read_body(file or self.file, length, offset, channel=1, info=info, remaining=length, **body)
        answer = self.c.wait(self.c.send(smb2.READ, request, charge=charge or smb2.charge_for(length), **(head or {})))
        if answer.status == 0:
            assert answer.data_length == 0, "answered inline"
            return 0, answer.data_remaining, bytes(region.memory)
        return answer.status, 0, bytes(region.memory)

    def write(self, data, offset=0, file=None, charge=None, head=None, **body):
        """(status, count)"""
        region = rdma.expose(self.c, bytearray(data), "r")
        info, length = rdma.describe(region, 0, len(data)), len(data)
        request = smb2.write_body(file or self.file, b"", offset, channel=1, info=info, remaining=length, **body)
        answer = self.c.wait(self.c.send(smb2.WRITE, request, charge=charge or smb2.charge_for(length), **(head or {})))
        return answer.status, answer.count if answer.status == 0 else 0

    def lock(self, file, offset, length):
        assert self.c.rpc(smb2.LOCK, smb2.lock_body(file, offset, length, immediate=True)).check()


CASES = []


def case(by_area):
    """One that asks a Way for some READs and WRITEs, and returns their outcomes. by_area: how many go that way."""

    def add(function):
        CASES.append(pytest.param(function, by_area, id=function.__name__))
        return function

    return add


@case(9)
def reads_at_the_end_of_the_file_and_of_all_files(w):
    near = [(10, 0), (100, len(DATA) - 50), (1, len(DATA)), (1, len(DATA) + 1), (70_000, len(DATA) - 65_536)]
    far = [(10, (1 << 63) - 5), (10, 1 << 63), (10, (1 << 64) - 1), (10, (1 << 64) - 10)]
    return [w.read(length, offset) for length, offset in near + far]


@case(6)
def writes_at_the_end_of_the_file_and_of_all_files(w):
    offsets = [len(DATA) - 5, len(DATA) + 10, (1 << 63) - 5, 1 << 63, (1 << 64) - 10, (1 << 64) - 1]
    return [w.write(b"0123456789", offset) for offset in offsets]


@case(5)
def minimum_count(w):
    return [w.read(100, len(DATA) - 60, minimum=n) for n in (0, 60, 61, 100, 0xFFFFFFFF)]


@case(6)
def flags(w):
    return [w.read(100, flags=n) for n in (1, 2, 0xFF)] + [w.write(b"flags", n, flags=n) for n in (1, 2, 0xFFFFFFFF)]


@case(12)
def handles_with_fewer_rights(w):
    files = [w.open(rights) for rights in (READ_DATA, WRITE_DATA, APPEND, EXECUTE, ATTRIBUTES, READ_DATA | APPEND)]
    reads = [w.read(100, file=file) for file in files]
    return reads + [w.write(b"rights", 50, file=file) for file in files]


@case(2)
def a_directory(w):
    file = w.c.create("", options=1, disposition=1, access=READ_DATA | ATTRIBUTES)
    return w.read(100, file=file), w.write(b"x", file=file)


@case(2)
def a_closed_file(w):
    w.c.close_file(w.file).check()
    return w.read(100), w.write(b"x")


@case(8)
def file_ids_that_are_none(w):
    ids = [b"\xff" * 16, bytes(16), b"\xff" * 8 + w.file[8:], w.file[:8] + b"\xff" * 8]
    return [w.read(100, file=file) for file in ids] + [w.write(b"x", file=file) for file in ids]


@case(0)
def a_tree_and_a_session_that_are_none(w):
    tree = {"head": {"tree_id": w.c.tree_id + 77}}
    outcomes = [w.read(100, **tree), w.write(b"x", **tree)]
    w.c.session_id += 77
    return outcomes + [w.read(100), w.write(b"x")]


@case(4)
def bytes_that_another_handle_has_locked(w):
    w.lock(w.open(READ_DATA | WRITE_DATA), 1000, 100)
    return [w.read(100, 1050), w.write(b"x" * 100, 1050), w.read(100, 1100), w.write(b"x" * 100, 900)]


@case(4)
def a_stream(w):
    file = w.c.create(f"{w.name}:stream")
    return [w.write(b"in the stream" * 1000, 3, file=file), w.read(5000, file=file), w.read(10, 50_000, file=file), w.read(20_000, file=file)]


@case(0)
def more_than_was_paid_for_and_more_than_there_may_be(w):
    outcomes = [w.read(65_537, charge=1), w.write(b"x" * 65_537, charge=1)]
    return outcomes + [w.read((8 << 20) + 1, charge=129)]


@case(4)
def an_older_channel_sequence(w):
    at = lambda n: {"head": {"status": n}}  # noqa: E731
    by_area = [w.read(100, 10, **at(0)), w.read(100, 10, **at(3))]  # the second one raises it
    inline = [w.read(100, 10, **at(2)), w.read(100, 20, **at(0)), w.read(100, 0xFFF0, **at(0xFFFF))]
    older = w.write(b"older", **at(2))
    assert (older[0], inline[0][0]) == (smb2.FILE_NOT_AVAILABLE, 0)
    return [*by_area, *inline, older, w.read(100, 30, **at(3))]


@case(2)
def an_open_that_has_another_sequence(w):
    other = w.open(READ_DATA | WRITE_DATA)
    outcomes = [w.read(100, 10, file=other, head={"status": 7}), w.read(100, 10), w.write(b"as before")]
    assert outcomes[1][0] == outcomes[2][0] == 0
    return outcomes


@case(2)
def replays(w):
    replay = {"head": {"flags": REPLAY}}
    outcomes = [w.read(100, **replay), w.write(b"again", **replay)]
    return outcomes + [w.write(b"and again", head={"flags": REPLAY, "status": 5}), w.read(100, head={"flags": REPLAY, "status": 5})]


@pytest.mark.parametrize("ask, by_area", CASES)
def test_the_same_answers(server, daemon, ask, by_area):
    ways = []
    try:
        for share in ("plain", "share"):
            ways.append(Way(daemon, server, share))
            before = sum(moved(daemon))
            outcomes = ask(ways[-1])
            ways[-1].outcomes = [(hex(status), *rest) for status, *rest in outcomes]
            wanted = before + (by_area if share == "share" else 0)
            wait_until(lambda: sum(moved(daemon)) >= wanted, 5, lambda: f"{wanted - before} by the area, not {sum(moved(daemon)) - before}")
            assert sum(moved(daemon)) == wanted
        assert [o[:2] for o in ways[0].outcomes] == [o[:2] for o in ways[1].outcomes]
        assert ways[0].outcomes == ways[1].outcomes
        assert ways[0].path.read_bytes() == ways[1].path.read_bytes()
    finally:
        for way in ways:
            way.c.close_transport()


def test_a_channel_that_another_has_outrun(server, daemon):
    """The client has raised its ChannelSequence on one channel, and a READ with the old one is still on its way on another.
    smbd would serve it, and refuses the IOCTL: that connection ends, and nobody is told FILE_NOT_AVAILABLE for a READ."""
    w = Way(daemon, server, "share", user=True)
    with w.c, rdma.client(daemon, guid=w.c.guid) as second:
        second.bind(w.c, server.user, server.password)
        warm(daemon, second, w.file)

        def read(c, sequence):
            region = rdma.expose(c, 1000, "w")
            body = smb2.read_body(w.file, 1000, 0, channel=1, info=rdma.describe(region), remaining=1000)
            assert c.wait(c.send(smb2.READ, body, status=sequence)).check().data_remaining == 1000
            assert bytes(region.memory) == DATA[:1000]

        read(w.c, 0)
        read(second, 3)
        with pytest.raises((rdma.Closed, rdma.Terminated)):
            read(w.c, 0)
        daemon.wait_for_log("was refused for a ChannelSequence that another channel has raised", 5)
        read(second, 3)
