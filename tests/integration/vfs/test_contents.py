# SPDX-License-Identifier: MIT
"""What is written and read over an area is byte for byte what is in the file, with other modules above and below, and
those see the I/O as they always do."""

import os
import random
import re

import pytest

from lib.area_link import OP_READ, attached

MIB = 1 << 20
FIXED = [(0, 4096), (0, 8 * MIB), (1, 4096), (4095, 8193), (123457, MIB), (7, 8 * MIB), (3 * MIB, 1), (5, 65537),
         (11 * MIB, MIB)]  # fmt: skip
STACKS = ("share", "no_aio", "as_nobody", "audit_above", "audit_below", "time_audit", "acl", "shadow", "aio_pthread",
          "io_uring", "recycle", "fruit", "sync", "btrfs_below")  # fmt: skip


def write_all(carrier, file_id, model, seed):
    rng = random.Random(seed)
    spots = FIXED + [(rng.randrange(11 * MIB), rng.randrange(1, MIB)) for _ in range(20)]
    for offset, length in spots:
        data = rng.randbytes(length)
        assert carrier.write(file_id, offset, data, at=rng.randrange(4096)) == (0, length), (offset, length)
        model[offset : offset + length] = data
    return max(offset + length for offset, length in spots)


def read_all(carrier, file_id, model, size, seed):
    rng = random.Random(seed)
    spots = FIXED + [(size - 5000, 10000), (size - 1, 1), (4 * MIB, 8 * MIB)]
    spots += [(rng.randrange(size - 1), rng.randrange(1, MIB)) for _ in range(20)]
    for offset, length in spots:
        status, data = carrier.read(file_id, offset, length, at=rng.randrange(4096))
        assert status == 0 and data == model[offset : min(size, offset + length)], (offset, length, hex(status), len(data))


@pytest.mark.parametrize("share", STACKS)
def test_what_is_written_is_read(server, share):
    model = bytearray(20 * MIB)
    with attached(server, share) as (client, carrier, _):
        file_id = client.create("contents")
        size = write_all(carrier, file_id, model, seed=7)
        assert (server.share_path(share) / "contents").read_bytes() == model[:size]
        read_all(carrier, file_id, model, size, seed=8)
        client.close_file(file_id).check()
    # Once more what is not in the page cache.
    fd = os.open(server.share_path(share) / "contents", os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    with attached(server, share) as (client, carrier, _):
        read_all(carrier, client.create("contents"), model, size, seed=9)


def test_files_are_the_users(server):
    """I/O and creation are the user's, the link is root's."""
    with attached(server, "as_nobody") as (client, carrier, _):
        file_id = client.create("mine")
        assert carrier.write(file_id, 0, b"x" * 4096) == (0, 4096)
        assert (server.share_path("as_nobody") / "mine").stat().st_uid == 65534


@pytest.mark.parametrize("share", ["audit_above", "audit_below"])
def test_other_modules_see_the_io(server, share):
    """A module that wants to see reads sees them, also those that the page cache could have answered."""
    with attached(server, share) as (client, carrier, _):
        file_id = client.create("audited")
        before = server.log_path.stat().st_size
        carrier.write(file_id, 0, b"x" * 4096)
        carrier.read(file_id, 0, 4096)
        log = server.log_path.read_bytes()[before:].decode(errors="replace")
    seen = re.findall(r"AUDIT\|(\w+)\|", log)
    wanted = {"pread_send", "pwrite_send"} | ({"offload_write_send"} if share == "audit_above" else set())
    assert wanted <= set(seen), seen


def threads(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


def test_the_page_cache_needs_no_thread(server):
    """smbd has threads only for what it may have to wait for."""
    path = server.share_path() / "cached"
    path.write_bytes(os.urandom(MIB))
    fd = os.open(path, os.O_RDONLY)
    try:
        os.preadv(fd, [bytearray(MIB)], 0, os.RWF_NOWAIT)
    except OSError:
        pytest.skip("this file system has no RWF_NOWAIT")
    finally:
        os.close(fd)
    with attached(server) as (client, carrier, _):
        pid, file_id = server.server_pid(client), client.create("cached")
        for i in range(20):
            assert carrier.read(file_id, i * 1000, 65536)[0] == 0
        assert threads(pid) == 1
        assert client.read(file_id, 65536, 0).status == 0
        assert threads(pid) > 1


@pytest.mark.parametrize("share", ["streams_below", "streams_above"])
def test_streams(server, share):
    with attached(server, share) as (client, carrier, _):
        file_id = client.create("file:stream")
        data = os.urandom(3000)
        assert carrier.write(file_id, 100, data) == (0, 3000)
        assert carrier.read(file_id, 100, 3000) == (0, data)
        assert client.read(file_id, 3000, 100).data == data
        assert carrier.read(file_id, 0, 4000) == (0, bytes(100) + data)


def test_every_byte_of_an_area(server):
    """Reads to both ends of the area change nothing beside them."""
    with attached(server, size=1 << 16) as (client, carrier, _):
        file_id = client.create("ends")
        data = os.urandom(1 << 16)
        client.write(file_id, data, 0).check()
        for at, length in [(0, 1), (65535, 1), (65536 - 4096, 4096), (1, 65535), (0, 65536)]:
            carrier.area.map[:] = b"\xa5" * 65536
            assert carrier.do(OP_READ, file_id, 0, length, at) == (0, length)
            want = bytearray(b"\xa5" * 65536)
            want[at : at + length] = data[:length]
            assert carrier.area.map[:] == want
