# SPDX-License-Identifier: MIT
"""The kernel's SMB client: mounts of it, and what it tells of itself in /proc/fs/cifs."""

import contextlib
import pathlib
import re
import subprocess

from lib import kernels
from lib.network import link, modprobe, run

PROC = pathlib.Path("/proc/fs/cifs")


def load():
    """cifs.ko; the ciphers it wants are loaded as it asks for them.

    ib_uverbs before it, hence before rdma_cm: a device that is removed leaves its users in the reverse order of their
    loading. The other way round the server's queue pairs go first, the client connects again, over a device that
    rdma_cm still offers, and is then told of the removal in the middle of it: 6.1's smbd_conn_upcall wakes a queue
    that it has not initialised yet, and the guest panics."""
    modprobe("ib_uverbs")
    modprobe("cifs")


class Mount:
    """Mount(directory, "192.0.2.1", rdma=True, ...).mount() ... .unmount(), or `with Mount(...) as m`.

    options     further mount options, as for mount -o: {"cache": "none", "nosharesock": True}
    """

    def __init__(self, directory, address, share="share", rdma=False, port=None, vers="3.1.1", user="root",
                 password="Passw0rd!", options=None):  # fmt: skip
        self.directory = pathlib.Path(directory)
        self.source = f"//{address}/{share}" if ":" not in address else f"//[{address}]/{share}"
        self.options = {"vers": vers, "username": user, "password": password, **(options or {})}
        self.rdma = rdma
        if rdma:
            self.options["rdma"] = True
        if port:
            self.options["port"] = port
        self.mounted = False

    @property
    def path(self):
        return self.directory

    def mount(self, timeout=60, check=True):
        self.directory.mkdir(parents=True, exist_ok=True)
        text = ",".join(k if v is True else f"{k}={v}" for k, v in self.options.items() if v is not False)
        for attempt in range(1, kernels.ATTEMPTS + 1):
            watch = kernels.UnreadNegotiation() if self.rdma and link("siw0") else contextlib.nullcontext()
            try:
                with watch:
                    done = run("mount", "-t", "cifs", self.source, self.directory, "-o", text, timeout=timeout, check=False)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"mount of {self.source} with {text} hangs: {debug_data()}") from None
            if done.returncode == 0 or attempt == kernels.ATTEMPTS or not getattr(watch, "stuck", False):
                break
            print(f"(void mount: attempt {attempt}: siw did not read the negotiate request that came while it set up the "
                  f"connection)", flush=True)
        self.mounted = done.returncode == 0
        assert self.mounted or not check, f"mount of {self.source} with {text}: {done.stdout}{done.stderr}"
        return self if check else done

    def unmount(self, timeout=60):
        if not self.mounted:
            return
        self.mounted = False
        try:
            run("umount", self.directory, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"umount of {self.source} hangs: {debug_data()}")  # after what led to it

    def remount(self):
        """Away and back: nothing of the client's cache is left."""
        self.unmount()
        return self.mount()

    def __enter__(self):
        return self.mount()

    def __exit__(self, *_):
        self.unmount()


def debug_data():
    try:
        return (PROC / "DebugData").read_text()
    except OSError as e:
        return f"({e})"


def smb_direct_values():
    """What DebugData tells of the first SMB Direct connection: name -> number. Hexadecimal until 6.12; 7.x writes decimal
    numbers and the status as a word."""
    data = debug_data()
    base, begin = (16, "\nSMBDirect (in hex)") if "\nSMBDirect (in hex)" in data else (10, "\nSMBDirect protocol version")
    lines = data.partition(begin)[2].partition("\nNumber of credits")[0]
    return {name: int(value, base) for name, value in re.findall(r"(\w+): ?([0-9a-f]+)\b", lines) if base == 16 or value.isdigit()}


def clear_stats():
    (PROC / "Stats").write_text("1")


def stats():
    """Operation -> (total, failed) as the client counts them since clear_stats(), over all shares."""
    out = {}
    for name, total, failed in re.findall(r"(\w+): (\d+) total (\d+) failed", (PROC / "Stats").read_text()):
        before = out.get(name, (0, 0))
        out[name] = (before[0] + int(total), before[1] + int(failed))
    return out
