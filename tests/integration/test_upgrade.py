# SPDX-License-Identifier: MIT
"""smbdirectctl upgrade: a new daemon takes the listeners over while clients come, stay and go, and whatever is wrong with
the new one leaves the old one serving."""

import grp
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest
from lib import rdma, smb2
from lib.daemon import Smbdirectd, program
from lib.iwarp import Closed
from lib.process import alive, command_line, free_port, kill_all_of, wait_until
from lib.smbdirect import SmbDirect
from test_reload import LASTING, LOOPS, SIZE, Traffic, change, refused

FULL = bool(os.environ.get("SMBDIRECTD_FULL"))
UPGRADES = 20 if FULL else 6
DRAIN_MS = 10_000

# A program that is started as a successor: descriptor 3 is its socket. What each does is the name of its case.
PREAMBLE = f"""#!{sys.executable}
import json, os, socket, sys, time
line = socket.socket(fileno=os.dup(int(sys.argv[sys.argv.index("--take-over-fd") + 1])))
say = lambda note, **members: line.send(json.dumps(dict(members, note=note)).encode())
def hear(what):
    while json.loads(socket.recv_fds(line, 65536, 4)[0])["note"] != what: pass
"""
HELLO = 'say("hello", version=1, release="9.9")\nhear("begin")\n'
FAULTY = {
    "crashes": (PREAMBLE + "os.abort()\n", "was killed by signal 6"),
    "ends_at_once": (PREAMBLE + "sys.exit(7)\n", "ended with exit status 7"),
    "knows_no_such_option": ("#!/bin/sh\nexit 2\n", "ended with exit status 2"),
    "speaks_another_version": (PREAMBLE + 'say("hello", version=99, release="9.9")\ntime.sleep(60)\n', "release 9.9"),
    "says_nothing": (PREAMBLE + "time.sleep(60)\n", "not ready in time"),
    "is_never_ready": (PREAMBLE + HELLO + "time.sleep(60)\n", "not ready in time"),
    "says_nonsense": (PREAMBLE + 'line.send(b"hello")\ntime.sleep(60)\n', "no note"),
    "says_what_has_no_meaning": (PREAMBLE + HELLO + 'say("serving")\ntime.sleep(60)\n', '"serving"'),
    "fails_with_reasons": (PREAMBLE + 'say("failed", why="it is Sunday", problems=["one", "two"])\n', "it is Sunday"),
    "dies_when_it_may_go": (PREAMBLE + HELLO + 'say("ready")\nhear("go")\nos.abort()\n', "was killed by signal 6"),
    "closes_its_socket": (PREAMBLE + HELLO + "line.close()\nos.close(3)\nsys.exit(0)\n", "ended with exit status 0"),
}


@pytest.fixture
def make_pool(scratch, smbd):
    """A daemon whose program is a copy, so that another can be put in its place."""
    made = []

    def make(**kw):
        directory = scratch / f"upgrade-{len(os.listdir(scratch))}-{len(made)}"
        daemon = Smbdirectd(directory, smbd.port, **kw)
        made.append(daemon)
        daemon.binary = directory / "smbdirectd"
        install(daemon)
        return daemon.start()

    yield make
    for daemon in made:
        daemon.stop()


def install(daemon, text=None):
    """As a package does it: the running program's file is replaced, not written to."""
    new = daemon.binary.with_name("new")
    if text is None:
        shutil.copy(program("smbdirectd"), new)
    else:
        new.write_text(text)
    new.chmod(0o755)
    new.rename(daemon.binary)


class Staying(Traffic):
    """Residents connect again where they are told to go, and do the same turn once more."""

    def resident(self, number):
        self.returns = getattr(self, "returns", 0)
        while not self.over.is_set():
            try:
                super().resident(number)
            except Closed:
                self.returns += 1


