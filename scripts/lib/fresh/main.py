#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The engine of scripts/fresh: a minimal Debian in a directory, a clone in it, and the README's commands."""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / 'scripts/lib/vm'))
sys.dont_write_bytecode = True
import bases  # noqa: E402
import cache  # noqa: E402
import room  # noqa: E402
from bases import KIND, SUITES, git  # noqa: E402

CLONE = '/root/smbdirectd'
DEMO, QUICK = ['scripts/demo'], ['scripts/test', '--quick']
COMMANDS = {'bookworm': (DEMO, QUICK), 'trixie': (DEMO, QUICK), 'sid': (DEMO,)}
# What a result depends on, for the reader of it.
TOLD = ('g++', 'meson', 'samba', 'libibverbs1', 'libuv1-dev', 'nlohmann-json3-dev')


@dataclasses.dataclass
class Step:
    suite: str
    command: str
    status: int
    seconds: float
    packages: dict


def say(text):
    print(f'fresh: {text}', flush=True)


def parse():
    parser = argparse.ArgumentParser(
        prog='scripts/fresh', description='Makes a minimal Debian in a directory, clones the committed tree (HEAD) into '
        'it, and runs what the README says there: scripts/demo, then scripts/test --quick (sid: scripts/demo). Ends with '
        'what that pulled in and how long it took, and exits as the first command that failed did. Nothing is left '
        'mounted, running, or in the tree. Needs root.')
    parser.add_argument('suites', nargs='*', metavar='|'.join(SUITES), help='which Debian (default: bookworm trixie)')
    parser.add_argument('--mirror', metavar='URI', help='get Debian from there (default: as this machine\'s apt does)')
    parser.add_argument('--renew', action='store_true', help='make the minimal Debian anew, not from a copy of this month')
    parser.add_argument('--keep', action='store_true',
                        help='keep what was installed and built, and go on from there the next time with --keep')
    parser.add_argument('--run', nargs=argparse.REMAINDER, metavar='COMMAND',
                        help='run this in the clone, instead of what the README says; everything behind it is its own')
    options = parser.parse_args()
    for name in options.suites:
        if name not in SUITES:
            parser.error(f'{name} is not known here; known: {", ".join(SUITES)}')
    if options.run == []:
        parser.error('--run wants a command')
    options.suites = options.suites or ['bookworm', 'trixie']
    return options


# --- the Debian -------------------------------------------------------------------------------------------------------


def clone(house, bundle):
    """What is committed, as `git clone` brings it; in a room that was kept, what has changed."""
    inside = house.root / bundle.name
    shutil.copy(bundle, inside)
    if (house.root / CLONE.lstrip('/')).exists():
        commands = [['git', '-C', CLONE, 'fetch', '--quiet', f'/{bundle.name}', 'HEAD'],
                    ['git', '-C', CLONE, 'reset', '--quiet', '--hard', 'FETCH_HEAD']]
    else:
        commands = [['git', '-c', 'advice.detachedHead=false', '-c', 'init.defaultBranch=main', 'clone', '--quiet', f'/{bundle.name}', CLONE]]
    for argv in commands:
        if house.run(argv, stdin=subprocess.DEVNULL) != 0:
            raise cache.Problem(f'{" ".join(argv)} failed')
    inside.unlink()


@contextlib.contextmanager
def directory_of(name, keep):
    """A directory for one run, or the one that is kept for `name`."""
    if not keep:
        with cache.run_directory(KIND) as directory:
            yield directory
        return
    directory = cache.directory(KIND) / 'kept' / name
    directory.mkdir(parents=True, exist_ok=True)
    with cache.locked(directory.with_suffix('.lock'), wait=False) as mine:
        if not mine:
            raise cache.Problem(f'the {name} that is kept is in use by another run')
        yield directory


# --- what is run in it ------------------------------------------------------------------------------------------------


def visit(name, options, steps):
    """Runs the commands of one suite, up to the first that fails."""
    with directory_of(name, options.keep) as directory:
        house = room.Room(directory / 'root')
        if not (directory / 'filled').exists():
            shutil.rmtree(house.root, ignore_errors=True)
            house.root.mkdir()
            house.fill(bases.base(name, say, options.mirror, options.renew))
            (directory / 'filled').touch()
        bundle = directory / 'smbdirectd.bundle'
        git('bundle', 'create', '--quiet', str(bundle), 'HEAD')
        clone(house, bundle)
        house.share_archives(bases.downloads(name))
        for command in [options.run] if options.run else COMMANDS[name]:
            say(f'{name}: {" ".join(command)}')
            before, begin = house.packages(), time.monotonic()
            # A command of the user's own may be a shell: it has the terminal, and ^C is for it to judge.
            try:
                status = house.run(command, CLONE, **({} if options.run else {
                    'stdin': subprocess.DEVNULL, 'start_new_session': True}))
            finally:
                house.share_archives(bases.downloads(name))
            after = house.packages()
            new = {package: after[package] for package in after if package not in before}
            steps.append(Step(name, ' '.join(command), status, time.monotonic() - begin, new))
            if status != 0:
                break
        told = [f'{package} {after[package][0]}' for package in TOLD if package in after]
        say(f'{name}: with {", ".join(told) or "nothing of what is built with"}')


def report(steps):
    for step in steps:
        if step.packages:
            say(f'{step.suite}: {step.command} pulled in {len(step.packages)} packages:')
            print(textwrap.fill(' '.join(sorted(step.packages)), 118, initial_indent='  ', subsequent_indent='  ',
                                break_on_hyphens=False))
    print(f'\n{"":12} {"command":24} {"status":>6} {"seconds":>8} {"packages":>9} {"MB":>6}')
    for step in steps:
        size = sum(kib for _, kib in step.packages.values()) / 1000
        print(f'{step.suite:12} {step.command[:24]:24} {step.status:6} {step.seconds:8.0f} {len(step.packages):9} {size:6.0f}',
              flush=True)


def main():
    options = parse()
    bases.clear_up_when_ended(say)
    if options.run and sys.stdin.isatty():
        signal.signal(signal.SIGINT, lambda *_: None)
    if os.geteuid() != 0:
        say('another Debian in a directory wants root: run it as root')
        return 3
    steps = []
    try:
        changed = git('status', '--porcelain', '--untracked-files=no').splitlines()
        say(f'what is tried is {git("log", "-1", "--format=%h %s").strip()}')
        if changed:
            say(f'not committed, and so not in it: the changes to {len(changed)} files')
        for name in options.suites:
            visit(name, options, steps)
            if steps[-1].status != 0:
                break
    except cache.Problem as problem:
        say(problem)
        return 1
    except (OSError, subprocess.CalledProcessError) as e:
        say(e)
        return 1
    finally:
        if steps and not options.run:
            report(steps)
    return steps[-1].status if steps[-1].status >= 0 else 128 - steps[-1].status


if __name__ == '__main__':
    sys.exit(main())
