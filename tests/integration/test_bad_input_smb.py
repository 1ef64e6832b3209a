# SPDX-License-Identifier: MIT
"""Malformed SMB Direct and SMB2: the connection ends (or smbd answers), smbd never gets the offending PDU."""

import random
import struct

import pytest

from lib import rdma, smb2
from lib.bystander import Bystander
from lib.process import wait_until
from lib.smbdirect import data_message

V1, V1_INVALIDATE = smb2.CHANNEL_RDMA_V1, smb2.CHANNEL_RDMA_V1_INVALIDATE


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


# --- a PDU that stops half-way -------------------------------------------------------------------------------------


def half_write(c, smbd, name, size=1 << 20):
    """Most of a plain WRITE, in correct fragments. Returns the file's path and the bytes left."""
    path = smbd.share_path() / name
    path.write_bytes(b"untouched")
    f = c.create(name)
    pdu = c.build(smb2.WRITE, smb2.write_body(f, b"h" * size, 0), charge=smb2.charge_for(size))
    s = c.transport
    room = s.max_send_size - 24
    at = 0
    while at < len(pdu) - 3 * room:
        s.wait_credit()
        s.send_message(pdu[at : at + room], remaining=len(pdu) - at - room, credits_granted=s.grantable())
        at += room
    return path, len(pdu) - at


def offend_misaligned(s, left):
    s.send_message(b"g" * 100, remaining=left - 100, offset=25)


def offend_early_zero(s, left):
    s.send_message(b"g" * 100, remaining=0)


def offend_too_much(s, left):
    s.send_message(b"g" * 100, remaining=left + 100)


def offend_short(s, left):
    s.iwarp.send(b"garbage")


def offend_crc(s, left):
    s.iwarp.send_ulpdu(b"\x41\x43" + bytes(100), bad_crc=True)


def offend_garbage(s, left):
    s.iwarp.send_raw(random.Random(7).randbytes(3000))


def offend_close(s, left):
    s.close()


def offend_reset(s, left):
    s.iwarp.reset()


OFFENCES = [offend_misaligned, offend_early_zero, offend_too_much, offend_short, offend_crc, offend_garbage,
            offend_close, offend_reset]  # fmt: skip


@pytest.mark.parametrize("offend", OFFENCES, ids=lambda f: f.__name__[7:])
def test_half_a_write_then_an_offence(c, daemon, smbd, offend):
    """smbd has part of the WRITE already (cut-through); its stream is reset, so the file stays as it was."""
    before = set(smbd.client_pids())
    path, left = half_write(c, smbd, "half-a-write")
    assert left > 0
    offend(c.transport, left)
    if offend in (offend_close, offend_reset):
        assert daemon.wait_closed(c.local, 3)["cause"]
    else:
        rdma.assert_terminated(c, daemon)
    wait_until(lambda: len(smbd.client_pids()) < len(before) or not before, 5, "smbd's child for this client ending")
    assert path.read_bytes() == b"untouched"


def test_half_a_write_that_smbd_saw_is_reset(make_smbd, make_daemon):
    """smbd's child sees a reset, not an orderly end in the middle of a PDU."""
    smbd = make_smbd(log_level=3)
    daemon = make_daemon(smbd.port)
    c = rdma.session(daemon, smbd)
    path, left = half_write(c, smbd, "reset-seen")
    offend_misaligned(c.transport, left)
    rdma.assert_terminated(c, daemon)
    wait_until(lambda: smbd.connections() == 0, 5, "smbd losing the connection")
    wait_until(lambda: "CONNECTION_RESET" in smbd.log_path.read_text(errors="replace"), 5, "smbd logging a reset")
    assert path.read_bytes() == b"untouched"


# --- SMB2 that is not SMB2 -----------------------------------------------------------------------------------------

ECHO = smb2.header(smb2.ECHO, 100) + smb2.ECHO_BODY


def patched(pdu, at, value):
    return pdu[:at] + value + pdu[at + len(value) :]


