#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The engine of scripts/vm: finds or makes the kernel, boots it, and ends as the script in it ended."""

import argparse
import functools
import os
import pathlib
import platform
import shutil
import signal
import sys

import archive
import cache
import guest
import initrd
import kernel
import modules

ENVIRONMENT = 3  # what the kernel is made from is not to be had
ROOT = pathlib.Path(__file__).resolve().parents[3]


def say(text):
    print(f'vm: {text}', file=sys.stderr, flush=True)


def parse():
    parser = argparse.ArgumentParser(
        prog='scripts/vm', description='Runs a script as root in a guest that has RDMA (rxe, siw) and cifs.ko with SMB '
        'Direct, on a machine that needs none of them. The guest sees this machine\'s files at the same paths and may '
        'change them: only it sees the changes. Exits as the script does; 124: --timeout, 125: the guest died; 3, before it: Debian\'s archive is not to be '
        'reached.')
    parser.add_argument('--kernel', choices=kernel.SUITES, default=kernel.usual(), metavar='VERSION',
                        help=f'{", ".join(kernel.SUITES)}: Linux of that kind, as Debian has it (default {kernel.usual()})')
    parser.add_argument('--ksmbd', action='store_true',
                        help='with ksmbd.ko that has SMB Direct, and its tools unpacked in $SMBDIRECTD_KSMBD: to compare with')
    parser.add_argument('--update', action='store_true',
                        help="download that kernel anew, as Debian has it now, even if one is kept")
    parser.add_argument('--debian', type=pathlib.Path, metavar='DIR',
                        help='boot the Debian in that directory, with systemd; SCRIPT is one of its programs, by its path there')
    parser.add_argument('--timeout', type=float, default=None, metavar='SECONDS',
                        help='end the guest then (default 600; none for a terminal)')
    parser.add_argument('--memory', type=int, default=4096, metavar='MIB', help='the guest\'s memory (default 4096)')
    parser.add_argument('--cpus', type=int, default=2, help='the guest\'s processors (default 2)')
    parser.add_argument('--output', type=pathlib.Path, metavar='DIR',
                        help='what the script writes into $SMBDIRECTD_VM_OUTPUT arrives here')
    parser.add_argument('--keep-log', type=pathlib.Path, metavar='FILE', help='keep the kernel\'s console')
    parser.add_argument('--env', action='append', default=[], metavar='NAME=VALUE', help='set in the script\'s environment')
    parser.add_argument('--prepare', action='store_true', help='only download and build what is not there yet')
    parser.add_argument('command', nargs=argparse.REMAINDER, metavar='SCRIPT [ARGS]',
                        help='any program of this machine; none: a terminal in the guest')
    options = parser.parse_args()
    if options.ksmbd and options.kernel == '6.1':
        parser.error("Debian 12's ksmbd-tools and its kernel do not understand each other since 6.1.80: --ksmbd wants --kernel 6.12")
    if options.memory < 512 or options.cpus < 1:
        parser.error('the guest needs at least --memory 512 and --cpus 1')
    if any('=' not in pair for pair in options.env):
        parser.error('--env wants NAME=VALUE')
    if options.debian:
        options.debian = options.debian.resolve()
        if not (options.debian / 'lib/systemd/systemd').exists():
            parser.error(f'{options.debian} has no lib/systemd/systemd: --debian wants the root of a Debian with systemd')
        if not options.command:
            parser.error('--debian wants a SCRIPT to run there')
    return options


def program_path(name):
    """The script as the guest can find it: by its absolute path."""
    found = shutil.which(name) if '/' not in name else name
    path = pathlib.Path(os.path.abspath(found)) if found else None
    if path is None or not path.is_file():
        raise cache.Problem(f'{name} is not there: name a program by its path')
    if not os.access(path, os.X_OK):
        raise cache.Problem(f'{path} is not executable: chmod +x it')
    return str(path)


def prepared(name, update, ksmbd=False):
    """(kernel entry, path of the initrd, ABI), made if need be."""
    if platform.machine() != 'x86_64':
        raise cache.Problem(f'the guest is an amd64 one and this machine is {platform.machine()}')
    key = cache.recipe(*(pathlib.Path(part.__file__) for part in (kernel, modules, archive)))
    entry = f'kernel-{name}{"-ksmbd" if ksmbd else ""}-{key}'
    image = cache.entry(entry, functools.partial(kernel.make, name, ksmbd), say, anew=update)
    version = (image / 'version').read_text()
    abi = version.split()[0]
    recipe = cache.recipe(version, key, pathlib.Path(initrd.__file__), initrd.INIT, pathlib.Path(initrd.BUSYBOX))
    made = cache.entry(f'initrd-{recipe}', lambda directory, _: initrd.make(directory, image, abi), say)
    return image, made / 'initrd', abi


def ended(number, _):
    say(f'ended from outside by {signal.Signals(number).name}, and the guest with it')
    sys.exit(128 + number)


def main():
    options = parse()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ended)
    try:
        image, ramdisk, abi = prepared(options.kernel, options.update, options.ksmbd)
        if options.prepare:
            return 0
        if options.command:
            if not options.debian:
                options.command[0] = program_path(options.command[0])
            options.timeout = 600 if options.timeout is None else options.timeout
        elif not sys.stdin.isatty():
            raise cache.Problem('no script is named, and there is no terminal for a shell. See --help')
        if options.output:
            options.output = options.output.resolve()
            options.output.mkdir(parents=True, exist_ok=True)
        if options.keep_log:
            options.keep_log.touch()  # what cannot be written is better known before the run
        environment = guest.guest_environment(ROOT, os.environ.get('SMBDIRECTD_BUILD'))
        if options.ksmbd:
            environment['SMBDIRECTD_KSMBD'] = str(image / 'ksmbd-tools')
        environment |= dict(pair.split('=', 1) for pair in options.env)
        with cache.run_directory() as directory:
            machine = guest.Guest(image, ramdisk, abi, directory, options)
            return machine.run(guest.job_text(options.command, '/' if options.debian else pathlib.Path.cwd(), environment))
    except cache.Problem as problem:
        say(problem)
        return ENVIRONMENT if isinstance(problem, cache.Unreachable) else 1
    except BrokenPipeError:  # whoever read our output has left; so does Python's own last flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as e:
        say(f'{e.filename or "a system call"}: {e.strerror}')
        return 1
    except KeyboardInterrupt:
        say('interrupted')
        return 130


if __name__ == '__main__':
    sys.exit(main())
