# SPDX-License-Identifier: MIT
"""What clients of the host under test do: files to a share and back by RDMA, each compared. They are on another host, a
network namespace beside the server's, and have stock smbclient and the package's smbdirect-connect."""

import contextlib
import hashlib
import json
import os
import subprocess
import threading

SERVER, CLIENT = '192.0.2.10', '192.0.2.20'
PORT = 5445
PROXY = 4455  # where smbdirect-connect listens on the client's host
SIZE = 4 << 20
DIRECTORY = '/client'
SHARES = {'share': '/srv/share', 'home': '/home/someone', 'tmp': '/tmp'}
LAN = f"""
ip link set lo up
ip netns add client
ip link add lan type veth peer name lan netns client
ip addr add {SERVER}/24 dev lan
ip link set lan up
ip -n client link set lo up
ip -n client addr add {CLIENT}/24 dev lan
ip -n client link set lan up
mkdir -p {DIRECTORY}
"""
COMMAND = ['smbclient', '-s', f'{DIRECTORY}/client.conf', '-p', str(PROXY), '-U', 'root%secret']


class Lost(Exception):
    """A file is not what it has to be, or did not arrive."""


class Clients:
    """Their host and smbdirect-connect on it."""

    def __init__(self, host):
        self.host, self.count, self.counting, self.bytes, self.stored = host, 0, threading.Lock(), 0, {}

    def move_in(self):
        """Their host, and nothing of ours on it yet."""
        self.host.run('sh', '-ec', LAN)
        self.host.write(f'{DIRECTORY}/client.conf', '[global]\nclient min protocol = SMB3_00\n' + ''.join(
            f'{name} = {DIRECTORY}\n' for name in ('lock directory', 'state directory', 'cache directory', 'private dir')))

    def start(self):
        self.host.run('systemd-run', '--unit=connect', f'--property=StandardOutput=file:{DIRECTORY}/stats',
                      '--property=StandardError=journal', 'ip', 'netns', 'exec',
                      'client', 'smbdirect-connect', '--listen', f'127.0.0.1:{PROXY}', '--to', f'{SERVER}:{PORT}', '--rdma-io', '--stats=json')
        stats = self.host.path(f'{DIRECTORY}/stats')
        self.host.until(lambda: stats.exists() and 'listening on' in stats.read_text(), 10, 'a listening smbdirect-connect', 'connect')

    def command(self, share, *more):
        argv = ['ip', 'netns', 'exec', 'client', *COMMAND, f'//127.0.0.1/{share}', *more]
        return ['sh', '-c', f'cd {DIRECTORY} && exec "$@"', 'sh', *argv]

    def file(self):
        """A new file of the client's: its name, and what is in it."""
        with self.counting:
            self.count += 1
            name = f'file-{self.count}'
        data = os.urandom(SIZE)
        self.host.path(f'{DIRECTORY}/{name}').write_bytes(data)
        return name, data

    def judge(self, share, name, data, said):
        """That it is at the server and came back."""
        for path in (f'{SHARES[share]}/{name}', f'{DIRECTORY}/{name}.back'):
            there = self.host.path(path)
            if not there.exists() or there.read_bytes() != data:
                raise Lost(f'{path} is {"not there" if not there.exists() else "not what was sent"}; smbclient said: {said()}')
        for path in (name, f'{name}.back'):
            self.host.path(f'{DIRECTORY}/{path}').unlink()
        with self.counting:
            self.bytes += len(data)
            self.stored[f'{SHARES[share]}/{name}'] = hashlib.sha256(data).digest()

    def turn(self, share='share'):
        """In a session of its own; Lost if that is not to be had."""
        name, data = self.file()
        done = self.host.run(*self.command(share, '-c', f'put {name}; get {name} {name}.back'), check=False)
        self.judge(share, name, data, lambda: f'{done.stdout}{done.stderr}')

    def session(self):
        """One that stays, from turn to turn."""
        return Session(self)

    def stop(self):
        """Judges all that was ever stored, and that it went by RDMA: bytes each way."""
        self.judge_stored()
        self.host.run('systemctl', 'stop', 'connect')
        stats = json.loads(self.host.path(f'{DIRECTORY}/stats').read_text().split('\n', 1)[1])
        for counter in ('rdma_read_bytes', 'rdma_write_bytes'):
            if stats[counter] < self.bytes:
                raise Lost(f'{counter} is {stats[counter]}: the data did not go by RDMA ({self.bytes} bytes)')
        return self.moved()

    def judge_stored(self):
        for path, digest in self.stored.items():
            there = self.host.path(path)
            if not there.exists() or hashlib.sha256(there.read_bytes()).digest() != digest:
                raise Lost(f'{path}, which had arrived, is {"gone" if not there.exists() else "no longer what was sent"}')

    def moved(self):
        return f'{len(self.stored)} files, {self.bytes >> 20} MiB each way'


class Session:
    """One SMB session that stays, from turn to turn."""

    def __init__(self, clients):
        self.clients, self.host, self.commands = clients, clients.host, 0
        self.said = self.host.path(f'{DIRECTORY}/session')
        with open(self.said, 'wb') as out:
            self.process = subprocess.Popen(self.host.command(*clients.command('share')), stdin=subprocess.PIPE, stdout=out, stderr=out,
                                            text=True,
                                            env={**self.host.environment, 'CLI_FORCE_INTERACTIVE': '1'})

    def asked(self):
        """When it asks for the next command; what comes before that may stay unread in its buffer."""
        self.host.until(lambda: self.said.read_text().count('smb: ') > self.commands or self.process.poll() is not None, 60,
                        f'an end of what smbclient does; it said: {self.said.read_text()}')
        self.commands += 1

    def turn(self):
        name, data = self.clients.file()
        for line in (f'put {name}', f'get {name} {name}.back'):
            self.asked()
            try:
                self.process.stdin.write(f'{line}\n')
                self.process.stdin.flush()
            except OSError as e:
                raise Lost(f'the session has ended: {e}; smbclient said: {self.said.read_text()}') from None
        self.asked()
        self.commands -= 1
        self.clients.judge('share', name, data, self.said.read_text)

    def close(self):
        """smbclient ends at a word, not at the end of its input; and then the process here, which is only nsenter."""
        with contextlib.suppress(OSError):
            self.process.stdin.write('exit\n')
            self.process.stdin.close()
        self.process.wait(30)


class Load:
    """with Load(turn): ...    calls turn() again and again meanwhile: once before what is in the context, and once after
    it. The first that fails is the context's failure."""

    def __init__(self, turn):
        self.turn, self.ended, self.begun, self.failure = turn, threading.Event(), threading.Event(), None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        try:
            last = False
            while not last:
                last = self.ended.is_set()
                self.turn()
                self.begun.set()
        except Exception as e:  # whatever it is, it is told by the thread that waits
            self.failure = e
        self.begun.set()

    def __enter__(self):
        self.thread.start()
        self.begun.wait()
        return self

    def __exit__(self, kind, *_):
        self.ended.set()
        self.thread.join()
        if kind is None and self.failure:
            raise self.failure
