# SPDX-License-Identifier: MIT
"""Local addresses that come after the daemon, and that go without a word: keepalived and Pacemaker move them so. Each test has
network namespaces of its own."""

import os
import signal
import subprocess

import pytest

from lib import rdma, smb2
from lib.process import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes network namespaces")

FOUR, SIX, OTHER = "10.9.9.5", "fd99::5", "10.9.9.6"
CLIENT = {FOUR: "10.9.9.77", SIX: "fd99::77", OTHER: "10.9.9.77"}


@pytest.fixture
def lan(make_lan):
    """Its daemon listens on three addresses that its host does not have."""
    lan = make_lan("transparent", options={"bind interfaces only": "no"})
    lan.daemon.stop()
    lan.daemon.pool["listeners"] += [{"address": address, "port": 5445} for address in (FOUR, SIX, OTHER)]
    lan.daemon.start()
    return lan


def add(lan, *addresses, device="net0"):
    for address in addresses:
        prefix = ["/64", "nodad"] if ":" in address else ["/24"]
        lan.here.run("ip", "address", "add", address + prefix[0], "dev", device, *prefix[1:])


def delete(lan, address, device="net0"):
    lan.here.run("ip", "address", "del", address + ("/64" if ":" in address else "/24"), "dev", device)


def session(lan, address):
    connect = lambda: smb2.Client(rdma.SmbDirect.connect((address, 5445), source=(CLIENT[address], 0)))  # noqa: E731
    smbd = lan.smbd
    return lan.there.socket_in(connect).start(user=smbd.user, password=smbd.password, host=smbd.netbios_name)


def locals_of(lan):
    return {row["local"].rsplit(":", 1)[0].strip("[]") for row in lan.daemon.ctl("connections")}


def test_listeners_serve_addresses_that_come_later(lan):
    told = "(iwarp): no interface of this host has this address now; clients are served once one has"
    for address in (FOUR, SIX, OTHER):
        assert f"{address} port 5445 {told}" in lan.daemon.log, lan.daemon.log
        assert f"{address} port 5445 (iwarp), waiting for its address" in lan.daemon.ctl("status")["listeners"]
    for address in ("10.9.9.1", "fd99::1"):
        assert f"{address} port 5445 (iwarp), waiting" not in lan.daemon.ctl("status")["listeners"]
    add(lan, FOUR, SIX)
    for address in (FOUR, SIX):
        with session(lan, address) as smb:
            assert smb.echo().status == smb2.SUCCESS
            assert address in locals_of(lan)
    listeners = lan.daemon.ctl("status")["listeners"]
    assert listeners.count("waiting for its address") == 1 and listeners.endswith(f"{OTHER} port 5445 (iwarp), waiting for its address")


@pytest.mark.parametrize("address", [FOUR, SIX])
def test_connections_to_an_address_that_has_gone_are_ended_and_no_others(lan, address):
    add(lan, address, OTHER)
    with session(lan, address), session(lan, OTHER) as other:
        wait_until(lambda: len(lan.serving()) == 2, 5, lan.serving)
        delete(lan, address)
        wait_until(lambda: locals_of(lan) == {OTHER}, 5, lambda: lan.daemon.log[-2000:])
        wait_until(lambda: len(lan.serving()) == 1, 5, lan.serving)
        told = f'{address} left this host without "smbdirectctl leave": 1 connections are ended'
        assert lan.daemon.log.count(told) == 1, lan.daemon.log[-2000:]
        assert other.echo().status == smb2.SUCCESS
        # It comes back, and the door is open.
        assert lan.daemon.ctl("status")["leaving"] == []
        add(lan, address)
        with session(lan, address) as again:
            assert again.echo().status == smb2.SUCCESS


def test_an_address_that_is_on_another_interface_too_has_not_gone(lan):
    add(lan, FOUR, OTHER)
    lan.here.run("ip", "address", "add", FOUR + "/32", "dev", "lo")
    with session(lan, FOUR) as stays, session(lan, OTHER):
        delete(lan, FOUR)
        delete(lan, OTHER)
        wait_until(lambda: locals_of(lan) == {FOUR}, 5, lambda: lan.daemon.log[-2000:])
        add(lan, FOUR)
        assert stays.echo().status == smb2.SUCCESS


def test_what_the_kernel_could_not_tell_is_found_out(lan):
    """More comes and goes than waits for a daemon that stands still; what matters is last."""
    add(lan, FOUR, OTHER)
    with session(lan, FOUR), session(lan, OTHER) as other:
        os.kill(lan.daemon.pid, signal.SIGSTOP)
        try:
            lines = "".join(f"address {verb} 10.200.0.{n}/32 dev lo\n" for _ in range(10) for verb in ("add", "del") for n in range(1, 201))
            batch = subprocess.run(lan.here.wrap("ip", "-batch", "-"), input=lines, text=True, capture_output=True, timeout=60)
            assert batch.returncode == 0, batch.stderr
            delete(lan, FOUR)
        finally:
            os.kill(lan.daemon.pid, signal.SIGCONT)
        wait_until(lambda: locals_of(lan) == {OTHER}, 10, lambda: lan.daemon.log[-2000:])
        assert other.echo().status == smb2.SUCCESS


def test_a_host_that_takes_every_address_is_told(lan):
    assert "ip_nonlocal_bind" not in lan.daemon.log
    lan.daemon.stop()
    lan.here.sysctl("net.ipv4.ip_nonlocal_bind", 1)
    lan.daemon.start()
    assert "net.ipv4.ip_nonlocal_bind is 1, so that this host takes every address for its own" in lan.daemon.log
