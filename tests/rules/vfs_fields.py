#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Holds where smbd's structures have the fields that vfs_smbdirect uses: one build is loaded by all releases of a series of
Samba, so within a series nothing of it may move.

    vfs_fields.py TABLE VERSION PROGRAM   PROGRAM, built with the headers of Samba VERSION, prints them; TABLE has what
                                          they were; prints them too
    vfs_fields.py --self-check            shows it tables that fit and tables that do not; exit 1 if it misjudges one

TABLE: a line "field VERSION...", then for each field its name and its place in each of these, "-" where it is not used.
"""

import pathlib
import subprocess
import sys


def columns(table):
    """{version: {field: place}}"""
    lines = [line.split() for line in table.splitlines() if line.strip() and not line.startswith('#')]
    versions = lines[0][1:]
    return {version: {line[0]: line[at] for line in lines[1:] if line[at] != '-'} for at, version in enumerate(versions, 1)}


def printed(text):
    return dict(line.split() for line in text.splitlines())


def series(version):
    return version.rpartition('.')[0]


def differences(what, known, found):
    return [f'{what}: {field} is at {found.get(field, "no place")}, and was at {known.get(field, "no place")}'
            for field in sorted({**known, **found}) if known.get(field) != found.get(field)]


def problems(table, version, text):
    known, found = columns(table), printed(text)
    if version not in known:
        return [f'Samba {version} is not in the table: compare it with the others of {series(version)}, and add it']
    wrong = differences(f'Samba {version}', known[version], found)
    for other, fields in known.items():
        if series(other) == series(version) and other != version:
            wrong += differences(f'Samba {version} against {other}', fields, found)
    return wrong


TABLE = '# what\nfield 4.1.1 4.1.2 4.2.0\na.b 8 8 16\nc.d - - 4\n'
SELF_CHECK = [  # version, what is printed, whether that fits
    ('4.1.1', 'a.b 8\n', True),
    ('4.2.0', 'a.b 16\nc.d 4\n', True),
    ('4.1.2', 'a.b 16\n', False),
    ('4.1.1', 'a.b 8\nc.d 4\n', False),
    ('4.2.0', 'a.b 16\n', False),
    ('4.1.3', 'a.b 8\n', False),
]


def self_check():
    wrong = [sample for sample in SELF_CHECK if (problems(TABLE, *sample[:2]) == []) != sample[2]]
    wrong += ['a table that contradicts itself'] if not problems(TABLE.replace('8 8', '8 12'), '4.1.1', 'a.b 8\n') else []
    for sample in wrong:
        print(f'misjudged: {sample}')
    return 1 if wrong else 0


def main():
    if sys.argv[1:] == ['--self-check']:
        return self_check()
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        return 2
    table, version, program = sys.argv[1:]
    text = subprocess.run([program], capture_output=True, text=True, check=True, timeout=20).stdout
    print(f'Samba {version}\n{text}')
    found = problems(pathlib.Path(table).read_text(), version, text)
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
