# SPDX-License-Identifier: MIT
"""The modules that Debian does not build, as external modules from the source of the very version the image has: cifs.ko
with SMB Direct (since Linux 7.x with smbdirect.ko, which client and server share) and siw.ko, iWARP over TCP. For who
wants to compare with it: ksmbd.ko with SMB Direct."""

import os
import pathlib
import re
import shutil
import subprocess

from archive import command
from cache import Problem

# What the kernel needs to know of these options to build the modules with them. The image has them off (or has
# them as no module), so the compiler is told what the configuration would have said.
CLIENT, SERVER, SHARED, SIW = 'fs/smb/client', 'fs/smb/server', 'fs/smb/smbdirect', 'drivers/infiniband/sw/siw'
# The ASN.1 compiler is a program of the kernel's build that the headers do not carry.
ASN1 = ('scripts/asn1_compiler.c', 'include/linux/asn1.h', 'include/linux/asn1_ber_bytecode.h')
NEGOTIATION = {CLIENT: ['cifs_spnego_negtokeninit'], SERVER: ['ksmbd_spnego_negtokeninit', 'ksmbd_spnego_negtokentarg']}
SOURCES = ('fs/smb', 'fs/nls', 'fs/internal.h', SIW, *ASN1)

# siw sends large data by reference and reports it sent when TCP has queued it. Since 6.12 it is seen that a buffer
# which is then used again, as verbs allow, is sent with its later contents: no server can be tested on that. So it can
# be switched off, by a parameter where the source has a constant.
PARAMETER = {
    'siw.h': ('extern const bool zcopy_tx;\n', 'extern bool zcopy_tx;\n'),
    'siw_main.c': ('const bool zcopy_tx = true;\n', 'bool zcopy_tx = true;\nmodule_param(zcopy_tx, bool, 0644);\n'),
}


def unpack_source(name, package, directory, log):
    """The few files of the kernel's source that are needed, in `directory`/linux-source-..."""
    wanted = [f'{name}/{path}' for path in SOURCES]
    with subprocess.Popen(['dpkg-deb', '--fsys-tarfile', package], stdout=subprocess.PIPE) as outer:
        with subprocess.Popen(['tar', '-xO', f'./usr/src/{name}.tar.xz'], stdin=outer.stdout,
                              stdout=subprocess.PIPE) as inner:
            outer.stdout.close()
            command(['tar', '-xJ', '-C', directory, *wanted], log, 600, stdin=inner.stdout)
            inner.stdout.close()


class Headers:
    """Unpacked headers of a kernel, made to work where they are: `path` is for make -C, `settings` for its command line.

    Their makefiles name each other by absolute paths. Their programs (modpost, objtool) may be built for a newer C
    library than this machine's, and so run with the one of their release."""

    def __init__(self, root, libraries, abi, log):
        self.path = root / 'usr/src' / f'linux-headers-{abi}'
        makefile = self.path / 'Makefile'
        makefile.write_text(makefile.read_text().replace('/usr/src/', f'{root}/usr/src/'))
        for place in (root / 'usr/lib', root / 'lib'):
            for kbuild in place.glob('linux-kbuild-*'):
                wrap_programs(kbuild, libraries)
        self.settings = ['CONFIG_DEBUG_INFO_BTF=', 'CONFIG_DEBUG_INFO_BTF_MODULES=', *compiler_settings(self.path, log)]


def wrap_programs(place, libraries):
    """Has every program below `place` run with the C library and others below `libraries`. Both may be moved together."""
    (loader,) = [p for p in libraries.rglob('ld-linux-x86-64.so.2') if p.parent.name == 'x86_64-linux-gnu']
    directories = sorted({p.parent for p in libraries.rglob('lib*.so.*')})
    for path in list(place.rglob('*')):
        if path.is_symlink() or not path.is_file() or path.read_bytes()[:5] != b'\x7fELF\x02':
            continue
        real = path.with_name(path.name + '.program')
        path.rename(real)

        def from_here(other, here=path.parent):
            return f'$here/{os.path.relpath(other, here)}'
        path.write_text('#!/bin/sh\nhere=$(dirname "$(readlink -f "$0")")\n'
                        f'exec "{from_here(loader)}" --argv0 "$0" --library-path "{":".join(map(from_here, directories))}" '
                        f'"{from_here(real)}" "$@"\n')
        path.chmod(0o755)


