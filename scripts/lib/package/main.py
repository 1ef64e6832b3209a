#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The engine of scripts/package: the packages of one Debian, made and tried in rooms."""

import argparse
import dataclasses
import functools
import gzip
import os
import pathlib
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path += [str(ROOT / 'scripts/lib' / name) for name in ('vm', 'fresh', 'package')]
sys.dont_write_bytecode = True
import bases  # noqa: E402
import cache  # noqa: E402
import differences  # noqa: E402
import host  # noqa: E402
import in_guest  # noqa: E402
import kernel  # noqa: E402
import room  # noqa: E402
import samba_headers  # noqa: E402
import served  # noqa: E402
import service  # noqa: E402
import systemd_host  # noqa: E402
import version  # noqa: E402

KIND = bases.KIND
SUITES = ('bookworm', 'trixie')
TOOLS = ('build-essential', 'dpkg-dev', 'fakeroot', 'lintian')
TRIED_WITH = ('samba', 'smbclient', 'procps', 'iproute2', 'systemd-sysv')
# A host that has RDMA devices, and mounts.
BOOTED_WITH = ('rdma-core', 'ibverbs-providers', 'udev', 'kmod', 'cifs-utils', 'e2fsprogs', 'python3')
BOOT_SECONDS = 3600  # for all that the guest does
AS_BUILDER = ('setpriv', '--reuid', 'builder', '--regid', 'builder', '--init-groups', 'env', 'HOME=/build')
# The second build is somewhere else and at another time of the day; the packages have to be the same.
BUILDS = {'first': ('/build/first', ()), 'second': ('/build/the-second-one', ('TZ=XYZ-12', 'LC_ALL=C'))}


@dataclasses.dataclass
class Step:
    suite: str
    what: str
    seconds: float
    told: str


def say(text):
    print(f'package: {text}', flush=True)


def parse():
    parser = argparse.ArgumentParser(
        prog='scripts/package', description='Makes the Debian packages of the committed tree (HEAD) on a minimal Debian in a '
        'directory, as a user without rights; runs lintian; builds them again and compares; and takes them through a life '
        'on other minimal Debians, without systemd and with it: installation, the daemon serves an smbd, an upgrade to a '
        'higher version meanwhile, purge, after which nothing is left. The packages come to build/packages/SUITE. Nothing '
        'is left mounted or running. Needs root.')
    parser.add_argument('suites', nargs='*', metavar='|'.join(SUITES), help='which Debian (default: both)')
    parser.add_argument('--mirror', metavar='URI', help='get Debian from there (default: as this machine\'s apt does)')
    parser.add_argument('--renew', action='store_true', help='make the minimal Debian anew, not from a copy of this month')
    parser.add_argument('--once', action='store_true', help='build once, without comparing')
    parser.add_argument('--boot', action='store_true', help='also boot a guest kernel with systemd, and mount shares by RDMA there')
    parser.add_argument('--only-life', action='store_true', help='do not build: take what is in build/packages')
    options = parser.parse_args()
    for name in options.suites:
        if name not in SUITES:
            parser.error(f'{name} is not known here; known: {", ".join(SUITES)}')
    options.suites = options.suites or list(SUITES)
    return options


