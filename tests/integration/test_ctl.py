# SPDX-License-Identifier: MIT
"""smbdirectctl against a running daemon: what it says is so."""

import grp
import json
import os
import signal
import socket
import subprocess
import uuid

import pytest

from lib import rdma
from lib.daemon import program
from lib.process import wait_until


@pytest.fixture
def spread(make_daemon, smbd):
    """A daemon whose connections go to its two workers in turn."""
    return make_daemon(smbd.port, pool={"affinity": "spread"})


def bound(daemon, smbd, first):
    """A second channel of the first one's session."""
    return rdma.client(daemon, guid=first.guid, source=("127.0.0.5", 0)).bind(first, smbd.user, smbd.password)


def shown(daemon, condition, what):
    """The clients, once `condition` holds for them; at most a second."""
    return wait_until(lambda: (lambda c: (c,) if condition(c) else None)(daemon.ctl("clients")), 1, what)[0]


def test_two_channels_of_a_client_at_two_workers_and_one_smbd(spread, smbd):
    assert spread.ctl("clients") == [] and spread.ctl("connections") == []
    with rdma.session(spread, smbd, user=True) as first:
        file = first.create("ctl")
        first.write(file, b"c" * 5000).check()
        (pid,) = smbd.client_pids()
        with bound(spread, smbd, first) as second:
            response, placed = rdma.channel_read(second, file, 5000)
            assert response.check() and placed == b"c" * 5000
            (client,) = shown(spread, lambda c: c and c[0]["rdma_write"] == 5000, "the bytes of the read")
            assert client["guid"] == str(uuid.UUID(bytes_le=first.guid))
            assert (client["state"], client["channels"], client["workers"]) == ("LIVE", 2, [0, 1])
            assert client["addresses"] == ["127.0.0.1", "127.0.0.5"]
            assert client["smbd"] == [pid]
            connections = spread.ctl("connections", "--events")
            assert sorted(c["worker"] for c in connections) == [0, 1]
            assert {c["client"] for c in connections} == {first.local, second.local}
            for connection in connections:
                assert connection["phase"] == "serving" and connection["guid"] == client["guid"]
                kinds = [event["event"] for event in connection["events"]]
                assert kinds[0] == "established" and "upstream_connected" in kinds
            workers = spread.ctl("workers")
            assert {w["slot"]: w["pid"] for w in workers} == spread.workers()
            assert [w["state"] for w in workers] == ["ready", "ready"]
            assert all(w["open_connections"] == 1 and w["heartbeat_age_ms"] < 2000 for w in workers)
            status = spread.ctl("status")
            assert (status["phase"], status["upstream"], status["workers_ready"]) == ("serving", "connect", 2)
            assert (status["connections"], status["clients"], status["pid"]) == (2, 1, spread.pid)
    shown(spread, lambda c: c == [], "no client")
    wait_until(lambda: spread.ctl("connections") == [], 1, "no connection")
    # What was established is a total; what is open is not.
    workers = spread.ctl("workers")
    assert [(w["connections"], w["open_connections"]) for w in workers] == [(1, 0)] * 2


def test_the_tables_are_for_people(spread, smbd):
    with rdma.session(spread, smbd) as c:
        guid = str(uuid.UUID(bytes_le=c.guid))
        for command in ("status", "workers", "connections", "clients"):
            done = spread.ctl(command, check=False)
            assert done.returncode == 0 and done.stderr == "", done
            assert len(done.stdout.splitlines()) >= 2
        shown(spread, lambda clients: clients[0]["smbd"], "the client's smbd")
        header, line = spread.ctl("clients", check=False).stdout.splitlines()
        assert header.split()[0] == "CLIENT_GUID" and line.split()[0] == guid
        assert "ms ago upstream_connected port=" in spread.ctl("connections", "--events", check=False).stdout


def test_a_killed_worker_takes_its_connections_and_clients_along(spread, smbd):
    with rdma.session(spread, smbd) as first, rdma.session(spread, smbd, source=("127.0.0.6", 0)) as second:
        shown(spread, lambda c: len(c) == 2, "two clients")
        where = {c["client"]: c["worker"] for c in spread.ctl("connections")}
        os.kill(spread.workers()[where[first.local]], signal.SIGKILL)
        (left,) = shown(spread, lambda c: len(c) == 1, "the other client alone")
        assert left["guid"] == str(uuid.UUID(bytes_le=second.guid))
        assert [c["client"] for c in spread.ctl("connections")] == [second.local]
        assert second.echo().check()
        wait_until(lambda: [w["state"] for w in spread.ctl("workers")] == ["ready"] * 2, 10, "a new worker")
        with rdma.session(spread, smbd) as third:
            assert third.echo().check()
            shown(spread, lambda c: len(c) == 2, "the new client")


