# SPDX-License-Identifier: MIT
"""Clients that stop half-way, smbd that is not there, limits, and what the log says about all of it."""

import concurrent.futures
import os
import re
import signal
import socket
import time

import pytest

from lib import rdma, smb2
from lib.daemon import Smbdirectd
from lib.iwarp import (
    MPA_CRC, MPA_ENHANCED, MPA_REQUEST, QN_SEND, SEND, Closed, Iwarp, enhanced_words, mpa_frame, untagged,
)  # fmt: skip
from lib.process import dial, free_port, wait_until
from lib.smbdirect import SmbDirect, negotiate_request

SHORT = {
    "smbdirect": {"negotiate_timeout_ms": 600, "idle_timeout_ms": 600, "keepalive_timeout_ms": 400},
    "limits": {"handshake_timeout_ms": 600},
}


# --- clients that stop half-way ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def brisk(scratch, smbd):
    with Smbdirectd(scratch / "brisk-limits", smbd.port, pool=SHORT) as d:
        yield d


def tcp(daemon, source="127.0.0.1"):
    s = dial((daemon.address, daemon.port), 5, (source, 0))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


REQUEST = mpa_frame(MPA_REQUEST, MPA_CRC | MPA_ENHANCED, 2, enhanced_words(16, 16))


def stop_after_tcp(daemon, smbd):
    return Iwarp(tcp(daemon))


def stop_in_mpa_key(daemon, smbd):
    w = Iwarp(tcp(daemon))
    w.send_raw(REQUEST[:7])
    return w


def stop_in_mpa_private_data(daemon, smbd):
    w = Iwarp(tcp(daemon))
    w.send_raw(REQUEST[:-1])
    return w


def stop_after_mpa(daemon, smbd):
    return Iwarp.connect((daemon.address, daemon.port))


def stop_in_fpdu(daemon, smbd):
    w = Iwarp.connect((daemon.address, daemon.port))
    w.send_raw(w.frames(negotiate_request())[:-3])
    return w


def stop_in_message(daemon, smbd):
    w = Iwarp.connect((daemon.address, daemon.port))
    w.send_ulpdu(untagged(SEND, QN_SEND, 1, 0, negotiate_request()[:10], last=False))
    return w


def stop_after_smbd_negotiate(daemon, smbd):
    s = SmbDirect(Iwarp.connect((daemon.address, daemon.port)))
    s.negotiate()
    s.auto_answer = False
    return s


def stop_in_smb2_negotiate(daemon, smbd):
    s = stop_after_smbd_negotiate(daemon, smbd)
    c = smb2.Client(s)
    pdu = c.build(smb2.NEGOTIATE, c.negotiate_body((0x0300,)))
    s.send_message(pdu[:50], remaining=len(pdu) - 50, credits_granted=255)
    return s


def stop_in_write(daemon, smbd):
    c = rdma.session(daemon, smbd)
    f = c.create("stops-in-write")
    pdu = c.build(smb2.WRITE, smb2.write_body(f, b"w" * 30_000, 0))
    c.transport.send_message(pdu[:5000], remaining=len(pdu) - 5000, credits_granted=c.transport.grantable())
    return c.transport


def stop_in_rdma_read(daemon, smbd):
    c = rdma.session(daemon, smbd)
    f = c.create("stops-in-read")
    c.transport.iwarp.answer_reads = False
    rdma.send_channel_write(c, f, b"w" * 30_000)
    return c.transport


STAGES = [stop_after_tcp, stop_in_mpa_key, stop_in_mpa_private_data, stop_after_mpa, stop_in_fpdu, stop_in_message,
          stop_after_smbd_negotiate, stop_in_smb2_negotiate, stop_in_write, stop_in_rdma_read]  # fmt: skip


def gone(stage, daemon, smbd):
    connection = stage(daemon, smbd)
    started = time.monotonic()
    how, cause = rdma.assert_terminated(connection, daemon, within=4)
    return time.monotonic() - started, cause


@pytest.fixture(scope="module")
def halfway(brisk, smbd):
    """All stages at once: they only wait."""
    with concurrent.futures.ThreadPoolExecutor(len(STAGES)) as pool:
        yield {stage: pool.submit(gone, stage, brisk, smbd) for stage in STAGES}


@pytest.mark.parametrize("stage", STAGES, ids=lambda s: s.__name__)
def test_client_that_stops_halfway(halfway, stage):
    """Gone by its deadline, with the reason in the log (600 ms handshake; idle 600 ms + keepalive 400 ms)."""
    waited, cause = halfway[stage].result(20)
    assert 0.3 <= waited <= 2.5, (waited, cause)
    assert cause


