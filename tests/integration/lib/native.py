# SPDX-License-Identifier: MIT
"""The native channel's frames from the peer's side, by hand (protocol/proxy/frames.h): for peers that lie."""

import array
import mmap
import os
import select
import socket
import struct

VERSION = 1
FACTS, PDU, DONE, CHANNEL = 1, 2, 3, 4
HELLO, ATTACHED, REPLY, RDMA_READ, RDMA_WRITE = 16, 17, 18, 19, 20
REGISTERED, REFUSED, START, FAILED = 32, 33, 34, 48


class Ended(Exception):
    """The other side has closed, or does not exist any more."""


class Stream:
    """A UNIX stream socket with frames on it."""

    def __init__(self, sock):
        self.sock, self.bytes, self.fds = sock, b"", []

    def send(self, kind, body=b"", count=0, number=0):
        self.raw(struct.pack("<IHHQ", len(body), kind, count, number) + body)

    def raw(self, data):
        try:
            self.sock.sendall(data)
        except OSError as e:
            raise Ended(str(e)) from None

    def receive(self, timeout=5):
        """(kind, count, number, body) of the next frame; its descriptor, if it has one, is in self.fds."""
        while len(self.bytes) < 16 or len(self.bytes) < 16 + struct.unpack_from("<I", self.bytes)[0]:
            if not select.select([self.sock], [], [], timeout)[0]:
                raise TimeoutError(f"no frame within {timeout} s")
            try:
                data, control, _, _ = self.sock.recvmsg(1 << 20, socket.CMSG_SPACE(64))
            except OSError as e:
                raise Ended(str(e)) from None
            for level, what, content in control:
                if (level, what) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    self.fds.extend(array.array("i", content[: len(content) - len(content) % 4]))
            if not data:
                raise Ended("closed")
            self.bytes += data
        length, kind, count, number = struct.unpack_from("<IHHQ", self.bytes)
        body, self.bytes = self.bytes[16 : 16 + length], self.bytes[16 + length :]
        return kind, count, number, body

    def expect(self, kind, timeout=5):
        frame = self.receive(timeout)
        assert frame[0] == kind, f"frame {frame}, not of type {kind}"
        return frame

    def wait_end(self, timeout=5):
        """Reads until the other side has closed."""
        try:
            while True:
                self.receive(timeout)
        except Ended:
            pass

    def close(self):
        self.sock.close()
        for fd in self.fds:
            os.close(fd)
        self.fds = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def connected(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(5)
    sock.connect(str(path))
    return Stream(sock)


class Main(Stream):
    """A main process: registers itself at a daemon's control socket."""

    def __init__(self, daemon, wanted=REGISTERED):
        super().__init__(connected(daemon.directory / "run" / "control").sock)
        self.raw(b'{"command":"register"}\n')
        self.answer = self.expect(wanted)

    def start(self, timeout=5):
        """The next client that nobody serves: (number, cookie, guid, path)."""
        _, _, number, body = self.expect(START, timeout)
        return number, body[:16], body[16:32], body[52:].decode()


class Channel(Stream):
    """A channel, from its FACTS on."""

    def __init__(self, sock):
        super().__init__(sock)
        body = self.expect(FACTS)[3]
        version, self.area_bytes, self.max_pdu, self.max_read_write, self.operations = struct.unpack_from("<IQIIH", body)
        assert version == VERSION
        self.guid, self.negotiate = body[24:40], body[80:]
        assert len(self.fds) == 1, self.fds
        self.area = mmap.mmap(self.fds[0], self.area_bytes)

    @classmethod
    def open(cls, start, attach=True):
        """The channel of a start."""
        _, cookie, _, path = start
        stream = connected(path)
        stream.send(HELLO, struct.pack("<I", VERSION) + cookie)
        channel = cls(stream.sock)
        if attach:
            channel.attach()
        return channel

    def attach(self, version=VERSION):
        self.send(ATTACHED, struct.pack("<I", version))

    def adopt(self, attach=True):
        """Another channel of this process's client, which comes on this one."""
        self.expect(CHANNEL)
        channel = Channel(socket.socket(fileno=self.fds.pop()))
        if attach:
            channel.attach()
        return channel

    def rdma(self, kind, number, offset, length, memory):
        body = struct.pack("<QII", offset, length, 0) + b"".join(struct.pack("<QII", *piece) for piece in memory)
        self.send(kind, body, len(memory), number)

    def close(self):
        self.area.close()
        super().close()
