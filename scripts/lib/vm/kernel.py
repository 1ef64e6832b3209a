# SPDX-License-Identifier: MIT
"""The guest's kernel: Debian's image, and the two modules that Debian does not build.

cifs.ko is built with SMB Direct and siw.ko (iWARP over TCP) as external modules from the unedited source of
the very version the image has. Nothing is installed: packages are downloaded and unpacked.
"""

import os
import pathlib
import re
import shutil
import subprocess

from cache import Problem

# What the kernel needs to know of these options to build the modules with them. The image has them off (or has
# them as no module), so the compiler is told what the configuration would have said.
MODULES = (
    ('fs/smb/client', ['CONFIG_CIFS=m', 'CONFIG_CIFS_SMB_DIRECT=y', 'KCFLAGS=-DCONFIG_CIFS_SMB_DIRECT=1'], 'cifs'),
    ('drivers/infiniband/sw/siw', ['CONFIG_RDMA_SIW=m', 'KCFLAGS=-DCONFIG_RDMA_SIW_MODULE=1'], 'siw'),
)
# The ASN.1 compiler is a program of the kernel's build that the headers do not carry.
ASN1 = ('scripts/asn1_compiler.c', 'include/linux/asn1.h', 'include/linux/asn1_ber_bytecode.h')
NEGOTIATION = 'cifs_spnego_negtokeninit.asn1'


def version():
    """(ABI, package version) of the installed headers, such as ('6.1.0-56-amd64', '6.1.192-2')."""
    done = subprocess.run(['dpkg-query', '-W', '-f', '${Depends}', 'linux-headers-amd64'], capture_output=True, text=True)
    found = re.search(r'linux-headers-(\S+) \(= (\S+)\)', done.stdout)
    if not found:
        raise Problem('the package linux-headers-amd64 is not installed (or not for this architecture), and the guest '
                      "kernel is the one its headers are of: run 'scripts/setup vm' on Debian 12 for amd64")
    return found[1], found[2]


def command(argv, log, timeout, cwd=None, stdin=subprocess.DEVNULL):
    log.write(('$ ' + ' '.join(map(str, argv)) + '\n').encode())
    log.flush()
    whole = ['setpriv', '--pdeathsig', 'KILL', *map(str, argv)]  # it ends with us, however we end
    try:
        done = subprocess.run(whole, cwd=cwd, stdin=stdin, stdout=log, stderr=log, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise Problem(f'{argv[0]} took longer than {timeout} s; what it said is in {log.name}') from None
    if done.returncode != 0:
        lines = pathlib.Path(log.name).read_text(errors='replace').splitlines()[-20:]
        raise Problem(f'{" ".join(map(str, argv))}\nended with {done.returncode}:\n' + '\n'.join(lines))


def download(package, package_version, directory, log):
    """Path of the downloaded .deb. Package lists that are old or absent are fetched once (for which one is root)."""
    argv = ['apt-get', '-qq', '-o', 'APT::Sandbox::User=root', 'download', f'{package}={package_version}']
    try:
        command(argv, log, 900, cwd=directory)
    except Problem as first:
        try:
            command(['apt-get', '-qq', 'update'], log, 300)
            command(argv, log, 900, cwd=directory)
        except Problem:
            raise Problem(f'{package} {package_version} cannot be downloaded. Is the network there? If the version has '
                          "left the archive, 'apt-get install linux-headers-amd64' brings the current headers, and the "
                          f'guest follows them. {first}') from None
    found = list(pathlib.Path(directory).glob(f'{package}_*.deb'))
    if len(found) != 1:
        raise Problem(f'apt-get download of {package} left {len(found)} files in {directory}; see {log.name}')
    return found[0]


def unpack_source(package, directory, log):
    """The few files of the kernel's source that are needed, in `directory`/linux-source-..."""
    name = 'linux-source-6.1'
    wanted = [f'{name}/{path}' for path in ('fs/smb', 'drivers/infiniband/sw/siw', *ASN1)]
    with subprocess.Popen(['dpkg-deb', '--fsys-tarfile', package], stdout=subprocess.PIPE) as outer:
        with subprocess.Popen(['tar', '-xO', f'./usr/src/{name}.tar.xz'], stdin=outer.stdout,
                              stdout=subprocess.PIPE) as inner:
            outer.stdout.close()
            command(['tar', '-xJ', '-C', directory, *wanted], log, 300, stdin=inner.stdout)
            inner.stdout.close()
    return directory / name


def build_modules(source, headers, log):
    """Builds cifs.ko and siw.ko; gives their paths."""
    compiler = source / 'asn1_compiler'
    command(['gcc-12', '-O1', f'-I{source}/include', '-o', compiler, source / ASN1[0]], log, 60)
    client = source / 'fs/smb/client'
    stem = NEGOTIATION.removesuffix('.asn1')
    command([compiler, NEGOTIATION, f'{stem}.asn1.c', f'{stem}.asn1.h'], log, 60, cwd=client)
    built = []
    for place, settings, name in MODULES:
        jobs = min(2, os.cpu_count() or 1)
        command(['make', f'-j{jobs}', '-C', headers, f'M={source / place}', *settings, 'modules'], log, 900)
        built.append(source / place / f'{name}.ko')
        command(['strip', '-d', built[-1]], log, 60)
    return built


def make(directory, say):
    """Fills `directory` with vmlinuz and lib/modules/<ABI>. Takes about a minute."""
    abi, package_version = version()
    work = directory / 'work'
    work.mkdir()
    with open(directory / 'build.log', 'wb') as log:
        say(f'downloading Linux {package_version} (image and source, 210 MB)')
        image = download(f'linux-image-{abi}', package_version, work, log)
        source = download('linux-source-6.1', package_version, work, log)
        command(['dpkg-deb', '-x', image, work / 'image'], log, 300)
        say('building cifs.ko with SMB Direct, and siw.ko')
        built = build_modules(unpack_source(source, work, log), f'/usr/src/linux-headers-{abi}', log)
        modules = work / 'image/lib/modules' / abi
        (modules / 'updates').mkdir()
        for module in built:
            shutil.copy(module, modules / 'updates')
        command(['/sbin/depmod', '-b', work / 'image', abi], log, 120)
        (work / f'image/boot/vmlinuz-{abi}').rename(directory / 'vmlinuz')
        (work / 'image/lib').rename(directory / 'lib')
    shutil.rmtree(work)
