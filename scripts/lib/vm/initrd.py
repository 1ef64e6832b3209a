# SPDX-License-Identifier: MIT
"""The initrd: a static busybox, the guest's init and the modules it takes to see the host's file system."""

import pathlib
import shutil
import subprocess

from cache import Problem

HERE = pathlib.Path(__file__).resolve().parent
BUSYBOX = '/bin/busybox'
INIT = HERE / 'init.sh'
# Everything else is loaded by modprobe from the guest's own /lib/modules.
MODULES = ('virtio_pci', '9pnet_virtio', '9p', 'overlay')


def module_paths(kernel, abi):
    """Paths of MODULES and what they depend on, in the order of loading."""
    found = []
    for name in MODULES:
        done = subprocess.run(['/sbin/modprobe', '-d', kernel, '-S', abi, '--show-depends', name], capture_output=True,
                              text=True, timeout=30)
        if done.returncode != 0:
            raise Problem(f'modprobe does not find the module {name} of {abi} in {kernel}: {done.stderr.strip()}')
        for line in done.stdout.splitlines():
            words = line.split()
            if words[0] == 'insmod' and words[1] not in found:
                found.append(words[1])
    return found


def make(directory, kernel, abi):
    """Writes `directory`/initrd."""
    tree = directory / 'tree'
    for place in ('bin', 'dev', 'proc', 'sys', 'lower', 'layer', 'new', 'modules'):
        (tree / place).mkdir(parents=True)
    shutil.copy(BUSYBOX, tree / 'bin/busybox')
    shutil.copy(INIT, tree / 'init')
    (tree / 'init').chmod(0o755)
    names = []
    for path in map(pathlib.Path, module_paths(kernel, abi)):
        shutil.copy(path, tree / 'modules')
        names.append(path.name)
    (tree / 'modules/order').write_text(''.join(f'{name}\n' for name in names))
    paths = '\n'.join(sorted(str(p.relative_to(tree)) for p in tree.rglob('*')))
    with open(directory / 'initrd', 'wb') as out:
        done = subprocess.run(['cpio', '--quiet', '-o', '-H', 'newc', '-R', '0:0'], cwd=tree, input=paths.encode(),
                              stdout=out, stderr=subprocess.PIPE, timeout=60)
    if done.returncode != 0:
        raise Problem(f'cpio could not make the initrd from {tree}: {done.stderr.decode(errors="replace").strip()}')
    shutil.rmtree(tree)
