# SPDX-License-Identifier: MIT
"""The minimal Debians that rooms are copies of, and what goes into them: for scripts/fresh and scripts/package."""

import dataclasses
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import cache
import room
import sources

ROOT = pathlib.Path(__file__).resolve().parents[3]
KIND = 'fresh'  # of the cache
RENEW = 30 * 86400  # seconds until a minimal Debian is made anew


@dataclasses.dataclass(frozen=True)
class Suite:
    pockets: tuple = ('updates', 'security')
    options: tuple = ()  # of its apt


SUITES = {
    'bookworm': Suite(),
    'trixie': Suite(),
    # What is to come. Mirrors are often late with it, and its compilers find what nobody has seen yet.
    'sid': Suite(pockets=(), options=('Acquire::Check-Valid-Until "false"',)),
}


def month():
    return str(int(time.time() // RENEW))


def base(name, say, mirror=None, renew=False):
    """The directory of a minimal Debian with git, made if need be."""
    suite = SUITES[name]
    lines = sources.lines(name, suite.pockets, mirror)

    def make(directory, _):
        say(f'making a minimal {name}')
        argv = ['mmdebstrap', '--variant=minbase', '--include=ca-certificates,git', '--skip=check/signed-by',
                *(f'--aptopt={option}' for option in suite.options), name, directory / 'root', *lines]
        with open(directory / 'log', 'wb') as log:
            status = room.confined(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   env={**room.environment(), 'TMPDIR': str(directory)})
        if status != 0:
            text = '\n'.join((directory / 'log').read_text(errors='replace').splitlines()[-15:])
            raise cache.Problem(f'mmdebstrap ended with {status}; its sources were\n' + '\n'.join(lines) + f'\n{text}')

    entry = f'{name}-{cache.recipe(*lines, *suite.options, month())}'
    if renew:
        with cache.locked(cache.directory(KIND) / 'lock'):
            shutil.rmtree(cache.directory(KIND) / entry, ignore_errors=True)
    return cache.entry(entry, make, say, KIND) / 'root'


def downloads(name):
    """Where packages are kept that were downloaded before."""
    directory = cache.directory(KIND) / 'archives' / name
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def git(*arguments):
    """What git says of this tree."""
    done = subprocess.run(['git', '-C', ROOT, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise cache.Problem(f'git {arguments[0]} in {ROOT} failed: {done.stderr.strip()}. A clone is wanted: there must '
                            'be something to clone again')
    return done.stdout


def clear_up_when_ended(say):
    """Who is ended from outside leaves no room behind."""
    signals = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

    def ended(number, _):
        for each in signals:  # what follows is not to be interrupted
            signal.signal(each, signal.SIG_IGN)
        say(f'ended from outside by {signal.Signals(number).name}: clearing up')
        sys.exit(128 + number)

    for each in signals:
        signal.signal(each, ended)
