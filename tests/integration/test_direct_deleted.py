# SPDX-License-Identifier: MIT
"""A large file that is deleted: the last to close it frees its blocks, and nobody else's requests wait for that."""

import contextlib
import os
import pathlib
import signal
import struct
import tempfile
import threading
import time
import uuid

import pytest

from lib import module_fixture, rdma, smb2
from lib.direct_use import warm
from lib.leases import ALL_ACCESS, RWH, open_leased
from lib.module_smbd import own_series
from lib.process import descriptors_of, wait_until

SIZE = 3 << 30
MEMORY = pathlib.Path("/dev/shm")
DELETE = 0x00010000
TRIES = 4  # another program has the machine's memory now and then


def room():
    """Of memory that files may have."""
    system = os.statvfs(MEMORY)
    with open("/proc/meminfo") as f:
        available = next(int(line.split()[1]) << 10 for line in f if line.startswith("MemAvailable:"))
    return min(system.f_bavail * system.f_frsize, available)


@pytest.fixture(scope="module")
def server(scratch):
    if room() < SIZE + (1 << 30):
        pytest.skip(f"{MEMORY} has no room for a file of {SIZE >> 30} GiB")
    with tempfile.TemporaryDirectory(prefix="smbdirectd-test-", dir=MEMORY) as directory:
        os.chmod(directory, 0o777)
        shares = {"share": {"vfs objects": "smbdirect", "path": directory}, "plain": {"path": directory}}
        with module_fixture.running(scratch / "deleted", own_series(), shares=shares) as smbd:
            smbd.memory = pathlib.Path(directory)
            yield smbd


@pytest.fixture
def daemon(server, make_daemon):
    return make_daemon(server.port, workers=1, pool={"upstream": {"area": {"directory": str(server.links)}}})


def large(server):
    path = server.memory / uuid.uuid4().hex
    fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    path.chmod(0o666)
    os.posix_fallocate(fd, 0, SIZE)
    return path, fd


def time_to_free(server):
    """What the last close of such a file takes."""
    path, fd = large(server)
    path.unlink()
    began = time.monotonic()
    os.close(fd)
    return time.monotonic() - began


def least(takes):
    """Whose loop has freed the blocks has stood still for as long at least, also if that goes faster there."""
    return max(0.25, takes / 8)


class Echoes:
    """The longest that a client waits for an ECHO, while others do something."""

    def __init__(self, c):
        self.c = c
        self.worst = 0.0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over.is_set():
            began = time.monotonic()
            self.c.echo().check()
            self.worst = max(self.worst, time.monotonic() - began)
            time.sleep(0.002)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.over.set()
        self.thread.join()


def open_large(daemon, server, client):
    path, fd = large(server)
    os.close(fd)
    file = open_leased(client, path.name, RWH, access=ALL_ACCESS | DELETE).file_id
    client.write(file, bytes(100)).check()
    warm(daemon, client, file)
    return path, file


def delete(client, file):
    client.rpc(smb2.SET_INFO, struct.pack("<HBBIHHI16s", 33, 1, 13, 1, 96, 0, 0, file) + b"\1").check()
    client.close_file(file).check()


def kept_by(pid, path):
    """That process has it open, deleted or not."""
    return any(target.startswith(str(path)) for target in descriptors_of(pid).values())


def test_nobody_else_waits(daemon, server):
    """A client of the same worker, beside one that is connected to another smbd over TCP at the same time."""
    (worker,) = daemon.workers().values()
    waited = []
    for _ in range(TRIES):
        takes = time_to_free(server)
        with contextlib.ExitStack() as stack:
            deletes = rdma.session(daemon, server, user=True)
            other = rdma.session(daemon, server, user=True)
            beside = smb2.over_tcp((server.address, server.port)).start(
                "plain", (smb2.SMB_3_0_2,), user=server.user, password=server.password, host=server.netbios_name
            )
            for c in (deletes, other, beside):
                stack.callback(c.close_transport)
            path, file = open_large(daemon, server, deletes)
            assert kept_by(worker, path)
            with Echoes(other) as through_worker, Echoes(beside) as past_it:
                delete(deletes, file)
                wait_until(lambda path=path: not kept_by(worker, path), 60, "the worker closing the file")
                time.sleep(0.1)
            waited.append((through_worker.worst, past_it.worst, takes))
            if through_worker.worst - past_it.worst < least(takes):
                return
    pytest.fail(f"(beside its worker's closing, beside smbd, to free it), in seconds: {waited}")


def test_its_smbd_is_killed(daemon, server):
    """The worker is the last to have what that had open, and lets go of it with the link."""
    (worker,) = daemon.workers().values()
    waited = []
    for _ in range(TRIES):
        takes = time_to_free(server)
        with rdma.session(daemon, server, user=True) as other:
            known = set(server.client_pids())
            with rdma.session(daemon, server, user=True) as loses:
                path, _ = open_large(daemon, server, loses)
                (smbd,) = set(server.client_pids()) - known
                path.unlink()
                with Echoes(other) as echoes:
                    os.kill(smbd, signal.SIGKILL)
                    wait_until(lambda path=path: not kept_by(worker, path), 60, "the worker closing the file")
                    time.sleep(0.1)
        waited.append((echoes.worst, takes))
        if echoes.worst < least(takes):
            return
    pytest.fail(f"(beside its worker's closing, to free it), in seconds: {waited}")
