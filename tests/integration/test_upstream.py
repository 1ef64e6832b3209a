# SPDX-License-Identifier: MIT
"""The daemon with upstream modes "transparent" and "handoff": what smbd sees of clients that come by SMB Direct, and
what is left when the daemon has gone. Each test has a server's and a client's network namespace of its own."""

import os
import random
import signal

import pytest

from lib import rdma, smb2
from lib.daemon import Smbdirectd
from lib.lan import FAMILIES
from lib.netspace import NetSpace
from lib.process import alive, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes network namespaces")

MODES = pytest.mark.parametrize("mode", ["transparent", "handoff"])
OVER = pytest.mark.parametrize("family", list(FAMILIES))


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
        assert len(lan.spawned()) == (mode == "handoff")
    wait_until(lambda: not lan.spawned(), 5, "the client's smbd ending")
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
            second.bind(first, lan.smbd.user, lan.smbd.password)
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


@MODES
def test_many_at_once(make_lan, mode):
    """Thirty clients that connect at the same moment, as after a restart, are all served."""
    lan = make_lan(mode)
    waiting = [lan.client("IPv4") for _ in range(30)]
    for smb in waiting:
        smb.send(smb2.NEGOTIATE, smb.negotiate_body((smb2.SMB_3_0_2,)))
    for smb in waiting:
        assert smb.wait(0).check()
    assert len(lan.spawned()) == (30 if mode == "handoff" else 0)
    for smb in waiting:
        smb.close_transport()
    wait_until(lambda: not lan.spawned(), 10, "their smbds ending")
