# SPDX-License-Identifier: MIT
"""The life of the packages with the kernel's SMB client, in the guest of scripts/vm: shares that are mounted over RDMA, by the
fabric "iwarp" and by the fabric "verbs", and stay mounted while the daemon is reloaded, upgraded, killed and restarted."""

import contextlib

from served import DIRECTORY, PORT, Clients, Lost
from service import ServiceLife

ADDRESSES = {'iwarp': '192.0.2.10', 'verbs': '192.0.2.11'}
# The client has siw for each: it reaches "iwarp", which is ours, over TCP, and "verbs" through the same device as the daemon.
# zcopy_tx: docs/testing-vm.md. The guest's own files, a layer in memory, have no attributes that smbd could use.
FURNISH = """
modprobe -a ib_uverbs rdma_ucm siw cifs
echo N >/sys/module/siw/parameters/zcopy_tx
ip link set lo up
n=0
for address in {addresses}; do
    ip link add lan$n type veth peer name peer$n
    ip link set peer$n up
    ip link set lan$n up
    ip addr add $address/32 dev lan$n
    rdma link add siw$n type siw netdev lan$n
    n=$((n + 1))
done
mkdir -p {client}
truncate -s 4G /run/shares
mkfs.ext4 -q /run/shares
mount -o loop /run/shares /srv/share
"""
# Sizes: more is retried for ever over siw when it does not begin with a page (6.1 and 6.12). Nothing is cached: every file goes
# there and back. A hard mount waits for a server that restarts, as a local disk would be waited for.
OPTIONS = 'rdma,vers=3.1.1,username=root,password=secret,cache=none,hard,nosharesock,rsize=524288,wsize=524288'


class Mounts(Clients):
    """Files to mounted shares and back, as Clients moves them."""

    def __init__(self, host):
        super().__init__(host)
        self.mounts = 0

    def move_in(self):
        self.host.run('sh', '-ec', FURNISH.format(addresses=' '.join(ADDRESSES.values()), client=DIRECTORY))

    def start(self):
        pass

    def turn(self, share='share'):
        with contextlib.closing(self.session(share)) as session:
            session.turn()

    def session(self, share='share'):
        return Mounted(self, share)

    def stop(self):
        self.judge_stored()
        return f'{self.moved()} by {self.mounts} mounts'


class Mounted:
    """A share, mounted by each fabric until close()."""

    def __init__(self, clients, share):
        self.clients, self.share, self.places = clients, share, []
        try:
            for address in ADDRESSES.values():
                self.mount(address)
        except Lost:
            self.close()
            raise

    def mount(self, address):
        with self.clients.counting:
            self.clients.mounts += 1
            place = f'{DIRECTORY}/mount-{self.clients.mounts}'
        self.run('mkdir', '-p', place)
        self.run('mount', '-t', 'cifs', f'//{address}/{self.share}', place, '-o', OPTIONS)
        self.places.append(place)

    def run(self, *argv):
        done = self.clients.host.run(*argv, check=False)
        if done.returncode != 0:
            kernel = self.clients.host.run('dmesg', check=False).stdout.splitlines()[-20:]
            raise Lost(f'{" ".join(argv)} ended with {done.returncode}: {done.stderr.strip()}\n' + '\n'.join(kernel))

    def turn(self):
        for place in self.places:
            name, data = self.clients.file()
            here, there = f'{DIRECTORY}/{name}', f'{place}/{name}'
            self.run('dd', 'status=none', 'bs=1M', 'oflag=direct', 'conv=fsync', f'if={here}', f'of={there}')
            self.run('dd', 'status=none', 'bs=1M', 'iflag=direct', f'if={there}', f'of={here}.back')
            self.clients.judge(self.share, name, data, lambda place=place: f'nothing; it wrote to {place} and read it again')

    def close(self):
        while self.places:
            self.run('umount', self.places.pop())


class MountedLife(ServiceLife):
    """What a mount adds: it is there before and after, and nothing of what it writes is lost."""

    CLIENTS = Mounts
    STEPS = ('install', 'start', 'module', 'export', 'reload', 'upgrade', 'crash', 'restart', 'restart_smbd', 'harden', 'stop', 'purge')
    LISTENERS = tuple({'address': address, 'port': PORT, 'fabric': fabric} for fabric, address in ADDRESSES.items())
    HARDENED = ('connect',)

    def restart(self):
        """The mount is there through it and connects again. It has nothing to send meanwhile: else it may hang for good, with any
        server (docs/compatibility.md)."""
        main = self.main_pid()
        with contextlib.closing(self.clients.session()) as session:
            session.turn()
            self.host.systemctl('restart', 'smbdirectd')
            self.want(self.main_pid() not in (0, main) and self.ready(), 'a restart has started no new daemon')
            session.turn()
