# SPDX-License-Identifier: MIT
"""Memory shared with smbd, and each of those who share it stalls, is killed or loses the link, with READs and WRITEs under
way: that connection ends or goes on as it would without, what is right stays right, others of the same worker go on by
their own areas, and nothing is left over."""

import ctypes
import os
import random
import signal
import socket
import uuid

import pytest

from lib import module_fixture, rdma, smb2
from lib.area_link import mapped
from lib.area_use import moved, warm
from lib.process import alive, kill_all_of, wait_until

SEED = int(os.environ.get("SMBDIRECTD_SEED", "20261129"))
GONE = (rdma.Closed, rdma.Terminated, rdma.Timeout)
PIDFD_GETFD = 438
SIZE = 300_000  # of each READ and WRITE
# That asks for the link earlier: here it is the area that does.
NOT_DIRECT = {"direct": {"enabled": False}}


@pytest.fixture(scope="module", params=["4.17", "4.22"])
def server(request, scratch):
    with module_fixture.running(scratch / f"area-kills-{request.param}", request.param) as smbd:
        yield smbd


class Client:
    """One with an area in use, and a file of its own whose contents it knows."""

    def __init__(self, daemon, server, use=True):
        self.daemon, self.server, self.name = daemon, server, f"kills-{uuid.uuid4().hex}"
        self.chance = random.Random(f"{SEED}{len(os.listdir(server.share_path()))}")
        self.path = server.share_path() / self.name
        self.c = rdma.session(daemon, server)
        while self.c.credits < 200:
            self.c.echo().check()
        self.file = self.c.create(self.name)
        self.model = bytearray(self.chance.randbytes(8 * SIZE))
        self.path.write_bytes(self.model)
        if use:
            warm(daemon, self.c, self.file)

    @property
    def smbd(self):
        guid = str(uuid.UUID(bytes_le=self.c.guid))
        (pid,) = {pid for row in self.daemon.ctl("clients") for pid in row["smbd"] if row["guid"] == guid}
        return pid

    @property
    def worker(self):
        """The process that has it."""
        rows = self.daemon.ctl("connections")
        return self.daemon.workers()[next(row["worker"] for row in rows if row["client"] == self.c.local)]

    def send(self):
        """Four READs and four WRITEs, of other places."""
        self.reads = [(rdma.send_channel_read(self.c, self.file, SIZE, i * SIZE), i * SIZE) for i in range(4)]
        self.writes = []
        for i in range(4, 8):
            data = self.chance.randbytes(SIZE)
            self.writes.append(rdma.send_channel_write(self.c, self.file, data, i * SIZE)[0])
            self.model[i * SIZE : (i + 1) * SIZE] = data

    def receive(self):
        for (message_id, region), at in self.reads:
            assert self.c.wait(message_id).check().data_remaining == SIZE
            assert bytes(region.memory) == self.model[at : at + SIZE], f"seed {SEED}: READ at {at}"
        for message_id in self.writes:
            assert self.c.wait(message_id).check().count == SIZE
        assert self.path.read_bytes() == self.model, f"seed {SEED}"

    def exchange(self, by_area=True):
        before = moved(self.daemon)
        self.send()
        self.receive()
        wanted = tuple(n + 4 * by_area for n in before)
        wait_until(lambda: moved(self.daemon) >= wanted, 5, lambda: f"{wanted} by the area, not {moved(self.daemon)}")
        assert by_area or moved(self.daemon) == before

    def under_way(self):
        """The same at an smbd that stands still: all of it is on the way to it."""
        before = sum(row["rdma_reads"] for row in self.daemon.ctl("workers"))
        pid = self.smbd
        os.kill(pid, signal.SIGSTOP)
        self.send()

        def fetched():
            self.c.transport.pump(0.05)  # it is asked for its data
            return sum(row["rdma_reads"] for row in self.daemon.ctl("workers")) >= before + 8

        wait_until(fetched, 10, "the WRITEs' data")
        return pid

    def is_gone(self):
        with pytest.raises(GONE):
            for _ in range(20):
                self.c.echo(timeout=5)
        self.c.close_transport()


