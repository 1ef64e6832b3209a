# SPDX-License-Identifier: MIT
"""The daemon with upstream modes "transparent" and "handoff": what smbd sees of clients that come by SMB Direct, and
what is left when the daemon has gone. Each test has a server's and a client's network namespace of its own."""

import os
import random
import signal
import time

import pytest

from lib import rdma, smb2
from lib.daemon import Smbdirectd
from lib.netspace import NetSpace, SmbdInside
from lib.process import alive, children_of, command_line, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes network namespaces")

FAMILIES = {"IPv4": ("10.9.9.1", "10.9.9.77", "10.9.9.78"), "IPv6": ("fd99::1", "fd99::77", "fd99::78")}
MODES = pytest.mark.parametrize("mode", ["transparent", "handoff"])
OVER = pytest.mark.parametrize("family", list(FAMILIES))


class Lan:
    """smbd and smbdirectd on one host (two addresses), and another host with two addresses a family: smbd lets in the
    first of each."""

    def __init__(self, directory, mode, affinity="spread"):
        self.mode = mode
        self.here, self.there = NetSpace(), NetSpace()
        prefix = {4: "/24", 6: "/64"}
        addresses = [[f"{a}{prefix[6 if ':' in a else 4]}" for a in side] for side in zip(*FAMILIES.values())]
        self.here.link_to(self.there, addresses[0], addresses[1] + addresses[2])
        options = {"hosts allow": " ".join(clients[1] for clients in FAMILIES.values())}
        self.smbd = SmbdInside(self.here, directory, options=options).start()
        self.before = self.here.state()
        pool = {
            "run_directory": str(directory / "run"),
            "affinity": affinity,
            "listeners": [{"address": server, "port": 5445} for server, *_ in FAMILIES.values()],
            "upstream": {
                "mode": mode,
                "address": None,
                "port": 445,
                "handoff": {"configfile": str(self.smbd.config)},
            },
        }
        self.daemon = Smbdirectd(directory, 445, pool=pool, space=self.here)
        del self.daemon.pool["upstream"]["address"]
        self.daemon.start()

    def client(self, family, which=1, **kw):
        """An smb2.Client over SMB Direct from the other host, not yet negotiated."""
        server, *clients = FAMILIES[family]
        source = (clients[which - 1], 0)
        return self.there.socket_in(
            lambda: smb2.Client(rdma.SmbDirect.connect((server, 5445), source=source), kw.pop("guid", None))
        )

    def session(self, family, **kw):
        smbd = self.smbd
        return self.client(family, **kw).start(
            dialects=(smb2.SMB_3_0_2,), user=smbd.user, password=smbd.password, host=smbd.netbios_name
        )

    def serving(self):
        """Pids of the smbd processes that have a session, as smbstatus tells."""
        lines = self.here.run("smbstatus", "-p", "-s", self.smbd.config).splitlines()
        return sorted({int(line.split()[0]) for line in lines if line[:1].isdigit()})

    def carriers(self):
        """Pids of the daemon's `smbd -i`."""
        return [p for p in children_of(self.daemon.pid) if os.path.basename(command_line(p)[0]) == "smbd"]

    def smbd_log(self):
        """Of the smbd that serves a client: in mode "handoff" it logs through the daemon."""
        return self.smbd.log_tail(400) + (self.daemon.log if self.mode == "handoff" else "")

    def stop(self):
        try:
            self.daemon.stop()
            assert self.here.state() == self.before
        finally:
            self.smbd.stop()
            self.here.close()
            self.there.close()


@pytest.fixture
def make_lan(scratch):
    made = []

    def make(mode, **kw):
        directory = scratch / f"up-{time.monotonic_ns()}"  # short: smbd has sockets below it
        directory.mkdir()
        made.append(Lan(directory, mode, **kw))
        return made[-1]

    yield make
    for lan in made:
        lan.stop()


@MODES
@OVER
def test_smbd_sees_the_client_and_data_goes_both_ways(make_lan, mode, family):
    lan = make_lan(mode)
    _, client, _ = FAMILIES[family]
    data = random.Random(family).randbytes(300_000)
    with lan.session(family) as smb:
        file = smb.create("seen")
        assert rdma.channel_write(smb, file, data).check().count == len(data)
        response, placed = rdma.channel_read(smb, file, len(data))
        assert response.check() and placed == data
        assert smb.read(file, 1000).check().data == data[:1000]
        assert client in lan.smbd.status()
        assert len(lan.carriers()) == (mode == "handoff")
    wait_until(lambda: not lan.carriers(), 5, "the client's smbd ending")
    assert lan.smbd.share_path().joinpath("seen").read_bytes() == data


