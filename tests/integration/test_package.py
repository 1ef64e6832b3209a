# SPDX-License-Identifier: MIT
"""scripts/package: its versions, what it takes for a difference, and when it takes data for lost."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "scripts/lib" / name) for name in ("package", "fresh")]
import differences  # noqa: E402
import samba_headers  # noqa: E402
import served  # noqa: E402
import version  # noqa: E402

# --- versions -----------------------------------------------------------------------------------------------------


def test_the_version_comes_from_the_tree():
    meson, changelog = (ROOT / "meson.build").read_text(), (ROOT / "debian/changelog").read_text()
    assert version.agreed(meson, changelog) == version.of_project(meson)
    with pytest.raises(version.Disagreement, match="meson.build has version 9.9.9"):
        version.agreed(meson.replace(version.of_project(meson), "9.9.9"), changelog)


def test_a_raised_version_is_higher_and_of_the_same_upstream():
    changelog = (ROOT / "debian/changelog").read_text()
    raised = version.raised(changelog)
    (upstream, old), (same, new) = version.of_package(changelog), version.of_package(raised)
    assert upstream == same and raised.endswith(changelog)
    subprocess.run(["dpkg", "--compare-versions", f"{same}-{new}", "gt", f"{upstream}-{old}"], check=True)
    said = subprocess.run(["dpkg-parsechangelog", "-l", "-", "-S", "Version"], input=raised, capture_output=True, text=True)
    assert said.stdout.strip() == f"{same}-{new}" and said.stderr == "", said


# --- builds -------------------------------------------------------------------------------------------------------


def make_package(directory, name, files, description="d"):
    tree = directory / f"{name}.tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: {description}\n")  # fmt: skip
    for path, text in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, directory / f"{name}.deb"],
                   check=True, capture_output=True, env={"SOURCE_DATE_EPOCH": "1", "PATH": "/usr/bin:/bin"})  # fmt: skip


def test_builds_that_are_the_same_and_not(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        make_package(directory, "same", {"usr/a": "text"})
    assert differences.between_builds(first, second) == []
    make_package(first, "content", {"usr/a": "one", "usr/b": "x"})
    make_package(second, "content", {"usr/a": "two", "usr/b": "x"})
    make_package(first, "control", {"usr/a": "one"})
    make_package(second, "control", {"usr/a": "one"}, description="another")
    make_package(first, "once", {"usr/a": "one"})
    assert differences.between_builds(first, second) == [
        ("content.deb", ["./usr/a"]),
        ("control.deb", ["only its control files or its compression"]),
        ("once.deb", ["only one of the builds made it"]),
    ]


def test_the_headers_of_samba_are_the_same_whoever_packs_them(tmp_path):
    for number, mode in enumerate((0o644, 0o600)):
        for name in ("4.17", "4.22"):
            place = tmp_path / f"{number}" / name
            (place / "tree/lib").mkdir(parents=True)
            for path in ("version", "flags", "tree/a.h", "tree/lib/b.h", "build.log"):
                (place / path).write_text(f"{path} of {name}")
                (place / path).chmod(mode)
        headers = {name: tmp_path / f"{number}" / name for name in ("4.17", "4.22")}
        samba_headers.pack(dict(reversed(headers.items())) if number else headers, tmp_path / f"{number}.tar.gz")
    first, second = ((tmp_path / f"{number}.tar.gz").read_bytes() for number in (0, 1))
    assert first == second
    listed = subprocess.run(["tar", "-tf", tmp_path / "0.tar.gz"], check=True, capture_output=True, text=True).stdout.split()
    assert [name.removeprefix("samba-headers/4.17/") for name in listed if "/4.17/" in name] == [
        "version", "flags", "tree/", "tree/a.h", "tree/lib/", "tree/lib/b.h"]  # fmt: skip
    assert len(listed) == 12


# --- what a purge leaves ------------------------------------------------------------------------------------------

BEFORE = "/etc\n/etc/hosts\n/etc/passwd\n/usr/bin/a b\n1111  /etc/hosts\n2222  /etc/passwd\n"


@pytest.mark.parametrize(
    "after, told",
    [
        (BEFORE, []),
        (BEFORE.replace("2222", "3333"), []),  # the user stays
        (BEFORE + "/etc/passwd-\n4444  /etc/passwd-\n", []),
        (BEFORE + "/etc/smbdirectd\n", ["/etc/smbdirectd is new"]),
        (BEFORE.replace("/usr/bin/a b\n", ""), ["/usr/bin/a b is gone"]),
        (BEFORE.replace("1111", "5555"), ["/etc/hosts is not what it was"]),
    ],
)
def test_what_a_purge_has_left(after, told):
    assert differences.left(BEFORE, after) == told


def test_accounts_that_come_with_the_packages():
    before = "root:x:0:0:root:/root:/bin/bash\n"
    ours, other = "smbdirect:x:999:999::/:/bin/false\n", "other:x:998:998::/:/bin/sh\n"
    assert differences.strange_accounts(before, before + ours) == []
    assert differences.strange_accounts(before, ours + other) == sorted([before.strip(), other.strip()])


# --- data ---------------------------------------------------------------------------------------------------------


class Files:
    """A host that is a directory."""

    def __init__(self, directory):
        self.directory = directory
        for path in (served.DIRECTORY, *served.SHARES.values()):
            self.path(path).mkdir(parents=True, exist_ok=True)

    def path(self, path):
        return self.directory / path.lstrip("/")


@pytest.mark.parametrize("share", served.SHARES)
@pytest.mark.parametrize("wrong", ["", "stored", "back", "no store", "no back"])
def test_a_file_that_is_not_what_was_sent_is_lost(tmp_path, monkeypatch, share, wrong):
    monkeypatch.setattr(served, "SIZE", 1000)
    host = Files(tmp_path)
    clients = served.Clients(host)
    name, data = clients.file()
    spoilt = data[:-1] + bytes([data[-1] ^ 1])
    stored, back = host.path(f"{served.SHARES[share]}/{name}"), host.path(f"{served.DIRECTORY}/{name}.back")
    if wrong != "no store":
        stored.write_bytes(spoilt if wrong == "stored" else data)
    if wrong != "no back":
        back.write_bytes(spoilt if wrong == "back" else data)
    if not wrong:
        clients.judge(share, name, data, str)
        assert clients.bytes == 1000 and not back.exists()
        return
    with pytest.raises(served.Lost, match="not there" if wrong.startswith("no") else "not what was sent"):
        clients.judge(share, name, data, str)
    assert clients.bytes == 0


def test_a_load_runs_before_and_after_and_tells_of_its_failure():
    turns = []
    with served.Load(lambda: turns.append(1)):
        assert turns
        before = len(turns)
    assert len(turns) > before

    def fails_later():
        turns.append(1)
        if ended:
            raise served.Lost("later")

    ended = []
    with pytest.raises(served.Lost, match="later"):
        with served.Load(fails_later):
            ended.append(1)
    with pytest.raises(KeyError):  # what went wrong first
        with served.Load(fails_later):
            raise KeyError
