# SPDX-License-Identifier: MIT
"""smbdirectd started as Samba starts its own helpers (samba-bgqd: ready descriptor, pipe of the parent) and its own
daemons (-D, -i, -l)."""

import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess

import pytest

from lib.daemon import Smbdirectd, program
from lib.process import alive, children_of, command_line, free_port, kill_all_of, tail, wait_until


class Launched:
    """A command line of smbdirectd, with a pool file of its own, and whatever process comes of it."""

    def __init__(self, directory, level="info"):
        directory.mkdir()
        self.directory, self.processes = directory, []
        self.daemon = Smbdirectd(directory / "pool", free_port(), pool={"log": {"level": level}})
        self.daemon.pool_path.write_text(json.dumps(self.daemon.pool))
        self.log = directory / "log.smbdirectd"
        self.output = directory / "output"

    def words(self, *options):
        return [str(word) for word in (program("smbdirectd"), "-s", self.daemon.pool_path,
                                       "--worker", program("smbdirect-worker"), *options)]  # fmt: skip

    def start(self, *options, **kw):
        with open(self.output, "ab") as output:
            kw = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output, **kw}
            self.processes.append(subprocess.Popen(self.words(*options), **kw))
        return self.processes[-1]

    def wait_listening(self):
        """A TCP connection is accepted; no log is needed for that."""

        def listening():
            with contextlib.suppress(OSError), socket.create_connection((self.daemon.address, self.daemon.port), 1):
                return True

        wait_until(listening, 20, lambda: f"a listener: {tail(self.output)} {tail(self.log)}")

    def workers_of(self, pid):
        return set(children_of(pid))

    def wait_gone(self, *pids):
        wait_until(lambda: not any(alive(pid) for pid in pids), 15, lambda: f"the end of {pids}: {tail(self.log)}")

    def is_ours(self, pid):
        return str(self.daemon.pool_path) in command_line(pid)

    def end(self):
        kill_all_of(self.daemon.pool_path)
        for process in self.processes:
            process.wait()


@pytest.fixture
def launched(scratch, request):
    one = Launched(scratch / re.sub(r"\W+", "-", request.node.name))
    yield one
    one.end()


def read_pid(descriptor):
    """What a ready descriptor gets: a pid_t, and then the end."""
    said = b""
    while more := os.read(descriptor, 64):
        said += more
    assert len(said) == struct.calcsize("i"), said
    return struct.unpack("i", said)[0]


@pytest.mark.parametrize("pair", ["pipe", "socketpair"])
def test_as_smbd_starts_samba_bgqd(launched, pair):
    """Readiness is a pid_t; systemd is the parent's business; the parent's end is the daemon's, in order."""
    ready, ready_out = os.pipe()
    if pair == "pipe":
        watched, held = os.pipe()
    else:
        ends = socket.socketpair()
        watched, held = (end.detach() for end in ends)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        name = str(launched.directory / "notify")
        systemd.bind(name)
        # The parent's own end leaks into the helper, as it does where somebody forgets O_CLOEXEC.
        process = launched.start(
            f"--ready-signal-fd={ready_out}", "--parent-watch-fd=0", "--debuglevel=5",
            f"--log-basename={launched.directory}", "-F",
            stdin=watched, pass_fds=(ready_out, held), env={**os.environ, "NOTIFY_SOCKET": name, "WATCHDOG_USEC": "9"},
        )  # fmt: skip
        os.close(watched)
        os.close(ready_out)
        assert read_pid(ready) == process.pid
        os.close(ready)
        launched.wait_listening()
        workers = launched.workers_of(process.pid)
        assert len(workers) == 2
        assert os.readlink(f"/proc/{process.pid}/fd/0") == "/dev/null"
        os.close(held)
        assert process.wait(15) == 0
        systemd.setblocking(False)
        with pytest.raises(BlockingIOError):
            systemd.recv(4096)
    launched.wait_gone(*workers)
    log = launched.log.read_text()
    assert "stopping: the parent has gone (--parent-watch-fd)" in log and "stopped" in log, log
    assert "worker 0" in log, "the log of workers is not where the daemon's is"
    assert launched.output.read_text() == ""


def test_a_parent_that_has_gone_before_the_first_worker_is_ready(launched):
    watched, held = os.pipe()
    os.close(held)
    process = launched.start("--parent-watch-fd", "0", "-F", stdin=watched)
    os.close(watched)
    assert process.wait(15) == 0
    assert "the parent has gone" in launched.output.read_text()


def test_daemon_returns_when_it_listens(launched):
    """-D: the command's end is the start of service; a session of its own; and everything ends with SIGTERM."""
    ready, ready_out = os.pipe()
    pid_file = launched.directory / "smbdirectd.pid"
    command = launched.start(
        "-D", "-l", launched.directory, f"--ready-signal-fd={ready_out}", "--pid-file", pid_file, pass_fds=(ready_out,)
    )
    os.close(ready_out)
    pid = read_pid(ready)
    assert launched.is_ours(pid)
    assert command.wait(20) == 0
    with socket.create_connection((launched.daemon.address, launched.daemon.port), 5):
        pass
    assert pid != command.pid and pid_file.read_text() == f"{pid}\n"
    assert os.getsid(pid) == pid and os.getpgid(pid) == pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    for fd, target in ((0, "/dev/null"), (1, "/dev/null"), (2, str(launched.log))):
        assert os.readlink(f"/proc/{pid}/fd/{fd}") == target
    second = launched.start("-D", "-l", launched.directory, "--pid-file", pid_file)
    assert second.wait(20) == 3
    assert "ended with status 3 before it listened" in launched.output.read_text()
    assert f"is held by process {pid}: the daemon runs already" in launched.log.read_text()
    workers = launched.workers_of(pid)
    os.kill(pid, signal.SIGTERM)
    launched.wait_gone(pid, *workers)
    assert not pid_file.exists()


