#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""smbdirectctl upgrade with listeners on RDMA devices: their ids move to the new daemon, and back from one that dies."""

import contextlib
import os
import signal
import sys
import threading

from lib.cases import Cases
from lib.daemon import Smbdirectd, program
from lib.network import PORTS, rdma_device, resources, run
from lib.process import alive, command_line, wait_until
from lib.world import smbd_world

ROUNDS = 4
# A successor that takes every listening id to a file of its own and dies: MIGRATE_ID by the kernel's own structures.
TAKES_AND_DIES = f"""#!{sys.executable}
import ctypes, json, os, socket, struct, sys
line = socket.socket(fileno=os.dup(3))
def say(note, fds=(), **members): socket.send_fds(line, [json.dumps(dict(members, note=note)).encode()], fds)
def hear(what):
    while True:
        text, fds, _, _ = socket.recv_fds(line, 65536, 4)
        said = json.loads(text)
        if said["note"] == "rdma_file": globals()["theirs"] = fds[0]
        if said["note"] == what: return said
say("hello", version=1, release="9.9")
hear("begin")
mine = os.open("/dev/infiniband/rdma_cm", os.O_RDWR)
say("ready", [mine])
for one in hear("go")["ids"]:
    room = ctypes.create_string_buffer(8)
    os.write(mine, struct.pack("<IHHQII", 18, 16, 8, ctypes.addressof(room), one["id"], theirs))
os.abort()
"""


cases = Cases(smbd_world)


@contextlib.contextmanager
def served(world, kind, name):
    pool = {
        "listeners": [{"address": world.network.address, "port": PORTS[kind], "fabric": "verbs"}],
        "upstream": {"allow": ["192.0.2.0/24"]},
        "restart": {"ready_timeout_ms": 120_000},
        "limits": {"connection_rate_per_client": 0},
    }
    with rdma_device(kind):
        daemon = Smbdirectd(world.directory / f"{name}-{kind}", world.smbd.port, pool=pool)
        daemon.binary = daemon.directory / "smbdirectd"
        install(daemon)
        with daemon:
            yield daemon


def install(daemon, text=None):
    new = daemon.binary.with_name("new")
    new.write_bytes(program("smbdirectd").read_bytes() if text is None else text.encode())
    new.chmod(0o755)
    new.rename(daemon.binary)


def probe(daemon):
    argv = [program("smbdirect-connect"), "--probe", "--fabric", "verbs", "--to", daemon.target]
    return run(*argv, timeout=120, check=False)


def upgrade(daemon):
    """(exit status, what it said); the guest is slow."""
    done = run(program("smbdirectctl"), "--socket", daemon.directory / "run/control", "upgrade", timeout=200, check=False)
    return done.returncode, done.stdout + done.stderr


def upgraded(daemon):
    status, said = upgrade(daemon)
    assert status == 0, said + daemon.log
    daemon.successors.append(int(next(line.split()[1] for line in said.splitlines() if line.startswith("pid "))))


def listeners():
    """The ids that listen. As their process the kernel names the one that made them, wherever they have moved."""
    return [one for one in resources("cm_id") if one.get("state") == "LISTEN"]


@cases.on_each(PORTS)
def no_probe_fails(world, kind):
    """Clients come without a pause while daemons take over from each other."""
    with served(world, kind, "load") as daemon:
        over, failures, counts = threading.Event(), [], [0, 0]

        def clients(number):
            while not over.is_set():
                done = probe(daemon)
                if done.returncode != 0:
                    failures.append(done.stdout + done.stderr)
                    return
                counts[number] += 1

        threads = [threading.Thread(target=clients, args=(n,)) for n in range(len(counts))]
        for thread in threads:
            thread.start()
        try:
            pids = [daemon.pid]
            for _ in range(ROUNDS):
                before = counts[:]
                upgraded(daemon)
                pids.append(daemon.pid)
                wait_until(
                    lambda before=before: failures or all(now > was for now, was in zip(counts, before, strict=True)), 200
                )
                assert len(listeners()) == 1, f"{pids}: {resources('cm_id')}"
            # Of all but the last nothing is left, and its clients still come in.
            wait_until(lambda: not any(map(alive, pids[:-1])), 60, lambda: daemon.log)
            before = counts[:]
            wait_until(lambda: failures or all(now > was for now, was in zip(counts, before, strict=True)), 200)
        finally:
            over.set()
            for thread in threads:
                thread.join(200)
        assert not failures, failures + [daemon.log]
        return f"{ROUNDS} upgrades, {sum(counts)} probes"


@cases.on_each(PORTS)
def requests_that_wait_are_served(world, kind):
    """They have come in when the former daemon is stopped, and nobody has read them."""
    with served(world, kind, "queued") as daemon:
        for _ in range(ROUNDS):
            former, answers, probes = daemon.pid, [], []
            asked = threading.Thread(target=lambda answers=answers: answers.append(upgrade(daemon)))
            asked.start()
            wait_until(lambda former=former: [p for p in successors_of(daemon) if p != former], 60, interval=0.005)
            os.kill(former, signal.SIGSTOP)
            threads = [threading.Thread(target=lambda probes=probes: probes.append(probe(daemon))) for _ in range(3)]
            for thread in threads:
                thread.start()
            # The kernel has an id for each; who listens has not seen them.
            wait_until(lambda: len(waiting()) >= 3, 60, lambda: f"{resources('cm_id')}")
            os.kill(former, signal.SIGCONT)
            asked.join(200)
            for thread in threads:
                thread.join(200)
            assert answers and answers[0][0] == 0, (answers, daemon.log)
            said = answers[0][1]
            daemon.successors.append(int(next(line.split()[1] for line in said.splitlines() if line.startswith("pid "))))
            assert [done.returncode for done in probes] == [0] * 3, [done.stderr for done in probes] + [daemon.log]
        return f"{ROUNDS} times 3 requests"


def successors_of(daemon):
    """The processes of the daemon's program that are to take over."""
    found = []
    for entry in os.listdir("/proc"):
        words = command_line(int(entry)) if entry.isdigit() else []
        if words and words[0] == str(daemon.binary) and "--take-over-fd" in words:
            found.append(int(entry))
    return [pid for pid in found if pid not in daemon.successors]


def waiting():
    """Connection requests that nobody has accepted, on the server's side."""
    return [one for one in resources("cm_id") if one.get("state") == "CONNECT" and one.get("src-addr", "").startswith("192.0.2.1")]


@cases.on_each(PORTS)
def ids_are_taken_back(world, kind):
    """The successor has moved the listening ids to its own file and dies: the former daemon listens as before."""
    with served(world, kind, "back") as daemon:
        install(daemon, TAKES_AND_DIES)
        for _ in range(2):
            status, said = upgrade(daemon)
            assert status == 1 and "killed by signal 6" in said, (status, said, daemon.log)
            done = probe(daemon)
            assert done.returncode == 0, done.stdout + done.stderr + daemon.log
            assert len(listeners()) == 1, resources("cm_id")
        install(daemon)
        upgraded(daemon)
        assert probe(daemon).returncode == 0, daemon.log
        assert "take back" not in daemon.log, daemon.log


if __name__ == "__main__":
    sys.exit(cases.main())
