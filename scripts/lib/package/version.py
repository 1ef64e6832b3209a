# SPDX-License-Identifier: MIT
"""The version of the packages: meson.build has it, and debian/changelog must agree. Pure functions of the texts."""

import re

HEAD = re.compile(r'(?P<name>[a-z0-9.+-]+) \((?P<version>[^)]+)\) ')


class Disagreement(Exception):
    """The two do not say the same; the text says what to do."""


def of_project(meson):
    """The version in the text of meson.build."""
    found = re.search(r"^project\('smbdirectd',.*?^  version: '([^']+)'", meson, re.S | re.M)
    if not found:
        raise Disagreement("meson.build has no line version: '...' in project('smbdirectd', ...)")
    return found[1]


def of_package(changelog):
    """(upstream version, Debian's revision) of the newest entry in the text of debian/changelog."""
    found = HEAD.match(changelog)
    if not found or found['name'] != 'smbdirectd' or '-' not in found['version']:
        raise Disagreement('debian/changelog does not begin with "smbdirectd (VERSION-REVISION) ": it begins with '
                           f'{changelog[:40]!r}')
    upstream, _, revision = found['version'].rpartition('-')
    return upstream, revision


def agreed(meson, changelog):
    """The version that both have."""
    ours, (theirs, _) = of_project(meson), of_package(changelog)
    if ours != theirs:
        raise Disagreement(f'meson.build has version {ours}, and the newest entry of debian/changelog has {theirs}: a new '
                           'version wants an entry there ("dch --newversion", or an editor)')
    return ours


def raised(changelog, by='+again1'):
    """The changelog with an entry for the same once more, whose version is higher."""
    upstream, revision = of_package(changelog)
    entry = changelog[:changelog.index('\n -- ')].replace(f'({upstream}-{revision})', f'({upstream}-{revision}{by})', 1)
    signature = re.search(r'^ -- .*\n', changelog, re.M)[0]
    return f'{entry}\n{signature}\n{changelog}'
