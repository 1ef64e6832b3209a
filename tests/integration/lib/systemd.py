# SPDX-License-Identifier: MIT
"""A host with systemd as its first process, on this machine: namespaces of its own, and a layer over this machine's files
that is gone afterwards. Its network is this machine's."""

import functools
import os
import pathlib
import shutil
import subprocess
import time

from lib.process import tail, wait_until

SYSTEMD = pathlib.Path("/lib/systemd/systemd")

# $1: a directory with upper, work and root.
BOOT = """
set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --rbind /sys sys
umount -R sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do
    touch "dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir -p run/lock run/before
pivot_root . run/before
umount -l /run/before
export container=smbdirectd-test
exec /lib/systemd/systemd --system --unit=basic.target --log-target=journal
"""
NAMESPACES = ["--pid", "--fork", "--mount", "--cgroup", "--uts", "--ipc"]


@functools.cache
def why_not():
    """Why there can be none here; nothing: there can."""
    if os.geteuid() != 0:
        return "needs root: it makes namespaces"
    if not SYSTEMD.exists():
        return f"needs {SYSTEMD}, which this system does not have"
    if not shutil.which("meson"):
        return "needs meson, which installs what is to run there"
    tried = subprocess.run(
        ["unshare", *NAMESPACES, "sh", "-c", "mount --make-rprivate / && mount -t cgroup2 cgroup2 /mnt && mkdir /mnt/smbdirectd-try && rmdir /mnt/smbdirectd-try"],
        capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return f"systemd needs a control group of its own: {tried.stderr.strip()}" if tried.returncode else None


class SystemdHost:
    """SystemdHost(directory).write(...).install(build).start() ... .stop(). The directory is not on tmpfs."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        for name in ("upper", "work", "root"):
            (self.directory / name).mkdir(parents=True)
        self.log_path = self.directory / "boot.log"
        self.process, self.init, self.said = None, None, None

    def write(self, path, text, mode=0o644):
        """A file of that host. Before it starts, or while it runs."""
        if self.init:
            self.run("sh", "-c", 'mkdir -p "$(dirname "$1")" && cat > "$1" && chmod "$2" "$1"', "sh", path, oct(mode)[2:], input=text)
        else:
            target = self.directory / "upper" / str(path).lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            target.chmod(mode)
        return self

    def install(self, build):
        done = subprocess.run(
            ["meson", "install", "--no-rebuild", "--quiet", "-C", str(build), "--destdir", str(self.directory / "upper")],
            capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return self

    def start(self):
        script = self.directory / "boot.sh"
        script.write_text(BOOT)
        with open(self.log_path, "wb") as log:
            argv = ["unshare", "--kill-child", *NAMESPACES, "sh", str(script), str(self.directory)]
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.init = wait_until(self._init, 20, lambda: f"systemd runs: {tail(self.log_path)}")
        self.said = wait_until(self._running, 60, lambda: f"it has started: {self.said!r} {tail(self.log_path)}", 0.2)
        return self

    def _init(self):
        assert self.process.poll() is None, f"it ended: {tail(self.log_path)}"
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        with_systemd = [int(pid) for pid in children if pathlib.Path(f"/proc/{pid}/comm").read_text() == "systemd\n"]
        return with_systemd[0] if with_systemd else None

    def _running(self):
        self.said = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return self.said if self.said in ("running", "degraded") else None

    def run(self, *argv, check=True, timeout=60, **kw):
        """A CompletedProcess of a command there."""
        argv = ["nsenter", "-t", str(self.init), "-m", "-p", "-C", "-u", "-i", *map(str, argv)]
        kw = {"stdin": subprocess.DEVNULL, **kw} if "input" not in kw else kw
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, **kw)
        assert not check or done.returncode == 0, f"{argv} ended {done.returncode}: {done.stdout}{done.stderr}\n{self.journal()}"
        return done

    def systemctl(self, *argv, check=True):
        return self.run("systemctl", "--no-pager", *argv, check=check)

    def show(self, unit, name):
        return self.systemctl("show", unit, "--property", name, "--value").stdout.strip()

    def journal(self, unit="smbdirectd", lines=60):
        argv = ["nsenter", "-t", str(self.init), "-m", "-p", "journalctl", "--no-pager", "-u", unit, "-n", str(lines)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL).stdout

    def processes(self, unit):
        """Name and number there of every process in the unit's control group."""
        group = self.show(unit, "ControlGroup")
        if not group:
            return {}
        pids = self.run("cat", f"/sys/fs/cgroup{group}/cgroup.procs", check=False).stdout.split()
        names = {pid: self.run("cat", f"/proc/{pid}/comm", check=False).stdout.strip() for pid in pids}
        return {int(pid): name for pid, name in names.items() if name}

    def stop(self):
        """With its first process everything there ends."""
        if self.process is None:
            return
        self.process.kill()  # and --kill-child
        self.process.wait()
        end = time.monotonic() + 10
        while self.init and pathlib.Path(f"/proc/{self.init}").exists() and time.monotonic() < end:
            time.sleep(0.02)
        self.init = self.process = None
