# SPDX-License-Identifier: MIT
"""SMB Direct (MS-SMBD) from the client's side over an Iwarp stream.

Everything can be done by hand (send_message, receive_message with every field), or automatically (negotiate,
send_pdu, recv_pdu), where credits are counted on both sides. Each message of the server's is checked against
MS-SMBD whoever asked for it: PeerError says which rule it broke.
"""

import struct
import time
from dataclasses import dataclass, field

from lib.iwarp import Closed, Iwarp, PeerError, Terminated, Timeout

VERSION = 0x0100
RESPONSE_REQUESTED = 0x0001
STATUS_NOT_SUPPORTED = 0xC00000BB
STATUS_INSUFFICIENT_RESOURCES = 0xC000009A
SERVER_MAX_FRAGMENTED = 8 * 1024 * 1024 + 128 * 1024  # the default of ours


def negotiate_request(
    min_version=VERSION,
    max_version=VERSION,
    credits_requested=10,
    preferred_send_size=1024,
    max_receive_size=1024,
    max_fragmented_size=131072,
    reserved=0,
):
    """MS-SMBD 2.2.1. Defaults: the worked example of section 4.1."""
    return struct.pack(
        "<HHHHIII",
        min_version,
        max_version,
        reserved,
        credits_requested,
        preferred_send_size,
        max_receive_size,
        max_fragmented_size,
    )


@dataclass
class NegotiateResponse:
    """MS-SMBD 2.2.2."""

    min_version: int
    max_version: int
    negotiated_version: int
    reserved: int
    credits_requested: int
    credits_granted: int
    status: int
    max_read_write_size: int
    preferred_send_size: int
    max_receive_size: int
    max_fragmented_size: int

    @classmethod
    def parse(cls, data):
        if len(data) != 32:
            raise PeerError(f"negotiate response of {len(data)} bytes")
        return cls(*struct.unpack("<HHHHHHIIIII", data))


def data_message(
    payload=b"",
    credits_requested=255,
    credits_granted=0,
    flags=0,
    remaining=0,
    offset=None,
    length=None,
    reserved=0,
    padding=None,
    trailer=b"",
):
    """MS-SMBD 2.2.3, every field free. Defaults make a correct message."""
    if offset is None:
        offset = 24 if payload or remaining else 0
    if padding is None:
        padding = bytes(max(0, min(offset, 4096) - 20)) if payload or remaining else b""
    length = len(payload) if length is None else length
    header = struct.pack("<HHHHIII", credits_requested, credits_granted, flags, reserved, remaining, offset, length)
    return header + padding + payload + trailer


def descriptors(*parts):
    """Buffer Descriptor V1 array (MS-SMBD 2.2.3.1): parts are (offset, token, length)."""
    return b"".join(struct.pack("<QII", *part) for part in parts)


def describe(region, start=0, length=None, splits=()):
    """Descriptors of a Region's memory from `start`; split at the byte counts in `splits`."""
    length = len(region.memory) - start if length is None else length
    edges = [0, *splits, length]
    return descriptors(*((region.base + start + a, region.stag, b - a) for a, b in zip(edges, edges[1:])))


@dataclass
class Message:
    """A received data message."""

    credits_requested: int
    credits_granted: int
    flags: int
    remaining: int
    offset: int
    length: int
    data: bytes
    size: int
    invalidated: int | None = None
    at: float = 0.0

    @property
    def empty(self):
        return self.length == 0 and self.remaining == 0


@dataclass
class Pdu:
    """A reassembled upper-layer message."""

    data: bytes
    fragments: list = field(default_factory=list)

    @property
    def invalidated(self):
        """STags its SENDs invalidated."""
        return [m.invalidated for m in self.fragments if m.invalidated is not None]