def turn(daemon, name, seed=1):
    """A client comes, writes, reads back and goes."""
    with smb2.Client(SmbDirect.connect((daemon.address, daemon.port), crc=False)) as client:
        client.start()
        file = client.create(name)
        rdma.write_and_read_back(client, file, random.Random(seed).randbytes(SIZE))
        client.close_file(file).check()


def says(daemon, command, *options):
    """(exit status, what smbdirectctl said)"""
    done = daemon.ctl(command, *options, check=False)
    return done.returncode, done.stdout + done.stderr


def test_upgrades_under_load(make_pool):
    pool = make_pool(
        pool={
            "affinity": "spread",
            "limits": {"connection_rate_per_client": 0},
            "shutdown": {"drain_deadline_ms": DRAIN_MS},
        }
    )
    traffic = Staying(pool, LOOPS, LASTING)
    traffic.wait_for_more()
    pids = [pool.pid]
    for number in range(UPGRADES):
        install(pool)
        change(pool, smbdirect={"idle_timeout_ms": 100_000 + number}, workers=1 + number % 3)
        told = pool.upgrade()
        pids.append(told["pid"])
        status = pool.ctl("status")
        assert (status["pid"], status["phase"], status["workers"]) == (told["pid"], "serving", 1 + number % 3), status
        assert not refused(pool), pool.log
        traffic.wait_for_more()
    # Whoever stayed was told to go at the deadline of their worker's pool, and came back to one that is younger.
    wait_until(lambda: not any(map(alive, pids[:-1])), 3 * DRAIN_MS / 1000, lambda: f"{pids}: {pool.log[-3000:]}")
    traffic.wait_for_more()
    traffic.stop()
    assert len(set(pids)) == UPGRADES + 1
    assert traffic.returns >= LASTING
    assert not [line for line in pool.log.splitlines() if "killed" in line or " error: " in line], pool.log
    print(f"{UPGRADES} upgrades, {sum(traffic.visits)} visits, {sum(traffic.turns)} turns of lasting clients, "
          f"{traffic.returns} times told to come back, no failure")  # fmt: skip


@pytest.mark.parametrize("how", FAULTY)
def test_a_new_program_that_is_no_good_leaves_the_old_one_serving(make_pool, how):
    text, reason = FAULTY[how]
    pool = make_pool(workers=1, pool={"restart": {"ready_timeout_ms": 1_500}})
    with smb2.Client(SmbDirect.connect((pool.address, pool.port), crc=False)) as before:
        before.start()
        install(pool, text)
        status, said = says(pool, "upgrade")
        assert status == 1 and reason in said and "goes on as before" in said, said
        if how == "fails_with_reasons":
            assert "one" in said and "two" in said, said
        assert pool.ctl("status")["phase"] == "serving"
        turn(pool, "after")
        assert before.echo().status == smb2.SUCCESS
        assert not [pid for pid in pool.workers().values() if not alive(pid)]
        install(pool)
        pool.upgrade()
        turn(pool, "at last")
        assert before.echo().status == smb2.SUCCESS


def test_a_program_that_cannot_be_executed(make_pool):
    pool = make_pool(workers=1)
    install(pool, "#!/bin/sh\n")
    pool.binary.chmod(0o644)
    status, said = says(pool, "upgrade")
    assert status == 1 and str(pool.binary) in said and "Permission denied" in said, said
    pool.binary.unlink()
    status, said = says(pool, "upgrade")
    assert status == 1 and "No such file" in said, said
    turn(pool, "still")
    install(pool)
    pool.upgrade()


def test_clients_that_come_while_the_listeners_move_wait(make_pool):
    """The new program stops in the middle of it: they are served by the old one."""
    pool = make_pool(workers=1)
    install(pool, PREAMBLE + HELLO + 'say("ready")\nhear("go")\nopen(sys.argv[0] + ".went", "w")\ntime.sleep(2)\nos.abort()\n')
    asked = threading.Thread(target=says, args=(pool, "upgrade"))
    asked.start()
    went = pool.binary.with_name("smbdirectd.went")
    wait_until(went.exists, 10)
    for number in range(3):
        turn(pool, f"waits-{number}")
    asked.join()
    assert "killed by signal 6" in pool.log
    assert not refused(pool)


