# SPDX-License-Identifier: MIT
"""READs and WRITEs that a worker does on the open file itself: how many, and how a client gets there."""

import time

from lib.process import wait_until


def done(daemon):
    """(READs, WRITEs) that were done so, in all workers."""
    rows = daemon.ctl("workers")
    return tuple(sum(row[name] or 0 for row in rows) for name in ("direct_reads", "direct_writes"))


def shares(daemon):
    """The same, and how many open files were granted."""
    rows = daemon.ctl("workers")
    return *done(daemon), sum(row["direct_grants"] or 0 for row in rows)


def warm(daemon, c, file):
    """The file was opened with a lease, and has 8 bytes or more; the first WRITE of it is smbd's. Both kinds are done directly
    when this returns."""

    def used():
        before = done(daemon)
        data = c.read(file, 8).check().data
        c.write(file, data).check()
        end = time.monotonic() + 0.6  # counters are published now and then
        while time.monotonic() < end:
            if all(now > then for now, then in zip(done(daemon), before, strict=True)):
                return True
            time.sleep(0.05)
        return False

    wait_until(used, 20, "READs and WRITEs that are done directly")
