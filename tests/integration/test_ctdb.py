# SPDX-License-Identifier: MIT
"""smbdirectd on three nodes of CTDB's: clients whose public address moves, a node without power, daemons that fail. The cluster runs
the distribution's own event scripts beside ours."""

import json
import os
import time

import pytest

from lib import smb2
from lib.cluster import EVERYWHERE, PASSWORD, PUBLIC, USER, Cluster, static_address
from lib.cluster_node import why_not
from lib.daemon import program
from lib.iwarp import Closed, Terminated
from lib.process import wait_until
from lib.smbdirect import SmbDirect
from lib.survivor import Idle, Person, Writer

MOVES = 50
ADDRESS = PUBLIC[0]

# At the end of CTDB's functions: it does not see connections to port 5445, as it does not see those of an RDMA device.
HIDING = """\
get_tcp_connections_for_ip () {
    ss -tn state established "src [$1]" | awk 'NR > 1 {print $3, $4}' | grep -v ':5445 '
}
"""


@pytest.fixture(scope="module")
def machine(scratch):
    reason = why_not()
    if reason:
        pytest.skip(reason)
    cluster = Cluster(scratch / "cluster").start()
    yield cluster
    cluster.stop()


@pytest.fixture
def cluster(machine):
    machine.heal()
    return machine


def leaving(node):
    return json.loads(node.ctl("--json", "status"))["status"]["leaving"]


def monitored(node):
    """One monitor event, now; again where another event has cancelled it."""
    run = ("ctdb", "event", "run", "30", "legacy", "monitor")
    wait_until(lambda: "cancelled" not in node.run(*run, check=False), 20, "a monitor event that runs to its end")
    assert node.flags() == set()


def move(cluster, address, to):
    """At once; but for 20 seconds afterwards CTDB moves no address for any other reason."""
    to.run("ctdb", "moveip", address, to.number)
    wait_until(lambda: cluster.holder(address) is to, 10, f"{address} on {to.name}")


def gone(cluster, address, old):
    """When another node has it."""
    wait_until(lambda: cluster.holder(address) not in (None, old), 60, f"{address} on another node than {old.name}")
    return time.monotonic()


def test_the_doctor_finds_no_ailment_of_a_node(cluster):
    for node in cluster.nodes.values():
        text = node.ctl("doctor", "--json", "--connect", program("smbdirect-connect"), check=False)
        told = {one["name"]: (one["state"], one["what"]) for one in json.loads(text)["doctor"]}
        states = {name: state for name, (state, _) in told.items() if name.startswith("ctdb-") or name in ("addresses", "path")}
        assert len(states) == 5 and set(states.values()) == {"ok"}, told


def test_a_disabled_node_tells_its_clients_and_durable_handles_go_on(cluster):
    old = cluster.holder(ADDRESS)
    writer = Writer(Person(cluster, ADDRESS), "disable.bin")
    idle = Idle(Person(cluster, ADDRESS), "idle.bin")
    writer.goes_on()
    old.run("ctdb", "disable")
    moved = gone(cluster, ADDRESS, old)
    assert idle.wait_told(5) < moved
    wait_until(lambda: writer.gaps, 5, "the writer is told, too")
    writer.goes_on()
    assert writer.finish() == []
    assert [gap["how"] for gap in writer.gaps] == ["durable"], writer.gaps


def test_what_ctdb_does_not_see_is_told_by_leave(cluster):
    """As with RDMA devices. The clients of the node's own address notice nothing."""
    for node in cluster.nodes.values():
        node.write("/etc/ctdb/rc.local", HIDING, 0o755)
    old = cluster.holder(ADDRESS)
    idle = Idle(Person(cluster, ADDRESS), "hidden.bin")
    static = Idle(Person(cluster, static_address(old.number)), "static.bin")
    assert "hidden.bin" in old.run("smbstatus", "-L")
    old.run("ctdb", "disable")
    moved = gone(cluster, ADDRESS, old)
    assert idle.wait_told(5) < moved
    wait_until(lambda: "hidden.bin" not in old.run("smbstatus", "-L"), 5, "smbd has closed the client's file")
    assert ADDRESS in leaving(old)
    assert static.told is None, static.how
    served = [row["local"] for row in json.loads(old.ctl("--json", "connections"))["connections"]]
    assert served == [f"{static_address(old.number)}:5445"]
    static.close()

    old.run("ctdb", "enable")
    cluster.wait_healthy()
    for node in cluster.nodes.values():
        if node is not old:
            node.run("ctdb", "disable")
    wait_until(lambda: cluster.holder(ADDRESS) is old, 20, "the address where it was")
    wait_until(lambda: ADDRESS not in leaving(old), 5, "the door open again")
    Person(cluster, ADDRESS).session().close_transport()