def test_a_wrong_pool_file_changes_nothing(make_pool):
    pool = make_pool(workers=1)
    good = pool.pool_path.read_text()
    pool.pool_path.write_text(json.dumps({**pool.pool, "workers": 0, "spoon": 1}, indent=1))
    status, said = says(pool, "upgrade")
    assert status == 1 and "/workers" in said and "spoon" in said and str(pool.pool_path) in said, said
    assert pool.ctl("status")["phase"] == "serving"
    pool.pool_path.write_text(good)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        change(pool, listeners=[*pool.pool["listeners"], {"address": "127.0.0.1", "port": taken.getsockname()[1]}])
        status, said = says(pool, "upgrade")
        assert status == 1 and "Address already in use" in said, said
    turn(pool, "still")
    pool.upgrade()


def test_a_worker_program_that_fails_changes_nothing(make_pool, scratch):
    pool = make_pool(workers=2, pool={"restart": {"ready_timeout_ms": 2_000}})
    change(pool, user="nobody-of-this-name")
    status, said = says(pool, "upgrade")
    assert status == 1, said
    turn(pool, "still")


def test_listeners_come_and_go_with_the_pool_file(make_pool):
    pool = make_pool(workers=1)
    first, second = pool.port, free_port()
    change(pool, listeners=[*pool.pool["listeners"], {"address": "127.0.0.1", "port": second, "fabric": "iwarp"}])
    pool.upgrade()
    turn(pool, "first")
    pool.port = second
    turn(pool, "second")
    change(pool, listeners=pool.pool["listeners"][1:])
    pool.upgrade()
    turn(pool, "only")
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", first), 5):
        pass
    pool.port = second


def test_one_at_a_time_and_an_end_in_the_middle(make_pool):
    pool = make_pool(workers=1)
    install(pool, PREAMBLE + HELLO + 'open(sys.argv[0] + ".met", "w")\ntime.sleep(60)\n')
    answers = []
    asked = threading.Thread(target=lambda: answers.append(says(pool, "upgrade")))
    asked.start()
    wait_until(pool.binary.with_name("smbdirectd.met").exists, 10)
    for command in (["upgrade"], ["reload"], ["resize", "2"], ["drain"]):
        status, said = says(pool, *command)
        assert status == 1 and "is taking over" in said, (command, said)
    assert pool.ctl("status")["phase"] == "serving"
    turn(pool, "meanwhile")
    (successor,) = [pid for pid in set(map(int, os.listdir("/proc") and filter(str.isdigit, os.listdir("/proc"))))
                    if "--take-over-fd" in command_line(pid) and str(pool.binary) in command_line(pid)]  # fmt: skip
    os.kill(pool.pid, signal.SIGTERM)
    asked.join(20)
    assert answers and answers[0][0] == 1 and "because it stops" in answers[0][1], answers
    wait_until(lambda: not alive(successor), 10)
    wait_until(lambda: not pool.server.running(), 10)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGQUIT])
def test_the_end_of_the_new_daemon_is_the_old_ones(make_pool, end):
    """TERM closes the connections of both; QUIT waits for them."""
    pool = make_pool(workers=1)
    first = pool.pid
    with smb2.Client(SmbDirect.connect((pool.address, pool.port), crc=False)) as stays:
        stays.start()
        pool.upgrade()
        assert pool.ctl("status")["draining_former_pid"] == first
        middle = pool.pid
        with smb2.Client(SmbDirect.connect((pool.address, pool.port), crc=False)) as too:
            too.start()
            pool.upgrade()
            os.kill(pool.pid, end)
            if end == signal.SIGQUIT:
                pool.wait_for_log("draining: SIGQUIT")
                assert stays.echo().status == smb2.SUCCESS and too.echo().status == smb2.SUCCESS
                assert all(map(alive, (first, middle, pool.pid)))
            else:
                for client in (stays, too):
                    with pytest.raises(Closed):
                        while True:
                            client.echo()
    wait_until(lambda: not any(map(alive, (middle, pool.pid))) and not pool.server.running(), 10, lambda: pool.log)


