# SPDX-License-Identifier: MIT
"""SMB Direct data transfer: Microsoft's SmbdDataTransfer cases (MS-SMBD 3.1.5.8)."""

import random

import pytest

from lib import rdma, smb2
from lib.iwarp import fpdu, untagged, QN_SEND, SEND
from lib.smbdirect import data_message


@pytest.fixture
def c(daemon, smbd):
    """A session whose messages are small: 1024 bytes each way."""
    client = rdma.session(daemon, smbd, preferred_send_size=1024, max_receive_size=1024)
    yield client
    client.close_transport()


def write_pdu(c, file_id, data, offset=0):
    """A WRITE request as bytes."""
    charge = smb2.charge_for(len(data))
    return c.build(smb2.WRITE, smb2.write_body(file_id, data, offset), charge=charge)


def ready_for(c, charge):
    while c.credits < charge:
        c.echo()
    c.credits -= charge


def test_BVT_SmbdDataTransfer_Basic_SendSmallBytesOfData(daemon):
    with rdma.client(daemon, max_receive_size=1024, preferred_send_size=1024) as c:
        r = c.negotiate((smb2.SMB_3_0,))
        assert r.status == smb2.SUCCESS and c.dialect == smb2.SMB_3_0
        assert len(r.fragments) == -(-len(r.pdu) // 1000)


def test_BVT_SmbdDataTransfer_Basic_SendModerateBytesData(c, smbd):
    data = random.Random(1).randbytes(65536)
    f = c.create("moderate")
    before = c.transport.sent
    assert c.write(f, data).check().count == len(data)
    assert c.transport.sent - before >= 66, "the request was to go in many fragments"
    r = c.read(f, len(data)).check()
    assert r.data == data and len(r.fragments) == -(-(80 + 65536) // 1000)
    assert (smbd.share_path() / "moderate").read_bytes() == data


def test_SmbdDataTransfer_ReceiveMaxReceiveSize(daemon, smbd):
    data = random.Random(2).randbytes(40_000)
    for size in (128, 1364, 1024, 8192):
        with rdma.session(daemon, smbd, max_receive_size=size) as c:
            f = c.create("receive-max")
            c.write(f, data).check()
            fragments = c.read(f, len(data)).check().fragments
            full = {m.size for m in fragments[:-1]}
            assert full == {size}, f"fragments of {full} bytes; MaxReceiveSize is {size}"
            assert all(m.offset == 24 for m in fragments)
            left = 80 + len(data)
            for m in fragments:
                left -= m.length
                assert m.remaining == left


def test_SmbdDataTransfer_VariableLengthSegment(c, smbd):
    data = random.Random(3).randbytes(20_000)
    f = c.create("variable")
    for sizes in ([0, 1000, 900, 0, 1, 7, 8, 0], [1000, 500, 250, 125, 60, 30, 15, 7, 3, 1, 0]):
        pdu = write_pdu(c, f, data)
        ready_for(c, 1)
        at, step = 0, 0
        while at < len(pdu):
            n = min(sizes[step % len(sizes)], len(pdu) - at)
            step += 1
            c.transport.wait_credit()
            c.transport.send_message(
                pdu[at : at + n], remaining=len(pdu) - at - n, credits_granted=c.transport.grantable()
            )
            at += n
        assert c.wait(c.message_id - 1).check().count == len(data)
        assert c.read(f, len(data)).check().data == data
        assert (smbd.share_path() / "variable").read_bytes() == data


def test_SmbdDataTransfer_SmallLengthSegment(small_daemon, smbd):
    """A PDU of exactly MaxFragmentedSize in fragments of one byte."""
    with rdma.session(small_daemon, smbd, crc=False) as c:
        limit = c.transport.response.max_fragmented_size
        assert limit == 131072
        f = c.create("one-byte")
        data = random.Random(4).randbytes(limit - 112)
        ready_for(c, 2)
        pdu = write_pdu(c, f, data)
        assert len(pdu) == limit
        s, w = c.transport, c.transport.iwarp
        at = 0
        while at < limit:
            s.wait_credit()
            count = min(max(1, s.send_credits - 1), limit - at)
            grant, out = s.grantable(), []
            for i in range(at, at + count):
                w.sent_msn[QN_SEND] += 1
                message = data_message(pdu[i : i + 1], 255, grant if i == at else 0, remaining=limit - i - 1)
                out.append(fpdu(untagged(SEND, QN_SEND, w.sent_msn[QN_SEND], 0, message), False))
            w.send_raw(b"".join(out))
            s.send_credits -= count
            s.granted += grant
            at += count
        assert c.wait(c.message_id - 2, 30).check().count == len(data)
        assert (smbd.share_path() / "one-byte").read_bytes() == data


def test_SmbdDataTransfer_Redundancy(c):
    f = c.create("redundancy")
    pdu = write_pdu(c, f, b"hello")
    ready_for(c, 1)
    c.transport.send_message(pdu, trailer=b"\xee" * 300)
    assert c.wait(c.message_id - 1).check().count == 5
    assert c.read(f, 100).check().data == b"hello"


def test_SmbdDataTransfer_DataOffsetOtherThan24(c):
    """Any aligned DataOffset is legal (MS-SMBD 2.2.3 says SHOULD)."""
    for offset in (32, 64, 400):
        ready_for(c, 1)
        c.transport.send_message(c.build(smb2.ECHO, smb2.ECHO_BODY), offset=offset)
        assert c.wait(c.message_id - 1).status == smb2.SUCCESS


@pytest.mark.parametrize("length", [0, 1, 19])
def test_SmbdDataTransfer_UncompletedMessage(c, daemon, length):
    c.transport.iwarp.send(data_message()[:length])
    rdma.assert_terminated(c, daemon)


@pytest.mark.parametrize("offset", [20, 23, 25, 28])
def test_SmbdDataTransfer_NegativeParameter_DataOffset_Against8ByteAligned(c, daemon, offset):
    c.transport.send_message(c.build(smb2.ECHO, smb2.ECHO_BODY), offset=offset)
    rdma.assert_terminated(c, daemon)


@pytest.mark.parametrize("offset", [32, 0xFFFFFFF8, 0xFFFFFFFF, 0x7FFFFFF8])
def test_SmbdDataTransfer_NegativeParameter_DataOffset_AgainstMessageLength(c, daemon, offset):
    pdu = c.build(smb2.ECHO, smb2.ECHO_BODY)
    c.transport.send_message(pdu, offset=offset, padding=bytes(4))
    rdma.assert_terminated(c, daemon)


@pytest.mark.parametrize("extra", [1, 8, 0xFFFFFFFF])
def test_SmbdDataTransfer_NegativeParameter_DataLength_AgainstMessageLength(c, daemon, extra):
    pdu = c.build(smb2.ECHO, smb2.ECHO_BODY)
    c.transport.send_message(pdu, length=min(0xFFFFFFFF, len(pdu) + extra))
    rdma.assert_terminated(c, daemon)


def test_SmbdDataTransfer_NegativeParameter_DataLength_AgainstMaxReceiveSize(c, daemon):
    f = c.create("too-long")
    limit = c.transport.max_send_size
    pdu = write_pdu(c, f, bytes(limit))
    c.transport.send_message(pdu[: limit - 24], remaining=len(pdu) - (limit - 24))
    assert len(data_message(pdu[: limit - 24])) == limit, "exactly MaxReceiveSize is fine"
    rest = pdu[limit - 24 :]
    assert c.transport.ended(0.2) is None
    c.transport.send_message(rest + bytes(limit + 1 - 24 - len(rest)), length=len(rest))
    rdma.assert_terminated(c, daemon)


@pytest.mark.parametrize("extra", [0, 1, 0xFFFFFFFF])
def test_SmbdDataTransfer_NegativeParameter_AgainstMaxFragmentedSize(small_daemon, smbd, extra):
    """A message of exactly MaxFragmentedSize is served; one byte more is not even begun."""
    with rdma.session(small_daemon, smbd, crc=False) as c:
        limit = c.transport.response.max_fragmented_size
        f = c.create("fragmented-limit")
        before = (smbd.share_path() / "fragmented-limit").read_bytes()
        if extra == 0:
            assert c.write(f, b"\x77" * (limit - 112)).check().count == limit - 112
            return
        part = write_pdu(c, f, bytes(limit - 111))[:1000]
        c.transport.send_message(part, remaining=min(limit + extra - 1000, 0xFFFFFFFF))
        rdma.assert_terminated(c, small_daemon)
        assert (smbd.share_path() / "fragmented-limit").read_bytes() == before


@pytest.mark.parametrize("payload", [0, 8])
def test_SmbdDataTransfer_NegativeParameter_RemainingDataLength_AgainstMaxFragmentedSize(c, daemon, payload):
    """Also when the message carries no data."""
    limit = c.transport.response.max_fragmented_size
    c.transport.send_message(bytes(payload), remaining=limit + 1 - payload)
    rdma.assert_terminated(c, daemon)


def begin_write(c):
    """The first 1000 bytes of a WRITE of 5000; returns the rest."""
    f = c.create("reassembly")
    pdu = write_pdu(c, f, bytes(5000))
    c.transport.send_message(pdu[:1000], remaining=len(pdu) - 1000)
    return pdu[1000:]


def test_SmbdDataTransfer_NegativeParameter_RemainingDataLength_Zero(c, daemon):
    rest = begin_write(c)
    c.transport.send_message(rest[:500], remaining=0)
    rdma.assert_terminated(c, daemon)


@pytest.mark.parametrize("more", [1, 1000, 1 << 20])
def test_SmbdDataTransfer_NegativeParameter_RemainingDataLength_AgainstFragmentReassemblyRemaining(c, daemon, more):
    rest = begin_write(c)
    c.transport.send_message(rest[:500], remaining=len(rest) - 500 + more)
    rdma.assert_terminated(c, daemon)


def test_SmbdDataTransfer_NegativeParameter_RemainingDataLength_TooLittle(c, daemon):
    rest = begin_write(c)
    c.transport.send_message(rest[:500], remaining=len(rest) - 501)
    rdma.assert_terminated(c, daemon)


def test_SmbdDataTransfer_EmptyMessageBetweenFragments(c):
    """Old Linux clients send credit-only messages inside a fragmented message; they count for nothing else."""
    rest = begin_write(c)
    c.transport.grant()
    at = 0
    while at < len(rest):
        part = rest[at : at + 1000]
        c.transport.send_message(part, remaining=len(rest) - at - len(part), credits_granted=0)
        at += len(part)
    c.credits -= 1
    assert c.wait(c.message_id - 1).check().count == 5000


def test_SmbdDataTransfer_IdleConnection_Client(c):
    """We ask for an answer; it comes at once, and does not ask back."""
    c.transport.pump(0.1)
    for _ in range(3):
        c.transport.auto_answer = False
        c.transport.send_message(flags=1, credits_granted=c.transport.grantable())
        m = c.transport.receive_message(1)
        assert m.empty and m.flags == 0
    assert c.echo().status == smb2.SUCCESS
