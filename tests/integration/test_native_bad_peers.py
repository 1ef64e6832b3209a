# SPDX-License-Identifier: MIT
"""Upstream mode "channel" against peers that lie, flood, stall or come uninvited: they end their own channels and nobody
else's. The peers here are made by hand (lib/native.py); beside each one a bystander is served by another process."""

import contextlib
import os
import socket
import struct
import threading
import time
import uuid

import pytest

from lib import native as frames
from lib import rdma, smb2
from lib.process import free_port, wait_until

AREA = 4 << 20


class World:
    """A daemon with a main process by hand. `served` is a client whose process this test plays; `bystander` another."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.workers = daemon.workers()
        self.main = frames.Main(daemon)
        self.bystander, self.other = self.connect()

    def connect(self, attach=True, guid=None):
        """(client, its channel): the client has sent its NEGOTIATE and waits."""
        c = rdma.client(self.daemon, guid=guid or uuid.uuid4().bytes)
        c.sent = c.send(smb2.NEGOTIATE, c.negotiate_body(), credits=1)
        return c, frames.Channel.open(self.main.start(), attach=attach)

    def works(self):
        """The bystander and a new client get answers from their processes; no worker has died."""
        assert self.daemon.workers() == self.workers
        answered(self.bystander, self.other)
        c, channel = self.connect()
        answered(c, channel)
        ended(c, channel)

    def close(self):
        self.other.close()
        self.main.close()
        self.bystander.close_transport()


def answered(c, channel):
    """Something that looks like an answer reaches the client: what it is is between the two of them."""
    text = os.urandom(100)
    channel.send(frames.REPLY, text)
    assert c.transport.recv_pdu(5).data == text


def ended(c, channel):
    channel.close()
    rdma.assert_terminated(c)


@pytest.fixture
def world(make_daemon, smbd):
    channel = {"area_bytes": AREA, "operations": 8}
    daemon = make_daemon(smbd.port, pool={"affinity": "spread", "upstream": {"mode": "channel", "channel": channel}})
    with contextlib.closing(World(daemon)) as w:
        yield w


def cause(world, text):
    world.daemon.wait_for_log(text)


# --- what the peer is told ---


def test_facts_and_messages_are_what_the_client_sent(world):
    c = rdma.client(world.daemon, source=("127.0.0.9", 0))
    body = c.negotiate_body()
    c.send(smb2.NEGOTIATE, body, credits=1)
    start = world.main.start()
    assert start[2] == c.guid
    with frames.Channel.open(start) as channel:
        assert channel.guid == c.guid and channel.negotiate[:4] == b"\xfeSMB" and channel.negotiate.endswith(body)
        assert (channel.area_bytes, channel.operations, channel.max_read_write) == (AREA, 8, 8 << 20)
        answered(c, channel)
        for size in (1, 4000, 100_000, 3_000_000):
            data = os.urandom(size)
            thread = threading.Thread(target=c.transport.send_pdu, args=[data], daemon=True)
            thread.start()
            assert channel.expect(frames.PDU, 10)[3] == data
            thread.join(5)
            # Before a session the worker holds no more than a little of an answer: the client takes it meanwhile.
            answering = threading.Thread(target=channel.send, args=[frames.REPLY, data], daemon=True)
            answering.start()
            assert c.transport.recv_pdu(10).data == data
            answering.join(5)
    rdma.assert_terminated(c)


def test_rdma_moves_bytes_between_the_area_and_the_clients_memory(world):
    c, channel = world.connect()
    answered(c, channel)
    source = rdma.expose(c, bytearray(os.urandom(900_000)), "r")
    target = rdma.expose(c, 900_000, "w")

    def piece(region, offset, length):
        return struct.unpack("<QII", rdma.describe(region, offset, length))

    # Out of order, in pieces, with descriptors longer than what is moved.
    channel.rdma(frames.RDMA_READ, 11, 1000, 600_000, [piece(source, 300_000, 600_000)])
    channel.rdma(frames.RDMA_READ, 12, 700_000, 300_000, [piece(source, 0, 1), piece(source, 1, 400_000)])
    with serving(c):
        assert [channel.expect(frames.DONE)[2] for _ in range(2)] == [11, 12]
    assert channel.area[1000:601_000] == bytes(source.memory[300_000:])
    assert channel.area[700_000:1_000_000] == bytes(source.memory[:300_000])
    channel.rdma(frames.RDMA_WRITE, 13, 700_000, 300_000, [piece(target, 0, 300_000)])
    channel.rdma(frames.RDMA_WRITE, 14, 1000, 600_000, [piece(target, 300_000, 600_000)])
    channel.send(frames.REPLY, b"written")
    assert c.transport.recv_pdu(5).data == b"written"  # and all of it was there before
    assert bytes(target.memory) == bytes(source.memory)
    assert sorted(channel.expect(frames.DONE)[2] for _ in range(2)) == [13, 14]
    ended(c, channel)
    world.works()


@contextlib.contextmanager
def serving(c):
    """The client's side answers RDMA READs while somebody else waits for them."""
    over = threading.Event()

    def run():
        while not over.is_set():
            with contextlib.suppress(rdma.Timeout):
                c.transport.recv_pdu(0.1)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(5)


