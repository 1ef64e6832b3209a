# SPDX-License-Identifier: MIT
"""Where an attack takes place: what it may use, how long it lasts, and what it leaves behind (nothing)."""

import contextlib
import functools
import random
import socket
import struct
import time

from lib import smb2
from lib.iwarp import Closed, Iwarp, Terminated, Timeout, fpdu
from lib.process import dial
from lib.smbdirect import RESPONSE_REQUESTED, SmbDirect, data_message

# What may happen to a client that the server turns away or ends: an attacker goes on.
ENDED = (Closed, Terminated, Timeout, OSError)


class Ground:
    """daemon, smbd: what is attacked. Loops of an attack ask over(); what it opened is reset at the end."""

    def __init__(self, daemon, smbd, seconds, seed, source=None, connect=None):
        self.daemon, self.smbd, self.connect = daemon, smbd, connect
        self.random = random.Random(seed)
        self.until = time.monotonic() + seconds
        self.held = []
        self.did = 0  # what the attack counts, for the report
        self._sources, self._source = 0, source  # source(n): the n-th address of the attackers'

    def over(self):
        return time.monotonic() >= self.until

    def rest(self, seconds=None):
        """Waits (as long as given, at most to the end)."""
        left = max(0, self.until - time.monotonic())
        time.sleep(left if seconds is None else min(left, seconds))

    @property
    def address(self):
        return self.daemon.address, self.daemon.port

    def source(self, clients=8):
        """An address of the attackers', in turn."""
        self._sources += 1
        if self._source:
            return self._source(self._sources), 0
        return f"127.0.{66 + self._sources % clients // 200}.{1 + self._sources % clients % 200}", 0

    def hold(self, connection):
        self.held.append(connection)
        return connection

    # --- connections, each at one stage of its beginning ---

    def tcp(self, clients=8):
        s = self.hold(dial(self.address, 1, self.source(clients), fresh_port=False))
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def iwarp(self, clients=8):
        return self.hold(Iwarp.connect(self.address, source=self.source(clients), crc=False, timeout=2, fresh_port=False))

    def smbdirect(self, clients=8, receive_credits=255, **fields):
        s = SmbDirect(self.iwarp(clients), receive_credits=receive_credits)
        s.negotiate(timeout=2, **fields)
        s.send_pdu = functools.partial(s.send_pdu, timeout=1)  # who is given no credit does something else
        return s

    def negotiated(self, clients=8, **kw):
        """SMB2 NEGOTIATE answered, nobody logged in."""
        c = smb2.Client(self.smbdirect(clients, **kw))
        c.timeout = 2
        c.negotiate((smb2.SMB_3_0_2,)).check()
        return c

    def session(self, clients=8, encrypt=False, **kw):
        c = smb2.Client(self.smbdirect(clients, **kw))
        c.timeout = 3
        dialect = smb2.SMB_3_1_1 if encrypt else smb2.SMB_3_0_2
        who = {"user": self.smbd.user, "password": self.smbd.password} if encrypt else {}
        return c.start("share", (dialect,), encrypt=encrypt, host=self.smbd.netbios_name, **who)

    def many(self, count, make):
        """As many of `count` connections as get in."""
        made = []
        for _ in range(count):
            if self.over():
                break
            with contextlib.suppress(*ENDED, AssertionError):
                made.append(make())
        return made

    def again(self, once):
        """Calls it until the end, whatever becomes of its connection."""
        while not self.over():
            with contextlib.suppress(*ENDED):
                once()
            self.did += 1
            self.drop(keep=40)

    def drop(self, keep=0):
        """Resets the connections held, but for the newest `keep`."""
        while len(self.held) > keep:
            self.reset(self.held.pop(0))

    @staticmethod
    def reset(connection):
        sock = getattr(connection, "sock", connection)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()


class Flood:
    """Data messages as fast as this language writes them, on a connection whose SMB Direct is negotiated: frames
    are made from templates (no CRC), and of what the server sends only the credits are read."""

    def __init__(self, transport):
        self.t, self.w = transport, transport.iwarp
        assert not self.w.crc
        self.owed = 0  # credits that the server has used and gets again

    def frame(self, payload, remaining=0, flags=0, grant=None):
        grant = min(self.owed, 255) if grant is None else grant
        self.owed -= min(self.owed, grant)
        self.t.send_credits -= 1
        self.w.sent_msn[0] += 1
        message = data_message(payload, credits_granted=grant, remaining=remaining, flags=flags)
        return fpdu(struct.pack(">BBIIII", 0x41, 0x43, 0, 0, self.w.sent_msn[0], 0) + message, crc=False)

    @staticmethod
    def template(payload, remaining=0):
        """What stands before and after the MSN of such a frame that grants nothing."""
        whole = fpdu(struct.pack(">BBIIII", 0x41, 0x43, 0, 0, 0, 0) + data_message(payload, remaining=remaining), crc=False)
        return whole[:12], whole[16:]

    def filled(self, templates, count):
        """`count` times these frames, in turn."""
        first = self.w.sent_msn[0] + 1
        out = []
        for n in range(first, first + count * len(templates), len(templates)):
            for i, (before, after) in enumerate(templates):
                out += (before, (n + i).to_bytes(4, "big"), after)
        self.w.sent_msn[0] += count * len(templates)
        self.t.send_credits -= count * len(templates)
        return out

    def question(self):
        return self.frame(b"", flags=RESPONSE_REQUESTED)

    def send(self, frames):
        self.w.send_raw(b"".join(frames))

    def receive(self, timeout=1):
        """Takes what has come, or waits for something to come."""
        buffer = self.w.buffer
        at = self._parse(0)
        if at == 0:
            self.w._fill(time.monotonic() + timeout)
            at = self._parse(0)
        del buffer[:at]

    def _parse(self, at):
        buffer = self.w.buffer
        while len(buffer) - at >= 2:
            length = buffer[at] << 8 | buffer[at + 1]
            size = 2 + length + -(2 + length) % 4 + 4
            if len(buffer) - at < size:
                break
            opcode = buffer[at + 3] & 15
            if opcode == 7:
                raise Closed("Terminate")
            if opcode == 3 and length >= 38:
                self.t.send_credits += buffer[at + 22] | buffer[at + 23] << 8
                self.owed += 1
            at += size
        return at
