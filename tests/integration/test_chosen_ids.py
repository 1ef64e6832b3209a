# SPDX-License-Identifier: MIT
"""MessageIds that a client chooses so that they fall together in a table make nobody wait.

smbd looks at MessageIds after the worker has, so it does not matter that they were never granted.
"""

import contextlib

import pytest

from lib import attacks_smb, rdma, smb2
from lib.ground import ENDED
from lib.measured import Measured

BEFORE_SESSION = 1 << 20  # bytes of a request of somebody's who is not logged in
CLIENTS, SLOWEST_S = 40, 1


@pytest.fixture
def lone(make_daemon, smbd):
    """One worker, the default limits, and somebody who is served by it."""
    daemon = make_daemon(smbd.port, workers=1, pool={"iwarp": {"crc": False}})
    bystander = Measured("rdma", [daemon.address, daemon.port], smbd.netbios_name, "127.0.0.77")
    yield daemon, bystander
    bystander.stop()


def check(daemon, worker, fared):
    print(fared)
    assert not fared.failure
    assert fared.slowest < SLOWEST_S, f"{fared.what} took {fared.slowest:.2f} s"
    assert daemon.worker_pids() == worker


def test_one_message_of_a_session(lone, smbd):
    daemon, bystander = lone
    worker = daemon.worker_pids()
    c = rdma.session(daemon, smbd, crc=False)
    bystander.take()
    with contextlib.suppress(*ENDED):
        c.transport.send_pdu(attacks_smb.colliding_echoes(65000))
        c.transport.pump(3)
    check(daemon, worker, bystander.take())


def test_nobody_is_logged_in(lone):
    """All but the last byte of each message first: then they are all complete in one turn of the worker's."""
    daemon, bystander = lone
    worker = daemon.worker_pids()
    pdu = attacks_smb.colliding_echoes(BEFORE_SESSION // attacks_smb.ECHO_IN_CHAIN)
    clients = [rdma.client(daemon, crc=False, source=("127.0.0.78", 0)) for _ in range(CLIENTS)]
    for c in clients:
        c.negotiate((smb2.SMB_3_0_2,)).check()
        t = c.transport
        room = t.max_send_size - 24
        for start in range(0, len(pdu) - 1, room):
            t.wait_credit()
            part = pdu[start : min(start + room, len(pdu) - 1)]
            t.send_message(part, remaining=len(pdu) - start - len(part), credits_granted=t.grantable())
        t.wait_credit()
    bystander.take()
    for c in clients:
        with contextlib.suppress(*ENDED):
            c.transport.send_message(pdu[-1:])
    check(daemon, worker, bystander.over(2))
