# SPDX-License-Identifier: MIT
"""scripts/package: its versions, what it takes for a difference, and when it takes data for lost."""

import fnmatch
import importlib.util
import pathlib
import subprocess
import sys
import types

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "scripts/lib" / name) for name in ("package", "fresh", "vm")]
import bases  # noqa: E402
import differences  # noqa: E402
import mounted  # noqa: E402
import samba_headers  # noqa: E402
import served  # noqa: E402
import service  # noqa: E402
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


# --- the source ---------------------------------------------------------------------------------------------------


def engine():
    """scripts/lib/package/main.py, which is not the only main.py."""
    spec = importlib.util.spec_from_file_location("package_main", ROOT / "scripts/lib/package/main.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_committed_meanwhile_is_not_in_a_later_build(tmp_path, monkeypatch):
    tree = tmp_path / "tree"
    (tree / "debian").mkdir(parents=True)
    (tree / "meson.build").write_text((ROOT / "meson.build").read_text())
    (tree / "debian/changelog").write_text((ROOT / "debian/changelog").read_text())
    monkeypatch.setattr(bases, "ROOT", tree)

    def commit(text):
        (tree / "file").write_text(text)
        bases.git("add", ".")
        bases.git("-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "--quiet", "-m", text)
        return bases.git("rev-parse", "HEAD").strip()

    subprocess.run(["git", "init", "--quiet", tree], check=True)
    options = types.SimpleNamespace(commit=commit("packaged"))
    work = engine().Work("bookworm", tmp_path, options)
    monkeypatch.setattr(work, "run", lambda *_, **__: None)
    commit("later")
    for place in ("/first", "/second"):
        source = tmp_path / work.source(types.SimpleNamespace(root=tmp_path), place).lstrip("/")
        assert (source / "file").read_text() == "packaged"


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


def test_headers_of_a_machine_with_valgrind_want_none(tmp_path):
    """What they include is in Build-Depends, and it is not."""
    for part in samba_headers.PARTS:
        (tmp_path / part).mkdir() if part == "tree" else (tmp_path / part).write_text("")
    (tmp_path / "tree/config.h").write_text("#define HAVE_TDB_H 1\n#define HAVE_VALGRIND_MEMCHECK_H 1\n#define HAVE_X 1\n")
    samba_headers.pack({"4.17": tmp_path}, tmp_path / "packed")
    said = subprocess.run(["tar", "-xOf", tmp_path / "packed", "samba-headers/4.17/tree/config.h"], check=True, capture_output=True, text=True)
    assert said.stdout == "#define HAVE_TDB_H 1\n#define HAVE_X 1\n"


def test_a_release_is_pinned_with_packages_that_have_versions_of_their_own():
    pin = engine().pinned("samba", "2:4.22.10+dfsg-0+deb13u2").splitlines()
    assert pin[0] == "Package: src:samba"
    pattern = pin[1].removeprefix("Pin: version ")
    for candidate, chosen in (
        ("2:4.22.10+dfsg-0+deb13u2", True),
        ("2:2.11.0+samba4.22.10+dfsg-0+deb13u2", True),
        ("2:2.11.0+samba4.22.11+dfsg-0+deb13u1", False),
    ):
        assert fnmatch.fnmatch(candidate, pattern) is chosen, candidate


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


class Mountable(Files):
    """The same, where a mount is a link to the share, and dd may do wrong."""

    def __init__(self, directory, wrong=()):
        super().__init__(directory)
        self.wrong, self.mounted, self.options = wrong, {}, set()

    def run(self, *argv, check=True):
        name, failed = argv[0], argv[0] in self.wrong
        if name == "mount":
            address, share = argv[3].strip("/").split("/")
            self.mounted[argv[4]] = address
            self.path(argv[4]).symlink_to(self.path(served.SHARES[share]))
            self.options |= set(argv[6].split(","))
        elif name == "umount":
            self.path(argv[1]).unlink()
            del self.mounted[argv[1]]
        elif name == "dd":
            source, target = (self.path(word.partition("=")[2]) for word in argv[-2:])
            data = source.read_bytes()
            direction = "back" if target.suffix == ".back" else "stored"
            target.write_bytes(data[1:] + data[:1] if direction in self.wrong else data)
        return types.SimpleNamespace(returncode=int(failed), stdout="", stderr="")


def mounts_of(tmp_path, monkeypatch, *wrong):
    monkeypatch.setattr(served, "SIZE", 1000)
    host = Mountable(tmp_path, wrong)
    return host, mounted.Mounts(host)


def test_a_mounted_share_is_written_and_read_by_every_fabric(tmp_path, monkeypatch):
    host, mounts = mounts_of(tmp_path, monkeypatch)
    session = mounts.session("home")
    session.turn()
    assert sorted(host.mounted.values()) == sorted(mounted.ADDRESSES.values()) and {"rdma", "cache=none"} <= host.options
    # A purge is to leave nothing, and so is this.
    assert all(path.startswith(service.OTHERS) for path in host.mounted)
    session.close()
    assert not host.mounted
    assert mounts.stop() == f"{len(mounted.ADDRESSES)} files, 0 MiB each way by {len(mounted.ADDRESSES)} mounts"
    stored = next(host.path(served.SHARES["home"]).iterdir())
    stored.write_bytes(b"other")
    with pytest.raises(served.Lost, match="no longer what was sent"):
        mounts.stop()


@pytest.mark.parametrize("wrong, told", [("stored", "not what was sent"), ("back", "not what was sent"), ("dd", "dd .* ended with 1")])
def test_a_mount_that_loses_data_is_told(tmp_path, monkeypatch, wrong, told):
    host, mounts = mounts_of(tmp_path, monkeypatch, wrong)
    with pytest.raises(served.Lost, match=told):
        mounts.turn()
    assert not host.mounted


def test_a_mount_that_fails_takes_the_others_away(tmp_path, monkeypatch):
    second = f"//{list(mounted.ADDRESSES.values())[-1]}/share"
    host, mounts = mounts_of(tmp_path, monkeypatch)
    run = host.run

    def run_but_one(*argv, **kw):
        return types.SimpleNamespace(returncode=1, stdout="", stderr="no") if second in argv else run(*argv, **kw)

    host.run = run_but_one
    with pytest.raises(served.Lost, match=second):
        mounts.session()
    assert not host.mounted


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


# --- the guest ----------------------------------------------------------------------------------------------------


def test_a_directory_that_is_no_debian_is_not_booted(tmp_path):
    argv = [sys.executable, ROOT / "scripts/lib/vm/main.py", "--debian", tmp_path, "/bin/true"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 2 and f"{tmp_path} has no lib/systemd/systemd" in done.stderr, done


# --- what a removal warns of --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line, told",
    [("   vfs objects = full_audit smbdirect", True), ("vfs object=smbdirect", True), ("# vfs objects = smbdirect", False),
     ("vfs objects = btrfs", False), ("comment = smbdirect", False), (None, False)],
)  # fmt: skip
@pytest.mark.parametrize("action", ["remove", "upgrade"])
def test_who_removes_the_module_is_told_of_shares_that_have_it(tmp_path, action, line, told):
    if line is not None:
        (tmp_path / "etc/samba").mkdir(parents=True)
        (tmp_path / "etc/samba/smb.conf").write_text(f"[share]\n{line}\n")
    done = subprocess.run(["sh", ROOT / "debian/samba-vfs-smbdirect.prerm", action], capture_output=True, text=True,
                          env={"PATH": "/usr/bin:/bin", "DPKG_ROOT": str(tmp_path)})  # fmt: skip
    assert done.returncode == 0 and done.stdout == ""
    assert ("take it out and run" in done.stderr) == (told and action == "remove"), done.stderr
