# SPDX-License-Identifier: MIT
"""The headers that Samba's build makes, and of these only the ones that a compile of our module asks for: by pidl from
IDL, from the tables of error codes, and from the description of smb.conf's parameters. Half a minute, where building
Samba takes an hour."""

import pathlib
import re
import subprocess

from cache import Problem

OUT = 'bin/default'
# As Samba's own build has them, relative to its tree.
INCLUDES = ('source3', 'source3/include', 'source3/lib', 'lib/replace', 'lib', '.', 'include', OUT, f'{OUT}/include',
            f'{OUT}/source3', f'{OUT}/librpc', 'librpc', 'source4', 'lib/talloc', 'lib/tevent')
DEFINES = ('HAVE_CONFIG_H=1', '_GNU_SOURCE', '__STDC_WANT_LIB_EXT1__=1', '_XOPEN_SOURCE_EXTENDED=1', '_REENTRANT')
# All that the module includes of Samba; what these include follows.
PROBE = '''
#include "includes.h"
#include "smbd/smbd.h"
#include "smbd/globals.h"
#include "libcli/smb/smb_common.h"
#include "libcli/smb/smb_constants.h"
#include "libcli/security/security.h"
#include "lib/util/tevent_ntstatus.h"
#include "locking/share_mode_lock.h"
#include "messages.h"
'''
IDL = ('librpc/idl', 'source3/librpc/idl', 'source4/librpc/idl')
PARAMETERS = f'{OUT}/docs-xml/smbdotconf/parameters.all.xml'
ROUNDS = 80  # one header each


class Tree:
    """Samba's unpacked and configured source."""

    def __init__(self, path, log):
        self.path, self.log = path, log

    def run(self, *argv, **options):
        self.log.write(('$ ' + ' '.join(map(str, argv)) + '\n').encode())
        done = subprocess.run([str(a) for a in argv], cwd=self.path, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, errors='replace', timeout=600, **options)
        self.log.write((done.stdout + done.stderr).encode())
        self.log.flush()
        return done

    def must(self, *argv, **options):
        done = self.run(*argv, **options)
        if done.returncode != 0:
            raise Problem(f'{" ".join(map(str, argv))}\nended with {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}')
        return done

    def compile(self, *options):
        probe = self.path / 'smbdirect_probe.c'
        probe.write_text(PROBE)
        flags = [f'-I{d}' for d in INCLUDES] + [f'-D{d}' for d in DEFINES]
        return self.run('gcc', *flags, *options, probe.name, env={'PATH': '/usr/bin:/bin', 'LC_ALL': 'C'})

    # --- one kind of header each -----------------------------------------------------------------------------------

    def idl(self, header, name):
        base = name.removeprefix('ndr_')
        found = [f'{d}/{base}.idl' for d in IDL if (self.path / d / f'{base}.idl').exists()]
        if not found:
            raise Problem(f'{header} is made from {base}.idl, and there is none in this Samba')
        out = f'{OUT}/librpc/gen_ndr'  # relative: headers include each other by it
        parser = ['--ndr-parser'] if name.startswith('ndr_') else []
        self.must('perl', '-Ipidl/lib', 'pidl/pidl', '--quiet', '--includedir=librpc/idl', '--header', *parser,
                  f'--outputdir={out}', *found, env={'PATH': '/usr/bin:/bin', 'LC_ALL': 'C', 'CC': 'gcc', 'CPP': 'gcc -E'})

    def errors(self, header, kind):
        """The scripts want more and more names of files that we have no use for."""
        script, table, out = {
            'ntstatus_gen.h': ('gen_ntstatus.py', 'ntstatus_err_table.txt', 'ntstatus_gen.h'),
            'werror_gen.h': ('gen_werror.py', 'werror_err_table.txt', 'werror_gen.h'),
            'hresult.h': ('gen_hresult.py', 'hresult_err_table.txt', 'hresult.h'),
        }[kind]
        place = self.path / OUT / 'libcli/util'
        for extra in (2, 3):
            argv = ['/usr/bin/python3', f'source4/scripting/bin/{script}', f'libcli/util/{table}', place / out,
                    *(place / f'unused{n}' for n in range(extra))]
            if self.run(*argv).returncode == 0 and (place / out).exists():
                return
        raise Problem(f'{script} of this Samba cannot be run as we know it')

    def parameters(self, header, mode):
        """smb.conf's parameters: the rule in Samba's build only concatenates their descriptions."""
        whole = self.path / PARAMETERS
        if not whole.exists():
            parts = sorted((self.path / 'docs-xml/smbdotconf').glob('*/*.xml'), key=lambda part: part.name)
            text = ''.join(part.read_text() for part in parts)
            text = re.sub(r'&(?!(amp|lt|gt|quot|apos);)[A-Za-z_.]+;', 'x', text)
            whole.parent.mkdir(parents=True)
            whole.write_text(f'<section>\n{text}</section>\n')
        out = self.path / OUT / header
        out.parent.mkdir(parents=True, exist_ok=True)
        self.must('/usr/bin/python3', 'script/generate_param.py', '--file', whole, '--output', out, *mode)

    def make(self, header):
        name = header.rpartition('/')[2]
        if 'gen_ndr/' in header:
            self.idl(header, name.removesuffix('.h'))
        elif name in ('ntstatus_gen.h', 'werror_gen.h', 'hresult.h'):
            self.errors(header, name)
        elif name == 'param_proto.h':
            self.parameters('source3/param/param_proto.h', ['--mode=S3PROTO'])
        elif name == 'param_local.h':
            self.parameters('lib/param/param_local.h', ['--mode=PARAMDEFS', '--scope=LOCAL'])
        elif name == 'param_global.h':
            self.parameters('lib/param/param_global.h', ['--mode=PARAMDEFS', '--scope=GLOBAL'])
        else:
            raise Problem(f'nobody knows how {header} is made in this Samba: add it to scripts/lib/samba/generate.py')

    # --- all -------------------------------------------------------------------------------------------------------

    def generate(self):
        for place in ('librpc/gen_ndr', 'libcli/util', 'lib/param', 'source3/param'):
            (self.path / OUT / place).mkdir(parents=True, exist_ok=True)
        for _ in range(ROUNDS):
            done = self.compile('-fsyntax-only', '-w')
            missing = re.search(r'fatal error: ([^:\n]+): No such file', done.stderr)
            if not missing:
                if done.returncode != 0:
                    raise Problem(f'the headers of this Samba do not compile:\n{done.stderr[-2000:]}')
                return
            self.make(missing[1])
        raise Problem(f'the headers of this Samba ask for more than {ROUNDS} others')

    def used(self):
        """The files of the tree that the module's compile reads, relative to it."""
        done = self.must('gcc', *(f'-I{d}' for d in INCLUDES), *(f'-D{d}' for d in DEFINES), '-w', '-M', 'smbdirect_probe.c')
        names = done.stdout.replace('\\\n', ' ').split()[1:]
        root = self.path.resolve()
        paths = {(root / name).resolve() for name in names}
        return sorted(path.relative_to(root) for path in paths if path.is_relative_to(root) and path.suffix != '.c')


def missing_in_probe(module):
    """What the module's sources (a directory) include of Samba's, and PROBE does not."""
    wanted = set()
    for source in sorted(pathlib.Path(module).glob('*.[ch]')):
        wanted |= {name for name in re.findall(r'^#include "([^"]+)"', source.read_text(), re.M)
                   if not name.startswith('protocol/')}
    return sorted(name for name in wanted if f'"{name}"' not in PROBE)
