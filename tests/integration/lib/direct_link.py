# SPDX-License-Identifier: MIT
"""The daemon's end of a link to vfs_smbdirect that does direct I/O (protocol/proxy/smbdirect_area.h): the table, and the opens
that were granted, with their descriptors."""

import contextlib
import mmap
import os
import socket
import struct
from dataclasses import dataclass, field

from lib.area_link import Link, Packet, connect
from lib.process import wait_until

DIRECT, DIRECT_NOT, TABLE, GRANT, RIGHTS, CLOSED, DIRECT_REFUSED, USE = range(9, 17)
READ, WRITE = 1, 2
BOTH = READ | WRITE
SLOTS = 4096
TABLE_SIZE = 8 * SLOTS + 64
ROWS = 32
USE_SIZE = SLOTS * (8 + 4 * ROWS)
NUMBERED = struct.Struct("<IIQ16sIIIH")  # and zeros


@dataclass
class Grant:
    slot: int
    session: int
    file_id: bytes
    tree: int
    generation: int
    access: int
    channel_sequence: int
    fd: int
    told: list = field(default_factory=list)  # of each RIGHTS
    closed: bool = False


class DirectLink(Link):
    """ask: says DIRECT at once, and has the TABLE or knows why not."""

    def __init__(self, path, ask=True):
        self.table, self.table_fd, self.refusal = None, None, None
        self.use, self.row = None, None
        self.grants = {}  # FileId -> the last Grant of it
        self.all = []
        self.refused_shares = []  # texts
        super().__init__(path)
        if ask:
            self.send(Packet(DIRECT))
            self.until(lambda: self.table is not None or self.refusal is not None)

    def receive(self):
        try:
            data, fds, flags, _ = socket.recv_fds(self.sock, 4096, 4)
        except ConnectionResetError:
            data = b""
        if not data:
            raise EOFError
        assert len(data) == 256 and not flags & socket.MSG_CTRUNC
        (kind,) = struct.unpack_from("<I", data)
        assert len(fds) == (kind in (TABLE, GRANT, USE)), (kind, fds)
        if kind in (GRANT, RIGHTS, CLOSED):
            return self._numbered(kind, data, fds)
        packet = self.note(Packet.of(data))
        if kind == TABLE:
            assert packet.number == SLOTS and os.fstat(fds[0]).st_size == TABLE_SIZE
            self.table_fd = fds[0]
            self.table = mmap.mmap(fds[0], TABLE_SIZE, prot=mmap.PROT_READ)
        elif kind == USE:
            assert self.table is None and os.fstat(fds[0]).st_size == USE_SIZE
            self.row, self.use = packet.number, mmap.mmap(fds[0], USE_SIZE)
            os.close(fds[0])
        elif kind == DIRECT_NOT:
            self.refusal = packet.text
        elif kind == DIRECT_REFUSED:
            self.refused_shares.append(packet.text)
        return packet

    def _numbered(self, kind, data, fds):
        _, slot, session, file_id, tree, generation, rights, sequence = NUMBERED.unpack_from(data)
        assert not any(data[NUMBERED.size :]) and slot < SLOTS
        if kind == GRANT:
            grant = Grant(slot, session, file_id, tree, generation, rights, sequence, fds[0])
            assert generation and rights in (READ, WRITE, READ | WRITE)
            assert not any(g.slot == slot and not g.closed for g in self.all), "a slot that is taken"
            self.grants[file_id] = grant
            self.all.append(grant)
            return Packet(kind, slot)
        (grant,) = [g for g in self.all if g.slot == slot and not g.closed]
        assert grant.generation == generation and (session, tree) == (0, 0)
        if kind == CLOSED:
            grant.closed = True
            os.close(grant.fd)
        else:
            grant.told.append(rights)
        return Packet(kind, slot)

    def drain(self):
        """Receives what is there."""
        self.sock.setblocking(False)
        try:
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.receive()
        finally:
            self.sock.settimeout(10)
        return self

    def word(self, slot):
        """(generation, rights)"""
        (word,) = struct.unpack_from("<Q", self.table, 8 * slot)
        return word >> 32, word & 0xFFFFFFFF

    def keeper(self):
        """The thread of smbd's that keeps the table up to date; 0 when it has died."""
        (word,) = struct.unpack_from("<I", self.table, 8 * SLOTS)
        return word & 0x3FFFFFFF

    def sequence(self, slot):
        """(generation, the newest ChannelSequence)"""
        (word,) = struct.unpack_from("<Q", self.use, 8 * slot)
        return word >> 32, word & 0xFFFFFFFF

    def mark(self, slot, row=None):
        """Where the mark of a slot is, and what it is: how many WRITEs, of which sequence."""
        at = 8 * SLOTS + 4 * (slot * ROWS + (self.row if row is None else row))
        return at, struct.unpack_from("<HH", self.use, at)

    def rights(self, grant):
        """What may be done by it now."""
        generation, rights = self.word(grant.slot)
        return rights if generation == grant.generation else 0

    def granted(self, file_id):
        """The open's Grant if it has arrived and is not CLOSED."""
        grant = self.drain().grants.get(file_id)
        return grant if grant and not grant.closed else None

    def close(self):
        super().close()
        for grant in self.all:
            if not grant.closed:
                os.close(grant.fd)
        if self.table is not None:
            self.table.close()
            self.use.close()
            os.close(self.table_fd)
        self.all, self.table = [], None


def link_of(server, client, ask=True):
    path = server.link_path(client)
    wait_until(path.exists, 10, f"a listener at {path}")
    link = DirectLink(path, ask)
    link.wait_for_tree(client)
    return link


@contextlib.contextmanager
def direct(server, share="share", guid=None):
    """(client, link): a client over TCP, and a link to its smbd that does direct I/O."""
    client = connect(server, share, guid)
    try:
        with link_of(server, client) as link:
            yield client, link
    finally:
        client.close_transport()


def fresh(name="file"):
    """A name that no test has used."""
    return f"{name}-{os.urandom(4).hex()}"
