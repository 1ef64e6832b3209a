#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The kernel's client through smbdirectd over siw and over rxe, beside others: the same with memory shared with smbd, and
with files that the worker reads and writes itself; plain TCP to the same smbd, and ksmbd over siw.

    scripts/vm [--kernel 6.12 --ksmbd] [--timeout SECONDS] tests/bench/guest_bench.py [SECONDS-EACH]

In each round every server does each piece of work; medians of ROUNDS. The guest is emulated, so only figures of one
boot compare with each other.
"""

import contextlib
import functools
import json
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

from lib import cifs, ksmbd, module_smbd, storage  # noqa: E402
from lib.daemon import Smbdirectd  # noqa: E402
from lib.network import Network, rdma_device, run  # noqa: E402
from lib.smbd import SmbdServer  # noqa: E402

ROUNDS = 2
SIZES = {"rxe": 1048576, "siw": 524288, "tcp": 1048576}  # over siw, 6.1's client fails with more
# Shares whose smbd has vfs_smbdirect, and by which way their data goes.
MODULE = {"area": "by memory shared with smbd", "direct": "by the worker, on the file itself"}
WORK = [(bs, rw, jobs) for bs in ("1m", "4k") for rw in ("read", "write") for jobs in (1, 4)]


def measure(directory, bs, rw, jobs, seconds):
    """MiB/s for large blocks, operations per second for small ones."""
    argv = ["fio", "--name=bench", f"--directory={directory}", f"--rw={rw}", f"--bs={bs}", "--size=32m", "--direct=1"]
    argv += [f"--numjobs={jobs}", "--ioengine=psync", "--time_based", f"--runtime={seconds}", "--ramp_time=1"]
    argv += ["--group_reporting", "--output-format=json", "--thread", "--fallocate=none"]
    done = run(*argv, timeout=seconds * 4 + 120, cwd="/tmp")
    job = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0][rw]
    return job["bw_bytes"] / (1 << 20) if bs == "1m" else job["iops"]


class Bench:
    """Its servers, each with the mount through which it is measured: context managers that give the folder to work in."""

    def __init__(self, network, smbd, directory):
        self.network, self.smbd, self.directory = network, smbd, directory

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
        return found

    def run(self, kind, seconds):
        """Rounds, with a table after each. Over rxe one mount of ours for all of them, since the client may hang at its end."""
        results, servers = {}, self.servers(kind)
        if kind == "rxe":
            servers = {name: servers[name] for name in ("smbdirectd", "plain TCP")}
        with contextlib.ExitStack() as stack:
            kept = {name: stack.enter_context(make()) for name, make in servers.items()} if kind == "rxe" else {}
            for number in range(ROUNDS):
                for name, make in servers.items():
                    with contextlib.nullcontext(kept[name]) if kept else make() as folder:
                        for work in WORK:
                            results.setdefault(name, {}).setdefault(work, []).append(measure(folder, *work, seconds))
                print(f"{kind}: round {number + 1} of {ROUNDS} done", flush=True)
                table(kind, results)
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


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    cifs.load()
    pathlib.Path("/proc/sys/kernel/hung_task_timeout_secs").write_text("0")
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network())
        directory = stack.enter_context(storage.ext4("/srv/test", megabytes=4096))
        bench = Bench(network, start_smbd(stack, directory / "smbd"), directory)
        # siw first: where the client hangs at the end of an rxe connection nothing can follow.
        for kind in ("siw", "rxe"):
            with rdma_device(kind):
                bench.run(kind, seconds)


def table(kind, results):
    medians = {name: {work: statistics.median(values) for work, values in rows.items()} for name, rows in results.items()}
    print(f"\n{'over ' + kind:22}" + "".join(f"{name:>14}" for name in medians) + "   ours / each of the others", flush=True)
    for bs, rw, jobs in WORK:
        row = {name: figures[bs, rw, jobs] for name, figures in medians.items()}
        own = [name for name in row if name in ("smbdirectd", *MODULE)]
        ratios = [f"{row[ours] / row[other]:.2f} {other}" for ours in own for other in row if other not in own]
        unit = "MiB/s" if bs == "1m" else "IOPS"
        print(f"{bs} {rw:5} {jobs} job{'s' * (jobs > 1):1} {unit:5}" + "".join(f"{value:14.0f}" for value in row.values())
              + "   " + ", ".join(ratios), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
