# SPDX-License-Identifier: MIT
"""The installed unit under a systemd that runs: start, serve, reload, upgrade, crash, watchdog, restart with smbd, stop; and
an smbd that mode "handoff" starts from it."""

import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import socket
import time

import pytest
from lib import rdma, smb2
from lib.daemon import build_dir
from lib.iwarp import Closed
from lib.process import free_port, wait_until
from lib.smbd import SmbdServer
from lib.smbdirect import SmbDirect
from lib.systemd import SystemdHost, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")

POOL = "/etc/smbdirectd/pool.json"
CONF = pathlib.Path(__file__).resolve().parents[2] / "conf"
SIZE = 20_000


class Host(SystemdHost):
    """With smbd.service, whose shares are in /home and /tmp, and smbdirectd.service as it is installed."""

    def __init__(self, directory, mode):
        super().__init__(directory)
        (directory / "samba").mkdir()
        shares = {"share": {}, "home": {"path": "/home/someone"}, "tmp": {"path": "/tmp"}}
        self.smbd = SmbdServer(directory / "samba", shares=shares)
        self.smbd.write_config()
        self.smbd._add_user()
        self.port = free_port()
        self.pool = {
            "workers": 2,
            "listeners": [{"address": "127.0.0.1", "port": self.port, "fabric": "iwarp"}],
            "upstream": {"mode": mode, "port": self.smbd.port, "handoff": {"configfile": str(self.smbd.config)}},
        }
        if mode == "connect":
            self.pool["upstream"]["address"] = "127.0.0.1"
        self.write(POOL, json.dumps(self.pool))
        self.write("/etc/default/samba", f"SMBDOPTIONS='-s {self.smbd.config}'\n")
        self.write("/etc/default/smbdirectd", "SMBDIRECTD_DRAIN_SECONDS=1\n")
        self.write("/etc/systemd/system/smbd.service.d/test.conf", "[Service]\nPIDFile=\nExecCondition=\nExecStartPre=\n")
        self.write("/home/someone/here", "in /home\n")
        # What a sanitized build is told by who runs the tests.
        told = {name: value for name, value in os.environ.items() if name.endswith("SAN_OPTIONS")}
        lines = "".join(f'Environment="{name}={value}"\n' for name, value in told.items())
        self.write("/etc/systemd/system/smbdirectd.service.d/sanitizers.conf", f"[Service]\n{lines}")
        self.reports = {pathlib.Path(path).parent for path in re.findall(r"log_path=([^:]+)", " ".join(told.values()))}
        self.install(build_dir())
        self.start()
        self.systemctl("enable", "smbdirectd.service")
        self.systemctl("start", "smbd.service")

    def stop(self):
        """What a sanitizer has found there is found here."""
        super().stop()
        for folder in self.reports:
            for report in (self.directory / "upper" / str(folder).lstrip("/")).glob("*"):
                shutil.move(report, folder / f"{report.name}-systemd")

    def client(self, share="share", source="127.0.0.1"):
        client = smb2.Client(SmbDirect.connect(("127.0.0.1", self.port), source=(source, 0), crc=False))
        return client.start(share, user=self.smbd.user, password=self.smbd.password, host=self.smbd.netbios_name)

    def turn(self, share="share", name="file"):
        with self.client(share) as client:
            file = client.create(name)
            rdma.write_and_read_back(client, file, random.Random(1).randbytes(SIZE))
            client.close_file(file).check()

    def ctl(self, command, *options):
        return json.loads(self.run("/usr/local/sbin/smbdirectctl", command, *options, "--json").stdout)[command]

    def main_pid(self):
        return int(self.show("smbdirectd", "MainPID"))

    def state(self):
        return self.show("smbdirectd", "ActiveState")

    def listening(self):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5):
            return True

    def change(self, **keys):
        self.pool.update(keys)
        self.write(POOL, json.dumps(self.pool))


@pytest.fixture(scope="module")
def hosts(scratch):
    """hosts(mode) -> a Host with smbd and smbdirectd running; one for each mode."""
    made = {}

    def host(mode):
        if mode not in made:
            made[mode] = Host(scratch / f"systemd-{mode}-{time.monotonic_ns()}", mode)
        return made[mode]

    yield host
    for one in made.values():
        one.stop()


@pytest.fixture
def host(hosts):
    """As it is after a start; the next test may have anything."""
    one = hosts("connect")
    one.change(workers=2)
    one.systemctl("reset-failed")
    one.systemctl("restart", "smbd.service")
    wait_until(lambda: one.state() == "active", 20, lambda: one.journal())
    return one


