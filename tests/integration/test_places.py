# SPDX-License-Identifier: MIT
"""Places in the pool: clients that have not logged in hold few of them, for a time, and a new client gets one while
others flood. What an IPv6 client is."""

import contextlib
import re
import threading
import time

import pytest

from lib import rdma, smb2
from lib.daemon import Smbdirectd
from lib.netspace import NetSpace
from lib.process import dial, wait_until


def logged_in(daemon, smbd, source, **kw):
    return rdma.session(daemon, smbd, source=(source, 0), **kw)


def half_open(daemon, source):
    s = dial((daemon.address, daemon.port), 5, (source, 0))
    s.setblocking(False)
    return s


def is_closed(s):
    try:
        return s.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def status(daemon):
    return daemon.ctl("status")


class Transports:
    def __init__(self):
        self.clients = []

    def keep(self, c):
        self.clients.append(c)
        return c

    def close(self):
        for c in self.clients:
            c.close_transport()


def test_a_session_is_seen_and_outlives_the_deadline(make_daemon, smbd):
    daemon = make_daemon(smbd.port, pool={"limits": {"session_timeout_ms": 1500}})
    with contextlib.closing(Transports()) as kept:
        users = [
            kept.keep(logged_in(daemon, smbd, "127.0.0.20")),
            kept.keep(logged_in(daemon, smbd, "127.0.0.20", encrypt=True, share="secret", dialect=smb2.SMB_3_0)),
        ]
        wait_until(lambda: status(daemon)["without_session"] == 0, 5, "both sessions to be seen")
        # One that has negotiated SMB2, and stops there.
        stopped = kept.keep(rdma.client(daemon, source=("127.0.0.21", 0)))
        began = time.monotonic()
        stopped.negotiate()
        assert status(daemon)["without_session"] == 1
        closed = daemon.wait_closed(stopped.local, 5)
        assert "/limits/session_timeout_ms" in closed["cause"]
        assert time.monotonic() - began < 4
        for c in users:
            assert c.echo().status == smb2.SUCCESS
    wait_until(lambda: status(daemon)["connections"] == 0, 5, "all places to be free again")


def test_a_failed_login_is_no_session(make_daemon, smbd):
    daemon = make_daemon(smbd.port)
    c = rdma.client(daemon, source=("127.0.0.22", 0))
    c.negotiate()
    assert c.login(smbd.user, "not " + smbd.password).status != smb2.SUCCESS
    assert status(daemon)["without_session"] == 1
    c.close_transport()


def flood(daemon, sources, stop, held, most=64):
    """Half-open connections from each source in turn, as fast as they come; those that are closed are begun again."""
    while not stop.is_set():
        for source in sources:
            mine = held.setdefault(source, [])
            mine[:] = [s for s in mine if not is_closed(s) or s.close()]
            try:
                while len(mine) < most and not stop.is_set():
                    mine.append(half_open(daemon, source))
            except OSError:
                pass
        time.sleep(0.01)


def test_new_clients_get_in_while_others_flood(make_daemon, smbd):
    """Ten addresses try for more than all places; a new client is served within two seconds, and who was there stays."""
    daemon = make_daemon(smbd.port, pool={"limits": {"connections": 200, "handshake_timeout_ms": 60000}})
    bystander = logged_in(daemon, smbd, "127.0.0.30")
    stop, held = threading.Event(), {}
    attack = threading.Thread(target=flood, args=(daemon, [f"127.0.8.{i}" for i in range(1, 11)], stop, held))
    attack.start()
    try:
        wait_until(lambda: status(daemon)["without_session"] >= 100, 10, "the flood to fill its places")
        for i in range(10):
            began = time.monotonic()
            c = logged_in(daemon, smbd, f"127.0.9.{i + 1}")
            assert c.echo().status == smb2.SUCCESS
            assert time.monotonic() - began < 2
            assert bystander.echo().status == smb2.SUCCESS
            c.close_transport()
        told = status(daemon)
        assert told["without_session"] <= 100
        assert told["made_room"] >= 10
        line = daemon.wait_for_log(re.compile(r".*make room for another.*"), 3)
        assert "/limits/connections_without_session" in line
    finally:
        stop.set()
        attack.join()
        for s in sum(held.values(), []):
            s.close()
        bystander.close_transport()
    assert daemon.log.count("make room for another") <= 25  # one per client and ten seconds


def test_a_client_alone_among_many_attackers_gets_in(make_daemon, smbd):
    """As many addresses as places, each with one connection that negotiates and stops."""
    daemon = make_daemon(smbd.port, pool={"limits": {"connections": 40, "connections_without_session": 40}})
    held = [rdma.client(daemon, source=(f"127.0.10.{i + 1}", 0)) for i in range(40)]
    try:
        began = time.monotonic()

        def gets_in():
            try:
                return logged_in(daemon, smbd, "127.0.11.1")
            except (rdma.Closed, ConnectionError):
                return None

        c = wait_until(gets_in, 2.5, "the newcomer")
        assert c.echo().status == smb2.SUCCESS
        assert time.monotonic() - began < 2.5
        c.close_transport()
    finally:
        for one in held:
            one.close_transport()


COUNT = """
import socket, sys, time
held = []
for i in range(8):
    s = socket.socket(socket.AF_INET6)
    s.bind((sys.argv[1] % (i + 1), 0))
    s.connect(("::1", int(sys.argv[2])))
    s.setblocking(False)
    held.append(s)
time.sleep(1)
def stays(s):
    try:
        return s.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
print(sum(map(stays, held)))
"""


@pytest.mark.parametrize("prefix, stay", [(None, 2), (128, 8)])
def test_ipv6_clients_count_by_network(scratch, prefix, stay):
    """One host with a /64 of addresses is one client, and another network's host another."""
    space = NetSpace()
    try:
        for network in ("fd00:1::/64", "fd00:2::/64"):
            space.run("ip", "-6", "route", "add", "local", network, "dev", "lo")
        space.sysctl("net.ipv6.ip_nonlocal_bind", 1)
        limits = {"connections_per_client": 2, "handshake_timeout_ms": 30000}
        if prefix:
            limits["ipv6_prefix_length"] = prefix
        pool = {
            "limits": limits,
            "listeners": [{"address": "::1", "port": 15445}],
            "upstream": {"allow": ["fd00::/16"]},
        }
        with Smbdirectd(scratch / f"ipv6-{prefix}", 445, pool=pool, space=space):
            for network in ("fd00:1::%x", "fd00:2::%x"):
                assert int(space.run("/usr/bin/python3", "-c", COUNT, network, "15445")) == stay
    finally:
        space.close()
