#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Debian's own packages of another Samba than this machine's, unpacked and never installed: tests lay them over the machine's
files in a mount namespace (tests/integration/lib/module_smbd.py).

    binaries.py --where SERIES   prints the directory; exit 1 where they were never fetched
"""

import pathlib
import shutil
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / 'vm'), str(HERE.parent / 'fresh')]
import cache  # noqa: E402
import sources  # noqa: E402
from archive import Archive, command  # noqa: E402

KIND = 'samba'
RECIPE = '1'
# The release of this machine -> series -> where it is to be had for that release.
OTHERS = {'bookworm': {'4.22': 'bookworm-backports'}}
PACKAGES = ('samba', 'samba-vfs-modules', 'samba-common-bin')
MERGED = ('bin', 'sbin', 'lib', 'lib64')  # links into /usr on every machine; packages may have them as directories


def suite_of(series):
    return OTHERS.get(sources.codename(), {}).get(series)


def entry_name(series):
    return f'{series}-binaries-{cache.recipe(RECIPE, str(suite_of(series)), *PACKAGES)}'


def where(series):
    """The unpacked packages, None where they are not there."""
    path = cache.place(KIND) / entry_name(series) / 'root'
    return path if suite_of(series) and path.is_dir() else None


def make(series, directory, say):
    """Fills `directory`/root with what apt would install or upgrade here to have that Samba."""
    suite, work = suite_of(series), directory / 'work'
    work.mkdir()
    release = sources.codename()
    with open(directory / 'build.log', 'wb') as log:
        say(f'Samba {series}: downloading the packages of {suite}')
        archive = Archive(work / 'apt', (release, f'{release}-security', suite), log, prefer=suite)
        machine = ['-o', 'Dir::State::status=/var/lib/dpkg/status', '-y', '--no-install-recommends', '--download-only']
        try:
            command([*archive.program('apt-get'), *machine, 'install', *PACKAGES], log, 1800)
        except cache.Problem as problem:
            raise cache.Unreachable(f'the packages of Samba {series} cannot be had from {suite}:\n{problem}') from None
        root = directory / 'root'
        (root / 'usr').mkdir(parents=True)
        for name in MERGED:
            (root / 'usr' / name).mkdir()
            (root / name).symlink_to(f'usr/{name}')
        packages = sorted((work / 'apt/cache/archives').glob('*.deb'))
        for package in packages:
            unpack(package, root, log)
        if not (root / 'usr/sbin/smbd').exists():
            raise cache.Problem(f'{suite} has no other Samba than this machine: of {len(packages)} packages none has smbd')
    shutil.rmtree(work)


def unpack(package, root, log):
    """As dpkg does it, through the links that are there."""
    command(['sh', '-c', 'dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2"', 'sh', package, root],
            log, 300)


def main(arguments):
    if len(arguments) != 2 or arguments[0] != '--where':
        print(__doc__, file=sys.stderr)
        return 2
    path = where(arguments[1])
    if path is None:
        return 1
    print(path)
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
