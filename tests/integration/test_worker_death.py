# SPDX-License-Identifier: MIT
"""kill -9 of a worker in the middle of six clients' transfers costs its own clients their connections, and
nobody else anything (docs/internals.md: when one dies)."""

import os
import re
import signal
import subprocess
import threading
import time

from lib.files import make_file, sha256
from lib.process import wait_until
from lib.smbd import smbclient

MIB = 1 << 20
CLIENTS, WORKERS, SIZE = 6, 3, 192 * MIB
ESTABLISHED = re.compile(r"worker (\d+)\[\d+\] info: connection established peer=([0-9.]+):\d+")


def served_by(daemon, since):
    """Client address -> worker slot, from the log."""
    return {address: int(slot) for slot, address in ESTABLISHED.findall(daemon.log_since(since))}


def test_only_its_own_clients_notice(smbd, make_daemon, make_connect, tmp_path):
    daemon = make_daemon(smbd.port, workers=WORKERS, pool={"log": {"level": "info"}})
    addresses = [f"127.0.0.{21 + n}" for n in range(CLIENTS)]
    connects = [make_connect(daemon, source=address) for address in addresses]
    sums = [make_file(tmp_path / f"f{n}", SIZE, seed=n) for n in range(CLIENTS)]
    smbclient(smbd, "mkdir death", port=smbd.port)
    done = [None] * CLIENTS

    def put(n):
        try:
            done[n] = smbclient(smbd, f"put f{n} death/f{n}", port=connects[n].port, cwd=tmp_path, check=False, timeout=120)
        except subprocess.TimeoutExpired as e:
            done[n] = e

    threads = [threading.Thread(target=put, args=(n,), daemon=True) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()

    def in_the_middle():
        sizes = [p.stat().st_size if p.exists() else 0 for p in (smbd.share_path() / "death" / f"f{n}" for n in range(CLIENTS))]
        assert not any(d is not None for d in done), f"a client ended early: {done}"
        return all(MIB <= size for size in sizes)

    wait_until(in_the_middle, 60, "all six files to have begun")
    slots = served_by(daemon, 0)
    assert set(slots) == set(addresses) and len(set(slots.values())) == WORKERS, slots
    victim = slots[addresses[0]]
    before, since = daemon.workers(), daemon.log_position()
    killed_at = time.monotonic()
    os.kill(before[victim], signal.SIGKILL)
    daemon.wait_for_log(re.compile(rf"worker {victim}\[\d+\] info: ready"), deadline=5, since=since)
    ready_after = time.monotonic() - killed_at
    for thread in threads:
        thread.join()

    after = daemon.workers()
    assert after[victim] != before[victim]
    assert {s: p for s, p in after.items() if s != victim} == {s: p for s, p in before.items() if s != victim}
    # At once: the first restart has no delay (the second would have backoff_increment).
    assert ready_after < 2, f"the new worker was ready after {ready_after:.1f} s"
    for n, address in enumerate(addresses):
        assert isinstance(done[n], subprocess.CompletedProcess), f"client {address} hung: {done[n]}"
        broke = done[n].returncode != 0
        assert broke == (slots[address] == victim), f"{address} on worker {slots[address]}: {done[n].stdout}{done[n].stderr}"
        if not broke:
            assert sha256(smbd.share_path() / "death" / f"f{n}") == sums[n], f"{address}: wrong bytes"
    for n, address in enumerate(addresses):
        if slots[address] == victim:
            smbclient(smbd, f"put f{n} death/f{n}; get death/f{n} back", port=connects[n].port, cwd=tmp_path, timeout=120)
            assert sha256(smbd.share_path() / "death" / f"f{n}") == sha256(tmp_path / "back") == sums[n]
    smbclient(smbd, "deltree death", port=smbd.port)