def test_it_starts_with_smbd_as_the_user_of_packages(host):
    """Enabled, it is started by smbd's start; workers are the user that sysusers made."""
    assert host.show("smbdirectd", "StatusText").endswith("2 of 2 workers ready")
    host.turn()
    names = host.processes("smbdirectd")
    assert sorted(names.values()) == ["smbdirect-worke"] * 2 + ["smbdirectd"], names
    workers = [pid for pid, name in names.items() if name == "smbdirect-worke"]
    owners = {host.run("stat", "-c", "%U", f"/proc/{pid}").stdout.strip() for pid in workers}
    assert owners == {"smbdirect"}, owners
    assert host.run("stat", "-c", "%U %a", "/run/smbdirectd").stdout.split() == ["root", "755"]


def test_reload_says_what_is_wrong_and_applies_what_is_right(host):
    main = host.main_pid()
    with host.client() as client:
        file = client.create("stays")
        host.change(workers=3)
        host.systemctl("reload", "smbdirectd")
        wait_until(lambda: host.ctl("status")["workers_ready"] == 3, 20, lambda: host.ctl("status"))
        wait_until(lambda: host.show("smbdirectd", "StatusText").endswith("3 of 3 workers ready"), 10)
        host.change(workers=0)
        done = host.systemctl("reload", "smbdirectd", check=False)
        assert done.returncode != 0
        assert "/workers" in host.journal() and host.state() == "active"
        rdma.write_and_read_back(client, file, random.Random(2).randbytes(SIZE))
    assert host.main_pid() == main
    host.turn()


def test_upgrade_is_the_same_service(host):
    main = host.main_pid()
    with host.client() as before:
        file = before.create("before")
        told = host.ctl("upgrade")
        wait_until(lambda: host.main_pid() == told["pid"] != main, 10, lambda: host.systemctl("status", "smbdirectd", check=False).stdout)
        assert host.state() == "active" and "MainPID" not in host.journal("init.scope")
        assert host.show("smbdirectd", "StatusText").endswith("workers ready")
        assert "draining" not in host.show("smbdirectd", "StatusText")
        host.turn()
        rdma.write_and_read_back(before, file, random.Random(3).randbytes(SIZE))
        host.change(workers=1)
        host.systemctl("reload", "smbdirectd")
        wait_until(lambda: host.ctl("status")["workers"] == 1, 10)
        assert sorted(host.processes("smbdirectd").values()).count("smbdirectd") == 2
    wait_until(lambda: sorted(host.processes("smbdirectd").values()).count("smbdirectd") == 1, 20, lambda: host.journal())
    assert host.state() == "active" and host.show("smbdirectd", "NRestarts") == "0"
    host.turn()


def test_a_new_daemon_that_dies_beside_the_former_one_is_replaced(host):
    """The former one is its parent, of whose children systemd hears nothing."""
    with host.client() as client:
        file = client.create("beside")
        restarts = int(host.show("smbdirectd", "NRestarts"))
        new = host.ctl("upgrade")["pid"]
        wait_until(lambda: host.main_pid() == new, 10, lambda: host.journal())
        host.run("kill", "-KILL", new)
        wait_until(lambda: host.state() == "active" and host.main_pid() not in (0, new) and host.listening(), 30, lambda: host.journal())
        assert int(host.show("smbdirectd", "NRestarts")) == restarts + 1
        wait_until(lambda: host.ctl("status")["connections"] == 1, 5, "the client, at the daemon that has adopted its worker")
        rdma.write_and_read_back(client, file, random.Random(5).randbytes(SIZE))
        host.turn()


def test_stop_ends_both_daemons_of_an_upgrade(host):
    with host.client() as before:
        host.ctl("upgrade")
        with host.client() as after:
            host.systemctl("stop", "smbdirectd")
            for client in (before, after):
                with pytest.raises(Closed):
                    while True:
                        client.echo()
    assert host.processes("smbdirectd") == {} and host.state() == "inactive", host.journal()
    assert not host.listening()


def test_a_crash_costs_no_connection_and_stop_leaves_nobody(host):
    with host.client() as client:
        file = client.create("crash")
        main = host.main_pid()
        restarts = int(host.show("smbdirectd", "NRestarts"))
        host.run("kill", "-KILL", main)
        wait_until(lambda: host.state() == "active" and host.main_pid() not in (0, main) and host.listening(), 30, lambda: host.journal())
        assert int(host.show("smbdirectd", "NRestarts")) == restarts + 1
        rdma.write_and_read_back(client, file, random.Random(4).randbytes(SIZE))
        host.turn()
        workers = [pid for pid, name in host.processes("smbdirectd").items() if name == "smbdirect-worke"]
        assert len(workers) == 3, workers  # two of the new daemon, and the one that has the client
        host.systemctl("stop", "smbdirectd")
        assert host.processes("smbdirectd") == {}, host.journal()
        with pytest.raises(Closed):
            while True:
                client.echo()