def test_slow_sender_is_not_saved_by_dribbling(brisk, smbd):
    """One byte of the MPA request every 100 ms does not move the deadline."""
    w = Iwarp(tcp(brisk))
    started = time.monotonic()
    with pytest.raises(Closed):
        for byte in REQUEST + REQUEST:
            w.send_raw(bytes([byte]))
            try:
                w.read_exactly(1, time.monotonic() + 0.1)
            except rdma.Timeout:
                pass
    assert time.monotonic() - started < 2


# --- smbd ----------------------------------------------------------------------------------------------------------


def first_request(daemon, source=None):
    """Sends an SMB2 NEGOTIATE on a new connection; how long until the server closed it, and why."""
    s = rdma.connect(daemon, source=source)
    c = smb2.Client(s)
    started = time.monotonic()
    s.send_pdu(c.build(smb2.NEGOTIATE, c.negotiate_body((0x0300,))))
    rdma.assert_terminated(s, None, within=3)
    return time.monotonic() - started, daemon.wait_closed(s.local, 3)["cause"]


def test_smbd_is_down(make_daemon):
    daemon = make_daemon(free_port())
    waited, cause = first_request(daemon)
    assert waited < 1 and "refused" in cause.lower(), (waited, cause)
    assert daemon.worker_pids()


def test_smbd_denies_the_host(make_smbd, make_daemon):
    """`hosts deny`: smbd answers 83 00 00 01 81 and closes."""
    smbd = make_smbd(options={"hosts deny": "127.0.0.1"})
    daemon = make_daemon(smbd.port)
    waited, cause = first_request(daemon)
    assert waited < 1, waited
    assert re.search("refus|denie|0x83|131", cause), cause


def test_smbd_does_not_accept(make_daemon):
    """A full backlog: the connect deadline of 1 s decides."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = []
        try:
            for _ in range(8):
                s = socket.socket()
                s.setblocking(False)
                s.connect_ex(full.getsockname())
                fillers.append(s)
            daemon = make_daemon(full.getsockname()[1], pool={"upstream": {"connect_timeout_ms": 500}})
            waited, cause = first_request(daemon)
            assert 0.3 <= waited <= 1.5 and cause, (waited, cause)
        finally:
            for s in fillers:
                s.close()


@pytest.mark.parametrize(
    "reply",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\x10" + bytes(16), b"\x82\0\0\0", b"\0\xff\xff\xff" + bytes(200)],
    ids=["http", "zeros", "netbios", "longest"],
)
def test_something_else_answers(make_daemon, reply):
    """Not smbd: garbage instead of a framed SMB2 reply ends the client's connection."""
    with socket.create_server(("127.0.0.1", 0)) as fake, concurrent.futures.ThreadPoolExecutor(1) as pool:
        fake.settimeout(5)

        def answer():
            conn, _ = fake.accept()
            with conn:
                conn.settimeout(5)
                conn.recv(1000)
                conn.sendall(reply)
                try:
                    return conn.recv(1000)
                except ConnectionResetError:
                    return b""

        served = pool.submit(answer)
        daemon = make_daemon(fake.getsockname()[1])
        waited, cause = first_request(daemon)
        assert waited < 1 and cause
        assert served.result(10) == b"", "smbd's side is closed too"


def test_smbd_comes_back(make_smbd, make_daemon, scratch):
    """After smbd's restart new connections work; the daemon was never touched."""
    smbd = make_smbd()
    daemon = make_daemon(smbd.port)
    c = rdma.session(daemon, smbd)
    workers = daemon.workers()
    smbd.stop()
    _, cause = rdma.assert_terminated(c, daemon, within=2)
    assert cause
    waited, cause = first_request(daemon)
    assert waited < 1 and "refused" in cause.lower(), (waited, cause)
    smbd.start()
    rdma.assert_serves(daemon, smbd)
    assert daemon.workers() == workers


def test_smbd_child_is_killed(daemon, smbd):
    """Its SMB Direct connection ends at once."""
    before = set(smbd.client_pids())
    c = rdma.session(daemon, smbd)
    (child,) = wait_until(lambda: set(smbd.client_pids()) - before, 2, "smbd's child")
    os.kill(child, signal.SIGKILL)
    started = time.monotonic()
    rdma.assert_terminated(c, daemon, within=2)
    assert time.monotonic() - started < 1
    rdma.assert_serves(daemon, smbd)


def test_client_that_vanishes_frees_smbd(daemon, smbd):
    before = set(smbd.client_pids())
    c = rdma.session(daemon, smbd)
    (child,) = wait_until(lambda: set(smbd.client_pids()) - before, 2, "smbd's child")
    c.transport.iwarp.reset()
    wait_until(lambda: child not in smbd.client_pids(), 3, "smbd's child ending")


# --- limits --------------------------------------------------------------------------------------------------------


