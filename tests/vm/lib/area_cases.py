# SPDX-License-Identifier: MIT
"""What the kernel's client must get right where its data goes by memory shared with a stock smbd that has vfs_smbdirect,
whatever fabric carries it; and that it does go that way."""

import functools
import os
import signal

from lib import storage
from lib.area_link import mapped
from lib.cases import Cases
from lib.counters import Moved, summary
from lib.module_world import module_world, where_it_is_built
from lib.network import resources
from lib.process import wait_until
from lib.transfer import survives
from lib.world import LARGE, fresh, mounted

AREA = 8 << 20
# An area's memory is pinned in the RDMA device: the guest has little. Direct I/O would take what an open with a lease has.
UPSTREAM = {"area": {"bytes": AREA}, "direct": {"enabled": False}}


def by_area(got):
    mib = {name: got[name] / (1 << 20) for name in ("area_read_bytes", "area_write_bytes")}
    text = f"by the area {got['area_reads']} READs of {mib['area_read_bytes']:.1f} MiB, "
    text += f"{got['area_writes']} WRITEs of {mib['area_write_bytes']:.1f} MiB; all {summary(got)}"
    assert got["area_reads"] > 0 and got["area_writes"] > 0, f"nothing went by the area: {text}"
    return text


def registered():
    """The regions registered with the device that are as long as an area."""
    return [mr for mr in resources("mr") if mr.get("mrlen") == AREA]


def contents(world, vers):
    """A tree and a large file in, unmounted, mounted, and out again."""
    name = f"contents-{vers}"
    server_side, moved, count = fresh(world, name), Moved(world.daemon), 0
    with mounted(world, vers, cache="none", **world.plain) as mount:
        there = mount.path / name
        for source in (world.tree, world.large):
            storage.copy_tree(source, there / source.name)
        mount.remount()
        for source in (world.tree, world.large):
            back = world.directory / "back" / name / source.name
            storage.copy_tree(there / source.name, back)
            assert len(registered()) == 1, f"regions: {resources('mr')}"
            count += storage.compare(source, back)[0]
            storage.compare(source, server_side / source.name)
    wait_until(lambda: not registered(), 20, lambda: f"no area is registered any more: {registered()}")
    got = moved.since()
    text = by_area(got)
    # The first ones of a connection ask for the area.
    assert min(got["area_read_bytes"], got["area_write_bytes"]) > LARGE // 2, text
    return f"{count} files each way; {text}"


def fio(world):
    """Random reads and writes of 64 KiB to 1 MiB by several jobs, every block checked."""
    fresh(world, "fio")
    moved = Moved(world.daemon)
    with mounted(world, cache="none", **world.plain) as mount:
        done = storage.fio(mount.path / "fio", sizes="64k-1m", jobs=3, depth=4, rw="randrw", size="12m")
    return f"fio read {done['read']}, wrote {done['write']}; {by_area(moved.since())}"


def two_channels(world):
    """Both carry data, and each has an area in the one smbd."""
    server_side = fresh(world, "channels")
    moved = Moved(world.daemon)
    options = {"multichannel": True, "max_channels": 2, "cache": "none", **world.plain}
    with mounted(world, where="/mnt/two", **options) as mount:
        there = mount.path / "channels"
        storage.copy_tree(world.large, there / "large")
        done = storage.fio(there, sizes="64k-1m", size="8m", jobs=4)
        (pid,) = world.smbd.client_pids()
        (client,) = world.daemon.ctl("clients")
        assert (client["channels"], client["smbd"]) == (2, [pid]), client
        wait_until(lambda: mapped(pid) == 2, 20, lambda: f"two areas mapped by smbd, not {mapped(pid)}")
        storage.compare(world.large, server_side / "large")
    return f"fio {done}; {by_area(moved.since())}"


def smbd_is_killed(world):
    """In the middle of a transfer: the mount connects again, to an smbd that has no area yet, and gets one there."""
    after = []

    def strike(world):
        assert Moved(world.daemon).before["area_writes"] > 0, "it was not by the area"
        (pid,) = world.smbd.client_pids()
        assert mapped(pid) == 1
        os.kill(pid, signal.SIGKILL)
        after.append(Moved(world.daemon))
        return f"smbd {pid} was killed"

    told = survives(world, "smbd", strike)
    got = after[0].since()
    assert got["area_writes"] > 0, f"no WRITE by the area after it: {summary(got)}"
    return f"{told}; after it {got['area_writes']} WRITEs by the area"


def all_cases(device, plain, **kw):
    """The Cases of a program, without those that the client may hang in."""
    cases = Cases(functools.partial(module_world, device, "verbs", plain, UPSTREAM), **kw)
    for vers in ("3.0", "3.1.1"):
        cases.add(f"contents_{vers}", where_it_is_built(contents), vers, full=vers == "3.0")
    cases.add("fio", where_it_is_built(fio))
    cases.add("two_channels", where_it_is_built(two_channels))
    if device == "siw":
        # Over rxe the client up to 6.12 can hang for good when a connection ends.
        cases.add("smbd_is_killed", where_it_is_built(smbd_is_killed))
    return cases
