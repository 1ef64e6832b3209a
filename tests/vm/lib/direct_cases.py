# SPDX-License-Identifier: MIT
"""What the kernel's client must get right where the worker reads and writes the open files itself, whatever fabric
carries it; that it does, and that smbd then has nothing to do."""

import contextlib
import functools
import mmap
import os
import pathlib
import re
import signal

from lib import cifs, storage
from lib.cases import Cases
from lib.counters import Moved, summary
from lib.files import content, make_file, sha256
from lib.module_world import module_world, where_it_is_built
from lib.process import wait_until
from lib.transfer import survives
from lib.world import LARGE, fresh, mounted

# An area's memory is pinned in the RDMA device: the guest has little.
UPSTREAM = {"area": {"bytes": 8 << 20}}
SMALL = 4096
READS = 1500


def direct(got, writes=True):
    """writes: whether some have to be. What the client sends at once, when it writes back, goes to smbd with the first one."""
    mib = {name: got[name] / (1 << 20) for name in ("direct_read_bytes", "direct_write_bytes")}
    text = f"by the worker {got['direct_reads']} READs of {mib['direct_read_bytes']:.1f} MiB, "
    text += f"{got['direct_writes']} WRITEs of {mib['direct_write_bytes']:.1f} MiB; all {summary(got)}"
    assert got["direct_reads"] > 0 and (got["direct_writes"] > 0 or not writes), f"the worker did none itself: {text}"
    return text


def contents(world, vers, cache):
    """A tree and a large file in, unmounted, mounted, and out again."""
    name = f"contents-{vers}-{cache}"
    server_side, moved, count = fresh(world, name), Moved(world.daemon), 0
    with mounted(world, vers, cache=cache, **world.plain) as mount:
        there = mount.path / name
        for source in (world.tree, world.large):
            storage.copy_tree(source, there / source.name)
        mount.remount()
        for source in (world.tree, world.large):
            back = world.directory / "back" / name / source.name
            storage.copy_tree(there / source.name, back)
            count += storage.compare(source, back)[0]
            storage.compare(source, server_side / source.name)
    got = moved.since()
    text = direct(got)
    # The first ones of a connection ask for the link.
    assert got["direct_read_bytes"] > LARGE // 2, text
    assert got["direct_write_bytes"] > LARGE // (2 if cache == "none" else 8), text
    return f"{count} files each way; {text}"


def fio(world, cache):
    """Random reads and writes of 4 KiB to 1 MiB by several jobs, every block checked; past the client's cache and
    through it."""
    name = f"fio-{cache}"
    fresh(world, name)
    moved = Moved(world.daemon)
    with mounted(world, cache=cache, **world.plain) as mount:
        done = storage.fio(mount.path / name, jobs=3, depth=4, rw="randrw", size="12m", direct=cache == "none")
    return f"fio read {done['read']}, wrote {done['write']}; {direct(moved.since(), writes=cache == 'none')}"


def four_channels(world):
    """All carry data of files that were opened on one of them."""
    server_side = fresh(world, "channels")
    moved = Moved(world.daemon)
    options = {"multichannel": True, "max_channels": 4, "cache": "none", **world.plain}
    with mounted(world, where="/mnt/four", **options) as mount:
        there = mount.path / "channels"
        wait_until(lambda: [c["channels"] for c in world.daemon.ctl("clients")] == [4], 30,
                   lambda: f"four channels: {world.daemon.ctl('clients')}")  # fmt: skip
        storage.copy_tree(world.large, there / "large")
        done = storage.fio(there, size="8m", jobs=4)
        storage.compare(world.large, server_side / "large")
        rows = world.daemon.ctl("connections")
    used = [row["number"] for row in rows if row["direct"] == "used"]
    assert len(used) > 1, f"one channel at most had direct I/O: {rows}"
    return f"fio {done}; by {len(used)} channels; {direct(moved.since())}"


def first_difference(got, expected):
    at = next((i for i, (a, b) in enumerate(zip(got, expected)) if a != b), min(len(got), len(expected)))
    return f"{len(got)} bytes of {len(expected)}, from {at} on {got[at : at + 16].hex()} for {expected[at : at + 16].hex()}"


def read_now(path, size):
    """By READs of all of it, whatever length the client thinks it has: it looks that up before it opens a file, and the
    other one writes what it has when it is opened."""
    with open(path, "rb", buffering=0) as file:
        return b"".join(iter(lambda: file.read(size), b""))


