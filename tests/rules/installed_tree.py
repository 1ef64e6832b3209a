#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What `meson install` puts on a machine, and that it works from there: programs find what the manual pages say they
find, and the example of smbdirect_peer(3) compiles against the installed library as its readers would do it.

    installed_tree.py SOURCE BUILD [MODULE]...    BUILD is complete; installs into a directory of its own; MODULEs for smbd
                                                  are there too
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

EXECUTABLES = ['sbin/smbdirectd', 'sbin/smbdirectctl', 'sbin/smbdirect-exporter', 'bin/smbdirect-connect', 'libexec/smbdirectd/smbdirect-worker',
               'libexec/smbdirectd/stop', 'share/doc/smbdirectd/examples/smbdirectd.init',
               'share/ctdb/events/legacy/09.smbdirectd.script']
DATA = ['share/doc/smbdirectd/examples/pool.json', 'share/smbdirectd/pool.schema.json', 'include/smbdirect_peer.h',
        'lib/systemd/system/smbdirectd.service', 'lib/systemd/system/smbdirect-exporter.service',
        'share/smbdirectd/grafana-dashboard.json', 'lib/sysusers.d/smbdirectd.conf', 'lib/tmpfiles.d/smbdirectd.conf',
        'share/doc/smbdirectd/examples/hardening.conf']
PROGRAMS = ['smbdirectctl', 'smbdirectd', 'smbdirect-exporter', 'smbdirect-connect']
DATA += ['share/bash-completion/completions/' + name for name in PROGRAMS]
DATA += ['share/zsh/site-functions/_' + name for name in PROGRAMS]  # below /usr: vendor-completions
IN_LIBDIR = ['libsmbdirect-peer.so', 'libsmbdirect-peer.so.0', 'libsmbdirect-peer.so.0.1.0',
             'pkgconfig/smbdirect-peer.pc']

# What the manual page leaves to its reader.
REST_OF_EXAMPLE = """
void serve_message(struct smbdirect_channel *channel, const uint8_t *pdu, size_t size)
{ (void)channel; (void)pdu; (void)size; }
void data_moved(struct smbdirect_channel *channel, uint64_t id) { (void)channel; (void)id; }
void serve_another(struct smbdirect_channel *channel) { (void)channel; }
"""


def run(*argv, status=0, **options):
    done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
                          **options)
    text = done.stdout + done.stderr
    assert done.returncode == status, f'{argv[0]} ended with {done.returncode}, not {status}:\n{text}'
    return text


def example(page):
    """The program in a manual page, as groff would print it."""
    blocks = re.findall(r'^\.nf\n(.*?)^\.fi$', page.read_text(), re.S | re.M)
    (program,) = [block for block in blocks if '\nint main(' in block]
    return program.replace(r'\-', '-').replace('\\\\', '\\')


