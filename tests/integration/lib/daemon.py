# SPDX-License-Identifier: MIT
"""smbdirectd, its workers and smbdirect-connect as fixtures. Programs come from $SMBDIRECTD_BUILD."""

import json
import os
import pathlib
import re
import signal
import subprocess

from lib.process import Server, alive, command_line, descendants_of, free_port, kill_all_of, tail, wait_until


def build_dir():
    value = os.environ.get("SMBDIRECTD_BUILD")
    if not value:
        raise RuntimeError("set SMBDIRECTD_BUILD to the meson build directory that holds the programs to test")
    return pathlib.Path(value).resolve()


def program(name):
    """Path of one of our programs in the build directory."""
    places = {
        "smbdirectd": "daemon/smbdirectd",
        "smbdirectctl": "daemon/smbdirectctl",
        "smbdirect-exporter": "daemon/exporter/smbdirect-exporter",
        "smbdirect-worker": "workers/smbdirect-worker",
        "smbdirect-connect": "workers/connect/smbdirect-connect",
    }
    path = build_dir() / places[name]
    if not path.exists():
        raise RuntimeError(f"{path} is not built")
    return path


def merged(base, extra):
    """Two levels of settings: objects are merged, everything else replaced."""
    out = dict(base)
    for key, value in (extra or {}).items():
        out[key] = {**out[key], **value} if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out


CLOSED = re.compile(r'connection closed peer=(?P<peer>\S+) cause="(?P<cause>[^"]*)"(?P<rest>.*)')


