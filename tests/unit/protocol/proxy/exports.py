#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What libsmbdirect-peer exports is what its header declares, and C programs need no C++ runtime for it.

    exports.py LIBRARY HEADER [--any-runtime]    (a sanitizer brings a runtime of its own)
"""

import re
import subprocess
import sys


def lines_of(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def main(library, header, *options):
    with open(header, encoding='utf-8') as file:
        declared = set(re.findall(r'^SMBDIRECT_PUBLIC [^;(]*?\b(smbdirect_\w+)\(', file.read(), re.MULTILINE))
    symbols = [line.split() for line in lines_of('nm', '-D', '--defined-only', library)]
    exported = {name.split('@')[0] for _, kind, name in symbols if kind != 'A'}
    wrong = [f'{name}: exported, not declared' for name in sorted(exported - declared)]
    wrong += [f'{name}: declared, not exported' for name in sorted(declared - exported)]
    wrong += [f'{name}: not of this version' for _, kind, name in symbols
              if kind != 'A' and not name.endswith('@@SMBDIRECT_PEER_0.1')]
    if '--any-runtime' not in options:
        needed = re.findall(r'NEEDED.*\[(.*)\]', '\n'.join(lines_of('readelf', '-d', library)))
        wrong += [f'{name}: needed' for name in needed if re.match(r'libstdc\+\+|libgcc_s', name)]
    for line in wrong:
        print(line)
    print(f'{len(exported)} functions, {len(wrong)} wrong')
    return 0 if exported and not wrong else 1


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
