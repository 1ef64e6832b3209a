# SPDX-License-Identifier: MIT
"""A host with systemd as its first process, on this machine: namespaces of its own, and a layer over a Debian (this
machine's files, or a room's) that is gone afterwards. For tests/integration and scripts/package.

Whatever ends us ends it, and with its first process the kernel ends all others.
"""

import functools
import os
import pathlib
import subprocess
import time

from host import Failed, Host

SYSTEMD = pathlib.Path('/lib/systemd/systemd')

# $1: a directory with upper, work and root; $2: the Debian; $3: whether its network is its "own" or "shared" with this
# machine. As containers have it, /sys is read-only, and so is /proc/sys but for a network of its own: there is one kernel,
# which this host must not set up for all others.
BOOT = """
set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
[ "$3" = shared ] || mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
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
NAMESPACES = ['--pid', '--fork', '--mount', '--cgroup', '--uts', '--ipc']


@functools.cache
def why_not(debian='/'):
    """Why there can be none here; nothing: there can."""
    if os.geteuid() != 0:
        return 'needs root: it makes namespaces'
    if not (pathlib.Path(debian) / 'lib/systemd/systemd').exists():
        return f'needs {SYSTEMD}, which {"this system" if debian == "/" else debian} does not have'
    tried = subprocess.run(
        ['unshare', *NAMESPACES, 'sh', '-c', 'mount --make-rprivate / && mount -t cgroup2 cgroup2 /mnt && '
         'mkdir /mnt/smbdirectd-try && rmdir /mnt/smbdirectd-try'], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return f'systemd needs a control group of its own: {tried.stderr.strip()}' if tried.returncode else None


class SystemdHost(Host):
    """SystemdHost(directory).write(...).start() ... .stop(). The directory is not on tmpfs."""

    def __init__(self, directory, debian='/', own_network=False, environment=None):
        self.directory, self.debian, self.environment = pathlib.Path(directory), debian, environment
        self.network = 'own' if own_network else 'shared'
        for name in ('upper', 'work', 'root'):
            (self.directory / name).mkdir(parents=True)
        self.log_path = self.directory / 'boot.log'
        self.process, self.init, self.said = None, None, None

    def path(self, path):
        """Where a file of that host is for this machine."""
        root = pathlib.Path(f'/proc/{self.init}/root') if self.init else self.directory / 'upper'
        return root / str(path).lstrip('/')

    def start(self):
        script = self.directory / 'boot.sh'
        script.write_text(BOOT)
        with open(self.log_path, 'wb') as log:
            argv = ['setpriv', '--pdeathsig', 'KILL', 'unshare', '--kill-child', *NAMESPACES,
                    *(['--net'] if self.network == 'own' else []), 'sh', script, self.directory, self.debian, self.network]
            self.process = subprocess.Popen([*map(str, argv)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True, env=self.environment)
        self.init = self.until(self._init, 20, 'systemd to run')
        self.until(self._running, 60, 'systemd to have started')
        return self

    def _init(self):
        if self.process.poll() is not None:
            raise Failed(f'the host ended: {self.log_path.read_text(errors="replace")}')
        children = pathlib.Path(f'/proc/{self.process.pid}/task/{self.process.pid}/children').read_text().split()
        with_systemd = [int(pid) for pid in children if pathlib.Path(f'/proc/{pid}/comm').read_text() == 'systemd\n']
        return with_systemd[0] if with_systemd else None

    def _running(self):
        self.said = self.run('systemctl', 'is-system-running', check=False).stdout.strip()
        return self.said in ('running', 'degraded')

    def log(self):
        return self.log_path.read_text(errors='replace')

    def command(self, *argv):
        """The command line here of a command there."""
        return ['nsenter', '-t', str(self.init), '-m', '-p', '-C', '-u', '-i', '-n', *map(str, argv)]

    def stop(self):
        """With its first process everything there ends."""
        if self.process is None:
            return
        self.process.kill()  # and --kill-child
        self.process.wait()
        end = time.monotonic() + 10
        while self.init and pathlib.Path(f'/proc/{self.init}').exists() and time.monotonic() < end:
            time.sleep(0.02)
        self.init = self.process = None