def test_daemon_that_cannot_listen_says_so_to_its_caller(launched):
    with socket.socket() as taken:
        taken.bind((launched.daemon.address, launched.daemon.port))
        taken.listen()
        command = launched.start("-D", "-l", launched.directory)
        assert command.wait(20) == 3
    said = launched.output.read_text()
    assert f"{launched.log} says why" in said and "ended with status 3" in said, said
    assert "Address already in use" in launched.log.read_text()


@pytest.mark.parametrize("options", [["-D", "--no-process-group"], ["-F"], ["-i"], []])
def test_the_process_group_of_the_caller(launched, options):
    ready, ready_out = os.pipe()
    launched.start(
        *options, "--no-process-group", "-l", launched.directory, "--ready-signal-fd", ready_out, pass_fds=(ready_out,)
    )
    os.close(ready_out)
    pid = read_pid(ready)
    assert launched.is_ours(pid)
    assert os.getpgid(pid) == os.getpgid(0) and os.getsid(pid) == os.getsid(0)
    os.kill(pid, signal.SIGTERM)
    launched.wait_gone(pid)


def test_relative_paths_hold_in_the_background(launched):
    """The daemon leaves the caller's directory."""
    os.mkdir(launched.directory / "logs")
    worker = os.path.relpath(program("smbdirect-worker"), launched.directory)
    pool = os.path.relpath(launched.daemon.pool_path, launched.directory)
    # The last of two is taken; the first is what is_ours looks for.
    words = launched.words("-D", "-s", pool, "--worker", worker, "-l", "logs", "--pid-file", "x.pid")
    subprocess.run(words, cwd=launched.directory, check=True, timeout=30, stdin=subprocess.DEVNULL)
    pid = int((launched.directory / "x.pid").read_text())
    assert launched.is_ours(pid)
    assert (launched.directory / "logs/log.smbdirectd").exists()
    os.kill(pid, signal.SIGTERM)
    launched.wait_gone(pid)
    assert not (launched.directory / "x.pid").exists()


def test_interactive_logs_to_standard_output(launched):
    out = launched.directory / "out"
    with open(out, "wb") as stdout:
        process = launched.start("-i", "-l", launched.directory, stdout=stdout)
    launched.wait_listening()
    process.terminate()
    assert process.wait(15) == 0
    assert "listening on" in out.read_text() and "worker 0" in out.read_text()
    assert launched.output.read_text() == "" and not launched.log.exists()


def test_debuglevel_stands_above_the_pool_file(launched):
    """Level 0 of a pool whose log is of level info: no line from the daemon or its workers. --dump-config says it."""
    process = launched.start("-F", "-d", "0")
    launched.wait_listening()
    process.terminate()
    assert process.wait(15) == 0
    assert launched.output.read_text() == ""
    dump = subprocess.run(launched.words("-d", "10", "--dump-config"), capture_output=True, text=True, timeout=20)
    assert '"level": "debug"' in dump.stdout, dump.stdout + dump.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--debuglevel", "11"], '--debuglevel is "11"; allowed: a number from 0'),
        (["-D", "-i"], "--daemon and --interactive exclude each other"),
        (["--ready-signal-fd", "many"], '--ready-signal-fd is "many"; allowed: the number of an open descriptor'),
        (["--ready-signal-fd", "777"], "is not an open descriptor above 2"),
        (["--parent-watch-fd", "0"], "--parent-watch-fd 0 is a file; allowed: a pipe or a socket"),
        (["--parent-watch-fd", "777"], "--parent-watch-fd 777 is not open; allowed: a pipe or a socket"),
    ],
)
def test_wrong_values_end_with_2_and_say_what_is_allowed(launched, options, said):
    done = subprocess.run(launched.words(*options), capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
    assert done.returncode == 2 and said in done.stderr, done.stderr


def test_a_log_that_cannot_be_is_told_before_it_leaves(launched):
    missing = launched.directory / "missing"
    done = subprocess.run(launched.words("-D", "-l", missing), capture_output=True, text=True, timeout=20)
    assert done.returncode == 3
    assert f"log file '{missing}/log.smbdirectd': No such file or directory; --log-basename names" in done.stderr


def test_systemd_hears_that_the_daemon_lives(launched):
    """WATCHDOG=1 comes from the loop, again and again; a stopped daemon sends none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(launched.directory / "notify"))
        systemd.settimeout(15)
        said = []

        def hear(wanted, times=1):
            del said[:]
            while said.count(wanted) < times:
                said.extend(systemd.recv(4096).decode().split("\n"))

        environment = {**os.environ, "NOTIFY_SOCKET": str(launched.directory / "notify"), "WATCHDOG_USEC": "200000"}
        environment.pop("WATCHDOG_PID", None)
        process = launched.start("-F", env=environment)
        hear("READY=1")
        hear("WATCHDOG=1", 3)
        process.terminate()
        hear("STOPPING=1")
        assert process.wait(15) == 0
