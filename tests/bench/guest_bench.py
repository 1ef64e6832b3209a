#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The kernel's client through smbdirectd over siw and over rxe, beside others: the same with memory shared with smbd, and
with files that the worker reads and writes itself; plain TCP to the same smbd, and ksmbd over siw.

    scripts/vm [--kernel 6.12 --ksmbd] [--timeout SECONDS] tests/bench/guest_bench.py [SECONDS-EACH] [--files tmpfs]
        [--over siw,rxe] [--servers direct,ksmbd] [--sizes 1m,4k] [--ways read,write] [--rounds 2] [--cpu]

In each round every server does each piece of work; medians of the rounds. Only figures of one boot compare with each other.
--cpu: also the processors' time, of each part of the guest, that a MiB or an operation has taken.
"""

import argparse
import collections
import contextlib
import functools
import json
import os
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

from lib import cifs, ksmbd, module_smbd, storage  # noqa: E402
from lib.daemon import Smbdirectd  # noqa: E402
from lib.network import Network, rdma_device, run  # noqa: E402
from lib.smbd import SmbdServer  # noqa: E402

SIZES = {"rxe": 1048576, "siw": 524288, "tcp": 1048576}  # over siw, 6.1's client fails with more
# Shares whose smbd has vfs_smbdirect, and by which way their data goes.
MODULE = {"area": "by memory shared with smbd", "direct": "by the worker, on the file itself"}
JOBS = (1, 4)


def measure(directory, bs, rw, jobs, seconds):
    """MiB/s for large blocks, operations per second for small ones."""
    argv = ["fio", "--name=bench", f"--directory={directory}", f"--rw={rw}", f"--bs={bs}", "--size=32m", "--direct=1"]
    argv += [f"--numjobs={jobs}", "--ioengine=psync", "--time_based", f"--runtime={seconds}", "--ramp_time=1"]
    argv += ["--group_reporting", "--output-format=json", "--thread", "--fallocate=none"]
    done = run(*argv, timeout=seconds * 4 + 120, cwd="/tmp")
    job = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0][rw]
    return job["bw_bytes"] / (1 << 20) if bs == "1m" else job["iops"]


def processors_seconds():
    """Name of a process, kernel threads' included, without what follows "/" or ":" -> seconds it has used."""
    used = collections.Counter()
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                head, _, rest = (entry / "stat").read_text().rpartition(")")
                name = head.partition("(")[2].split("/")[0].split(":")[0].split("-")[0]
                used[name] += sum(map(int, rest.split()[11:13])) / os.sysconf("SC_CLK_TCK")
    return used


class Bench:
    """Its servers, each with the mount through which it is measured: context managers that give the folder to work in."""

    def __init__(self, network, smbd, directory, options):
        self.network, self.smbd, self.directory, self.options = network, smbd, directory, options
        self.work = [(bs, rw, jobs) for bs in options.sizes for rw in options.ways for jobs in JOBS]

    def measure(self, name, folder, work):
        before = processors_seconds()
        rate = measure(folder, *work, self.options.seconds)
        if self.options.cpu:
            used = processors_seconds() - before
            told = ", ".join(f"{who} {took:.2f}" for who, took in used.most_common(8) if took >= 0.05)
            print(f"{name}: {work}: {rate:.0f}; processors' seconds with the beginning and the end: {told}", flush=True)
        return rate

    @contextlib.contextmanager
    def mounted(self, name, kind, address, share="share", rdma=True, port=None):
        options = {"cache": "none", "rsize": SIZES[kind], "wsize": SIZES[kind], "nosharesock": True}
        mount = cifs.Mount(f"/mnt/{name}", address, share=share, rdma=rdma, port=port, options=options).mount()
        folder = mount.path / name
        folder.mkdir(exist_ok=True)
        yield folder
        if kind != "rxe":  # there the client may hang at this, and the guest ends anyway
            mount.unmount()

    @contextlib.contextmanager
    def ours(self, name, kind, share="share"):
        upstream = {"allow": ["192.0.2.0/24"]}
        if share in MODULE:
            upstream["area"] = {"directory": str(self.smbd.links)}
            upstream["direct"] = {"enabled": share == "direct"}
        pool = {"listeners": [{"address": self.network.address, "port": 5445, "fabric": "verbs"}], "upstream": upstream}
        with contextlib.ExitStack() as stack:
            daemon = stack.enter_context(Smbdirectd(self.directory / f"daemon-{name}", self.smbd.port, pool=pool, workers=1))
            yield stack.enter_context(self.mounted(name, kind, self.network.address, share))
            if share in MODULE:
                moved = [sum(row[f"{share}_{way}_bytes"] for row in daemon.ctl("workers")) for way in ("read", "write")]
                print(f"{name}: {MODULE[share]}: {moved[0] >> 20} MiB read, {moved[1] >> 20} MiB written", flush=True)

    def tcp(self):
        return self.mounted("tcp", "tcp", "127.0.0.1", rdma=False, port=self.smbd.port)

    @contextlib.contextmanager
    def ksmbd(self):
        place = self.directory / "ksmbd-share"
        place.mkdir(exist_ok=True)
        with ksmbd.Ksmbd(self.directory / "ksmbd", place), self.mounted("ksmbd", "siw", self.network.address) as folder:
            yield folder

    def servers(self, kind):
        found = {"smbdirectd": lambda: self.ours(f"ours-{kind}", kind)}
        if hasattr(self.smbd, "links"):
            for share in MODULE:
                found[share] = functools.partial(self.ours, f"{share}-{kind}", kind, share)
        found["plain TCP"] = self.tcp
        if kind == "siw" and ksmbd.root():
            found["ksmbd"] = self.ksmbd
        return {name: make for name, make in found.items() if name in (self.options.servers or found)}

    def run(self, kind):
        """Rounds, with a table after each. Over rxe one mount of ours for all of them, since the client may hang at its end."""
        results, servers = {}, self.servers(kind)
        if kind == "rxe":
            servers = {name: servers[name] for name in ("smbdirectd", "plain TCP") if name in servers}
        with contextlib.ExitStack() as stack:
            kept = {name: stack.enter_context(make()) for name, make in servers.items()} if kind == "rxe" else {}
            for number in range(self.options.rounds):
                for name, make in servers.items():
                    with contextlib.nullcontext(kept[name]) if kept else make() as folder:
                        for work in self.work:
                            results.setdefault(name, {}).setdefault(work, []).append(self.measure(name, folder, work))
                print(f"{kind}: round {number + 1} of {self.options.rounds} done", flush=True)
                table(kind, results, self.work)
            if kind == "rxe":
                sys.stdout.flush()
                run("poweroff", "-f", check=False)


