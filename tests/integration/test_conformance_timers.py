# SPDX-License-Identifier: MIT
"""SMB Direct timers (MS-SMBD 3.1.2): Microsoft's negotiation, idle and send-credit cases.

Where the number itself is the requirement the default configuration is used; those cases run side by side, for
they only wait.
"""

import concurrent.futures
import time

import pytest

from lib import rdma, smb2
from lib.daemon import Smbdirectd
from lib.iwarp import Closed, Iwarp, Timeout
from lib.smbdirect import RESPONSE_REQUESTED, SmbDirect


def stream(daemon):
    return SmbDirect(Iwarp.connect((daemon.address, daemon.port)))


def negotiate_after(daemon, smbd, seconds):
    with stream(daemon) as s:
        time.sleep(seconds)
        assert s.negotiate().status == 0
        c = smb2.Client(s).start(host=smbd.netbios_name)
        assert c.echo().status == smb2.SUCCESS


def never_negotiate(daemon):
    started = time.monotonic()
    s = stream(daemon)
    how, cause = rdma.assert_terminated(s.iwarp, daemon, within=8)
    return time.monotonic() - started, cause


def never_grant(daemon, smbd):
    """A READ is answered with more than our credits carry, and we grant no more."""
    c = rdma.session(daemon, smbd, receive_credits=10, max_receive_size=1024)
    f = c.create("never-grant")
    c.write(f, bytes(60_000)).check()
    s = c.transport
    s.auto_grant = False
    c.send_read(f, 60_000, 0)
    last = time.monotonic()
    with pytest.raises((Closed, rdma.Terminated)):
        while True:
            s.receive_message(8)
            last = time.monotonic()
    waited = time.monotonic() - last
    cause = daemon.wait_closed(s.local, 3)["cause"]
    s.close()
    return waited, cause


def never_answer(daemon, smbd):
    """The server asks whether we live; we say nothing."""
    with rdma.session(daemon, smbd) as c:
        s = c.transport
        s.pump(0.05)
        while True:
            m = s.receive_message(3)
            if m.flags & RESPONSE_REQUESTED:
                break
        asked = time.monotonic()
        ended = s.ended(8)
        assert ended is not None
        waited = time.monotonic() - asked
        return waited, daemon.wait_closed(s.local, 3)["cause"]


@pytest.fixture(scope="module")
def idle_daemon(scratch, smbd):
    """Idle after 400 ms; the wait for the answer is the default 5 s."""
    with Smbdirectd(scratch / "idle", smbd.port, pool={"smbdirect": {"idle_timeout_ms": 400}}) as d:
        yield d


@pytest.fixture(scope="module")
def grant_daemon(scratch, smbd):
    """The Send Credit Grant Timer as MS-SMBD has it; ours is longer, for clients that stand still for a moment."""
    with Smbdirectd(scratch / "grant", smbd.port, pool={"smbdirect": {"send_credit_timeout_ms": 5000}}) as d:
        yield d


@pytest.fixture(scope="module")
def brisk_daemon(scratch, smbd):
    """All timers short."""
    timers = {
        "negotiate_timeout_ms": 500,
        "idle_timeout_ms": 400,
        "keepalive_timeout_ms": 400,
        "send_credit_timeout_ms": 500,
    }
    with Smbdirectd(scratch / "brisk", smbd.port, pool={"smbdirect": timers}) as d:
        yield d


@pytest.fixture(scope="module")
def slow(daemon, idle_daemon, grant_daemon, smbd):
    """The cases that wait for default timers, all running at once."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        yield {
            "negotiate after 4 s": pool.submit(negotiate_after, daemon, smbd, 4),
            "never negotiate": pool.submit(never_negotiate, daemon),
            "never grant": pool.submit(never_grant, grant_daemon, smbd),
            "never answer": pool.submit(never_answer, idle_daemon, smbd),
        }


def test_SmbdNegotiate_NegotiationTimer(slow):
    slow["negotiate after 4 s"].result(20)


def test_SmbdNegotiate_NegotiationTimer_Timeout(slow):
    waited, cause = slow["never negotiate"].result(20)
    assert 4.5 <= waited <= 6, waited
    assert "negotiat" in cause, cause


def test_SmbdCreditMgmt_ConsumeAllCreditServer_Timeout(slow):
    """Send Credit Grant Timer of 5 s: data waiting and no credit for so long."""
    waited, cause = slow["never grant"].result(20)
    assert 4.5 <= waited <= 6, waited
    assert "credit" in cause, cause


def test_SmbdDataTransfer_IdleConnection_Server_Timeout(slow):
    waited, cause = slow["never answer"].result(20)
    assert 4.5 <= waited <= 6, waited
    assert "keepalive" in cause.lower() or "answer" in cause, cause


def test_SmbdDataTransfer_IdleConnection_Server(brisk_daemon, smbd):
    """When idle the server asks; answered, the connection stays, again and again."""
    with rdma.session(brisk_daemon, smbd) as c:
        s, asked = c.transport, 0
        s.auto_answer = False
        s.pump(0.05)
        for _ in range(4):
            started = time.monotonic()
            while not (m := s.receive_message(2)).flags & RESPONSE_REQUESTED:
                started = time.monotonic()
            assert m.empty
            assert 0.2 <= time.monotonic() - started <= 1.2
            s.grant()
            asked += 1
        assert asked == 4 and c.echo().status == smb2.SUCCESS


def test_SmbdDataTransfer_IdleConnection_TrafficKeepsItQuiet(brisk_daemon, smbd):
    """The idle timer restarts with everything received."""
    with rdma.session(brisk_daemon, smbd) as c:
        for _ in range(10):
            c.echo().check()
            time.sleep(0.1)
        assert not [m for m in c.transport.messages if m.flags & RESPONSE_REQUESTED]


def test_short_timers_are_kept(brisk_daemon, smbd):
    """The configured numbers, not the defaults, decide."""
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        jobs = [
            pool.submit(never_negotiate, brisk_daemon),
            pool.submit(never_grant, brisk_daemon, smbd),
            pool.submit(never_answer, brisk_daemon, smbd),
        ]
        for job in jobs:
            waited, cause = job.result(10)
            assert 0.25 <= waited <= 1.5, (waited, cause)


def test_SmbdCreditMgmt_ConsumeAllCreditServer_GrantInTime(brisk_daemon, smbd):
    """A grant before the Send Credit Grant Timer ends keeps the connection."""
    with rdma.session(brisk_daemon, smbd, receive_credits=10, max_receive_size=1024) as c:
        f = c.create("grant-in-time")
        data = bytes(range(256)) * 200
        c.write(f, data).check()
        s = c.transport
        s.auto_grant = False
        message_id = c.send_read(f, len(data), 0)
        while not s._ready:
            try:
                s.receive_message(0.25)
            except Timeout:
                s.send_message(credits_granted=10 - s.granted)
        s.auto_grant = True
        assert c.wait(message_id).check().data == data
