# SPDX-License-Identifier: MIT
"""The headers of Samba as an upstream tarball of the source package: what no Debian package has, and samba-vfs-smbdirect is
built with. They are those of scripts/setup module."""

import gzip
import io
import pathlib
import subprocess
import sys
import tarfile

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / 'samba'))
from series import RELEASES  # noqa: E402

COMPONENT = 'samba-headers'
MADE_BY = pathlib.Path(__file__).resolve().parents[1] / 'samba/main.py'
PARTS = ('version', 'flags', 'tree')


def series():
    """All that a module is built for: a release of three numbers is there to be compared with."""
    return [name for name in RELEASES if name.count('.') == 1]


def fetch():
    """series -> directory; made where it is not there. CalledProcessError, with what it said on stderr."""
    subprocess.run(['/usr/bin/python3', MADE_BY, *series()], stdin=subprocess.DEVNULL, check=True)
    text = subprocess.run(['/usr/bin/python3', MADE_BY, '--list'], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, text=True).stdout
    listed = {line.split()[0]: pathlib.Path(line.split()[2]) for line in text.splitlines()}
    return {name: listed[name] for name in series()}


def plain(member):
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ''
    member.mode = 0o755 if member.isdir() else 0o644
    return member


def pack(headers, path):
    """The same bytes for the same headers, whenever and by whomever it is made."""
    with open(path, 'wb') as file, gzip.GzipFile('', 'wb', fileobj=file, mtime=0) as packed:
        with tarfile.open(fileobj=packed, mode='w', format=tarfile.GNU_FORMAT) as archive:
            for name, directory in sorted(headers.items()):
                for part in PARTS:
                    add(archive, directory / part, f'{COMPONENT}/{name}/{part}')


def without_valgrind(config):
    """config.h for machines that have none, whatever the one has that made it."""
    return b''.join(line for line in config.splitlines(keepends=True) if not line.startswith(b'#define HAVE_VALGRIND'))


def add(archive, path, name):
    if path.name == 'config.h':
        data = without_valgrind(path.read_bytes())
        member = plain(archive.gettarinfo(path, name))
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
        return
    archive.add(path, name, recursive=False, filter=plain)
    if path.is_dir():
        for one in sorted(path.iterdir()):
            add(archive, one, f'{name}/{one.name}')
