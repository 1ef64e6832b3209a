# SPDX-License-Identifier: MIT
"""A compound of very many requests that end something, of a client with very many open files: the others of its worker go on."""

import contextlib
import os
import struct
import threading
import time

import pytest

from lib import leases, module_fixture, rdma, smb2
from lib.direct_use import shares
from lib.leases import RWH
from lib.module_smbd import own_series
from lib.process import wait_until

FILES = 3000
REQUESTS = 60_000

pytestmark = pytest.mark.costs_workers


@pytest.fixture(scope="module")
def server(scratch):
    with module_fixture.running(scratch / "compound", own_series()) as smbd:
        yield smbd


def open_many(c):
    asked = []
    for i in range(FILES):
        asked.append(c.send(smb2.CREATE, leases.create_body(f"f{i}", [leases.lease_context(os.urandom(16), RWH)])))
        if len(asked) > 20:
            c.wait(asked.pop(0), 20).check()
    for message_id in asked:
        c.wait(message_id, 20).check()


def compound(c, command, body, tree):
    step = 64 + len(body)

    def element(i):
        next_command = 0 if i == REQUESTS - 1 else step
        return smb2.header(command, 10_000_000 + i, session_id=c.session_id, tree_id=tree, next_command=next_command, credits=1)

    return b"".join(element(i) + body for i in range(REQUESTS))


@pytest.mark.parametrize("command", ["TREE_DISCONNECT", "CLOSE"])
def test_others_go_on(make_daemon, server, command):
    daemon = make_daemon(server.port, workers=1, pool={"upstream": {"area": {"directory": str(server.links)}}})
    with contextlib.ExitStack() as stack:
        c, other = (rdma.session(daemon, server, source=(f"127.0.0.{n}", 0)) for n in (8, 9))
        stack.callback(c.close_transport)
        stack.callback(other.close_transport)
        open_many(c)
        wait_until(lambda: shares(daemon)[2] > 100, 30, "files that are granted")  # there is a limit
        if command == "CLOSE":
            pdu = compound(c, smb2.CLOSE, smb2.close_body(os.urandom(16)), c.tree_id)
        else:
            pdu = compound(c, smb2.TREE_DISCONNECT, struct.pack("<HH4x", 4, 0), c.tree_id + 12345)
        slowest = 0

        def send():
            with contextlib.suppress(Exception):  # smbd may end the connection
                c.transport.send_pdu(pdu, timeout=60)

        sender = threading.Thread(target=send)
        sender.start()
        end = time.monotonic() + 5
        while sender.is_alive() or time.monotonic() < end:
            sent = time.monotonic()
            other.echo(timeout=30).check()
            slowest = max(slowest, time.monotonic() - sent)
        sender.join()
        assert slowest < 0.5
