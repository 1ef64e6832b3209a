#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Fetches and makes the headers of Samba that vfs_smbdirect is built with.

    main.py [SERIES]...   make those of these series that are not there yet (default: the ones that are tested), and fetch
                          the packages of those that this machine has not installed
    main.py --list        one line "SERIES VERSION DIRECTORY" for each that is there; makes nothing

Exit: 0 all there, 1 something failed, 2 wrong arguments, 3 the archive cannot be reached.
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / 'vm'))
import binaries  # noqa: E402
import cache  # noqa: E402
import generate  # noqa: E402
import headers  # noqa: E402
from series import RELEASES, USUAL  # noqa: E402

KIND = 'samba'


def entry_name(series):
    return f'{series}-{cache.recipe(headers.RECIPE, generate.PROBE, repr(RELEASES[series]))}'


def present():
    """(series, version, directory) of what is in the cache and made by this recipe."""
    for series in RELEASES:
        directory = cache.place(KIND) / entry_name(series)
        if (directory / 'version').is_file():
            yield series, (directory / 'version').read_text().strip(), directory


def say(text):
    print(f'module: {text}', file=sys.stderr, flush=True)


def main(arguments):
    if arguments in (['--help'], ['-h']):
        print(__doc__)
        return 0
    if arguments == ['--list']:
        for series, version, directory in present():
            print(series, version, directory)
        return 0
    unknown = [name for name in arguments if name not in RELEASES]
    if unknown:
        print(f'{__doc__}\nno such series: {", ".join(unknown)}; known: {", ".join(RELEASES)}', file=sys.stderr)
        return 2
    try:
        for series in arguments or USUAL:
            cache.entry(entry_name(series), lambda place, speak, series=series: headers.make(series, place, speak), say, KIND)
            if binaries.suite_of(series):
                cache.entry(binaries.entry_name(series),
                            lambda place, speak, series=series: binaries.make(series, place, speak), say, KIND)
    except cache.Unreachable as problem:
        say(problem)
        return 3
    except cache.Problem as problem:
        say(problem)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
