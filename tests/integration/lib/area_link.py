# SPDX-License-Identifier: MIT
"""The daemon's end of a link to vfs_smbdirect (protocol/proxy/smbdirect_area.h), and READs and WRITEs over an area: what
the supervisor and a worker do, in one process and as exactly as a test wants it."""

import array
import contextlib
import fcntl
import mmap
import os
import pathlib
import re
import secrets
import socket
import struct
from dataclasses import dataclass

from lib import smb2
from lib.process import wait_until

HEADER = pathlib.Path(__file__).resolve().parents[3] / "protocol/proxy/smbdirect_area.h"
HELLO, TREE, TREE_REFUSED, TREE_GONE, AREA, AREA_ADDED, AREA_DROP, AREA_GONE = range(1, 9)
VERSION = int(re.search(r"SMBDIRECT_LINK_VERSION (\d+)", HEADER.read_text())[1])
PACKET = struct.Struct("<IIQ16s224s")
MARK = 0xD55D
OP_READ, OP_WRITE = 1, 2
WRITE_THROUGH = 1
FIRST_STATUS = 0xC0000000
COPYCHUNK, COPYCHUNK_WRITE, REQUEST_RESUME_KEY = 0x001440F2, 0x001480F2, 0x00140078
F_SEAL_SHRINK, F_SEAL_GROW = 2, 4


@dataclass
class Packet:
    type: int
    number: int = 0
    session: int = 0
    token: bytes = bytes(16)
    text: str = ""

    def bytes(self):
        return PACKET.pack(self.type, self.number, self.session, self.token, self.text.encode())

    @classmethod
    def of(cls, data):
        kind, number, session, token, text = PACKET.unpack(data)
        assert text[-1] == 0 and not text.strip(b"\0").count(b"\0"), f"text is not filled up with zeros: {text}"
        return cls(kind, number, session, token, text.split(b"\0")[0].decode())


class Link:
    """One connected link. trees, refused: (session id, tree id) -> text."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(10)
        self.sock.connect(str(path))
        # Of the process that listens, as it was then.
        self.peer_pid, self.peer_uid, _ = struct.unpack("3i", self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        self.trees, self.refused = {}, {}
        self.gone = []  # tokens
        self.hello = self.receive()
        assert self.hello.type == HELLO and self.hello.number == VERSION, self.hello

    def receive(self):
        """The next packet; EOFError at the end."""
        try:
            data = self.sock.recv(4096)
        except ConnectionResetError:
            data = b""
        if not data:
            raise EOFError
        return self.note(Packet.of(data))

    def note(self, packet):
        key = (packet.session, packet.number)
        if packet.type == TREE:
            self.trees[key] = packet.text
        elif packet.type == TREE_REFUSED:
            self.refused[key] = packet.text
        elif packet.type == TREE_GONE:
            self.trees.pop(key, None)
            self.refused.pop(key, None)
        elif packet.type == AREA_GONE:
            self.gone.append(packet.token)
        return packet

    def until(self, condition):
        """Receives until condition() is true."""
        while not condition():
            self.receive()
        return self

    def wait_for_tree(self, client):
        """True when the client's tree is announced, False when it is refused."""
        key = (client.session_id, client.tree_id)
        self.until(lambda: key in self.trees or key in self.refused)
        return key in self.trees

    def send(self, packet, fds=()):
        data = packet if isinstance(packet, bytes) else packet.bytes()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds).tobytes())] if fds else []
        self.sock.sendmsg([data], rights)

    def push(self, area):
        """The NTSTATUS with which the module takes the area."""
        self.send(Packet(AREA, token=area.token), [area.fd])
        while True:
            packet = self.receive()
            if packet.type == AREA_ADDED and packet.token == area.token:
                return packet.number

    def drop(self, area):
        self.send(Packet(AREA_DROP, token=area.token))

    def ended(self):
        """Reads to the end; TimeoutError when it does not come."""
        with contextlib.suppress(EOFError):
            while True:
                self.receive()
        return True

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class Area:
    """A memfd as the daemon makes it: sealed, and mapped here too."""

    def __init__(self, size=32 << 20, seals=F_SEAL_SHRINK | F_SEAL_GROW, token=None):
        self.size, self.token = size, token or secrets.token_bytes(16)
        self.fd = os.memfd_create("smbdirect-area", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, size)
        if seals:
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, seals)
        self.map = mmap.mmap(self.fd, size) if size else None

    def close(self):
        if self.map is not None:
            self.map.close()
        os.close(self.fd)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def mapped(pid):
    """How many areas that process has mapped."""
    return pathlib.Path(f"/proc/{pid}/maps").read_text().count("smbdirect-area")