@pytest.fixture
def clients(server, make_daemon):
    """make(**daemon's options) -> (daemon, one, other): two clients by areas, at the same worker unless there are more."""
    made = []

    def make(workers=1):
        area = {"directory": str(server.links)}
        daemon = make_daemon(server.port, workers=workers, pool={"affinity": "spread", "upstream": {"area": area, **NOT_DIRECT}})
        made.extend([Client(daemon, server), Client(daemon, server)])
        return daemon, *made

    yield make
    for client in made:
        client.c.close_transport()


def only_has(worker, count):
    wait_until(lambda: mapped(worker) == count, 10, lambda: f"{count} areas mapped in the worker, not {mapped(worker)}")


def links_of(pid, directory):
    """Copies of the process's connected links, which are sockets that have its name there."""
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    found, process = [], os.pidfd_open(pid)
    for number in map(int, os.listdir(f"/proc/{pid}/fd")):
        fd = syscall(PIDFD_GETFD, process, number, 0)
        if fd < 0:
            continue
        try:
            sock = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue  # no socket
        finally:
            os.close(fd)
        if sock.family == socket.AF_UNIX and sock.getsockname() == str(directory / str(pid)):
            found.append(sock)
        else:
            sock.close()
    os.close(process)
    return found


def cut_links(pid, directory):
    cut = 0
    for sock in links_of(pid, directory):
        with sock:
            if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                sock.shutdown(socket.SHUT_RDWR)
                cut += 1
    assert cut == 1


def test_smbd_stalls(clients):
    """Its client waits, others of the worker do not; then all that was under way is right."""
    _, one, other = clients()
    pid = one.under_way()
    try:
        for _ in range(3):
            other.exchange()
    finally:
        os.kill(pid, signal.SIGCONT)
    one.receive()
    one.exchange()


def test_what_is_cancelled(clients):
    """READs that may go on in a thread of smbd's after their client has had its answer: no later one has their bytes."""
    _, one, _ = clients()
    for _ in range(6):
        pid = one.smbd
        os.kill(pid, signal.SIGSTOP)
        asked = [(rdma.send_channel_read(one.c, one.file, SIZE, i * SIZE), i * SIZE) for i in range(4)]
        for (message_id, _), _ in asked:
            one.c.cancel(message_id)
        os.kill(pid, signal.SIGCONT)
        for (message_id, region), at in asked:
            if one.c.wait(message_id).check(0, smb2.CANCELLED).status == 0:
                assert bytes(region.memory) == one.model[at : at + SIZE], f"seed {SEED}: READ at {at}"
        one.send()
        one.receive()


def test_smbd_is_killed(clients):
    _, one, other = clients()
    worker, pid = one.worker, one.under_way()
    only_has(worker, 2)
    os.kill(pid, signal.SIGKILL)
    one.is_gone()
    only_has(worker, 1)
    other.exchange()
    again = Client(one.daemon, one.server)
    again.exchange()
    again.c.close_transport()
    only_has(worker, 1)


def test_the_link_alone_ends_with_io_under_way(clients):
    """What smbd would still answer is worth nothing: it has given up the memory."""
    daemon, one, other = clients()
    worker, pid = one.worker, one.under_way()
    cut_links(pid, one.server.links)
    one.is_gone()
    os.kill(pid, signal.SIGCONT)
    only_has(worker, 1)
    daemon.wait_for_log("smbd's module has closed its link", 5)
    wait_until(lambda: not alive(pid), 10, "the client's smbd ending")
    other.exchange()


def test_the_link_alone_ends(clients):
    """With nothing under way: all goes on without it, and by a new one after a tree connect."""
    daemon, one, other = clients()
    worker = one.worker
    cut_links(one.smbd, one.server.links)
    only_has(worker, 1)
    one.exchange(by_area=False)
    other.exchange()
    tree = one.c.tree_id
    one.c.tree_connect(f"\\\\{one.server.netbios_name}\\share").check()
    one.c.tree_id = tree
    warm(daemon, one.c, one.file)
    only_has(worker, 2)
    one.exchange()


