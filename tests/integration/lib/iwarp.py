# SPDX-License-Identifier: MIT
"""iWARP over a TCP socket, by hand: MPA (RFC 5044, RFC 6581), DDP (RFC 5041), RDMAP (RFC 5040).

One thread, no background work: whatever the peer sends is handled inside the receive calls. RDMA Writes land in
memory we exposed, RDMA Read Requests are answered from it, as an RNIC would; everything that happened is kept in
`events`. The send side can build any unit, right or wrong.
"""

import os
import select
import socket
import struct
import time
from dataclasses import dataclass, field

from lib.process import dial

# RDMAP opcodes (RFC 5040 4.3)
WRITE, READ_REQUEST, READ_RESPONSE, SEND, SEND_INV, SEND_SE, SEND_SE_INV, TERMINATE = range(8)
# DDP queue numbers (RFC 5040 4.2)
QN_SEND, QN_READ_REQUEST, QN_TERMINATE = range(3)
# Terminate layers (RFC 5040 4.8)
LAYER_RDMA, LAYER_DDP, LAYER_LLP = range(3)
# (layer, error type): RFC 5040 4.8, RFC 5041 8.2, RFC 5044 8
RDMA_CATASTROPHIC, RDMA_PROTECTION, RDMA_OPERATION = (0, 0), (0, 1), (0, 2)
DDP_CATASTROPHIC, DDP_TAGGED, DDP_UNTAGGED = (1, 0), (1, 1), (1, 2)
LLP_MPA = (2, 0)

MPA_REQUEST, MPA_REPLY = b"MPA ID Req Frame", b"MPA ID Rep Frame"
MPA_MARKERS, MPA_CRC, MPA_REJECT, MPA_ENHANCED = 0x80, 0x40, 0x20, 0x10  # S flag: RFC 6581 4.2


def _table():
    out = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        out.append(n)
    return tuple(out)


_CRC32C = _table()


def crc32c(data, crc=0):
    """CRC32C (Castagnoli), as iSCSI and MPA use it."""
    crc ^= 0xFFFFFFFF
    table = _CRC32C
    for byte in bytes(data):
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


class Closed(Exception):
    """The peer ended the TCP connection: kind is "eof" or "reset"."""

    def __init__(self, kind):
        super().__init__(f"the peer closed the connection ({kind})")
        self.kind = kind


class Terminated(Exception):
    """The peer sent an RDMAP Terminate (RFC 5040 4.8)."""

    def __init__(self, payload):
        (word,) = struct.unpack_from(">I", payload)
        self.layer, self.etype, self.code = word >> 28, word >> 24 & 15, word >> 16 & 255
        self.header_bits = word >> 13 & 7  # M, D, R
        self.rest = payload[4:]
        super().__init__(f"Terminate layer {self.layer} type {self.etype} code {self.code:#x}")

    @property
    def error(self):
        """(layer, error type, error code)"""
        return self.layer, self.etype, self.code


class Timeout(Exception):
    """Nothing came in time."""


class PeerError(AssertionError):
    """The program under test broke a rule of the protocol."""


def mpa_frame(key, flags, revision, private=b"", length=None):
    """RFC 5044 7.1: 16-byte key, flags, revision, private data length."""
    return key + struct.pack(">BBH", flags, revision, len(private) if length is None else length) + private


def enhanced_words(ird, ord_, control_ird=0, control_ord=0):
    """RFC 6581 9.1: two bits of control and 14 bits of IRD, the same for ORD."""
    return struct.pack(">HH", control_ird << 14 | ird, control_ord << 14 | ord_)


@dataclass
class MpaFrame:
    key: bytes
    flags: int
    revision: int
    private: bytes

    @property
    def ird(self):
        return struct.unpack_from(">H", self.private)[0] & 0x3FFF

    @property
    def ord(self):
        return struct.unpack_from(">H", self.private, 2)[0] & 0x3FFF


def tagged(opcode, stag, offset, payload, last=True, ddp_version=1, rdmap_version=1):
    """A tagged DDP segment (RFC 5041 4.2) with its RDMAP control byte."""
    return (
        struct.pack(
            ">BBIQ",
            0x80 | (0x40 if last else 0) | ddp_version,
            rdmap_version << 6 | opcode,
            stag,
            offset & 0xFFFFFFFFFFFFFFFF,
        )
        + payload
    )


