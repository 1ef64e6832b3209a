# SPDX-License-Identifier: MIT
"""SMB Direct credits: Microsoft's SmbdCreditMgmt cases (MS-SMBD 3.1.5.1, 3.1.5.9)."""

import random

import pytest

from lib import rdma, smb2
from lib.iwarp import Timeout
from lib.smbdirect import data_message


@pytest.mark.parametrize(
    "credits", [1, 2, 10], ids=["BVT_OperationWithMinimumCredits", "Two", "OperationWithLimitedCredits"]
)
def test_BVT_SmbdCreditMgmt_OperationWithMinimumCredits(daemon, smbd, credits):
    data = random.Random(credits).randbytes(30_000)
    with rdma.session(
        daemon, smbd, receive_credits=credits, send_target=credits, max_receive_size=1024, preferred_send_size=1024
    ) as c:
        assert c.transport.response.credits_granted <= credits
        f = c.create("minimum-credits")
        assert c.write(f, data).check().count == len(data)
        assert c.read(f, len(data)).check().data == data
        response, placed = rdma.channel_read(c, f, len(data))
        assert response.status == smb2.SUCCESS and placed == data
        assert rdma.channel_write(c, f, data[::-1]).check().count == len(data)
        assert (smbd.share_path() / "minimum-credits").read_bytes() == data[::-1]
        assert c.echo().status == smb2.SUCCESS
        assert c.transport.send_credits <= credits


def test_SmbdCreditMgmt_ConsumeAllSendCredits(daemon, smbd):
    """A client that has used all its credits gets an empty message that grants."""
    with rdma.session(daemon, smbd, send_target=10, preferred_send_size=1024) as c:
        s = c.transport
        f = c.create("consume-send")
        while s.send_credits < 10:
            s.pump_one(2)
        data = random.Random(10).randbytes(60_000)
        pdu = c.build(smb2.WRITE, smb2.write_body(f, data, 0))
        c.credits -= 1
        s.grant(s.grantable() - 1)  # leave one to grant with the last message
        at = 0
        while at < len(pdu):
            while s.send_credits:
                part = pdu[at : at + 1000]
                if not part:
                    break
                last_credit = s.send_credits == 1
                grant = max(1, s.grantable()) if last_credit else 0
                s.send_message(part, remaining=len(pdu) - at - len(part), credits_granted=grant)
                at += len(part)
            if at < len(pdu):
                m = s.receive_message(2)
                assert m.empty and 1 <= m.credits_granted <= 10, m
                assert s.send_credits <= 10
        assert c.wait(c.message_id - 1).check().count == len(data)
        assert (smbd.share_path() / "consume-send").read_bytes() == data


def test_SmbdCreditMgmt_ConsumeAllReceiveCredits(daemon, smbd):
    """Without a credit the server sends nothing; with new ones it goes on where it stopped."""
    data = random.Random(11).randbytes(60_000)
    with rdma.session(daemon, smbd, receive_credits=10, max_receive_size=1024) as c:
        s = c.transport
        f = c.create("consume-receive")
        c.write(f, data).check()
        message_id = c.send_read(f, len(data), 0)
        s.auto_grant = False
        while s.granted:
            try:
                s.receive_message(0.5)
            except Timeout:
                break
        assert s.granted <= 1, "the server left credits unused (the last one it may keep)"
        with pytest.raises(Timeout):
            s.receive_message(0.5)
        while s._left:
            before = len(s.messages)
            s.granted or s.send_message(credits_granted=10)
            if s.granted == 1:
                s.send_message(credits_granted=9)
            s.receive_message(2)
            assert len(s.messages) > before
        s.auto_grant = True
        assert c.wait(message_id).check().data == data


def test_SmbdCreditMgmt_NegativeParameter_CreditRequested(daemon, smbd):
    c = rdma.session(daemon, smbd)
    c.transport.send_message(c.build(smb2.ECHO, smb2.ECHO_BODY), credits_requested=0)
    rdma.assert_terminated(c, daemon)


def test_SmbdCreditMgmt_NegativeParameter_CreditRequested_EmptyMessage(daemon, smbd):
    c = rdma.session(daemon, smbd)
    c.transport.send_message(credits_requested=0)
    rdma.assert_terminated(c, daemon)


def test_SmbdCreditMgmt_NoPingPongOfEmpties(daemon, smbd):
    """Two sides that refill each other's credits come to rest."""
    with rdma.session(daemon, smbd, receive_credits=8, send_target=8) as c:
        c.transport.pump(0.3)
        before = len(c.transport.messages)
        c.transport.pump(0.7)
        assert len(c.transport.messages) - before <= 2


def test_SmbdCreditMgmt_GrantsNeverExceedRequest(daemon, smbd):
    """CreditsRequested is a target: what we hold never goes over it."""
    with rdma.session(daemon, smbd, send_target=20) as c:
        s = c.transport
        for _ in range(100):
            c.echo().check()
            assert s.send_credits <= 20


def test_SmbdCreditMgmt_SendWithoutCredit(daemon, smbd):
    """A client that sends on without credits is disconnected."""
    c = rdma.session(daemon, smbd, send_target=4)
    s = c.transport
    frames = b"".join(s.iwarp.frames(data_message(credits_requested=4)) for _ in range(600))
    try:
        s.iwarp.send_raw(frames)
    except (rdma.Closed, rdma.Terminated):
        return
    rdma.assert_terminated(c, daemon)