def turned_away(daemon, source):
    """True when a new connection from `source` is closed before anything is said."""
    try:
        with SmbDirect(Iwarp.connect((daemon.address, daemon.port), source=(source, 0), timeout=3)) as s:
            s.negotiate()
            return False
    except (Closed, ConnectionError):
        return True


def test_limit_per_client_address(make_daemon, smbd):
    daemon = make_daemon(smbd.port, pool={"limits": {"connections_per_client": 2, "connections": 10}})
    held = [rdma.connect(daemon, source=("127.0.0.20", 0)) for _ in range(2)]
    assert turned_away(daemon, "127.0.0.20")
    assert not turned_away(daemon, "127.0.0.21")
    line = daemon.wait_for_log(re.compile(r"127\.0\.0\.20.*turned away"), 3)
    assert "connections_per_client" in line
    held.pop().close()
    wait_until(lambda: not turned_away(daemon, "127.0.0.20"), 3, "room for one more")
    for s in held:
        s.send_pdu(smb2.Client(s).build(smb2.NEGOTIATE, smb2.Client(s).negotiate_body()))
        s.recv_pdu()
        s.close()


def test_limit_of_connections_in_all(make_daemon, smbd):
    daemon = make_daemon(smbd.port, pool={"limits": {"connections_per_client": 4, "connections": 4}})
    held = [rdma.connect(daemon, source=(f"127.0.0.{30 + i}", 0)) for i in range(4)]
    assert turned_away(daemon, "127.0.0.40")
    assert "/limits/connections" in daemon.wait_for_log(re.compile(r"127\.0\.0\.40.*turned away"), 3)
    for s in held:
        s.close()
    wait_until(lambda: not turned_away(daemon, "127.0.0.40"), 3, "room again")


def test_silent_connections_count_and_leave(make_daemon, smbd):
    """Half-open connections cannot exhaust the slots for longer than the handshake deadline."""
    limits = {"handshake_timeout_ms": 600, "connections_per_client": 3}
    daemon = make_daemon(smbd.port, pool={**SHORT, "limits": limits})
    silent = [tcp(daemon, "127.0.0.50") for _ in range(3)]
    assert turned_away(daemon, "127.0.0.50")
    wait_until(lambda: not turned_away(daemon, "127.0.0.50"), 3, "the silent ones' places")
    for s in silent:
        s.close()


def test_access_list(make_daemon, smbd):
    daemon = make_daemon(smbd.port, pool={"upstream": {"allow": ["127.0.0.0/24"], "deny": ["127.0.0.66"]}})
    assert turned_away(daemon, "127.0.0.66")
    assert turned_away(daemon, "127.0.1.1")
    assert not turned_away(daemon, "127.0.0.67")
    daemon.wait_for_log(re.compile(r"127\.0\.0\.66.*turned away"), 3)


# --- what the log says ---------------------------------------------------------------------------------------------


def causes(daemon):
    """Ended connections by cause, summed over the workers (SIGUSR1)."""
    at = daemon.log_position()
    daemon.server.send_signal(signal.SIGUSR1)
    workers = len(daemon.workers())
    wait_until(lambda: daemon.log_since(at).count("totals open=") >= workers, 5, "the workers' totals")
    time.sleep(0.1)
    found = {}
    for cause, count in re.findall(r'ended cause="([^"]*)" count=(\d+)', daemon.log_since(at)):
        found[cause] = found.get(cause, 0) + int(count)
    return found


def test_counted_by_cause_and_logged_once(make_daemon, smbd):
    """Twenty connections with the same offence: one warning per worker at most, and all of them counted."""
    daemon = make_daemon(smbd.port)
    before = causes(daemon)
    seen = set()
    for _ in range(20):
        s = SmbDirect(Iwarp.connect((daemon.address, daemon.port), source=("127.0.0.90", 0)))
        s.negotiate(timeout=3)
        s.send_message(b"x" * 64, offset=25)
        _, cause = rdma.assert_terminated(s, daemon)
        seen.add(cause)
    assert len(seen) == 1, seen
    (cause,) = seen
    after = causes(daemon)
    assert after[cause] - before.get(cause, 0) == 20
    warnings = [line for line in daemon.log.splitlines() if "127.0.0.90" in line and "ended:" in line]
    assert 1 <= len(warnings) <= 2, warnings
    assert cause in warnings[0]


def test_peer_bytes_never_reach_the_log_raw(daemon):
    """What a client sends cannot forge log lines."""
    with tcp(daemon) as s:
        s.sendall(b"MPA ID Req Frame"[:8] + b"\nFORGED smbdirectd: all is well\n\x1b[31m")
        s.settimeout(3)
        try:
            while s.recv(100):
                pass
        except OSError:
            pass
    time.sleep(0.1)
    assert "FORGED" not in daemon.log and "\x1b" not in daemon.log
