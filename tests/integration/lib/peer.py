# SPDX-License-Identifier: MIT
"""reference-peer as a fixture: the server process group of upstream mode "channel". $SMBDIRECTD_BUILD has it."""

import pathlib
import re
import signal

from lib.process import Server, alive, tail, wait_until

CHILD = re.compile(r"child (?P<pid>\d+) number (?P<number>\d+) guid (?P<guid>[0-9a-f]{32})")
ENDED = re.compile(r"ended (?P<pid>\d+) (?P<how>exit|signal) (?P<status>\d+)")
CHANNEL_END = re.compile(r'channel end pid=(?P<pid>\d+) (?P<counters>.*) cause="(?P<cause>[^"]*)"')


class ReferencePeer:
    """ReferencePeer(build, control, smbd_port, log).start() ... .end()

    build       the meson build directory
    control     the daemon's control socket
    smbd_port   of the stock smbd on 127.0.0.1 that answers the clients
    log         a file for what it says on stderr; its stdout goes to a file beside it
    argv        more options: "--stop-at", "opened"
    adopt       a directory: no main process, but one that serves what others pass to it (control is not used)

    It owns its children: end() ends the main process, and them with it. Nothing else is ever signalled.
    """

    def __init__(self, build, control, smbd_port, log, argv=(), adopt=None, name="reference-peer"):
        self.name, self.log_path = name, pathlib.Path(log)
        self.out_path = self.log_path.with_suffix(".out")
        role = ["--adopt", adopt] if adopt else ["--control", control]
        self.argv = [pathlib.Path(build) / "tests/peer/reference-peer", *role]
        self.argv += ["--smbd", f"127.0.0.1:{smbd_port}", *argv]
        self.server = None

    def start(self, wait=True):
        with open(self.out_path, "wb") as out:
            self.server = Server(self.name, self.argv, self.log_path, stdout=out)
        if wait:
            try:
                self.wait_ready()
            except BaseException:
                self.server.end(signal.SIGKILL)
                self.server = None
                raise
        return self

    def wait_ready(self, times=1, deadline=10):
        """Until it has registered (or listens, if it adopts); `times`: that often, for a daemon that came back."""

        def ready():
            assert self.server.running(), f"{self.argv} ended:\n{tail(self.log_path)}"
            return self.out.splitlines().count("ready") >= times

        wait_until(ready, deadline, lambda: f"{self.name} ready:\n{tail(self.log_path)}")

    @property
    def pid(self):
        return self.server.pid

    @property
    def out(self):
        return self.out_path.read_text()

    @property
    def log(self):
        return self.log_path.read_text(errors="replace")

    def starts(self):
        """Every child so far, in order: {pid, number, guid}."""
        found = [m.groupdict() for m in map(CHILD.fullmatch, self.out.splitlines()) if m]
        return [{"pid": int(m["pid"]), "number": int(m["number"]), "guid": m["guid"]} for m in found]

    def children(self):
        """Pids of the children alive now."""
        return [start["pid"] for start in self.starts() if alive(start["pid"])]

    def wait_children(self, count, deadline=10):
        """The children alive, once there are that many."""
        return wait_until(
            lambda: (lambda c: (c,) if len(c) == count else None)(self.children()),
            deadline,
            lambda: f"{count} children of {self.name}, which has {self.children()}:\n{tail(self.log_path)}",
        )[0]

    def ended(self):
        """pid -> how its child ended, as Popen.returncode says it."""
        found = [m for m in map(ENDED.fullmatch, self.out.splitlines()) if m]
        return {int(m["pid"]): int(m["status"]) * (1 if m["how"] == "exit" else -1) for m in found}

    def channel_ends(self):
        """The "channel end" lines so far: list of {pid, cause, counters}; "rdma_read" and "rdma_write" are
        (operations, bytes)."""
        out = []
        for m in map(CHANNEL_END.search, self.log.splitlines()):
            if m:
                counters = {}
                for name, value in re.findall(r"(\w+)=(\S+)", m["counters"]):
                    numbers = tuple(map(int, value.split("/")))
                    counters[name] = numbers if len(numbers) > 1 else numbers[0]
                out.append({"pid": int(m["pid"]), "cause": m["cause"], "counters": counters})
        return out

    def wait_channel_end(self, count=1, deadline=5):
        """The last of the first `count` channels that have ended."""
        ends = wait_until(
            lambda: self.channel_ends() if len(self.channel_ends()) >= count else None,
            deadline,
            lambda: f"{count} ended channels of {self.name}:\n{tail(self.log_path)}",
        )
        return ends[count - 1]

    def end(self, number=signal.SIGTERM, deadline=10, check=True):
        """Ends it and returns the exit status. With check: status 0, and no child outlives it."""
        if self.server is None:
            return None
        server, self.server = self.server, None
        children = self.children()
        status = server.end(number, deadline)
        if check:
            assert status == 0, f"{self.name} ended with {status}:\n{tail(self.log_path)}"
            wait_until(
                lambda: not any(map(alive, children)), 2, lambda: f"children {children} of {self.name} ending"
            )
        return status

    def __enter__(self):
        return self.start() if self.server is None else self

    def __exit__(self, exc_type, *exc):
        self.end(check=exc_type is None)
