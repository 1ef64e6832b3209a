# SPDX-License-Identifier: MIT
"""Where the guest's files lie: a file system with user xattrs, copies that are compared, and fio."""

import contextlib
import json
import mmap
import pathlib
import subprocess

from lib.files import assert_same_tree, digests
from lib.network import modprobe, run


@contextlib.contextmanager
def ext4(directory, megabytes=2048):
    """An empty ext4 file system, mounted at `directory`: the guest's own root has no user xattrs. It lies in memory,
    and takes only what is written."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True)
    modprobe("loop", "ext4")
    image = directory.with_name(directory.name + ".ext4")
    run("truncate", "-s", f"{megabytes}M", image)
    run("mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard", "-m", "0", image)
    run("mount", "-o", "loop,user_xattr", image, directory)
    try:
        yield directory
    finally:
        run("umount", directory, check=False)
        image.unlink()


def copy_tree(source, destination):
    """Copies every file, in writes of 1 MiB from the start of a page: 6.1's SMB Direct client sends small pieces of
    data that cross a page's end wrongly, to any server."""
    for path in pathlib.Path(source).rglob("*"):
        target = pathlib.Path(destination) / path.relative_to(source)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        buffer = mmap.mmap(-1, 1 << 20)
        with open(path, "rb", buffering=0) as read, open(target, "wb", buffering=0) as write:
            while count := read.readinto(buffer):
                view = memoryview(buffer)[:count]
                while view:
                    view = view[write.write(view) :]


def copy_and_compare(source, destination):
    """Copies a tree and gives (files, bytes) once every SHA-256 agrees."""
    copy_tree(source, destination)
    return compare(source, destination)


def compare(expected, got):
    assert_same_tree(digests(expected), digests(got))
    files = [p for p in pathlib.Path(got).rglob("*") if p.is_file()]
    return len(files), sum(p.stat().st_size for p in files)


def fio(directory, rw="randrw", sizes="4k-1m", size="16m", jobs=2, depth=4, direct=True, timeout=240, options=()):
    """fio with a CRC32C in every block, checked when read back. Gives {"read": bytes, "write": bytes}; what is wrong
    is an AssertionError. `sizes`: block sizes, "FROM-TO"; `size`: per job; `depth`: requests at a time per job."""
    argv = ["fio", "--name=verify", f"--directory={directory}", f"--rw={rw}", f"--bsrange={sizes}", f"--size={size}"]
    argv += [f"--numjobs={jobs}", f"--iodepth={depth}", f"--direct={int(direct)}", "--ioengine=libaio"]
    argv += ["--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--verify_backlog=64", "--randseed=7"]
    argv += ["--fallocate=none", "--group_reporting", "--output-format=json", "--thread", *options]
    try:
        done = run(*argv, timeout=timeout, check=False, cwd="/tmp")
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{' '.join(argv)} took longer than {timeout} s") from None
    start = done.stdout.find("{")
    job = json.loads(done.stdout[start:])["jobs"][0] if start >= 0 else {"error": "none told"}
    assert done.returncode == 0 and job["error"] == 0, (
        f"{' '.join(argv)} ended {done.returncode}, error {job['error']}: {done.stderr}{done.stdout[:max(0, start)]}"
    )
    return {kind: job[kind]["io_bytes"] for kind in ("read", "write")}