# --- lies ---

LIES = {
    "an offset beyond the area": lambda ch: ch.rdma(frames.RDMA_READ, 1, AREA + 1, 1, [(0, 1, 1)]),
    "a length beyond the area": lambda ch: ch.rdma(frames.RDMA_WRITE, 1, AREA - 10, 11, [(0, 1, 11)]),
    "an offset that wraps": lambda ch: ch.rdma(frames.RDMA_WRITE, 1, 2**64 - 5, 10, [(0, 1, 10)]),
    "no length": lambda ch: ch.rdma(frames.RDMA_READ, 1, 0, 0, [(0, 1, 1)]),
    "no descriptors": lambda ch: ch.rdma(frames.RDMA_READ, 1, 0, 5, []),
    "descriptors too small": lambda ch: ch.rdma(frames.RDMA_READ, 1, 0, 5, [(0, 1, 2), (0, 1, 2)]),
    "descriptors that are not there": lambda ch: ch.send(frames.RDMA_READ, bytes(16), count=9),
    "too many descriptors": lambda ch: ch.send(frames.RDMA_READ, bytes(16 + 16 * 513), count=513),
    "memory the client did not offer": lambda ch: ch.rdma(frames.RDMA_WRITE, 1, 0, 5, [(0, 0xDEAD, 5)]),
    "more operations than there may be": lambda ch: [
        ch.rdma(frames.RDMA_READ, n, 0, 5, [(0, 0xDEAD, 5)]) for n in range(9)
    ],
    "an empty reply": lambda ch: ch.send(frames.REPLY, b""),
    "a reply beyond what the client takes": lambda ch: ch.send(frames.REPLY, bytes(ch.max_pdu + 1)),
    "more tokens than fit": lambda ch: ch.send(frames.REPLY, bytes(100), count=17),
    "a worker's frame": lambda ch: ch.send(frames.PDU, b"x"),
    "a second hello": lambda ch: ch.send(frames.HELLO, bytes(20)),
    "another version": lambda ch: ch.attach(version=7),
    "no frame": lambda ch: ch.raw(b"GET / HTTP/1.1\r\n\r\n"),
    "a length beyond all": lambda ch: ch.raw(struct.pack("<IHHQ", 0xFFFFFFFF, frames.REPLY, 0, 0)),
    "an end in the middle of a frame": lambda ch: (ch.raw(struct.pack("<IHHQ", 100, frames.REPLY, 0, 0) + b"x"), ch.close()),
    "an end in the middle of a header": lambda ch: (ch.raw(b"\x01\x00"), ch.close()),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_ends_its_own_channel(world, lie):
    c, channel = world.connect()
    answered(c, channel)
    with contextlib.suppress(frames.Ended):
        LIES[lie](channel)
    rdma.assert_terminated(c)
    if channel.sock.fileno() >= 0:
        channel.wait_end()
        channel.close()
    world.works()


def test_a_sibling_channel_of_the_same_process_goes_on(world):
    """Both are served by this process; the first one's lie is not the second one's."""
    c, channel = world.connect()
    answered(c, channel)
    sibling = rdma.client(world.daemon, guid=c.guid)
    sibling.send(smb2.NEGOTIATE, sibling.negotiate_body(), credits=1)
    with channel.adopt() as adopted:
        answered(sibling, adopted)
        channel.send(frames.PDU, b"x")
        rdma.assert_terminated(c)
        answered(sibling, adopted)
        channel.close()
        wait_until(lambda: [x["channels"] for x in world.daemon.ctl("clients")] == [1, 1], 2, "a channel each")
    rdma.assert_terminated(sibling)
    world.works()


# --- who does not do what it should ---


def test_who_does_not_attach_or_says_something_first_is_not_served_to(world):
    c, channel = world.connect(attach=False)
    channel.send(frames.REPLY, b"early")
    rdma.assert_terminated(c)
    channel.close()
    c, channel = world.connect(attach=False)
    rdma.assert_terminated(c, within=8)
    channel.wait_end()
    channel.close()
    cause(world, "waiting for a server process to attach to the channel")
    world.works()


def test_a_process_that_takes_no_further_channel_is_passed_over(world):
    """Asked by one worker after the other, for a second each; then the main process is to start another one."""
    c, channel = world.connect()
    answered(c, channel)
    second = rdma.client(world.daemon, guid=c.guid)
    second.send(smb2.NEGOTIATE, second.negotiate_body(), credits=1)
    channel.expect(frames.CHANNEL)
    start = world.main.start(timeout=4)
    assert start[2] == c.guid
    with frames.Channel.open(start) as other:
        answered(second, other)
        answered(c, channel)
        late = frames.Channel(socket.socket(fileno=channel.fds.pop()))
        with contextlib.suppress(frames.Ended):
            late.attach()  # too late: nobody is there any more
        late.wait_end()
        late.close()
        answered(second, other)
    ended(c, channel)
    rdma.assert_terminated(second)
    world.works()


def test_a_peer_that_reads_nothing_costs_its_client_only(world):
    c, channel = world.connect()
    answered(c, channel)
    failed = []

    def flood():
        try:
            for _ in range(200):
                c.transport.send_pdu(bytes(500_000), timeout=3)
        except Exception as e:  # its credits are used up
            failed.append(e)

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive() and failed
    world.works()
    c.close_transport()
    channel.close()


def test_a_peer_that_floods_its_client_is_held_back(world):
    """The client takes nothing: the peer is not read beyond the connection's memory, and the client is let go."""
    c, channel = world.connect()
    answered(c, channel)
    channel.sock.settimeout(1)
    sent = 0
    with contextlib.suppress(frames.Ended):
        for _ in range(400):
            channel.send(frames.REPLY, bytes(1 << 20))
            sent += 1
    assert sent < 100
    world.works()
    channel.close()
    c.close_transport()


# --- who comes uninvited ---


def test_cookies_are_good_once_and_for_a_while(world):
    c = rdma.client(world.daemon)
    c.send(smb2.NEGOTIATE, c.negotiate_body(), credits=1)
    number, cookie, guid, path = world.main.start()
    for junk in (bytes(16), os.urandom(16), cookie[:-1] + bytes([cookie[-1] ^ 1])):
        with pytest.raises(frames.Ended):
            frames.Channel.open((number, junk, guid, path))
    for junk in (b"GET / HTTP/1.1\r\n\r\n" + bytes(30), struct.pack("<IHHQ", 20, frames.HELLO, 0, 0) + bytes(20)):
        stranger = frames.connected(path)
        stranger.raw(junk)
        stranger.wait_end()
        stranger.close()
    with frames.Channel.open((number, cookie, guid, path)) as channel:
        with pytest.raises(frames.Ended):
            frames.Channel.open((number, cookie, guid, path))
        answered(c, channel)
    rdma.assert_terminated(c)
    late = rdma.client(world.daemon)
    late.send(smb2.NEGOTIATE, late.negotiate_body(), credits=1)
    start = world.main.start()
    rdma.assert_terminated(late, within=8)
    with pytest.raises(frames.Ended):
        frames.Channel.open(start)
    world.works()


def test_many_who_say_nothing_at_the_door(world):
    paths = [world.daemon.directory / "run" / f"channel-{slot}.{world.daemon.pid}" for slot in range(2)]
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}
    silent = []
    for path in paths * 80:
        # As many as may wait at once are refused for a moment.
        silent.append(wait_until(lambda path=path: connected(path), 5, "it is let in"))
    world.works()
    for stranger in silent:
        stranger.close()
    world.works()


