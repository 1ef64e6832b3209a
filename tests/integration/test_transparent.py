# SPDX-License-Identifier: MIT
"""Upstream mode "transparent": what it adds to a host's routing and takes back, and what smbd sees of a client.
Each test has network namespaces of its own; the machine's routing is not touched."""

import os
import socket
import time

import pytest

from lib.connectors import Failed, Connector
from lib.netspace import NetSpace, SmbdInside
from lib.process import wait_until
from lib.smb2 import Closed

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes network namespaces")

MARK, TABLE = 0x534D42, "5342"
OURS = "83"


@pytest.fixture
def space():
    with NetSpace() as space:
        yield space


@pytest.fixture
def lock(tmp_path):
    return tmp_path / "lock"


@pytest.fixture
def connector(space, tmp_path, lock):
    """connector(**options) -> a started tool in mode "transparent", stopped at the end of the test."""
    made = []

    def make(**options):
        made.append(Connector(options.pop("space", space), tmp_path, "transparent", lock=lock, **options))
        return made[-1].start()

    yield make
    for tool in made:
        if hasattr(tool, "server") and tool.server.running():
            tool.stop()


@pytest.fixture
def listener(space):
    """An address where somebody listens in the namespace."""

    def make():
        sock = socket.create_server(("127.0.0.1", 0))
        sock.settimeout(5)
        return sock

    with space.socket_in(make) as sock:
        yield sock


def our_rules(space, family=4):
    return [r for r in space.rules(family) if r.get("protocol") == OURS]


# --- rule, route, sysctl ----------------------------------------------------------------------------------------


def test_everything_is_there_and_is_taken_back(space, connector):
    before = space.state()
    tool = connector()
    for family in (4, 6):
        (rule,) = our_rules(space, family)
        assert (rule["fwmark"], rule["table"]) == (hex(MARK), TABLE)
        (route,) = space.routes(TABLE, family)
        assert (route["dst"], route["dev"], route["protocol"]) == ("default", "lo", OURS)
    assert space.sysctl("net.ipv4.tcp_fwmark_accept") == "1"
    tool.stop()
    assert space.state() == before


def test_mark_and_table_are_configurable(space, connector):
    tool = connector(mark="0x77", table=99)
    (rule,) = our_rules(space)
    assert (rule["fwmark"], rule["table"]) == ("0x77", "99")
    tool.stop()
    assert our_rules(space) == []


def test_a_sysctl_that_was_on_stays_on(space, connector):
    space.sysctl("net.ipv4.tcp_fwmark_accept", 1)
    connector().stop()
    assert space.sysctl("net.ipv4.tcp_fwmark_accept") == "1"


def test_an_administrators_own_set_up_is_left(space, connector):
    for family, everything in ((4, "0.0.0.0/0"), (6, "::/0")):
        space.run("ip", f"-{family}", "rule", "add", "fwmark", hex(MARK), "lookup", TABLE, "pref", 50)
        space.run("ip", f"-{family}", "route", "add", "local", everything, "dev", "lo", "table", TABLE)
    before = space.state()
    tool = connector()
    assert our_rules(space) == []
    tool.stop()
    assert space.state() == before


def test_an_administrators_route_is_left_where_the_rule_is_ours(space, connector):
    space.run("ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", TABLE)
    before = space.state()
    tool = connector()
    assert len(our_rules(space)) == 1
    tool.stop()
    assert space.state() == before


@pytest.mark.parametrize(
    "foreign, told",
    [
        (["rule", "add", "fwmark", hex(MARK), "lookup", "77", "pref", "500"], "lookup 77 (IPv4, priority 500)"),
        (["rule", "add", "fwmark", "5", "lookup", TABLE, "pref", "500"], "fwmark 0x5 lookup 5342"),
        (["rule", "add", "fwmark", "2/2", "lookup", "77", "pref", "7"], "fwmark 0x2/0x2 lookup 77"),
        (["route", "add", "10.0.0.0/8", "dev", "lo", "table", TABLE], "a /8 network table 5342"),
    ],
)
def test_a_foreign_use_of_mark_or_table_is_named(space, connector, foreign, told):
    space.run("ip", *foreign)
    before = space.state()
    with pytest.raises(Failed) as failed:
        connector()
    assert told in str(failed.value) and "choose another" in str(failed.value)
    assert space.state() == before


FROM = "10.1.2.3"


@pytest.fixture
def second(space):
    """The namespace has the address FROM, and a neighbour."""
    with NetSpace() as other:
        space.link_to(other, [f"{FROM}/24", "fd12::3/64"], ["10.1.2.4/24", "fd12::4/64"])
        yield other


