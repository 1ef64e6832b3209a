# SPDX-License-Identifier: MIT
"""Files, trees, sessions, connections, links and processes that end, with I/O under way or not. What is under way stays so
for as long as a test wants: it goes to a file system that is frozen."""

import os
import signal
import struct
import subprocess
import sys

import pytest

from lib import smb2
from lib.area_link import OP_READ, OP_WRITE, Area, Carrier, Link, attached, connect, mapped
from lib.iwarp import Closed
from lib.process import alive, wait_until

MIB = 1 << 20
NOT_SUPPORTED = 0xC00000BB
INTEGRATION = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Frozen:
    """A file system of ours: writes to it wait in smbd's threads while it is frozen."""

    def __init__(self, path):
        self.path, self.image, self.frozen = path, path.with_suffix(".image"), False
        path.mkdir()
        with open(self.image, "wb") as f:
            f.truncate(96 * MIB)
        subprocess.run(["mkfs.ext4", "-q", self.image], check=True)
        subprocess.run(["mount", "-o", "loop", self.image, path], check=True)
        path.chmod(0o777)

    def freeze(self):
        subprocess.run(["fsfreeze", "--freeze", self.path], check=True)
        self.frozen = True

    def thaw(self):
        if self.frozen:
            subprocess.run(["fsfreeze", "--unfreeze", self.path], check=True)
            self.frozen = False

    def end(self):
        self.thaw()
        subprocess.run(["umount", "--lazy", self.path], check=True)
        self.image.unlink()


@pytest.fixture(scope="module")
def frozen_server(scratch, series):
    """A ModuleSmbd whose share "slow" is on a file system that can be frozen."""
    from lib.module_smbd import ModuleSmbd

    directory = scratch / f"vfs-slow-{series}"
    directory.mkdir()
    disk = Frozen(directory / "disk")
    server = ModuleSmbd(directory, series=series,
                        shares={"slow": {"vfs objects": "smbdirect", "path": disk.path}, "share": {"vfs objects": "smbdirect"}})  # fmt: skip
    try:
        server.start()
        server.disk = disk
        yield server
    finally:
        disk.thaw()
        server.stop()
        disk.end()


@pytest.fixture
def slow(frozen_server):
    yield frozen_server
    frozen_server.disk.thaw()


def start_writes(client, carrier, file_id, count=8, length=MIB):
    return [carrier.send(OP_WRITE, file_id, i * length, length, i * length) for i in range(count)]


def wait_for_threads(client, ids):
    """All of them are with smbd's threads: each has had its interim answer."""
    for message_id in ids:
        client.wait_interim(message_id)


def test_close_waits_for_what_was_sent_before(server):
    with attached(server) as (client, carrier, _):
        file_id = client.create("late", disposition=5)
        data = os.urandom(16 * MIB)
        carrier.area.map[: len(data)] = data
        ids = start_writes(client, carrier, file_id, 16)
        closed = client.send(smb2.CLOSE, smb2.close_body(file_id))
        assert [carrier.wait(i) for i in ids] == [(0, MIB)] * 16
        client.wait(closed).check()
        assert (server.share_path() / "late").read_bytes() == data


def test_close_waits_for_threads(slow):
    with attached(slow, "slow") as (client, carrier, _):
        file_id = client.create("stuck", disposition=5)
        carrier.area.map[: 2 * MIB] = os.urandom(2 * MIB)
        slow.disk.freeze()
        ids = start_writes(client, carrier, file_id, 2)
        wait_for_threads(client, ids)
        closed = client.send(smb2.CLOSE, smb2.close_body(file_id))
        client.echo().check()  # smbd has seen the CLOSE, and serves others
        assert closed not in client.responses
        slow.disk.thaw()
        assert [carrier.wait(i) for i in ids] == [(0, MIB)] * 2
        client.wait(closed).check()
        assert (slow.disk.path / "stuck").read_bytes() == carrier.area.map[: 2 * MIB]


def test_the_area_is_kept_until_the_last_io(slow):
    """AREA_GONE is the last word, and nothing starts on it after AREA_DROP."""
    with attached(slow, "slow") as (client, carrier, link):
        pid = slow.server_pid(client)
        file_id = client.create("kept", disposition=5)
        carrier.area.map[: 8 * MIB] = os.urandom(8 * MIB)
        slow.disk.freeze()
        ids = start_writes(client, carrier, file_id, 8)
        wait_for_threads(client, ids)
        link.drop(carrier.area)
        assert carrier.do(OP_READ, file_id, 0, 4096) == (NOT_SUPPORTED, 0)
        assert mapped(pid) == 1 and not link.gone
        slow.disk.thaw()
        link.until(lambda: link.gone == [carrier.area.token])
        assert mapped(pid) == 0
        assert [carrier.wait(i) for i in ids] == [(0, MIB)] * 8
        assert (slow.disk.path / "kept").read_bytes() == carrier.area.map[: 8 * MIB]