def test_the_worker_is_killed(clients):
    """smbd's processes end with it, and those of other workers do not; the next worker shares memory again."""
    daemon, one, other = clients(workers=2)
    worker, elsewhere = one.worker, other.worker
    assert worker != elsewhere
    pid = one.under_way()
    os.kill(worker, signal.SIGKILL)
    os.kill(pid, signal.SIGCONT)
    one.is_gone()
    wait_until(lambda: not alive(pid), 10, "the client's smbd ending")
    other.send()
    other.receive()
    wait_until(lambda: len(daemon.workers()) == 2, 15, "another worker")
    daemon.wait_for_log("is ready after", 15)
    again = Client(daemon, one.server)
    again.exchange()
    again.c.close_transport()


@pytest.mark.parametrize("asked", ["before", "meanwhile"])
def test_the_daemon_is_killed(server, make_daemon, asked):
    """Its workers' clients go on by their areas. One that has none, and asked the daemon that died or nobody, gets one
    from the next daemon."""
    area = {"directory": str(server.links)}
    daemon = make_daemon(server.port, workers=1, pool={"upstream": {"area": area, **NOT_DIRECT}})
    one, other = Client(daemon, server), Client(daemon, server, use=False)
    try:
        worker = one.worker
        if asked == "before":  # and is dead before it can answer
            os.kill(daemon.pid, signal.SIGSTOP)
            other.send()
            other.receive()
        daemon.server.process.kill()
        daemon.server.process.wait()
        daemon.server.end()
        for client in (one, other):
            client.send()
            client.receive()
        assert mapped(worker) == 1
        daemon.start()
        wait_until(lambda: any(row["pid"] == worker for row in daemon.ctl("workers")), 10, "the worker adopted")
        one.exchange()
        tree = other.c.tree_id
        other.c.tree_connect(f"\\\\{server.netbios_name}\\share").check()
        other.c.tree_id = tree
        warm(daemon, other.c, other.file)
        other.exchange()
        only_has(worker, 2)
    finally:
        one.c.close_transport()
        other.c.close_transport()
        daemon.stop(check=False)
        kill_all_of(daemon.directory)
    wait_until(lambda: not alive(worker), 10, "the worker ending with its last client")


def test_a_new_daemon_takes_over(server, make_daemon):
    """The former one still finds the module for those that it keeps."""
    area = {"directory": str(server.links)}
    daemon = make_daemon(server.port, workers=1, pool={"upstream": {"area": area, **NOT_DIRECT}})
    one, other = Client(daemon, server), Client(daemon, server, use=False)
    worker = one.worker
    daemon.upgrade()

    def shares():
        for client in (one, other):
            client.send()
            client.receive()
        return mapped(worker) == 2

    wait_until(shares, 10, "an area for the one that had none")
    new = Client(daemon, server)
    new.exchange()
    for client in (one, other, new):
        client.send()
        client.receive()
        client.c.close_transport()
    wait_until(lambda: not alive(worker), 10, "the former daemon's worker ending")


def test_another_process_listens_in_the_place_of_smbds(server, make_daemon):
    """It is given nothing, and the client is served without."""
    area = {"directory": str(server.links)}
    daemon = make_daemon(server.port, workers=1, pool={"upstream": {"area": area, **NOT_DIRECT}})
    one = Client(daemon, server, use=False)
    (pid,) = wait_until(lambda: len(server.client_pids()) == 1 and server.client_pids(), 10, "the client's smbd alone")
    path = server.links / str(pid)
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as impostor:
        impostor.bind(str(path))
        impostor.listen(8)
        impostor.settimeout(10)
        for _ in range(3):
            one.exchange(by_area=False)
        link, _ = impostor.accept()
        with link:
            link.settimeout(10)
            assert link.recv(4096) == b""
        daemon.wait_for_log(f"is process {os.getpid()} of user 0, not root's process of that number", 5)
    only_has(one.worker, 0)
    one.c.close_transport()
