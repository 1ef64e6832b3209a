# SPDX-License-Identifier: MIT
"""What a connection costs while it does nothing, and what is left of many when they are gone."""

import os
import resource
import selectors
import socket
import struct
import threading
import time

import pytest

from lib import smb2
from lib.process import dial, wait_until
from lib.smbdirect import SmbDirect, data_message
from test_soak import resident, sanitized

FULL = bool(os.environ.get("SMBDIRECTD_FULL"))
IDLE, HALF_OPEN, TRANSFERS = (4000, 3000, 40) if FULL else (1000, 1000, 20)
KIB, MIB = 1 << 10, 1 << 20
MESSAGES = 30  # of each client at once: all the receives that it was granted are used
BACK = 40  # seconds; memory is given back when it was not needed for some

plain = pytest.mark.skipif(sanitized(), reason="sanitizers keep freed memory back: resident memory says nothing")


class Upstream:
    """As much of a server as it takes: NEGOTIATE, SESSION_SETUP and ECHO succeed, and nothing else is asked."""

    BODIES = {
        smb2.NEGOTIATE: struct.pack("<HHHH16sIIIIQQHHI", 65, 0, 0x0300, 0, bytes(16), 0x7F, *[8 * MIB] * 3, 0, 0, 128, 0, 0),
        smb2.SESSION_SETUP: struct.pack("<HHHH", 9, 0, 72, 0) + b"\0",
        smb2.ECHO: struct.pack("<HH", 4, 0),
    }  # fmt: skip

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = self.listener.getsockname()[1]
        self.answered, self.over = 0, False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        selector, buffers = selectors.DefaultSelector(), {}
        selector.register(self.listener, selectors.EVENT_READ)
        while not self.over:
            for key, _ in selector.select(0.2):
                if key.fileobj is self.listener:
                    connection = self.listener.accept()[0]
                    selector.register(connection, selectors.EVENT_READ)
                    buffers[connection] = b""
                    continue
                connection = key.fileobj
                try:
                    data = connection.recv(1 << 16)
                except ConnectionResetError:
                    data = b""
                if not data:
                    selector.unregister(connection)
                    connection.close()
                    del buffers[connection]
                    continue
                buffers[connection] = self.serve(connection, buffers[connection] + data)
        for connection in [*buffers, self.listener]:
            connection.close()

    def serve(self, connection, data):
        out = b""
        while len(data) >= 4 and len(data) >= 4 + (size := int.from_bytes(data[:4], "big")):
            pdu, data = data[4 : 4 + size], data[4 + size :]
            (command,) = struct.unpack_from("<H", pdu, 12)
            header = bytearray(pdu[:64])
            struct.pack_into("<IHHI", header, 8, 0, command, 256, 1)  # SUCCESS, a response
            answer = bytes(header) + self.BODIES[command]
            out += struct.pack(">I", len(answer)) + answer
            self.answered += 1
        if out:
            connection.sendall(out)
        return data

    def stop(self):
        self.over = True
        self.thread.join()


