# SPDX-License-Identifier: MIT
"""SMB Direct negotiation: Microsoft's SmbdNegotiate cases (MS-SMBD 3.1.5.6)."""

import time

import pytest

from lib import rdma, smb2
from lib.iwarp import Iwarp
from lib.smbdirect import STATUS_NOT_SUPPORTED, VERSION, SmbDirect, negotiate_request


def stream(daemon):
    """iWARP is up, nothing sent on it."""
    return SmbDirect(Iwarp.connect((daemon.address, daemon.port)))


def serves_smb2(connection, smbd):
    """An SMB2 session works over this SMB Direct connection."""
    c = smb2.Client(connection)
    c.start(dialects=(smb2.SMB_3_0_2,), host=smbd.netbios_name)
    assert c.echo().status == smb2.SUCCESS


@pytest.mark.smoke
def test_BVT_SmbdNegotiate_Basic(daemon):
    with stream(daemon) as s:
        r = s.negotiate(
            credits_requested=10, preferred_send_size=1024, max_receive_size=1024, max_fragmented_size=131072
        )
        assert r.status == 0 and r.negotiated_version == r.min_version == r.max_version == VERSION
        assert 1 <= r.credits_granted <= 10 and r.credits_requested >= 1
        assert r.max_read_write_size >= 1 << 20
        assert 128 <= r.preferred_send_size <= 1024 and 128 <= r.max_receive_size <= 1024
        assert r.max_fragmented_size >= 131072


@pytest.mark.parametrize("size", [0, 127, 128])
def test_SmbdNegotiate_PreferredSendSizeWithZero_LessThan128(daemon, smbd, size):
    with stream(daemon) as s:
        r = s.negotiate(preferred_send_size=size)
        assert r.status == 0 and r.max_receive_size == 128
        serves_smb2(s, smbd)


def test_SmbdNegotiate_PreferredSendSizeMaxValue(daemon, smbd):
    with stream(daemon) as s:
        assert s.negotiate(preferred_send_size=0xFFFFFFFF).status == 0
        serves_smb2(s, smbd)


def test_SmbdNegotiate_AllMaxValues(daemon, smbd):
    with stream(daemon) as s:
        limit = 0xFFFFFFFF
        r = s.negotiate(
            preferred_send_size=limit, max_receive_size=limit, max_fragmented_size=limit, credits_requested=0xFFFF
        )
        assert r.status == 0
        serves_smb2(s, smbd)


def test_SmbdNegotiate_Redundancy(daemon, smbd):
    with stream(daemon) as s:
        assert s.negotiate(trailer=b"\xa5" * 492).status == 0
        serves_smb2(s, smbd)


def test_SmbdNegotiate_DisconnectAfterNegotiate(daemon, smbd):
    for end in ("close", "reset", "close before the response"):
        s = stream(daemon)
        if end == "close before the response":
            s.iwarp.send(negotiate_request())
            s.close()
        else:
            assert s.negotiate().status == 0
            s.iwarp.reset() if end == "reset" else s.close()
        rdma.assert_serves(daemon, smbd)


@pytest.mark.parametrize("length", [0, 1, 19])
def test_SmbdNegotiate_UncompletedMessage(daemon, length):
    s = stream(daemon)
    s.iwarp.send(negotiate_request()[:length])
    rdma.assert_terminated(s.iwarp, daemon)


@pytest.mark.parametrize(
    "low, high",
    [(0, VERSION), (0xFFFF, VERSION), (0x0101, 0x0101)],
    ids=["min-0", "min-ffff", "both-0101"],
)
def test_SmbdNegotiate_NegativeParameter_MinVersion(daemon, low, high):
    check_version(daemon, low, high)


@pytest.mark.parametrize("low, high", [(VERSION, 0), (VERSION, 0xFFFF), (0, 0)], ids=["max-0", "max-ffff", "both-0"])
def test_SmbdNegotiate_NegativeParameter_MaxVersion(daemon, low, high):
    check_version(daemon, low, high)


def check_version(daemon, low, high):
    s = stream(daemon)
    r = s.negotiate(min_version=low, max_version=high)
    assert r.status == STATUS_NOT_SUPPORTED
    rest = (r.negotiated_version, r.credits_requested, r.credits_granted, r.max_read_write_size)
    assert rest == (0, 0, 0, 0)
    assert (r.preferred_send_size, r.max_receive_size, r.max_fragmented_size) == (0, 0, 0)
    rdma.assert_terminated(s.iwarp, daemon)
    assert not s.iwarp.received, "an answer after the refusal"


@pytest.mark.parametrize(
    "field, bad",
    [("credits_requested", 0), ("max_receive_size", 127), ("max_fragmented_size", 131071)],
    ids=["CreditsRequested", "MaxReceiveSize", "MaxFragmentedSize"],
)
def test_SmbdNegotiate_NegativeParameter(daemon, smbd, field, bad):
    s = stream(daemon)
    s.iwarp.send(negotiate_request(**{field: bad}))
    rdma.assert_terminated(s.iwarp, daemon)
    assert not s.iwarp.received, "a response to a request that must be dropped"
    with stream(daemon) as s:
        s.receive_credit_target = 1 if field == "credits_requested" else 255
        assert s.negotiate(**{field: bad + 1}).status == 0
        serves_smb2(s, smbd)


def test_SmbdNegotiate_RepeatedRequest(daemon):
    """After negotiation every message is a data message: a second request is not answered as one."""
    s = stream(daemon)
    s.negotiate()
    s.iwarp.send(negotiate_request(preferred_send_size=1 << 30, max_receive_size=7, max_fragmented_size=1 << 30))
    rdma.assert_terminated(s.iwarp, daemon)


def test_SmbdNegotiate_ResponseComesAtOnce(daemon):
    with stream(daemon) as s:
        started = time.monotonic()
        s.negotiate()
        assert time.monotonic() - started < 1
