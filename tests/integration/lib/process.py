# SPDX-License-Identifier: MIT
"""Processes, ports and waiting: what every server fixture here is made of."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time


def wait_until(condition, deadline, what="condition", interval=0.02):
    """Calls condition() until it returns something true, and returns that. AssertionError after `deadline`
    seconds; `what` (text, or a callable giving text) says what was waited for."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise AssertionError(f"not within {deadline} s: {what() if callable(what) else what}")
        time.sleep(interval)


_given_ports = set()


def free_port(address="127.0.0.1"):
    """A TCP port nobody listens on now, never given twice by this process."""
    while True:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as s:
            s.bind((address, 0))
            port = s.getsockname()[1]
        if port not in _given_ports:
            _given_ports.add(port)
            return port


_ports_dialled = set()
_dialling = threading.Lock()


def dial(address, timeout=None, source=None, fresh_port=True):
    """A TCP connection from a local port no connection of this run has had: logs name connections by address and
    port, and the kernel hands a port out again soon. address, source: (host, port). fresh_port=False: from any port,
    for those that are never looked up (there are some 28,000)."""
    host, port = source or ("::" if ":" in address[0] else "0.0.0.0", 0)
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    set_aside = []
    try:
        while True:
            sock = socket.socket(family, socket.SOCK_STREAM)
            set_aside.append(sock)
            sock.bind((host, port))
            with _dialling:
                mine = sock.getsockname()[1]
                if port or not fresh_port:
                    break
                if mine not in _ports_dialled:
                    _ports_dialled.add(mine)
                    break
        sock.settimeout(timeout)
        sock.connect(address)
        set_aside.remove(sock)
        return sock
    finally:
        for other in set_aside:
            other.close()


def children_of(pid):
    """Pids whose parent is `pid` now."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = pathlib.Path("/proc", entry, "stat").read_text()
            except OSError:
                continue
            if int(stat[stat.rindex(")") + 2 :].split()[1]) == pid:
                found.append(int(entry))
    return sorted(found)


def descendants_of(pid):
    found = []
    for child in children_of(pid):
        found += [child] + descendants_of(child)
    return found


def state_of(pid):
    """"R", "S", "Z" and so on (proc(5)); "X" for a pid that is gone."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "X"
    return stat[stat.rindex(")") + 2]


def alive(pid):
    """False for a pid that is gone or a zombie."""
    return state_of(pid) not in "ZX"


@contextlib.contextmanager
def held_asleep(pid):
    """Stops it where it waits for events: those that come meanwhile it finds in the order in which they came. One that was still
    at work could first look again at what it has just served."""
    wait_until(lambda: state_of(pid) == "S", 10, f"process {pid} asleep")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def command_line(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode(errors="replace").split("\0")
    except OSError:
        return []


def has_name(pid, name, proc="/proc"):
    """A process of that number is there, and has that name (comm). proc: where it has that number."""
    try:
        return pathlib.Path(proc, str(pid), "comm").read_text() == f"{name}\n"
    except OSError:
        return False


def descriptors_of(pid):
    """Number -> what /proc says of it; of a process that is gone, or that closes some meanwhile: those that are there."""
    found = {}
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
    return found


def kill_all_of(path):
    """SIGKILL to each process whose command line names `path`, a file that only the caller's processes know, and to its
    children. For processes that left us (daemons): a number from a file or of one that has ended may be another's."""
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        if pid != os.getpid() and str(path) in command_line(pid):
            for number in [pid, *children_of(pid)]:
                if alive(number):
                    os.kill(number, signal.SIGKILL)


def tail(path, lines=60, start=0):
    """The last lines of a log, from byte `start` on."""
    try:
        with open(path, "rb") as f:
            f.seek(start)
            text = f.read().decode(errors="replace")
    except OSError as e:
        return f"({e})"
    return "\n".join(text.splitlines()[-lines:])


class LogSource:
    """A log file that is shown when a test fails. `mark()` remembers where it ends now."""

    live = []

    def __init__(self, name, path):
        self.name, self.path, self.start = name, pathlib.Path(path), 0
        LogSource.live.append(self)

    def mark(self):
        self.start = self.path.stat().st_size if self.path.exists() else 0
        return self.start

    def close(self):
        if self in LogSource.live:
            LogSource.live.remove(self)


class PortServer:
    """A program in Python that runs in the background until it is stopped, and first of all prints the port where it listens."""

    def __init__(self, program, *arguments):
        argv = [sys.executable, str(pathlib.Path(program).resolve()), *map(str, arguments)]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def at_rest(read):
    """What read() gives when it no longer changes: counters of workers that have nothing to do, which publish them now and
    then."""
    last = read()
    while True:
        time.sleep(0.25)
        now = read()
        if now == last:
            return now
        last = now


class Server:
    """A foreground program in a session (and process group) of its own, its output in a file."""

    def __init__(self, name, argv, log_path, env=None, stdout=None, pass_fds=(), cwd=None):
        self.name, self.argv, self.log_path = name, [str(a) for a in argv], pathlib.Path(log_path)
        self._log = open(self.log_path, "ab")
        self.log_source = LogSource(name, self.log_path)
        self.process = subprocess.Popen(
            self.argv,
            stdin=subprocess.DEVNULL,
            stdout=self._log if stdout is None else stdout,
            stderr=self._log,
            env=env,
            pass_fds=pass_fds,
            cwd=cwd,
            start_new_session=True,
        )
        self.pid = self.process.pid

    @property
    def log(self):
        """Everything logged so far."""
        return self.log_path.read_text(errors="replace")

    def log_since(self, position):
        with open(self.log_path, "rb") as f:
            f.seek(position)
            return f.read().decode(errors="replace")

    def log_position(self):
        return self.log_path.stat().st_size

    def running(self):
        return self.process.poll() is None

    def wait_for_log(self, text, deadline=10, since=0):
        """Waits for `text` (a string, or a compiled pattern) in the log from byte `since` on. Returns the line."""

        def find():
            for line in self.log_since(since).splitlines():
                if text.search(line) if hasattr(text, "search") else text in line:
                    return line
            if not self.running():
                raise AssertionError(
                    f"{self.name} ended with {self.process.returncode} while waiting for {text!r}:\n"
                    + tail(self.log_path)
                )
            return None

        return wait_until(find, deadline, lambda: f"{text!r} in the log of {self.name}:\n{tail(self.log_path)}")

    def send_signal(self, number):
        self.process.send_signal(number)

    def kill_group(self):
        """Last resort: SIGKILL to everything still in the process group we made."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def end(self, number=signal.SIGTERM, deadline=10):
        """Stops it by signal and returns the exit status; SIGKILL (and an assertion) after `deadline`."""
        try:
            if self.running():
                self.send_signal(number)
            try:
                return self.process.wait(deadline)
            except subprocess.TimeoutExpired:
                raise AssertionError(
                    f"{self.name} (pid {self.pid}) did not end within {deadline} s of signal {number}:\n"
                    + tail(self.log_path)
                ) from None
        finally:
            self.kill_group()
            self.process.wait()
            self._log.close()
            self.log_source.close()