def test_a_new_daemon_that_is_killed_leaves_the_old_ones_clients(make_pool):
    pool = make_pool(workers=1)
    with smb2.Client(SmbDirect.connect((pool.address, pool.port), crc=False)) as stays:
        stays.start()
        pool.upgrade()
        workers = pool.workers()
        os.kill(pool.pid, signal.SIGKILL)
        wait_until(lambda: "took over" in pool.log and "leaves its workers with 1 connections" in pool.log, 10, lambda: pool.log)
        assert stays.echo().status == smb2.SUCCESS
        wait_until(lambda: not pool.server.running(), 10, "the former daemon's end: whoever waits for it starts another")
        # Another one listens at once, and knows the client.
        status = subprocess.Popen([pool.binary, "-F", "-s", pool.pool_path, "--worker", program("smbdirect-worker")])
        try:
            wait_until(lambda: "serving" in says(pool, "status")[1], 10)  # it answers before it listens
            turn(pool, "again")
            wait_until(lambda: pool.ctl("status")["connections"] == 1, 5, "the adopted connection")
            assert stays.echo().status == smb2.SUCCESS
        finally:
            status.terminate()
            status.wait(10)
    for pid in workers.values():
        wait_until(lambda pid=pid: not alive(pid), 10)
    pool.stop(check=False)  # of which nothing is left


def test_the_pid_file_names_the_new_daemon(make_pool, scratch):
    pool = make_pool(workers=1)
    pool.stop()
    path = pool.directory / "smbdirectd.pid"
    pool.argv = ["--pid-file", path]
    pool.start()
    assert int(path.read_text()) == pool.pid
    pool.upgrade()
    wait_until(lambda: int(path.read_text().split()[0]) == pool.pid != pool.server.pid, 10)
    wait_until(lambda: not pool.server.running(), 10)
    assert int(path.read_text()) == pool.pid
    argv = [pool.binary, "-F", "-s", pool.pool_path, "--worker", program("smbdirect-worker"), "--pid-file", path]
    other = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    assert other.returncode == 3 and f"held by process {pool.pid}" in other.stderr, other
    install(pool, FAULTY["crashes"][0])
    assert says(pool, "upgrade")[0] == 1
    assert int(path.read_text()) == pool.pid
    install(pool)
    pool.upgrade()
    pool.stop()
    assert not path.exists()