def test_a_link_that_ends_with_io_under_way(slow):
    """What runs is finished with the memory still there; then it is given back, and another link may come."""
    with attached(slow, "slow") as (client, carrier, link):
        pid = slow.server_pid(client)
        file_id = client.create("orphan", disposition=5)
        carrier.area.map[: 8 * MIB] = os.urandom(8 * MIB)
        slow.disk.freeze()
        ids = start_writes(client, carrier, file_id, 8)
        wait_for_threads(client, ids)
        link.close()
        wait_until(lambda: carrier.do(OP_READ, file_id, 0, 4096) == (NOT_SUPPORTED, 0), 10, "the link's end is seen")
        assert mapped(pid) == 1
        slow.disk.thaw()
        assert [carrier.wait(i) for i in ids] == [(0, MIB)] * 8
        wait_until(lambda: mapped(pid) == 0, 10, "the area is unmapped")
        with Link(slow.link_path(client)) as again:
            assert again.wait_for_tree(client) and again.push(carrier.area) == 0
            assert carrier.read(file_id, 0, 8 * MIB, at=8 * MIB) == (0, bytes(carrier.area.map[: 8 * MIB]))


def test_drop_and_then_the_link(slow):
    """An area that is dropped and still held when its link ends has nobody to tell."""
    with attached(slow, "slow") as (client, carrier, link):
        pid = slow.server_pid(client)
        file_id = client.create("dropped", disposition=5)
        slow.disk.freeze()
        ids = start_writes(client, carrier, file_id, 4)
        wait_for_threads(client, ids)
        link.drop(carrier.area)
        link.close()
        with Link(slow.link_path(client)) as other:  # seen after the other's end: one queue of events
            assert other.wait_for_tree(client)
            slow.disk.thaw()
            assert [carrier.wait(i) for i in ids] == [(0, MIB)] * 4
            wait_until(lambda: mapped(pid) == 0, 10, "the area is unmapped")
            client.echo().check()
            assert other.push(carrier.area) == 0 and not other.gone


@pytest.mark.parametrize("how", ["tree", "logoff", "tcp", "close and tcp"])
def test_ends_with_io_under_way(slow, how):
    with attached(slow, "slow") as (client, carrier, link):
        pid, path = slow.server_pid(client), slow.link_path(client)
        file_id = client.create("ended", disposition=5)
        slow.disk.freeze()
        wait_for_threads(client, start_writes(client, carrier, file_id, 8))
        end = None
        if how == "tree":
            end = client.send(smb2.TREE_DISCONNECT, struct.pack("<HH", 4, 0))
        elif how == "logoff":
            end = client.send(smb2.LOGOFF, struct.pack("<HH", 4, 0))
        elif how == "close and tcp":
            client.send(smb2.CLOSE, smb2.close_body(file_id))
        if end is None:
            client.close_transport()
        slow.disk.thaw()
        if end is not None:
            client.wait(end).check()
            link.until(lambda: not link.trees)  # TREE_GONE
            client.close_transport()
        link.ended()
        wait_until(lambda: not alive(pid), 20, f"smbd process {pid} ends")
        assert not path.exists()


def test_the_listener_goes_with_the_last_tree(server):
    """...and comes back with the next; links that are open stay."""
    with attached(server) as (client, carrier, link):
        path = server.link_path(client)
        client.rpc(smb2.TREE_DISCONNECT, struct.pack("<HH", 4, 0)).check()
        link.until(lambda: not link.trees)
        assert not path.exists()
        client.tree_connect(f"\\\\{server.netbios_name}\\share").check()
        assert link.wait_for_tree(client) and path.exists()
        file_id = client.create("again", disposition=5)
        assert carrier.write(file_id, 0, b"x" * 4096) == (0, 4096)


