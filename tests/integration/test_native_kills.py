# SPDX-License-Identifier: MIT
"""kill -9 of everyone in mode "channel": a worker, the process that serves a client, one on its way to a client, the
server's main process, the daemon; again and again, in the order of a seed. After each, `smbdirectctl clients` is true
within a second and a new connection works; at the end nothing is left over."""

import os
import pathlib
import random
import signal
import threading
import uuid

import pytest

from lib import rdma
from lib.process import alive, wait_until

ROUNDS = 2500 if os.environ.get("SMBDIRECTD_FULL") else int(os.environ.get("SMBDIRECTD_KILLS", "500"))
GONE = (rdma.Closed, rdma.Terminated, rdma.Timeout)


class Pool:
    """A daemon with a session at each of its two workers, the second with a further channel at the other worker."""

    def __init__(self, native, make_peer):
        self.daemon, self.peer, self.smbd = native
        self.make_peer = make_peer
        self.sessions = []

    def fill(self):
        while len(self.sessions) < 2:
            self.sessions.append(rdma.session(self.daemon, self.smbd, user=True))
        self.expect()

    def expect(self):
        """The clients are these, each with its process, at the latest in a second."""
        wanted = sorted(str(uuid.UUID(bytes_le=c.guid)) for c in self.sessions)

        def true():
            told = self.daemon.ctl("clients")
            processes = [pid for c in told for pid in c["smbd"]]
            return sorted(c["guid"] for c in told) == wanted and len(processes) == len(wanted) == len(set(processes))

        wait_until(true, 1, lambda: f"clients {wanted}, not {self.daemon.ctl('clients')}")

    def end(self, condition):
        """Those sessions end, all others go on."""
        for c in list(self.sessions):
            if condition(c):
                self.sessions.remove(c)
                with pytest.raises(GONE):
                    c.echo(timeout=5)
                c.close_transport()
            else:
                assert c.echo().check()
        self.expect()

    def process_of(self, c):
        guid = str(uuid.UUID(bytes_le=c.guid))
        (pid,) = next(x["smbd"] for x in self.daemon.ctl("clients") if x["guid"] == guid)
        return pid

    def workers_ready(self):
        wait_until(
            lambda: [w["state"] for w in self.daemon.ctl("workers") if w["state"] not in ("draining", "stopped")]
            == ["ready", "ready"],
            10,
            "both workers",
        )

    # --- who is killed ---

    def kill_worker(self, dice):
        slot = dice.randrange(2)
        where = {c["client"]: c["worker"] for c in self.daemon.ctl("connections")}
        os.kill(self.daemon.workers()[slot], signal.SIGKILL)
        self.end(lambda c: where[c.local] == slot)
        self.workers_ready()

    def kill_process(self, dice):
        victim = dice.choice(self.sessions)
        os.kill(self.process_of(victim), signal.SIGKILL)
        self.end(lambda c: c is victim)

    def kill_process_on_its_way(self, dice):
        """The client's own, or the one that its second channel is being passed to."""
        victim = None
        if dice.random() < 0.5:
            victim = dice.choice(self.sessions)
            pid = self.process_of(victim)
        c = rdma.client(self.daemon, guid=victim.guid if victim else uuid.uuid4().bytes)
        before = len(self.peer.starts())
        thread = threading.Thread(target=negotiate, args=[c], daemon=True)
        thread.start()
        if not victim:
            pid = wait_until(lambda: self.peer.starts()[before:], 5, "a started process", interval=0.001)[0]["pid"]
        os.kill(pid, signal.SIGKILL)
        thread.join(8)
        assert not thread.is_alive()
        c.close_transport()
        self.end(lambda other: other is victim)

    def kill_main(self, _):
        self.peer.end(signal.SIGKILL, check=False)
        self.end(lambda _: True)
        self.peer = self.make_peer(self.daemon, self.smbd)

    def kill_daemon(self, _):
        self.daemon.server.process.kill()
        self.daemon.server.process.wait()
        self.daemon.server.end()
        ready = self.peer.out.splitlines().count("ready")
        self.daemon.start()
        self.peer.wait_ready(times=ready + 1)
        self.workers_ready()
        # It adopts the old workers, but does not know their clients (smbdirectd(8)); they serve on and end with them.
        assert self.daemon.ctl("clients") == []
        for c in self.sessions:
            assert c.echo().check()
            c.close_transport()
        self.sessions.clear()


def negotiate(c):
    try:
        c.negotiate()
    except Exception:  # noqa: S110 -- whether it comes to that depends on who is faster
        pass


def slot_of(daemon, pid):
    return next(slot for slot, worker in daemon.workers().items() if worker == pid)


def descriptors(pid, name):
    """How many descriptors of this name the process has."""
    links = pathlib.Path("/proc", str(pid), "fd").iterdir()
    return sum(name in os.readlink(link) for link in links)


def test_whoever_is_killed(make_daemon, make_peer, smbd):
    seed = int(os.environ.get("SMBDIRECTD_SEED", random.SystemRandom().randrange(1 << 30)))
    print(f"SMBDIRECTD_SEED={seed}")
    dice = random.Random(seed)
    pool = {"affinity": "spread", "restart": {"backoff_increment_s": 1, "maximum_backoff_s": 1, "healthy_s": 1}}
    pool["upstream"] = {"mode": "channel"}
    daemon = make_daemon(smbd.port, pool=pool)
    p = Pool((daemon, make_peer(daemon, smbd), smbd), make_peer)
    ways = [p.kill_worker, p.kill_process, p.kill_process, p.kill_process_on_its_way, p.kill_process_on_its_way]
    p.fill()
    fds = len(os.listdir(f"/proc/{daemon.pid}/fd"))
    for number in range(ROUNDS):
        way = dice.choice(ways)
        if number % 50 == 30:
            way = p.kill_main
        if number % 50 == 49:
            way = p.kill_daemon
        print(number, way.__name__)
        way(dice)
        p.fill()
    wait_until(lambda: len(p.peer.children()) == 2, 2, "a process for each client and no more")
    wait_until(lambda: len(daemon.ctl("connections")) == 2, 5, "two connections and no more")
    # A worker has the area of each connection mapped, and no descriptor of it.
    for pid in daemon.worker_pids():
        wait_until(lambda pid=pid: descriptors(pid, "smbdirect-area") == 0, 2, "no descriptor of an area is left")
        mapped = pathlib.Path("/proc", str(pid), "maps").read_text().count("smbdirect-area")
        assert mapped == sum(c["worker"] == slot_of(daemon, pid) for c in daemon.ctl("connections"))
    wait_until(lambda: len(os.listdir(f"/proc/{daemon.pid}/fd")) <= fds + 1, 2, "no descriptor is left")
    children = p.peer.children()
    for c in p.sessions:
        c.close_transport()
    p.sessions.clear()
    p.expect()
    wait_until(lambda: not any(map(alive, children)), 2, "no process is left")
