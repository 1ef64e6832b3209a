#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What the pages say has to be so: messages that a page quotes are in the programs, links lead to a file, and the manual
page of a program has examples and exit statuses.

    page_rules.py ROOT           check the tree; one line "FILE:LINE: what" per violation, exit 1 if any
    page_rules.py --self-check   show each rule a violating and a fitting sample; exit 1 if it misjudges one
"""

import pathlib
import re
import sys

PROGRAMS = ('daemon', 'workers', 'protocol', 'shm')
SECTIONS_OF_PROGRAMS = ('NAME', 'SYNOPSIS', 'DESCRIPTION', 'EXAMPLES', 'EXIT STATUS', 'SEE ALSO')
LEAST = 16  # characters that a quote must have beside "..."


def spoken(source):
    """The text of a C++ file's string literals, as a person sees it; neighbouring literals are one. Literals with
    something between them are on lines of their own."""
    code = re.sub(r'^\s*//.*$', '', source, flags=re.M)
    code = re.sub(r'"\s*\n?\s*"(?=[^)\s,;])|"\s*\n\s*"', '', code)
    return '\n'.join(re.findall(r'"((?:[^"\\\n]|\\.)*)"', code)).replace('\\"', '"').replace('\\n', '\n')


def quotes(page):
    """(line number, text) of each quoted message: lines that begin with ">", also in lists."""
    return [(number, found[1].strip()) for number, line in enumerate(page.splitlines(), 1)
            if (found := re.match(r'\s*> (.*)', line))]


def parts(quote):
    return [part.strip(' ;:,') for part in quote.split('...') if part.strip(' ;:,\'"()')]


def unspoken(name, page, sources):
    """Quotes of the page that are in no source: all parts of one are in one file. sources: texts of spoken()."""
    found = []
    for number, quote in quotes(page):
        wanted = parts(quote)
        generic = quote in GENERIC
        if not generic and sum(map(len, wanted)) < LEAST:
            found.append(f'{name}:{number}: too short to be looked for: {quote}')
        elif not any(all(part in text for part in wanted) for text in sources):
            found.append(f'{name}:{number}: no program says this: {quote}')
    return found


# Whose fixed words are few.
GENERIC = {'... is turned away: ...', '... is ...; allowed: ...', "pid file '...", "cannot connect to '...", '... has no GID for ...',
           'no SMB Direct with ...'}


def links(name, page, exists):
    """Links to files of the tree that are not there. exists(path relative to the page)."""
    found = []
    for number, line in enumerate(page.splitlines(), 1):
        for target in re.findall(r'\]\(([^)#]+)(?:#[^)]*)?\)', line):
            if '://' not in target and not exists(target):
                found.append(f'{name}:{number}: nothing is at {target}')
    return found


def sections(name, page, of_program):
    """A module of somebody else's program (vfs_...) has no exit status."""
    found = re.findall(r'^\.SH "?([A-Z ]+?)"?$', page, re.M)
    wanted = SECTIONS_OF_PROGRAMS if of_program else ('NAME', 'DESCRIPTION', 'SEE ALSO')
    wanted = [section for section in wanted if section != 'EXIT STATUS' or '/vfs_' not in name]
    return [f'{name}:1: has no section {section}' for section in wanted if section not in found]


def problems(root):
    sources = [spoken(path.read_text()) for top in PROGRAMS for pattern in ('*.cc', '*.h')
               for path in sorted((root / top).rglob(pattern))]
    found = []
    for path in [*sorted((root / 'docs').glob('*.md')), root / 'README.md', root / 'CONTRIBUTING.md']:
        name, page = str(path.relative_to(root)), path.read_text()
        found += links(name, page, lambda target, path=path: (path.parent / target).exists())
        if path.name == 'troubleshooting.md':
            found += unspoken(name, page, sources)
    for path in sorted((root / 'docs').iterdir()):
        section = re.search(r'\.([1-8])(\.in)?$', path.name)
        if section:
            found += sections(f'docs/{path.name}', path.read_text(), section[1] in '18')
    return found


SOURCE = '''
fail("cannot do " + what + ": the file \\"" + name +
     "\\" is not "
     "there");  // "never said"
'''
PAGE = '.SH NAME\n.SH SYNOPSIS\n.SH DESCRIPTION\n.SH "EXIT STATUS"\n.SH EXAMPLES\n.SH SEE ALSO\n'
SELF_CHECK = [  # what it finds, whether that is nothing
    (lambda: unspoken('p', '> cannot do ...: the file "..." is not there', [spoken(SOURCE)]), True),
    (lambda: unspoken('p', '- one\n\n  > ...: the file "..." is not there', [spoken(SOURCE)]), True),
    (lambda: unspoken('p', '> cannot do ...: the file "..." was not there', [spoken(SOURCE)]), False),
    (lambda: unspoken('p', '> cannot do ...: the file is there', [spoken(SOURCE), spoken('"the file is there"')]), False),
    (lambda: unspoken('p', '> is not', [spoken(SOURCE)]), False),
    (lambda: links('p', 'a [page](there.md#x) and [site](https://example.org/)', lambda path: path == 'there.md'), True),
    (lambda: links('p', 'a [page](elsewhere.md)', lambda path: path == 'there.md'), False),
    (lambda: sections('p', PAGE, True), True),
    (lambda: sections('p', PAGE.replace('.SH EXAMPLES\n', ''), True), False),
    (lambda: sections('p', PAGE.replace('.SH EXAMPLES\n', ''), False), True),
    (lambda: sections('docs/vfs_p.8', PAGE.replace('.SH "EXIT STATUS"\n', ''), True), True),
    (lambda: sections('docs/vfs_p.8', PAGE.replace('.SH EXAMPLES\n', ''), True), False),
]


def main():
    if sys.argv[1:] == ['--self-check']:
        wrong = [number for number, (check, fits) in enumerate(SELF_CHECK) if (check() == []) != fits]
        for number in wrong:
            print(f'sample {number} is misjudged: {SELF_CHECK[number][0]()}')
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
