# SPDX-License-Identifier: MIT
"""A host with systemd as who administers it has it: its commands, files, units and their processes."""

import subprocess
import time


class Failed(Exception):
    """What was asked of the host failed there; the text has its journal."""


class Host:
    """A subclass has command() and path(). environment: of every command; patience: how much slower it is than a machine."""

    environment, patience = None, 1

    def command(self, *argv):
        """The command line here of a command there."""
        raise NotImplementedError

    def path(self, path):
        """Where a file of that host is for this machine."""
        raise NotImplementedError

    def log(self):
        """What it says of itself."""
        return self.journal()

    def write(self, path, text, mode=0o644):
        """A file of that host. Before it starts, or while it runs."""
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)
        return self

    def until(self, condition, seconds, what, journal=None):
        """Calls condition() until it returns something true, and returns that. `journal`: the unit that tells why not."""
        end = time.monotonic() + seconds * self.patience
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() >= end:
                log = self.journal(journal) if journal else self.log()
                raise Failed(f'waited {seconds * self.patience} s in vain for {what}\n{log}')
            time.sleep(0.1)

    def run(self, *argv, check=True, timeout=60, **kw):
        """A CompletedProcess of a command there."""
        kw = {'stdin': subprocess.DEVNULL, **kw} if 'input' not in kw else kw
        done = subprocess.run(self.command(*argv), capture_output=True, text=True, timeout=timeout * self.patience, env=self.environment, **kw)
        if check and done.returncode != 0:
            raise Failed(f'{" ".join(map(str, argv))} ended with {done.returncode}: {done.stdout}{done.stderr}\n{self.journal()}')
        return done

    def systemctl(self, *argv, check=True):
        return self.run('systemctl', '--no-pager', *argv, check=check)

    def show(self, unit, name):
        return self.systemctl('show', unit, '--property', name, '--value').stdout.strip()

    def journal(self, unit='smbdirectd', lines=60):
        return self.run('journalctl', '--no-pager', '-u', unit, '-n', lines, check=False).stdout

    def processes(self, unit):
        """Name and number there of every process in the unit's control group."""
        group = self.show(unit, 'ControlGroup')
        if not group:
            return {}
        pids = self.run('cat', f'/sys/fs/cgroup{group}/cgroup.procs', check=False).stdout.split()
        names = {pid: self.run('cat', f'/proc/{pid}/comm', check=False).stdout.strip() for pid in pids}
        return {int(pid): name for pid, name in names.items() if name}
