# SPDX-License-Identifier: MIT
"""A day's worth of clients in fast motion, honest and hostile: memory, descriptors and tables are flat."""

import json
import os
import random
import subprocess
import threading
import time

from lib import rdma, smb2
from lib.daemon import build_dir
from lib.process import wait_until
from lib.resources import MIB, descriptors, resident, sanitized
from lib.smbdirect import SmbDirect

FULL = bool(os.environ.get("SMBDIRECTD_FULL"))
CONNECTIONS, PDUS = (100_000, 10_000_000) if FULL else (5_000, 500_000)
CROWDS, SIZE = 2, 10_000


def crowd(daemon, number, connections, pdus, seed):
    argv = [build_dir() / "tests/load/smbdirect-crowd", daemon.address, daemon.port, f"127.0.{70 + number}.1"]
    argv += [connections, pdus, seed + number]
    return subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


class Honest:
    """Guests that come, write, read back, compare, and go: by RDMA and inline, until told to stop."""

    def __init__(self, daemon, name):
        self.daemon, self.name = daemon, name
        self.clients = self.pdus = 0
        self.failure = None
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            while not self.over.is_set():
                self.client()
                self.clients += 1
        except BaseException as e:
            self.failure = e

    def client(self):
        to = self.daemon.address, self.daemon.port
        with smb2.Client(SmbDirect.connect(to, source=("127.0.0.77", 0), crc=False)) as c:
            c.start()
            file = c.create(f"day-{self.name}")
            for turn in range(20):
                if self.over.is_set():
                    break
                data = random.Random(turn).randbytes(SIZE)
                rdma.write_and_read_back(c, file, data)
                self.pdus += 4
            c.close_file(file).check()
            self.pdus += 7

    def stop(self):
        self.over.set()
        self.thread.join(60)
        assert self.failure is None, f"an honest client failed: {self.failure!r}"


def part(daemon, smbd, connections, pdus, seed):
    """So many hostile connections beside honest clients; then everything has gone. What was done."""
    honest = Honest(daemon, seed)
    began = time.monotonic()
    crowds = [crowd(daemon, n, connections // CROWDS, pdus // CROWDS, seed) for n in range(CROWDS)]
    try:
        did = [json.loads(p.communicate(timeout=7200)[0]) for p in crowds]
    finally:
        for p in crowds:
            if p.poll() is None:
                p.kill()
                p.wait()
    honest.stop()
    done = {key: sum(d[key] for d in did) for key in did[0]}
    done.update(honest_clients=honest.clients, honest_pdus=honest.pdus, seconds=round(time.monotonic() - began, 1))
    wait_until(lambda: not daemon.ctl("connections") and not daemon.ctl("clients"), 30, lambda: daemon.ctl("connections"))
    return done


def test_a_day(smbd, make_daemon):
    seed = int(os.environ.get("SMBDIRECTD_SEED", random.SystemRandom().randrange(1 << 30)))
    print(f"SMBDIRECTD_SEED={seed}")
    scale = 10 if sanitized() and not FULL else 1
    daemon = make_daemon(smbd.port, workers=2, pool={"affinity": "spread", "iwarp": {"crc": False}, "log": {"level": "notice"}})
    pids = {"supervisor": daemon.pid, **{f"worker {slot}": pid for slot, pid in daemon.workers().items()}}
    idle = {name: descriptors(pid) for name, pid in pids.items()}
    print("warming up:", part(daemon, smbd, CONNECTIONS // 10 // scale, PDUS // 10 // scale, seed))
    before = {name: resident(pid) for name, pid in pids.items()}
    done = part(daemon, smbd, CONNECTIONS // scale, PDUS // scale, seed + 100)
    print("the day:", done)
    after = {name: resident(pid) for name, pid in pids.items()}
    print("growth in KiB:", {name: (after[name] - before[name]) // 1024 for name in pids})
    assert {f"worker {slot}": pid for slot, pid in daemon.workers().items()} == {n: p for n, p in pids.items() if p != daemon.pid}
    wait_until(
        lambda: {name: descriptors(pid) for name, pid in pids.items()} == idle,
        15,
        lambda: f"descriptors {idle}, now {({name: descriptors(pid) for name, pid in pids.items()})}",
    )
    assert done["honest_clients"] > 0 and done["turned_away"] < done["connections"] / 2, done
    assert done["pdus"] > PDUS // scale // 2, "most of the crowd's PDUs were never sent"
    if not sanitized():
        grown = {name: after[name] - before[name] for name in pids}
        assert all(g <= 4 * MIB for g in grown.values()), f"resident memory grew: {grown} from {before}"
