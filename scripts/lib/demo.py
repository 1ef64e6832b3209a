#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The demonstration: stock smbd, smbdirectd with three workers, and four clients on addresses of their own.

Puts a real tree (this machine's documentation) and large files through SMB Direct, gets them back, compares
SHA-256 sums and says what moved and how. The clients are smbclient, which knows nothing of RDMA, behind
smbdirect-connect, which does. Where vfs_smbdirect can be built (scripts/setup module has run) and this is root,
smbd has it, in a mount namespace of its own.
"""

import argparse
import concurrent.futures
import contextlib
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / 'build' / 'demo'
sys.path.insert(0, str(ROOT / 'tests' / 'integration'))
os.environ['SMBDIRECTD_BUILD'] = str(BUILD)
sys.dont_write_bytecode = True

from lib.daemon import Connect, Smbdirectd  # noqa: E402
from lib import direct_use, leases, module_smbd, process, rdma  # noqa: E402
from lib.files import digests, make_file  # noqa: E402
from lib.module_smbd import ModuleSmbd  # noqa: E402
from lib.smbd import SMBD, SmbdServer  # noqa: E402

MIB = 1 << 20
WORKERS = 3
CLIENTS = ['127.0.0.2', '127.0.0.3', '127.0.0.4', '127.0.0.5']
DOCUMENTATION = pathlib.Path('/usr/share/doc')
MOST_FILES, MOST_BYTES = 3000, 200 * MIB
LARGE = {0: 1024 * MIB, 1: 64 * MIB, 2: 64 * MIB, 3: 64 * MIB}  # client -> size of its large file
NEEDED = 5 << 30  # bytes on disk: what is sent, what smbd stores, what comes back


class Stopped(Exception):
    """Somebody asked us to end."""


class Failure(Exception):
    """The demonstration did not show what it should; the text says what."""


class Interruption:
    """INT, TERM and HUP raise Stopped in the main thread: at once, or at the end of a `held()` block, where
    a process exists that nobody would know of yet."""

    def __init__(self, on_stop):
        self._on_stop, self._holding, self._pending = on_stop, False, None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._signalled)

    def _signalled(self, number, _):
        # Once: the clean-up that follows is not to be interrupted again.
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        self._pending = signal.Signals(number).name
        self._on_stop()
        if not self._holding:
            raise Stopped(self._pending)

    @contextlib.contextmanager
    def held(self):
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
        if self._pending:
            raise Stopped(self._pending)


class Programs:
    """The programs in the foreground (builds, smbclients), so that an interruption can end them."""

    def __init__(self):
        self._lock = threading.Lock()
        self._running = set()
        self._stopping = False

    def run(self, argv, **kw):
        """Runs it to its end; returns (status, output)."""
        with self._lock:
            if self._stopping:
                raise Stopped
            process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT, start_new_session=True, **kw)
            self._running.add(process)
        try:
            output = process.communicate()[0].decode(errors='replace')
        finally:
            with self._lock:
                self._running.discard(process)
        return process.returncode, output

    def stop(self):
        with self._lock:
            self._stopping = True
            for process in self._running:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass


def say(text):
    print(text, flush=True)


def size_text(count):
    for unit, size in (('GiB', 1 << 30), ('MiB', MIB), ('KiB', 1 << 10)):
        if count >= size:
            return f'{count / size:.1f} {unit}'
    return f'{count} B'


def build(programs):
    say('building (build/demo)')
    if not (BUILD / 'build.ninja').exists():
        status, output = programs.run(['meson', 'setup', BUILD, ROOT, '-Dtests=false', '-Dbench=false'])
        if status != 0:
            raise Failure(f'meson setup ended with {status}:\n{output}')
    elif module_to_come(programs):
        programs.run(['meson', 'setup', '--reconfigure', BUILD, ROOT])
    status, output = programs.run(['ninja', '-C', BUILD])
    if status != 0:
        raise Failure(f'the build failed:\n{output}')


def module_to_come(programs):
    """Samba's headers have been fetched since the build was set up."""
    _, headers = programs.run(['/usr/bin/python3', ROOT / 'scripts/lib/samba/main.py', '--list'])
    return headers and 'smbdirect-fields' not in (BUILD / 'build.ninja').read_text()


# --- what is sent -----------------------------------------------------------------------------------

# What a Windows file name cannot hold; smbd would show such names mangled.
UNFIT = re.compile(r'[\x00-\x1f\\/:*?"<>|]|[. ]$')


def documentation_files():
    """Regular files with names SMB can carry, up to a bounded number and size; symbolic links are followed
    once and then are files like others."""
    count = total = 0
    for folder, folders, names in os.walk(DOCUMENTATION):
        folders.sort()
        folders[:] = [f for f in folders if not UNFIT.search(f)]
        for name in sorted(names):
            path = pathlib.Path(folder) / name
            if UNFIT.search(name) or not path.is_file():
                continue
            size = path.stat().st_size
            if count == MOST_FILES or total + size > MOST_BYTES:
                return
            count, total = count + 1, total + size
            yield path


def stage(directory):
    """Deals the files out to the clients: directory/client<n>/..."""
    say(f'collecting files from {DOCUMENTATION}')
    parts = [directory / f'client{n}' for n in range(len(CLIENTS))]
    for number, path in enumerate(documentation_files()):
        target = parts[number % len(parts)] / 'doc' / path.relative_to(DOCUMENTATION)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    for number, size in LARGE.items():
        parts[number].mkdir(parents=True, exist_ok=True)
        make_file(parts[number] / f'large-{size // MIB}-MiB', size, seed=number)
    return parts


# --- moving -----------------------------------------------------------------------------------------


def smbclient(programs, smbd, connect, commands, cwd):
    argv = ['smbclient', '//127.0.0.1/demo', '-p', connect.port, '-s', smbd.directory / 'client.conf',
            '-U', f'{smbd.user}%{smbd.password}', '-c', f'recurse ON; prompt OFF; {commands}']
    status, output = programs.run(argv, cwd=cwd)
    # mput and mget go on after a file that failed, and the exit status is that of the last command.
    wrong = [line for line in output.splitlines() if 'NT_STATUS_' in line]
    if status != 0 or wrong:
        raise Failure(f'smbclient on port {connect.port} ended with {status}:\n' + '\n'.join((wrong or output.splitlines())[-10:]))


def at_once(function, numbers):
    """Runs function(n) for all clients in parallel; the first failure is raised when all have ended."""
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(len(CLIENTS)) as pool:
        running = [pool.submit(function, n) for n in numbers]
        concurrent.futures.wait(running)
    for item in running:
        item.result()
    return time.monotonic() - begin


def client_configuration(smbd):
    """smbclient must not look at the machine's own smb.conf either."""
    state = smbd.directory / 'client'
    state.mkdir()
    (smbd.directory / 'client.conf').write_text(
        '[global]\n    client min protocol = SMB3_00\n    name resolve order = host\n'
        + ''.join(f'    {key} = {state}\n' for key in ('lock directory', 'state directory', 'cache directory', 'private dir')))


def transfer(programs, smbd, connects, parts, back):
    total = sum(p.stat().st_size for part in parts for p in part.rglob('*') if p.is_file())
    numbers = range(len(CLIENTS))

    def put(n):
        smbclient(programs, smbd, connects[n], f'mkdir client{n}; cd client{n}; mput *', parts[n])

    def get(n):
        smbclient(programs, smbd, connects[n], f'cd client{n}; mget *', back[n])

    for what, function in (('put', put), ('got', get)):
        say(f'{"putting" if what == "put" else "getting back"} {size_text(total)} with {len(CLIENTS)} clients at once')
        seconds = at_once(function, numbers)
        say(f'  {what} in {seconds:.1f} s')


def compare(parts, stored, back):
    say('comparing SHA-256 sums: what was sent, what smbd stored, what came back')
    count, wrong = 0, []
    for n, part in enumerate(parts):
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            sent, kept, got = pool.map(digests, (part, stored / f'client{n}', back[n]))
        for name in sorted(sent.keys() | kept.keys() | got.keys()):
            count += 1
            if not sent.get(name) == kept.get(name) == got.get(name):
                wrong.append(f'client{n}/{name}: sent {sent.get(name)}, stored {kept.get(name)}, came back {got.get(name)}')
    if wrong:
        raise Failure(f'{len(wrong)} of {count} files differ:\n' + '\n'.join(wrong[:10]))
    return count


# --- what moved, and how ----------------------------------------------------------------------------

ESTABLISHED = re.compile(r'worker (\d+)\[\d+\] info: connection established peer=([0-9.]+):\d+')


def report(daemon, moved):
    served = {}
    for slot, address in ESTABLISHED.findall(daemon.log):
        served.setdefault(address, set()).add(int(slot))
    say('\nclient       worker  requests     inline  RDMA READ (client to server)  RDMA WRITE (server to client)')
    for address, counters in zip(CLIENTS, moved):
        inline = counters['bytes_inline_sent'] + counters['bytes_inline_received']
        slots = ','.join(str(s) for s in sorted(served.get(address, ()))) or '?'
        say(f'{address:12} {slots:>6} {counters["smb_requests"]:9} {size_text(inline):>10}'
            f'  {counters["rdma_reads"]:9} moved {size_text(counters["rdma_read_bytes"]):>10}'
            f'    {counters["rdma_writes"]:9} moved {size_text(counters["rdma_write_bytes"]):>10}')
    total = {key: sum(counters[key] for counters in moved) for key in ('rdma_reads', 'rdma_writes')}
    say(f'{total["rdma_reads"]} RDMA READs and {total["rdma_writes"]} RDMA WRITEs in all\n')
    if not total['rdma_reads'] or not total['rdma_writes']:
        raise Failure('nothing moved by RDMA in one direction')


def report_ways(daemon, without):
    """How the data of RDMA READs and WRITEs got to smbd and from there. without: why smbd has no vfs_smbdirect."""
    workers = daemon.ctl('workers')
    for what, total, area in (('to files', 'rdma_read_bytes', 'area_write_bytes'),
                              ('from files', 'rdma_write_bytes', 'area_read_bytes')):
        moved, shared = (sum(worker[name] for worker in workers) for name in (total, area))
        say(f'{what:10}  {size_text(shared):>10} by memory shared with smbd   {size_text(moved - shared):>10} through its TCP connections')
        if not without and not shared:
            raise Failure(f'smbd has vfs_smbdirect, and nothing went {what} by memory shared with it')
    say(f'(without vfs_smbdirect: {without})\n' if without else '(vfs_smbdirect takes READs and WRITEs of 64 KiB and more)\n')


CACHED = 16 * MIB
PIECE = MIB  # of it


def cache(daemon, smbd):
    """A client that has its file under a lease, as Linux and Windows have: the worker reads and writes it itself. (smbclient
    asks for no lease.)"""
    data = random.Random(1).randbytes(CACHED // 4)
    with rdma.session(daemon, smbd, share='cached') as client:
        file = leases.open_leased(client, 'cached', leases.RWH).file_id
        client.write(file, data[:8]).check()
        direct_use.warm(daemon, client, file)
        for at in range(0, CACHED, len(data)):
            for piece in range(0, len(data), PIECE):
                rdma.channel_write(client, file, data[piece:piece + PIECE], at + piece).check()
        if (smbd.share_path('cached') / 'cached').read_bytes() != data * 4:
            raise Failure('what was written under a lease is not what is in the file')
        for at in range(0, CACHED, PIECE):
            response, got = rdma.channel_read(client, file, PIECE, at)
            response.check()
            if got != data[at % len(data):][:PIECE]:
                raise Failure(f'what was read under a lease is not what was written, at {at}')
            client.transport.iwarp.regions.clear()
        client.close_file(file).check()
    rows = process.at_rest(lambda: [sum(row[f'direct_{way}_bytes'] for row in daemon.ctl('workers')) for way in ('write', 'read')])
    say(f'under a lease: the worker itself wrote {size_text(rows[0])} and read {size_text(rows[1])}, all as it was sent')
    if min(rows) < CACHED // 2:
        raise Failure('of what could be done without smbd most was not')


def demonstrate(programs, interruption, directory):
    parts = stage(directory / 'sent')
    back = [directory / 'back' / f'client{n}' for n in range(len(CLIENTS))]
    for path in back:
        path.mkdir(parents=True)
    for name in ('smbd', 'smbdirectd'):
        (directory / name).mkdir()
    # Case-sensitive and unmangled: the tree is a Linux one.
    share = {'case sensitive': 'yes', 'mangled names': 'no', 'guest ok': 'no'}
    version = programs.run([SMBD, '--version'])[1].strip()
    without = module_smbd.missing()
    pool = {'log': {'level': 'info'}}
    if without:
        smbd = SmbdServer(directory / 'smbd', shares={'demo': share})
    else:
        shares = {'demo': {**share, 'vfs objects': 'smbdirect'}, 'cached': {'vfs objects': 'smbdirect'}}
        smbd = ModuleSmbd(directory / 'smbd', shares=shares)
        pool['upstream'] = {'area': {'directory': str(smbd.links)}}
    daemon = Smbdirectd(directory / 'smbdirectd', 0, workers=WORKERS, pool=pool)
    connects = []
    try:
        client_configuration(smbd)
        daemon.pool['upstream']['port'] = smbd.port
        for server in (smbd, daemon):
            with interruption.held():
                server.start()
        workers = ', '.join(f'{slot} is pid {pid}' for slot, pid in sorted(daemon.workers().items()))
        beside = '' if without else ', with vfs_smbdirect'
        say(f'smbd ({version}, unpatched{beside}) on 127.0.0.1 port {smbd.port}, pid {smbd.pid}')
        say(f'smbdirectd on {daemon.address} port {daemon.port} (iwarp), pid {daemon.pid}; workers: {workers}')
        for n, address in enumerate(CLIENTS):
            connects.append(Connect(directory / f'connect{n}', daemon, source=address))
            with interruption.held():
                connects[-1].start()
        transfer(programs, smbd, connects, parts, back)
        moved = [connect.stop() for connect in connects]
        count = compare(parts, smbd.share_path('demo'), back)
        report(daemon, moved)
        report_ways(daemon, without)
        if not without:
            cache(daemon, smbd)
        daemon.stop()
        smbd.stop()
        say(f'all {count} files identical')
    finally:
        # Whatever happened: by pid, nothing else, and without hiding the first failure.
        programs.stop()
        for connect in connects:
            quietly(connect.stop, check=False)
        quietly(daemon.stop, check=False)
        quietly(smbd.stop)


def quietly(function, **kw):
    try:
        function(**kw)
    except (AssertionError, OSError) as e:
        print(f'while stopping: {e}', file=sys.stderr)


def main():
    argparse.ArgumentParser(prog='scripts/demo', description=__doc__,
                            formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    programs = Programs()
    interruption = Interruption(programs.stop)
    begin = time.monotonic()
    directory = None
    try:
        build(programs)
        directory = pathlib.Path(tempfile.mkdtemp(prefix='smbdirectd-demo-', dir='/var/tmp'))
        directory.chmod(0o755)
        free = shutil.disk_usage(directory).free
        if free < NEEDED:
            raise Failure(f'{directory.parent} has {size_text(free)} free, the demonstration needs {size_text(NEEDED)}')
        demonstrate(programs, interruption, directory)
        say(f'({time.monotonic() - begin:.0f} s)')
        return 0
    except Stopped as e:
        print(f'stopped by {e}', file=sys.stderr)
        return 130
    except (Failure, AssertionError) as e:
        print(f'demo: {e}', file=sys.stderr)
        return 1
    finally:
        if directory:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == '__main__':
    sys.exit(main())
