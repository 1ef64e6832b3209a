#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The verbs fabric's endpoints on devices of a real kernel (tests/vm/verbs_endpoints.cc), and what is left of them:
nothing, once the device has been idle, and at once when it is deleted."""

import os
import pathlib
import sys

from lib.cases import Cases
from lib.network import PORTS, Network, link, modprobe, rdma_device, resources, run
from lib.process import wait_until

BUILD = pathlib.Path(os.environ.get("SMBDIRECTD_BUILD", "build/normal"))

TIMES = 5 if os.environ.get("SMBDIRECTD_FULL") else 2  # the order in which its signs come differs from time to time

cases = Cases(Network)


def play(network, kind, *arguments):
    environment = dict(os.environ, RDMA_ADDRESS=network.address, RDMA_PORT=str(PORTS[kind]), RDMA_DEVICE=f"{kind}0")
    if kind == "siw":
        environment["RDMA_IWARP"] = "1"
    # siw counts what is registered against the limit on locked memory, also for root.
    done = run("prlimit", "--memlock=unlimited", BUILD / "tests/vm/verbs_endpoints", *arguments, env=environment, timeout=280, check=False)
    text = done.stdout + done.stderr
    print(text)
    assert done.returncode == 0, f"ended {done.returncode}"
    return next(line for line in text.splitlines() if "assertions:" in line)


@cases.on_each(PORTS)
def endpoints(network, kind):
    with rdma_device(kind):
        said = play(network, kind)
        assert not resources("qp") or all("pid" not in entry for entry in resources("qp")), resources("qp")
        return said


@cases.on_each(PORTS)
def deleted_device(network, kind):
    """The process ends its connections and lets the device go, or the command would hang."""
    modprobe({"rxe": "rdma_rxe", "siw": "siw"}[kind], "rdma_ucm", "ib_uverbs")
    for _ in range(TIMES):
        run("rdma", "link", "add", f"{kind}0", "type", kind, "netdev", "v0")
        wait_until(lambda: (link(f"{kind}0") or {}).get("state") == "ACTIVE", 10, "the device is there")
        try:
            said = play(network, kind, "--no-skip", "--test-case=the device is deleted*")
        finally:
            if link(f"{kind}0"):
                run("rdma", "link", "delete", f"{kind}0", timeout=20, check=False)
    return f"{TIMES} times: {said}"


sys.exit(cases.main())