@pytest.mark.parametrize(
    "pdu",
    [
        b"\0",
        b"\xfeSMB",
        ECHO[:63],
        b"\xffSMB" + ECHO[4:],
        b"HTTP" + ECHO[4:],
        bytes(200),
        patched(ECHO, 16, struct.pack("<I", smb2.RESPONSE)),
        b"\xfcSMB" + bytes(10),
        b"\xfdSMB" + bytes(20),
        b"\xff" * 100,
    ],
    ids=["one-byte", "four-bytes", "63-bytes", "smb1", "http", "zeros", "response", "short-compressed",
         "short-transform", "ones"],
)  # fmt: skip
def test_not_an_smb2_request(c, daemon, pdu):
    c.transport.send_pdu(pdu)
    rdma.assert_terminated(c, daemon)


def test_smb1_negotiate_first(daemon):
    """No multi-protocol negotiation over RDMA (fact: no client sends it)."""
    s = rdma.connect(daemon)
    s.send_pdu(b"\xffSMB\x72" + bytes(27) + b"\0\x22\0\x02NT LM 0.12\0\x02SMB 2.002\0\x02SMB 2.???\0")
    rdma.assert_terminated(s, daemon)


@pytest.mark.parametrize("first", ["echo", "session setup", "read", "channel write"])
def test_first_pdu_is_no_negotiate(daemon, first):
    """smbd (or we) end it; nothing hangs."""
    s = rdma.connect(daemon)
    c = smb2.Client(s)
    body = {
        "echo": (smb2.ECHO, smb2.ECHO_BODY),
        "session setup": (smb2.SESSION_SETUP, bytes(24)),
        "read": (smb2.READ, smb2.read_body(b"\xff" * 16, 10, 0)),
        "channel write": (
            smb2.WRITE,
            smb2.write_body(b"\xff" * 16, b"", 0, channel=1, info=rdma.descriptors((0, 1, 4096)), remaining=4096),
        ),
    }[first]
    s.send_pdu(c.build(*body))
    assert s.ended(3) is not None
    s.close()
    assert daemon.wait_closed(s.local, 3)["cause"]


@pytest.mark.parametrize("step", [4, 8, 63, 71, 1 << 31, 0xFFFFFFF8])
def test_next_command_that_lies(c, daemon, smbd, step):
    """A chain whose NextCommand is misaligned, inside the header or past the end: this client ends, no one else."""
    pdu = patched(ECHO + bytes(4), 20, struct.pack("<I", step)) + ECHO
    c.transport.send_pdu(pdu)
    rdma.assert_terminated(c, daemon)


def test_signed_channel_request(daemon, smbd):
    """Cannot be rewritten, must not be forwarded: smbd would answer SUCCESS and write nothing (fact 10)."""
    path = smbd.share_path() / "signed-channel"
    path.write_bytes(b"untouched")
    c = rdma.session(daemon, smbd, user=True)
    f = c.create("signed-channel")
    c.sign = True
    rdma.send_channel_write(c, f, b"s" * 5000)
    rdma.assert_terminated(c, daemon)
    assert path.read_bytes() == b"untouched"


def test_message_id_in_flight_twice(daemon, smbd):
    """Two RDMA-channel requests of one MessageId: their answers could not be told apart."""
    c = rdma.session(daemon, smbd)
    f = c.create("twice-in-flight")
    c.transport.iwarp.answer_reads = False
    message_id, _ = rdma.send_channel_write(c, f, b"1" * 5000)
    c.message_id = message_id
    rdma.send_channel_write(c, f, b"2" * 5000)
    rdma.assert_terminated(c, daemon)
    assert (smbd.share_path() / "twice-in-flight").read_bytes() == b""


# --- RDMA-channel requests smbd must refuse (MS-SMB2 3.3.5.12, 3.3.5.13) ---------------------------------------------


def variants():
    info = rdma.descriptors((0x1000, 0x77, 4096))
    yield "info-offset-0", dict(info=info, info_offset=0)
    yield "info-length-0", dict(info=info, info_length=0)
    yield "no-info", dict(info=b"", info_offset=112, info_length=0)
    yield "info-past-end", dict(info=info, info_length=32)
    yield "info-far-past-end", dict(info=info, info_offset=0xFFF0)
    yield "info-in-header", dict(info=info, info_offset=40)
    yield "info-in-body", dict(info=info, info_offset=104)
    yield "length-15", dict(info=info, info_length=15)
    yield "length-17", dict(info=info + b"\0", info_length=17)
    yield "first-descriptor-0", dict(info=rdma.descriptors((0x1000, 0x77, 0), (0x1000, 0x77, 8192)))
    yield "too-little-memory", dict(info=rdma.descriptors((0x1000, 0x77, 4095)))
    yield "channel-3", dict(info=info, channel=3)
    yield "channel-unknown", dict(info=info, channel=99)


