# SPDX-License-Identifier: MIT
"""READs and WRITEs through memory shared with a stock smbd that has vfs_smbdirect: by real workers, byte for byte as they
are without it; what does not qualify, and what ends in the middle, goes as always or ends that one connection."""

import os
import pathlib
import random
import re
import struct
import uuid

import pytest

from lib import module_fixture, rdma, smb2
from lib.area_use import THRESHOLD, moved, warm
from lib.process import wait_until

SEED = int(os.environ.get("SMBDIRECTD_SEED", "20261129"))
SERIES = ("4.17", "4.22")
GONE = (rdma.Closed, rdma.Terminated, rdma.Timeout)


@pytest.fixture(scope="module", params=SERIES)
def server(request, scratch):
    shares = {"share": {"vfs objects": "smbdirect"}, "plain": {}, "btrfs": {"vfs objects": "btrfs smbdirect"}}
    with module_fixture.running(scratch / f"area-{request.param}", request.param, shares=shares) as smbd:
        yield smbd


@pytest.fixture
def make_pool(server, make_daemon):
    """A daemon in front of it; its own keys of /upstream/area go on top."""

    def make(**area):
        return make_daemon(server.port, pool={"upstream": {"area": {"directory": str(server.links), **area}}})

    return make


@pytest.fixture
def opened(server, make_pool):
    """(daemon, client, file id) with an area in use."""
    daemon = make_pool()
    c = rdma.session(daemon, server)
    name = f"area-{uuid.uuid4().hex}"
    file = c.create(name)
    rdma.channel_write(c, file, random.Random(SEED).randbytes(2 * THRESHOLD), 0).check()
    warm(daemon, c, file)
    yield daemon, c, file, pathlib.Path(server.share_path("share")) / name
    c.close_transport()


def test_contents(opened, server):
    """Sizes around the threshold, units of the area and the largest; offsets of any kind. Against a model, and the file."""
    daemon, c, file, path = opened
    chance = random.Random(SEED)
    model = bytearray(path.read_bytes())
    before = moved(daemon)
    sizes = [1, THRESHOLD - 1, THRESHOLD, THRESHOLD + 1, 16384 * 5 - 1, 1 << 20, (1 << 20) + 4097, 4 << 20]
    for size in sizes * 2:
        at = chance.randrange(len(model) + 1)
        data = chance.randbytes(size)
        assert rdma.channel_write(c, file, data, at).check()
        model[at : at + size] = data
        at = chance.randrange(len(model))
        response, read = rdma.channel_read(c, file, size, at)
        assert response.check() and read == bytes(model[at : at + size]), f"seed {SEED}, {size} bytes at {at}"
    assert path.read_bytes() == model
    large = 2 * sum(size >= THRESHOLD for size in sizes)
    wait_until(lambda: moved(daemon) >= (before[0] + large, before[1] + large), 5, lambda: f"all by the area: {moved(daemon)}")


def test_statuses_are_those_of_inline(opened, server):
    daemon, c, file, path = opened
    size = path.stat().st_size
    response, _ = rdma.channel_read(c, file, THRESHOLD, size)
    assert response.status == smb2.END_OF_FILE
    response, data = rdma.channel_read(c, file, THRESHOLD, size - 5)
    assert response.check() and len(data) == 5
    c.close_file(file).check()
    response, _ = rdma.channel_read(c, file, THRESHOLD)
    assert response.status == smb2.FILE_CLOSED
    assert rdma.channel_write(c, file, bytes(THRESHOLD)).status == smb2.FILE_CLOSED


def test_many_at_once(opened):
    """More than there is room for: the rest goes as always, and all of it is right."""
    daemon, c, file, path = opened
    size, count = 1 << 20, 32
    data = random.Random(SEED).randbytes(size * count)
    before = moved(daemon)
    sent = [rdma.send_channel_write(c, file, data[i * size : (i + 1) * size], i * size)[0] for i in range(count)]
    for message_id in sent:
        c.wait(message_id).check()
    assert path.read_bytes()[: len(data)] == data
    asked = [rdma.send_channel_read(c, file, size, i * size) for i in range(count)]
    for i, (message_id, region) in enumerate(asked):
        response = c.wait(message_id).check()
        assert bytes(region.memory[: response.data_remaining]) == data[i * size : (i + 1) * size]
    wait_until(lambda: moved(daemon)[0] > before[0] and moved(daemon)[1] > before[1], 5, "some of it by the area")


