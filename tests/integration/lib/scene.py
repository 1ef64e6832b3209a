# SPDX-License-Identifier: MIT
"""What processes are doing while something that should have ended goes on: for the text of a failure that cannot be
looked at again."""

import contextlib
import os
import pathlib
import threading
import time


def seconds_used(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def threads(pid):
    """Where each thread waits, as /proc says."""
    found = []
    for task in sorted(pathlib.Path(f"/proc/{pid}/task").iterdir()):
        with contextlib.suppress(OSError):
            state = (task / "stat").read_text().rpartition(")")[2].split()[0]
            found.append(f"{state}:{(task / 'wchan').read_text() or '-'}:{(task / 'syscall').read_text().split()[0]}")
    return {where: found.count(where) for where in found}


def describe(processes, *texts):
    """processes: name -> pid. texts: functions that give more to say."""
    over_s = 0.5
    lines, before = [], {}
    for name, pid in processes.items():
        with contextlib.suppress(OSError):
            before[name] = seconds_used(pid)
    time.sleep(over_s)
    for name, pid in processes.items():
        try:
            lines.append(f"{name} {pid}: {(seconds_used(pid) - before[name]) / over_s:.0%} of a processor; {threads(pid)}")
        except (OSError, KeyError) as e:
            lines.append(f"{name} {pid}: {e!r}")
    for text in texts:
        try:
            lines.append(text())
        except Exception as e:
            lines.append(f"not to be had: {e!r}")
    return "\n".join(lines)


class Lookout:
    """with Lookout(seconds, look) as l: if that lasts longer, l.seen is what look() gave then, else ""."""

    def __init__(self, seconds, look):
        self.seen, self._look = "", look
        self._timer = threading.Timer(seconds, self._run)
        self._timer.daemon = True

    def _run(self):
        self.seen = self._look()

    def __enter__(self):
        self._timer.start()
        return self

    def __exit__(self, *exc):
        self._timer.cancel()
        self._timer.join()