class Work:
    """The packages of one suite, on their way. Owns nothing but a directory of this run, in which its rooms are."""

    def __init__(self, suite, directory, options):
        self.suite, self.directory, self.options = suite, directory, options
        self.version = version.agreed(self.committed('meson.build'), self.committed('debian/changelog'))
        self.results = ROOT / 'build/packages' / suite
        self.steps = []
        self.headers = {}  # series of Samba -> directory

    def say(self, text):
        say(f'{self.suite}: {text}')

    def committed(self, path):
        return bases.git('show', f'{self.options.commit}:{path}')

    def step(self, what, function):
        self.say(what)
        begin = time.monotonic()
        told = function()
        self.steps.append(Step(self.suite, what, time.monotonic() - begin, told or ''))

    def run(self, house, argv, directory='/root', log='log'):
        """Runs it in a room; what it wrote is in build/packages/SUITE/LOG.log, and told when it fails."""
        self.results.mkdir(parents=True, exist_ok=True)
        path = self.results / f'{log}.log'
        begin = path.stat().st_size if path.exists() else 0
        with open(path, 'ab') as out:
            status = house.run([*argv], directory, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
        with open(path, 'rb') as text:
            text.seek(begin)
            output = text.read().decode(errors='replace')
        if status != 0:
            last = '\n'.join(output.splitlines()[-60:])
            raise cache.Problem(f'{" ".join(argv)} in a {self.suite} ended with {status}; all of it is in {path}\n{last}')
        return output

    # --- rooms ---

    def furnished(self, purpose, recipe, furnish, start=None):
        """A minimal Debian (or `start`) in which furnish(room) has installed what `recipe` names; kept for later runs."""
        start = start or bases.base(self.suite, say, self.options.mirror, self.options.renew)

        def make(directory, _):
            self.say(f'installing what it takes to {purpose}')
            house = room.Room(directory / 'root')
            house.root.mkdir()
            house.fill(start)
            house.share_archives(bases.downloads(self.suite))
            try:
                self.run(house, ['apt-get', 'update'], log=purpose)
                furnish(house)
            finally:
                house.share_archives(bases.downloads(self.suite))
            self.run(house, ['apt-get', 'clean'], log=purpose)

        name = f'{self.suite}-{purpose}-{cache.recipe(start.parent.name, *recipe)}'
        return cache.entry(name, make, say, KIND, anew=self.options.renew) / 'root'

    def apt(self, house, log, *words):
        # A room that a power cut spoils is made anew.
        self.run(house, ['env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-y', '--no-install-recommends',
                         '-o', 'DPkg::Options::=--force-unsafe-io', *words], log=log)

    def room_of(self, name, base):
        house = room.Room(self.directory / name)
        house.root.mkdir()
        house.fill(base)
        return house

    def workshop(self):
        control = self.committed('debian/control')

        def furnish(house):
            (house.root / 'wanted/debian').mkdir(parents=True)
            (house.root / 'wanted/debian/control').write_text(control)
            self.apt(house, 'build', 'install', *TOOLS)
            self.apt(house, 'build', 'build-dep', '/wanted')
            self.run(house, ['useradd', '--create-home', '--home-dir', '/build', 'builder'], log='build')

        wanted = control[:control.index('\nPackage:')]
        return self.room_of('workshop', self.furnished('build', (*TOOLS, wanted), furnish))

    # --- the source ---

    def source(self, house, place):
        """What is committed, as the archives of a Debian source package have it, in the room's directory `place`."""
        there = house.root / place.lstrip('/')
        there.mkdir(parents=True)
        prefix = f'smbdirectd-{self.version}'
        for name, wanted in (('whole', []), ('upstream', ['.', ':(exclude)debian'])):
            bases.git('archive', f'--prefix={prefix}/', '-o', str(there / f'{name}.tar'), self.options.commit, '--', *wanted)
        (there / f'smbdirectd_{self.version}.orig.tar.gz').write_bytes(gzip.compress((there / 'upstream.tar').read_bytes(), mtime=0))
        subprocess.run(['tar', '-xf', there / 'whole.tar', '-C', there], check=True)
        for name in ('whole.tar', 'upstream.tar'):
            (there / name).unlink()
        component = there / f'smbdirectd_{self.version}.orig-{samba_headers.COMPONENT}.tar.gz'
        samba_headers.pack(self.headers, component)
        subprocess.run(['tar', '-xf', component, '-C', there / prefix], check=True)
        self.run(house, ['chown', '-R', 'builder:builder', place], log='build')
        return f'{place}/{prefix}'

    # --- what is done ---

    def fetch_headers(self):
        self.headers = samba_headers.fetch()
        return ', '.join((directory / 'version').read_text().strip() for directory in self.headers.values())

    def build(self, house, which):
        place, environment = BUILDS[which]
        tree = self.source(house, place)
        self.run(house, [*AS_BUILDER, *environment, 'dpkg-buildpackage', '-us', '-uc'], tree, which)
        found = self.made(house, which)
        return ', '.join(f'{path.name.split("_")[0]} {path.stat().st_size // 1000} kB' for path in found)

    def made(self, house, which):
        return sorted((house.root / BUILDS[which][0].lstrip('/')).glob('*.deb'))

    def lintian(self, house):
        place = BUILDS['first'][0]
        (changes,) = (house.root / place.lstrip('/')).glob('*.changes')
        text = self.run(house, [*AS_BUILDER, 'lintian', '--fail-on', 'error', f'{place}/{changes.name}'], '/build', 'lintian')
        found = sorted(line for line in text.splitlines() if line[:3] in ('E: ', 'W: '))
        for line in found:
            print(f'  {line}', flush=True)
        return f'no errors, {len(found)} warnings'

    def builds_a_server(self, house):
        """The test of the library's package, where there is a compiler."""
        place = BUILDS['first'][0]
        names = [f'{place}/{path.name}' for path in self.made(house, 'first') if path.name.startswith('libsmbdirect-peer') and 'dbgsym' not in path.name]
        self.run(house, ['dpkg', '-i', *names], log='library')
        self.run(house, [*AS_BUILDER, f'{place}/smbdirectd-{self.version}/debian/tests/builds-a-server'], '/build', 'library')

    def compare(self, house):
        first, second = (house.root / BUILDS[which][0].lstrip('/') for which in ('first', 'second'))
        found = differences.between_builds(first, second)
        for name, _ in found:
            if shutil.which('diffoscope'):
                subprocess.run(['diffoscope', first / name, second / name], stdin=subprocess.DEVNULL, check=False)
        if found:
            raise cache.Problem('the two builds are not the same:\n' + '\n'.join(f'  {n}: {", ".join(p)}' for n, p in found))
        return f'{len(list(first.glob("*.deb")))} packages, the same byte for byte'

    def build_later(self, house, which):
        """The packages with a higher version, from a tree that is built; without debug symbols, which nobody wants here and
        which take longest."""
        place = BUILDS[which][0]
        tree = f'{place}/smbdirectd-{self.version}'
        path = house.root / tree.lstrip('/') / 'debian/changelog'
        before = set(self.made(house, which))
        path.write_text(version.raised(path.read_text()))
        script = f'cd {tree} && rm -rf debian/.debhelper debian/*.debhelper.log debian/files && dpkg-buildpackage -us -uc -b -nc'
        self.run(house, [*AS_BUILDER, 'DEB_BUILD_OPTIONS=noautodbgsym', 'bash', '-c', script], place, 'later')
        return [one for one in self.made(house, which) if one not in before]

    def keep(self, kind, paths):
        target = self.results / kind
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for path in paths:
            if path.is_file():
                shutil.copy(path, target)

    def lived_in(self):
        """A Debian with all that the packages depend on."""
        packages = [path for path in sorted((self.results / 'now').glob('*.deb')) if '-dbgsym_' not in path.name]
        depends = sorted({one.strip() for path in packages for one in field(path, 'Depends').split(',')} - {''})
        ours = [one for one in depends if 'smbdirect' in one]
        wanted = [*TRIED_WITH, *(one for one in depends if one not in ours)]

        def furnish(house):
            """With Samba's release before the newest, where the archive has two; the packages of the newest lie in /newer-samba."""
            releases = samba_releases(self.run(house, ['apt-cache', 'madison', 'samba'], log='live'))
            pin = house.root / 'etc/apt/preferences.d/samba'
            pin.write_text(pinned('samba', releases[0]))
            self.apt(house, 'life', 'satisfy', ', '.join(wanted))
            pin.unlink()
            (house.root / 'newer-samba').mkdir()
            if len(releases) > 1:
                script = "cd /newer-samba && apt-get download $(dpkg-query -W -f '${source:Package} ${Package}\\n' | sed -n 's/^samba //p')"
                self.run(house, ['sh', '-ec', script], log='life')

        return self.furnished('live', [*wanted, 'samba as it was'], furnish)

    def bring(self, there):
        """The packages, and what tries them."""
        for kind in ('now', 'later'):
            (there / kind).mkdir(parents=True)
            for path in (self.results / kind).glob('*.deb'):
                if '-dbgsym_' not in path.name:
                    shutil.copy(path, there / kind)
        shutil.copytree(ROOT / 'debian/tests', there / 'tests')
        shutil.copytree(ROOT / 'scripts/lib', there / 'lib', ignore=shutil.ignore_patterns('__pycache__'))

    def live(self):
        house = self.room_of('home', self.lived_in())
        there = house.root / 'packages'
        self.bring(there)
        text = self.run(house, ['unshare', '--net', '/bin/sh', '/packages/lib/package/life.sh', '/packages'], log='life')
        print('\n'.join(line for line in text.splitlines() if line.startswith('  -- ') or '_bytes: ' in line), flush=True)
        return nothing_left(*([(there / f'{when}.{name}').read_text() for name in ('files', 'passwd')] for when in ('before', 'after')))

    def live_with_systemd(self):
        debian = self.lived_in()
        why_not = systemd_host.why_not(debian)
        if why_not:
            return f'left out: {why_not}'
        house = systemd_host.SystemdHost(self.directory / 'host', debian, own_network=True, environment=room.environment())
        self.bring(house.path('packages'))
        life = service.ServiceLife(house, lambda text: print(f'  -- {text}', flush=True))
        try:
            house.start()
            left = nothing_left(*life.live())
        except (host.Failed, served.Lost, subprocess.TimeoutExpired) as e:
            raise cache.Problem(f'on a {self.suite} with systemd: {e}') from None
        finally:
            house.stop()
        return f'{life.moved}; exposure {", ".join(f"{unit} {level}" for unit, level in life.exposure.items())}; {left}'

    def boot(self):
        """The guest's files are a layer over a room of its own; its kernel is the suite's."""
        debian = self.furnished('boot', BOOTED_WITH, lambda house: self.apt(house, 'boot', 'install', *BOOTED_WITH), self.lived_in())
        house = self.room_of('guest', debian)
        self.bring(house.root / 'packages')
        argv = ['setpriv', '--pdeathsig', 'TERM', ROOT / 'scripts/vm', '--kernel', kernel.RELEASES[self.suite], '--debian', house.root,
                '--timeout', BOOT_SECONDS, '--keep-log', self.results / 'console.log', '/packages/lib/package/in_guest.py']
        lines = []
        with subprocess.Popen([*map(str, argv)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as guest:
            try:
                for line in guest.stdout:
                    print(line, end='', flush=True)
                    lines.append(line)
            except BaseException:  # such as bases.clear_up_when_ended()'s
                guest.terminate()
                raise
        if guest.returncode != 0:
            raise cache.Problem(f'in a guest with {self.suite} the packages failed ({guest.returncode}); its console is in '
                                f'{self.results / "console.log"}')
        return ''.join(line.removeprefix(in_guest.RESULT).strip() for line in lines if line.startswith(in_guest.RESULT))

    def go(self):
        if not self.options.only_life:
            shutil.rmtree(self.results, ignore_errors=True)
            self.step("Samba's headers", self.fetch_headers)
            house = self.workshop()
            house_of_first = house.root / BUILDS['first'][0].lstrip('/')
            self.step('build', lambda: self.build(house, 'first'))
            self.keep('now', house_of_first.iterdir())
            self.step('lintian', lambda: self.lintian(house))
            if not self.options.once:
                self.step('build again', lambda: self.build(house, 'second') and None)
                self.step('compare', lambda: self.compare(house))
            self.step('a server with the library', lambda: self.builds_a_server(house))
            self.step('build a higher version', lambda: self.keep('later', self.build_later(house, 'first')))
        self.step('install, serve, upgrade, purge', self.live)
        self.step('the same with systemd, under load', self.live_with_systemd)
        if self.options.boot:
            self.step('the same in a guest, with mounts', self.boot)


def pinned(source, version):
    """What makes apt choose a release of a source package. Some of its packages have versions of their own before that: libldb2 of
    samba 2:4.22.10+dfsg-0+deb13u2 is 2:2.11.0+samba4.22.10+dfsg-0+deb13u2."""
    return f'Package: src:{source}\nPin: version *{version.rpartition(":")[2]}\nPin-Priority: 1001\n'


def samba_releases(madison):
    """Versions that `apt-cache madison` tells of, the oldest first."""
    found = {line.split('|')[1].strip() for line in madison.splitlines() if line.count('|') == 2 and 'Packages' in line}

    def compare(one, other):
        return -1 if subprocess.run(['dpkg', '--compare-versions', one, 'lt', other], check=False).returncode == 0 else 1

    return sorted(found, key=functools.cmp_to_key(compare))


def nothing_left(before, after):
    """Of (files, accounts) before and after a life."""
    left = differences.of_life(before, after)
    if left:
        raise cache.Problem('the purge has left:\n' + '\n'.join(f'  {line}' for line in left))
    return f'{len(differences.read_listing(after[0]))} files before, and the same after; the user stays'


def field(package, name):
    return subprocess.run(['dpkg-deb', '--field', package, name], stdout=subprocess.PIPE, check=True, text=True).stdout.strip()


def report(steps):
    print(f'\n{"":12} {"step":34} {"seconds":>8}')
    for step in steps:
        print(f'{step.suite:12} {step.what:34} {step.seconds:8.0f}  {step.told}', flush=True)


def main():
    options = parse()
    bases.clear_up_when_ended(say)
    if os.geteuid() != 0:
        say('another Debian in a directory wants root: run it as root')
        return 3
    steps = []
    try:
        changed = bases.git('status', '--porcelain', '--untracked-files=no').splitlines()
        # Whatever is committed meanwhile: all builds are of one commit.
        options.commit = bases.git('rev-parse', 'HEAD').strip()
        say(f'what is packaged is {bases.git("log", "-1", "--format=%h %s", options.commit).strip()}')
        if changed:
            say(f'not committed, and so not in it: the changes to {len(changed)} files')
        for name in options.suites:
            with cache.run_directory(KIND) as directory:
                work = Work(name, directory, options)
                try:
                    work.go()
                finally:
                    steps += work.steps
    except (cache.Problem, version.Disagreement) as problem:
        say(problem)
        return 1
    except (OSError, subprocess.CalledProcessError) as e:
        say(e)
        return 1
    finally:
        report(steps)
    return 0


if __name__ == '__main__':
    sys.exit(main())
