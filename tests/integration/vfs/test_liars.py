# SPDX-License-Identifier: MIT
"""Whoever has a client's connection or a link, and does not keep to the protocol: no byte of any area or file changes, smbd
lives on, and keeps no descriptor or mapping."""

import fcntl
import os
import socket
import struct
import subprocess
import sys

import pytest

from lib import smb2
from lib.area_link import (
    AREA,
    AREA_ADDED,
    AREA_DROP,
    AREA_GONE,
    COPYCHUNK,
    F_SEAL_GROW,
    F_SEAL_SHRINK,
    FIRST_STATUS,
    HELLO,
    OP_READ,
    OP_WRITE,
    REQUEST_RESUME_KEY,
    TREE,
    TREE_GONE,
    TREE_REFUSED,
    Area,
    Link,
    Packet,
    attached,
    chunks,
    connect,
    ioctl_body,
    ioctl_output,
    mapped,
)
from lib.direct_link import CLOSED, DIRECT_NOT, DIRECT_REFUSED, GRANT, RIGHTS, TABLE
from lib.process import wait_until
from lib.resources import descriptors

NOT_SUPPORTED = 0xC00000BB
COLLISION = 0xC0000035
INSUFFICIENT_RESOURCES = 0xC000009A
F_SEAL_WRITE = 8
SIZE = 65536
BASE = bytes(range(256)) * 256


@pytest.fixture
def target(server):
    """(client, carrier, FileId, link): a file full of BASE, an area full of 0xA5; both are the same at the end."""
    with attached(server, size=SIZE) as (client, carrier, link):
        carrier.area.map[:] = b"\xa5" * SIZE
        file_id = client.create("target", disposition=5)
        client.write(file_id, BASE, 0).check()
        yield client, carrier, file_id, link
        assert carrier.area.map[:] == b"\xa5" * SIZE
        assert (server.share_path() / "target").read_bytes() == BASE
        client.echo().check()


# --- by IOCTL ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [OP_READ, OP_WRITE])
def test_wrong_tokens(target, operation):
    client, carrier, file_id, _ = target
    token = carrier.area.token
    guesses = [bytes(16), os.urandom(16)] + [
        token[:i] + bytes([token[i] ^ 1 << bit]) + token[i + 1 :] for i in range(16) for bit in (0, 7)
    ]
    for guess in guesses:
        assert carrier.do(operation, file_id, 0, 4096, token=guess) == (NOT_SUPPORTED, 0)


@pytest.mark.parametrize("operation", [OP_READ, OP_WRITE])
@pytest.mark.parametrize(
    "length,at",
    [(4096, SIZE - 4095), (1, SIZE), (SIZE + 1, 0), (4096, SIZE + 1), (4096, (1 << 64) - 1), (4096, (1 << 64) - 4096),
     (4096, 1 << 63), (0, 0), (0, SIZE), (0xFFFFFFFF, 0), (0xFFFFFFFF, 1), (0x80000000, SIZE)],
)  # fmt: skip
def test_outside_the_area(target, operation, length, at):
    client, carrier, file_id, _ = target
    assert carrier.do(operation, file_id, 0, length, at) == (smb2.INVALID_PARAMETER, 0)


@pytest.mark.parametrize("operation,flags", [(0, 0), (3, 0), (255, 0), (1, 2), (2, 2), (1, 0x80), (2, 0xFF)])
def test_operations_that_there_are_not(target, operation, flags):
    client, carrier, file_id, _ = target
    assert carrier.do(operation, file_id, 0, 4096, 0, flags) == (smb2.INVALID_PARAMETER, 0)


@pytest.mark.parametrize("part", [(0, 0, 2), (0, 0, 4096), (0, 0, 1 << 20)])
@pytest.mark.parametrize("operation", [OP_READ, OP_WRITE])
def test_chunks_that_are_no_carrier(target, operation, part):
    client, carrier, file_id, _ = target
    body = chunks(carrier.key(operation, 4096), part)
    assert carrier.wait(client.send(smb2.IOCTL, ioctl_body(0x001480F2, file_id, body, 12))) == (NOT_SUPPORTED, 0)


