#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What debian/ repeats of the tree has to agree with it: the version, the library's symbols, and what systemd starts.

    package_rules.py ROOT           check the tree; one line for each disagreement, exit 1 if any
    package_rules.py --self-check   show each rule texts that agree and texts that do not; exit 1 if it misjudges one
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'scripts/lib/package'))
sys.dont_write_bytecode = True
import version  # noqa: E402


def versions(meson, changelog):
    try:
        version.agreed(meson, changelog)
    except version.Disagreement as e:
        return [str(e)]
    return []


def symbols(header, listed):
    """The functions of smbdirect_peer.h, and those of debian/libsmbdirect-peer0.symbols."""
    ours = set(re.findall(r'\b(smbdirect_\w+)\(', re.sub(r'/\*.*?\*/', '', header, flags=re.S)))
    theirs = set(re.findall(r'^ (smbdirect_\w+)@', listed, re.M))
    return [f'debian/libsmbdirect-peer0.symbols: {name} is {"not there" if name in ours else "in no header"}'
            for name in sorted(ours ^ theirs)]


def stopped(units, scripts):
    """dh stops only what it has started, which is nothing: prerm ends each unit, and postinst has it run the new program.
    `scripts`: name -> text."""
    return [f'debian/{name}: says nothing of {unit}' for unit in units for name, text in scripts.items()
            if not re.search(rf'\b{re.escape(unit)}\b', re.sub(r'^\s*#.*$', '', text, flags=re.M))]


def problems(root):
    def text(name):
        return (root / name).read_text()

    return [*versions(text('meson.build'), text('debian/changelog')),
            *symbols(text('protocol/proxy/smbdirect_peer.h'), text('debian/libsmbdirect-peer0.symbols')),
            *stopped([path.name.split('.')[0] for path in sorted((root / 'conf').glob('*.service.in'))],
                     {name: text(f'debian/{name}') for name in ('smbdirectd.prerm', 'smbdirectd.postinst')})]


MESON = "project('smbdirectd', 'cpp',\n  version: '1.2.0',\n"
ENTRY = 'smbdirectd ({}) unstable; urgency=medium\n\n  * Something.\n\n -- A <a@example.org>  Sun, 29 Nov 2026 12:00:00 +0000\n'
HEADER = '/* not smbdirect_old() */\nint smbdirect_one(int);\nconst char *smbdirect_two(void);\n'
SELF_CHECK = [  # rule, what it reads, whether that agrees
    (versions, (MESON, ENTRY.format('1.2.0-1')), True),
    (versions, (MESON, ENTRY.format('1.2.0-1~bpo13+1')), True),
    (versions, (MESON, ENTRY.format('1.1.0-1')), False),
    (versions, (MESON, ENTRY.format('1.2.0')), False),
    (versions, (MESON, '\n' + ENTRY.format('1.2.0-1')), False),
    (versions, ("project('other', version: '1.2.0')", ENTRY.format('1.2.0-1')), False),
    (symbols, (HEADER, ' smbdirect_one@V 1.0\n smbdirect_two@V 1.0\n'), True),
    (symbols, (HEADER, ' smbdirect_one@V 1.0\n'), False),
    (symbols, (HEADER, ' smbdirect_one@V 1.0\n smbdirect_two@V 1.0\n smbdirect_old@V 1.0\n'), False),
    (stopped, (['one', 'two'], {'prerm': 'stop one\nstop two.service\n'}), True),
    (stopped, (['one', 'two'], {'prerm': 'stop one\n# not two\n'}), False),
    (stopped, (['one'], {'prerm': 'stop one\n', 'postinst': 'restart another-one2\n'}), False),
]


def main():
    if sys.argv[1:] == ['--self-check']:
        wrong = [(rule.__name__, texts) for rule, texts, agree in SELF_CHECK if (rule(*texts) == []) != agree]
        for name, texts in wrong:
            print(f'{name} misjudges {texts}')
        return 1 if wrong else 0
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    found = problems(pathlib.Path(sys.argv[1]))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