def compiler_settings(headers, log):
    """The compiler that built the kernel where the machine has it, else the machine's own, if it can do the same."""
    named = re.search(r'(gcc-\d+)', (headers / '.kernelvariables').read_text())
    compiler = named[1] if named and shutil.which(named[1]) else 'gcc'
    if shutil.which(compiler) is None:
        raise Problem("there is no gcc, which builds the guest's modules: run 'scripts/setup vm'")
    settings = [f'CC={compiler}', f'HOSTCC={compiler}']
    # Debian 12's gcc lacks an option that later kernels were configured with; the older one does for modules.
    asked = [compiler, '-fmin-function-alignment=16', '-E', '-x', 'c', '/dev/null', '-o', '/dev/null']
    if subprocess.run(asked, stdout=log, stderr=log, timeout=60).returncode != 0:
        settings.append('CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=')
    return settings


def give_parameter(siw):
    for name, (text, instead) in PARAMETER.items():
        path = siw / name
        source = path.read_text()
        if source.count(text) != 1:
            raise Problem(f'{name} of this siw has no line "{text.strip()}" (or several): it cannot be given the parameter '
                          'that tests of the verbs fabric need, see scripts/lib/vm/modules.py')
        path.write_text(source.replace(text, instead))


def make_negotiation(place, source, log):
    """Compiles the ASN.1 of the negotiation, which the headers have no compiler for."""
    compiler = source / 'asn1_compiler'
    command(['gcc', '-O1', f'-I{source}/include', '-o', compiler, source / ASN1[0]], log, 60)
    for stem in NEGOTIATION[place]:
        if (source / place / f'{stem}.asn1').exists():
            command([compiler, f'{stem}.asn1', f'{stem}.asn1.c', f'{stem}.asn1.h'], log, 60, cwd=source / place)


def build(source, headers, log, ksmbd=False):
    """Builds the modules; gives their paths."""
    make_negotiation(CLIENT, source, log)
    give_parameter(source / SIW)
    flags, common, plan = '', [], []
    if (source / SHARED).is_dir():
        flags = ' -DCONFIG_SMBDIRECT_MODULE=1'
        common = ['CONFIG_SMBDIRECT=m', f'KBUILD_EXTRA_SYMBOLS={source / SHARED}/Module.symvers']
        plan.append((SHARED, 'smbdirect', ['CONFIG_SMBDIRECT=m', f'KCFLAGS={flags}']))
    plan.append((CLIENT, 'cifs', ['CONFIG_CIFS=m', 'CONFIG_CIFS_SMB_DIRECT=y', *common,
                                  f'KCFLAGS=-DCONFIG_CIFS_SMB_DIRECT=1{flags}']))
    if ksmbd:
        make_negotiation(SERVER, source, log)
        plan.append((SERVER, 'ksmbd', ['CONFIG_SMB_SERVER=m', 'CONFIG_SMB_SERVER_SMBDIRECT=y', *common,
                                       f'KCFLAGS=-DCONFIG_SMB_SERVER_SMBDIRECT=1{flags}']))
    plan.append((SIW, 'siw', ['CONFIG_RDMA_SIW=m', 'KCFLAGS=-DCONFIG_RDMA_SIW_MODULE=1']))
    built = []
    for place, name, settings in plan:
        jobs = min(2, os.cpu_count() or 1)
        command(['make', f'-j{jobs}', '-C', headers.path, f'M={source / place}', *headers.settings, *settings, 'modules'],
                log, 1800)
        built.append(source / place / f'{name}.ko')
        command(['strip', '-d', built[-1]], log, 60)
    return built