def untagged(opcode, queue, msn, mo, payload, last=True, invalidate=0, ddp_version=1, rdmap_version=1):
    """An untagged DDP segment (RFC 5041 4.3) with its RDMAP control byte."""
    return (
        struct.pack(
            ">BBIIII",
            (0x40 if last else 0) | ddp_version,
            rdmap_version << 6 | opcode,
            invalidate,
            queue,
            msn & 0xFFFFFFFF,
            mo & 0xFFFFFFFF,
        )
        + payload
    )


def read_request(sink_stag, sink_offset, size, source_stag, source_offset):
    """RFC 5040 4.4."""
    return struct.pack(">IQIIQ", sink_stag, sink_offset, size, source_stag, source_offset)


def fpdu(ulpdu, crc=True, length=None, bad_crc=False):
    """RFC 5044 4.1: length, ULPDU, pad, CRC (little-endian, as iSCSI sends it; zero when not in use)."""
    body = struct.pack(">H", len(ulpdu) if length is None else length) + ulpdu
    body += bytes(-len(body) % 4)
    value = crc32c(body) if crc else 0
    return body + struct.pack("<I", value ^ 0x5A5A5A5A if bad_crc else value)


@dataclass
class Received:
    """One SEND."""

    data: bytes
    invalidated: int | None = None  # STag it invalidated
    segments: int = 1
    placed: int = 0  # how many `events` had happened before it


@dataclass
class Region:
    """Memory exposed to the peer. Offsets on the wire count from `base`."""

    stag: int
    memory: bytearray
    base: int
    access: str  # "r": RDMA Read, "w": RDMA Write
    valid: bool = True
    touched: list = field(default_factory=list)


