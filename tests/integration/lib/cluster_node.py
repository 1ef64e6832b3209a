# SPDX-License-Identifier: MIT
"""One node of a cluster on this machine: namespaces of its own (network, mounts, processes, host name) in which the distribution's
CTDB, its event scripts and smbd run as they do on a host, and write below one directory."""

import os
import pathlib
import re
import shutil
import signal
import subprocess

from lib.daemon import program
from lib.netspace import NetSpace
from lib.process import children_of, has_name, tail, wait_until

HERE = pathlib.Path(__file__).resolve().parent
CONF = HERE.parents[2] / "conf"
INIT = HERE / "cluster_init.sh"
NAMESPACES = ("--net", "--mount", "--pid", "--uts", "--ipc")
TOOLS = ("ctdbd", "smbd", "smbpasswd", "ethtool", "iptables", "unshare", "nsenter", "setpriv", "ss", "flock", "start-stop-daemon")


def unshare(*command):
    """Ends with whoever started it."""
    return ["setpriv", "--pdeathsig", "KILL", "unshare", *NAMESPACES, "--fork", "--kill-child", "--propagation", "private",
            "--mount-proc", *map(str, command)]  # fmt: skip


def why_not():
    """What this machine lacks for nodes; empty: nothing."""
    if os.geteuid() != 0:
        return "needs root: it makes namespaces and mounts"
    missing = [tool for tool in TOOLS if not shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin")]
    if missing:
        return f"needs {', '.join(missing)} (scripts/setup test installs them)"
    script = (
        "d=$(mktemp -d) && mount -t tmpfs tmpfs $d && mkdir $d/u $d/w && ip link add type veth && mount -t sysfs sysfs /sys && "
        "mount -t overlay -o lowerdir=/etc,upperdir=$d/u,workdir=$d/w overlay /etc; s=$?; umount $d; rmdir $d; exit $s"
    )
    tried = subprocess.run(unshare("sh", "-c", script), stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return "" if tried.returncode == 0 else f"needs namespaces, overlays and veth devices: {tried.stderr.strip()}"


class Node(NetSpace):
    """Node(number, directory, share): up, without a configuration. off() is its power failure; directory stays."""

    namespaces = NAMESPACES

    def __init__(self, number, directory, share):
        self.number, self.name, self.directory = number, f"n{number}", pathlib.Path(directory)
        self.directory.mkdir(exist_ok=True)
        up = self.directory / "up"
        up.unlink(missing_ok=True)
        self.log_path = self.directory / "init.log"
        with open(self.log_path, "ab") as log:
            self.holder = subprocess.Popen(
                unshare(INIT, self.name, self.directory, share), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

        def ready():
            assert self.holder.poll() is None, f"{self.name} is not up:\n{tail(self.log_path)}"
            return up.exists() and children_of(self.holder.pid)

        (self.pid,) = wait_until(ready, 10, lambda: f"{self.name} up:\n{tail(self.log_path)}")

    def wrap(self, *argv):
        env = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=dumb"]
        return ["nsenter", "--target", str(self.pid), *self.namespaces, "--wd=/", "--", *env, *map(str, argv)]

    def path(self, name):
        """A file of the node's, from outside."""
        return pathlib.Path(f"/proc/{self.pid}/root") / str(name).lstrip("/")

    def write(self, name, text, mode=0o644):
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def install(self, pool):
        """smbdirectd as a package brings it to a system without systemd, with the programs of this build, and its event
        script, enabled."""
        words = {"sbindir": program("smbdirectd").parent, "libexecdir": "/etc", "config_file": "/etc/smbdirectd/pool.json",
                 "defaults_file": "/etc/default/smbdirectd"}  # fmt: skip
        for source, target in (("smbdirectd.init.in", "/etc/init.d/smbdirectd"), ("stop.in", "/etc/smbdirectd/stop")):
            text = (CONF / source).read_text()
            for word, path in words.items():
                text = text.replace(f"@{word}@", str(path))
            self.write(target, text, 0o755)
        sanitizers = [f"export {name}='{value}'\n" for name, value in os.environ.items() if name.endswith("SAN_OPTIONS")]
        self.write(
            "/etc/default/smbdirectd",
            f"SMBDIRECTD_OPTIONS='--worker {program('smbdirect-worker')}'\nSMBDIRECTD_DRAIN_SECONDS=0\n" + "".join(sanitizers),
        )
        self.write("/etc/smbdirectd/pool.json", pool)
        self.options()
        for script in ("09.smbdirectd", "50.samba"):
            self.run("ctdb", "event", "script", "enable", "legacy", script)

    def options(self, **more):
        """Those of the event script."""
        lines = {"CTDB_SMBDIRECTCTL": program("smbdirectctl"), **more}
        text = "".join(f"{key}={value}\n" for key, value in lines.items())
        self.write("/etc/ctdb/events/legacy/09.smbdirectd.options", text)

    def ctl(self, *words, check=True):
        return self.run(program("smbdirectctl"), *words, check=check)

    def daemon_pid(self):
        """As the node's processes see it; 0: none."""
        path = self.path("/run/smbdirectd/smbdirectd.pid")
        try:
            pid = int(path.read_text())
        except (OSError, ValueError):
            return 0
        return pid if has_name(pid, "smbdirectd", proc=self.path("/proc")) else 0

    def log(self):
        return self.path("/var/log/ctdb/log.ctdb").read_text(errors="replace")

    def flags(self):
        """What "ctdb nodestatus" says against it; None: nothing can be asked."""
        text = self.run("ctdb", "-X", "nodestatus", check=False)
        rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
        if len(rows) != 2:
            return None
        return {name for name, value in zip(*rows) if value == "1" and name not in ("Node", "ThisNode")}

    def has(self, address):
        """An IPv4 address."""
        text = pathlib.Path(f"/proc/{self.pid}/net/fib_trie").read_text()
        return re.search(rf"\|-- {re.escape(address)}\n\s+/32 host LOCAL", text) is not None

    def off(self):
        if self.holder.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
        self.holder.wait()

    close = off