def test_no_chunk(target):
    client, carrier, file_id, _ = target
    body = chunks(carrier.key(OP_WRITE, 4096))
    assert carrier.wait(client.send(smb2.IOCTL, ioctl_body(0x001480F2, file_id, body, 12))) == (NOT_SUPPORTED, 0)


def test_the_other_copychunk(target):
    """FSCTL_SRV_COPYCHUNK with a marked key stays with us too."""
    client, carrier, file_id, _ = target
    assert carrier.do(OP_WRITE, file_id, 0, 4096, code=COPYCHUNK) == (NOT_SUPPORTED, 0)


def test_without_the_mark(target):
    """Then it is smbd's own, which does not know the key. (4.17 ends when it has given out none before.)"""
    client, carrier, file_id, _ = target
    client.rpc(smb2.IOCTL, ioctl_body(REQUEST_RESUME_KEY, file_id, b"", 32)).check()
    for mark in (0, 0x5DD5, 0xD500, 0x5D):
        body = chunks(carrier.key(OP_WRITE, 4096, mark=mark), (0, 0, 1))
        assert client.rpc(smb2.IOCTL, ioctl_body(0x001480F2, file_id, body, 12)).status == smb2.OBJECT_NAME_NOT_FOUND


def test_answers_too_small_for_a_count(target):
    client, carrier, file_id, _ = target
    body = chunks(carrier.key(OP_WRITE, 4096), (0, 0, 1))
    for room in (0, 11):
        assert client.rpc(smb2.IOCTL, ioctl_body(0x001480F2, file_id, body, room)).status == smb2.INVALID_PARAMETER


def test_keys_cut_short(target):
    client, carrier, file_id, _ = target
    whole = chunks(carrier.key(OP_WRITE, 4096), (0, 0, 1))
    for length in (0, 1, 23, 24, 31, 32, 55):
        assert client.rpc(smb2.IOCTL, ioctl_body(0x001480F2, file_id, whole[:length], 12)).status != 0


def test_many_chunks(target):
    """Each is done for itself; the sum is what it says."""
    client, carrier, file_id, _ = target
    body = chunks(carrier.key(OP_READ, 256), *((i * 256, i * 256, 1) for i in range(256)))
    response = client.rpc(smb2.IOCTL, ioctl_body(0x001480F2, file_id, body, 12)).check()
    assert struct.unpack("<III", ioctl_output(response)) == (256, 0, SIZE)
    assert carrier.area.map[:] == BASE
    carrier.area.map[:] = b"\xa5" * SIZE


def test_of_an_area_that_was_dropped(target):
    client, carrier, file_id, link = target
    link.drop(carrier.area)
    link.until(lambda: link.gone)
    assert carrier.do(OP_READ, file_id, 0, 4096) == (NOT_SUPPORTED, 0)


def test_before_any_link(server):
    """A key of ours to an smbd that has given out none of its own: 4.17 would end if it saw it."""
    client = connect(server)
    file_id = client.create("early", disposition=5)
    body = chunks(os.urandom(22) + b"\x5d\xd5", (0, 0, 1))
    response = client.rpc(smb2.IOCTL, ioctl_body(0x001480F2, file_id, body, 12)).check()
    assert struct.unpack("<III", ioctl_output(response))[2] == NOT_SUPPORTED >= FIRST_STATUS
    client.echo().check()
    client.close_transport()


# --- by the link ------------------------------------------------------------------------------------------------------


@pytest.fixture
def links(server):
    """(client, pid, open): open() gives a new link to one smbd, which at the end has no more descriptors than before."""
    client = connect(server)
    path, pid = server.link_path(client), server.server_pid(client)
    before, made = descriptors(pid), []

    def new():
        made.append(Link(path))
        return made[-1]

    yield client, pid, new
    for link in made:
        link.close()
    client.echo().check()
    wait_until(lambda: descriptors(pid) == before, 10, lambda: f"{descriptors(pid)} descriptors of smbd, {before} before")
    assert mapped(pid) == 0
    client.close_transport()


def packet(kind, **kw):
    return Packet(kind, **kw).bytes()


