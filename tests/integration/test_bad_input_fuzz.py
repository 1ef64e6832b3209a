# SPDX-License-Identifier: MIT
"""Seeded mutations of live sessions, at every layer: the workers live, the others go on, nothing leaks to files."""

import random
import struct

import pytest

from lib import iwarp, rdma, smb2
from lib.bystander import Bystander
from lib.iwarp import QN_SEND, READ_RESPONSE, SEND, PeerError, fpdu, tagged, untagged
from lib.process import dial, wait_until
from lib.smbdirect import data_message, negotiate_request

ROUNDS = 150  # mutations per layer


def mutate(rng, data, start=0, end=None):
    """One to four changes of bytes [start, end): flips, extremes, cuts, copies."""
    data = bytearray(data)
    end = min(len(data), end or len(data))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if end <= start:
            break
        at = rng.randrange(start, min(end, len(data)) or 1) if len(data) > start else 0
        kind = rng.randrange(6)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(data):
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif kind == 2:
            width = rng.choice((2, 4, 8))
            data[at : at + width] = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80", b"\x01")) * width
        elif kind == 3:
            del data[at : at + rng.randrange(1, 20)]
        elif kind == 4:
            data[at:at] = rng.randbytes(rng.randrange(1, 20))
        else:
            size = rng.choice((len(data), len(data) - 1, len(data) + 1, 24))
            data[at : at + 4] = struct.pack(rng.choice("<>") + "I", size)
    return bytes(data)


def requests(c, f, rng):
    """PDUs to mutate: one of each kind that the daemon looks at."""
    memory = rdma.expose(c, bytearray(rng.randbytes(9000)), "rw")
    info = rdma.describe(memory, splits=(4000, 8000))
    return [
        (smb2.ECHO, smb2.ECHO_BODY),
        (smb2.WRITE, smb2.write_body(f, rng.randbytes(3000), 0)),
        (smb2.READ, smb2.read_body(f, 3000, 0)),
        (smb2.WRITE, smb2.write_body(f, b"", 0, channel=rng.choice((1, 2)), info=info, remaining=9000)),
        (smb2.READ, smb2.read_body(f, 9000, 0, channel=rng.choice((1, 2)), info=info, remaining=9000)),
        (smb2.CREATE, smb2.create_body("fuzz")),
    ]


def drain(c, seconds):
    """Takes what comes; False when the connection is over. A mutated client cannot judge the server's credits."""
    s = c.transport
    try:
        s.granted = max(s.granted, 100)
        s.iwarp.pump(seconds)
        while s.iwarp.received:
            s.granted = max(s.granted, 100)
            s.receive_message(0.001)
        s._ready.clear()
        return True
    except (rdma.Closed, rdma.Terminated):
        return False
    except PeerError:
        return False
    except rdma.Timeout:
        return True


def layer_bytes(rng, c, f):
    """Bytes of whole FPDUs."""
    command, body = rng.choice(requests(c, f, rng))
    stream = c.transport.iwarp.frames(data_message(c.build(command, body)))
    return mutate(rng, stream)


def layer_ddp(rng, c, f):
    """DDP and RDMAP headers, MPA right."""
    w = c.transport.iwarp
    command, body = rng.choice(requests(c, f, rng))
    w.sent_msn[QN_SEND] += 1
    if rng.random() < 0.3:
        ulpdu = tagged(READ_RESPONSE, rng.getrandbits(32), rng.getrandbits(64), rng.randbytes(100))
        return fpdu(mutate(rng, ulpdu, 0, 14)[:60000], w.crc)
    ulpdu = untagged(SEND, QN_SEND, w.sent_msn[QN_SEND], 0, data_message(c.build(command, body)))
    return fpdu(mutate(rng, ulpdu, 0, 18), w.crc)


def layer_smbdirect(rng, c, f):
    """SMB Direct headers, iWARP right."""
    command, body = rng.choice(requests(c, f, rng))
    return c.transport.iwarp.frames(mutate(rng, data_message(c.build(command, body), credits_granted=10), 0, 24))