class SmbDirect:
    """The client's end of one SMB Direct connection."""

    def __init__(self, iwarp, receive_credits=255, send_target=255):
        self.iwarp = iwarp
        self.receive_credit_target = receive_credits  # how many messages we let the server send at once
        self.send_target = send_target  # CreditsRequested in our messages
        self.send_credits = 0  # what the server lets us send
        self.granted = 0  # what we have granted and the server has not used
        self.response = None
        self.response_at = None
        self.max_send_size = self.max_receive_size = 1024
        self.max_fragmented_size = 131072
        self.auto_grant = True  # automatic mode: refill what we granted
        self.auto_answer = True  # automatic mode: answer RESPONSE_REQUESTED
        self.messages = []  # every data message received
        self.empties_received = 0
        self._pdu, self._left = None, 0
        self._ready = []
        self.total_granted_by_server = 0
        self.sent = 0

    @classmethod
    def connect(cls, address, source=None, crc=True, receive_credits=255, send_target=255, iwarp=None, **negotiate):
        """iWARP set-up and negotiation. `negotiate`: fields of the request. iwarp: options of Iwarp.connect."""
        self = cls(Iwarp.connect(address, source=source, crc=crc, **(iwarp or {})), receive_credits, send_target)
        try:
            self.negotiate(**negotiate)
        except BaseException:
            self.iwarp.close()
            raise
        return self

    @property
    def local(self):
        """ "ADDR:PORT" as the server's log names us."""
        return "%s:%d" % self.iwarp.local[:2]

    def close(self):
        self.iwarp.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    # --- negotiation ------------------------------------------------------------------------------------------

    def negotiate(self, timeout=5, trailer=b"", **fields):
        """Sends the request and checks the response (MS-SMBD 3.1.5.7). Returns it, refusal or not."""
        fields.setdefault("credits_requested", self.send_target)
        fields.setdefault("preferred_send_size", 8192)
        fields.setdefault("max_receive_size", 8192)
        fields.setdefault("max_fragmented_size", SERVER_MAX_FRAGMENTED)
        self.iwarp.send(negotiate_request(**fields) + trailer)
        return self.read_negotiate_response(fields, timeout)

    def read_negotiate_response(self, fields, timeout=5):
        r = self.response = NegotiateResponse.parse(self.iwarp.recv(timeout).data)
        self.response_at = time.monotonic()
        if r.min_version != VERSION or r.max_version != VERSION or r.reserved:
            raise PeerError(f"versions in {r}")
        if r.status:
            return r
        broken = [
            (r.negotiated_version != VERSION, "NegotiatedVersion"),
            (r.credits_requested == 0, "CreditsRequested is zero"),
            (r.credits_granted == 0, "CreditsGranted is zero"),
            (r.credits_granted > fields["credits_requested"], "more credits than requested"),
            (r.preferred_send_size > fields["max_receive_size"], "PreferredSendSize over our MaxReceiveSize"),
            (r.max_receive_size < 128, "MaxReceiveSize"),
            (r.max_receive_size > max(128, fields["preferred_send_size"]), "MaxReceiveSize over what we prefer"),
            (r.max_fragmented_size < 131072, "MaxFragmentedSize"),
            (r.max_read_write_size < 65536, "MaxReadWriteSize"),
        ]
        for wrong, what in broken:
            if wrong:
                raise PeerError(f"negotiate response: {what}: {r}")
        self.send_credits = self.total_granted_by_server = r.credits_granted
        self.max_send_size = r.max_receive_size
        self.max_receive_size = min(fields["max_receive_size"], 1 << 20)
        self.max_fragmented_size = fields["max_fragmented_size"]
        return r

    # --- by hand ----------------------------------------------------------------------------------------------

    def send_message(self, payload=b"", **fields):
        """One data message with any fields. Counts credits as the server will."""
        fields.setdefault("credits_requested", self.send_target)
        message = data_message(payload, **fields)
        self.send_credits -= 1
        self.sent += 1
        self.granted += fields.get("credits_granted", 0)
        self.iwarp.send(message)
        return message

    def receive_message(self, timeout=5):
        """The next data message, checked (MS-SMBD 3.1.5.8 from the other side), credits counted."""
        received = self.iwarp.recv(timeout)
        data = received.data
        if len(data) < 20:
            raise PeerError(f"data message of {len(data)} bytes")
        if len(data) > self.max_receive_size:
            raise PeerError(f"data message of {len(data)} bytes; our MaxReceiveSize is {self.max_receive_size}")
        requested, granted, flags, reserved, remaining, offset, length = struct.unpack_from("<HHHHIII", data)
        m = Message(requested, granted, flags, remaining, offset, length, b"", len(data), received.invalidated)
        m.at = time.monotonic()
        continues = length + remaining == self._left
        for wrong, what in (
            (requested == 0, "CreditsRequested is zero"),
            (flags & ~RESPONSE_REQUESTED, "unknown flags"),
            (reserved, "Reserved is not zero"),
            (offset % 8, "DataOffset is not aligned"),
            (offset + length > len(data), "data past the end"),
            (length and offset < 24, "data over the header"),
            (m.empty and (offset or len(data) != 20), "empty message with an offset or more than 20 bytes"),
            (length + remaining > self.max_fragmented_size, "longer than our MaxFragmentedSize"),
            (self.granted <= 0, "sent without a credit"),
            (m.empty and self._left, "empty message inside a fragmented one"),
            (self._left and not m.empty and not continues, f"RemainingDataLength; {self._left} were left"),
        ):
            if wrong:
                raise PeerError(f"{what}: {m}")
        self.granted -= 1
        self.send_credits += granted
        self.total_granted_by_server += granted
        if self.send_credits > 65535:
            raise PeerError("granted over 65535 credits")
        m.data = data[offset : offset + length]
        self.messages.append(m)
        if m.empty:
            self.empties_received += 1
        else:
            if self._pdu is None:
                self._pdu = Pdu(bytearray())
            self._pdu.data += m.data
            self._pdu.fragments.append(m)
            self._left = remaining
            if not remaining:
                self._pdu.data = bytes(self._pdu.data)
                self._ready.append(self._pdu)
                self._pdu = None
        return m

    # --- automatically ----------------------------------------------------------------------------------------

    def grantable(self):
        return max(0, self.receive_credit_target - self.granted) if self.auto_grant else 0

    def grant(self, count=None, **fields):
        """An empty message that grants (`count`, or all we may)."""
        count = self.grantable() if count is None else count
        return self.send_message(credits_granted=count, **fields)

    def pump_one(self, timeout, sending=False):
        """Receives one message and does what automatic mode does about it. sending: data waits, and will carry
        what there is to grant and to answer."""
        m = self.receive_message(timeout)
        if sending:
            return m
        answer = self.auto_answer and m.flags & RESPONSE_REQUESTED
        low = self.auto_grant and self.granted <= max(1, self.receive_credit_target // 4) and not self._ready
        if m.empty and self.grantable() <= 1 and self.receive_credit_target > 1:
            low = False  # else two sides bounce empty messages for ever
        starving = self.auto_grant and self.granted == 0
        if answer or low or starving:
            # The last credit may only be used to grant (MS-SMBD 3.1.5.1).
            if self.send_credits > 1 or (self.send_credits == 1 and self.grantable()):
                self.grant()
        return m

    def pump(self, seconds):
        """Answers whatever comes for `seconds`."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                self.pump_one(left)
            except Timeout:
                return

    def wait_credit(self, end=None):
        """Receives until we may send a message. The last credit may only be used to grant (MS-SMBD 3.1.5.1); with
        data waiting we must then grant one more than our target, if need be (3.1.5.9): see send_pdu."""
        end = end or time.monotonic() + 20
        while self.send_credits == 0 or (self.send_credits == 1 and not self.auto_grant):
            left = end - time.monotonic()
            if left <= 0:
                raise Timeout(f"no send credit ({self.send_credits} left)")
            self.pump_one(left, sending=True)

    def send_pdu(self, data, fragment=None, timeout=20):
        """An upper-layer message in as many data messages as it needs. fragment: payload bytes in each."""
        end = time.monotonic() + timeout
        room = min(fragment or 1 << 32, self.max_send_size - 24)
        for start in range(0, len(data), room):
            self.wait_credit(end)
            part = data[start : start + room]
            grant = self.grantable() or (1 if self.auto_grant and self.send_credits == 1 else 0)
            self.send_message(part, credits_granted=grant, remaining=len(data) - start - len(part))

    def recv_pdu(self, timeout=20):
        """The next upper-layer message, as a Pdu."""
        end = time.monotonic() + timeout
        while not self._ready:
            left = end - time.monotonic()
            if left <= 0:
                raise Timeout("no upper-layer message in time")
            self.pump_one(left)
        return self._ready.pop(0)

    def wait_end(self, timeout=5):
        """Waits until the server ends the connection, still checking what it sends. Terminated or Closed."""
        end = time.monotonic() + timeout
        terminated = None
        while True:
            try:
                self.receive_message(max(0.001, end - time.monotonic()))
            except Terminated as e:
                terminated = e
            except Closed as e:
                return terminated or e

    def ended(self, timeout=5):
        """True if the server ends the connection within `timeout`."""
        try:
            return self.wait_end(timeout)
        except Timeout:
            return None
