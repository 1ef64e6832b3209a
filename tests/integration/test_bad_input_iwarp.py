# SPDX-License-Identifier: MIT
"""Malformed MPA, DDP and RDMAP: the RFC's answer, that one connection's end, nobody else harmed.

Terminate codes: RFC 5040 4.8 (layer 0), RFC 5041 8.2 (layer 1), RFC 5044 8 (layer 2).
"""

import os
import random
import socket
import struct

import pytest

from lib import iwarp, rdma
from lib.bystander import Bystander
from lib.iwarp import (
    MPA_CRC, MPA_ENHANCED, MPA_MARKERS, MPA_REPLY, MPA_REQUEST, QN_READ_REQUEST, QN_SEND, QN_TERMINATE, READ_REQUEST,
    READ_RESPONSE, SEND, SEND_INV, TERMINATE, WRITE, Closed, Iwarp, Terminated, enhanced_words, mpa_frame,
    tagged, untagged,
)  # fmt: skip
from lib.process import dial
from lib.smbdirect import data_message, negotiate_request


@pytest.fixture(scope="module")
def bystander(daemon, smbd):
    b = Bystander(daemon, smbd)
    yield b
    b.stop()


@pytest.fixture(autouse=True)
def others_unharmed(bystander):
    yield
    bystander.check()


@pytest.fixture
def c(daemon, smbd):
    client = rdma.session(daemon, smbd)
    yield client
    client.close_transport()


def ended_with(c, daemon, *errors):
    """The server's Terminate carries one of `errors`, and the connection ends."""
    how, cause = rdma.assert_terminated(c, daemon)
    assert isinstance(how, Terminated), f"no Terminate: {how!r} (cause {cause!r})"
    assert how.error in errors, f"{how}; allowed: {errors} (cause {cause!r})"


# --- MPA set-up --------------------------------------------------------------------------------------------------


def mpa_exchange(daemon, request, timeout=3):
    """Sends raw bytes as an MPA request. Returns ("closed", None) or ("reply", MpaFrame)."""
    with dial((daemon.address, daemon.port), timeout) as sock:
        peer = "%s:%d" % sock.getsockname()
        w = Iwarp(sock)
        w.send_raw(request)
        try:
            reply = w.read_mpa(timeout)
        except Closed:
            return "closed", None, peer
        return "reply", reply, peer


GOOD = enhanced_words(16, 16)


@pytest.mark.parametrize(
    "request_bytes",
    [
        mpa_frame(MPA_REPLY, MPA_CRC | MPA_ENHANCED, 2, GOOD),
        mpa_frame(b"GET / HTTP/1.1\r\n", 0, 1),
        b"\0" * 20,
        b"\xff" * 64,
        mpa_frame(MPA_REQUEST, MPA_CRC, 1, bytes(513)),
        mpa_frame(MPA_REQUEST, MPA_CRC, 1, b"", length=0xFFFF) + bytes(600),
        mpa_frame(MPA_REQUEST, MPA_CRC | MPA_ENHANCED, 2, b"\0\0"),
        b"\0\0\0\x45\xfeSMB" + bytes(64),
    ],
    ids=["reply-key", "http", "zeros", "ones", "private-513", "private-65535", "enhanced-short", "smb2-over-tcp"],
)
def test_mpa_request_malformed(daemon, request_bytes):
    what, reply, peer = mpa_exchange(daemon, request_bytes)
    assert what == "closed" or reply.flags & iwarp.MPA_REJECT
    assert daemon.wait_closed(peer, 3)["cause"]


@pytest.mark.parametrize("revision", [0, 3, 255])
def test_mpa_revision_unknown(daemon, revision):
    what, reply, peer = mpa_exchange(daemon, mpa_frame(MPA_REQUEST, MPA_CRC, revision))
    assert what == "closed" or reply.flags & iwarp.MPA_REJECT or reply.revision in (1, 2)
    assert daemon.wait_closed(peer, 3)["cause"]


def test_mpa_markers_are_refused(daemon):
    """A peer that insists on markers is rejected; it must not be sent a stream without them."""
    what, reply, peer = mpa_exchange(daemon, mpa_frame(MPA_REQUEST, MPA_CRC | MPA_MARKERS | MPA_ENHANCED, 2, GOOD))
    assert what == "closed" or reply.flags & iwarp.MPA_REJECT
    assert daemon.wait_closed(peer, 3)["cause"]


@pytest.mark.parametrize("revision", [1, 2])
def test_mpa_both_revisions_serve(daemon, smbd, revision):
    with rdma.session(daemon, smbd, iwarp={"revision": revision}) as c:
        f = c.create("mpa-revision")
        assert rdma.channel_write(c, f, b"m" * 9000).check().count == 9000


