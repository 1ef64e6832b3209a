#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The kernel's client through smbdirectd over rxe and over siw, beside the same client over plain TCP to the same smbd.

    scripts/vm tests/bench/guest_bench.py [SECONDS-EACH]

Rounds are interleaved: each figure of a round is taken before the next round begins; medians of ROUNDS. The guest is
emulated, so only figures of one boot compare with each other.
"""

import contextlib
import json
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))

from lib import cifs, storage  # noqa: E402
from lib.daemon import Smbdirectd  # noqa: E402
from lib.network import Network, rdma_device, run  # noqa: E402
from lib.smbd import SmbdServer  # noqa: E402

ROUNDS = 2
SIZES = {"rxe": 1048576, "siw": 524288, "tcp": 1048576}  # over siw, 6.1's client fails with more
WORK = [(bs, rw, jobs) for bs in ("1m", "4k") for rw in ("read", "write") for jobs in (1, 4)]


def measure(directory, bs, rw, jobs, seconds):
    """MiB/s for large blocks, operations per second for small ones."""
    argv = ["fio", "--name=bench", f"--directory={directory}", f"--rw={rw}", f"--bs={bs}", "--size=32m", "--direct=1"]
    argv += [f"--numjobs={jobs}", "--ioengine=psync", "--time_based", f"--runtime={seconds}", "--ramp_time=1"]
    argv += ["--group_reporting", "--output-format=json", "--thread", "--fallocate=none"]
    done = run(*argv, timeout=seconds * 4 + 120, cwd="/tmp")
    job = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0][rw]
    return job["bw_bytes"] / (1 << 20) if bs == "1m" else job["iops"]


@contextlib.contextmanager
def path(kind, network, smbd, directory):
    """The share mounted over `kind`; the folder to work in."""
    options = {"cache": "none", "rsize": SIZES[kind], "wsize": SIZES[kind], "nosharesock": True}
    with contextlib.ExitStack() as stack:
        if kind == "tcp":
            mount = cifs.Mount("/mnt/tcp", "127.0.0.1", port=smbd.port, options=options)
        else:
            stack.enter_context(rdma_device(kind))
            pool = {
                "listeners": [{"address": network.address, "port": 5445, "fabric": "verbs"}],
                "upstream": {"allow": ["192.0.2.0/24"]},
            }
            stack.enter_context(Smbdirectd(directory / f"daemon-{kind}", smbd.port, pool=pool, workers=1))
            mount = cifs.Mount(f"/mnt/{kind}", network.address, rdma=True, options=options)
        mount.mount()
        folder = mount.path / kind
        folder.mkdir(exist_ok=True)
        yield folder
        if kind == "siw":
            mount.unmount()  # over rxe the client may hang at this, and the guest ends anyway


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    cifs.load()
    pathlib.Path("/proc/sys/kernel/hung_task_timeout_secs").write_text("0")
    results = {}
    with Network() as network, storage.ext4("/srv/test", megabytes=4096) as directory:
        (directory / "smbd").mkdir()
        with SmbdServer(directory / "smbd") as smbd:
            # siw first: where the client hangs at the end of an rxe connection nothing can follow.
            with contextlib.ExitStack() as stack:
                folders = {"tcp": stack.enter_context(path("tcp", network, smbd, directory))}
                for kind in ("siw", "rxe"):
                    with path(kind, network, smbd, directory) as folders[kind]:
                        for number in range(ROUNDS):
                            for bs, rw, jobs in WORK:
                                for which in (kind, "tcp"):
                                    value = measure(folders[which], bs, rw, jobs, seconds)
                                    results.setdefault((kind, which, bs, rw, jobs), []).append(value)
                            print(f"{kind}: round {number + 1} of {ROUNDS} done", flush=True)
                        table(kind, results)
                        if kind == "rxe":
                            sys.stdout.flush()
                            run("poweroff", "-f", check=False)


def table(kind, results):
    print(f"\n{'':22}{'smbdirectd over ' + kind:>24}{'plain TCP':>14}{'ratio':>8}")
    for bs, rw, jobs in WORK:
        ours, tcp = (statistics.median(results[kind, which, bs, rw, jobs]) for which in (kind, "tcp"))
        unit = "MiB/s" if bs == "1m" else "IOPS"
        print(f"{bs} {rw:5} {jobs} job{'s' * (jobs > 1):1} {unit:5}{ours:>27.0f}{tcp:>14.0f}{ours / tcp:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
