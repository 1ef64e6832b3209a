# SPDX-License-Identifier: MIT
"""A server's and a client's host as two network namespaces, for the upstream modes in which smbd sees the client."""

import os

from lib import rdma, smb2
from lib.daemon import Smbdirectd
from lib.netspace import NetSpace, SmbdInside
from lib.process import children_of, command_line

# The server's address, and two of the client's.
FAMILIES = {"IPv4": ("10.9.9.1", "10.9.9.77", "10.9.9.78"), "IPv6": ("fd99::1", "fd99::77", "fd99::78")}


class Lan:
    """smbd and smbdirectd on one host (two addresses), and another host with two addresses a family: smbd lets in the
    first of each. here: the server's NetSpace; options, shares: smbd's; what is left goes into the pool file."""

    def __init__(self, directory, mode, affinity="spread", here=None, options=None, shares=None, upstream=None, **more):
        self.mode = mode
        self.here, self.there = here or NetSpace(), NetSpace()
        prefix = {4: "/24", 6: "/64"}
        addresses = [[f"{a}{prefix[6 if ':' in a else 4]}" for a in side] for side in zip(*FAMILIES.values())]
        self.here.link_to(self.there, addresses[0], addresses[1] + addresses[2])
        options = {"hosts allow": " ".join(clients[1] for clients in FAMILIES.values()), **(options or {})}
        self.smbd = SmbdInside(self.here, directory, options=options, shares=shares).start()
        self.before = self.here.state()
        pool = {
            "run_directory": str(directory / "run"),
            "affinity": affinity,
            **more,
            "listeners": [{"address": server, "port": 5445} for server, *_ in FAMILIES.values()],
            "upstream": {
                "mode": mode,
                "port": 445,
                "handoff": {"configfile": str(self.smbd.config)},
                **(upstream or {}),
            },
        }
        self.daemon = Smbdirectd(directory, 445, pool=pool, space=self.here).start()

    def client(self, family, which=1, **kw):
        """An smb2.Client over SMB Direct from the other host, not yet negotiated."""
        server, *clients = FAMILIES[family]
        source = (clients[which - 1], 0)
        return self.there.socket_in(
            lambda: smb2.Client(rdma.SmbDirect.connect((server, 5445), source=source), kw.pop("guid", None))
        )

    def session(self, family, **kw):
        smbd = self.smbd
        return self.client(family, **kw).start(
            dialects=(smb2.SMB_3_0_2,), user=smbd.user, password=smbd.password, host=smbd.netbios_name
        )

    def serving(self):
        """Pids of the smbd processes that have a session, as smbstatus tells."""
        lines = self.here.run("smbstatus", "-p", "-s", self.smbd.config).splitlines()
        return sorted({int(line.split()[0]) for line in lines if line[:1].isdigit()})

    def spawned(self):
        """Pids of the daemon's `smbd -i`."""
        return [p for p in children_of(self.daemon.pid) if [os.path.basename(w) for w in command_line(p)[:1]] == ["smbd"]]

    def smbd_log(self):
        """Of the smbd that serves a client: in mode "handoff" it logs through the daemon."""
        return self.smbd.log_tail(400) + (self.daemon.log if self.mode == "handoff" else "")

    def stop(self):
        try:
            self.daemon.stop()
            assert self.here.state() == self.before
        finally:
            self.smbd.stop()
            self.here.close()
            self.there.close()
