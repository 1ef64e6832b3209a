# SPDX-License-Identifier: MIT
"""Where the guest's files lie: a file system with user xattrs, copies that are compared, and fio."""

import contextlib
import json
import pathlib
import shutil
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


def copy_and_compare(source, destination):
    """Copies a tree and gives (files, bytes) once every SHA-256 agrees."""
    shutil.copytree(source, destination)
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
    except subprocess.TimeoutExpired as e:
        raise AssertionError(f"{' '.join(argv)} took longer than {timeout} s: {e.stdout} {e.stderr}") from None
    start = done.stdout.find("{")
    assert done.returncode == 0 and start >= 0, f"{' '.join(argv)}: {done.returncode}: {done.stdout}{done.stderr}"
    job = json.loads(done.stdout[start:])["jobs"][0]
    assert job["error"] == 0, f"fio: error {job['error']}: {done.stdout}{done.stderr}"
    return {kind: job[kind]["io_bytes"] for kind in ("read", "write")}