class Iwarp:
    """One stream after TCP connection set-up. Use connect() or accept()."""

    def __init__(self, sock, crc=True, max_ulpdu=8192):
        self.sock, self.crc, self.max_ulpdu = sock, crc, max_ulpdu
        self.local = sock.getsockname()
        self.regions, self.events = {}, []
        self.sent_msn = {QN_SEND: 0, QN_READ_REQUEST: 0, QN_TERMINATE: 0}
        self.received_msn = {QN_SEND: 1, QN_READ_REQUEST: 1, QN_TERMINATE: 1}
        self.received = []  # complete SENDs nobody has asked for yet
        self.partial, self.partial_segments = None, 0
        self.buffer = bytearray()
        self.fpdus_sent = self.fpdus_received = 0
        self.request = self.reply = None
        self.ended = None
        self.answer_reads = True  # False: RDMA Read Requests are only noted, in held_reads
        self.held_reads = []
        self.outstanding_reads = self.most_outstanding_reads = 0

    # --- set-up -----------------------------------------------------------------------------------------------

    @classmethod
    def connect(
        cls,
        address,
        source=None,
        crc=True,
        revision=2,
        ird=16,
        ord_=16,
        private=b"",
        control=(0, 0),
        timeout=5,
        max_ulpdu=8192,
        fresh_port=True,
    ):
        """address, source: (host, port). control: RFC 6581 control bits of the IRD and ORD words."""
        sock = dial(address, timeout, source, fresh_port)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self = cls(sock, crc, max_ulpdu)
        flags = MPA_CRC if crc else 0
        if revision >= 2:
            flags |= MPA_ENHANCED
            private = enhanced_words(ird, ord_, *control) + private
        try:
            self.send_raw(mpa_frame(MPA_REQUEST, flags, revision, private))
            self.reply = self.read_mpa(timeout)
        except BaseException:
            sock.close()
            raise
        if self.reply.key != MPA_REPLY:
            raise PeerError(f"MPA reply key {self.reply.key!r}")
        if self.reply.flags & MPA_REJECT:
            sock.close()
            raise ConnectionRefusedError("MPA reply rejects the connection")
        if self.reply.revision != revision:
            raise PeerError(f"MPA reply of revision {self.reply.revision} to a request of revision {revision}")
        self.crc = bool(crc or self.reply.flags & MPA_CRC)
        return self

    @classmethod
    def accept(cls, sock, crc=True, timeout=5, private=b"", max_ulpdu=8192):
        """The responder's side of set-up, for self tests and for testing a connecting program."""
        self = cls(sock, crc, max_ulpdu)
        self.request = self.read_mpa(timeout)
        enhanced = self.request.flags & MPA_ENHANCED
        self.crc = bool(crc or self.request.flags & MPA_CRC)
        if enhanced:
            private = enhanced_words(min(16, self.request.ord), min(16, self.request.ird)) + private
        flags = (MPA_CRC if self.crc else 0) | enhanced
        self.send_raw(mpa_frame(MPA_REPLY, flags, self.request.revision, private))
        return self

    def read_mpa(self, timeout=5):
        head = self.read_exactly(20, time.monotonic() + timeout)
        flags, revision, length = struct.unpack(">BBH", head[16:])
        return MpaFrame(
            bytes(head[:16]), flags, revision, bytes(self.read_exactly(length, time.monotonic() + timeout))
        )

    # --- bytes ------------------------------------------------------------------------------------------------

    def send_raw(self, data):
        """Bytes as they are. While the peer does not take them, what it sends is kept reading (no deadlock)."""
        view = memoryview(data)
        end = time.monotonic() + 30
        self.sock.setblocking(False)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                if self._wait(select.POLLIN | select.POLLOUT, 1) & select.POLLIN:
                    self._fill(end)
                if time.monotonic() > end:
                    raise Timeout("the peer takes no more bytes") from None
            except (ConnectionResetError, BrokenPipeError):
                self._closed_while_sending()

    def _closed_while_sending(self):
        """The peer is gone; a Terminate it sent first is worth more than the reset."""
        try:
            while True:
                self._process_one(time.monotonic() + 0.5)
        except Timeout:
            raise Closed("reset") from None

    def _wait(self, events, seconds):
        """What the socket is ready for; 0 when it is for nothing in that time. Its number may be large."""
        poll = select.poll()
        poll.register(self.sock, events)
        return sum(ready for _, ready in poll.poll(seconds * 1000))

    def _fill(self, end):
        left = end - time.monotonic()
        if left <= 0 or not self._wait(select.POLLIN, left):
            raise Timeout("nothing received in time")
        try:
            data = self.sock.recv(1 << 20)
        except BlockingIOError:
            return
        except ConnectionResetError:
            raise Closed("reset") from None
        if not data:
            raise Closed("eof")
        self.buffer += data

    def read_exactly(self, count, end):
        while len(self.buffer) < count:
            self._fill(end)
        out = self.buffer[:count]
        del self.buffer[:count]
        return out

    def close(self):
        self.sock.close()

    def reset(self):
        """Ends the TCP connection with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    # --- sending ----------------------------------------------------------------------------------------------

    def send_ulpdu(self, ulpdu, **kw):
        """One FPDU around `ulpdu`. bad_crc / length: see fpdu()."""
        kw.setdefault("crc", self.crc)
        self.fpdus_sent += 1
        self.send_raw(fpdu(ulpdu, **kw))

    def frames(self, data, opcode=SEND, invalidate=0, max_ulpdu=None):
        """The FPDUs of one untagged message on the send queue, as bytes. Counts its MSN."""
        self.sent_msn[QN_SEND] += 1
        room = (max_ulpdu or self.max_ulpdu) - 18
        out = bytearray()
        offsets = range(0, len(data), room) or range(1)
        for o in offsets:
            last = o + room >= len(data)
            ulpdu = untagged(opcode, QN_SEND, self.sent_msn[QN_SEND], o, data[o : o + room], last, invalidate)
            out += fpdu(ulpdu, self.crc)
            self.fpdus_sent += 1
        return bytes(out)

    def send(self, data, opcode=SEND, invalidate=0, max_ulpdu=None):
        self.send_raw(self.frames(bytes(data), opcode, invalidate, max_ulpdu))

    def write(self, stag, offset, data, last=True):
        """RDMA Write of `data`."""
        self._tagged_message(WRITE, stag, offset, data, last)

    def _tagged_message(self, opcode, stag, offset, data, last=True):
        room = self.max_ulpdu - 14
        out = bytearray()
        for o in range(0, len(data), room) or range(1):
            final = last and o + room >= len(data)
            out += fpdu(tagged(opcode, stag, offset + o, bytes(data[o : o + room]), final), self.crc)
            self.fpdus_sent += 1
        self.send_raw(out)

    def request_read(self, sink_stag, sink_offset, size, source_stag, source_offset, msn=None):
        """RDMA Read Request: asks for the peer's memory."""
        self.sent_msn[QN_READ_REQUEST] += 1
        msn = self.sent_msn[QN_READ_REQUEST] if msn is None else msn
        body = read_request(sink_stag, sink_offset, size, source_stag, source_offset)
        self.send_ulpdu(untagged(READ_REQUEST, QN_READ_REQUEST, msn, 0, body))

    def terminate(self, layer, etype, code):
        self.sent_msn[QN_TERMINATE] += 1
        body = struct.pack(">I", layer << 28 | etype << 24 | code << 16)
        self.send_ulpdu(untagged(TERMINATE, QN_TERMINATE, self.sent_msn[QN_TERMINATE], 0, body))

    # --- memory -----------------------------------------------------------------------------------------------

    def expose(self, memory, access="rw", base=None, stag=None):
        """Lets the peer read ("r") or write ("w") `memory` (a bytearray, or a length). Returns the Region."""
        if isinstance(memory, int):
            memory = bytearray(memory)
        while not stag or stag in self.regions:
            stag = int.from_bytes(os.urandom(4), "big") | 1
        if base is None:
            base = int.from_bytes(os.urandom(5), "big")
        self.regions[stag] = Region(stag, memory, base, access)
        return self.regions[stag]

    def revoke(self, region):
        region.valid = False

    def _refuse(self, code, what):
        """What an RNIC does with an access it does not allow: Terminate, then no more."""
        self.events.append(("refused", what))
        try:
            self.terminate(LAYER_RDMA, 1, code)
            self.sock.shutdown(socket.SHUT_WR)
        except (OSError, Closed, Terminated):
            pass
        self.ended = what
        raise Closed(f"we refused: {what}")

    def _region(self, stag, offset, size, access):
        region = self.regions.get(stag)
        if region is None or not region.valid:
            self._refuse(0x00, f"invalid STag {stag:#x}")
        if access not in region.access:
            self._refuse(0x02, f"no {access} access to STag {stag:#x}")
        start = offset - region.base
        if start < 0 or start + size > len(region.memory):
            self._refuse(0x01, f"STag {stag:#x} out of bounds: {start}+{size} of {len(region.memory)}")
        return region, start

    # --- receiving --------------------------------------------------------------------------------------------

    def recv(self, timeout=5):
        """The next SEND. Raises Closed, Terminated or Timeout."""
        end = time.monotonic() + timeout
        while not self.received:
            self._process_one(end)
        return self.received.pop(0)

    def pump(self, seconds):
        """Handles whatever comes for `seconds`."""
        end = time.monotonic() + seconds
        try:
            while True:
                self._process_one(end)
        except Timeout:
            pass

    def wait_end(self, timeout=5):
        """Waits until the peer ends the stream. Returns the Terminated or Closed it ended with."""
        end = time.monotonic() + timeout
        terminated = None
        try:
            while True:
                try:
                    self._process_one(end)
                except Terminated as e:
                    terminated = e
        except Closed as e:
            return terminated or e

    def _process_one(self, end):
        if self.ended:
            raise Closed(self.ended)
        while len(self.buffer) < 2:
            self._fill(end)
        (length,) = struct.unpack_from(">H", self.buffer)
        total = 2 + length + -(2 + length) % 4 + 4
        while len(self.buffer) < total:
            self._fill(end)
        frame = bytes(self.buffer[:total])
        del self.buffer[:total]
        self.fpdus_received += 1
        if self.crc:
            (crc,) = struct.unpack_from("<I", frame, total - 4)
            if crc != crc32c(frame[:-4]):
                raise PeerError("FPDU with a wrong CRC")
        if any(frame[2 + length : total - 4]):
            raise PeerError("FPDU with a pad that is not zero")
        self._handle(frame[2 : 2 + length])

    def _handle(self, ulpdu):
        ddp, rdmap = ulpdu[0], ulpdu[1]
        if ddp & 0x3F != 1:
            raise PeerError(f"DDP control byte {ddp:#x}")
        if rdmap & 0xF0 != 0x40:
            raise PeerError(f"RDMAP control byte {rdmap:#x}")
        last, opcode = bool(ddp & 0x40), rdmap & 15
        if ddp & 0x80:
            stag, offset = struct.unpack_from(">IQ", ulpdu, 2)
            self._handle_tagged(opcode, stag, offset, ulpdu[14:], last)
        else:
            invalidate, queue, msn, mo = struct.unpack_from(">IIII", ulpdu, 2)
            self._handle_untagged(opcode, invalidate, queue, msn, mo, ulpdu[18:], last)

    def _handle_tagged(self, opcode, stag, offset, payload, last):
        if opcode not in (WRITE, READ_RESPONSE):
            raise PeerError(f"tagged segment with opcode {opcode}")
        kind = "write" if opcode == WRITE else "read_response"
        if payload or opcode == READ_RESPONSE:
            region, start = self._region(stag, offset, len(payload), "w")
            region.memory[start : start + len(payload)] = payload
            region.touched.append((start, len(payload)))
        self.events.append((kind, stag, offset, len(payload), last))

    def _handle_untagged(self, opcode, invalidate, queue, msn, mo, payload, last):
        expected = {READ_REQUEST: QN_READ_REQUEST, TERMINATE: QN_TERMINATE}.get(opcode, QN_SEND)
        if queue != expected:
            raise PeerError(f"opcode {opcode} on queue {queue}")
        if msn != self.received_msn[queue]:
            raise PeerError(f"queue {queue}: MSN {msn} where {self.received_msn[queue]} was due")
        if last:
            self.received_msn[queue] += 1
        if opcode == TERMINATE:
            raise Terminated(payload)
        if opcode == READ_REQUEST:
            if mo or not last or len(payload) != 28:
                raise PeerError("Read Request in more than one segment, or of a wrong size")
            self._handle_read_request(*struct.unpack(">IQIIQ", payload))
            return
        if opcode not in (SEND, SEND_INV, SEND_SE, SEND_SE_INV):
            raise PeerError(f"untagged segment with opcode {opcode}")
        if self.partial is None:
            self.partial, self.partial_segments = bytearray(), 0
        if mo != len(self.partial):
            raise PeerError(f"message offset {mo} where {len(self.partial)} was due")
        self.partial += payload
        self.partial_segments += 1
        if last:
            stag = None
            if opcode in (SEND_INV, SEND_SE_INV):
                stag = invalidate
                region = self.regions.get(stag)
                if region is None or not region.valid:
                    self._refuse(0x09, f"STag {stag:#x} cannot be invalidated")
                region.valid = False
                self.events.append(("invalidate", stag))
            self.received.append(Received(bytes(self.partial), stag, self.partial_segments, len(self.events)))
            self.partial = None

    def _handle_read_request(self, sink_stag, sink_offset, size, source_stag, source_offset):
        self.events.append(("read", source_stag, source_offset, size))
        self.held_reads.append((sink_stag, sink_offset, size, source_stag, source_offset))
        self.most_outstanding_reads = max(self.most_outstanding_reads, len(self.held_reads))
        if self.answer_reads:
            self.answer_held_reads()

    def answer_held_reads(self, count=None):
        """Read Responses for the Read Requests not answered yet, oldest first."""
        done = 0
        while self.held_reads and (count is None or done < count):
            sink_stag, sink_offset, size, source_stag, source_offset = self.held_reads.pop(0)
            region, start = self._region(source_stag, source_offset, size, "r")
            data = region.memory[start : start + size]
            self._tagged_message(READ_RESPONSE, sink_stag, sink_offset, data)
            done += 1
        return done

    def placed(self, stag):
        """Bytes the peer has written to `stag` with RDMA Write."""
        return sum(e[3] for e in self.events if e[0] == "write" and e[1] == stag)

    def fetched(self, stag):
        """Bytes the peer has asked for from `stag` with RDMA Read."""
        return sum(e[3] for e in self.events if e[0] == "read" and e[1] == stag)

    def fetched_total(self):
        """Bytes the peer has asked for with RDMA Read."""
        return sum(e[3] for e in self.events if e[0] == "read")
