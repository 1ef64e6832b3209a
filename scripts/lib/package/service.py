# SPDX-License-Identifier: MIT
"""The life of the packages on a host with systemd and Samba: installed, looked at, started beside smbd.service, reloaded,
restarted, crashed and upgraded while clients move files, scraped, tried in every mode, stopped, purged."""

import contextlib
import json
import os

from host import Failed
from served import CLIENT, PORT, SERVER, SHARES, Clients, Load, Lost

POOL = '/etc/smbdirectd/pool.json'
SMB_CONF = '/etc/samba/smb.conf'
PACKAGES_OF_SAMBA = "dpkg-query -W -f '${source:Package} ${Package}\\n' | sed -n 's/^samba //p'"
MODULE = 'vfs objects = smbdirect\n'
READ_WRITE = 'read only = no\n'
HARDENING = '/usr/share/doc/smbdirectd/examples/hardening.conf'
DROP_IN = '/etc/systemd/system/smbdirectd.service.d/hardening.conf'
UNITS = ('smbdirectd.service', 'smbdirect-exporter.service')
MODES = {'connect': {'address': '127.0.0.1', 'allow': ['192.0.2.0/24']}, 'handoff': {}, 'transparent': {}}
METRICS = 'exec 3<>/dev/tcp/127.0.0.1/9945; printf "GET /metrics HTTP/1.0\\r\\n\\r\\n" >&3; cat <&3'
# What this life itself changes, and what belongs to systemd, Samba and dpkg.
OTHERS = ('/proc', '/sys', '/dev', '/run', '/tmp', '/packages', '/client', '/srv', '/home', '/var/lib/dpkg', '/var/cache', '/var/lib/samba',
          '/var/lib/systemd', '/var/lib/ucf', '/var/log/journal', '/var/log/dpkg.log', '/var/log/alternatives.log', '/var/log/samba/*')


