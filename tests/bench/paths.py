# SPDX-License-Identifier: MIT
"""The ways from the client to smbd that are compared, with the servers that make them."""

import functools
import sys

from lib import module_smbd
from lib.daemon import Connect, Smbdirectd
from lib.process import Server, at_rest, free_port, wait_until
from lib.smbd import SmbdServer

HAPROXY_CONFIG = """\
global
    nbthread 1
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen smb
    bind 127.0.0.1:{port}
    server smbd 127.0.0.1:{upstream}
"""


def listening(port):
    """Whether somebody listens on 127.0.0.1:port; asks without connecting."""
    with open("/proc/net/tcp") as f:
        rows = [line.split() for line in f.readlines()[1:]]
    return any(row[1] == f"0100007F:{port:04X}" and row[3] == "0A" for row in rows)


class Haproxy:
    """Debian's HAProxy in TCP mode on a free loopback port, in the foreground, one thread."""

    def __init__(self, directory, upstream):
        self.directory, self.upstream, self.port, self.server = directory, upstream, free_port(), None

    def __enter__(self):
        config = self.directory / "haproxy.cfg"
        config.write_text(HAPROXY_CONFIG.format(port=self.port, upstream=self.upstream))
        self.server = Server(
            "haproxy", ["/usr/sbin/haproxy", "-db", "-f", config], self.directory / "haproxy.log"
        )
        try:
            wait_until(lambda: listening(self.port), 10, lambda: f"haproxy listening: {self.server.log}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.server.end()

    @property
    def pid(self):
        return self.server.pid


class Path:
    """One row of the table. client: options of the client; processes: role -> pid, smbd aside. other_bytes(): how much has
    not gone through smbd's TCP connection, which is what the row is about."""

    def __init__(self, name, client, processes, share="share", other_bytes=lambda: 0):
        self.name, self.client, self.processes, self.share = name, client, processes, share
        self.other_bytes = other_bytes


# Both shares of one smbd: only the rows that say so go to the one with the module.
SHARES = {"share": {}, "module": {"vfs objects": "smbdirect"}}
MODULE_ROWS = {"area": "area", "direct-io": "direct"}  # and what their counters begin with


def start_smbd(stack, directory, wanted):
    """smbd, with vfs_smbdirect if a row wants it and it is to be had; without, that row is left out and the reason told."""
    directory.mkdir()
    if not MODULE_ROWS.keys() & set(wanted):
        return stack.enter_context(SmbdServer(directory, log_level=0)), wanted
    reason = module_smbd.missing()
    if reason:
        print(f"scripts/bench: without the rows {' and '.join(MODULE_ROWS)}: {reason}", file=sys.stderr, flush=True)
        return stack.enter_context(SmbdServer(directory, log_level=0)), [name for name in wanted if name not in MODULE_ROWS]
    return stack.enter_context(module_smbd.ModuleSmbd(directory, shares=SHARES, log_level=0)), wanted


def moved(daemon, way):
    return at_rest(lambda: sum(row[f"{way}_read_bytes"] + row[f"{way}_write_bytes"] for row in daemon.ctl("workers")))


def build(stack, directory, wanted):
    """Starts everything the paths named in `wanted` need, to be stopped by `stack` (an ExitStack), and returns
    (the smbd, list of Path)."""
    smbd, wanted = start_smbd(stack, directory / "smbd", wanted)
    paths = []

    def tcp(port):
        return ["--tcp", f"127.0.0.1:{port}"]

    def smbdirectd(crc, name=None, **upstream):
        name = name or f"smbdirectd-crc-{'on' if crc else 'off'}"
        daemon = Smbdirectd(
            directory / name,
            smbd.port,
            workers=1,
            pool={"iwarp": {"crc": crc}, "log": {"level": "info"}, "upstream": upstream},
            name=name,
        )
        # A benchmark must be able to end whatever it measured; what TERM leaves behind is a test's business.
        stack.callback(daemon.stop, check=False)
        daemon.start()
        return daemon, {"worker": daemon.worker_pids()[0]}

    if "direct" in wanted:
        paths.append(Path("direct", tcp(smbd.port), {}))
    if "haproxy" in wanted:
        proxy = stack.enter_context(Haproxy(directory, smbd.port))
        paths.append(Path("haproxy", tcp(proxy.port), {"haproxy": proxy.pid}))
    if "crc-off" in wanted:
        daemon, processes = smbdirectd(crc=False)
        paths.append(Path("crc-off", ["--smbdirect", daemon.target, "--crc", "off"], processes))
    for row, way in MODULE_ROWS.items():
        if row in wanted:
            upstream = {"area": {"directory": str(smbd.links)}, "direct": {"enabled": way == "direct"}}
            daemon, processes = smbdirectd(crc=False, name=f"smbdirectd-{row}", **upstream)
            client = ["--smbdirect", daemon.target, "--crc", "off", "--share", "module"]
            paths.append(Path(row, client, processes, "module", functools.partial(moved, daemon, way)))
    if "crc-on" in wanted or "connect" in wanted:
        daemon, processes = smbdirectd(crc=True)
        if "crc-on" in wanted:
            paths.append(Path("crc-on", ["--smbdirect", daemon.target, "--crc", "on"], processes))
        if "connect" in wanted:
            client = Connect(directory / "connect", daemon)
            stack.callback(client.stop, check=False)
            client.start()
            paths.append(Path("connect", tcp(client.port), {**processes, "connect": client.pid}))
    return smbd, paths


PATHS = {
    "direct": "smbd",
    "haproxy": "HAProxy -> smbd",
    "crc-off": "smbdirectd -> smbd, CRC off",
    "area": "smbdirectd -> smbd with vfs_smbdirect (shared memory), CRC off",
    "direct-io": "smbdirectd alone, on files that smbd with vfs_smbdirect has opened, CRC off",
    "crc-on": "smbdirectd -> smbd, CRC on",
    "connect": "connect -> smbdirectd -> smbd, CRC on",
}