@pytest.mark.parametrize("family, source, network", [(4, FROM, FROM), (4, FROM, "10.1.0.0/16"), (6, "fd12::3", "fd12::/64")])
def test_a_rule_that_would_take_smbds_answers_is_named(space, second, connector, listener, family, source, network):
    """As CTDB's 13.per_ip_routing makes them. One before ours, and one of the same priority, which the kernel puts first."""
    space.run("ip", f"-{family}", "rule", "add", "from", network, "lookup", "77", "pref", "90")
    before = space.state()
    for options in ({}, {"source": source}):
        with pytest.raises(Failed) as failed:
            connector(**options)
        told = str(failed.value)
        assert f'"from {network} lookup 77 (IPv{family}, priority 90)" comes before' in told, told
        assert f"answers from {source}, " in told and "choose another mark, table or priority" in told, told
    assert space.state() == before
    # smbd is at other addresses, or ours comes first.
    connector(source="10.7.7.7" if family == 4 else "fd77::7").stop()
    tool = connector(priority=89)
    tool.open("10.9.9.77", "127.0.0.1", server_port=listener.getsockname()[1]).close()
    tool.stop()
    assert space.state() == before


def test_the_kernel_is_asked_for_routes_from_each_address_of_this_host(space, second, connector):
    """The rule selects by more than is looked at."""
    space.run("ip", "rule", "add", "from", FROM, "iif", "lo", "lookup", "77", "pref", "50")
    space.run("ip", "route", "add", "default", "via", "10.1.2.4", "table", "77")
    before = space.state()
    with pytest.raises(Failed, match=f"from {FROM} for the mark.*another routing rule comes first.*a lower /upstream"):
        connector()
    assert space.state() == before
    connector(source="10.7.7.7").stop()


def test_the_rule_of_a_daemon_with_another_priority_gives_way(space, connector):
    before = space.state()
    connector(priority=100).kill()
    tool = connector()
    assert [rule["priority"] for family in (4, 6) for rule in our_rules(space, family)] == [90, 90]
    tool.stop()
    assert space.state() == before


def test_a_conflict_in_ipv6_takes_the_ipv4_part_back(space, connector):
    space.run("ip", "-6", "rule", "add", "fwmark", hex(MARK), "lookup", "77", "pref", "500")
    before = space.state()
    with pytest.raises(Failed, match="IPv6, priority 500"):
        connector()
    assert space.state() == before


def test_a_rule_that_takes_everything_first_is_found(space, connector):
    space.run("ip", "rule", "add", "lookup", "77", "pref", "9")
    space.run("ip", "route", "add", "default", "dev", "lo", "table", "77")
    with pytest.raises(Failed, match="another routing rule comes first"):
        connector()
    assert our_rules(space) == []


def test_after_kill_the_next_one_takes_over_and_takes_back(space, connector):
    before = space.state()
    tool = connector()
    inside = space.state()
    tool.kill()
    assert space.state() == inside  # the workers' connections need it
    tool = connector()
    assert space.state() == inside
    tool.stop()
    assert space.state() == before


def test_killed_with_the_sysctl_switched_off_since(space, connector):
    space.sysctl("net.ipv4.tcp_fwmark_accept", 1)
    connector().kill()
    space.sysctl("net.ipv4.tcp_fwmark_accept", 0)
    connector().stop()
    assert space.sysctl("net.ipv4.tcp_fwmark_accept") == "0"
    assert our_rules(space) == [] and space.routes(TABLE) == []


def test_the_last_of_two_takes_it_back(space, connector):
    before = space.state()
    first, second = connector(), connector()
    first.stop()
    assert len(our_rules(space)) == 1 and space.sysctl("net.ipv4.tcp_fwmark_accept") == "1"
    second.stop()
    assert space.state() == before


def test_without_ipv6(space, connector, listener):
    space.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
    space.sysctl("net.ipv6.conf.lo.disable_ipv6", 1)
    tool = connector()
    assert "disabled on lo" in tool.greeting
    assert our_rules(space, 6) == []
    tool.open("10.9.9.77", "127.0.0.1", server_port=listener.getsockname()[1]).close()
    with pytest.raises(Failed, match="disabled on lo.*IPv6 clients cannot be served"):
        tool.open("fd99::77", "::1")
    tool.stop()


def test_lo_down_is_told(space, connector):
    space.run("ip", "link", "set", "lo", "down")
    with pytest.raises(Failed, match="ip link set lo up"):
        connector()


def test_answers_that_are_routed_away_are_found(space, connector):
    space.run("ip", "rule", "add", "to", "192.0.2.1", "pref", "3", "blackhole")
    with pytest.raises(Failed, match="look up the route to 192.0.2.1.*Modes .connect. and .handoff."):
        connector()
    assert our_rules(space) == []


