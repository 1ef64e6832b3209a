# SPDX-License-Identifier: MIT
"""kill -9 of a worker, of the smbd that serves a client, of the daemon: again and again, in the order of a seed. After
each, `smbdirectctl clients` is true within a second and a new connection works; at the end nothing is left over."""

import os
import random
import signal
import uuid

import pytest

from lib import rdma
from lib.process import alive, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes network namespaces")

ROUNDS = 2500 if os.environ.get("SMBDIRECTD_FULL") else int(os.environ.get("SMBDIRECTD_KILLS", "250"))
GONE = (rdma.Closed, rdma.Terminated, rdma.Timeout)


class Pool:
    """A daemon in mode "transparent" with one session at each of its two workers."""

    def __init__(self, lan):
        self.lan, self.daemon = lan, lan.daemon
        self.sessions = {}  # worker's slot -> session

    def fill(self):
        """A session at each worker that has none; the dead ones are let go first."""
        while len(self.sessions) < 2:
            c = self.lan.session("IPv4")
            slot = next(s["worker"] for s in self.daemon.ctl("connections") if s["client"] == c.local)
            assert slot not in self.sessions, "a connection went to the worker that has one already"
            self.sessions[slot] = c
        self.expect(self.sessions.values())

    def expect(self, sessions):
        """The clients are these, each with its one channel and its smbd, at the latest in a second."""
        wanted = sorted(str(uuid.UUID(bytes_le=c.guid)) for c in sessions)

        def true():
            told = self.daemon.ctl("clients")
            return sorted(c["guid"] for c in told) == wanted and all(len(c["smbd"]) == 1 for c in told)

        wait_until(true, 1, lambda: f"clients {wanted}, not {self.daemon.ctl('clients')}")

    def end(self, slot):
        c = self.sessions.pop(slot)
        with pytest.raises(GONE):
            c.echo(timeout=5)
        c.close_transport()

    def kill_worker(self, slot):
        os.kill(self.daemon.workers()[slot], signal.SIGKILL)
        self.end(slot)
        self.expect(self.sessions.values())
        wait_until(
            lambda: [w["state"] for w in self.daemon.ctl("workers") if w["state"] != "stopped"] == ["ready", "ready"],
            10,
            "a new worker",
        )

    def kill_smbd(self, slot):
        guid = str(uuid.UUID(bytes_le=self.sessions[slot].guid))
        (smbd,) = next(c["smbd"] for c in self.daemon.ctl("clients") if c["guid"] == guid)
        os.kill(smbd, signal.SIGKILL)
        self.end(slot)
        self.expect(self.sessions.values())

    def kill_daemon(self, _):
        workers = self.daemon.worker_pids()
        self.daemon.server.process.kill()
        self.daemon.server.process.wait()
        self.daemon.server.end()
        self.daemon.start()
        wait_until(lambda: self.daemon.ctl("status")["workers_ready"] == 2, 10, "both workers")
        # It adopts the old workers, which serve on and end with their clients.
        self.expect(self.sessions.values())
        for c in self.sessions.values():
            assert c.echo().check()
            c.close_transport()
        self.sessions.clear()
        wait_until(lambda: not any(alive(pid) for pid in workers), 5, "the former daemon's workers ending")
        self.expect([])


def test_whoever_is_killed(make_lan):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    lan = make_lan("transparent", restart={"backoff_increment_s": 0})
    pool = Pool(lan)
    kinds = {"kill_worker": 50, "kill_smbd": 45, "kill_daemon": 5}
    open_before = None
    for number in range(ROUNDS):
        pool.fill()
        kind = chance.choices(list(kinds), kinds.values())[0]
        getattr(pool, kind)(chance.randrange(2))
        if kind == "kill_daemon":
            open_before = None
        elif len(pool.sessions) == 1:
            # One session is open: the daemon has as many descriptors as at the last such moment.
            count = len(os.listdir(f"/proc/{lan.daemon.pid}/fd"))
            assert open_before in (None, count), f"round {number}, {kind}: {count} descriptors, were {open_before}"
            open_before = count
    for slot in list(pool.sessions):
        pool.sessions.pop(slot).close_transport()
    pool.expect([])
    assert lan.daemon.ctl("connections") == []
    wait_until(lambda: not lan.serving(), 5, "no smbd serving anybody")
