# SPDX-License-Identifier: MIT
"""A file that one client writes and others read: what may be in each of its blocks at any moment. The client, on any number of
channels, and whoever opens its file meanwhile."""

import contextlib
import struct
import threading
import time

from lib import leases, rdma, smb2
from lib.ground import Ground
from lib.leases import RWH
from lib.traces import hear

BLOCK, BLOCKS = 4096, 64
SIZE = BLOCK * BLOCKS
DEPTH = 12  # WRITEs in flight
LONGEST = 6  # blocks of one WRITE
GONE = (rdma.Closed, rdma.Terminated, rdma.Timeout, OSError)
PATIENCE = 60  # seconds; smbd waits 35 for a client that does not answer a break


def filled(stamp, block):
    """One block as WRITE number `stamp` leaves it; no two are the same."""
    return struct.pack("<IIQ", stamp, block, stamp * 0x9E3779B97F4A7C15 % 2**64) * (BLOCK // 16)


def stamps_of(data):
    """Of which WRITE the first bytes of each block are."""
    return [struct.unpack_from("<I", data, at)[0] for at in range(0, len(data), BLOCK)]


class Model:
    """Per block what was answered last, and what is in flight: at most one WRITE of a block is."""

    def __init__(self, label):
        self.label = label
        self.answered = [0] * BLOCKS
        self.flying = {}  # block -> stamp
        self.next = 1

    def whole(self):
        return b"".join(filled(stamp, block) for block, stamp in enumerate(self.answered))

    def begin(self, chance):
        """(stamp, first block, how many), none of which is in flight; None if there is no such place."""
        first, count = chance.randrange(BLOCKS), chance.randrange(1, LONGEST + 1)
        blocks = range(first, min(BLOCKS, first + count))
        if any(block in self.flying for block in blocks):
            return None
        stamp = self.next
        self.next += 1
        self.flying.update(dict.fromkeys(blocks, stamp))
        return stamp, blocks

    def end(self, stamp, blocks):
        for block in blocks:
            assert self.flying.pop(block) == stamp
            self.answered[block] = stamp

    def may_be(self):
        """Per block the stamps that it may have now."""
        return [{stamp} | ({self.flying[b]} if b in self.flying else set()) for b, stamp in enumerate(self.answered)]

    def check(self, data, who, may_be=None):
        """The stamps found."""
        assert len(data) == SIZE, f"{self.label}: {who} has {len(data)} bytes"
        return [self._stamp(data, block, allowed, who) for block, allowed in enumerate(may_be or self.may_be())]

    def _stamp(self, data, block, allowed, who):
        mine = data[block * BLOCK : (block + 1) * BLOCK]
        for stamp in allowed:
            if mine == filled(stamp, block):
                return stamp
        stamp, place, _ = struct.unpack_from("<IIQ", mine)
        whole = "all" if place == block and mine == filled(stamp, block) else "part"
        raise AssertionError(f"{self.label}: {who} finds {whole} of WRITE {stamp} in block {block}, where {allowed} may be")


class Writer:
    """Client A: the file open with a write lease, READs and WRITEs on all of its channels."""

    def __init__(self, channels, name, model, chance, key=None):
        self.channels, self.name, self.model, self.chance = channels, name, model, chance
        self.key = key or chance.randbytes(16)
        self.flying = {}  # (channel, MessageId) -> (stamp, blocks)
        self.file = None
        self.wrote = 0
        self.repeated = set()  # stamps of WRITEs that were sent again

    def send_open(self):
        return leases.send_open(self.channels[0], self.name, RWH, self.key)[0]

    def open(self):
        """What the lease became is its state."""
        opened = leases.opened(self.channels[0].wait(self.send_open(), PATIENCE), self.key)
        self.file = opened.file_id
        return opened.state

    def send(self):
        """One more WRITE, if a place is free."""
        place = self.model.begin(self.chance)
        if place is None:
            return
        self.send_place(place)

    def send_place(self, place):
        stamp, blocks = place
        c = self.chance.choice(self.channels)
        data = b"".join(filled(stamp, block) for block in blocks)
        if isinstance(c.transport, smb2.TcpTransport) or self.chance.randrange(2):
            message_id = c.send_write(self.file, data, blocks[0] * BLOCK)
        else:
            message_id = rdma.send_channel_write(c, self.file, data, blocks[0] * BLOCK)[0]
        self.flying[c, message_id] = place

    def hear(self, seconds=0.0):
        """What has come; waits for something at most so long."""
        for c in self.channels:
            self.hear_one(c, seconds / len(self.channels))

    def hear_one(self, c, seconds):
        hear(c, seconds)
        for place in [place for place in self.flying if place[0] is c]:
            response = c.responses.pop(place[1], None)
            if response is None:
                continue
            written = self.flying.pop(place)
            if response.status == smb2.FILE_NOT_AVAILABLE and written[0] in self.repeated:
                self.send_place(written)  # what has come by the lost channel is under way at smbd still
                continue
            response.check()
            self.model.end(*written)
            self.wrote += 1

    def lose(self, c):
        """The channel is gone: what was answered on it is heard, what was not is sent again by another one, as MS-SMB2 3.2.6.1
        and 3.3.5.2.10 have it: with the ChannelSequence counted on, so that nothing that the lost one has brought is done later."""
        self.channels.remove(c)
        with contextlib.suppress(*GONE):
            while True:
                self.hear_one(c, 1)
        lost = [self.flying.pop(place) for place in [place for place in self.flying if place[0] is c]]
        c.close_transport()
        for other in self.channels:
            other.channel_sequence += 1
        self.repeated.update(stamp for stamp, _ in lost)
        for place in lost:
            self.send_place(place)

    def write_on(self, seconds=PATIENCE, stop=lambda: False):
        """Keeps so many in flight until then, or until the lease is broken. The break, if it is."""
        end = time.monotonic() + seconds
        while not stop() and time.monotonic() < end:
            if broken := self.broken():
                return broken
            while len(self.flying) < DEPTH and self.chance.randrange(8):
                self.send()
            self.hear(0.001)
        return self.broken()

    def broken(self):
        for c in self.channels:
            if c.unsolicited:
                return leases.wait_break(c)
        return None

    def wait_break(self):
        end = time.monotonic() + PATIENCE
        while not (broken := self.broken()):
            self.hear(0.002)
            assert time.monotonic() < end, f"{self.model.label}: no break"
        return broken

    def settle(self):
        """All is answered."""
        end = time.monotonic() + PATIENCE
        while self.flying:
            self.hear(0.01)
            assert time.monotonic() < end, f"{self.model.label}: no answer to {self.flying}"

    def send_acknowledge(self, broken):
        body = struct.pack("<HHI16sIQ", 36, 0, 0, broken.key, broken.new, 0)
        c = self.chance.choice(self.channels)
        return c, c.send(smb2.OPLOCK_BREAK, body)

    def read_all(self):
        c = self.chance.choice(self.channels)
        if isinstance(c.transport, smb2.TcpTransport) or self.chance.randrange(2):
            return c.read(self.file, SIZE).check().data
        return rdma.channel_read(c, self.file, SIZE)[1]

    def reset(self):
        """Its connections are gone at once."""
        for c in self.channels:
            transport = c.transport
            Ground.reset(transport if isinstance(transport, smb2.TcpTransport) else transport.iwarp)

    def close(self):
        for c in self.channels:
            with contextlib.suppress(OSError):
                c.close_transport()


class Other(threading.Thread):
    """Client B: opens the file after a while, reads all of it, and writes some blocks, in a thread. `asked` is set when its
    request is at smbd, `opened` when it was answered."""

    def __init__(self, client, name, model, delay, overwrite=()):
        super().__init__()
        self.client, self.name, self.model, self.delay, self.overwrite = client, name, model, delay, overwrite
        self.asked, self.opened = threading.Event(), threading.Event()
        self.failed = self.data = self.file = None
        self.start()

    def run(self):
        try:
            time.sleep(self.delay)
            waiting, _ = leases.send_open(self.client, self.name, leases.R)
            self.asked.set()
            self.file = leases.opened(self.client.wait(waiting, PATIENCE), None).file_id
            self.opened.set()
            self.data = self.read()
            for stamp, block in self.overwrite:
                self.client.write(self.file, filled(stamp, block), block * BLOCK).check()
        except BaseException as error:  # noqa: BLE001: it is raised where it is waited for
            self.failed = error
        finally:
            self.asked.set(), self.opened.set()

    def read(self):
        return self.client.read(self.file, SIZE).check().data

    def done(self):
        self.join(PATIENCE + 10)
        assert not self.is_alive(), f"{self.model.label}: the other client hangs"
        if self.failed:
            raise AssertionError(f"{self.model.label}: the other client: {self.failed!r}") from self.failed
        return self.data
