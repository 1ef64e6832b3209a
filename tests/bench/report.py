# SPDX-License-Identifier: MIT
"""Turns samples into the tables scripts/bench prints. A ratio is the median over the rounds of the ratio within
a round, so that a slow moment of the machine counts against neither side."""

import statistics

from paths import MODULE_ROWS, PATHS

KINDS = ("1M", "256K", "64K", "4K", "setup")  # of workloads, each with a table of CPU time
ROLES = ("client", "haproxy", "connect", "worker", "smbd")


def digits(value):
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(title, columns, rows):
    """rows: list of (label, list of cells)."""
    width = max([len(label) for label, _ in rows] + [len(title)])
    widths = [max([len(c)] + [len(cells[i]) for _, cells in rows]) for i, c in enumerate(columns)]
    lines = [title.ljust(width) + "".join("  " + c.rjust(w) for c, w in zip(columns, widths))]
    for label, cells in rows:
        lines.append(label.ljust(width) + "".join("  " + c.rjust(w) for c, w in zip(cells, widths)))
    return "\n".join(lines)


def counts_bytes(workload):
    """Whether its rate is in MB/s: small ones and connections are counted."""
    return "4K" not in workload and workload != "setup"


def is_kind(kind, workload):
    return kind in workload.split("-")


class Results:
    def __init__(self, samples, peak_rss):
        self.samples, self.peak_rss = samples, peak_rss
        self.paths = [p for p in PATHS if any(s["path"] == p for s in samples)]
        self.workloads = list(dict.fromkeys(s["workload"] for s in samples))
        self.rounds = 1 + max(s["round"] for s in samples)

    def of(self, path, workload):
        return [s for s in self.samples if s["path"] == path and s["workload"] == workload]

    def rate(self, path, workload):
        return statistics.median(s["rate"] for s in self.of(path, workload))

    def ratio(self, path, base, workload):
        """None when `base` was not measured."""
        bases = {s["round"]: s["rate"] for s in self.of(base, workload)}
        if not bases:
            return None
        return statistics.median(s["rate"] / bases[s["round"]] for s in self.of(path, workload))

    def cpu(self, path, workload, role):
        """CPU seconds of all rounds together per GB moved, or for small work microseconds per operation. None: no
        such process on this path."""
        samples = self.of(path, workload)
        if not samples or role not in samples[0]["cpu"]:
            return None
        used = sum(s["cpu"][role] for s in samples)
        if counts_bytes(workload):
            return used / (sum(s["bytes"] for s in samples) / 1e9)
        return used / sum(s["operations"] for s in samples) * 1e6

    def cpu_ratio(self, path, role, base, base_role, workload):
        mine, other = self.cpu(path, workload, role), self.cpu(base, workload, base_role)
        return mine / other if mine is not None and other else None

    def text(self):
        parts = [self.legend(), self.rates()]
        for base in ("direct", "haproxy"):
            if base in self.paths and len(self.paths) > 1:
                parts.append(self.ratios(base))
        parts += [self.cpu_table(kind) for kind in KINDS if any(is_kind(kind, name) for name in self.workloads)]
        parts += [self.memory(), self.goals()]
        return "\n\n".join(p for p in parts if p)

    def legend(self):
        checked = sum(s["checked_bytes"] for s in self.samples)
        lines = [f"{p:<9} {PATHS[p]}" for p in self.paths]
        lines.append(
            f"{self.rounds} rounds, medians; 1M, 256K, 64K: MB/s, 4K: operations/s, setup: connections/s; dN: N in flight; "
            f"{checked / 1e6:.0f} MB compared, all as written"
        )
        lines += [self.other_way(p) for p in self.paths if p in MODULE_ROWS]
        return "\n".join(lines)

    def other_way(self, path):
        """How much really went the row's way: there is a threshold, and room for so many at once."""
        parts = []
        for w in self.workloads:
            moved = sum(s["bytes"] for s in self.of(path, w))
            if moved:
                parts.append(f"{w} {100 * min(1, sum(s['other_bytes'] for s in self.of(path, w)) / moved):.0f} %")
        return f"{path}: not through smbd's TCP connection: {', '.join(parts)}"

    def rates(self):
        rows = [(p, [digits(self.rate(p, w)) for w in self.workloads]) for p in self.paths]
        return table("rate", self.workloads, rows)

    def ratios(self, base):
        rows = [(p, [digits(self.ratio(p, base, w)) for w in self.workloads]) for p in self.paths if p != base]
        return table(f"rate / {base}", self.workloads, rows)

    def cpu_table(self, kind):
        workloads = [w for w in self.workloads if is_kind(kind, w)]
        rows = []
        for p in self.paths:
            for role in ROLES:
                cells = [self.cpu(p, w, role) for w in workloads]
                if any(c is not None for c in cells):
                    rows.append((f"{p}: {role}", [digits(c) for c in cells]))
        what = "CPU seconds per GB" if counts_bytes(workloads[0]) else "CPU microseconds per operation"
        return table(what, workloads, rows)

    def memory(self):
        rows = []
        for p in self.paths:
            peaks = self.peak_rss.get(p, {})
            rows.append((p, [f"{peaks[r] / 1024:.1f}" if r in peaks else "-" for r in ROLES]))
        return table("peak RSS, MiB", list(ROLES), rows)

    def goals(self):
        if "haproxy" not in self.paths:
            return ""
        rows = []
        for p in ("crc-off", *MODULE_ROWS, "crc-on"):
            for w in self.workloads:
                if p not in self.paths or not is_kind("1M", w):
                    continue
                rate, cpu = self.ratio(p, "haproxy", w), self.cpu_ratio(p, "worker", "haproxy", "haproxy", w)
                rows.append(
                    (
                        f"{p} {w}",
                        [
                            digits(rate),
                            "met" if rate >= 1 else "missed",
                            digits(cpu),
                            "-" if cpu is None else "met" if cpu <= 1.5 else "missed",
                        ],
                    )
                )
        if not rows:
            return ""
        return table("goals (against HAProxy)", ["rate", ">= 1", "worker CPU/GB", "<= 1.5"], rows)