def layer_smb2(rng, c, f):
    """SMB2 headers and bodies, SMB Direct right."""
    command, body = rng.choice(requests(c, f, rng))
    pdu = mutate(rng, c.build(command, body), 4, 160)
    return c.transport.iwarp.frames(data_message(pdu[:8000], credits_granted=10))


def layer_chains(rng, c, f):
    """Compound chains with one element mutated."""
    elements = [rng.choice(requests(c, f, rng)) for _ in range(3)]
    out = b""
    for i, (command, body) in enumerate(elements):
        body = body[:1500]
        body += bytes(-(64 + len(body)) % 8)
        out += c.build(command, body, next_command=0 if i == 2 else 64 + len(body), flags=smb2.RELATED if i else 0)
    return c.transport.iwarp.frames(data_message(mutate(rng, out)[:8000], credits_granted=10))


def layer_negotiate(rng, c, f):
    """A negotiate request once more, mutated: after negotiation it is a data message."""
    return c.transport.iwarp.frames(mutate(rng, negotiate_request(credits_requested=255)))


LAYERS = [layer_bytes, layer_ddp, layer_smbdirect, layer_smb2, layer_chains, layer_negotiate]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda f: f.__name__[6:])
def test_mutations_of_a_live_session(fast_daemon, smbd, layer):
    seed = 20140519 + LAYERS.index(layer)
    rng = random.Random(seed)
    witness = smbd.share_path() / f"witness-{layer.__name__}"
    witness.write_bytes(b"witness" * 1000)
    bystander = Bystander(fast_daemon, smbd, name=f"bystander-{layer.__name__}")
    workers = fast_daemon.workers()
    c = f = None
    ended = 0
    try:
        for turn in range(ROUNDS):
            if c is None:
                c = rdma.session(fast_daemon, smbd, crc=False, source=("127.0.0.99", 0))
                f = c.create(f"fuzz-{layer.__name__}")
            try:
                c.transport.iwarp.send_raw(layer(rng, c, f))
                alive = drain(c, 0.01)
            except (rdma.Closed, rdma.Terminated, iwarp.Timeout):
                alive = False
            if not alive or turn % 25 == 24:
                ended += not alive
                c.close_transport()
                c = None
            if turn % 50 == 49:
                bystander.check()
                assert fast_daemon.workers() == workers, f"a worker died, seed {seed}, turn {turn}"
        bystander.check()
    finally:
        bystander.stop()
        if c:
            c.close_transport()
    assert ended > 0, "no mutation was noticed"
    assert fast_daemon.workers() == workers, f"a worker died, seed {seed}"
    assert witness.read_bytes() == b"witness" * 1000
    wait_until(lambda: not [p for p in fast_daemon.closed("127.0.0.99") if not p["cause"]], 3, "a cause for each end")
    rdma.assert_serves(fast_daemon, smbd)


def test_mutations_of_the_set_up(fast_daemon, smbd):
    """MPA request and negotiate request, before there is a session."""
    import socket

    rng = random.Random(20140520)
    good = iwarp.mpa_frame(iwarp.MPA_REQUEST, iwarp.MPA_ENHANCED, 2, iwarp.enhanced_words(16, 16))
    workers = fast_daemon.workers()
    for _ in range(ROUNDS):
        with dial((fast_daemon.address, fast_daemon.port), 3) as sock:
            w = iwarp.Iwarp(sock, crc=False)
            try:
                if rng.random() < 0.5:
                    w.send_raw(mutate(rng, good))
                    w.read_mpa(0.02)
                else:
                    w.send_raw(good)
                    w.read_mpa(1)
                    w.send(mutate(rng, negotiate_request()))
                    w.recv(0.02)
            except (rdma.Closed, rdma.Terminated, rdma.Timeout, PeerError):
                pass
    assert fast_daemon.workers() == workers
    rdma.assert_serves(fast_daemon, smbd)
