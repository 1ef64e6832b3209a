#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""How connection requests change process on a real kernel, with smbdirect-connect --probe as the client: the
listener keeps its file, each worker has a dup of its own hand-over file and nothing else (tests/vm/handover.cc)."""

import contextlib
import os
import pathlib
import signal
import sys

from lib.cases import Cases
from lib.network import PORTS, Network, rdma_device, resources, run
from lib.process import Server, wait_until

BUILD = pathlib.Path(os.environ.get("SMBDIRECTD_BUILD", "build/normal"))
PRIVATE_DATA = {"rxe": 56, "siw": 8}
REFUSALS = ("EINVAL", "ENOENT", "EACCES")


def probe(address, port):
    argv = [BUILD / "workers/connect/smbdirect-connect", "--probe", "--fabric", "verbs", "--to", f"{address}:{port}"]
    return run(*argv, timeout=60, check=False)


class Played:
    """The test program playing one scenario over one kind of device, and clients that connect to it."""

    def __init__(self, address, kind, scenario):
        self.address, self.port = address, PORTS[kind]
        argv = [BUILD / "tests/vm/handover", scenario, address, self.port]
        log = pathlib.Path(f"/tmp/handover-{kind}-{scenario}.log")
        log.unlink(missing_ok=True)
        self.server = Server(f"handover {scenario}", argv, log)
        self.server.wait_for_log("serving", 30)

    def probe(self):
        return probe(self.address, self.port)

    def accepted(self, device):
        done = self.probe()
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{self.server.log}"
        assert f"verbs {device}" in done.stdout, done.stdout
        return done.stdout

    def refused(self):
        done = self.probe()
        assert done.returncode == 1, done.stdout + done.stderr
        assert "refused" in done.stderr, done.stderr
        return done.stderr.splitlines()[0]

    def lines(self):
        return self.server.log.splitlines()

    def over(self):
        """It ends by itself, with nothing left of it."""
        wait_until(lambda: not self.server.running(), 30, lambda: f"its end: {self.server.log}")
        assert self.server.process.returncode == 0, self.server.log
        assert self.lines()[-1] == "over", self.server.log
        wait_until(lambda: not resources("cm_id"), 20, lambda: f"no id is left: {resources('cm_id')}")


@contextlib.contextmanager
def played(network, kind, scenario):
    with rdma_device(kind) as device:
        play = Played(network.address, kind, scenario)
        try:
            yield play, device
        finally:
            play.server.kill_group()
            play.server.end()


cases = Cases(Network)


@cases.on_each(PORTS)
def accepted(network, kind):
    """Listener -> hand-over file -> the worker's own file, accepted by an unprivileged worker."""
    with played(network, kind, "accept") as (play, device):
        first = play.accepted(device)
        play.accepted(device)
        play.over()
        # SMB Direct's private data on iWARP; InfiniBand's request always has all its bytes.
        assert f"request {PRIVATE_DATA[kind]} bytes of private data, depths 32/1" in play.lines(), play.lines()
        assert sum(line.startswith("A negotiated verbs") for line in play.lines()) == 2, play.lines()
        assert sum(line.startswith("A closed cleanly") for line in play.lines()) == 2, play.lines()
    return next(line.split("connection", 1)[1].strip() for line in first.splitlines() if "  connection" in line)


@cases.on_each(PORTS)
def nothing_to_steal(network, kind):
    """With its hand-over file a worker reaches neither the listening id nor what is not offered to it."""
    with played(network, kind, "steal") as (play, device):
        play.accepted(device)
        play.over()
        outcomes = {}
        for line in play.lines():
            if line.startswith("try "):
                tried = line[4:]
            elif line.startswith(("A take=", "A destroy=")):
                outcomes.setdefault(tried, []).extend(word.split("=") for word in line[2:].split())
        assert len(outcomes) == 3, play.lines()
        for tried, results in outcomes.items():
            assert [name for name, _ in results] == ["take", "destroy", "reject"], (tried, results)
            assert all(result in REFUSALS for _, result in results), (tried, results)
        # Nor can the one whose request it is write on the inherited file; but take it.
        assert "B destroy=EACCES reject=EACCES" in play.lines(), play.lines()
        assert any(line.startswith("B negotiated") for line in play.lines()), play.lines()
    return {tried: " ".join(result for _, result in results) for tried, results in outcomes.items()}


@cases.on_each(PORTS)
def taken_back(network, kind):
    """An offer that nobody takes is taken back: refused, or only destroyed, the client hears of it."""
    with played(network, kind, "take-back") as (play, device):
        rejected = play.refused()
        play.server.wait_for_log("rejected")
        play.refused()
        play.server.wait_for_log("destroyed")
        takes = [line for line in play.lines() if line.startswith("A take=")]
        assert len(takes) == 2 and all(line.split("=")[1] in REFUSALS for line in takes), play.lines()
        play.accepted(device)
        play.over()
    return f"{rejected} ({', '.join(takes)})"


@cases.on_each(PORTS)
def a_worker_dies_with_an_offer(network, kind):
    with played(network, kind, "worker-dies") as (play, device):
        play.accepted(device)
        play.over()
        assert any(line.startswith("B negotiated") for line in play.lines()), play.lines()


@cases.on_each(PORTS)
def the_listener_dies(network, kind):
    """A worker that outlives it keeps no listener: the next one binds the same address at once."""
    with played(network, kind, "listener-dies") as (play, device):
        play.accepted(device)
        play.server.wait_for_log("A closed")
        play.server.send_signal(signal.SIGKILL)
        play.server.process.wait(10)
        refused = play.probe()
        assert refused.returncode == 1 and "refused" in refused.stderr, refused.stderr
        following = Played(network.address, kind, "accept")
        try:
            following.accepted(device)
            following.accepted(device)
            wait_until(lambda: not following.server.running(), 30, "the next one's end")
        finally:
            following.server.kill_group()
            following.server.end()


@cases.on_each(PORTS)
def why_there_is_no_connection(network, kind):
    """What a person reads, by cause."""
    said = {}
    with rdma_device(kind):
        for name, address in (("nobody listens", network.address), ("no device", "127.0.0.1"), ("nobody there", "192.0.2.99")):
            done = probe(address, PORTS[kind])
            assert done.returncode == 1, done.stdout
            said[name] = done.stderr.splitlines()[0].split(": ", 2)[2]
    assert "nothing listens for RDMA" in said["nobody listens"], said
    # Loopback addresses have no device; siw's refusal only names the argument.
    assert "no RDMA device reaches 127.0.0.1" in said["no device"] or "rdma_resolve_addr" in said["no device"], said
    assert "no host answers at the address of 192.0.2.99" in said["nobody there"] or "no route" in said["nobody there"], said
    return said


if __name__ == "__main__":
    sys.exit(cases.main())
