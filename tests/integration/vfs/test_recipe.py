# SPDX-License-Identifier: MIT
"""What vfs_smbdirect is built with: the recipe of Samba's headers, and what is written down of the series of Samba."""

import hashlib
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
VFS = ROOT / "protocol/proxy/vfs"
SAMBA = ROOT / "scripts/lib/samba"


@pytest.fixture(scope="module")
def recipe():
    """The modules of scripts/lib/samba."""
    kept, names = list(sys.path), ("cache", "generate", "headers", "series")
    sys.path[:0] = [str(SAMBA), str(ROOT / "scripts/lib/vm"), str(ROOT / "scripts/lib/fresh")]
    try:
        yield {name: __import__(name) for name in names}
    finally:
        sys.path[:] = kept


def test_all_that_the_module_includes_is_made(recipe):
    assert recipe["generate"].missing_in_probe(VFS) == []
    assert 'lib/util/tevent_ntstatus.h' in recipe["generate"].PROBE


def test_where_releases_come_from(recipe):
    for name, release in recipe["series"].RELEASES.items():
        assert re.fullmatch(r"4\.\d+(\.\d+)?", name)
        assert bool(release.suites) != bool(release.pool), name
        assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in release.pool.values())
    assert set(recipe["series"].USUAL) <= set(recipe["series"].RELEASES)


@pytest.mark.parametrize("right", [True, False])
def test_files_of_the_pool_are_those_that_are_known(recipe, tmp_path, monkeypatch, right):
    pool = tmp_path / "mirror/pool/main/s/samba"
    pool.mkdir(parents=True)
    (pool / "samba_1.orig.tar.xz").write_bytes(b"Samba")
    monkeypatch.setattr(recipe["headers"].sources, "mirrors", lambda: (f"file://{tmp_path}/mirror", None))
    digest = hashlib.sha256(b"Samba" if right else b"another").hexdigest()
    problem = recipe["cache"].Problem
    try:
        recipe["headers"].from_pool("samba_1.orig.tar.xz", digest, tmp_path)
        assert right
    except problem as e:
        assert not right and "is not the file that is known here" in str(e)
    with pytest.raises(recipe["cache"].Unreachable):
        recipe["headers"].from_pool("samba_2.orig.tar.xz", digest, tmp_path)


def test_without_a_cache_the_build_knows_of_no_headers(tmp_path):
    """Nor does asking make one."""
    argv = ["/usr/bin/python3", SAMBA / "main.py", "--list"]
    env = {"PATH": "/usr/bin:/bin", "XDG_CACHE_HOME": str(tmp_path / "none")}
    done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "none").exists()


def test_series_that_there_are_not():
    argv = ["/usr/bin/python3", SAMBA / "main.py", "3.6"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 2 and "no such series: 3.6" in done.stderr


def test_the_shim_knows_the_number_of_each_series():
    """A wrong guess costs three lines in smbd's log, each time."""
    header, *rows = [line.split() for line in (VFS / "fields.txt").read_text().splitlines() if not line.startswith("#")]
    (numbers,) = [row[1:] for row in rows if row[0] == "interface"]
    table = [(int(a), int(b)) for a, b in re.findall(r"\{(\d+), (\d+)\}", (VFS / "shim.c").read_text())]
    assert table == sorted(table)
    for version, number in zip(header[1:], numbers):
        minor = int(version.split(".")[1])
        assert max(pair for pair in table if pair[0] <= minor)[1] == int(number), version