def start_smbd(stack, directory):
    directory.mkdir()
    reason = module_smbd.missing()
    if reason:
        print(f"without memory shared with smbd: {reason}", flush=True)
        return stack.enter_context(SmbdServer(directory))
    shares = {"share": {}, **dict.fromkeys(MODULE, {"vfs objects": "smbdirect"})}
    return stack.enter_context(module_smbd.ModuleSmbd(directory, shares=shares))


def asked():
    def words(text):
        return text.split(",")

    parser = argparse.ArgumentParser()
    parser.add_argument("seconds", nargs="?", type=int, default=4)
    parser.add_argument("--files", choices=FILES, default="ext4")
    parser.add_argument("--over", type=words, default=["siw", "rxe"])
    parser.add_argument("--servers", type=words)
    parser.add_argument("--sizes", type=words, default=["1m", "4k"])
    parser.add_argument("--ways", type=words, default=["read", "write"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cpu", action="store_true")
    return parser.parse_args()


@contextlib.contextmanager
def tmpfs(directory, megabytes):
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True)
    run("mount", "-t", "tmpfs", "-o", f"size={megabytes}M", "tmpfs", directory)
    try:
        yield directory
    finally:
        run("umount", directory, check=False)


FILES = {"ext4": storage.ext4, "tmpfs": tmpfs}


def main():
    options = asked()
    cifs.load()
    pathlib.Path("/proc/sys/kernel/hung_task_timeout_secs").write_text("0")
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network())
        directory = stack.enter_context(FILES[options.files]("/srv/test", megabytes=4096))
        bench = Bench(network, start_smbd(stack, directory / "smbd"), directory, options)
        # siw first: where the client hangs at the end of an rxe connection nothing can follow.
        for kind in options.over:
            with rdma_device(kind):
                bench.run(kind)


def table(kind, results, work):
    medians = {name: {work: statistics.median(values) for work, values in rows.items()} for name, rows in results.items()}
    print(f"\n{'over ' + kind:22}" + "".join(f"{name:>14}" for name in medians) + "   ours / each of the others", flush=True)
    for bs, rw, jobs in work:
        row = {name: figures[bs, rw, jobs] for name, figures in medians.items()}
        own = [name for name in row if name in ("smbdirectd", *MODULE)]
        ratios = [f"{row[ours] / row[other]:.2f} {other}" for ours in own for other in row if other not in own]
        unit = "MiB/s" if bs == "1m" else "IOPS"
        print(f"{bs} {rw:5} {jobs} job{'s' * (jobs > 1):1} {unit:5}" + "".join(f"{value:14.0f}" for value in row.values())
              + "   " + ", ".join(ratios), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
