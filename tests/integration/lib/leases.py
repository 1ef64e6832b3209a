# SPDX-License-Identifier: MIT
"""CREATE with contexts (MS-SMB2 2.2.13.2): leases and durable handles; and what the server says of leases."""

import os
import struct
from dataclasses import dataclass

from lib import smb2

R, H, W = 1, 2, 4
RW, RH, RWH = R | W, R | H, R | H | W
LEVEL_II, EXCLUSIVE, BATCH, LEASE = 1, 8, 9, 0xFF
READ_ACCESS, WRITE_ACCESS, ALL_ACCESS = 0x00120089, 0x00120116, 0x0012019F


def contexts(*parts):
    """parts: (name, data)"""
    out = b""
    for i, (name, data) in enumerate(parts):
        one = struct.pack("<HHHHI", 16, len(name), 0, 24, len(data)) + name + bytes(4) + data
        one += bytes(-(4 + len(one)) % 8)
        out += struct.pack("<I", 0 if i == len(parts) - 1 else 4 + len(one)) + one
    return out


def lease_context(key, state):
    return b"RqLs", struct.pack("<16sIIQ", key, state, 0, 0)


def durable_context(create_guid):
    return b"DH2Q", struct.pack("<IIQ16s", 0, 0, 0, create_guid)


def reconnect_context(file_id, create_guid):
    return b"DH2C", struct.pack("<16s16sI", file_id, create_guid, 0)


def create_body(name, parts, access=ALL_ACCESS, disposition=3, options=0x40, share=7, oplock=LEASE):
    raw = name.encode("utf-16le")
    blob = contexts(*parts)
    head = raw + bytes(-len(raw) % 8)
    fixed = struct.pack("<HBBIQQIIIIIHHII", 57, 0, oplock, 2, 0, 0, access, 0x80, share, disposition, options, 120, len(raw),
                        120 + len(head), len(blob))  # fmt: skip
    return fixed + head + blob


@dataclass
class Open:
    file_id: bytes
    key: bytes
    state: int  # of the lease, as it was granted
    contexts: bytes


def opened(response, key):
    pdu = response.check().pdu
    at, length = struct.unpack_from("<II", pdu, 64 + 80)
    found, state = pdu[at : at + length], 0
    if b"RqLs" in found:
        (state,) = struct.unpack_from("<I", found, found.index(b"RqLs") + 8 + 16)
    return Open(pdu[128:144], key, state, found)


def send_open(client, name, state, key=None, **kw):
    """(MessageId, key) of a CREATE that asks for a lease."""
    key = key or os.urandom(16)
    return client.send(smb2.CREATE, create_body(name, [lease_context(key, state)], **kw)), key


def send_open_that_waits(client, name, state=R):
    """MessageId of an open that breaks somebody's lease: the message that asks for that is at the process that has it."""
    waiting, _ = send_open(client, name, state)
    client.wait_interim(waiting)
    return waiting


def open_leased(client, name, state=RWH, key=None, **kw):
    message_id, key = send_open(client, name, state, key, **kw)
    return opened(client.wait(message_id), key)


@dataclass
class Break:
    key: bytes
    current: int
    new: int


def wait_break(client):
    """The next lease break notification (2.2.23.2)."""
    while not client.unsolicited:
        client._receive(client.timeout)
    pdu = client.unsolicited.pop(0).pdu
    assert struct.unpack_from("<H", pdu, 64) == (44,), "not of a lease"
    return Break(pdu[72:88], *struct.unpack_from("<II", pdu, 88))


def acknowledge(client, broken, state=None):
    body = struct.pack("<HHI16sIQ", 36, 0, 0, broken.key, broken.new if state is None else state, 0)
    return client.rpc(smb2.OPLOCK_BREAK, body)
