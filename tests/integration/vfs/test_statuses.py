# SPDX-License-Identifier: MIT
"""What a READ or WRITE over an area answers, and what it does beside moving bytes, is what an inline one does."""

import contextlib
import os
import struct
import subprocess

import pytest

from lib import smb2
from lib.area_link import (
    COPYCHUNK_WRITE,
    REQUEST_RESUME_KEY,
    WRITE_THROUGH,
    attached,
    chunks,
    connect,
    inline_read,
    inline_write,
    ioctl_body,
    ioctl_output,
)

LOCK_CONFLICT = 0xC0000054
DISK_FULL = 0xC000007F
BASE = bytes(range(256)) * 391  # 100096 bytes
SIZE = len(BASE)
READS = [(0, SIZE), (SIZE - 1, 4096), (SIZE, 4096), (SIZE + 1, 4096), (1 << 40, 4096), (0, 65536), ((1 << 63) - 10, 4096),
         (1 << 63, 4096), ((1 << 64) - 1, 4096), (0xFFFFFFF0000, 4096)]  # fmt: skip


@pytest.fixture
def pair(server):
    """(client, carrier, FileId) of a file with BASE in it."""
    with attached(server) as (client, carrier, _):
        file_id = client.create("base", disposition=5)
        client.write(file_id, BASE, 0).check()
        yield client, carrier, file_id


@pytest.mark.parametrize("offset,length", READS)
def test_reads(pair, offset, length):
    client, carrier, file_id = pair
    assert carrier.read(file_id, offset, length) == inline_read(client, file_id, offset, length)


@pytest.mark.parametrize("offset", [(1 << 63) - 10, 1 << 63, (1 << 64) - 2, 0xFFFFFFF0000 - 63])
def test_writes_beyond_the_largest_file(pair, offset):
    client, carrier, file_id = pair
    mine = carrier.write(file_id, offset, b"x" * 64)
    assert mine[0] != 0 and mine == inline_write(client, file_id, offset, b"x" * 64)


def test_larger_than_smbd_allows(server, pair):
    """The largest that it ever agrees to; what it has agreed to with this client is the worker's to know."""
    client, _, file_id = pair
    with attached(server, size=(16 << 20) + 4096) as (other, carrier, _):
        mine = other.create("base", disposition=1)
        assert carrier.read(mine, 0, 16 << 20)[0] == smb2.INVALID_PARAMETER
        assert carrier.write(mine, 0, bytes(16 << 20))[0] == smb2.INVALID_PARAMETER
        assert client.read(file_id, (8 << 20) + 1, 0).status == smb2.INVALID_PARAMETER
        assert inline_read(client, file_id, 0, SIZE) == (0, BASE)


HANDLES = {
    "read-only": {"access": 0x00120089},
    "write-only": {"access": 0x00120116},
    "append-only": {"access": 0x00120004 | 0x80},
    "execute-only": {"access": 0x00120020},
    "attributes-only": {"access": 0x00120080},
}


@pytest.mark.parametrize("kind", [*HANDLES, "closed", "directory"])
def test_handles(pair, kind):
    client, carrier, _ = pair
    if kind == "directory":
        handle = client.create("folder", access=0x001200A9, options=1)
    else:
        handle = client.create("base", disposition=1, **HANDLES.get(kind, {}))
    if kind == "closed":
        client.close_file(handle).check()
    assert carrier.read(handle, 0, 4096) == inline_read(client, handle, 0, 4096)
    assert carrier.write(handle, 0, BASE[:4096]) == inline_write(client, handle, 0, BASE[:4096])


def test_locks(server, pair):
    client, carrier, file_id = pair
    other = connect(server)
    handle = other.create("base", disposition=1)
    other.rpc(smb2.LOCK, smb2.lock_body(handle, 50000, 100, immediate=True)).check()
    assert carrier.read(file_id, 45000, 10000)[0] == inline_read(client, file_id, 45000, 10000)[0] == LOCK_CONFLICT
    assert carrier.write(file_id, 49990, b"y" * 20)[0] == inline_write(client, file_id, 49990, b"y" * 20)[0] == LOCK_CONFLICT
    assert carrier.read(file_id, 0, 50000) == (0, BASE[:50000])
    assert carrier.write(file_id, 49980, b"y" * 20) == (0, 20)
    other.close_transport()
    assert client.read(file_id, 4096, 45000).data == (BASE[:49980] + b"y" * 20 + BASE[50000:])[45000:49096]


@pytest.mark.parametrize("way", ["inline", "area"])
def test_a_write_breaks_level_ii_oplocks(server, pair, way):
    client, carrier, file_id = pair
    other = smb2.over_tcp((server.address, server.port)).start("share", host=server.netbios_name)
    granted = other.rpc(smb2.CREATE, smb2.create_body("base", disposition=1, oplock=1)).check().pdu[66]
    assert granted == 1
    write = inline_write(client, file_id, 0, b"z" * 4096) if way == "inline" else carrier.write(file_id, 0, b"z" * 4096)
    assert write == (0, 4096)
    broken = other.transport.recv_pdu(10).data
    assert struct.unpack_from("<H", broken, 12)[0] == smb2.OPLOCK_BREAK and broken[66] == 0
    other.close_transport()


