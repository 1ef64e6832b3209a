# SPDX-License-Identifier: MIT
"""The guest's kernel: the image of a Debian release, and the modules that Debian does not build (modules.py). Of each
kernel the newest package that its release has when it is fetched. Nothing is installed: packages are downloaded and
unpacked."""

import pathlib
import re
import shutil

import modules
from archive import Archive, command
from cache import Problem

# Which suites have which kernel. 7.x: whatever is newest, it moves with every release of Linux; backports are not
# preferred by themselves, and are of no use without what they are for.
SUITES = {
    '6.1': ('bookworm', 'bookworm-security'),
    '6.12': ('trixie', 'trixie-security'),
    '7.x': ('trixie', 'trixie-backports'),
}
PREFERRED = {'7.x': 'trixie-backports'}
RELEASES = {'bookworm': '6.1', 'trixie': '6.12'}
# What the programs of the kernel's build need to run, on any machine. libelf's name depends on the release.
LIBRARIES = ('libc6', 'zlib1g', 'libzstd1')


def usual():
    """The kernel of this machine's release; elsewhere the newest."""
    try:
        text = pathlib.Path('/etc/os-release').read_text()
    except OSError:
        text = ''
    found = re.search(r'^VERSION_CODENAME="?(\w+)', text, re.M)
    return RELEASES.get(found[1] if found else '', '7.x')


def wanted(archive):
    """(ABI, version, packages of the image, packages of the headers), such as '6.12.118+deb13-amd64', '6.12.118-1'."""
    names = [n for n in archive.depends('linux-image-amd64') if re.match(r'linux-image-\d', n)]
    if not names:
        raise Problem(f'{", ".join(archive.suites)} have no package linux-image-amd64 that depends on a kernel')
    abi = names[0].removeprefix('linux-image-')
    version = archive.show(names[0]).get('Version')
    # Since 7.x the package of the image is empty, and what it was is in packages that it depends on: the image, the
    # modules, and the list of what is built in.
    parts = [f'linux-{part}-{abi}' for part in ('binary', 'modules', 'base')]
    image = names[:1] + [n for n in archive.depends(names[0], version) if n in parts]
    headers = [f'linux-headers-{abi}']
    headers += [n for n in archive.depends(headers[0], version) if re.match(r'linux-(headers|kbuild)-', n)]
    if len(headers) != 3:
        raise Problem(f'the headers of Linux {version} are not in the packages expected, but in {headers}')
    return abi, version, image, headers


def libraries(archive, headers):
    kbuild = next(n for n in headers if n.startswith('linux-kbuild-'))
    elf = [n for n in archive.depends(kbuild) if n.startswith('libelf')]
    return {name: archive.show(name)['Version'] for name in (*LIBRARIES, *elf)}


def unpack_tools(archive, directory):
    """ksmbd-tools with the libraries of their release, so that they run on another."""
    names = ['ksmbd-tools', 'libc6', *archive.depends('ksmbd-tools')]
    names += [one for name in names if name.startswith(('libglib', 'libnl')) for one in archive.depends(name)]
    archive.unpack({one: archive.show(one)['Version'] for one in sorted(set(names)) if archive.show(one)}, directory)
    modules.wrap_programs(directory / 'usr/libexec', directory)


def make(name, ksmbd, directory, say):
    """Fills `directory` with vmlinuz, lib/modules/<ABI>, and the file `version`: "ABI VERSION". A minute or two. ksmbd: with
    that server's SMB Direct, and its tools in ksmbd-tools."""
    work = directory / 'work'
    work.mkdir()
    with open(directory / 'build.log', 'wb') as log:
        say(f'looking for Linux {name} in {", ".join(SUITES[name])}')
        archive = Archive(work / 'apt', SUITES[name], log, prefer=PREFERRED.get(name))
        abi, version, image, headers = wanted(archive)
        source = 'linux-source-' + '.'.join(re.split(r'[.-]', version)[:2])
        # The image is signed, and so may be a step behind packages that replace each other, as linux-kbuild-6.1 does.
        packages = {n: version if archive.show(n, version) else archive.show(n).get('Version', version)
                    for n in (*image, *headers, source)}
        if packages[source] != version:
            raise Problem(f'{", ".join(archive.suites)} have the image of Linux {version} and not its source')
        size = sum(int(archive.show(n, v).get('Size', 0)) for n, v in packages.items())
        say(f'downloading Linux {version} (image, headers and source, {size // 1000000} MB)')
        sources = archive.unpack(packages, work / 'root', keep=(source,))
        archive.unpack(libraries(archive, headers), work / 'libraries')
        modules.unpack_source(source, sources[source], work, log)
        if ksmbd:
            unpack_tools(archive, directory / 'ksmbd-tools')
        say('building cifs.ko with SMB Direct, and siw.ko')
        built = modules.build(work / source, modules.Headers(work / 'root', work / 'libraries', abi, log), log, ksmbd)
        assemble(directory, work / 'root', abi, built, log)
        (directory / 'version').write_text(f'{abi} {version}\n')
    shutil.rmtree(work)


def assemble(directory, root, abi, built, log):
    """The image and its modules with ours among them. Their place is below /lib or /usr/lib, as the release has it."""
    libs = [root / lib / 'modules' / abi for lib in ('lib', 'usr/lib')]
    kernels = [place for lib in libs for place in (root / 'boot' / f'vmlinuz-{abi}', lib / 'vmlinuz') if place.exists()]
    found = [lib for lib in libs if (lib / 'kernel').is_dir()]
    if not kernels or not found:
        raise Problem(f'the packages of {abi} have their image or its modules in another place than expected')
    kernels[0].rename(directory / 'vmlinuz')
    (directory / 'lib/modules').mkdir(parents=True)
    place = directory / 'lib/modules' / abi
    shutil.move(found[0], place)
    (place / 'updates').mkdir()
    for module in built:
        shutil.copy(module, place / 'updates')
    command(['/sbin/depmod', '-b', directory, abi], log, 120)
