#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""How long clients of a cluster stand still when a node fails or is taken out of service: SMB Direct beside TCP, with CTDB's default
timers. Three nodes on this machine (tests/integration/lib/cluster.py); both clients write to one public address.

    SMBDIRECTD_BUILD=BUILD failover.py [--runs N] [TRIGGER...]

Prints a line for each run: when the address was on another node, and for both clients the time from the last acknowledged
write to the next, and whether the file was the same open file afterwards. Needs root, and what scripts/setup test installs."""

import argparse
import pathlib
import shutil
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
from lib.cluster import PUBLIC, Cluster  # noqa: E402
from lib.cluster_node import why_not  # noqa: E402
from lib.process import wait_until  # noqa: E402
from lib.survivor import Person, Writer  # noqa: E402

ADDRESS = PUBLIC[0]
DEFAULT_TIMERS = {"NoIPFailback": 1}  # so that the address is still there when the next run begins


def kill_smbd(_cluster, node):
    node.run("killall", "-9", "smbd")


def kill_ctdbd(_cluster, node):
    node.run("sh", "-c", "kill -9 $(cat /run/ctdb/ctdbd.pid)")


TRIGGERS = {
    "disable": lambda cluster, node: node.run("ctdb", "disable"),
    "stop": lambda cluster, node: node.run("ctdb", "stop"),
    "shutdown": lambda cluster, node: node.run("ctdb", "shutdown"),
    "power-off": lambda cluster, node: cluster.power_off(node.number),
    "cable": lambda cluster, node: cluster.cable(node.number, "public", "down"),
    "kill-ctdbd": kill_ctdbd,
    "kill-smbd": kill_smbd,
}
UNTOLD = ("power-off", "cable", "kill-ctdbd")  # only tickles tell the clients


def wait_for_tickle(cluster, node, client):
    others = [other for other in cluster.nodes.values() if other is not node]
    wait_until(
        lambda: all(client in other.run("ctdb", "gettickles", ADDRESS, "5445") for other in others),
        90, "its tickle on the other nodes", interval=0.5,
    )  # fmt: skip


def mend(cluster, node):
    """A node that was ended or stopped is begun anew."""
    if node.number in cluster.nodes:
        if "Stopped" in (node.flags() or ()):
            node.run("ctdb", "continue")
        elif node.flags() is None:
            cluster.power_off(node.number)
        else:
            cluster.cable(node.number, "public", "up")
            if not node.run("pidof", "smbd", check=False):
                node.run("service", "smbd", "start", check=False)
    cluster.heal(180)


def once(cluster, trigger):
    node = cluster.holder(ADDRESS)
    writers = {via: Writer(Person(cluster, ADDRESS, via), f"{via}.bin") for via in ("rdma", "tcp")}
    for writer in writers.values():
        writer.goes_on()
    if trigger in UNTOLD:
        wait_for_tickle(cluster, node, writers["rdma"].client.local)
    time.sleep(3)  # both in full stride
    begin = time.monotonic()
    TRIGGERS[trigger](cluster, node)
    # A node without ctdbd keeps its addresses.
    wait_until(
        lambda: any(other.has(ADDRESS) for other in cluster.nodes.values() if other is not node),
        180, "the address on another node",
    )  # fmt: skip
    moved = time.monotonic()
    for writer in writers.values():
        wait_until(lambda: any("first" in gap for gap in writer.gaps), 180, "a write after it", interval=0.1)
        writer.goes_on()
    words = [f"{trigger:10} address moved at {moved - begin:6.2f}"]
    for via, writer in writers.items():
        wrong = writer.finish()
        gap = [f"{gap['first'] - gap['last']:.2f} s {gap['how']}" for gap in writer.gaps]
        words.append(f"{via}: {', '.join(gap)}; wrong blocks: {wrong or 'none'}")
    print(" | ".join(words), flush=True)
    mend(cluster, node)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("triggers", nargs="*", metavar="TRIGGER", help=", ".join(TRIGGERS))
    options = parser.parse_args()
    unknown = set(options.triggers) - set(TRIGGERS)
    if unknown or why_not():
        parser.error(why_not() or f"unknown: {', '.join(sorted(unknown))}")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="smbdirectd-failover-", dir="/var/tmp"))
    directory.chmod(0o755)
    cluster = Cluster(directory, timers=DEFAULT_TIMERS)
    try:
        cluster.start()
        for trigger in options.triggers or TRIGGERS:
            for _ in range(options.runs):
                once(cluster, trigger)
    finally:
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