def test_a_stopped_worker_does_not_hold_the_answer_up(spread, smbd):
    with rdma.session(spread, smbd) as c:
        wait_until(lambda: spread.ctl("connections")[0]["phase"] == "serving", 2, "its row")
        slot = spread.ctl("connections")[0]["worker"]
        os.kill(spread.workers()[slot], signal.SIGSTOP)
        try:
            (connection,) = spread.ctl("connections", "--events")
            assert connection["client"] == c.local and "events" not in connection
        finally:
            os.kill(spread.workers()[slot], signal.SIGCONT)
        (connection,) = spread.ctl("connections", "--events")
        assert connection["events"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it asks as another user")
def test_strangers_are_not_answered(spread):
    control = spread.directory / "run" / "control"
    assert control.stat().st_mode & 0o777 == 0o600
    done = as_stranger(spread, "status")
    assert done.returncode == 1 and "Permission denied; ask as root" in done.stderr and "/control/group" in done.stderr
    control.chmod(0o666)  # an administrator's mistake does not let them in either
    done = as_stranger(spread, "status")
    assert done.returncode == 1 and "only root and the daemon's own user may use this socket" in done.stderr, done


def as_stranger(daemon, *command, groups=()):
    """smbdirectctl as a user without rights, who is in these groups."""
    argv = ["setpriv", "--reuid=65534", "--regid=65534"]
    argv += ["--groups=" + ",".join(map(str, groups))] if groups else ["--clear-groups"]
    argv += [program("smbdirectctl"), "--socket", daemon.directory / "run" / "control", *command]
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=20)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it asks as another user")
def test_members_of_the_group_ask_and_change_nothing(make_daemon, smbd):
    group = grp.getgrnam("daemon")
    daemon = make_daemon(smbd.port, pool={"control": {"group": group.gr_name}})
    control = daemon.directory / "run" / "control"
    daemon.directory.chmod(0o755)
    assert (control.stat().st_mode & 0o777, control.stat().st_gid) == (0o660, group.gr_gid)
    before = daemon.workers()
    for command in ("status", "workers", "connections", "clients"):
        done = as_stranger(daemon, command, groups=[group.gr_gid])
        assert (done.returncode, done.stderr) == (0, ""), done
    assert as_stranger(daemon, "connections", "--events", groups=[group.gr_gid]).returncode == 0
    for command in (["resize", "5"], ["reload"], ["drain"], ["undrain"], ["kick", "127.0.0.1"], ["leave", "127.0.0.1"], ["take", "127.0.0.1"], ["log-level", "debug"]):
        done = as_stranger(daemon, *command, groups=[group.gr_gid])
        assert done.returncode == 1, done
        assert f"{command[0]} changes the pool, which only root and the daemon's own user may do (try sudo)" in done.stderr
        assert "may ask for: status, workers, connections, clients" in done.stderr
    assert daemon.workers() == before and daemon.ctl("status")["workers"] == 2
    done = as_stranger(daemon, "status")
    assert done.returncode == 1 and "/control/group" in done.stderr
    # Another group, and none, by reload.
    daemon.pool["control"] = {"group": ""}
    daemon.pool_path.write_text(json.dumps(daemon.pool))
    (change,) = [c for c in daemon.ctl("reload") if c["key"] == "/control/group"]
    assert change["applies"] == "at once"
    done = as_stranger(daemon, "status", groups=[group.gr_gid])
    assert done.returncode == 1 and "Permission denied" in done.stderr
    daemon.pool["control"] = {"group": "no-such-group-here"}
    daemon.pool_path.write_text(json.dumps(daemon.pool))
    done = daemon.ctl("reload", check=False)
    assert done.returncode == 1 and '/control/group is "no-such-group-here", which this system does not know' in done.stderr


def test_bad_requests_are_told_and_the_daemon_serves_on(spread):
    def ask(data, shut=False):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(str(spread.directory / "run" / "control"))
            try:
                s.sendall(data)
            except BrokenPipeError:
                pass
            if shut:
                s.shutdown(socket.SHUT_WR)
            try:
                return b"".join(iter(lambda: s.recv(65536), b"")).decode()
            except ConnectionResetError:
                return ""

    assert "not a JSON object" in ask(b"status\n")
    assert "unknown command; allowed: status, workers, connections, clients" in ask(b'{"command": "reboot"}\n')
    assert "has no" in ask(b"{}\n")
    assert "has the wrong type" in ask(b'{"command": 3}\n')
    assert "is allowed only with" in ask(b'{"command": "status", "events": true}\n')
    assert "too long" in ask(b"x" * 20_000 + b"\n")
    assert ask(b'{"command"', shut=True) == ""
    # More peers than there is room for, and none of them says anything.
    idle = []
    for _ in range(40):
        idle.append(socket.socket(socket.AF_UNIX))
        idle[-1].connect(str(spread.directory / "run" / "control"))
    for s in idle:
        s.close()
    wait_until(lambda: spread.ctl("status", check=False).returncode == 0, 6, "room for a question")


def test_a_dead_daemons_socket_is_replaced_and_a_living_ones_is_not(make_daemon, smbd):
    first = make_daemon(smbd.port)
    control = first.directory / "run" / "control"
    second = make_daemon(smbd.port, pool={"run_directory": str(first.directory / "run")})
    second.wait_for_log("smbdirectctl will not work", 5)
    assert "another daemon uses it" in second.log and "/run_directory" in second.log
    assert first.ctl("status")["pid"] == first.pid
    second.stop()
    assert first.ctl("status")["pid"] == first.pid
    first.server.process.kill()
    first.server.process.wait()
    assert control.exists()
    first.server.end()
    first.start()
    assert first.ctl("status")["pid"] == first.pid
    first.stop()
    assert not control.exists()


def test_without_a_daemon_it_says_what_to_do(tmp_path):
    argv = [str(program("smbdirectctl")), "--socket", str(tmp_path / "nothing"), "status"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and "is smbdirectd running, with this /run_directory?" in done.stderr
    with open("/dev/full", "w") as full:
        assert subprocess.run([argv[0], "--help"], stdout=full, stderr=subprocess.PIPE, timeout=20).returncode == 1
    for wrong, told in ((["fly"], "unknown command fly"), ([], "no command"), (["status", "--events"], "is allowed only with")):
        done = subprocess.run([argv[0], *wrong], capture_output=True, text=True, timeout=20)
        assert done.returncode == 2 and told in done.stderr, done