@pytest.mark.parametrize("kw", [v for _, v in variants()], ids=[n for n, _ in variants()])
@pytest.mark.parametrize("direction", ["read", "write"])
def test_channel_request_refused(c, smbd, direction, kw):
    """STATUS_INVALID_PARAMETER; no memory touched, nothing written, the session goes on, credits intact."""
    path = smbd.share_path() / "refused"
    path.write_bytes(b"untouched" * 1000)
    f = c.create("refused")
    kw = {"channel": V1, **kw}
    if direction == "read":
        response = c.read(f, 4096, 0, remaining=4096, **kw)
    else:
        kw = {"data_offset": 0, "length": 0, **kw}
        response = c.write(f, b"", 0, remaining=4096, **kw)
    assert response.status == smb2.INVALID_PARAMETER
    assert not [e for e in c.transport.iwarp.events if e[0] in ("read", "write")]
    assert path.read_bytes() == b"untouched" * 1000
    assert c.write(f, b"after", 0).check().count == 5


@pytest.mark.parametrize(
    "kw",
    [
        dict(length=1),
        dict(length=4096),
        dict(data_offset=112),
        dict(remaining=0),
        dict(remaining=0xFFFFFFFF),
        dict(remaining=(8 << 20) + 1),
    ],
    ids=lambda kw: "-".join(f"{k}-{v:#x}" for k, v in kw.items()),
)
def test_channel_write_refused(c, smbd, kw):
    path = smbd.share_path() / "refused-write"
    path.write_bytes(b"untouched")
    f = c.create("refused-write")
    region = rdma.expose(c, 8192, "r")
    fields = {"length": 0, "data_offset": 0, "remaining": 8192, **kw}
    response = c.write(f, b"", 0, channel=V1, info=rdma.describe(region), charge=1, **fields)
    assert response.status == smb2.INVALID_PARAMETER
    assert path.read_bytes() == b"untouched"
    assert c.echo().status == smb2.SUCCESS


def test_channel_read_longer_than_the_maximum(c):
    f = c.create("read-too-long")
    for length in ((8 << 20) + 1, 0x7FFFFFFF, 0xFFFFFFFF):
        sink = rdma.expose(c, 4096, "w")
        body = smb2.read_body(f, length, 0, channel=V1, info=rdma.descriptors((sink.base, sink.stag, length)))
        response = c.rpc(smb2.READ, body)
        assert response.status == smb2.INVALID_PARAMETER
        assert not sink.touched


def test_channel_read_pdu_too_short(daemon, smbd):
    """Fewer bytes than the fixed part of a READ."""
    body = smb2.read_body(b"\xff" * 16, 4096, 0, channel=V1, info=rdma.descriptors((0, 1, 4096)))
    for size in (2, 20, 40, 47):
        with rdma.session(daemon, smbd) as d:
            d.transport.send_pdu(d.build(smb2.READ, body[:size]))
            try:
                d._receive(2)
                assert all(r.status != smb2.SUCCESS for r in d.responses.values())
            except (rdma.Closed, rdma.Terminated):
                pass


# --- a flood ---------------------------------------------------------------------------------------------------------


def test_flood_of_response_requests(c):
    """Each is answered by at most one message; the connection stays usable."""
    s = c.transport
    s.auto_answer = False
    s.pump(0.1)
    before, sent = len(s.messages), 0
    while sent < 300:
        s.wait_credit()
        s.send_message(flags=1, credits_granted=s.grantable())
        sent += 1
    s.pump(0.3)
    assert 1 <= len(s.messages) - before <= sent + 5
    assert c.echo().status == smb2.SUCCESS


def test_empty_messages_cost_nothing(c):
    s = c.transport
    for _ in range(150):
        s.wait_credit()
        s.iwarp.send(data_message(credits_requested=255, credits_granted=s.grantable()))
        s.granted += s.grantable()
        s.send_credits -= 1
    assert c.echo().status == smb2.SUCCESS
