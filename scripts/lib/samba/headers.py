# SPDX-License-Identifier: MIT
"""The headers of one Samba, as our module is compiled with: Debian's source with its patches, configured as Debian
configures it, the generated headers made (generate.py), and everything else thrown away."""

import hashlib
import pathlib
import shutil
import subprocess
import sys
import urllib.request

from archive import Archive, command
from cache import Problem, Unreachable
from generate import DEFINES, INCLUDES, Tree
from series import RELEASES

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / 'fresh'))
import sources  # noqa: E402

RECIPE = '1'  # raised when what is made here is made otherwise: then it is made anew
# What changes structures in Samba's headers is as in debian/rules of all series: profiling, clustering. The rest only
# keeps configure from asking for libraries whose headers we never read.
CONFIGURE = (
    '--prefix=/usr', '--enable-fhs', '--sysconfdir=/etc', '--localstatedir=/var', '--libexecdir=/usr/libexec',
    '--datadir=/usr/share', '--with-privatedir=/var/lib/samba/private', '--with-piddir=/run/samba',
    '--with-lockdir=/run/samba', '--with-statedir=/var/lib/samba', '--with-cachedir=/var/cache/samba',
    '--with-profiling-data', '--with-cluster-support', '--with-quota', '--with-syslog', '--with-utmp', '--with-automount',
    '--disable-python', '--without-ad-dc', '--without-libarchive', '--without-ads', '--disable-iprint', '--without-pam',
    '--disable-cups', '--disable-avahi', '--disable-glusterfs', '--disable-cephfs', '--disable-spotlight',
    '--without-systemd', '--without-gpgme', '--disable-rpath', '--disable-rpath-install',
)  # fmt: skip


def download(release, work, log):
    """(orig.tar, debian.tar or None) in `work`."""
    if release.suites:
        archive = Archive(work / 'apt', release.suites, log, source=True)
        try:
            command([*archive.program('apt-get'), 'source', '--download-only', 'samba'], log, 1800, cwd=work)
        except Problem as problem:
            raise Unreachable(f'the source of samba cannot be had from {", ".join(release.suites)}:\n{problem}') from None
    for name, wanted in release.pool.items():
        from_pool(name, wanted, work)
    (orig,) = work.glob('samba_*.orig.tar.xz')
    return orig, next(work.glob('samba_*.debian.tar.xz'), None)


def from_pool(name, wanted, work):
    mirror, _ = sources.mirrors()
    address = f'{mirror}/pool/main/s/samba/{name}'
    try:
        with urllib.request.urlopen(address, timeout=300) as answer, open(work / name, 'wb') as out:
            shutil.copyfileobj(answer, out)
    except OSError as e:
        raise Unreachable(f'{address} cannot be downloaded: {e}') from None
    digest = hashlib.sha256((work / name).read_bytes()).hexdigest()
    if digest != wanted:
        raise Problem(f'{address} is not the file that is known here: its SHA-256 is {digest}, not {wanted}')


def unpack(orig, debian, work, log):
    command(['tar', '-xf', orig, '-C', work], log, 600)
    (tree,) = work.glob('samba-*/')
    if debian is None:
        return tree
    (work / 'debian').mkdir()
    command(['tar', '-xf', debian, '-C', work / 'debian'], log, 600)
    patches = work / 'debian/debian/patches'
    for line in (patches / 'series').read_text().splitlines():
        name = line.split('#')[0].strip()
        if name:
            command(['patch', '-s', '-p1', '-i', patches / name], log, 60, cwd=tree)
    return tree


def configure(tree, log):
    """Minutes. Without the bundled libraries where all of their headers are there."""
    libdir = subprocess.run(['gcc', '-print-multiarch'], capture_output=True, text=True).stdout.strip()
    for bundled in ('NONE,pytevent,ldb', None):
        argv = ['env', 'PYTHONHASHSEED=1', 'PYTHON=/usr/bin/python3', '/usr/bin/python3', './buildtools/bin/waf', '-j1',
                'configure', f'--libdir=/usr/lib/{libdir}', f'--with-modulesdir=/usr/lib/{libdir}/samba', *CONFIGURE]
        try:
            command([*argv, *([f'--bundled-libraries={bundled}'] if bundled else [])], log, 1800, cwd=tree)
            return
        except Problem:
            if bundled is None:
                raise


def version_of(tree):
    """'4.17.12' of the file VERSION."""
    fields = dict(line.split('=', 1) for line in (tree / 'VERSION').read_text().splitlines()
                  if '=' in line and not line.startswith('#'))
    return '.'.join(fields[f'SAMBA_VERSION_{part}'].strip() for part in ('MAJOR', 'MINOR', 'RELEASE'))


def make(name, directory, say):
    """Fills `directory`: tree/ with the headers, and `version` with "4.17.12", `flags` with what the compiler is told."""
    work = directory / 'work'
    work.mkdir()
    with open(directory / 'build.log', 'wb') as log:
        say(f'Samba {name}: downloading the source')
        orig, debian = download(RELEASES[name], work, log)
        tree = unpack(orig, debian, work, log)
        version = version_of(tree)
        if not version.startswith('.'.join(name.split('.')[:2]) + '.'):
            raise Problem(f'the source found for Samba {name} is of {version}: the suites in scripts/lib/samba/series.py '
                          'have moved on')
        say(f'Samba {name}: configuring {version} (some minutes)')
        configure(tree, log)
        say(f'Samba {name}: making the headers that are generated')
        source = Tree(tree, log)
        source.generate()
        for path in source.used():
            target = directory / 'tree' / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(tree / path, target)
    for include in INCLUDES:
        (directory / 'tree' / include).mkdir(parents=True, exist_ok=True)
    (directory / 'flags').write_text('\n'.join([f'I {i}' for i in INCLUDES] + [f'D {d}' for d in DEFINES]) + '\n')
    (directory / 'version').write_text(f'{version}\n')
    shutil.rmtree(work)
