# SPDX-License-Identifier: MIT
"""What smbdirectd's workers counted: between two moments, over all connections."""

import os
import re
import signal

from lib.process import tail, wait_until


def totals(daemon):
    """Every worker's counters of now, summed: name -> number. They write them to the log when asked."""
    since, workers = daemon.log_position(), len(daemon.worker_pids())
    os.kill(daemon.pid, signal.SIGUSR1)

    def lines():
        found = [line for line in daemon.log_since(since).splitlines() if "totals open=" in line]
        return found if len(found) >= workers else None

    found = wait_until(lines, 20, lambda: f"{workers} workers' totals in the log:\n{tail(daemon.log_path)}")
    out = {}
    for line in found:
        for name, value in re.findall(r"(\w+)=(\d+)\b", line.partition("totals ")[2]):
            out[name] = out.get(name, 0) + int(value)
    return out


class Moved:
    """Moved(daemon), then something happens, then .since(): name -> difference."""

    def __init__(self, daemon):
        self.daemon, self.before = daemon, totals(daemon)

    def since(self):
        return {name: value - self.before.get(name, 0) for name, value in totals(self.daemon).items()}


def summary(moved):
    """One line for a person."""

    def mib(name):
        return f"{moved[name] / (1 << 20):.1f} MiB"

    return (
        f"by RDMA READ {mib('rdma_read_bytes')} in {moved['rdma_reads']}, "
        f"by RDMA WRITE {mib('rdma_write_bytes')} in {moved['rdma_writes']}, {moved['invalidates']} invalidates, "
        f"inline {mib('bytes_inline_received')} in, {mib('bytes_inline_sent')} out"
    )