@pytest.fixture
def huge_pages():
    """As many as one area needs are set aside for the time of the test, beside those that were."""
    setting = pathlib.Path("/proc/sys/vm/nr_hugepages")
    if not setting.exists():
        pytest.skip("the kernel has no huge pages")
    before = int(setting.read_text())
    free = huge_pages_free()
    try:
        setting.write_text(str(before + 8))
    except OSError as e:
        pytest.skip(f"huge pages cannot be set aside here: {e.strerror}")
    try:
        if huge_pages_free() < free + 8:
            pytest.skip("the system has no memory left in pieces large enough for huge pages")
        yield
    finally:
        setting.write_text(str(before))


def huge_pages_free():
    text = pathlib.Path("/proc/meminfo").read_text()
    assert "Hugepagesize:       2048 kB" in text, "the test is written for those of 2 MiB"
    return int(re.search(r"HugePages_Free:\s+(\d+)", text)[1])


@pytest.mark.parametrize("wanted, size, taken", [(True, 16 << 20, 8), (False, 16 << 20, 0), (True, 17 << 20, 0)])
def test_in_huge_pages(server, make_pool, huge_pages, wanted, size, taken):
    """Taken for one connection and given back with it; what is not a multiple of them has ordinary pages."""
    free = huge_pages_free()
    daemon = make_pool(huge_pages=wanted, bytes=size)
    c = rdma.session(daemon, server)
    file = c.create(f"huge-{uuid.uuid4().hex}")
    data = random.Random(SEED).randbytes(1 << 20)
    rdma.channel_write(c, file, data).check()
    warm(daemon, c, file)
    assert huge_pages_free() == free - taken
    before = moved(daemon)
    rdma.channel_write(c, file, data[::-1]).check()
    assert rdma.channel_read(c, file, len(data))[1] == data[::-1]
    wait_until(lambda: moved(daemon) == (before[0] + 1, before[1] + 1), 5, "both by the area")
    c.close_transport()
    wait_until(lambda: huge_pages_free() == free, 10, "the pages given back")


@pytest.mark.parametrize("share", ["plain", "btrfs"])
def test_a_share_without_it(server, make_pool, share):
    daemon = make_pool()
    c = rdma.session(daemon, server, share=share)
    data = random.Random(SEED).randbytes(1 << 20)
    file = c.create(f"inline-{uuid.uuid4().hex}")
    for _ in range(3):
        rdma.channel_write(c, file, data).check()
        assert rdma.channel_read(c, file, len(data))[1] == data
    # vfs_btrfs of Samba 4.22 no longer takes the copies of others.
    if share == "plain" or server.series == "4.17":
        assert moved(daemon) == (0, 0)
    c.close_transport()


def test_switched_off(server, make_pool):
    daemon = make_pool(enabled=False)
    c = rdma.session(daemon, server)
    data = random.Random(SEED).randbytes(1 << 20)
    file = c.create(f"off-{uuid.uuid4().hex}")
    for _ in range(3):
        rdma.channel_write(c, file, data).check()
        assert rdma.channel_read(c, file, len(data))[1] == data
    assert moved(daemon) == (0, 0)
    c.close_transport()


def test_signed_and_encrypted_go_as_always(server, make_pool):
    daemon = make_pool()
    for how in ({"sign": True}, {"encrypt": True, "dialect": smb2.SMB_3_1_1}):
        c = rdma.session(daemon, server, **how)
        file = c.create(f"safe-{uuid.uuid4().hex}")
        data = random.Random(SEED).randbytes(THRESHOLD)
        c.write(file, data).check()
        assert c.read(file, len(data)).check().data == data
        c.close_transport()
    assert moved(daemon) == (0, 0)


def test_the_mark_of_ours_ends_the_connection(server, make_pool):
    daemon = make_pool()
    c = rdma.session(daemon, server)
    bystander = rdma.session(daemon, server)
    file = c.create("marked")
    key = bytes(16) + (THRESHOLD).to_bytes(4, "little") + bytes([1, 0, 0x5D, 0xD5])
    chunk = (0).to_bytes(8, "little") * 2 + (1).to_bytes(4, "little") + bytes(4)
    data = key + (1).to_bytes(4, "little") + bytes(4) + chunk
    body = struct.pack("<HHI16sIIIIIIII", 57, 0, 0x001480F2, file, 120, len(data), 0, 0, 0, 12, 1, 0) + data
    with pytest.raises(GONE):
        c.rpc(smb2.IOCTL, body)
    assert bystander.echo().check()
    daemon.wait_for_log("a resume key that bears the mark")
    bystander.close_transport()


