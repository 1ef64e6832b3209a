# SPDX-License-Identifier: MIT
"""CPU time and memory of processes, from /proc."""

import os
import pathlib

from lib.process import descendants_of

TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """User and system time of a process whose threads live as long as it does: to the nanosecond where the
    kernel counts that, else in ticks of 10 ms."""
    try:
        tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except OSError:
        return tree_cpu_seconds(pid)


def tree_cpu_seconds(pid):
    """User and system time of a process, of its descendants and of those it has reaped, threads that have ended
    included; in ticks."""
    total = 0
    for each in [pid] + descendants_of(pid):
        try:
            stat = pathlib.Path(f"/proc/{each}/stat").read_text()
        except OSError:
            continue  # gone: its parent has its time
        total += sum(int(v) for v in stat[stat.rindex(")") + 2 :].split()[11:15])  # utime stime cutime cstime
    return total / TICK


def peak_rss_kib(pid):
    """VmHWM; 0 for a process that is gone."""
    try:
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0