class Installed:
    def __init__(self, source, build, destination, modules):
        self.source, self.root, self.modules = source, destination, modules
        run('meson', 'install', '-C', build, '--no-rebuild', '--quiet', '--destdir', destination)
        (program,) = destination.rglob('smbdirectd-pool.5')
        self.prefix = program.parents[3]
        (library,) = destination.rglob('libsmbdirect-peer.so')
        self.libdir = library.parent

    def check_files(self):
        names = [page.name.removesuffix('.in') for page in (self.source / 'docs').iterdir()]
        pages = [f'share/man/man{name[-1]}/{name}' for name in names if re.search(r'\.[1-8]$', name)]
        expected = {self.prefix / name for name in [*EXECUTABLES, *DATA, *pages]}
        expected |= {self.libdir / name for name in [*IN_LIBDIR, *self.modules]}
        found = {path for path in self.root.rglob('*') if not path.is_dir()}
        assert found == expected, f'missing: {expected - found}; not expected: {found - expected}'
        closed = [path for path in expected if not path.stat().st_mode & 0o004]
        assert not closed, f'not readable for everybody: {closed}'
        for name in EXECUTABLES:
            assert os.access(self.prefix / name, os.X_OK), f'{name} is not executable'

    def check_pages(self):
        """Also those that are made by the build."""
        for page in sorted((self.prefix / 'share/man').rglob('*.[1-8]')):
            said = run('groff', '-man', '-Tutf8', '-ww', '-z', page)
            assert not said, f'{page.name}: {said}'

    def check_paths(self):
        """A person writes the pool file where the documents say; the programs and the unit name it too."""
        told = set()
        for page in [self.source / 'README.md', *(self.source / 'docs').iterdir()]:
            told |= set(re.findall(r'/[a-z/]*etc/[a-z/]*pool\.json', page.read_text()))
        assert len(told) == 1, f'the documents name several pool files: {told}'
        (file,) = told
        text = run(self.prefix / 'sbin/smbdirectd', '--help')
        assert f'The pool file is {file} ' in text, f'the documents say {file}; smbdirectd --help:\n{text}'
        unit = (self.prefix / 'lib/systemd/system/smbdirectd.service').read_text()
        assert f'ConditionPathExists={file}\n' in unit and '@' not in unit.replace('=@system-service', ''), unit
        exporter = (self.prefix / 'lib/systemd/system/smbdirect-exporter.service').read_text()
        assert '@' not in exporter.replace('=@system-service', '').replace('=~@privileged @resources', ''), exporter
        script = (self.prefix / 'share/doc/smbdirectd/examples/smbdirectd.init').read_text()
        assert f'\nPOOL={file}\n' in script and not re.search('@[a-z_]+@', script), script
        programs = re.findall(r'^Exec\w+=(\S+)', unit + exporter, re.M) + re.findall(r'^(?:DAEMON|STOP)=(\S+)', script, re.M)
        programs.remove('/bin/kill')
        assert len(programs) == 6, programs
        for program in programs:
            assert os.access(self.root / program.lstrip('/'), os.X_OK), f'{program} is started, but not installed'

    def check_programs(self):
        pool = self.prefix / 'share/doc/smbdirectd/examples/pool.json'
        run(self.prefix / 'sbin/smbdirectd', '--check-config', '--configfile', pool)
        for name in ['sbin/smbdirectctl', 'sbin/smbdirect-exporter', 'bin/smbdirect-connect']:
            run(self.prefix / name, '--help')

    def check_library(self):
        """As the users of the library build: a C compiler and pkg-config."""
        control = self.root / 'nobody-listens'
        program = example(self.source / 'docs/smbdirect_peer.3').replace('/run/smbdirectd/control', str(control))
        assert str(control) in program
        text, binary = self.root / 'example.c', self.root / 'example'
        text.write_text(program + REST_OF_EXAMPLE)
        flags = run('pkg-config', '--cflags', '--libs', 'smbdirect-peer', env={
            **os.environ, 'PKG_CONFIG_PATH': str(self.libdir / 'pkgconfig'), 'PKG_CONFIG_SYSROOT_DIR': str(self.root)})
        run(*shlex.split(os.environ.get('CC', 'cc')), '-std=gnu99', '-Wall', '-Wextra', '-Werror', text, '-o', binary, *flags.split())
        said = run(binary, status=1, env={**os.environ, 'LD_LIBRARY_PATH': str(self.libdir)})
        assert said == 'cannot register with smbdirectd: No such file or directory\n', said


def main():
    source, build = map(pathlib.Path, sys.argv[1:3])
    with tempfile.TemporaryDirectory(prefix='smbdirectd-installed-') as directory:
        installed = Installed(source, build, pathlib.Path(directory), sys.argv[3:])
        for check in (installed.check_files, installed.check_pages, installed.check_paths, installed.check_programs,
                      installed.check_library):
            check()
            print(f'ok {check.__name__}')


if __name__ == '__main__':
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main()
