# SPDX-License-Identifier: MIT
"""What the kernel's client must get right over SMB Direct, whatever fabric carries it.

Each function takes a world of lib.world, and names what moved by RDMA and inline.
"""

import concurrent.futures

from lib import kernels, storage
from lib.counters import Moved, summary
from lib.files import content
from lib.world import LARGE, fresh, mounted

# Sessions that are signed or sealed go inline. Only with signing the client makes its requests smaller by itself.
SIGNED = {"sec": "ntlmsspi", "rsize": 131072, "wsize": kernels.INLINE_WSIZE}
SEALED = {"seal": True, "rsize": 131072, "wsize": kernels.INLINE_WSIZE}
AT_ONCE = 4  # small files that are worked on


def assert_moved(got, by_rdma):
    assert got["connections"] > 0, f"the mount did not go over SMB Direct: {summary(got)}"
    if by_rdma:
        assert got["rdma_reads"] > 0 and got["rdma_writes"] > 0, f"nothing went by RDMA: {summary(got)}"
    else:
        assert got["rdma_reads"] == got["rdma_writes"] == 0, f"went by RDMA and should not: {summary(got)}"


def files(world, vers, cache, options):
    """A tree and a large file in, unmounted, mounted, and out again."""
    name = f"files-{vers}-{cache}-{'-'.join(options)}"
    server_side = fresh(world, name)
    inline = "sec" in options or "seal" in options
    sources = [world.tree] if inline else [world.tree, world.large]
    moved = Moved(world.daemon)
    with mounted(world, vers, cache=cache, **options) as mount:
        there = mount.path / name
        for source in sources:
            storage.copy_tree(source, there / source.name)
        mount.remount()
        count = size = 0
        for source in sources:
            back = world.directory / "back" / name / source.name
            storage.copy_tree(there / source.name, back)
            files_here, bytes_here = storage.compare(source, back)
            storage.compare(source, server_side / source.name)
            count, size = count + files_here, size + bytes_here
    got = moved.since()
    assert_moved(got, not inline)
    if not inline:
        # With 3.0 the client invalidates its memory itself, from 3.0.2 on it lets the server do that.
        assert (got["invalidates"] > 0) == (vers != "3.0"), summary(got)
        assert got["rdma_read_bytes"] >= LARGE and got["rdma_write_bytes"] >= LARGE, summary(got)
    return f"{count} files, {size} bytes each way: {summary(got)}"


def fio(world, vers, options):
    """Random reads and writes of 4 KiB to 1 MiB by several jobs, every block checked."""
    name = f"fio-{vers}-{'-'.join(options)}"
    fresh(world, name)
    inline = "sec" in options or "seal" in options
    moved = Moved(world.daemon)
    with mounted(world, vers, cache="none", **options) as mount:
        # Before it reads at random fio writes the file, from the middle of pages: not where that would go inline.
        what = {"rw": "randwrite", "size": "3m"} if inline else {"rw": "randrw", "size": "12m"}
        done = storage.fio(mount.path / name, sizes="4k-1m", jobs=3, depth=4, **what)
    got = moved.since()
    assert_moved(got, not inline)
    return f"fio read {done['read']}, wrote {done['write']}: {summary(got)}"


def small_files(world, count=500):
    """Created, renamed, looked at, read and deleted, several at once: mostly messages, little data."""
    server_side = fresh(world, "small")
    blocks = [next(content(1 + 37 * number % 9000, number)) for number in range(count)]
    moved = Moved(world.daemon)
    with mounted(world, **world.plain) as mount, concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        here = mount.path / "small"

        def each(work):
            list(pool.map(work, range(count)))  # raises what one of them raised

        def same(number):
            path, data = here / f"file-{number}", blocks[number]
            assert path.stat().st_size == len(data) and path.read_bytes() == data, f"{path} differs"
            assert (server_side / path.name).read_bytes() == data, f"{path.name} differs on the server"

        each(lambda number: (here / f"new-{number}").write_bytes(blocks[number]))
        each(lambda number: (here / f"new-{number}").rename(here / f"file-{number}"))
        assert len(list(here.iterdir())) == count
        mount.remount()
        each(same)
        each(lambda number: (here / f"file-{number}").unlink())
        assert not list(here.iterdir()) and not list(server_side.iterdir())
    got = moved.since()
    assert_moved(got, True)
    return f"{count} files, {AT_ONCE} at once: {summary(got)}"


def add_all(cases, plain):
    """All of the above to a Cases, with `plain` as mount options where nothing is signed or sealed. A usual run has one
    of each kind; a full run every combination."""
    for vers in ("3.0", "3.1.1"):
        cases.add(f"files_{vers}_uncached", files, vers, "none", plain, full=vers == "3.1.1")
        cases.add(f"files_{vers}_cached", files, vers, "strict", plain, full=vers == "3.0")
        cases.add(f"fio_{vers}", fio, vers, plain, full=vers == "3.0")
    for name, options in (("signed", SIGNED), ("sealed", SEALED)):
        cases.add(f"files_{name}", files, "3.1.1", "none", options)
        cases.add(f"fio_{name}", fio, "3.1.1", options, full=True)
    cases.add("small_files", small_files, seconds=600)