@MODES
@OVER
def test_hosts_allow_is_smbds_business(make_lan, mode, family):
    lan = make_lan(mode)
    _, _, stranger = FAMILIES[family]
    with lan.client(family, which=2) as smb, pytest.raises((rdma.Closed, rdma.Terminated)):
        smb.negotiate((smb2.SMB_3_0_2,))
    wait_until(lambda: f"Denied connection from {stranger}" in lan.smbd_log(), 5, lan.smbd_log)
    with lan.session(family) as smb:
        assert smb.echo().check()


@OVER
def test_two_connections_of_a_client_end_in_one_smbd(make_lan, family):
    """Arriving at different workers; a file opened on the first is read on the second (a bound session, signed)."""
    lan = make_lan("transparent")
    data = random.Random(2).randbytes(50_000)
    with lan.session(family) as first:
        file = first.create("both")
        first.write(file, data).check()
        (pid,) = lan.serving()
        with lan.client(family, guid=first.guid) as second:
            second.negotiate((first.dialect,)).check()
            second.login(lan.smbd.user, lan.smbd.password, bind_to=first).check()
            second.tree_id = first.tree_id
            response, placed = rdma.channel_read(second, file, len(data))
            assert response.check() and placed == data
            assert lan.serving() == [pid]
            lan.daemon.server.process.send_signal(signal.SIGUSR1)
            lan.daemon.wait_for_log("worker 0: state=ready", 5)
            for slot in (0, 1):
                line = lan.daemon.wait_for_log(f"worker {slot}: state=", 5)
                assert line.endswith("connections=1"), line


def test_a_clients_other_address_is_learned(make_lan):
    """A client comes from an address nobody knew, and from then on that leads to its worker too."""
    lan = make_lan("transparent", affinity="client")
    lan.smbd.stop()
    lan.smbd.options["hosts allow"] = "10.9.9.0/24"
    lan.smbd.start()

    def totals():
        position = lan.daemon.log_position()
        lan.daemon.server.process.send_signal(signal.SIGUSR1)
        line = lan.daemon.wait_for_log("pool: ", 5, position)
        return {k: int(v) for k, v in (word.split("=") for word in line.split("pool: ")[1].split())}

    with lan.session("IPv4") as first:
        with lan.session("IPv4", which=2, guid=first.guid):
            t = totals()
            assert (t["clients"], t["addresses_learned"], t["affinity_hits"]) == (1, 1, 0)
        wait_until(lambda: totals()["connections"] == 1, 5, "the second connection's end")
        with lan.session("IPv4", which=2, guid=first.guid):
            t = totals()
            assert (t["clients"], t["addresses_learned"]) == (1, 1)
            assert (t["affinity_hits"], t["affinity_misses"]) == (1, 0)
    wait_until(lambda: totals()["clients"] == 0, 5, "no client")


@MODES
def test_smbd_away_is_told_and_the_client_closed(make_lan, mode):
    lan = make_lan(mode)
    lan.smbd.stop()
    with lan.client("IPv4") as smb, pytest.raises((rdma.Closed, rdma.Terminated)):
        smb.negotiate((smb2.SMB_3_0_2,))
    lan.daemon.wait_for_log("no connection to smbd for 10.9.9.77", 5)
    lan.smbd.start()
    with lan.session("IPv4") as smb:
        assert smb.echo().check()


@MODES
def test_a_worker_that_dies_takes_its_connections_to_smbd_along(make_lan, mode):
    lan = make_lan(mode)
    with lan.session("IPv4") as smb:
        (smbd,) = lan.serving()
        for pid in lan.daemon.workers().values():
            os.kill(pid, signal.SIGKILL)
        with pytest.raises((rdma.Closed, rdma.Terminated)):
            smb.echo()
        wait_until(lambda: not alive(smbd), 5, "the client's smbd ending")
    wait_until(lambda: len(lan.daemon.workers()) == 2, 15, "new workers")
    lan.daemon.wait_for_log("is ready after", 15)
    with lan.session("IPv4") as smb:
        assert smb.echo().check()


def test_a_killed_daemon_leaves_connections_served_and_the_next_takes_over(make_lan):
    lan = make_lan("transparent")
    with lan.session("IPv4") as smb:
        lan.daemon.server.process.kill()
        lan.daemon.server.process.wait()
        assert smb.echo().check()
        lan.daemon.server.end()
        lan.daemon.start()
        with lan.session("IPv4", which=1) as other:
            assert other.echo().check() and smb.echo().check()


def test_without_the_right_it_says_so_and_what_else_there_is(scratch):
    with NetSpace() as space:
        directory = scratch / "upstream-no-right"
        daemon = Smbdirectd(directory, 445, pool={"run_directory": str(directory / "run"), "upstream": {"mode": "transparent"}})
        inside = space.wrap
        daemon.space = space
        space.wrap = lambda *argv: inside("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", *argv)
        daemon.start(wait=False)
        assert daemon.server.process.wait(10) == 3
        assert "CAP_NET_ADMIN" in daemon.log and '"connect"' in daemon.log, daemon.log
        daemon.server.end()