def test_packets_dropped_on_lo_are_found(space, connector):
    space.run("tc", "qdisc", "add", "dev", "lo", "root", "pfifo", "limit", "0")  # as a firewall may do
    with pytest.raises(Failed, match="did not arrive: Connection timed out; perhaps a firewall"):
        connector()
    assert our_rules(space) == [] and space.sysctl("net.ipv4.tcp_fwmark_accept") == "0"


def test_without_the_right_the_step_is_named(space, tmp_path, lock):
    wrapped = space.wrap
    space.wrap = lambda *argv: wrapped("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", *argv)
    with pytest.raises(Failed) as failed:
        Connector(space, tmp_path, "transparent", lock=lock).start()
    text = str(failed.value)
    assert "add the route" in text and "CAP_NET_ADMIN" in text and '"connect" and "handoff"' in text


def test_a_read_only_proc_sys_is_named(space, tmp_path, lock):
    before = space.state()
    wrapped = space.wrap
    script = "mount -t proc -o ro proc /proc; exec \"$@\""
    space.wrap = lambda *argv: wrapped("unshare", "--mount", "sh", "-c", script, "sh", *argv)
    with pytest.raises(Failed) as failed:
        Connector(space, tmp_path, "transparent", lock=lock).start()
    assert "net.ipv4.tcp_fwmark_accept" in str(failed.value) and "read-only" in str(failed.value)
    space.wrap = wrapped
    assert space.state() == before
    # Set outside, it is no obstacle.
    space.sysctl("net.ipv4.tcp_fwmark_accept", 1)
    space.wrap = lambda *argv: wrapped("unshare", "--mount", "sh", "-c", script, "sh", *argv)
    Connector(space, tmp_path, "transparent", lock=lock).start().stop()


# --- connections ------------------------------------------------------------------------------------------------


def test_the_server_sees_the_client_from_a_low_port(connector, listener):
    tool = connector()
    for _ in range(20):
        with tool.open("10.9.9.77", "127.0.0.1", server_port=listener.getsockname()[1]) as ours:
            theirs, peer = listener.accept()
            with theirs:
                assert peer == ours.getsockname()
                assert peer[0] == "10.9.9.77" and 1024 <= peer[1] < 32768
                theirs.sendall(b"hello")
                ours.settimeout(5)
                assert ours.recv(5) == b"hello"


def test_nobody_listens_is_told_at_once(connector):
    tool = connector(deadline=5000)
    for client, server in (("10.9.9.77", "127.0.0.1"), ("fd99::77", "::1")):
        begin = time.monotonic()
        with pytest.raises(Failed, match="no smbd of this host listens there"):
            tool.open(client, server)
        assert time.monotonic() - begin < 0.5


def test_families_must_match(connector):
    tool = connector()
    with pytest.raises(Failed, match="client's address is IPv6 and smbd's is not"):
        tool.open("fd99::77", "127.0.0.1")
    with pytest.raises(Failed, match="client's address is IPv4 and smbd's is not"):
        tool.open("10.9.9.77", "::1")
    with pytest.raises(Failed, match="link-local"):
        tool.open("fe80::77", "::1")
    # An IPv4 client of a listener for both comes in this form.
    with pytest.raises(Failed, match="no smbd of this host listens there"):
        tool.open("::ffff:10.9.9.77", "127.0.0.1")


def test_one_that_does_not_accept_ends_at_the_deadline(space, connector):
    full = space.socket_in(lambda: socket.create_server(("127.0.0.1", 0), backlog=0))
    with full:
        tool = connector(deadline=300)
        port = full.getsockname()[1]
        begin = time.monotonic()
        numbers = [tool.begin("10.9.9.77", "127.0.0.1", server_port=port) for _ in range(8)]
        outcomes = []
        for number in numbers:
            try:
                outcomes.append(tool.finish(number))
            except Failed as failed:
                outcomes.append(str(failed))
        assert time.monotonic() - begin < 2
        assert any("timed out" in str(o) for o in outcomes)


def test_a_taken_port_is_passed_over(space, connector, listener):
    port = listener.getsockname()[1]
    tool = connector(ports="2000-2003")
    streams = [tool.open("10.9.9.77", "127.0.0.1", server_port=port) for _ in range(4)]
    assert sorted(s.getsockname()[1] for s in streams) == [2000, 2001, 2002, 2003]
    with pytest.raises(Failed, match="no free source port"):
        tool.open("10.9.9.77", "127.0.0.1", server_port=port)
    # Another client has ports of its own.
    streams.append(tool.open("10.9.9.78", "127.0.0.1", server_port=port))
    for stream in streams:
        stream.close()


