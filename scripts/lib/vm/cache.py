# SPDX-License-Identifier: MIT
"""What is downloaded and built once: entries that are whole or absent, and one builder at a time."""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import tempfile
import time

FORGET_AFTER = 60 * 86400  # seconds since an entry was last used


class Problem(Exception):
    """What was asked for cannot be had; the text says what failed, on what, why and what to do."""


class Unreachable(Problem):
    """The archive cannot be reached, or no longer has it: nothing here is wrong."""


def variable(kind):
    return f'SMBDIRECTD_{kind.upper()}_CACHE'


def place(kind='vm'):
    """Where everything of scripts/vm or scripts/fresh is kept, whether that is there or not."""
    chosen = os.environ.get(variable(kind))
    base = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    return pathlib.Path(chosen).resolve() if chosen else pathlib.Path(os.path.expanduser(base)) / 'smbdirectd' / kind


def directory(kind='vm'):
    """The same, made if need be."""
    path = place(kind)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise Problem(f'the directory for what is downloaded and built cannot be made: {e}. Name another one with '
                      f'{variable(kind)}') from None
    return path


def recipe(*parts):
    """A short hash of whatever decides how an entry looks: texts, or paths of files."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, pathlib.Path) else part.encode()
        digest.update(len(data).to_bytes(8, 'big') + data)
    return digest.hexdigest()[:12]


@contextlib.contextmanager
def locked(path, wait=True):
    """Holds an exclusive lock on the file `path` (made if need be); yields whether we have it."""
    with open(path, 'ab') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def entry(name, make, say, kind='vm', anew=False):
    """The path of the entry `name` (a directory), made by make(directory, say) when it is not there yet, or is wanted
    anew: then no guest may run on the old one, which would lose its modules."""
    root = directory(kind)
    path = root / name
    if path.is_dir() and not anew:
        os.utime(path)
        return path
    with locked(root / 'lock', wait=False) as mine:
        if not mine:
            say('another run is downloading and building what this one needs: waiting for it')
    with locked(root / 'lock'):
        if path.is_dir() and not anew:
            return path
        for old in root.glob('*-*'):
            # What a builder that was killed left (we hold the lock now), and entries of long ago.
            if old.suffix == '.partial' or time.time() - old.stat().st_mtime > FORGET_AFTER:
                shutil.rmtree(old, ignore_errors=True)
        # A name of its own: what a killed builder started may still be writing into that builder's.
        partial = pathlib.Path(tempfile.mkdtemp(prefix=f'{name}-', suffix='.partial', dir=root))
        partial.chmod(0o755)
        make(partial, say)
        if path.is_dir():
            shutil.rmtree(path)
        partial.rename(path)
    return path


@contextlib.contextmanager
def run_directory(kind='vm'):
    """A private directory for one run, removed at the end. Those of runs that were killed are removed too: each
    holds a lock that died with its owner."""
    runs = directory(kind) / 'runs'
    runs.mkdir(exist_ok=True)
    with locked(runs / 'lock'):
        for old in runs.iterdir():
            if old.is_dir():
                with locked(old / 'lock', wait=False) as dead:
                    if dead:
                        shutil.rmtree(old, ignore_errors=True)
        number = 1
        while (runs / str(number)).exists():
            number += 1
        path = runs / str(number)
        path.mkdir(mode=0o700)
        mine = open(path / 'lock', 'ab')
        fcntl.flock(mine, fcntl.LOCK_EX)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        mine.close()