def two_clients(world, rounds=12):
    """What one has in its cache under a lease, or has written, the other one reads: smbd takes the lease back first."""
    server_side = fresh(world, "two")
    moved = Moved(world.daemon)
    options = {"nosharesock": True, **world.plain}
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(mounted(world, where="/mnt/one", cache="strict", **options))
        other = stack.enter_context(mounted(world, where="/mnt/other", cache="none", **options))
        for number in range(rounds):
            data = b"".join(content(300_000, number))
            name = f"two/file-{number}"
            with open(one.path / name, "wb", buffering=0) as out:
                for at in range(0, len(data), 65536):
                    out.write(data[at : at + 65536])
                    if number % 2 and at < 4 * 65536:
                        os.fsync(out.fileno())  # most of it is there, in WRITEs of their own
                got = read_now(other.path / name, len(data))  # while it is open
                assert got == data, f"round {number}: the other client read something else: {first_difference(got, data)}"
                with open(other.path / name, "r+b", buffering=0) as change:
                    change.write(b"changed")
                os.lseek(out.fileno(), 0, os.SEEK_END)
                out.write(b"more")
            wanted = b"changed" + data[7:] + b"more"
            assert (server_side / f"file-{number}").read_bytes() == wanted, f"round {number}: what smbd has differs"
            assert read_now(other.path / name, len(wanted)) == wanted, f"round {number}: the other client reads what was"
    got = moved.since()
    assert got["direct_grants"] > rounds // 2 and got["direct_revocations"] > rounds // 2, got
    return f"{got['direct_grants']} grants, {got['direct_revocations']} revocations; {direct(got)}"


def cpu_ns(pid):
    """That all threads of a process have had."""
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def smbd_has_nothing_to_do(world):
    """With small READs: their number, and what each process had of the processors."""
    server_side = fresh(world, "small")
    digest = make_file(server_side / "file", SMALL * 256, seed=5)
    with mounted(world, cache="none", **world.plain) as mount:
        path = mount.path / "small" / "file"
        assert sha256(path) == digest
        expected = (server_side / "file").read_bytes()
        (smbd,) = world.smbd.client_pids()
        workers = world.daemon.worker_pids()
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        try:
            buffer = mmap.mmap(-1, SMALL)

            def read(number):
                at = number * 37 % 256 * SMALL
                assert os.preadv(fd, [buffer], at) == SMALL and buffer[:] == expected[at : at + SMALL], f"READ {number} at {at}"

            for number in range(10):  # the first ones are smbd's
                read(number)
            moved = Moved(world.daemon)
            before = {pid: cpu_ns(pid) for pid in (smbd, *workers)}
            for number in range(READS):
                read(number)
            spent = {pid: cpu_ns(pid) - before[pid] for pid in before}
            got = moved.since()
        finally:
            os.close(fd)
    by_smbd, by_worker = (ns / READS / 1000 for ns in (spent[smbd], sum(spent[pid] for pid in workers)))
    text = f"{got['direct_reads']} of {READS} by the worker; CPU for each {by_smbd:.1f} us smbd, {by_worker:.1f} us worker"
    assert got["direct_reads"] > READS * 0.95, text
    # It answers an ECHO now and then, and one READ every two seconds.
    assert by_smbd < by_worker / 5, text
    return text


def smbd_is_killed(world):
    """In the middle of a transfer: the mount connects again, to an smbd that has granted nothing yet, and gets it there."""
    since = world.daemon.log_position()

    def strike(world):
        (pid,) = world.smbd.client_pids()
        os.kill(pid, signal.SIGKILL)
        return f"smbd {pid} was killed"

    told = survives(world, "smbd", strike)
    ended = re.findall(r'connection closed peer=\S+ cause="([^"]*)".* direct_writes=(\d+)', world.daemon.log_since(since))
    # Others, of a mount before this one or of a client that looks around, end when they like.
    struck = next((number for number, (cause, _) in enumerate(ended) if "smbd" in cause), len(ended))
    writes = [sum(int(count) for _, count in some) for some in (ended[struck : struck + 1], ended[struck + 1 :])]
    assert min(writes) > 0, f"connections, and the WRITEs that the worker did itself: {ended}"
    return f"{told}; WRITEs by the worker before it {writes[0]}, after it {writes[1]}"


def worker_is_killed(world):
    """In the middle of a transfer."""

    def strike(world):
        (row,) = world.daemon.ctl("connections")
        assert row["direct"] == "used", row
        pid = next(w["pid"] for w in world.daemon.ctl("workers") if w["slot"] == row["worker"])
        os.kill(pid, signal.SIGKILL)
        return f"worker {pid} was killed"

    return survives(world, "worker", strike)


def all_cases(device, fabric, plain, **kw):
    """The Cases of a program, without those that the client may hang in."""
    cases = Cases(functools.partial(module_world, device, fabric, plain, UPSTREAM), **kw)
    verbs = fabric == "verbs"
    for vers in ("3.0", "3.1.1"):
        for cache in ("none", "strict"):
            often = (vers, cache) == ("3.1.1", "strict" if verbs else "none")
            cases.add(f"contents_{vers}_{cache}", where_it_is_built(contents), vers, cache, full=not often)
    for cache in ("none", "strict"):
        cases.add(f"fio_{cache}", where_it_is_built(fio), cache, full=cache == "strict" and not verbs)
    cases.add("four_channels", where_it_is_built(four_channels))
    cases.add("two_clients", where_it_is_built(two_clients))
    cases.add("smbd_has_nothing_to_do", where_it_is_built(smbd_has_nothing_to_do))
    if device == "siw":
        # Over rxe the client up to 6.12 can hang for good when a connection ends.
        cases.add("smbd_is_killed", where_it_is_built(smbd_is_killed))
        cases.add("worker_is_killed", where_it_is_built(worker_is_killed))
    return cases
