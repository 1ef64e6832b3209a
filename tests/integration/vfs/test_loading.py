# SPDX-License-Identifier: MIT
"""What smbd loads, and what the module makes of the Samba and the other modules it finds."""

import re
import shutil
import subprocess

import pytest

from lib import smb2
from lib.area_link import REQUEST_RESUME_KEY, Link, attached, connect, ioctl_body
from lib.module_smbd import built


def serves_inline(server, share="share"):
    client = connect(server, share)
    file_id = client.create("inline", disposition=5)
    assert client.write(file_id, b"x" * 100000, 0).count == 100000
    assert client.read(file_id, 100000, 0).data == b"x" * 100000
    client.rpc(smb2.IOCTL, ioctl_body(REQUEST_RESUME_KEY, file_id, b"", 32)).check()
    assert not server.link_path(client).exists()
    client.close_transport()


def complaints(server):
    """What smbd wrote about modules."""
    log = server.log_path.read_text(errors="replace")
    return [line for line in log.splitlines() if re.search(r"smbdirect|module|interface version|vfs_init", line)]


def test_without_a_build(make_server):
    """The shim alone: the share is served, and smbd has nothing to say about it."""
    server = make_server(builds=())
    serves_inline(server)
    assert complaints(server) == []


def test_a_build_for_another_series(make_server, series):
    """It refuses before it touches anything, although smbd has all that it is linked with."""

    def relabel(place):
        """This series' build, saying that it is for another."""
        build = (built() / f"smbdirect-{series}.so").read_bytes()
        (place / "smbdirect" / f"smbdirect-{series}.so").write_bytes(build.replace(series.encode(), b"9.99"))

    server = make_server(builds=(), before_start=relabel)
    serves_inline(server)
    assert any("this build is for Samba 9.99, and not for " + series in line for line in complaints(server))


def test_another_series_own_build(make_server, series):
    others = [path for path in built().glob("smbdirect-*.so") if path.name != f"smbdirect-{series}.so"]
    if not others:
        pytest.skip("vfs_smbdirect is built for no other series")
    for other in others:
        server = make_server(builds=(), before_start=lambda place, other=other: shutil.copy(
            other, place / "smbdirect" / f"smbdirect-{series}.so"))  # fmt: skip
        serves_inline(server)


def test_a_build_that_is_no_module(make_server, series):
    def spoil(place):
        (place / "smbdirect" / f"smbdirect-{series}.so").write_bytes(b"\x7fELF is not all")

    serves_inline(make_server(builds=(), before_start=spoil))


@pytest.mark.parametrize("share", ["share", "as_nobody"])
def test_says_who_it_is(server, series, share):
    """What the supervisor checks: the process it looked for, and root's, whoever the client is."""
    with attached(server, share) as (client, _, link):
        assert link.hello.session == link.peer_pid == server.server_pid(client) and link.peer_uid == 0
        assert link.hello.text.startswith(series + ".")


def test_trees_that_are_announced(server, series):
    """Those whose shares have the module, with their names, and the refused ones with why; not IPC$."""
    client = connect(server)
    names, ids = ["share", "audit_above", "btrfs_below", "btrfs_above"], {}
    ids["share"] = client.tree_id
    for name in names[1:] + ["plain", "IPC$"]:
        client.tree_connect(f"\\\\{server.netbios_name}\\{name}").check()
        ids[name] = client.tree_id
    with Link(server.link_path(client)) as link:
        link.until(lambda: len(link.trees) + len(link.refused) == len(names))
        session = client.session_id
        # From 4.18 on vfs_btrfs has no such copies of its own.
        refused = names[3:] if series == "4.17" else []
        assert link.trees == {(session, ids[name]): name for name in names if name not in refused}
        assert set(link.refused) == {(session, ids[name]) for name in refused}
        for why in link.refused.values():
            assert why == ('btrfs_above: btrfs.so stands before smbdirect in "vfs objects" and takes server-side copies: put '
                           'smbdirect before it')  # fmt: skip
        # The next ones as they come.
        client.tree_connect(f"\\\\{server.netbios_name}\\btrfs_above").check()
        assert link.wait_for_tree(client) != bool(refused)
        client.tree_connect(f"\\\\{server.netbios_name}\\acl").check()
        assert link.wait_for_tree(client)
    client.close_transport()


def test_below_btrfs(server, series):
    """Where it is refused, a key of ours would end smbd, by what vfs_btrfs makes of it: so it stays inline."""
    with attached(server) as (client, carrier, link):
        client.tree_connect(f"\\\\{server.netbios_name}\\btrfs_above").check()
        file_id = client.create("inline", disposition=5)
        assert client.write(file_id, b"x" * 100000, 0).count == 100000
        if link.wait_for_tree(client):
            assert carrier.read(file_id, 0, 200000) == (0, b"x" * 100000)


def test_what_it_is_linked_with(series):
    """libc alone, and Samba's functions by plain names: what has a version of Samba's in it binds to one release."""
    for name in ("smbdirect.so", f"smbdirect-{series}.so"):
        path = built() / name
        dynamic = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
        assert re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic) == ["libc.so.6"]
        versions = subprocess.run(["readelf", "-V", path], capture_output=True, text=True, check=True).stdout
        assert set(re.findall(r"File: (\S+)", versions)) <= {"libc.so.6"}
        symbols = subprocess.run(["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=True).stdout
        assert [line.split()[2] for line in symbols.splitlines()] == ["samba_init_module"]