class Smbdirectd:
    """Smbdirectd(directory, upstream_port, pool={...}).start() ... .stop()

    Writes `pool` (over sane test defaults: one iwarp listener on a free loopback port, two workers) and runs
    smbdirectd in the foreground. stop() sends TERM and asserts exit status 0 and that no process is left.
    """

    def __init__(self, directory, upstream_port, pool=None, workers=2, argv=(), name="smbdirectd", env=None, space=None):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.name, self.argv, self.env = name, list(argv), env
        self.space = space  # a NetSpace to run in
        self.address, self.port = "127.0.0.1", free_port()
        defaults = {
            "workers": workers,
            "run_directory": str(self.directory / "run"),
            "listeners": [{"address": self.address, "port": self.port, "fabric": "iwarp"}],
            "upstream": {"mode": "connect", "address": "127.0.0.1", "port": upstream_port},
            "log": {"level": "info"},
        }
        self.pool = merged(defaults, pool)
        if self.pool["upstream"]["mode"] != "connect" and "address" not in (pool or {}).get("upstream", {}):
            del self.pool["upstream"]["address"]  # smbd is where the client came to
        self.address, self.port = self.pool["listeners"][0]["address"], self.pool["listeners"][0]["port"]
        self.pool_path = self.directory / "pool.json"
        self.log_path = self.directory / "smbdirectd.log"
        self.server = None
        self.binary = None  # another smbdirectd than the one that is built
        self.successors = []  # pids of the daemons that have taken over, one from the other
        self._seen = set()

    @property
    def target(self):
        return f"{self.address}:{self.port}"

    def start(self, wait=True):
        self.pool_path.write_text(json.dumps(self.pool, indent=2))
        argv = [self.binary or program("smbdirectd"), "--foreground", "--configfile", self.pool_path]
        argv += ["--worker", program("smbdirect-worker"), *self.argv]
        argv = self.space.wrap(*argv) if self.space else argv
        started = self.log_path.stat().st_size if self.log_path.exists() else 0  # an earlier one's log
        self.server = Server(self.name, argv, self.log_path, env=self.env)
        if wait:
            try:
                self.server.wait_for_log(f"listening on {self.address} port {self.port}", 20, started)
                if self.pool.get("affinity") == "spread":  # over all of them: the first connections, too
                    wait_until(lambda: self.ctl("status")["workers_ready"] >= self.pool["workers"], 20, "all workers ready")
            except BaseException:
                self.server.end(signal.SIGKILL)
                self.server = None
                raise
            self.worker_pids()
        return self

    @property
    def pid(self):
        return self.successors[-1] if self.successors else self.server.pid

    def upgrade(self):
        """Lets a new daemon take over. The answer of smbdirectctl."""
        told = self.ctl("upgrade")
        assert told["former_pid"] == self.pid, told
        self.successors.append(told["pid"])
        return told

    @property
    def log(self):
        return self.server.log if self.server else self.log_path.read_text(errors="replace")

    def log_position(self):
        return self.server.log_position()

    def log_since(self, position):
        return self.server.log_since(position)

    def wait_for_log(self, text, deadline=10, since=0):
        return self.server.wait_for_log(text, deadline, since)

    def ctl(self, command, *options, check=True):
        """What smbdirectctl --json says of it: the command's own part. Not check: the CompletedProcess."""
        argv = [program("smbdirectctl"), "--socket", self.directory / "run" / "control", command, *options]
        argv += ["--json"] if check else []
        done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=20)
        if not check:
            return done
        assert done.returncode == 0, f"{argv}: {done.stderr}"
        return json.loads(done.stdout)[command]

    def workers(self):
        """Slot -> pid of every worker alive now."""
        found = {}
        for pid in descendants_of(self.pid):
            words = command_line(pid)
            if "--slot" in words and alive(pid):
                found[int(words[words.index("--slot") + 1])] = pid
        self._seen.update(found.values())
        return found

    def worker_pids(self):
        return sorted(self.workers().values())

    def closed(self, peer=None, since=0):
        """The "connection closed" lines so far: list of {peer, cause, counters}. peer: "ADDR:PORT" or "ADDR"."""
        out = []
        for line in self.log_since(since).splitlines():
            m = CLOSED.search(line)
            if m and (peer is None or m["peer"] == peer or m["peer"].rsplit(":", 1)[0] == peer):
                counters = {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)\b", m["rest"])}
                out.append({"peer": m["peer"], "cause": m["cause"], "counters": counters})
        return out

    def wait_closed(self, peer, deadline=5, since=0):
        """The "connection closed" record of the connection from `peer` ("ADDR:PORT")."""
        return wait_until(
            lambda: self.closed(peer, since),
            deadline,
            lambda: f'"connection closed peer={peer}" in the log:\n{tail(self.log_path)}',
        )[0]

    def stop(self, number=signal.SIGTERM, deadline=12, check=True):
        """Ends it and returns the exit status. With check: status 0, and no worker outlives it."""
        if self.server is None:
            return None
        self.workers()
        server, self.server = self.server, None
        self.end_successors(server, number, deadline)
        status = server.end(number, deadline)
        left = [pid for pid in self._seen if alive(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        if check:
            assert status == 0, f"{self.name} ended with {status}:\n{tail(self.log_path)}"
            assert not left, f"workers {left} outlived {self.name}:\n{tail(self.log_path)}"
        return status

    def end_successors(self, server, number, deadline):
        """The last of them ends those before it."""
        successors, self.successors = self.successors, []
        if not successors:
            return
        try:
            if alive(successors[-1]):
                os.kill(successors[-1], number)
            wait_until(lambda: not any(map(alive, successors)), deadline, lambda: f"{successors} end: {tail(self.log_path)}")
            wait_until(lambda: not server.running(), deadline, lambda: f"{server.pid} ends: {tail(self.log_path)}")
        finally:
            kill_all_of(self.pool_path)

    def __enter__(self):
        return self.start() if self.server is None else self

    def __exit__(self, exc_type, *exc):
        self.stop(check=exc_type is None)


class Connect:
    """smbdirect-connect carrying a local TCP port over SMB Direct to `to` ("ADDR:PORT" or an Smbdirectd)."""

    def __init__(self, directory, to, *options, source=None, rdma_io=True, name="smbdirect-connect", space=None):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        argv = [program("smbdirect-connect"), "--listen", "127.0.0.1:0", "--to", getattr(to, "target", to)]
        argv += ["--source", source] if source else []
        argv += ["--rdma-io"] if rdma_io else []
        self.argv = [str(a) for a in argv + ["--stats=json", *options]]
        self.argv = space.wrap(*self.argv) if space else self.argv
        self.out_path = self.directory / f"{name}.out"
        self.address, self.port, self.server, self._stats = "127.0.0.1", None, None, None

    def start(self):
        with open(self.out_path, "wb") as out:
            self.server = Server(self.name, self.argv, self.directory / f"{self.name}.log", stdout=out)

        def listening():
            m = re.search(r"listening on (\S+):(\d+)", self.out_path.read_text())
            assert m or self.server.running(), f"{self.argv} ended:\n{self.server.log}"
            return m

        try:
            self.port = int(wait_until(listening, 10, "smbdirect-connect listening")[2])
        except BaseException:
            self.server.end(signal.SIGKILL)
            self.server = None
            raise
        return self

    @property
    def log(self):
        return self.server.log

    @property
    def pid(self):
        return self.server.pid

    def stop(self, check=True):
        """Ends it and returns the counters it printed (--stats=json)."""
        if self.server is None:
            return self._stats
        server, self.server = self.server, None
        status = server.end()
        if check:
            assert status == 0, f"{self.argv} ended with {status}:\n{tail(server.log_path)}"
        text = self.out_path.read_text()
        start = text.find("{")
        self._stats = json.loads(text[start:]) if start >= 0 else None
        if check:
            assert self._stats is not None, f"no statistics in {text!r}"
        return self._stats

    @property
    def stats(self):
        """Counters, once stopped."""
        return self._stats

    def __enter__(self):
        return self.start() if self.server is None else self

    def __exit__(self, exc_type, *exc):
        self.stop(check=exc_type is None)


def probe(to, *options, timeout=15):
    """smbdirect-connect --probe: CompletedProcess."""
    argv = [program("smbdirect-connect"), "--probe", "--to", getattr(to, "target", to), *options]
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=timeout)
