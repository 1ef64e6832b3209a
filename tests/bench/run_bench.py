#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Compares stock smbd reached directly, through HAProxy and through smbdirectd: interleaved rounds in one run.

The programs come from the build directory in $SMBDIRECTD_BUILD (scripts/bench sets it)."""

import argparse
import contextlib
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))

from lib.daemon import build_dir  # noqa: E402

import paths  # noqa: E402
import report  # noqa: E402
from processes import cpu_seconds, peak_rss_kib, tree_cpu_seconds  # noqa: E402

MIB = 1 << 20
FILE_BYTES = 64 * MIB


class Workload:
    def __init__(self, work, size=0, depth=0):
        self.work, self.size, self.depth = work, size, depth

    @property
    def name(self):
        if self.work == "setup":
            return "setup"
        return f"{self.work}-{SIZES[self.size]}-d{self.depth}"


SIZES = {MIB: "1M", 256 << 10: "256K", 64 << 10: "64K", 4096: "4K"}
WORKLOADS = [Workload(w, s, d) for s in SIZES for w in ("read", "write") for d in (1, 8)] + [Workload("setup")]
USUAL = [w.name for w in WORKLOADS if w.size in (0, MIB, 4096)]


class ClientError(Exception):
    pass


class Client:
    """The benchmark client for one measurement; the timed part is between begin() and end()."""

    def __init__(self, path, *options):
        argv = [build_dir() / "tests/bench/smbdirect-bench", *path.client, *options]
        self.argv = [str(a) for a in argv]
        self.process = subprocess.Popen(
            self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def line(self):
        text = self.process.stdout.readline()
        if not text:
            self.process.wait()
            raise ClientError(f"{' '.join(self.argv)} ended {self.process.returncode}: {self.process.stderr.read()}")
        return json.loads(text)

    def wait_event(self, name):
        got = self.line()
        if got.get("event") != name:
            raise ClientError(f"{' '.join(self.argv)}: expected {name}, got {got}")

    def go(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()


class Bench:
    def __init__(self, options, smbd, all_paths):
        self.options, self.smbd, self.paths = options, smbd, all_paths
        self.samples = []  # one per measurement: {path, workload, round, rate, bytes, operations, cpu: {...}}
        self.peak_rss = {}  # path -> role -> KiB

    def prepare(self):
        for share in {path.share for path in self.paths}:
            direct = paths.Path("direct", ["--tcp", f"127.0.0.1:{self.smbd.port}", "--share", share], {})
            with Client(direct, "--work", "prepare", "--file", "read.dat", "--file-bytes", FILE_BYTES) as client:
                client.line()

    def cpu(self, path):
        used = {role: cpu_seconds(pid) for role, pid in path.processes.items()}
        used["smbd"] = tree_cpu_seconds(self.smbd.pid)
        return used

    def memory(self, path, client):
        peaks = {role: peak_rss_kib(pid) for role, pid in path.processes.items()}
        peaks["client"] = peak_rss_kib(client.process.pid)
        peaks["smbd"] = max((peak_rss_kib(pid) for pid in self.smbd.client_pids()), default=0)
        known = self.peak_rss.setdefault(path.name, {})
        for role, kib in peaks.items():
            known[role] = max(kib, known.get(role, 0))

    def measure(self, path, workload, number):
        options = ["--work", workload.work, "--seconds", self.options.seconds, "--sync", "yes"]
        options += ["--channel", self.options.channel] if path.client[0] == "--smbdirect" else []
        if workload.work != "setup":
            options += ["--size", workload.size, "--depth", workload.depth, "--file-bytes", FILE_BYTES]
            options += ["--file", f"{workload.work}.dat"]
        with Client(path, *options) as client:
            client.wait_event("begin")
            other, before = path.other_bytes(), self.cpu(path)
            client.go()
            client.wait_event("end")
            after = self.cpu(path)
            other = path.other_bytes() - other
            self.memory(path, client)
            client.go()
            done = client.line()
        cpu = {role: after[role] - before[role] for role in after}
        cpu["client"] = done["cpu_seconds"]
        size = done.get("bytes", 0)
        sample = {
            "path": path.name,
            "workload": workload.name,
            "round": number,
            "rate": (size / 1e6 if report.counts_bytes(workload.name) else done["operations"]) / done["seconds"],
            "bytes": size,
            "other_bytes": other,
            "operations": done["operations"],
            "seconds": done["seconds"],
            "cpu": cpu,
            "checked_bytes": done.get("checked_bytes", 0),
            "counters": done.get("counters"),
        }
        self.samples.append(sample)
        if workload.work != "setup" and not sample["checked_bytes"]:
            raise ClientError(f"{path.name} {workload.name}: nothing was compared")

    def run(self, workloads):
        self.prepare()
        started = time.monotonic()
        for number in range(self.options.rounds):
            for workload in workloads:
                # Another path first each time: none always follows the same one.
                shift = (number + workloads.index(workload)) % len(self.paths)
                for path in self.paths[shift:] + self.paths[:shift]:
                    self.measure(path, workload, number)
            elapsed = time.monotonic() - started
            print(f"round {number + 1} of {self.options.rounds} ({elapsed:.0f} s)", file=sys.stderr, flush=True)


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures stock smbd directly, behind HAProxy and behind smbdirectd, on loopback.",
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds, interleaved over all paths (default 5)")
    parser.add_argument("--seconds", type=float, default=0.5, help="timed part of one measurement (default 0.5)")
    parser.add_argument("--quick", action="store_true", help="one short round: shows that it works")
    parser.add_argument("--channel", type=int, choices=(0, 1, 2), default=2, help=argparse.SUPPRESS)
    parser.add_argument("--paths", default=",".join(paths.PATHS), help=f"some of {','.join(paths.PATHS)}")
    names = [w.name for w in WORKLOADS]
    parser.add_argument("--work", default=",".join(USUAL), help=f"some of {','.join(names)} (default: 1M, 4K and setup)")
    parser.add_argument(
        "--files", metavar="DIR", type=pathlib.Path, help="smbd's files go there (default: into memory, so that no disk is measured)"
    )
    parser.add_argument("--json", metavar="FILE", help="also write every sample and the medians to FILE")
    options = parser.parse_args(argv)
    options.paths, options.work = options.paths.split(","), options.work.split(",")
    for given, known in ((options.paths, paths.PATHS), (options.work, names)):
        for name in given:
            if name not in known:
                parser.error(f"{name!r} is none of {', '.join(known)}")
    if options.quick:
        options.rounds, options.seconds = 1, 0.2
    if options.files is not None and not options.files.is_dir():
        parser.error(f"{options.files} is no directory")
    if options.rounds < 1 or not 0 < options.seconds <= 15:
        parser.error("at least one round of more than 0 and at most 15 seconds per measurement")
    return options


def fast_place():
    """Where smbd's files go: memory when there is room, so that no disk is measured."""
    shm = pathlib.Path("/dev/shm")
    return shm if shm.is_dir() and shutil.disk_usage(shm).free > 1 << 30 else None


def interrupted(number, _frame):
    raise SystemExit(128 + number)


def main(argv):
    options = parse(argv)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, interrupted)
    with contextlib.ExitStack() as stack:
        place = options.files or fast_place()
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="smbdirectd-bench-", dir=place))
        directory = pathlib.Path(scratch)
        directory.chmod(0o755)
        smbd, all_paths = paths.build(stack, directory, options.paths)
        bench = Bench(options, smbd, all_paths)
        try:
            bench.run([w for w in WORKLOADS if w.name in options.work])
        except ClientError as e:
            print(f"scripts/bench: {e}", file=sys.stderr)
            return 1
        results = report.Results(bench.samples, bench.peak_rss)
        print(results.text())
        if options.json:
            pathlib.Path(options.json).write_text(json.dumps({"samples": bench.samples, "peak_rss_kib": bench.peak_rss}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