def test_systemd_hears_of_the_new_process_first_and_then_from_it(make_pool):
    pool = make_pool(workers=1)
    pool.stop()
    path = pool.directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        heard.settimeout(15)
        heard.bind(str(path))

        def until(text):
            """[(pid, what it said)] up to the first that says so."""
            said = []
            while not said or text not in said[-1][1]:
                data, parts, _, _ = heard.recvmsg(4096, 256)
                said.append((int.from_bytes(parts[0][2][:4], sys.byteorder), data.decode()))
            return said

        pool.env = {**os.environ, "NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "400000", "WATCHDOG_PID": ""}
        del pool.env["WATCHDOG_PID"]
        pool.start()
        until("READY=1")
        first = pool.pid
        told = pool.upgrade()
        said = until(f"MAINPID={told['pid']}")
        assert {pid for pid, _ in said} == {first}, said
        (pid, ready), *_ = until("READY=1")
        assert pid == told["pid"] and "listening on" in ready, (pid, ready)
        after = until("WATCHDOG=1")
        assert {pid for pid, _ in after} == {told["pid"]}, after
        install(pool, FAULTY["crashes"][0])
        assert says(pool, "upgrade")[0] == 1
        assert {pid for pid, text in until("WATCHDOG=1") if "MAINPID" in text} == set()
        install(pool)
        pool.stop()


def test_a_parents_end_ends_both(scratch, smbd):
    """The pipe that a Samba daemon holds goes with the upgrade."""
    daemon = Smbdirectd(scratch / "upgrade-parent", smbd.port, workers=1)
    daemon.pool_path.write_text(json.dumps(daemon.pool))
    watched, held = os.pipe()
    argv = [program("smbdirectd"), "-F", "-s", daemon.pool_path, "--worker", program("smbdirect-worker"), "--parent-watch-fd", "0"]
    process = subprocess.Popen([str(a) for a in argv], stdin=watched)
    os.close(watched)
    try:
        wait_until(lambda: says(daemon, "status")[0] == 0 and daemon.ctl("status")["workers_ready"] == 1, 20)
        with smb2.Client(SmbDirect.connect((daemon.address, daemon.port), crc=False)) as stays:
            stays.start()
            told = daemon.ctl("upgrade")
            turn(daemon, "parent")
            assert stays.echo().status == smb2.SUCCESS
            os.close(held)
            wait_until(lambda: not alive(told["pid"]), 10)
            assert process.wait(10) == 0
    finally:
        kill_all_of(daemon.pool_path)
        process.wait()


def test_a_native_servers_registration_goes_with_it(native):
    daemon, peer, smbd = native
    with rdma.session(daemon, smbd, user=True) as before:
        daemon.upgrade()
        status = daemon.ctl("status")
        assert status["main_process"] == peer.pid, status
        with rdma.session(daemon, smbd, user=True) as after:
            for client in (before, after):
                rdma.write_and_read_back(client, client.create("native"), random.Random(3).randbytes(SIZE))
            assert daemon.ctl("status")["processes_asked"] == 1
        daemon.upgrade()
        with rdma.session(daemon, smbd, user=True) as last:
            rdma.write_and_read_back(last, last.create("native"), random.Random(4).randbytes(SIZE))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes network namespaces and starts smbd")
@pytest.mark.parametrize("mode", ["transparent", "handoff"])
def test_smbd_sees_the_clients_of_both_daemons(make_lan, mode):
    """The routing and the smbd of each are its own: the end of the former daemon takes nothing from the new one."""
    lan = make_lan(mode)
    data = random.Random(5).randbytes(SIZE)
    with lan.session("IPv4") as before:
        file = before.create("before")
        rdma.write_and_read_back(before, file, data)
        first = lan.daemon.pid
        lan.daemon.upgrade()
        with lan.session("IPv4") as after:
            rdma.write_and_read_back(after, after.create("after"), data)
            rdma.write_and_read_back(before, file, data)
            assert len(lan.serving()) == 2
    wait_until(lambda: not alive(first), 20, lambda: lan.daemon.log[-3000:])
    for family in ("IPv4", "IPv6"):
        with lan.session(family) as last:
            rdma.write_and_read_back(last, last.create("last"), data)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the control socket is given to a group")
def test_the_status_group_may_ask_the_new_daemon(make_pool):
    pool = make_pool(workers=1, pool={"control": {"group": "daemon"}})
    socket_file = pool.directory / "run" / "control"

    def belongs_to(name):
        facts = socket_file.stat()
        return (facts.st_gid, facts.st_mode & 0o777) == (grp.getgrnam(name).gr_gid, 0o660)

    assert belongs_to("daemon")
    pool.upgrade()
    wait_until(lambda: pool.ctl("status")["pid"] == pool.pid and belongs_to("daemon"), 10)
    change(pool, control={"group": "bin"})
    pool.upgrade()
    wait_until(lambda: pool.ctl("status")["pid"] == pool.pid and belongs_to("bin"), 10, lambda: pool.log)