def test_rdma_to_the_nodes_own_address_ends_with_the_public_one(cluster):
    """As Windows does it: TCP to the public address, and RDMA, bound to that session, to the address that the node announces."""

    def connect():
        node = cluster.holder(ADDRESS)
        tcp = Person(cluster, ADDRESS, via="tcp").session()
        transport = cluster.client.socket_in(lambda: SmbDirect.connect((static_address(node.number), 5445)))
        return tcp, smb2.Client(transport, tcp.guid).bind(tcp, USER, PASSWORD)

    data = os.urandom(65536)
    tcp, rdma = connect()
    file = tcp.create("bound.bin")
    rdma.write(file, data).check()
    old = cluster.holder(ADDRESS)
    old.run("ctdb", "disable")
    gone(cluster, ADDRESS, old)
    with pytest.raises((Closed, Terminated)):
        rdma.transport.recv_pdu(10)
    for client in (rdma, tcp):
        client.close_transport()

    tcp, rdma = connect()
    assert rdma.read(tcp.create("bound.bin"), len(data)).check().data == data
    for client in (rdma, tcp):
        client.close_transport()


def test_listeners_of_addresses_that_are_elsewhere(cluster):
    """Each node listens on each public address, whether it has it or not, and serves it when it comes."""
    listeners = [{**EVERYWHERE[0], "address": address} for address in PUBLIC]
    for node in cluster.nodes.values():
        node.write("/etc/smbdirectd/pool.json", cluster.pool(listeners))
        node.run("service", "smbdirectd", "restart")
    old = cluster.holder(ADDRESS)
    writer = Writer(Person(cluster, ADDRESS), "freebind.bin")
    writer.goes_on()
    old.run("ctdb", "disable")
    gone(cluster, ADDRESS, old)
    wait_until(lambda: writer.gaps, 5, "the writer is told")
    writer.goes_on()
    assert writer.finish() == []
    assert [gap["how"] for gap in writer.gaps] == ["durable"], writer.gaps


def test_a_daemon_that_died_is_restarted_and_its_clients_go_on(cluster):
    node = cluster.holder(ADDRESS)
    writer = Writer(Person(cluster, ADDRESS), "restart.bin")
    writer.goes_on()
    former = node.daemon_pid()
    node.run("kill", "-KILL", former)
    wait_until(lambda: node.daemon_pid() not in (0, former), 60, "CTDB's monitor event restarts smbdirectd", interval=0.1)
    wait_until(lambda: "NOTICE: restarting smbdirectd" in node.log(), 10, "the event's words in CTDB's log")
    monitored(node)
    writer.goes_on()
    assert writer.finish() == []
    assert writer.gaps == [], "the workers had lived"


def test_without_any_daemon_smb_over_tcp_is_served(cluster):
    """Never unhealthy, or CTDB would host no address at all; where the administrator wants it, one node is."""
    for node in cluster.nodes.values():
        node.write("/etc/smbdirectd/pool.json", "{")
        node.run("service", "smbdirectd", "stop")
        for _ in range(3):
            monitored(node)
        wait_until(lambda: "WARNING: smbdirectd: it does not answer" in node.log(), 10, "the warning in CTDB's log")
    for node in cluster.nodes.values():
        assert node.flags() == set()
        assert not node.daemon_pid()
    for address in PUBLIC:
        with Person(cluster, address, via="tcp").session() as client:
            client.close_file(client.create("tcp.bin")).check()

    node = cluster.holder(ADDRESS)
    node.options(CTDB_SMBDIRECTD_UNHEALTHY=1)
    wait_until(lambda: "Unhealthy" in node.flags(), 20, "the node is unhealthy", interval=0.1)
    gone(cluster, ADDRESS, node)


def test_addresses_come_and_go_under_load(cluster):
    writers = [Writer(Person(cluster, address), f"moves-{n}.bin") for n, address in enumerate(PUBLIC[:2])]
    nodes = sorted(cluster.nodes.values(), key=lambda node: node.number)
    for node in nodes[1:]:
        node.write("/etc/ctdb/rc.local", HIDING, 0o755)  # two that do not see RDMA, and one that does
    for number in range(MOVES):
        which = number % 2
        at = nodes.index(cluster.holder(PUBLIC[which]))
        before = len(writers[which].gaps)
        move(cluster, PUBLIC[which], nodes[(at + 1) % len(nodes)])
        wait_until(lambda: len(writers[which].gaps) > before, 30, f"move {number} is noticed")
        writers[which].goes_on(blocks=1)
    for writer in writers:
        assert writer.finish() == []
        assert {gap["how"] for gap in writer.gaps} == {"durable"}, writer.gaps


def test_clients_of_a_node_without_power_are_told_by_the_next(cluster):
    """The node that takes the address resets connections that it knows from tickles: a client that waits in silence would else
    wait for ever."""
    old = cluster.holder(ADDRESS)
    other = cluster.any(but=old)
    idle = Idle(Person(cluster, ADDRESS), "power.bin")
    writer = Writer(Person(cluster, ADDRESS), "power-writer.bin")
    wait_until(
        lambda: idle.local in other.run("ctdb", "gettickles", ADDRESS, "5445"), 30, "its tickle on other nodes", interval=0.2
    )
    cluster.power_off(old.number)
    moved = gone(cluster, ADDRESS, old)
    assert idle.wait_told(10) < moved + 5
    writer.goes_on()
    assert writer.finish() == []
