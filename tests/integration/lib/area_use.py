# SPDX-License-Identifier: MIT
"""READs and WRITEs of clients by memory that a worker shares with smbd: how many went that way, and how a client gets there."""

from lib import rdma
from lib.process import wait_until

THRESHOLD = 65536  # of /upstream/area, where a test sets none


def moved(daemon):
    """(READs, WRITEs) that went by the area, in all workers."""
    rows = daemon.ctl("workers")
    return tuple(sum(row[name] or 0 for row in rows) for name in ("area_reads", "area_writes"))


def moved_by(daemon):
    """Slot -> how many went by the area in that worker."""
    return {row["slot"]: (row["area_reads"] or 0) + (row["area_writes"] or 0) for row in daemon.ctl("workers")}


def moved_soon(daemon, before):
    try:
        return wait_until(lambda: moved(daemon)[0] > before, 0.6, "a READ by the area")
    except AssertionError:
        return False


def warm(daemon, c, file):
    """The first request asks for the area; when it is there the next ones use it."""

    def used():
        before = moved(daemon)[0]
        rdma.channel_read(c, file, THRESHOLD)
        return moved_soon(daemon, before)

    def why():
        rows = daemon.ctl("connections")
        mine = next((row for row in rows if row["client"] == c.local), None)
        return f"an area in use: {mine and {key: mine[key] for key in mine if 'area' in key}} of {len(rows)} connections"

    wait_until(used, 10, why)
