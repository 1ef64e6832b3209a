# SPDX-License-Identifier: MIT
"""What local users can do: at the daemon's control socket, through its log, at smbdirect-connect's port. Each function is
one attack (lib/ground.py)."""

import contextlib
import socket

from lib import smb2
from lib.attacks_smb import MIB


def offences(g):
    """Each of a client that has not been in the log before, which gives a line of some kilobytes."""

    def once():
        s = g.smbdirect(clients=2000)
        s.send_message(b"x" * 64, offset=25)

    g.again(once)


def control_socket_squatters(g):
    """Connections to the control socket that say nothing."""
    while not g.over():
        for _ in range(10):
            s = g.hold(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            s.setblocking(False)
            with contextlib.suppress(OSError):
                s.connect(str(g.daemon.directory / "run" / "control"))
                g.did += 1
        g.drop(keep=100)
        g.rest(0.1)


# --- smbdirect-connect's other clients ---


def local(g):
    return g.hold(socket.create_connection(("127.0.0.1", g.connect.port), timeout=1))


def local_session(g):
    c = smb2.over_tcp(("127.0.0.1", g.connect.port))
    g.hold(c.transport.sock)
    c.timeout = 2
    return c.start(dialects=(smb2.SMB_3_0_2,), host=g.smbd.netbios_name)


def local_garbage(g):
    def once():
        s = local(g)
        s.sendall(g.random.randbytes(g.random.randrange(1, 400)))
        if g.did % 4 == 0:
            s.recv(100)

    g.again(once)


def local_reads_nobody_takes(g):
    """Sessions that ask for much and take nothing."""
    (g.smbd.share_path() / "local-unread").write_bytes(bytes(MIB))

    def make():
        c = local_session(g)
        c.transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        f = c.create("local-unread")
        while c.credits < 16 * 16:
            c.echo().check()
        for _ in range(16):
            c.send_read(f, MIB, 0)
            g.did += 1
        return c

    g.many(6, make)
    g.rest()


AT_CONNECT = [local_garbage, local_reads_nobody_takes]
