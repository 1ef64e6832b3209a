# SPDX-License-Identifier: MIT
"""Packages of Debian's archive, also those of another release than this machine's: from where this machine's own come,
checked by apt against Debian's keys, and unpacked, never installed. The lists are private to a directory of ours, so
that nobody needs to be root and nothing of the machine's apt changes."""

import pathlib
import re
import subprocess
import sys

from cache import Problem, Unreachable

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / 'fresh'))
import sources  # noqa: E402


def command(argv, log, timeout, cwd=None, stdin=subprocess.DEVNULL):
    """Runs a program whose words go to the open file `log`; what it said is in the Problem when it fails."""
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


class Archive:
    """The packages of some suites, such as "trixie" and "trixie-security"; `directory` is for the lists. prefer: the suite
    whose packages are taken where it has them, even if another has newer ones. source: the lists of source packages too."""

    def __init__(self, directory, suites, log, prefer=None, source=False):
        self.directory, self.suites, self.log, self.prefer = directory, suites, log, prefer
        if not pathlib.Path(sources.KEYRING).exists():
            raise Problem(f'{sources.KEYRING} is not there, and packages are checked with it: install debian-archive-keyring')
        main, security = sources.mirrors()
        if main is None:
            raise Problem(f'nothing below {sources.APT} says where this machine gets Debian from')
        for place in ('lists/partial', 'cache/archives/partial'):
            (directory / place).mkdir(parents=True)
        (directory / 'status').touch()
        at = [(security if suite.endswith('-security') else main, suite) for suite in suites]
        kinds = [f'deb [arch=amd64 signed-by={sources.KEYRING}]']
        kinds += [f'deb-src [signed-by={sources.KEYRING}]'] if source else []
        lines = [f'{kind} {uri} {suite} main\n' for kind in kinds for uri, suite in at if uri]
        (directory / 'sources.list').write_text(''.join(lines))
        try:
            command([*self.program('apt-get'), 'update', '-o', 'APT::Update::Error-Mode=any'], log, 600)
        except Problem as problem:
            raise Unreachable(f'the package lists of {", ".join(suites)} cannot be fetched. Is the network there, and has the '
                              f'mirror that this machine uses that release (still)?\n{problem}') from None

    def program(self, name):
        """apt-get or apt-cache on these lists alone; proxies and the like are as the machine has them."""
        places = {
            'Dir::Etc::sourcelist': self.directory / 'sources.list', 'Dir::Etc::sourceparts': '/dev/null',
            'Dir::Etc::preferences': '/dev/null', 'Dir::Etc::preferencesparts': '/dev/null',
            'Dir::State': self.directory, 'Dir::State::lists': self.directory / 'lists',
            'Dir::State::status': self.directory / 'status', 'Dir::Cache': self.directory / 'cache',
            'APT::Sandbox::User': 'root', 'APT::Architecture': 'amd64', 'APT::Architectures': 'amd64',
            'Acquire::Languages': 'none', 'Acquire::Retries': '3', 'APT::Default-Release': self.prefer or '',
        }  # fmt: skip
        return [name, '-qq', *(word for key, value in places.items() for word in ('-o', f'{key}={value}'))]

    def show(self, package, version=None):
        """The fields of a package, by default of the version that would be installed; nothing where there is none."""
        argv = [*self.program('apt-cache'), 'show', '--no-all-versions', package + (f'={version}' if version else '')]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        fields = dict(re.findall(r'^([\w-]+): (.*)$', done.stdout, re.M)) if done.returncode == 0 else {}
        return fields if fields.get('Package') == package else {}

    def depends(self, package, version=None):
        """The names of the packages it depends on, the first one of every choice."""
        return [re.split(r'[ :|(]', entry)[0] for entry in self.show(package, version).get('Depends', '').split(', ')]

    def unpack(self, packages, into, keep=()):
        """Downloads {package: version}, unpacks them below `into` and forgets them, but for those in `keep`."""
        place = self.directory / 'packages'
        place.mkdir(exist_ok=True)
        names = [f'{name}={version}' for name, version in packages.items()]
        try:
            command([*self.program('apt-get'), 'download', *names], self.log, 1800, cwd=place)
        except Problem as problem:
            raise Unreachable(f'{", ".join(names)} cannot be downloaded from {", ".join(self.suites)}:\n{problem}') from None
        for name in packages:
            (path,) = place.glob(f'{name}_*.deb')
            if name not in keep:
                command(['dpkg-deb', '-x', path, into], self.log, 600)
                path.unlink()
        return {name: next(place.glob(f'{name}_*.deb')) for name in keep}
