# SPDX-License-Identifier: MIT
"""What local users can do: at the daemon's control socket, through its log, at smbdirect-connect's port. Each function is
one attack (lib/ground.py)."""

import contextlib
import socket
import struct

from lib import smb2
from lib.attacks_smb import MIB
from lib.ground import ENDED


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


def local_silence(g):
    """Connections that say nothing, or announce a message and send half of it."""
    while not g.over():
        for s in g.many(10, lambda: local(g)):
            with contextlib.suppress(OSError):
                if g.random.random() < 0.5:
                    s.sendall(struct.pack(">I", MIB) + smb2.header(smb2.WRITE, 1) + bytes(1000))
                g.did += 1
        g.drop(keep=100)
        g.rest(0.1)


def local_squatters(g):
    """More than there may be at once, that say nothing and stay."""
    g.many(300, lambda: local(g))
    g.did = len(g.held)
    g.rest()


def local_silent_after_negotiate(g):
    """As many as get in, that do not log in and stay."""

    def make():
        c = smb2.over_tcp(("127.0.0.1", g.connect.port))
        g.hold(c.transport.sock)
        c.timeout = 1
        c.negotiate((smb2.SMB_3_0_2,)).check()
        g.did += 1

    while not g.over():
        g.many(40, make)
        g.rest(0.1)


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


def local_pending_pipes(g):
    """READs of a pipe that has nothing to say, as many as there are credits."""

    def once():
        c = smb2.over_tcp(("127.0.0.1", g.connect.port))
        g.hold(c.transport.sock)
        c.timeout = 1
        c.start("IPC$", (smb2.SMB_3_0_2,), user=g.smbd.user, password=g.smbd.password, host=g.smbd.netbios_name)
        f = c.create("srvsvc", share=3, options=0)
        while not g.over():
            c.send_read(f, 65536, 0)
            g.did += 1

    with contextlib.suppress(*ENDED, smb2.Status):
        once()
    g.rest()


AT_CONNECT = [
    local_garbage,
    local_silence,
    local_squatters,
    local_silent_after_negotiate,
    local_reads_nobody_takes,
    local_pending_pipes,
]
