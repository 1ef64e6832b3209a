# SPDX-License-Identifier: MIT
"""Direct I/O changes nothing that a client can see: random traces of two clients, once against a stock smbd over TCP and once
through smbdirectd with vfs_smbdirect. Every answer's status and data, and every file's bytes, size and attributes in the end."""

import contextlib
import os
import struct

import pytest

from lib import module_fixture, rdma, smb2
from lib.traces import FILES, Player, contents, trace

SEED = int(os.environ.get("SMBDIRECTD_SEED", "20261130"))
TRACES = 2000 if os.environ.get("SMBDIRECTD_FULL") else 36
ATTRIBUTES = 4  # FileBasicInformation


@pytest.fixture(scope="module", params=["4.17", "4.22"])
def server(request, scratch):
    shares = {"share": {"vfs objects": "smbdirect"}, "plain": {}}
    with module_fixture.running(scratch / f"traces-{request.param}", request.param, shares=shares) as smbd:
        yield smbd


@contextlib.contextmanager
def over_tcp(smbd):
    who = {"user": smbd.user, "password": smbd.password, "host": smbd.netbios_name}
    address = (smbd.address, smbd.port)
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(smb2.over_tcp(address)).start("plain", (smb2.SMB_3_0_2,), **who)
        second = stack.enter_context(smb2.over_tcp(address, first.guid)).bind(first, smbd.user, smbd.password)
        other = stack.enter_context(smb2.over_tcp(address)).start("plain", (smb2.SMB_3_0_2,), **who)
        yield {(0, 0): first, (0, 1): second, (1, 0): other}


@contextlib.contextmanager
def through(daemon, smbd):
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(rdma.session(daemon, smbd, user=True))
        second = stack.enter_context(rdma.client(daemon, first.guid)).bind(first, smbd.user, smbd.password)
        other = stack.enter_context(rdma.session(daemon, smbd, user=True))
        yield {(0, 0): first, (0, 1): second, (1, 0): other}


def fill(smbd, share, label, seed):
    for number, data in enumerate(contents(seed)):
        if data is not None:
            (smbd.share_path(share) / f"{label}-{number}").write_bytes(data)


def left(smbd, share, label):
    """Of each file: its bytes, and its attributes as a client sees them."""
    found = {}
    with smb2.over_tcp((smbd.address, smbd.port)) as c:
        c.start(share, user=smbd.user, password=smbd.password, host=smbd.netbios_name)
        for number in range(FILES):
            path = smbd.share_path(share) / f"{label}-{number}"
            if not path.exists():
                continue
            file = c.create(path.name, disposition=1)
            body = struct.pack("<HBBIHHIII16s", 41, 1, ATTRIBUTES, 64, 0, 0, 0, 0, 0, file)
            answer = c.rpc(smb2.QUERY_INFO, body).check()
            found[number] = path.read_bytes(), struct.unpack_from("<I", answer.pdu, 72 + 32)
            c.close_file(file).check()
            path.unlink()
    return found


def direct(daemon):
    """(READs, WRITEs) that workers did themselves."""
    rows = daemon.ctl("workers")
    return tuple(sum(row[name] or 0 for row in rows) for name in ("direct_reads", "direct_writes"))


def shown(step, number, plain, ours):
    def short(answer):
        return answer and (hex(answer[0]), f"{len(answer[1])} bytes" if isinstance(answer[1], bytes) else answer[1])

    return f"step {number}, {step}: {short(plain)} over TCP, {short(ours)} through smbdirectd"


def test_a_client_sees_no_difference(server, make_daemon):
    daemon = make_daemon(server.port, pool={"upstream": {"area": {"directory": str(server.links)}}})
    other_leases = []
    with over_tcp(server) as tcp, through(daemon, server) as ours:
        plain, proxied = Player(tcp, False), Player(ours, True)
        for seed in range(SEED, SEED + TRACES):
            steps, label = trace(seed), f"t{seed}"
            for share in ("plain", "share"):
                fill(server, share, label, seed)
            expected, their_leases = plain.play(steps, label)
            answers, our_leases = proxied.play(steps, label)
            for number, step in enumerate(steps):
                assert answers[number] == expected[number], f"seed {seed}: {shown(step, number, expected[number], answers[number])}"
            assert left(server, "share", label) == left(server, "plain", label), f"seed {seed}: what is left differs"
            if sorted(map(str, our_leases)) != sorted(map(str, their_leases)):
                other_leases.append((seed, their_leases, our_leases))
        # smbd tells another process of a break by a message that the next request may overtake.
        assert len(other_leases) <= TRACES // 10, other_leases[:3]
        reads, writes = direct(daemon)
    assert reads > 2 * TRACES and writes > TRACES, f"{reads} READs and {writes} WRITEs were direct in {TRACES} traces"
