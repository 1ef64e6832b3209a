# SPDX-License-Identifier: MIT
"""smbdirectctl top: once as text, and on a terminal until q is pressed."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading

import pytest

from lib import rdma
from lib.daemon import program
from lib.process import wait_until


class Terminal:
    """A program on a terminal of its own; what it has written so far, without escape sequences."""

    def __init__(self, argv, columns=160, lines=30):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
            os.execv(argv[0], argv)
        self.raw = b""

    @property
    def text(self):
        while select.select([self.fd], [], [], 0)[0]:
            try:
                data = os.read(self.fd, 65536)
            except OSError:  # it has ended
                break
            if not data:
                break
            self.raw += data
        return re.sub(r"\x1b[\[(][0-9;?]*[A-Za-z]|\x1b[=>]|\r", " ", self.raw.decode(errors="replace"))

    def press(self, key):
        os.write(self.fd, key.encode())

    def ended(self):
        """The exit status, once there is one."""
        _ = self.text  # a program that writes to a full terminal does not end
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return (os.waitstatus_to_exitcode(status),) if pid else None

    def close(self):
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(self.fd)


@pytest.fixture
def busy(make_daemon, smbd):
    """A daemon with a client that reads all the time."""
    daemon = make_daemon(smbd.port)
    done = threading.Event()
    with rdma.session(daemon, smbd, user=True) as client:
        file = client.create("top")
        client.write(file, b"t" * 60_000).check()

        def read():
            while not done.is_set():
                response, placed = rdma.channel_read(client, file, 60_000)
                assert response.check() and len(placed) == 60_000

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield daemon
        finally:
            done.set()
            reader.join()


def test_once_it_prints_what_each_worker_and_client_moves(busy):
    busy_now = wait_until(lambda: [w for w in busy.ctl("workers") if (w["rdma_write_bytes"] or 0) > 0], 5, "a busy worker")
    done = busy.ctl("top", check=False)  # standard output is no terminal
    assert (done.returncode, done.stderr) == (0, ""), done
    lines = done.stdout.splitlines()
    assert lines[0].startswith("smbdirectd ") and "2 of 2 workers ready" in lines[0]
    assert lines[1].startswith("1 connection of 1 client; to clients ")
    workers = {words[0]: words for words in map(str.split, lines) if words and words[0] in ("0", "1", "all")}
    slot = str(busy_now[0]["slot"])
    assert workers[slot][1:3] == ["ready", "1"] and workers[slot][7] != "0"
    other = {"0": "1", "1": "0"}[slot]
    assert workers[other][2:] == ["0"] * 6
    (client,) = [words for words in map(str.split, lines) if words and words[0] == "127.0.0.1"]
    assert client[1] == slot and len(client[2]) == 36 and client[8] != "0"


def test_as_json(busy):
    wait_until(lambda: [w for w in busy.ctl("workers") if (w["rdma_write_bytes"] or 0) > 0], 5, "a busy worker")
    told = busy.ctl("top")
    assert told["phase"] == "serving" and sorted(w["slot"] for w in told["workers"]) == [0, 1]
    moving = [w for w in told["workers"] if w["per_second"]["rdma_write"]]
    (client,) = told["clients"]
    assert len(moving) == 1 and client["workers"] == [moving[0]["slot"]] and client["addresses"] == ["127.0.0.1"]
    assert client["per_second"]["rdma_write"] > 0 and told["per_second"]["rdma_write"] > 0
    (idle,) = [w for w in told["workers"] if w not in moving]
    assert idle["per_second"] == {"requests": 0, "inline_in": 0, "inline_out": 0, "rdma_read": 0, "rdma_write": 0}


def test_on_a_terminal_it_draws_until_q(busy):
    terminal = Terminal([str(program("smbdirectctl")), "--socket", str(busy.directory / "run/control"), "top"])
    try:
        wait_until(lambda: "RDMA_WRITE" in terminal.text and "127.0.0.1" in terminal.text, 10, lambda: terminal.text)
        wait_until(lambda: re.search(r"[0-9.]+[kMG]B/s", terminal.text), 10, lambda: terminal.text)
        terminal.press("q")
        assert wait_until(terminal.ended, 10, "its end")[0] == 0
    finally:
        terminal.close()


def test_a_daemon_that_goes_away_is_told_and_waited_for(make_daemon, smbd):
    daemon = make_daemon(smbd.port)
    terminal = Terminal([str(program("smbdirectctl")), "--socket", str(daemon.directory / "run/control"), "top"])
    try:
        wait_until(lambda: "no client is connected" in terminal.text, 10, lambda: terminal.text)
        daemon.stop()
        wait_until(lambda: "cannot connect to" in terminal.text, 10, lambda: terminal.text)
        seen = len(terminal.text)
        daemon.start()
        # Of the former lines ncurses draws only what differs: the seconds that it has been serving.
        wait_until(lambda: re.search(r"\d", terminal.text[seen:]), 10, lambda: terminal.text[seen:])
        terminal.press("q")
        assert wait_until(terminal.ended, 10, "its end")[0] == 0
    finally:
        terminal.close()


def test_without_a_daemon_or_a_terminal_it_says_so(daemon, tmp_path):
    argv = [str(program("smbdirectctl")), "--socket", str(tmp_path / "none"), "top"]
    done = subprocess.run([*argv, "--once"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and "is smbdirectd running" in done.stderr
    argv[2] = str(daemon.directory / "run/control")
    terminal = Terminal(["/usr/bin/env", "TERM=no-such-terminal", *argv])
    try:
        assert wait_until(terminal.ended, 10, "its end")[0] == 1
        assert 'terminal of type "no-such-terminal"' in terminal.text and "--once" in terminal.text
    finally:
        terminal.close()