@pytest.mark.parametrize("way", ["inline", "area"])
def test_write_time(server, pair, way):
    client, carrier, _ = pair
    handle = client.create("base", disposition=1)
    path = server.share_path() / "base"
    os.utime(path, (1e9, 1e9))
    if way == "inline":
        inline_write(client, handle, 0, b"q" * 4096)
    else:
        carrier.write(handle, 0, b"q" * 4096)
    client.close_file(handle).check()
    assert path.stat().st_mtime > 1.5e9


@pytest.mark.parametrize("way", ["inline", "area"])
def test_a_write_marks_the_file_for_archiving(pair, way):
    """What smbd does once for each open that writes."""
    client, carrier, file_id = pair
    normal, archive = 0x80, 0x20

    def attributes(handle):
        body = struct.pack("<HBBIHHIII16s", 41, 1, 4, 64, 0, 0, 0, 0, 0, handle)  # FileBasicInformation
        return struct.unpack_from("<I", client.rpc(smb2.QUERY_INFO, body).check().pdu, 72 + 32)[0]

    basic = struct.pack("<QQQQII", 0, 0, 0, 0, normal, 0)
    client.rpc(smb2.SET_INFO, struct.pack("<HBBIHHI16s", 33, 1, 4, len(basic), 96, 0, 0, file_id) + basic).check()
    handle = client.create("base", disposition=1)
    assert attributes(handle) == normal
    write = inline_write(client, handle, 0, b"a" * 4096) if way == "inline" else carrier.write(handle, 0, b"a" * 4096)
    assert write == (0, 4096) and attributes(handle) == archive


def test_position(pair):
    """FilePositionInformation: a read moves it, a write does not."""
    client, carrier, file_id = pair

    def position():
        body = struct.pack("<HBBIHHIII16s", 41, 1, 14, 64, 0, 0, 0, 0, 0, file_id)
        return struct.unpack_from("<Q", client.rpc(smb2.QUERY_INFO, body).check().pdu, 72)[0]

    inline_read(client, file_id, 1000, 5000)
    assert position() == 6000
    carrier.read(file_id, 2000, 7000)
    assert position() == 9000
    carrier.read(file_id, SIZE - 10, 4096)
    assert position() == SIZE
    carrier.write(file_id, 100, b"p" * 50)
    assert position() == SIZE


def test_write_through(pair):
    client, carrier, file_id = pair
    assert carrier.write(file_id, 0, b"s" * 4096, flags=WRITE_THROUGH) == (0, 4096)
    assert client.read(file_id, 4096, 0).data == b"s" * 4096


def test_write_through_is_asked_for(server):
    """fsync only where the key says so: what full_audit sees below us."""
    with attached(server, "audit_below") as (client, carrier, _):
        file_id = client.create("synced")
        path = server.log_path
        for flags in (0, WRITE_THROUGH):
            at = path.stat().st_size
            assert carrier.write(file_id, 0, b"s" * 4096, flags=flags) == (0, 4096)
            log = path.read_bytes()[at:]
            assert b"|pwrite_send|" in log and (b"|fsync_send|" in log) == bool(flags)


@contextlib.contextmanager
def small_file_system(path):
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=777", "none", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def test_disk_full(make_server, scratch, series):
    """A short count before the end, and then DISK_FULL."""
    path = scratch / f"full-{series}"
    with small_file_system(path):
        server = make_server(shares={"full": {"vfs objects": "smbdirect", "path": path}})
        with attached(server, "full") as (client, carrier, _):
            handle = client.create("inline")
            expected = inline_write(client, handle, 0, bytes(2 << 20))
            client.close_file(handle).check()
            (path / "inline").unlink()
            handle = client.create("area")
            assert carrier.write(handle, 0, bytes(2 << 20)) == expected
            assert carrier.write(handle, 1 << 20, bytes(65536))[0] == DISK_FULL
            client.close_file(handle).check()


def test_a_genuine_copy_passes_through(server, pair):
    client, _, file_id = pair
    copy = client.create("copy", disposition=5)
    asked = client.rpc(smb2.IOCTL, ioctl_body(REQUEST_RESUME_KEY, file_id, b"", 32)).check()
    key = ioctl_output(asked)[:24]
    assert key[20:] == bytes(4)  # how ours are told from it
    done = client.rpc(smb2.IOCTL, ioctl_body(COPYCHUNK_WRITE, copy, chunks(key, (0, 0, SIZE)), 12)).check()
    assert struct.unpack("<III", ioctl_output(done)) == (1, 0, SIZE)
    assert (server.share_path() / "copy").read_bytes() == BASE


def test_a_share_without_it(server):
    """No listener for an smbd without such a share, and nothing written there by our keys."""
    with attached(server) as (_, carrier, _):
        plain = connect(server, "plain")
        handle = plain.create("untouched", disposition=5)
        plain.write(handle, BASE, 0).check()
        # smbd 4.17 ends when it is asked to copy by a key before it has given out one.
        plain.rpc(smb2.IOCTL, ioctl_body(REQUEST_RESUME_KEY, handle, b"", 32)).check()
        assert not server.link_path(plain).exists()
        carrier.client = plain
        assert carrier.write(handle, 0, b"!" * 4096)[0] == smb2.OBJECT_NAME_NOT_FOUND
        assert (server.share_path("plain") / "untouched").read_bytes() == BASE
        plain.close_transport()
