# SPDX-License-Identifier: MIT
"""Where this machine gets Debian from: what it has configured for apt, told for another release."""

import pathlib
import re

from cache import Problem

APT = pathlib.Path('/etc/apt')
OS_RELEASE = pathlib.Path('/etc/os-release')
KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'


def codename(os_release=OS_RELEASE):
    found = re.search(r'^VERSION_CODENAME="?([a-z]+)', os_release.read_text(), re.M) if os_release.exists() else None
    return found[1] if found else ''


def one_line_entries(text):
    """(URI, suite, components) of each "deb [options] URI suite components"."""
    for line in text.splitlines():
        words = re.sub(r'\[[^]]*\]', '', line.split('#')[0]).split()
        if len(words) > 3 and words[0] == 'deb':
            yield words[1], words[2], words[3:]


def deb822_entries(text):
    """The same of a .sources file (deb822)."""
    text = re.sub(r'^#.*\n?', '', text, flags=re.M)
    for paragraph in re.split(r'\n\s*\n', text):
        fields = {}
        for name, value in re.findall(r'^([\w-]+):((?:.*\n?)(?:[ \t]+.*\n?)*)', paragraph, re.M):
            fields[name.lower()] = value.split()
        if 'deb' not in fields.get('types', []) or fields.get('enabled') == ['no']:
            continue
        for uri in fields.get('uris', []):
            for suite in fields.get('suites', []):
                yield uri, suite, fields.get('components', [])


def entries(apt=APT):
    found = []
    for path in [apt / 'sources.list', *sorted((apt / 'sources.list.d').glob('*'))]:
        if path.is_file() and path.suffix in ('.list', '.sources'):
            read = deb822_entries if path.suffix == '.sources' else one_line_entries
            found += read(path.read_text(errors='replace'))
    return [(uri.rstrip('/'), suite) for uri, suite, components in found if 'main' in components]


def mirrors(apt=APT, os_release=OS_RELEASE):
    """(URI of Debian's archive, URI of its security archive); None for what this machine does not have."""
    release, suites = codename(os_release), {}
    for uri, suite in entries(apt):
        suites.setdefault(uri, set()).add(suite)
    known = {release, 'stable', 'testing', 'unstable', 'sid'}
    # Others than Debian call their suites so too: who has the updates is Debian, and so is who is called so.
    archives = sorted((uri for uri in suites if suites[uri] & known), reverse=True,
                      key=lambda uri: (f'{release}-updates' in suites[uri], uri.endswith('/debian')))
    security = [uri for uri in suites if any(suite.endswith('-security') for suite in suites[uri])]
    return archives[0] if archives else None, security[0] if security else None


def lines(suite, pockets, mirror=None):
    """The sources.list of a machine with `suite`. pockets: whichever of "updates" and "security" there are."""
    archive, security = mirrors()
    archive = mirror or archive
    if archive is None:
        raise Problem(f'nothing below {APT} says where this machine gets Debian from: name a mirror with --mirror, '
                      'such as --mirror http://deb.debian.org/debian')
    wanted = [(archive, suite)]
    wanted += [(archive, f'{suite}-updates')] if 'updates' in pockets else []
    wanted += [(security, f'{suite}-security')] if 'security' in pockets and security else []
    return [f'deb [signed-by={KEYRING}] {uri} {name} main' for uri, name in wanted]
