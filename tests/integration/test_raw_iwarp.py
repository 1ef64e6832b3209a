# SPDX-License-Identifier: MIT
"""Correct iWARP of unusual shape: everything a peer may do that the usual ones do not."""

import random
import socket

import pytest

from lib import rdma, smb2
from lib.iwarp import (
    MPA_ENHANCED, MPA_REQUEST, QN_READ_REQUEST, READ_REQUEST, READ_RESPONSE, SEND_SE, WRITE, Iwarp, enhanced_words,
    fpdu, mpa_frame, read_request, tagged, untagged,
)  # fmt: skip
from lib.process import dial
from lib.smbdirect import SmbDirect, data_message

EMPTY, READ, RDMA_WRITE = "empty", "read", "write"
# RFC 6581 9.1: A (0b10) and B (0b01) before IRD, C (0b10) and D (0b01) before ORD.
OFFERS = {EMPTY: (0b11, 0), READ: (0b10, 0b01), RDMA_WRITE: (0b10, 0b10), "all": (0b11, 0b11)}


@pytest.mark.parametrize("offer", OFFERS)
def test_peer_to_peer_setup(daemon, smbd, offer):
    """RFC 6581: an initiator in peer-to-peer mode sends a Ready-to-Receive message of the kind the reply asks for."""
    w = Iwarp.connect((daemon.address, daemon.port), control=OFFERS[offer])
    (first, second) = (int.from_bytes(w.reply.private[i : i + 2], "big") for i in (0, 2))
    if first & 0x8000:
        kinds = ((EMPTY, first & 0x4000), (RDMA_WRITE, second & 0x8000), (READ, second & 0x4000))
        chosen = [kind for kind, on in kinds if on]
        assert len(chosen) == 1 and offer in ("all", chosen[0]), chosen
        if chosen == [EMPTY]:
            w.send_raw(fpdu(b"", w.crc))
        elif chosen == [RDMA_WRITE]:
            w.send_ulpdu(tagged(WRITE, 0, 0, b""))
        else:
            w.sent_msn[QN_READ_REQUEST] += 1
            w.send_ulpdu(untagged(READ_REQUEST, QN_READ_REQUEST, 1, 0, read_request(0, 0, 0, 0, 0)))
            w.regions[0] = w.expose(1, "w", base=0)
    s = SmbDirect(w)
    s.negotiate()
    c = smb2.Client(s).start(host=smbd.netbios_name)
    f = c.create("peer-to-peer")
    assert rdma.channel_write(c, f, b"p" * 20_000).check().count == 20_000
    c.close_transport()


@pytest.mark.parametrize("size", [20, 33, 100, 1460, 9000, 60_000])
def test_segments_of_any_size(daemon, smbd, size):
    """SENDs and Read Responses cut into small and large DDP segments."""
    data = random.Random(size).randbytes(30_000)
    with rdma.session(daemon, smbd, iwarp={"max_ulpdu": size}) as c:
        f = c.create("segments")
        assert c.write(f, data).check().count == len(data)
        assert c.read(f, len(data)).check().data == data
        assert rdma.channel_write(c, f, data[::-1]).check().count == len(data)
        assert (smbd.share_path() / "segments").read_bytes() == data[::-1]


def test_stream_cut_anywhere(fast_daemon, smbd):
    """TCP delivers in pieces of 1 to 50 bytes: lengths, headers, pads and CRCs are cut in the middle."""
    rng = random.Random(5044)

    class Cutting:
        """A socket that sends little at a time."""

        def __init__(self, sock):
            self._sock = sock

        def __getattr__(self, name):
            return getattr(self._sock, name)

        def send(self, data):
            return self._sock.send(data[: rng.randrange(1, 50)])

    data = rng.randbytes(20_000)
    for crc in (True, False):
        with rdma.session(fast_daemon, smbd, crc=crc) as c:
            w = c.transport.iwarp
            w.sock = Cutting(w.sock)
            f = c.create("cut")
            assert c.write(f, data).check().count == len(data)
            assert rdma.channel_write(c, f, data[::-1]).check().count == len(data)
            assert c.read(f, len(data)).check().data == data[::-1]


def test_solicited_events(daemon, smbd):
    """Send with Solicited Event is a Send."""
    with rdma.session(daemon, smbd) as c:
        w = c.transport.iwarp
        plain = w.send
        w.send = lambda data, *rest, **kw: plain(data, SEND_SE)
        assert c.echo().status == smb2.SUCCESS


def test_requests_pipelined_in_one_segment(daemon, smbd):
    """Ten requests arrive in one TCP segment."""
    with rdma.session(daemon, smbd) as c:
        out, ids = b"", []
        for _ in range(10):
            ids.append(c.message_id)
            out += c.transport.iwarp.frames(data_message(c.build(smb2.ECHO, smb2.ECHO_BODY)))
        c.transport.send_credits -= 10
        c.transport.iwarp.send_raw(out)
        for message_id in ids:
            assert c.wait(message_id).status == smb2.SUCCESS


def test_everything_in_one_write_after_setup(daemon):
    """The first FPDU rides with nothing: the responder sends none before it (RFC 5044 7.1.2)."""
    with dial((daemon.address, daemon.port)) as sock:
        w = Iwarp(sock)
        w.send_raw(mpa_frame(MPA_REQUEST, MPA_ENHANCED, 2, enhanced_words(16, 16)))
        assert w.read_mpa().key
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(1)


def test_read_responses_of_several_reads_back_to_back(fast_daemon, smbd):
    """All Read Requests answered in one burst, each in many segments."""
    data = random.Random(77).randbytes(256 * 1024)
    with rdma.session(fast_daemon, smbd, crc=False, iwarp={"max_ulpdu": 700}) as c:
        f = c.create("burst")
        w = c.transport.iwarp
        w.answer_reads = False
        ids = [rdma.send_channel_write(c, f, data[o : o + 32768], o)[0] for o in range(0, len(data), 32768)]
        w.pump(0.2)
        assert w.held_reads
        w.answer_reads = True
        w.answer_held_reads()
        for message_id in ids:
            c.wait(message_id).check()
        assert (smbd.share_path() / "burst").read_bytes() == data


def test_zero_length_segments_inside_a_read_response(daemon, smbd):
    """Legal, if pointless."""
    with rdma.session(daemon, smbd) as c:
        f = c.create("zero-segment")
        w = c.transport.iwarp
        w.answer_reads = False
        message_id, _ = rdma.send_channel_write(c, f, b"0" * 5000)
        while not w.held_reads:
            c.transport.pump(0.01)
        stag, offset, size = w.held_reads.pop(0)[:3]
        w.send_ulpdu(tagged(READ_RESPONSE, stag, offset, b"0" * 2000, last=False))
        w.send_ulpdu(tagged(READ_RESPONSE, stag, offset + 2000, b"", last=False))
        w.send_ulpdu(tagged(READ_RESPONSE, stag, offset + 2000, b"0" * (size - 2000)))
        w.answer_reads = True
        w.answer_held_reads()
        assert c.wait(message_id).check().count == 5000