def test_mpa_private_data_of_smb_direct(daemon, smbd):
    """MS-SMBD 6.1: 8 bytes of big-endian IRD and ORD are answered in kind; other private data is no reason to fail."""
    with rdma.session(daemon, smbd, iwarp={"revision": 1, "private": struct.pack(">II", 32, 1)}) as c:
        private = c.transport.iwarp.reply.private
        if private:
            ird, ord_ = struct.unpack(">II", private[:8])
            assert ird >= 1 and 1 <= ord_ <= 32
        c.echo().check()
    for odd in (b"x", bytes(8), os.urandom(100), bytes(500)):
        with rdma.session(daemon, smbd, iwarp={"private": odd}) as c:
            c.echo().check()


def test_mpa_crc_when_either_side_wants_it(daemon, fast_daemon, smbd):
    cases = ((daemon, False, True), (daemon, True, True), (fast_daemon, True, True), (fast_daemon, False, False))
    for server, ours, used in cases:
        with rdma.session(server, smbd, crc=ours) as c:
            assert c.transport.iwarp.crc == used
            c.echo().check()


def test_mpa_request_in_small_pieces(daemon, smbd):
    """TCP cuts where it likes."""
    with dial((daemon.address, daemon.port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        w = Iwarp(sock)
        stream = mpa_frame(MPA_REQUEST, MPA_CRC | MPA_ENHANCED, 2, GOOD)
        for i in range(len(stream)):
            sock.sendall(stream[i : i + 1])
        assert w.read_mpa().key == MPA_REPLY
        frame = w.frames(negotiate_request())
        for i in range(len(frame)):
            sock.sendall(frame[i : i + 1])
        assert len(w.recv().data) == 32


# --- FPDUs -------------------------------------------------------------------------------------------------------


def test_fpdu_crc_error(c, daemon):
    w = c.transport.iwarp
    w.sent_msn[QN_SEND] += 1
    w.send_ulpdu(untagged(SEND, QN_SEND, w.sent_msn[QN_SEND], 0, data_message()), bad_crc=True)
    ended_with(c, daemon, (2, 0, 2))


@pytest.mark.parametrize("length", [0, 1, 2, 13, 17])
def test_fpdu_shorter_than_a_ddp_header(c, daemon, length):
    c.transport.iwarp.send_ulpdu(untagged(SEND, QN_SEND, 1, 0, b"")[:length])
    rdma.assert_terminated(c, daemon)


def test_tagged_fpdu_shorter_than_its_header(c, daemon):
    c.transport.iwarp.send_ulpdu(tagged(WRITE, 1, 0, b"")[:13])
    rdma.assert_terminated(c, daemon)


def test_garbage_instead_of_fpdus(c, daemon):
    c.transport.iwarp.send_raw(random.Random(40).randbytes(70_000))
    rdma.assert_terminated(c, daemon)


# --- DDP ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 2, 3])
def test_ddp_version_untagged(c, daemon, version):
    c.transport.iwarp.send_ulpdu(untagged(SEND, QN_SEND, 99, 0, data_message(), ddp_version=version))
    ended_with(c, daemon, (1, 2, 6))


@pytest.mark.parametrize("version", [0, 2, 3])
def test_ddp_version_tagged(c, daemon, version):
    c.transport.iwarp.send_ulpdu(tagged(WRITE, 0x1234, 0, b"data", ddp_version=version))
    ended_with(c, daemon, (1, 1, 4))


@pytest.mark.parametrize("queue", [3, 4, 0x80000000, 0xFFFFFFFF])
def test_ddp_queue_number(c, daemon, queue):
    w = c.transport.iwarp
    w.send_ulpdu(untagged(SEND, queue, w.sent_msn[QN_SEND] + 1, 0, data_message()))
    ended_with(c, daemon, (1, 2, 1), (0, 2, 6))


@pytest.mark.parametrize("step", [-1, 0, 2, 1000, 0x7FFFFFFF])
def test_ddp_message_sequence_number(c, daemon, step):
    w = c.transport.iwarp
    w.send_ulpdu(untagged(SEND, QN_SEND, w.sent_msn[QN_SEND] + step, 0, data_message()))
    ended_with(c, daemon, (1, 2, 3), (1, 2, 2))


@pytest.mark.parametrize("mo", [1, 4, 0xFFFFFFFF])
def test_ddp_message_offset_of_a_first_segment(c, daemon, mo):
    w = c.transport.iwarp
    w.send_ulpdu(untagged(SEND, QN_SEND, w.sent_msn[QN_SEND] + 1, mo, data_message()))
    ended_with(c, daemon, (1, 2, 4), (1, 2, 5))


@pytest.mark.parametrize("mo", [0, 9, 11, 0xFFFFFFF0])
def test_ddp_message_offset_of_a_second_segment(c, daemon, mo):
    w = c.transport.iwarp
    msn = w.sent_msn[QN_SEND] + 1
    w.send_ulpdu(untagged(SEND, QN_SEND, msn, 0, data_message()[:10], last=False))
    w.send_ulpdu(untagged(SEND, QN_SEND, msn, mo, data_message()[10:]))
    ended_with(c, daemon, (1, 2, 4), (1, 2, 5))


def test_ddp_message_too_long_for_the_buffer(c, daemon):
    c.transport.iwarp.send(bytes(70_000), max_ulpdu=60_000)
    ended_with(c, daemon, (1, 2, 5))


def test_ddp_message_too_long_in_many_segments(c, daemon):
    c.transport.iwarp.send(bytes(20_000), max_ulpdu=1000)
    ended_with(c, daemon, (1, 2, 5))


def test_ddp_no_buffer(daemon, smbd):
    """Far more messages than any credit allows."""
    c = rdma.session(daemon, smbd)
    w = c.transport.iwarp
    try:
        w.send_raw(b"".join(w.frames(data_message()) for _ in range(2000)))
    except (Closed, Terminated):
        return
    rdma.assert_terminated(c, daemon)


# --- RDMAP -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 2, 3])
def test_rdmap_version(c, daemon, version):
    w = c.transport.iwarp
    w.send_ulpdu(untagged(SEND, QN_SEND, w.sent_msn[QN_SEND] + 1, 0, data_message(), rdmap_version=version))
    ended_with(c, daemon, (0, 2, 5))


@pytest.mark.parametrize("opcode", [8, 9, 15])
def test_rdmap_opcode_reserved(c, daemon, opcode):
    w = c.transport.iwarp
    w.send_ulpdu(untagged(opcode, QN_SEND, w.sent_msn[QN_SEND] + 1, 0, data_message()))
    ended_with(c, daemon, (0, 2, 6))


@pytest.mark.parametrize("opcode", [WRITE, READ_RESPONSE])
def test_rdmap_tagged_opcode_untagged(c, daemon, opcode):
    w = c.transport.iwarp
    w.send_ulpdu(untagged(opcode, QN_SEND, w.sent_msn[QN_SEND] + 1, 0, data_message()))
    ended_with(c, daemon, (0, 2, 6))


@pytest.mark.parametrize("opcode", [READ_REQUEST, SEND, SEND_INV, TERMINATE, 9])
def test_rdmap_untagged_opcode_tagged(c, daemon, opcode):
    c.transport.iwarp.send_ulpdu(tagged(opcode, 0x1234, 0, b"data"))
    ended_with(c, daemon, (0, 2, 6), (1, 1, 0), (0, 1, 0))


@pytest.mark.parametrize(
    "opcode, queue", [(SEND, QN_READ_REQUEST), (SEND, QN_TERMINATE), (READ_REQUEST, QN_SEND), (TERMINATE, QN_SEND)]
)
def test_rdmap_opcode_on_the_wrong_queue(c, daemon, opcode, queue):
    w = c.transport.iwarp
    w.send_ulpdu(untagged(opcode, queue, w.sent_msn[queue] + 1, 0, bytes(28)))
    ended_with(c, daemon, (0, 2, 6), (1, 2, 1))


@pytest.mark.parametrize("stag", [0, 1, 0x1234, 0xFFFFFFFF])
def test_rdma_write_to_the_server(c, daemon, stag):
    """The server exposes no memory."""
    c.transport.iwarp.write(stag, 0, b"overwrite" * 10)
    ended_with(c, daemon, (1, 1, 0), (0, 1, 0))


@pytest.mark.parametrize("stag", [0, 1, 0x1234, 0xFFFFFFFF])
def test_rdma_read_of_the_server(c, daemon, stag):
    w = c.transport.iwarp
    sink = w.expose(4096, "w")
    w.request_read(sink.stag, sink.base, 4096, stag, 0)
    ended_with(c, daemon, (0, 1, 0))
    assert not sink.touched


@pytest.mark.parametrize("size", [0, 27, 29, 100])
def test_rdma_read_request_of_a_wrong_size(c, daemon, size):
    c.transport.iwarp.send_ulpdu(untagged(READ_REQUEST, QN_READ_REQUEST, 1, 0, bytes(size)))
    rdma.assert_terminated(c, daemon)


def test_rdma_read_response_to_nothing(c, daemon):
    c.transport.iwarp.send_ulpdu(tagged(READ_RESPONSE, 0x1234, 0, b"data"))
    ended_with(c, daemon, (1, 1, 0), (0, 1, 0), (0, 2, 6))


@pytest.mark.parametrize("stag", [0, 0x1234, 0xFFFFFFFF])
def test_send_with_invalidate_of_nothing(c, daemon, stag):
    w = c.transport.iwarp
    w.send(data_message(), SEND_INV, invalidate=stag)
    ended_with(c, daemon, (0, 1, 9), (0, 2, 9), (0, 1, 0))


def test_terminate_from_the_client(c, daemon):
    c.transport.iwarp.terminate(0, 1, 2)
    _, cause = rdma.assert_terminated(c, daemon)
    assert "terminate" in cause.lower()


@pytest.mark.parametrize("size", [0, 1, 3])
def test_terminate_too_short(c, daemon, size):
    c.transport.iwarp.send_ulpdu(untagged(TERMINATE, QN_TERMINATE, 1, 0, bytes(size)))
    rdma.assert_terminated(c, daemon)


# --- lies about RDMA Reads ---------------------------------------------------------------------------------------


def pending_read(c, smbd, name, size=65536):
    """A WRITE whose RDMA Read Request we hold. Returns it: (sink STag, sink offset, size, ...)."""
    path = smbd.share_path() / name
    path.write_bytes(b"untouched")
    f = c.create(name)
    w = c.transport.iwarp
    w.answer_reads = False
    rdma.send_channel_write(c, f, b"p" * size)
    while not w.held_reads:
        c.transport.pump(0.02)
    return path, w.held_reads[0]


def lie_write_to_sink(w, r):
    w.write(r[0], r[1], b"x" * r[2])


def lie_too_long(w, r):
    w._tagged_message(READ_RESPONSE, r[0], r[1], b"x" * (r[2] + 8))


def lie_wrong_start(w, r):
    w._tagged_message(READ_RESPONSE, r[0], r[1] + 8, b"x" * (r[2] - 8))


def lie_too_short(w, r):
    w._tagged_message(READ_RESPONSE, r[0], r[1], b"x" * (r[2] - 8))


def lie_wrong_stag(w, r):
    w._tagged_message(READ_RESPONSE, r[0] ^ 0x100, r[1], b"x" * r[2])


def lie_gap(w, r):
    w.send_ulpdu(tagged(READ_RESPONSE, r[0], r[1], b"x" * 1000, last=False))
    w.send_ulpdu(tagged(READ_RESPONSE, r[0], r[1] + 2000, b"x" * 1000, last=False))


def lie_overlap(w, r):
    w.send_ulpdu(tagged(READ_RESPONSE, r[0], r[1], b"x" * 1000, last=False))
    w.send_ulpdu(tagged(READ_RESPONSE, r[0], r[1] + 500, b"x" * 1000, last=False))


def lie_offset_wraps(w, r):
    w.send_ulpdu(tagged(READ_RESPONSE, r[0], 0xFFFFFFFFFFFFFFF8, b"x" * 1000, last=False))


def lie_twice(w, r):
    w.answer_held_reads(1)
    w._tagged_message(READ_RESPONSE, r[0], r[1], b"x" * r[2])


LIES = [lie_write_to_sink, lie_too_long, lie_wrong_start, lie_too_short, lie_wrong_stag, lie_gap, lie_overlap,
        lie_offset_wraps]  # fmt: skip


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__[4:])
def test_read_response_that_lies(c, daemon, smbd, lie):
    """A READ's sink takes its own Read Response, whole and in order, and nothing else; smbd sees none of it."""
    path, request = pending_read(c, smbd, "read-lies")
    lie(c.transport.iwarp, request)
    how, cause = rdma.assert_terminated(c, daemon)
    assert isinstance(how, Terminated), f"no Terminate: {how!r} (cause {cause!r})"
    assert path.read_bytes() == b"untouched"


def test_read_response_twice(c, daemon, smbd):
    """The sink's STag is gone once its Read Response is complete."""
    path, request = pending_read(c, smbd, "read-twice", size=4096)
    lie_twice(c.transport.iwarp, request)
    how, _ = rdma.assert_terminated(c, daemon)
    assert isinstance(how, Terminated)
    assert path.read_bytes() in (b"untouched", b"p" * 4096)


def test_sink_stags_are_not_guessable(c, smbd):
    """Random, and different for each RDMA Read."""
    f = c.create("stags")
    c.transport.iwarp.answer_reads = True
    seen = []
    for _ in range(30):
        w = c.transport.iwarp
        w.answer_reads = False
        message_id, _ = rdma.send_channel_write(c, f, b"s" * 4096)
        while not w.held_reads:
            c.transport.pump(0.005)
        seen.append(w.held_reads[0][0])
        w.answer_held_reads()
        c.wait(message_id).check()
    assert len(set(seen)) == len(seen)
    steps = {(b - a) & 0xFFFFFFFF for a, b in zip(seen, seen[1:])}
    assert len(steps) > 20, "STags follow each other in equal steps"
