# SPDX-License-Identifier: MIT
"""One guest from boot to end: qemu, what it shares with the host, and what became of the job."""

import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time

from cache import Problem

HERE = pathlib.Path(__file__).resolve().parent
MAIN = HERE / 'main.sh'
MAIN_WITH_SYSTEMD = HERE / 'systemd.sh'
# nokaslr: cifs.ko sends from module memory, which is only sometimes mapped as it expects.
# The watchdogs would take a busy host for a hanging guest.
KERNEL_OPTIONS = ('console=ttyS0 nokaslr oops=panic panic=-1 loglevel=5 mitigations=off cryptomgr.notests nosoftlockup '
                  'rcupdate.rcu_cpu_stall_timeout=120 rcupdate.rcu_exp_cpu_stall_timeout=0')
# A Debian that was copied looks as if its /usr were new: there is nothing to update. The console is the kernel's.
SYSTEMD_OPTIONS = 'systemd.condition-needs-update=no systemd.show_status=no'
TIMEOUT_STATUS, DIED_STATUS = 124, 125


class Guest:
    """Guest(kernel, initrd, abi, run_directory, options).run(job) -> exit status"""

    def __init__(self, kernel, initrd, abi, directory, options):
        self.kernel, self.initrd, self.abi, self.directory, self.options = kernel, initrd, abi, directory, options
        self.console = directory / 'console.log'
        self.output = directory / 'output'
        self.status = directory / 'status'

    def run(self, job):
        """Boots, runs the shell text `job`, and gives its exit status, or one of those above."""
        self.prepare(job)
        process = self.start()
        try:
            ended = self.follow(process)
        finally:
            stop(process)
            self.keep_console()
        if self.status.exists():
            return int(self.status.read_text())
        last = self.last_lines()
        if not ended:
            print(f'vm: ended after {self.options.timeout} s (--timeout): the script did not end. '
                  f'The last lines of the console:\n{last}', file=sys.stderr)
            return TIMEOUT_STATUS
        why = 'the guest died (a kernel panic or oops)' if process.returncode == 0 else \
            f'qemu ended with {process.returncode}: {self.errors() or "it said nothing"}'
        print(f'vm: {why} before the script ended. The last lines of the console:\n{last}', file=sys.stderr)
        return DIED_STATUS

    def prepare(self, job):
        shutil.copy(MAIN_WITH_SYSTEMD if self.options.debian else MAIN, self.directory / 'main')
        (self.directory / 'main').chmod(0o755)
        (self.directory / 'job').write_text(job)
        (self.directory / 'job').chmod(0o755)
        self.output.touch()
        self.console.touch()
        if self.options.output:
            (self.directory / 'with-output').touch()
        if self.terminal:
            (self.directory / 'terminal').touch()

    @property
    def terminal(self):
        return not self.options.command

    def arguments(self):
        def share(path, tag, extra=''):
            # qemu's own separator inside a value is written twice.
            return ['-virtfs', f'local,path={str(path).replace(",", ",,")},mount_tag={tag},security_model=none,'
                    f'multidevs=remap{extra}']

        argv = ['setpriv', '--pdeathsig', 'KILL', 'qemu-system-x86_64', '-accel', 'tcg,thread=multi,tb-size=512']
        # Without erms and fsrm the guest copies with plain instructions, which qemu runs much faster.
        argv += ['-cpu', 'max,erms=off,fsrm=off', '-smp', str(self.options.cpus), '-m', str(self.options.memory)]
        argv += ['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-nic', 'none']
        words = f'{KERNEL_OPTIONS} {SYSTEMD_OPTIONS}' if self.options.debian else KERNEL_OPTIONS
        argv += ['-kernel', self.kernel / 'vmlinuz', '-initrd', self.initrd, '-append', words]
        argv += ['-serial', f'file:{str(self.console).replace(",", ",,")}']
        argv += share(self.options.debian or '/', 'host', ',readonly=on') + share(self.directory, 'run')
        argv += share(self.kernel / 'lib/modules', 'modules', ',readonly=on')
        if self.options.output:
            argv += share(self.options.output, 'output')
        if self.terminal:
            argv += ['-chardev', 'stdio,id=terminal,signal=off', '-device', 'virtio-serial']
            argv += ['-device', 'virtconsole,chardev=terminal']
        return [str(a) for a in argv]

    def start(self):
        with open(self.directory / 'qemu.log', 'wb') as log:
            # A terminal is only readable for the process group in its foreground: ours.
            files = {} if self.terminal else {'stdin': subprocess.DEVNULL, 'stdout': log, 'start_new_session': True}
            try:
                return subprocess.Popen(self.arguments(), stderr=log, **files)
            except OSError as e:
                raise Problem(f"qemu cannot be started: {e}. Run 'scripts/setup vm'") from None

    def follow(self, process):
        """Copies the job's output to ours until qemu ends. False when the time is up first."""
        deadline = time.monotonic() + self.options.timeout if self.options.timeout else None
        with open(self.output, 'rb') as output:
            while True:
                ended = process.poll() is not None
                while data := output.read(1 << 16):
                    sys.stdout.buffer.write(data)
                    sys.stdout.buffer.flush()
                if ended:
                    return True
                if deadline and time.monotonic() > deadline:
                    return False
                time.sleep(0.03)

    def keep_console(self):
        if self.options.keep_log:
            shutil.copyfile(self.console, self.options.keep_log)

    def last_lines(self, count=40):
        return '\n'.join('    ' + line for line in self.console.read_text(errors='replace').splitlines()[-count:])

    def errors(self):
        return (self.directory / 'qemu.log').read_text(errors='replace').strip()


def stop(process):
    """Ends qemu if it still runs. Nothing in it is worth a slow good-bye, except the terminal's settings."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
    process.wait()


def job_text(command, directory, environment):
    """The shell script that the guest runs in place of the command."""
    lines = ['#!/bin/bash', f'cd {shlex.quote(str(directory))} || exit 126']
    lines += [f'export {name}={shlex.quote(value)}' for name, value in environment.items()]
    if not command:  # without the user's own start-up files, which may take long in here
        size = os.get_terminal_size()
        lines += [f'stty rows {size.lines} cols {size.columns}', r"export PS1='guest:\w\$ '"]
    lines += ['exec ' + (shlex.join(command) if command else 'bash --norc -i')]
    return '\n'.join(lines) + '\n'


def guest_environment(root, build):
    return {
        'HOME': '/root', 'USER': 'root', 'LOGNAME': 'root', 'LANG': 'C.UTF-8', 'TERM': os.environ.get('TERM', 'dumb'),
        'PYTHONDONTWRITEBYTECODE': '1', 'SMBDIRECTD_VM': '1', 'SMBDIRECTD_VM_OUTPUT': '/run/vm-output',
        'SMBDIRECTD_BUILD': str(pathlib.Path(build).resolve() if build else root / 'build/normal'),
    }