def test_the_watchdog_ends_a_daemon_that_does_not_move(host):
    host.write("/run/systemd/system/smbdirectd.service.d/fast.conf", "[Service]\nWatchdogSec=2\n")
    host.systemctl("daemon-reload")
    host.systemctl("restart", "smbdirectd")
    try:
        time.sleep(5)  # as long as several of its times: it is told that the daemon lives
        main = host.main_pid()
        assert host.show("smbdirectd", "NRestarts") == "0" and host.state() == "active", host.journal()
        # So it is of a daemon that has taken over.
        told = host.ctl("upgrade")
        time.sleep(5)
        assert host.main_pid() == told["pid"] != main and host.state() == "active", host.journal()
        host.run("kill", "-STOP", told["pid"])
        wait_until(lambda: host.main_pid() not in (0, told["pid"]) and host.state() == "active", 30, lambda: host.journal())
        host.turn()
    finally:
        host.run("rm", "/run/systemd/system/smbdirectd.service.d/fast.conf")
        host.systemctl("daemon-reload")


def test_smbds_restart_and_stop_are_the_daemons(host):
    main = host.main_pid()
    host.systemctl("restart", "smbd.service")
    wait_until(lambda: host.state() == "active" and host.main_pid() not in (0, main), 30, lambda: host.journal())
    host.turn()
    host.systemctl("stop", "smbd.service")
    wait_until(lambda: host.state() == "inactive", 30, lambda: host.journal())
    assert host.processes("smbdirectd") == {}
    host.systemctl("start", "smbd.service")
    wait_until(lambda: host.state() == "active", 20, lambda: host.journal())


def test_a_wrong_pool_file_is_no_reason_to_try_again_and_again(host):
    host.systemctl("stop", "smbdirectd")
    host.change(workers=0)
    assert host.systemctl("start", "smbdirectd", check=False).returncode != 0
    assert host.state() == "failed" and int(host.show("smbdirectd", "NRestarts")) == 0
    assert re.search(r"/workers.* is 0", host.journal()), host.journal()
    host.change(workers=2)
    host.systemctl("reset-failed", "smbdirectd")
    host.systemctl("start", "smbdirectd")


@pytest.mark.parametrize("mode", ["connect", "handoff"])
def test_shares_in_home_and_tmp(hosts, mode):
    """The smbd that the unit's daemon starts sees the files that smbd.service sees."""
    host = hosts(mode)
    host.systemctl("restart", "smbd.service")
    wait_until(lambda: host.state() == "active", 20, lambda: host.journal())
    name = f"by-{mode}"
    with host.client("home") as client:
        file = client.create("here", disposition=1)
        assert client.read(file, 9).check().data == b"in /home\n"
        host.turn("home", name)
    host.turn("tmp", name)
    for folder in ("/home/someone", "/tmp"):
        assert host.run("stat", "-c", "%s", f"{folder}/{name}").stdout.strip() == str(SIZE)


def test_with_the_drop_in_that_restricts_it(host):
    """It serves as without, and members of the group may ask."""
    drop_in = "/etc/systemd/system/smbdirectd.service.d/hardening.conf"
    host.write(drop_in, (CONF / "hardening.conf").read_text())
    host.systemctl("daemon-reload")
    try:
        host.systemctl("restart", "smbdirectd")
        wait_until(lambda: host.show("smbdirectd", "StatusText").endswith("2 of 2 workers ready"), 10, lambda: host.journal())
        host.turn()
        assert host.run("stat", "-c", "%G %a", "/run/smbdirectd/control").stdout.split() == ["smbdirect-status", "660"]
        main = host.main_pid()
        told = host.ctl("upgrade")
        wait_until(lambda: host.main_pid() == told["pid"] != main, 10, lambda: host.journal())
        host.turn()
        host.systemctl("stop", "smbdirectd")
        assert host.processes("smbdirectd") == {}, host.journal()
    finally:
        host.run("rm", drop_in)
        host.systemctl("daemon-reload")


def test_systemd_finds_nothing_wrong_with_what_is_installed(host):
    done = host.run("systemd-analyze", "verify", "--man=no", "smbdirectd.service", check=False)
    assert done.returncode == 0 and "smbdirectd" not in done.stderr, done.stderr
    level = host.run("systemd-analyze", "security", "--no-pager", "smbdirectd.service").stdout
    assert "Overall exposure level for smbdirectd.service" in level