def ioctl_body(code, file_id, data, max_output):
    """IOCTL request of a file system control (MS-SMB2 2.2.31)."""
    return struct.pack("<HHI16sIIIIIIII", 57, 0, code, file_id, 120, len(data), 0, 0, 0, max_output, 1, 0) + data


def ioctl_output(response):
    offset, count = struct.unpack_from("<II", response.pdu, 64 + 32)
    return response.pdu[offset : offset + count]


def chunks(key, *parts):
    """SRV_COPYCHUNK_COPY: parts are (source offset, target offset, length)."""
    return key + struct.pack("<II", len(parts), 0) + b"".join(struct.pack("<QQII", *part, 0) for part in parts)


class Carrier:
    """READ and WRITE of one client by its area: what a worker makes of its client's requests."""

    def __init__(self, client, area):
        self.client, self.area = client, area

    def key(self, operation, length, flags=0, token=None, mark=MARK):
        return (token or self.area.token) + struct.pack("<IBBH", length, operation, flags, mark)

    def send(self, operation, file_id, offset, length, at=0, flags=0, token=None, code=COPYCHUNK_WRITE):
        body = chunks(self.key(operation, length, flags, token), (at, offset, 1))
        return self.client.send(smb2.IOCTL, ioctl_body(code, file_id, body, 12))

    def wait(self, message_id):
        """(status, count)"""
        response = self.client.wait(message_id)
        if response.status:
            return response.status, 0
        (value,) = struct.unpack_from("<I", ioctl_output(response), 8)
        return (value, 0) if value >= FIRST_STATUS else (0, value)

    def do(self, *arguments, **kw):
        return self.wait(self.send(*arguments, **kw))

    def read(self, file_id, offset, length, at=0):
        """(status, data)"""
        status, count = self.do(OP_READ, file_id, offset, length, at)
        return status, bytes(self.area.map[at : at + count])

    def write(self, file_id, offset, data, at=0, flags=0):
        """(status, count)"""
        self.area.map[at : at + len(data)] = data
        return self.do(OP_WRITE, file_id, offset, len(data), at, flags)


def inline_read(client, file_id, offset, length):
    response = client.read(file_id, length, offset)
    return response.status, response.data if response.status == 0 else b""


def inline_write(client, file_id, offset, data):
    response = client.write(file_id, data, offset)
    return response.status, response.count if response.status == 0 else 0


def connect(server, share="share", guid=None):
    """A client of that share with credits for large requests."""
    client = smb2.over_tcp((server.address, server.port), guid).start(share, host=server.netbios_name)
    while client.credits < 600:
        client.echo().check()
    return client


@contextlib.contextmanager
def attached(server, share="share", size=32 << 20, guid=None):
    """(client, carrier, link): a client whose smbd has an area of ours."""
    client, area = connect(server, share, guid), Area(size)
    try:
        path = server.link_path(client)
        wait_until(path.exists, 10, f"a listener at {path}")
        with Link(path) as link:
            assert link.wait_for_tree(client), link.refused
            assert link.push(area) == 0
            yield client, Carrier(client, area), link
    finally:
        client.close_transport()
        area.close()
