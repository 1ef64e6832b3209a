# SPDX-License-Identifier: MIT
"""What differs: between two builds of a package, and between a system before an installation and after the purge."""

import hashlib
import io
import subprocess
import tarfile

# A purge leaves the user (another one must not get its number), and so these, which then have one line more.
ACCOUNTS = {f'/etc/{name}{copy}' for name in ('passwd', 'group', 'shadow', 'gshadow') for copy in ('', '-')}
USER = 'smbdirect'


def members(package):
    """path -> (type, mode, owner, time, size, sum) of what a .deb installs."""
    data = subprocess.run(['dpkg-deb', '--fsys-tarfile', package], stdout=subprocess.PIPE, check=True).stdout
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for one in tar:
            content = tar.extractfile(one).read() if one.isfile() else one.linkname.encode()
            found[one.name] = (one.type, one.mode, one.uname, one.mtime, one.size, hashlib.sha256(content).hexdigest())
    return found


def between(first, second):
    """Paths that only one of the two (dictionaries) has, or that they have otherwise."""
    return sorted(path for path in first.keys() | second.keys() if first.get(path) != second.get(path))


def between_builds(first, second):
    """For each package of the directories `first` and `second` that is not the same byte for byte: (name, the paths in
    it that differ)."""
    names = {path.name for directory in (first, second) for path in directory.glob('*.deb')}
    found = []
    for name in sorted(names):
        one, other = first / name, second / name
        if not one.exists() or not other.exists():
            found.append((name, ['only one of the builds made it']))
        elif one.read_bytes() != other.read_bytes():
            found.append((name, between(members(one), members(other)) or ['only its control files or its compression']))
    return found


def read_listing(text):
    """path -> sum of its content, or "" where that is not told: what `sha256sum` and `find` print."""
    files = {}
    for line in text.splitlines():
        digest, _, path = line.rpartition('  ')
        if path not in files or digest:
            files[path] = digest
    return files


def left(before, after):
    """What a purge has left or taken, as lines for a person: of two texts for read_listing()."""
    one, other = read_listing(before), read_listing(after)
    lines = []
    for path in between(one, other):
        if path in ACCOUNTS:
            continue
        lines.append(f'{path} is {"new" if path not in one else "gone" if path not in other else "not what it was"}')
    return lines


def of_life(before, after):
    """The same of (files, accounts), with the accounts."""
    strange = strange_accounts(before[1], after[1])
    return left(before[0], after[0]) + [f'/etc/passwd: {line}' for line in strange]


def strange_accounts(before, after):
    """Lines of /etc/passwd that an installation and a purge may not have changed."""
    changed = set(before.splitlines()) ^ set(after.splitlines())
    return sorted(line for line in changed if not line.startswith(f'{USER}:'))