BAD_PACKETS = {
    "empty": b"",
    "one byte": b"\x05",
    "half": packet(AREA_DROP)[:128],
    "one byte short": packet(AREA)[:255],
    "one byte long": packet(AREA_DROP) + b"\0",
    "very long": packet(AREA_DROP) * 64,
    "type 0": packet(0),
    "type 16": packet(16),
    "type 2^32-1": packet(0xFFFFFFFF),
    "area without a descriptor": packet(AREA, token=b"t" * 16),
    "drop of nothing": packet(AREA_DROP, token=b"n" * 16),
    **{f"type {kind}, which is the module's": packet(kind)
       for kind in (HELLO, TREE, TREE_REFUSED, TREE_GONE, AREA_ADDED, AREA_GONE, DIRECT_NOT, TABLE, GRANT, RIGHTS, CLOSED, DIRECT_REFUSED)},
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_PACKETS)
@pytest.mark.parametrize("with_descriptor", [False, True], ids=["alone", "with a descriptor"])
def test_bad_packets(links, what, with_descriptor):
    """The link ends, with its areas, and no other."""
    client, pid, new = links
    good, bad, area, other = new(), new(), Area(SIZE), Area(SIZE)
    assert bad.push(area) == 0 and good.push(other) == 0
    spare = Area(SIZE)
    if what == "area without a descriptor" and with_descriptor:
        bad.send(packet(99), [spare.fd])
    else:
        bad.send(BAD_PACKETS[what], [spare.fd] if with_descriptor else [])
    assert bad.ended()
    wait_until(lambda: mapped(pid) == 1, 10, "the area of the bad link is unmapped")
    assert good.push(area) == 0
    for each in (area, other, spare):
        each.close()


@pytest.mark.parametrize("count", [2, 3, 253])
def test_many_descriptors(links, count):
    client, pid, new = links
    link, area = new(), Area(SIZE)
    link.send(packet(AREA, token=area.token), [area.fd] * count)
    assert link.ended() and mapped(pid) == 0
    area.close()


def test_drop_twice(links):
    client, pid, new = links
    link, area = new(), Area(SIZE)
    assert link.push(area) == 0
    link.drop(area)
    link.drop(area)
    assert link.ended() and link.gone == [area.token]
    area.close()


def test_an_area_of_another_link(links):
    """Nobody drops it but its own link, and its token is taken."""
    client, pid, new = links
    owner, thief, area = new(), new(), Area(SIZE)
    assert owner.push(area) == 0
    assert owner.push(area) == COLLISION
    twin = Area(SIZE, token=area.token)
    assert thief.push(twin) == COLLISION
    thief.drop(area)
    assert thief.ended() and mapped(pid) == 1
    twin.close()
    area.close()


class Thing:
    def __init__(self, fd):
        self.fd, self.token = fd, os.urandom(16)


def test_memory_that_is_none(links, scratch):
    """Refused, and the link stays."""
    client, pid, new = links
    link = new()
    path = scratch / "regular"
    path.write_bytes(bytes(SIZE))
    reader, writer = os.pipe()
    pair = socket.socketpair()
    fds = [os.open(path, os.O_RDWR), os.open("/dev/zero", os.O_RDWR), os.open("/proc", os.O_RDONLY), reader, writer,
           pair[0].fileno()]  # fmt: skip
    for fd in fds:
        assert link.push(Thing(fd)) == smb2.INVALID_PARAMETER
    for fd in fds[:-1]:
        os.close(fd)
    for end in pair:
        end.close()
    bad = {
        "not sealed": Area(SIZE, seals=0),
        "sealed against growing alone": Area(SIZE, seals=F_SEAL_GROW),
        "empty": Area(0),
        "larger than the limit": Area((1 << 30) + 4096),
    }
    for what, area in bad.items():
        assert link.push(area) == smb2.INVALID_PARAMETER, what
        area.close()
    unwritable = Area(SIZE)
    unwritable.map.close()
    fcntl.fcntl(unwritable.fd, fcntl.F_ADD_SEALS, F_SEAL_WRITE)
    assert link.push(unwritable) >= FIRST_STATUS
    os.close(unwritable.fd)
    good = Area(SIZE, seals=F_SEAL_SHRINK)
    assert link.push(good) == 0 and mapped(pid) == 1
    good.close()


