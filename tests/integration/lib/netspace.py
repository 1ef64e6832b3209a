# SPDX-License-Identifier: MIT
"""Network namespaces for tests that change routing: each is held by a process of ours and goes with it."""

import json
import os
import subprocess

from lib.process import has_name, wait_until
from lib.smbd import SmbdServer


class NetSpace:
    """A network namespace with lo up. `with NetSpace() as ns: ns.run("ip", "rule")`."""

    namespaces = ("--net",)  # as unshare and nsenter call them

    def __init__(self):
        self.holder = subprocess.Popen(["unshare", *self.namespaces, "sleep", "infinity"], stdin=subprocess.DEVNULL)
        here = os.readlink("/proc/self/ns/net")

        def entered():
            return self.holder.poll() is not None or os.readlink(f"/proc/{self.holder.pid}/ns/net") != here

        wait_until(entered, 5, "a network namespace of our own")
        wait_until(lambda: has_name(self.holder.pid, "sleep"), 5, "sleep in it")
        self.run("ip", "link", "set", "lo", "up")

    def wrap(self, *argv):
        return ["nsenter", "--target", str(self.holder.pid), *self.namespaces, *map(str, argv)]

    def run(self, *argv, check=True):
        r = subprocess.run(self.wrap(*argv), capture_output=True, text=True, timeout=20)
        assert r.returncode == 0 or not check, f"{argv}: {r.stdout}{r.stderr}"
        return r.stdout

    def sysctl(self, name, value=None):
        path = "/proc/sys/" + name.replace(".", "/")
        if value is not None:
            self.run("sh", "-c", f"echo {value} > {path}")
        return self.run("cat", path).strip()

    def rules(self, family=4):
        return json.loads(self.run("ip", f"-{family}", "-N", "-j", "rule"))

    def routes(self, table, family=4):
        # A table that was never used is an error to "ip route show".
        text = self.run("ip", f"-{family}", "-N", "-j", "route", "show", "table", table, check=False)
        return [] if text.strip() == "[" else [r for r in json.loads(text or "[]") if r]

    def state(self):
        """Everything that mode "transparent" touches."""
        return (
            self.rules(4),
            self.rules(6),
            self.routes(5342, 4),
            self.routes(5342, 6),
            self.sysctl("net.ipv4.tcp_fwmark_accept"),
        )

    def link_to(self, other, addresses, other_addresses):
        """A veth pair "net0" between the two, with these addresses (CIDR)."""
        self.run("ip", "link", "add", "net0", "type", "veth", "peer", "name", "net0", "netns", str(other.holder.pid))
        for side, own in ((self, addresses), (other, other_addresses)):
            for address in own:
                nodad = ["nodad"] if ":" in address else []
                side.run("ip", "address", "add", address, "dev", "net0", *nodad)
            side.run("ip", "link", "set", "net0", "up")

    def socket_in(self, make):
        """What make() returns or raises, called by a thread inside the namespace."""
        import ctypes
        import threading

        out = []

        def inside():
            libc = ctypes.CDLL(None, use_errno=True)
            fd = os.open(f"/proc/{self.holder.pid}/ns/net", os.O_RDONLY)
            entered = libc.setns(fd, 0x40000000)  # CLONE_NEWNET; this thread alone, which ends
            os.close(fd)
            try:
                out.append(make() if entered == 0 else OSError(ctypes.get_errno(), "setns"))
            except Exception as e:
                out.append(e)

        thread = threading.Thread(target=inside, daemon=True)
        thread.start()
        thread.join()
        if isinstance(out[0], Exception):
            raise out[0]
        return out[0]

    def close(self):
        self.holder.kill()
        self.holder.wait()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class SmbdInside(SmbdServer):
    """A stock smbd in a namespace, on port 445 of all its addresses."""

    def __init__(self, space, directory, options=None, **kw):
        options = {"interfaces": "lo net0", "smb ports": 445, **(options or {})}
        super().__init__(directory, options=options, port=445, log_level=3, **kw)
        self.space = space

    def command(self):
        return self.space.wrap(*super().command())

    def _listening(self):
        return ":445 " in self.space.run("ss", "-ltn")

    def status(self):
        return self.space.run("smbstatus", "-s", self.config)
