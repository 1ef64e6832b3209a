# SPDX-License-Identifier: MIT
"""What a process of ours holds: memory and descriptors, for tests that bound them."""

import os
import pathlib
import re
import threading

from lib.daemon import program

MIB = 1 << 20


def sanitized():
    """Sanitizers keep freed memory back and cost much time: neither says anything there."""
    return b"__asan_init" in program("smbdirect-worker").read_bytes()


def resident(pid):
    """Bytes, exactly (the counters in status are estimates)."""
    rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Rss:\s+(\d+) kB", rollup, re.M)[1]) * 1024


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


class Watch:
    """The most memory that each of these processes had while it was on. `with Watch(pids) as w: ...; w.most[pid]`"""

    def __init__(self, pids, interval=0.05):
        self.most = dict.fromkeys(pids, 0)
        self._interval, self._over = interval, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self._over.wait(self._interval):
            self._look()

    def _look(self):
        for pid in self.most:
            try:
                pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
            except (OSError, IndexError):
                continue  # gone: whoever watches it finds out
            self.most[pid] = max(self.most[pid], pages * os.sysconf("SC_PAGE_SIZE"))

    def __enter__(self):
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._over.set()
        self._thread.join()
        self._look()