def test_a_channel_that_ends_with_io_under_way(slow):
    """Its requests are freed, the process lives on for another channel: the memory stays for the threads that write from it."""
    guid = os.urandom(16)
    with attached(slow, "slow", guid=guid, size=MIB) as (second, two, _):
        pid = slow.server_pid(second)
        with attached(slow, "slow", guid=guid, size=8 * MIB) as (first, one, link):
            assert slow.server_pid(first) == pid
            file_id = first.create("freed", disposition=5)
            one.area.map[: 8 * MIB] = data = os.urandom(8 * MIB)
            slow.disk.freeze()
            wait_for_threads(first, start_writes(first, one, file_id, 8))
            link.drop(one.area)
            first.close_transport()
            second.echo().check()
            assert mapped(pid) == 2 and not link.gone
        second.echo().check()  # it has seen the link's end too
        assert mapped(pid) == 2
        slow.disk.thaw()
        wait_until(lambda: (slow.disk.path / "freed").read_bytes() == data, 20, "the threads' writes")
        handle = second.create("alive", disposition=5)
        assert two.write(handle, 0, b"2" * 4096) == (0, 4096)


STEPS = ["connected", "greeted", "pushed", "under way", "dropped"]


@pytest.mark.parametrize("step", STEPS)
def test_smbd_killed(slow, step):
    """The client's connection and the link end; the memory here stays as it was."""
    client = connect(slow, "slow")
    path, pid = slow.link_path(client), slow.server_pid(client)
    link, area = Link(path), Area(16 * MIB)
    area.map[: 8 * MIB] = data = os.urandom(8 * MIB)
    carrier = Carrier(client, area)
    at = STEPS.index(step)
    file_id = client.create("killed", disposition=5)
    if at >= STEPS.index("greeted"):
        assert link.wait_for_tree(client)
    if at >= STEPS.index("pushed"):
        assert link.push(area) == 0
    if at >= STEPS.index("under way"):
        slow.disk.freeze()
        wait_for_threads(client, start_writes(client, carrier, file_id, 4))
    if step == "dropped":
        link.drop(area)
        client.echo().check()
    os.kill(pid, signal.SIGKILL)
    slow.disk.thaw()
    with pytest.raises(Closed):
        while True:
            client.transport.recv_pdu(20)
    assert link.ended() and not link.gone
    assert area.map[: 8 * MIB] == data
    assert path.exists()  # nobody was left to remove it; the next process of that number does
    link.close()
    area.close()


PLAYER = """
import sys
sys.path.insert(0, sys.argv[1])
from lib.area_link import Area, Link
step, link = sys.argv[3], Link(sys.argv[2])
if step != "greeted":
    area = Area()
    assert link.push(area) == 0
    if step == "dropped":
        link.drop(area)
        link.until(lambda: link.gone)
print(area.token.hex() if step != "greeted" else "", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("step", ["greeted", "pushed", "under way", "dropped"])
def test_worker_killed(slow, step):
    """smbd goes on without it, and its areas are unmapped."""
    client = connect(slow, "slow")
    pid, path = slow.server_pid(client), slow.link_path(client)
    argv = [sys.executable, "-c", PLAYER, INTEGRATION, path, step]
    player = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    token = bytes.fromhex(player.stdout.readline().decode())
    file_id = client.create("alone", disposition=5)
    ids = []
    if step == "under way":
        area = Area(4096)
        area.token = token
        slow.disk.freeze()
        ids = start_writes(client, Carrier(client, area), file_id, 4)
        wait_for_threads(client, ids)
    player.kill()
    player.communicate()
    slow.disk.thaw()
    for i in ids:
        client.wait(i).check()
    wait_until(lambda: mapped(pid) == 0, 10, "the area is unmapped")
    assert client.write(file_id, b"inline" * 1000, 0).count == 6000
    with Link(path) as link:
        assert link.wait_for_tree(client)
    client.close_transport()


def test_two_channels_of_one_client(server):
    """Two connections in one smbd process: each has its link and its area, and one may go without the other."""
    guid = os.urandom(16)
    with attached(server, guid=guid, size=MIB) as (first, one, _):
        pid = server.server_pid(first)
        with attached(server, guid=guid, size=MIB) as (second, two, _):
            assert server.server_pid(second) == pid and mapped(pid) == 2
            handle = second.create("shared", disposition=5)
            assert two.write(handle, 0, b"2" * 4096) == (0, 4096)
        wait_until(lambda: mapped(pid) == 1, 10, "the second's area is unmapped")
        handle = first.create("shared")
        assert one.read(handle, 0, 4096) == (0, b"2" * 4096)
        two.client = first
        assert two.do(OP_READ, handle, 0, 4096) == (NOT_SUPPORTED, 0)
