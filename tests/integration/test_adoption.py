# SPDX-License-Identifier: MIT
"""A supervisor dies and leaves its workers with their clients; the next one adopts them: it shows them, and can end them."""

import os
import random
import signal
import socket
import threading

import pytest
from lib import rdma
from lib.process import alive, kill_all_of, wait_until

SEED = int(os.environ.get("SMBDIRECTD_SEED", "20261129"))
EPOCH = 1_000_000_000  # of connection numbers, for each daemon that finds workers of another


def crash(daemon):
    """The supervisor alone."""
    daemon.server.process.kill()
    daemon.server.process.wait()
    daemon.server.end()


def rows(daemon, what):
    return daemon.ctl(what)


def connection_of(daemon, client):
    """The row of a client's connection, or nothing."""
    return next((row for row in rows(daemon, "connections") if row["client"] == client.transport.local), None)


def run_directory(daemon):
    return daemon.directory / "run"


@pytest.fixture
def pool(smbd, make_daemon):
    """A daemon with one client on it; what it leaves is ended."""
    daemon = make_daemon(smbd.port, pool={"restart": {"ping_interval_ms": 100, "ping_timeout_ms": 1000}})
    client = rdma.session(daemon, smbd)
    yield daemon, client
    client.close_transport()
    daemon.stop(check=False)
    kill_all_of(daemon.directory)


def worker_of(daemon, client):
    """The process that has the client."""
    row = connection_of(daemon, client)
    return row and next(worker["pid"] for worker in rows(daemon, "workers") if worker["slot"] == row["worker"])


def crash_and_adopt(daemon, client):
    crash(daemon)
    daemon.start()
    wait_until(lambda: connection_of(daemon, client), 5, "the adopted connection")


def test_shown_again_and_still_served(pool, smbd):
    daemon, client = pool
    before, pid = connection_of(daemon, client), worker_of(daemon, client)
    (known,) = rows(daemon, "clients")
    data = random.Random(SEED).randbytes(3 << 20)
    file = client.create("adopted")
    written, failed = threading.Event(), []

    def load():
        """Writes while the supervisor dies, and until another has adopted the worker."""
        try:
            while not written.is_set():
                for at in range(0, len(data), 1 << 20):
                    rdma.channel_write(client, file, data[at : at + (1 << 20)], at).check()
        except BaseException as error:
            failed.append(error)

    writer = threading.Thread(target=load)
    writer.start()
    try:
        crash_and_adopt(daemon, client)
    finally:
        written.set()
        writer.join()
    assert not failed, failed
    after = connection_of(daemon, client)
    assert after["number"] == before["number"] and worker_of(daemon, client) == pid
    wait_until(lambda: (connection_of(daemon, client)["rdma_read"] or 0) > 0, 5, "counters that go on")
    wait_until(lambda: [row["guid"] for row in rows(daemon, "clients")] == [known["guid"]], 5, "the client's entry")
    (worker,) = [row for row in rows(daemon, "workers") if row["pid"] == pid]
    assert worker["state"] == "draining" and worker["connections"] == 1
    response, read = rdma.channel_read(client, file, len(data))
    assert response.check() and read == data, f"seed {SEED}"
    # A new one comes to a worker of the new daemon's, under a number that nobody has.
    second = rdma.session(daemon, smbd)
    row = connection_of(daemon, second)
    assert row["number"] > EPOCH and row["worker"] != worker["slot"]
    second.close_transport()
    client.close_transport()
    wait_until(lambda: not alive(pid), 5, "the end of the worker with its last client")
    daemon.wait_for_log("after this daemon adopted it")
    assert f"{pid}." not in " ".join(os.listdir(run_directory(daemon) / "workers"))


def test_adopted_again_and_again(pool):
    daemon, client = pool
    number, pid = connection_of(daemon, client)["number"], worker_of(daemon, client)
    for _ in range(3):
        crash_and_adopt(daemon, client)
        assert connection_of(daemon, client)["number"] == number and worker_of(daemon, client) == pid
        assert client.echo().check()


def test_ended_by_command(pool):
    daemon, client = pool
    pid = worker_of(daemon, client)
    crash_and_adopt(daemon, client)
    daemon.ctl("kick", str(connection_of(daemon, client)["number"]))
    wait_until(lambda: not alive(pid), 5, "the end of the worker")
    wait_until(lambda: not rows(daemon, "connections"), 5, "no connection")


def test_ends_with_the_pool(pool):
    daemon, client = pool
    pid = worker_of(daemon, client)
    crash_and_adopt(daemon, client)
    daemon.stop()
    assert not alive(pid)
    assert not (run_directory(daemon) / "workers").exists()


@pytest.mark.parametrize("number, told", [(signal.SIGKILL, "1 connections lost"), (signal.SIGSTOP, "did not answer for")])
def test_one_that_dies_or_hangs(pool, number, told):
    daemon, client = pool
    pid = worker_of(daemon, client)
    crash_and_adopt(daemon, client)
    os.kill(pid, number)
    daemon.wait_for_log(told)
    wait_until(lambda: not alive(pid) and not rows(daemon, "connections"), 5, "its end")


def test_the_former_daemon_dies_while_it_drains(pool, smbd):
    """After an upgrade: until its death its worker is its own, then the new daemon's."""
    daemon, client = pool
    pid = worker_of(daemon, client)
    former = daemon.pid
    daemon.upgrade()
    assert connection_of(daemon, client) is None
    os.kill(former, signal.SIGKILL)
    wait_until(lambda: connection_of(daemon, client), 5, "the adopted connection")
    assert worker_of(daemon, client) == pid and client.echo().check()


class Liar:
    """Listens where a worker would."""

    def __init__(self, daemon, packets):
        directory = run_directory(daemon) / "workers"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.bind(str(directory / f"{os.getpid()}.0"))
        self.socket.listen()
        self.packets = packets

    def speak(self):
        self.peer, _ = self.socket.accept()
        for packet in self.packets:
            self.peer.send(packet)


@pytest.mark.parametrize("packets", [[b"nonsense"], [b"SDC1" + bytes(92)], [bytes(96)], [b"x" * 4096]])
def test_what_is_no_worker(pool, packets):
    """Names of nobody, of dead processes, and a socket with something else behind it. (Only root can put it there.)"""
    daemon, client = pool
    crash(daemon)
    for name in ("nonsense", "1", ".1", "0.0", "-1.0", "1.99999999999999999999", "999999999999.1"):
        (run_directory(daemon) / "workers" / name).touch()
    dead = run_directory(daemon) / "workers" / "4194304.7"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(dead))
        listener.listen()
    liar = Liar(daemon, packets)
    daemon.start()
    assert not dead.exists(), "the name of a process that has ended"
    liar.speak()
    daemon.wait_for_log(f"(pid {os.getpid()}) ends when its last client has gone")
    wait_until(lambda: connection_of(daemon, client), 5, "the adopted connection of the one that is a worker")
    assert client.echo().check() and not [row for row in rows(daemon, "workers") if row["pid"] == os.getpid()]
