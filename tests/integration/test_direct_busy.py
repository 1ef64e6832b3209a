# SPDX-License-Identifier: MIT
"""A file whose CLOSE has been answered is open nowhere any more: whoever runs a program that a client has just written, takes a
kernel lease or unmounts, is not told that it is busy, as over TCP."""

import errno
import fcntl
import os
import pathlib
import tempfile
import threading
import time
import uuid

import pytest

from lib import module_fixture, rdma, smb2
from lib.direct_use import warm
from lib.leases import ALL_ACCESS, RWH, open_leased
from test_direct_deleted import SIZE, delete, large

MEMORY = pathlib.Path("/dev/shm")


@pytest.fixture(scope="module", params=["4.17"])
def server(request, scratch):
    with tempfile.TemporaryDirectory(prefix="smbdirectd-test-", dir=MEMORY) as directory:
        os.chmod(directory, 0o777)
        shares = {"share": {"vfs objects": "smbdirect", "path": directory}, "plain": {"path": directory}}
        with module_fixture.running(scratch / f"busy-{request.param}", request.param, shares=shares) as smbd:
            smbd.memory = pathlib.Path(directory)
            yield smbd


@pytest.fixture
def daemon(server, make_daemon):
    return make_daemon(server.port, workers=1, pool={"upstream": {"area": {"directory": str(server.links)}}})


def client(server, daemon, how):
    if how == "direct":
        return rdma.session(daemon, server, user=True)
    c = smb2.over_tcp((server.address, server.port))
    return c.start("plain", (smb2.SMB_3_0_2,), user=server.user, password=server.password, host=server.netbios_name)


def run(path):
    """The errno with which the kernel refuses a program that is none; ETXTBSY: somebody has it open for writing."""
    try:
        os.execv(path, [str(path)])
    except OSError as e:
        return e.errno


def lease(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        return 0
    except OSError as e:
        return e.errno
    finally:
        os.close(fd)


@pytest.mark.parametrize("what", ["run", "lease"])
@pytest.mark.parametrize("how", ["tcp", "direct"])
def test_a_closed_file_is_open_nowhere(server, daemon, how, what):
    c = client(server, daemon, how)
    if how == "direct":
        one = open_leased(c, f"warm-{uuid.uuid4().hex}", RWH).file_id
        c.write(one, bytes(100)).check()
        warm(daemon, c, one)
    seen = []
    for _ in range(200):
        name = f"program-{uuid.uuid4().hex}"
        path = server.memory / name
        file = open_leased(c, name, RWH).file_id
        for _ in range(4):
            c.write(file, b"garbage" * 100).check()
        path.chmod(0o777)
        c.close_file(file).check()
        seen.append(run(path) if what == "run" else lease(path))
    c.close_transport()
    expected = errno.ENOEXEC if what == "run" else 0
    wrong = [errno.errorcode.get(one, one) for one in seen if one != expected]
    assert not wrong, f"{len(wrong)} of {len(seen)}: {set(wrong)}"


@pytest.mark.parametrize("how", ["tcp", "direct"])
def test_another_client_deletes_a_large_file(server, daemon, how):
    """A's program is written and closed while the blocks of B's file are freed."""
    a, b = client(server, daemon, how), client(server, daemon, how)
    path, fd = large(server)
    os.close(fd)
    theirs = open_leased(b, path.name, RWH, access=ALL_ACCESS | 0x00010000).file_id
    b.write(theirs, bytes(100)).check()
    if how == "direct":
        warm(daemon, b, theirs)
    name = f"program-{uuid.uuid4().hex}"
    program = server.memory / name
    file = open_leased(a, name, RWH).file_id
    a.write(file, b"garbage" * 100).check()
    if how == "direct":
        warm(daemon, a, file)
    program.chmod(0o777)
    t = threading.Thread(target=delete, args=(b, theirs))
    t.start()
    if how == "direct":
        t.join()
    else:
        time.sleep(0.05)
    a.close_file(file).check()
    seen = run(program)
    t.join()
    for c in (a, b):
        c.close_transport()
    assert seen == errno.ENOEXEC, f"{errno.errorcode.get(seen, seen)} after the CLOSE was answered"