def connected(path):
    with contextlib.suppress(BlockingIOError):
        return frames.connected(path)


def test_one_main_process_at_a_time_and_only_in_this_mode(world, make_daemon, smbd):
    with frames.Main(world.daemon, wanted=frames.REFUSED) as refused:
        assert refused.answer[1] == 16  # EBUSY
        refused.wait_end()
    assert world.daemon.ctl("status")["main_process"] == os.getpid()
    elsewhere = make_daemon(smbd.port)
    stranger = frames.connected(elsewhere.directory / "run" / "control")
    stranger.raw(b'{"command":"register"}\n')
    assert b"unknown command" in stranger.sock.recv(1000)
    stranger.close()
    world.works()


def test_a_main_process_that_says_something_else_is_let_go(world):
    world.main.send(frames.START, bytes(100))
    world.main.wait_end()
    world.main.close()
    wait_until(lambda: world.daemon.ctl("status")["main_process"] is None, 1, "it is not registered")
    world.main = frames.Main(world.daemon)
    world.works()


def test_a_start_that_failed_is_told_to_the_client_at_once(world):
    c = rdma.client(world.daemon)
    c.send(smb2.NEGOTIATE, c.negotiate_body(), credits=1)
    number = world.main.start()[0]
    world.main.send(frames.FAILED, count=12, number=number + 1000)  # of nobody
    world.main.send(frames.FAILED, count=12, number=number)
    rdma.assert_terminated(c, within=2)
    cause(world, "the server's main process could not start one: Cannot allocate memory")
    world.works()


