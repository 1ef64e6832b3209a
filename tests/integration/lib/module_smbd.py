# SPDX-License-Identifier: MIT
"""A stock smbd that has vfs_smbdirect, in a mount namespace of its own: nothing is installed.

    reason = module_smbd.missing("4.17")         why there is none, or None
    ModuleSmbd(directory, shares={"share": {"vfs objects": "smbdirect"}}).start()
    ModuleSpace(directory)                       a network namespace where whatever smbd runs has it

Its links are in `links`, which is what the pool file or a player of the daemon's end is told.
"""

import os
import pathlib
import re
import shutil
import subprocess

from lib.daemon import build_dir
from lib.netspace import NetSpace
from lib.process import descriptors_of
from lib.smbd import SMBD, SmbdServer, samba_version

ROOT = pathlib.Path(__file__).resolve().parents[3]
SAMBA = ROOT / "scripts/lib/samba"
# Layers over /usr, the first on top; what another Samba has in other places nobody needs to run it.
OVER_USR = 'layers=$1; shift; mount -t overlay -o "lowerdir=$layers:/usr" none /usr && exec "$@"'


def built():
    """Where the modules are that the build under test has made."""
    return build_dir() / "protocol/proxy/vfs"


def own_series():
    """'4.17' of this machine's smbd, '' where there is none."""
    return ".".join(map(str, samba_version()))


def other_root(series):
    """The unpacked packages of another Samba, None where they were never fetched (scripts/setup module)."""
    argv = ["/usr/bin/python3", SAMBA / "binaries.py", "--where", series]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return pathlib.Path(done.stdout.strip()) if done.returncode == 0 else None


def missing(series=None):
    """Why no smbd of that series (default: this machine's) can be started with the module; None if it can."""
    series = series or own_series()
    if os.geteuid() != 0:
        return "needs root: it makes a mount namespace"
    if not series:
        return "there is no smbd"
    if not (built() / f"smbdirect-{series}.so").exists():
        return f"vfs_smbdirect is not built for Samba {series} in {build_dir()} (scripts/setup module fetches its headers)"
    if series != own_series() and other_root(series) is None:
        return f"there is no Samba {series} here: scripts/setup module fetches its packages where the archive has them"
    return None


def stage(directory, builds=None):
    """Our modules as they are below /usr: (the directory that stands for it, the one that has our vfs/ and smbdirect/)."""
    place = directory / modules_directory().relative_to("/usr")
    for name in ("vfs", "smbdirect"):
        (place / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(built() / "smbdirect.so", place / "vfs")
    modules = sorted(built().glob("smbdirect-*.so")) if builds is None else [built() / f"smbdirect-{b}.so" for b in builds]
    for module in modules:
        shutil.copy(module, place / "smbdirect")
    return directory, place


def over_usr(stage, series):
    """The layers over /usr with that stage, and that series of Samba."""
    layers = [stage] if series == own_series() else [stage, other_root(series) / "usr"]
    return ":".join(map(str, layers))


class ModuleSpace(NetSpace):
    """A NetSpace with mounts of its own, where whatever starts an smbd starts one of that series that has the module: a
    daemon in mode "handoff" does."""

    namespaces = ("--net", "--mount")

    def __init__(self, directory, series=None):
        super().__init__()
        layers = over_usr(stage(pathlib.Path(directory) / "modules")[0], series or own_series())
        self.run("/bin/sh", "-c", OVER_USR, "sh", layers, "true")


class ModuleSmbd(SmbdServer):
    """series: whose smbd, default this machine's. builds: of which series the module is there, default all that are
    built; () leaves the shim alone with it. before_start(place): called with the directory that has our vfs/ and smbdirect/."""

    def __init__(self, directory, shares=None, options=None, series=None, builds=None, before_start=None, **kw):
        self.directory = pathlib.Path(directory)
        self.series = series or own_series()
        self.links = self.directory / "links"
        self.links.mkdir(mode=0o700)
        options = {"smbdirect:directory": self.links, **(options or {})}
        shares = {"share": {"vfs objects": "smbdirect"}} if shares is None else shares
        self.stage, place = stage(self.directory / "modules", builds)
        if before_start:
            before_start(place)
        super().__init__(directory, shares=shares, options=options, **kw)

    def within(self, argv):
        """That command where this smbd and its modules are."""
        unshare = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", OVER_USR, "sh"]
        return [*unshare, over_usr(self.stage, self.series), *argv]

    def run_there(self, *argv):
        """Runs that program of this smbd's Samba."""
        argv = [str(word) for word in self.within(argv)]
        subprocess.run(argv, stdin=subprocess.DEVNULL, check=True, capture_output=True, timeout=30)

    def link_path(self, client):
        """Where the smbd process listens that serves this client (lib.smb2.Client over TCP)."""
        return self.links / str(self.server_pid(client))

    def server_pid(self, client):
        """The process at the other end of the client's TCP connection: what the daemon learns by sock_diag."""
        port = client.transport.sock.getsockname()[1]
        with open("/proc/net/tcp") as f:
            rows = [line.split() for line in f.readlines()[1:]]
        inodes = {r[9] for r in rows if r[1].endswith(f":{self.port:04X}") and r[2].endswith(f":{port:04X}")}
        for pid in self.client_pids():
            if sockets_of(pid) & inodes:
                return pid
        raise AssertionError(f"no process has the other end of port {port}")


def sockets_of(pid):
    """The inodes of the sockets that a process has."""
    return {found[1] for target in descriptors_of(pid).values() if (found := re.match(r"socket:\[(\d+)\]", target))}


def modules_directory():
    """/usr/lib/x86_64-linux-gnu/samba"""
    text = subprocess.run([SMBD, "-b"], stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
    return pathlib.Path(re.search(r"MODULESDIR: (\S+)", text)[1])