@pytest.fixture
def upstream():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * max(IDLE, HALF_OPEN) + 1000
    if hard < wanted:
        pytest.skip(f"only {hard} descriptors may be open, {wanted} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    made = Upstream()
    yield made
    made.stop()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def crowded(make_daemon, upstream):
    """A daemon with one worker that takes thousands of connections from one address, and the worker's pid."""
    limits = {"connections": 10_000, "connections_per_client": 10_000, "handshake_timeout_ms": 120_000}
    limits["buffered_bytes_per_worker"] = 32 << 30  # what may be, not what is: receives count from their grant on
    pool = {"iwarp": {"crc": False}, "limits": limits}
    daemon = make_daemon(upstream.port, pool=pool, workers=1)
    return daemon, daemon.worker_pids()[0]


def connections(daemon):
    return len(daemon.ctl("connections"))


def settled(pid, most, what):
    """Waits until the process is no larger than that. Its size then."""
    seen = []

    def small():
        seen.append(resident(pid))
        return seen[-1] <= most

    wait_until(small, BACK, lambda: f"{what}: {seen[-1] / MIB:.1f} MiB, allowed are {most / MIB:.1f}", interval=0.5)
    return seen[-1]


def warm_up(daemon):
    """Everything that is allocated once is there."""
    clients = [client(daemon) for _ in range(20)]
    for c in clients:
        c.close_transport()
    wait_until(lambda: connections(daemon) == 0, 20, "the first clients to be gone")


def client(daemon):
    """One that has used all the receives of its connection, and got its answers."""
    c = smb2.Client(SmbDirect.connect((daemon.address, daemon.port), crc=False))
    c.negotiate()
    c.rpc(smb2.SESSION_SETUP, struct.pack("<HBBIIHHQ", 25, 0, 1, 1, 0, 88, 1, 0) + b"x").check()
    c.transport.wait_credit()
    count = min(MESSAGES, c.transport.send_credits - 1)
    first, wire = c.message_id, b""
    for _ in range(count):
        wire += c.transport.iwarp.frames(data_message(c.build(smb2.ECHO, smb2.ECHO_BODY)))
    c.transport.send_credits -= count
    c.transport.iwarp.send_raw(wire)
    for message_id in range(first, first + count):
        c.wait(message_id).check()
    return c


@plain
def test_idle_connections(crowded):
    """A connection that is idle costs little, and thousands of them leave nothing."""
    daemon, pid = crowded
    warm_up(daemon)
    start = resident(pid)
    clients = [client(daemon) for _ in range(IDLE)]
    assert connections(daemon) == IDLE
    peak = resident(pid)
    # Lists of slabs, tables of descriptors: not of one connection.
    idle = settled(pid, start + 4 * MIB + IDLE * 64 * KIB, f"{IDLE} idle connections, {peak / MIB:.1f} MiB at first")
    print(f"start {start / MIB:.1f} MiB; {(peak - start) / IDLE / KIB:.1f} KiB a connection that was used just now, "
          f"{(idle - start) / IDLE / KIB:.1f} idle")  # fmt: skip
    # Most go; some stay, from all over the time, and are served.
    left = clients[:: max(1, IDLE // 50)]
    for c in set(clients) - set(left):
        c.close_transport()
    wait_until(lambda: connections(daemon) == len(left), 60, "the clients to be gone")
    few = settled(pid, start + 16 * MIB, f"{len(left)} left of {IDLE}")
    for c in left:
        c.echo(30).check()
        c.close_transport()
    wait_until(lambda: connections(daemon) == 0, 60, "the clients to be gone")
    end = settled(pid, start + 16 * MIB, f"after {IDLE} connections")
    print(f"{len(left)} left: {few / MIB:.1f} MiB; none left: {end / MIB:.1f}")
    assert daemon.worker_pids() == [pid]


@plain
def test_half_open_connections(crowded):
    """Who has opened a TCP connection and says nothing costs next to nothing."""
    daemon, pid = crowded
    warm_up(daemon)
    start = resident(pid)
    sockets = [dial((daemon.address, daemon.port), 20) for _ in range(HALF_OPEN)]
    wait_until(lambda: connections(daemon) == HALF_OPEN, 60, "the worker to have them all")
    each = (resident(pid) - start) / HALF_OPEN
    print(f"start {start / MIB:.1f} MiB; {each / KIB:.1f} KiB a half-open connection")
    assert each <= 16 * KIB
    for sock in sockets:
        sock.close()
    wait_until(lambda: connections(daemon) == 0, 60, "the connections to be gone")
    end = settled(pid, start + 16 * MIB, f"after {HALF_OPEN} half-open connections")
    print(f"none left: {end / MIB:.1f} MiB")
    with client(daemon) as c:
        c.echo().check()
    assert daemon.worker_pids() == [pid]