class ServiceLife:
    """Owns its clients; the host.Host is booted, with the packages below /packages. Each step is a method that raises
    Failed or Lost; `say` tells of it. Another life (mounted.py) has other clients, and not all of the steps."""

    CLIENTS = Clients
    STEPS = ('install', 'autopkgtest', 'start', 'module', 'newer_samba', 'export', 'reload', 'upgrade', 'crash', 'restart', 'restart_smbd',
             'shares', 'harden', 'stop', 'purge')
    LISTENERS = ({'address': SERVER, 'port': PORT, 'fabric': 'iwarp'},)
    HARDENED = ('connect', 'transparent')  # modes

    def __init__(self, host, say):
        self.host, self.say = host, say
        self.clients = self.CLIENTS(host)
        self.exposure, self.routes, self.moved = {}, None, None

    def live(self):
        self.prepare()
        before = self.listing(), self.accounts()
        self.routes = self.routing()
        for step in self.STEPS:
            self.say(step.replace('_', ' '))
            getattr(self, step)()
        return before, (self.listing(), self.accounts())

    # --- looking ---

    def want(self, right, what):
        if not right:
            raise Failed(f'{what}\n{self.host.journal()}')

    def listing(self):
        """Every path, and the sums of what is configured, as differences.read_listing() takes it. Without Samba's, which
        becomes another one meanwhile."""
        pruned = ' -o '.join(f'-path "{path}"' for path in OTHERS)
        found = self.host.run('sh', '-c', f'find / -xdev \\( {pruned} \\) -prune -o -print; '
                              'find /etc -type f ! -name ld.so.cache -exec sha256sum {} +').stdout
        samba = set(self.host.run('sh', '-c', f'dpkg -L $({PACKAGES_OF_SAMBA})').stdout.splitlines())
        samba.add(f'{SMB_CONF}.ucf-dist')  # beside a file that somebody has changed
        return '\n'.join(line for line in found.splitlines() if line.split('  ')[-1] not in samba)

    def accounts(self):
        return self.host.path('/etc/passwd').read_text()

    def routing(self):
        return self.host.run('sh', '-c', 'ip -4 rule; ip -6 rule; ip -4 route show table all').stdout

    def exposed(self, unit):
        """systemd's estimate: from 0 to 10, which is all."""
        return self.host.run('systemd-analyze', 'security', '--no-pager', unit).stdout.strip().splitlines()[-1].split(':')[-1].split()[0]

    def main_pid(self, unit='smbdirectd'):
        return int(self.host.show(unit, 'MainPID'))

    def ready(self):
        return self.host.show('smbdirectd', 'ActiveState') == 'active' and 'workers ready' in self.host.show('smbdirectd', 'StatusText')

    def status(self):
        return json.loads(self.host.run('smbdirectctl', 'status', '--json').stdout)['status']

    def pool(self, mode, workers=2):
        self.host.write(POOL, json.dumps({
            'workers': workers, 'listeners': self.LISTENERS,
            'upstream': {'mode': mode, **MODES[mode]}}))

    def restart_in(self, mode):
        """Without counting against how often systemd starts a unit in ten seconds."""
        self.pool(mode)
        self.host.systemctl('reset-failed', 'smbdirectd')
        self.host.systemctl('restart', 'smbdirectd')
        self.want(self.ready(), f'mode {mode} does not start')

    def serves(self, share='share'):
        """A client reconnects until it can, and moves a file."""
        def tried():
            with contextlib.suppress(Lost):
                self.clients.turn(share)
                return True
        self.host.until(tried, 30, f'a client of the share "{share}"', 'smbdirectd')

    # --- steps ---

    def prepare(self):
        """Samba, as an administrator would have it."""
        for path in SHARES.values():
            self.host.run('mkdir', '-p', path)
        conf = self.host.path(SMB_CONF)
        conf.write_text(conf.read_text() + ''.join(f'\n[{name}]\npath = {path}\n{READ_WRITE}' for name, path in SHARES.items()))
        self.host.run('smbpasswd', '-s', '-a', 'root', input='secret\nsecret\n')
        self.clients.move_in()
        self.host.systemctl('start', 'smbd')

    def install(self):
        self.host.run('sh', '-c', 'dpkg -i /packages/now/*.deb', timeout=300)
        self.host.run('systemd-analyze', 'verify', '--man=no', '--recursive-errors=no', *UNITS)
        for unit in UNITS:
            state = self.host.show(unit, 'ActiveState'), self.host.show(unit, 'UnitFileState')
            self.want(state == ('inactive', 'disabled'), f'{unit} is {" and ".join(state)} after the installation')
            self.exposure[unit] = self.exposed(unit)

    def autopkgtest(self):
        self.host.run('/packages/tests/moves-data', timeout=180)

    def start(self):
        self.clients.start()
        self.pool('connect')
        self.host.systemctl('enable', '--now', 'smbdirectd')
        self.want(self.ready(), 'systemctl start has returned before a worker is ready')
        self.clients.turn()
        names = self.host.processes('smbdirectd')
        users = {self.host.run('stat', '-c', '%U', f'/proc/{pid}').stdout.strip() for pid, name in names.items() if name != 'smbdirectd'}
        self.want(sorted(names.values()) == ['smbdirect-worke'] * 2 + ['smbdirectd'] and users == {'smbdirect'}, f'it runs {names} as {users}')

    def shared_bytes(self):
        """How much has gone by memory shared with smbd, by the workers that there are now."""
        return sum(row['area_read_bytes'] + row['area_write_bytes']
                   for row in json.loads(self.host.run('smbdirectctl', 'workers', '--json').stdout)['workers'])

    def uses_module(self):
        before = self.shared_bytes()

        def tried():
            with contextlib.suppress(Lost):
                self.clients.turn()
                return self.shared_bytes() > before
        self.host.until(tried, 30, 'a transfer by memory shared with smbd', 'smbdirectd')

    def module(self):
        """vfs_smbdirect, whose package was installed with the others, in all shares."""
        conf = self.host.path(SMB_CONF)
        conf.write_text(conf.read_text().replace(READ_WRITE, READ_WRITE + MODULE))
        self.host.run('smbcontrol', 'smbd', 'reload-config')
        self.uses_module()

    def samba(self):
        """The version of its package: Debian's own changes are not in what smbd says of itself."""
        return self.host.run('dpkg-query', '-W', '-f', '${Version}', 'samba').stdout

    def newer_samba(self):
        """From one release of the series to the next: the module that is installed serves both."""
        if not self.host.run('ls', '/newer-samba').stdout:
            return self.say('(there is no newer release of Samba than the one installed)')
        before, main = self.samba(), self.main_pid()

        def turn():
            with contextlib.suppress(Lost):  # while smbd restarts; what had arrived is compared in the end
                self.clients.turn()
        with Load(turn):
            self.host.run('sh', '-c', 'dpkg -i /newer-samba/*.deb', timeout=300)
        after = self.samba()
        self.want(before != after and not self.host.run('dpkg', '--audit').stdout, f'Samba was {before} and is {after}')
        self.say(f'({before} -> {after})')
        self.host.until(lambda: self.main_pid() not in (0, main) and self.ready(), 30, 'the daemon to come back with smbd', 'smbdirectd')
        self.uses_module()

    def export(self):
        unit = UNITS[1]
        self.host.systemctl('enable', '--now', unit)
        # It answers 404 for a moment: prometheus-cpp listens before it knows what it serves.
        self.host.until(lambda: '\nsmbdirect_up 1' in self.host.run('bash', '-c', METRICS, check=False).stdout, 10,
                        'the exporter to tell of a daemon that is up', unit)
        uid = self.host.run('stat', '-c', '%u', f'/proc/{self.main_pid(unit)}').stdout.strip()
        ours = self.host.run('id', '-u', 'smbdirect').stdout.strip()
        self.want(uid not in ('0', ours), f'the exporter runs as user {uid}')
        self.want(int(uid) >= 61184, f'the exporter runs as user {uid}, which is none of its own')

    def while_clients_move(self, strict=True):
        """Two: one whose session stays, and one with a session for each file."""
        stack = contextlib.ExitStack()
        session = stack.enter_context(contextlib.closing(self.clients.session()))
        stack.enter_context(Load(session.turn))
        if strict:
            stack.enter_context(Load(self.clients.turn))
        return stack

    def reload(self):
        main = self.main_pid()
        with self.while_clients_move():
            self.pool('connect', workers=3)
            self.host.systemctl('reload', 'smbdirectd')
            self.host.until(lambda: self.status()['workers_ready'] == 3, 20, 'three workers', 'smbdirectd')
        self.want(self.main_pid() == main, 'a reload has started another daemon')

    def upgrade(self):
        main, restarts = self.main_pid(), self.host.show('smbdirectd', 'NRestarts')
        with self.while_clients_move():
            self.host.run('sh', '-c', 'dpkg -i /packages/later/*.deb', timeout=300)
            self.host.until(lambda: self.main_pid() not in (0, main) and self.ready(), 20, 'the new daemon', 'smbdirectd')
        self.want(self.host.show('smbdirectd', 'NRestarts') == restarts, 'the upgrade counts as a restart')
        for unit in UNITS:
            program = self.host.run('readlink', f'/proc/{self.main_pid(unit)}/exe').stdout.strip()
            self.want(program.startswith('/usr/sbin/') and not program.endswith('(deleted)'), f'{unit} runs {program} after the upgrade')
        self.host.until(lambda: list(self.host.processes('smbdirectd').values()).count('smbdirectd') == 1, 30,
                        'the former daemon to end when its clients have left', 'smbdirectd')

    def crash(self):
        main, restarts = self.main_pid(), int(self.host.show('smbdirectd', 'NRestarts'))
        with self.while_clients_move(strict=False):
            self.host.run('kill', '-KILL', main)
            self.host.until(lambda: self.main_pid() not in (0, main) and self.ready(), 30, 'a new daemon', 'smbdirectd')
            self.serves()
        self.want(int(self.host.show('smbdirectd', 'NRestarts')) == restarts + 1, 'the crash does not count as one restart')

    def restart(self):
        main = self.main_pid()
        with contextlib.closing(self.clients.session()) as session:
            session.turn()
            self.host.systemctl('restart', 'smbdirectd')
        self.want(self.main_pid() not in (0, main) and self.ready(), 'a restart has started no new daemon')
        self.serves()

    def restart_smbd(self):
        main = self.main_pid()
        self.host.systemctl('restart', 'smbd')
        self.host.until(lambda: self.main_pid() not in (0, main) and self.ready(), 30, 'the daemon to come back with smbd', 'smbdirectd')
        self.serves()

    def shares(self):
        """In /home and /tmp too: what the unit's processes see is what the host has."""
        for mode in MODES:
            self.restart_in(mode)
            for share in SHARES:
                self.serves(share)
            if mode == 'transparent':
                with contextlib.closing(self.clients.session()) as session:
                    session.turn()
                    seen = self.host.run('smbstatus', '-p').stdout
                    self.want(CLIENT in seen, f'smbd does not see the client\'s address: {seen}')

    def harden(self):
        """By the drop-in of the examples, which is for every mode but one."""
        self.host.run('install', '-D', '-m', '644', HARDENING, DROP_IN)
        self.host.systemctl('daemon-reload')
        self.exposure['with hardening.conf'] = self.exposed('smbdirectd.service')
        for mode in self.HARDENED:
            self.restart_in(mode)
            for share in SHARES:
                self.serves(share)
        self.host.run('rm', '-r', os.path.dirname(DROP_IN))
        self.host.systemctl('daemon-reload')

    def stop(self):
        self.host.systemctl('stop', *UNITS)
        for unit in UNITS:
            self.want(self.host.show(unit, 'ActiveState') == 'inactive' and not self.host.processes(unit), f'{unit} has not ended')
        self.want(self.routing() == self.routes, f'the routing is not what it was: {self.routing()}')
        self.moved = self.clients.stop()

    def purge(self):
        conf = self.host.path(SMB_CONF)
        conf.write_text(conf.read_text().replace(MODULE, ''))
        self.host.systemctl('start', *UNITS)
        names = [line.split()[0] for line in self.host.run('dpkg-query', '-W', '*smbdirect*').stdout.splitlines()]
        self.host.run('dpkg', '--purge', *names)
        for unit in UNITS:
            left = self.host.systemctl('show', unit, '--property', 'LoadState', '--value').stdout.strip(), self.host.processes(unit)
            self.want(left == ('not-found', {}), f'of {unit} the purge has left: {left}')
        for path in ('/run/smbdirectd', '/var/log/samba/log.smbdirectd'):
            self.want(not self.host.path(path).exists(), f'the purge has left {path}')
        found = self.host.run('pgrep', '-l', 'smbdirect', check=False).stdout
        self.want(not found, f'still running: {found}')
