# SPDX-License-Identifier: MIT
"""Direct I/O on a disk that cannot keep what was written. The kernel says so once to all that have one open file description in
common, which worker and smbd have; and it is smbd that answers a WRITE that is to be on disk, FLUSH and CLOSE."""

import contextlib
import os
import random
import struct
import subprocess
import uuid

import pytest

from lib import module_fixture, rdma, smb2
from lib.direct_use import warm
from lib.leases import RWH, open_leased

MIB = 1 << 20
SEED = 20
WRITE_THROUGH = 1  # MS-SMB2 2.2.21, Flags


def run(*argv):
    """Where there are no loop devices, or none for us, the tests are skipped."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip(f"{argv[0]} is not installed")
    if done.returncode != 0:
        pytest.skip(f"{argv[0]}: {done.stderr.strip()}")


class FullDisk:
    """A file system that believes in 64 MiB, of which the disk below has 8."""

    def __init__(self, directory):
        self.below, self.path = directory / "below", directory / "disk"
        self.parts = contextlib.ExitStack()
        for path in (self.below, self.path):
            path.mkdir(parents=True)

    def __enter__(self):
        with contextlib.ExitStack() as parts:
            self.mount(parts, self.below, "-t", "tmpfs", "-o", "size=8m", "tmpfs")
            image = self.below / "image"
            with open(image, "wb") as f:
                f.truncate(64 * MIB)
            run("mkfs.ext4", "-q", "-O", "^has_journal", "-E", "lazy_itable_init=1", str(image))
            self.mount(parts, self.path, "-o", "loop,errors=continue", str(image))
            self.path.chmod(0o777)
            self.parts = parts.pop_all()
        return self

    @staticmethod
    def mount(parts, at, *how):
        run("mount", *how, str(at))
        parts.callback(subprocess.run, ["umount", "--lazy", str(at)], check=True)

    def grow(self):
        """What is written from now on is kept; what could not be is lost."""
        run("mount", "-o", "remount,size=100m", str(self.below))

    def __exit__(self, *exc):
        self.parts.close()


@pytest.fixture
def disk(tmp_path):
    with FullDisk(tmp_path) as disk:
        yield disk


@pytest.fixture(params=["4.17", "4.22"])
def server(request, scratch, disk):
    shares = {"disk": {"path": str(disk.path), "vfs objects": "smbdirect"}}
    directory = scratch / f"disk-errors-{request.param}-{uuid.uuid4().hex[:6]}"
    with module_fixture.running(directory, request.param, shares=shares) as smbd:
        yield smbd


def outcome(c, disk, name, ready):
    """What a client is told that writes more than the disk keeps."""
    file = open_leased(c, name, RWH).file_id
    c.write(file, b"12345678").check()
    ready(file)
    data = random.Random(SEED).randbytes(MIB)
    for n in range(16):
        c.write(file, data, n * MIB).check()
    fd = os.open(disk.path / name, os.O_RDWR)  # an open file description of its own
    try:
        with pytest.raises(OSError):
            os.fsync(fd)
    finally:
        os.close(fd)
    disk.grow()
    ready(file)
    told = [hex(c.write(file, b"12345678", 0, flags=WRITE_THROUGH).status)]
    told.append(hex(c.rpc(smb2.FLUSH, struct.pack("<HHI16s", 24, 0, 0, file)).status))
    told.append(hex(c.close_file(file).status))
    return told


@pytest.mark.parametrize("directly", [False, True], ids=["tcp", "direct"])
def test_what_could_not_be_written_back_is_told(server, make_daemon, disk, directly):
    name = f"lost-{uuid.uuid4().hex}"
    if directly:
        daemon = make_daemon(server.port, workers=1, pool={"upstream": {"area": {"directory": str(server.links)}}})
        c = rdma.session(daemon, server, share="disk")
        told = outcome(c, disk, name, lambda file: warm(daemon, c, file))
    else:
        c = smb2.over_tcp((server.address, server.port)).start("disk", (smb2.SMB_3_0_2,), host=server.netbios_name)
        told = outcome(c, disk, name, lambda file: None)
    c.close_transport()
    assert told[0] != hex(smb2.SUCCESS), f"the client was told that all is well: {told}"