def test_more_areas_than_a_link_has(links):
    client, pid, new = links
    link, areas = new(), [Area(4096) for _ in range(65)]
    assert [link.push(area) for area in areas] == [0] * 64 + [INSUFFICIENT_RESOURCES]
    link.drop(areas[0])
    assert link.push(areas[64]) == 0
    for area in areas:
        area.close()


def test_more_links_than_there_may_be(links):
    """Those that are too many are closed; when others go there is room again."""
    client, pid, new = links
    path = new().sock.getpeername()
    many = []
    for _ in range(200):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.settimeout(10)
        sock.connect(path)
        many.append(sock.recv(256) != b"")
        links_open.append(sock)
    assert many == [True] * 127 + [False] * 73
    for sock in links_open:
        sock.close()
    links_open.clear()
    client.echo().check()
    wait_until(lambda: new_link_answers(path), 10, "there is room again")


links_open = []


def new_link_answers(path):
    try:
        Link(path).close()
    except EOFError:
        return False
    return True


def test_a_reader_that_does_not_read(links):
    """It is given up when it has fallen behind by a socket buffer; smbd never waits for it."""
    client, pid, new = links
    deaf, good = new(), new()
    share = "\\\\SMBDTEST\\share"
    mine = client.tree_id
    for _ in range(600):
        client.tree_connect(share).check()
        key = (client.session_id, client.tree_id)
        client.rpc(smb2.TREE_DISCONNECT, struct.pack("<HH", 4, 0)).check()
        good.until(lambda: key in good.trees).until(lambda: key not in good.trees)
    client.tree_id = mine
    area = Area(SIZE)
    assert deaf.ended() and good.push(area) == 0
    area.close()


CONNECT = """
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.settimeout(10)
s.connect(sys.argv[1])
print("connected", len(s.recv(256)))
"""


def as_nobody(path):
    argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", CONNECT, path]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    return done.stdout + done.stderr


def test_another_user(make_server):
    """Kept out by the directory, by the socket, and by who they are."""
    server = make_server()
    client = connect(server)
    path = server.link_path(client)
    assert "PermissionError" in as_nobody(path)
    server.links.chmod(0o755)
    assert path.stat().st_mode & 0o777 == 0o600
    assert "PermissionError" in as_nobody(path)
    path.chmod(0o666)
    assert as_nobody(path) == "connected 0\n"
    with Link(path) as link:
        assert link.wait_for_tree(client)
    client.close_transport()


@pytest.mark.parametrize("kind", ["writable for a group", "somebody's", "a link", "a file", "nothing"])
def test_a_directory_that_is_not_roots_alone(make_server, scratch, kind):
    """No listener there; the share is served."""
    server = make_server()
    if kind == "writable for a group":
        server.links.chmod(0o770)
    elif kind == "somebody's":
        os.chown(server.links, 65534, 65534)
    else:
        server.links.rmdir()
    if kind == "a link":
        (server.directory / "elsewhere").mkdir(mode=0o700)
        server.links.symlink_to(server.directory / "elsewhere")
    elif kind == "a file":
        server.links.write_text("")
    client = connect(server)
    file_id = client.create("served", disposition=5)
    assert client.write(file_id, b"x" * 4096, 0).count == 4096
    assert not server.link_path(client).exists()
    if kind == "a file":
        server.links.unlink()
    elif kind == "a link":
        assert not list((server.directory / "elsewhere").iterdir())
        server.links.unlink()
    if not server.links.exists():
        server.links.mkdir(mode=0o700)
    os.chown(server.links, 0, 0)
    server.links.chmod(0o700)
    # A daemon that comes later is found by the next tree connect.
    client.tree_connect(f"\\\\{server.netbios_name}\\share").check()
    with Link(server.link_path(client)) as link:
        assert link.wait_for_tree(client)
    client.close_transport()


def test_what_an_earlier_process_left(make_server):
    """A name that is taken is taken over, whatever is there."""
    server = make_server()
    first = connect(server, "share")
    path = server.link_path(first)
    first.rpc(smb2.TREE_DISCONNECT, struct.pack("<HH", 4, 0)).check()
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stale.bind(str(path))
    stale.close()
    first.tree_connect(f"\\\\{server.netbios_name}\\share").check()
    with Link(path) as link:
        assert link.wait_for_tree(first)
    first.close_transport()
