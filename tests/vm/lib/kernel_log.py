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

    def complaints(self, allow=()):
        return [
            line
            for line in self.lines()
            if COMPLAINT.search(line) and not OF_THE_HOST.search(line) and not any(text in line for text in allow)
        ]

    def assert_quiet(self, allow=()):
        """allow: texts; a line with one of them is no complaint, nor is the trace that a WARNING of it prints."""
        found = self.complaints(allow)
        if found and any(text in line for text in allow for line in self.lines()):
            found = [line for line in found if not re.search(r"cut here|Call Trace", line)]
        assert not found, "the kernel complains: " + "; ".join(found[:5])

    def close(self):
        os.close(self._fd)
