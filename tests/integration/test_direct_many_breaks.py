# SPDX-License-Identifier: MIT
"""A client that has many files open with leases, and somebody else who opens one after the other: each costs the first one's smbd
as much as it does without direct I/O, however many are open."""

import contextlib
import os
import uuid

import pytest

from lib import module_fixture, rdma, smb2
from lib.direct_use import warm
from lib.leases import READ_ACCESS, RH, RWH, acknowledge, open_leased, opened, send_open, wait_break

FILES = (50, 3800)
BROKEN = 40


@pytest.fixture(scope="module", params=["4.17", "4.22"])
def server(request, scratch):
    shares = {"share": {"vfs objects": "smbdirect"}, "plain": {}}
    with module_fixture.running(scratch / f"breaks-{request.param}", request.param, shares=shares) as smbd:
        yield smbd


def over_tcp(server, share):
    c = smb2.over_tcp((server.address, server.port))
    return c.start(share, (smb2.SMB_3_0_2,), user=server.user, password=server.password, host=server.netbios_name)


def cpu(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def per_break(server, make_daemon, how, files):
    """Seconds of a processor, of A's smbd."""
    share = "share" if how == "direct" else "plain"
    known = set(server.client_pids())
    if how == "direct":
        daemon = make_daemon(server.port, workers=1, pool={"upstream": {"area": {"directory": str(server.links)}}})
        a = rdma.session(daemon, server, user=True)
    else:
        a = over_tcp(server, share)
    (pid,) = set(server.client_pids()) - known
    b = over_tcp(server, share)
    with contextlib.closing(a.transport), contextlib.closing(b.transport):
        stem = uuid.uuid4().hex
        ids = []
        for i in range(files):
            ids.append(open_leased(a, f"{stem}-{i}", RWH).file_id)
        if how == "direct":
            a.write(ids[0], bytes(100)).check()
            warm(daemon, a, ids[0])
        used = cpu(pid)
        for i in range(1, BROKEN + 1):
            message_id, key = send_open(b, f"{stem}-{i}", RH, access=READ_ACCESS)
            acknowledge(a, wait_break(a)).check()
            opened(b.wait(message_id), key)
        return (cpu(pid) - used) / BROKEN


def test_what_a_break_costs(server, make_daemon):
    seen = {(how, files): per_break(server, make_daemon, how, files) for how in ("tcp", "direct") for files in FILES}
    more = {how: seen[how, FILES[1]] - seen[how, FILES[0]] for how in ("tcp", "direct")}
    assert more["direct"] < more["tcp"] + 0.003, more
