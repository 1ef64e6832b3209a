# SPDX-License-Identifier: MIT
"""A room: a Debian in a directory, and processes that have it for their machine.

They are in a process and mount namespace of their own, with the network of this machine. So whatever ends a run, the
first process of the namespace ends with it, and with that the kernel ends all others and the mounts are gone.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import time

INIT = pathlib.Path(__file__).with_name('room.sh')
PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
# What may come from this machine: how its network is reached, and how text is shown.
PASSED = ('http_proxy', 'https_proxy', 'no_proxy', 'TERM')


def environment():
    return {'PATH': PATH, 'HOME': '/root', 'LANG': 'C.UTF-8', **{n: os.environ[n] for n in PASSED if n in os.environ}}


def confined(argv, **options):
    """Runs a program in namespaces of its own to its end; gives its status. Whatever ends us ends it and all it has
    started."""
    wrapper = ['setpriv', '--pdeathsig', 'KILL', 'unshare', '--mount', '--pid', '--fork', '--kill-child',
               '--propagation', 'private', '--']
    process = subprocess.Popen([*wrapper, *map(str, argv)], **options)
    try:
        return process.wait()
    finally:
        end(process)


def end(process):
    """Ends the namespace: its first process, which unshare waits for. When that one is done with, so are all others."""
    if process.poll() is not None:
        return
    children = pathlib.Path(f'/proc/{process.pid}/task/{process.pid}/children')
    first = [int(pid) for pid in children.read_text().split()]
    process.kill()  # before it can say how the other one ended
    process.wait()
    for pid in first:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while any(running(pid) for pid in first):
        time.sleep(0.02)


def running(pid):
    """Whether it is neither gone nor a zombie, which the first process of a namespace is after all the others."""
    try:
        stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
    except OSError:
        return False
    return stat[stat.rindex(')') + 2] not in 'ZX'


class Room:
    """A Debian in `root`. Owned by one run, which has locked it."""

    def __init__(self, root):
        self.root = root

    def fill(self, base):
        """Makes it a copy of the Debian in `base`."""
        subprocess.run(['cp', '--archive', '--reflink=auto', f'{base}/.', self.root], check=True)

    def run(self, argv, directory='/root', **options):
        for name in ('resolv.conf', 'hosts'):  # the network is this machine's
            shutil.copy(f'/etc/{name}', self.root / 'etc' / name)
        return confined(['/bin/bash', INIT, self.root, directory, *argv], env=environment(), **options)

    def packages(self):
        """Installed packages: name -> (version, KiB)"""
        text = subprocess.run(
            ['dpkg-query', f'--admindir={self.root}/var/lib/dpkg', '-W', '-f',
             '${db:Status-Abbrev}\t${Package}\t${Version}\t${Installed-Size}\n'],
            stdout=subprocess.PIPE, check=True, text=True).stdout
        rows = [line.split('\t') for line in text.splitlines()]
        return {name: (version, int(size or 0)) for status, name, version, size in rows if status.startswith('ii')}

    def share_archives(self, kept):
        """Packages that were downloaded before need not be again: `kept` and apt's own directory get what the other
        one has."""
        ours = self.root / 'var/cache/apt/archives'
        for source, target in ((kept, ours), (ours, kept)):
            for package in source.glob('*.deb'):
                if not (target / package.name).exists():
                    shutil.copy2(package, target)
