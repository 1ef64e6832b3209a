# SPDX-License-Identifier: MIT
"""What the kernel logs while a test runs, and whether it complains."""

import os
import re

COMPLAINT = re.compile(
    r"WARNING:|BUG:|\bOops\b|cut here|general protection|refcount_t|corruption|use-after-free|leaked"
    r"|blocked for more than|scheduling while atomic|Call Trace|unable to handle"
)
# Of a busy host, which runs the guest's processors only now and then.
OF_THE_HOST = re.compile(r"rcu.*(stall|starved)|clocksource|Unstable clock|hrtimer: interrupt took")


class KernelLog:
    """From now on: `lines()` gives every line since this was made, `complaints()` those that tell of a bug."""

    def __init__(self):
        self._fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self._fd, 0, os.SEEK_END)
        self._lines = []

    def lines(self):
        while True:
            try:
                record = os.read(self._fd, 8192)
            except BlockingIOError:
                return self._lines
            except BrokenPipeError:  # overwritten before we read it
                self._lines.append("(the kernel's log was overwritten here: lines are missing)")
                continue
            # "priority,number,time,flags;text", then lines " KEY=value"
            text = record.decode(errors="replace").partition(";")[2]
            self._lines.append(text.splitlines()[0] if text else "")

    def reports(self):
        """The lines, those that belong to one report ("cut here" to "end trace") together."""
        out, inside = [], False
        for line in self.lines():
            if inside:
                out[-1].append(line)
            else:
                out.append([line])
            inside = "cut here" in line or (inside and "end trace" not in line)
        return out

    def complaints(self, allow=()):
        """What tells of a bug, one line for each report. allow: texts; a report with one of them is none."""
        found = []
        for report in self.reports():
            told = [line for line in report if COMPLAINT.search(line) and not OF_THE_HOST.search(line)]
            if told and not any(text in line for text in allow for line in report):
                found.append(next((line for line in told if "cut here" not in line), told[0]))
        return found

    def assert_quiet(self, allow=()):
        found = self.complaints(allow)
        assert not found, "the kernel complains: " + "; ".join(found[:5])

    def close(self):
        os.close(self._fd)
