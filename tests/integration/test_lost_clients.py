# SPDX-License-Identifier: MIT
"""What smbd sees of a client that is gone (workers/session/session.h), and what others have of that."""

import os

import pytest

from lib import leases, rdma, smb2
from lib.ground import Ground
from lib.process import alive, held_asleep, wait_until

SOON = 10  # seconds; smbd gives up a client that does not answer a break after 35


@pytest.fixture
def other(smbd):
    """Another client, over TCP."""
    client = smb2.over_tcp((smbd.address, smbd.port)).start("share", (smb2.SMB_3_0_2,), host=smbd.netbios_name)
    yield client
    client.close_transport()


def reset(c):
    Ground.reset(c.transport.iwarp)


def close(c):
    c.close_transport()


@pytest.mark.parametrize("go", [reset, close])
def test_a_break_that_smbd_finds_with_the_end_of_its_client(daemon, smbd, other, go):
    """The other one has the file at once, as when the client comes over TCP. A reset Samba before 4.25 would take no notice
    of then, and keep the client's process (bug 15995)."""
    known = set(smbd.client_pids())
    client = rdma.session(daemon, smbd)
    (pid,) = wait_until(lambda: set(smbd.client_pids()) - known, 10, "the client's smbd")
    name = f"lost-{os.urandom(4).hex()}"
    opened = leases.open_leased(client, name)
    assert opened.state == leases.RWH
    with held_asleep(pid):
        waiting = leases.send_open_that_waits(other, name)
        go(client)
        wait_until(lambda: pid not in smbd.client_pids(), 10, "the worker has closed its stream")
    other.wait(waiting, SOON).check()
    wait_until(lambda: not alive(pid), SOON, f"the end of smbd {pid}")