# --- who floods ---


def flood(stream, data, seconds):
    """Sends it again and again; True if it was let."""
    stream.sock.settimeout(0.5)
    end = time.monotonic() + seconds
    at = 0
    while time.monotonic() < end:
        try:
            at = (at + stream.sock.send(data[at:])) % len(data)
        except TimeoutError:
            pass
        except OSError:
            return False
    return True


def lines(world):
    return world.daemon.log.count("\n")


def test_saying_attached_again_and_again_is_for_nothing(world):
    c, channel = world.connect()
    answered(c, channel)
    before = lines(world)
    again = struct.pack("<IHHQI", 4, frames.ATTACHED, 0, 0, frames.VERSION)
    assert flood(channel, again * 20000, 2)
    world.works()
    assert lines(world) - before < 50
    channel.sock.settimeout(5)
    c.close_transport()
    channel.close()


def test_a_channel_that_changes_hands_without_end_is_ended(world):
    c, channel = world.connect()
    answered(c, channel)
    before = lines(world)
    for _ in range(40):  # each time as another process, and as this one again
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(frames.Ended):
                channel.attach()
            os._exit(0)
        os.waitpid(pid, 0)
        with contextlib.suppress(frames.Ended):
            channel.attach()
    rdma.assert_terminated(c)
    cause(world, "too many processes have attached to the server's channel")
    world.works()
    assert lines(world) - before < 50
    channel.close()


@pytest.mark.parametrize("number", ["of nobody", "of a client"])
def test_a_main_process_that_says_failed_without_end(world, number):
    c = rdma.client(world.daemon)
    c.send(smb2.NEGOTIATE, c.negotiate_body(), credits=1)
    start = world.main.start()
    before = lines(world)
    number = start[0] if number == "of a client" else start[0] + 1000
    failed = struct.pack("<IHHQ", 0, frames.FAILED, 5, number)
    over = threading.Event()
    thread = threading.Thread(target=lambda: [flood(world.main, failed * 20000, 2), over.set()], daemon=True)
    thread.start()
    asked = 0
    while not over.is_set():
        assert world.daemon.ctl("status")["phase"] == "serving"  # within its time
        asked += 1
    thread.join(5)
    assert asked > 3
    world.main.sock.settimeout(5)
    world.works()
    assert lines(world) - before < 50
    c.close_transport()


def test_answers_that_nobody_reads_are_bounded(world):
    """RDMA operations are done at once, and the peer reads none of the answers."""
    c, channel = world.connect()
    answered(c, channel)
    target = rdma.expose(c, 4096, "w")
    one = struct.pack("<IHHQ", 32, frames.RDMA_WRITE, 1, 7) + struct.pack("<QII", 0, 1, 0)
    one += struct.pack("<QII", *struct.unpack("<QII", rdma.describe(target, 0, 1)))
    def moved(number):
        """One more operation, and whether it was done: so there is never more under way than may be."""
        mark = 1 + number % 250
        channel.area[0:1] = bytes([mark])
        channel.raw(one)
        end = time.monotonic() + 1
        while target.memory[0] != mark and time.monotonic() < end:
            time.sleep(0)
        return target.memory[0] == mark

    with serving(c):
        done = next(number for number in range(20_000) if not moved(number))  # it is not read any further
    assert done > 1000
    world.works()
    channel.close()
    c.close_transport()


def test_channels_that_nobody_takes_cost_a_bounded_number_of_descriptors(world):
    """A client in the middle of a message holds what is for its process back: one further channel, and no more."""
    c, channel = world.connect()
    answered(c, channel)
    c.transport.send_message(b"\xfeSMB" + bytes(60), remaining=1000)
    wait_until(lambda: world.daemon.ctl("connections"), 1, "connections")
    count = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in world.workers.values())
    for _ in range(20):
        further = rdma.client(world.daemon, guid=c.guid)
        further.send(smb2.NEGOTIATE, further.negotiate_body(), credits=1)
        further.close_transport()

    def left():
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in world.workers.values()) - count

    wait_until(lambda: left() <= 2, 6, lambda: f"{left()} descriptors more")
    ended(c, channel)


def test_a_second_daemon_in_the_same_place_leaves_the_first_alone(world, make_daemon, smbd):
    with pytest.raises(AssertionError, match="another daemon uses it"):
        make_daemon(smbd.port, pool={**world.daemon.pool, "listeners": [{"address": "127.0.0.1", "port": free_port()}]})
    world.works()