def test_the_port_of_a_real_connection_of_the_client_is_not_taken(space, connector):
    with NetSpace() as client:
        space.link_to(client, ["10.9.9.1/24", "fd99::1/64"], ["10.9.9.77/24", "fd99::77/64"])
        for server_ip, client_ip in (("10.9.9.1", "10.9.9.77"), ("fd99::1", "fd99::77")):
            family = socket.AF_INET6 if ":" in server_ip else socket.AF_INET
            listener = space.socket_in(lambda: socket.create_server((server_ip, 0), family=family))
            port = listener.getsockname()[1]
            real = client.socket_in(
                lambda: socket.create_connection((server_ip, port), timeout=5, source_address=(client_ip, 2001))
            )
            tool = connector(ports="2000-2002")
            ports = sorted(tool.open(client_ip, server_ip, server_port=port).getsockname()[1] for _ in range(2))
            assert ports == [2000, 2002]
            with pytest.raises(Failed, match="no free source port"):
                tool.open(client_ip, server_ip, server_port=port)
            accepted, _ = listener.accept()
            accepted.sendall(b"still there")
            assert real.recv(20) == b"still there"
            for sock in (accepted, real, listener):
                sock.close()
            tool.stop()


def test_many_at_once(connector, listener):
    listener.listen(256)
    tool = connector()
    numbers = [tool.begin("10.9.9.%d" % (i % 250 + 1), "127.0.0.1", server_port=listener.getsockname()[1]) for i in range(200)]
    for i, number in enumerate(numbers):
        with tool.finish(number) as stream:
            assert stream.getsockname()[0] == "10.9.9.%d" % (i % 250 + 1)


def test_cancelled_is_not_answered(space, connector):
    full = space.socket_in(lambda: socket.create_server(("127.0.0.1", 0), backlog=0))
    with full:
        tool = connector(deadline=300)
        port = full.getsockname()[1]
        for _ in range(3):
            tool.begin("10.9.9.77", "127.0.0.1", server_port=port)
        victim = tool.begin("10.9.9.77", "127.0.0.1", server_port=port)
        tool.cancel(victim)
        with pytest.raises(Failed, match="cancelled"):
            tool.finish(victim)
        # One that is asked for later ends later, at its deadline: by then the victim would have been answered.
        with pytest.raises(Failed):
            tool.finish(tool.begin("10.9.9.77", "127.0.0.1", server_port=port))
        assert victim not in tool.answers


# --- with smbd --------------------------------------------------------------------------------------------------


@pytest.fixture
def lan(space, scratch, tmp_path_factory):
    """smbd in `space`, reachable from a client's namespace; lets in .77 and refuses others."""
    directory = scratch / f"transparent-smbd-{time.monotonic_ns()}"
    directory.mkdir()
    with NetSpace() as client:
        space.link_to(client, ["10.9.9.1/24", "fd99::1/64"], ["10.9.9.77/24", "fd99::77/64"])
        with SmbdInside(space, directory, options={"hosts allow": "10.9.9.77 fd99::77"}) as smbd:
            yield smbd


@pytest.mark.parametrize("client, server", [("10.9.9.77", "10.9.9.1"), ("fd99::77", "fd99::1")])
def test_smbd_sees_the_clients_address(lan, connector, client, server):
    tool = connector()
    with tool.smb(client, server) as smb:
        smb.start()
        file = smb.create("seen")
        smb.write(file, b"x" * 100_000, 0).check()
        assert smb.read(file, 100_000).check().data == b"x" * 100_000
        status = lan.status()
        assert client in status, status
        assert f"Allowed connection from {client} ({client})" in lan.log_tail(400)
        assert f":{smb.transport.sock.getsockname()[1]})" in status


@pytest.mark.parametrize("client, server", [("10.9.9.78", "10.9.9.1"), ("fd99::78", "fd99::1"), ("10.9.9.78", "127.0.0.1")])
def test_hosts_allow_refuses_another(lan, connector, client, server):
    tool = connector()
    with tool.smb(client, server) as smb, pytest.raises(Closed):
        smb.negotiate()
    wait_until(lambda: f"Denied connection from {client}" in lan.log_tail(400), 5, lan.log_tail)


def test_a_connection_outlives_the_one_who_opened_it(lan, connector):
    """A killed supervisor leaves the rule, so its workers' connections go on."""
    tool = connector()
    with tool.smb("10.9.9.77", "10.9.9.1") as smb:
        smb.start()
        tool.kill()
        assert smb.echo().check()
        connector()
        assert smb.echo().check()
