# SPDX-License-Identifier: MIT
"""smbdirectctl doctor at a real smbd and daemon: a healthy host, and ailments that are really there."""

import json
import os
import socket
import subprocess
import uuid

import pytest

from lib import module_smbd, smb2
from lib.daemon import program
from lib.module_smbd import ModuleSmbd
from lib.smbd import SmbdServer

VFS = {"vfs-module", "vfs-objects", "vfs-directory"}


def examine(daemon, *options):
    """The CompletedProcess of the doctor, with the daemon's pool file and in its namespaces."""
    argv = [program("smbdirectctl"), "doctor", "--configfile", daemon.pool_path]
    argv += ["--connect", program("smbdirect-connect"), *options]
    argv = daemon.space.wrap(*argv) if daemon.space else argv
    argv = getattr(daemon, "within", list)([str(a) for a in argv])
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=60)


def found(daemon, state="failed"):
    """Name -> fix of what the doctor found in that state."""
    done = examine(daemon, "--json")
    told = json.loads(done.stdout)["doctor"]
    failures = {one["name"] for one in told if one["state"] == "failed"}
    assert done.returncode == (1 if failures else 0) and done.stderr == "", done
    text = examine(daemon).stdout.splitlines()
    assert text[-1].startswith("not healthy: " if failures else "healthy: "), text
    return {one["name"]: one["fix"] for one in told if one["state"] == state}


def put_to_use(daemon, smbd):
    """The daemon's smb.conf is this smbd's."""
    daemon.pool["upstream"]["handoff"] = {"configfile": str(smbd.config)}
    daemon.pool_path.write_text(json.dumps(daemon.pool))


@pytest.fixture
def host(make_smbd, make_daemon):
    """A healthy pair of smbd and daemon."""
    smbd = make_smbd()
    daemon = make_daemon(smbd.port)
    put_to_use(daemon, smbd)
    return smbd, daemon


def test_a_healthy_host(host):
    smbd, daemon = host
    assert found(daemon) == {}
    # Without vfs_smbdirect nothing is said of it.
    assert VFS <= set(found(daemon, "skipped")) and "vfs" not in examine(daemon).stdout
    # Of a test's own making: a listener on loopback, and a free port instead of 5445.
    assert set(found(daemon, "warning")) <= {"pool-file", "port-numbers", "root"}
    done = examine(daemon)
    assert f"SMB Direct works with {daemon.target} (iwarp), set up within" in done.stdout
    assert f"smbd answers at 127.0.0.1:{smbd.port}" in done.stdout
    assert "Samba 4." in done.stdout and f"(pid {daemon.pid}), 2 of 2 workers ready" in done.stdout
    assert smbd.client_pids() == [] and daemon.ctl("connections") == []


def test_the_daemon_is_not_running(host):
    _, daemon = host
    daemon.stop()
    assert "systemctl start smbdirectd" in found(daemon)["daemon"]
    assert set(found(daemon)) == {"daemon"}


def test_smbd_is_down(host):
    smbd, daemon = host
    smbd.stop()
    assert set(found(daemon)) == {"smbd"}
    assert "systemctl start smbd" in found(daemon)["smbd"]


def test_smbd_is_stuck(host):
    smbd, daemon = host
    smbd.pause()
    try:
        assert set(found(daemon)) == {"smbd"}
    finally:
        smbd.resume()
    assert found(daemon) == {}


def test_the_port_is_taken(host):
    _, daemon = host
    daemon.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("0.0.0.0", daemon.port))
        other.listen()
        ailments = found(daemon)
        assert set(ailments) == {"daemon", "ports"}
        assert f"ss -ltnp sport = :{daemon.port}" in ailments["ports"]
        assert "is taken by " in examine(daemon).stdout


def test_smb_conf_without_multichannel(make_smbd, make_daemon):
    smbd = make_smbd(options={"server multi channel support": "no", "server signing": "mandatory"})
    daemon = make_daemon(smbd.port)
    put_to_use(daemon, smbd)
    ailments = found(daemon)
    assert set(ailments) == {"multichannel"}
    assert "server multi channel support = yes" in ailments["multichannel"]
    assert "RequireSecuritySignature" in found(daemon, "warning")["signing"]

    # What --smb-conf prints is what is missing, and Samba takes it.
    lines = examine(daemon, "--smb-conf")
    assert lines.returncode == 0
    config = smbd.config.read_text()
    smbd.config.write_text(config.replace("[share]", lines.stdout + "[share]"))
    # smbd itself still runs with what it has read.
    assert set(found(daemon)) == {"smbd"}
    assert "systemctl restart smbd" in found(daemon)["smbd"]


def test_the_pool_file_was_changed_and_the_daemon_does_not_know(host):
    _, daemon = host
    daemon.pool["listeners"].append({"address": "127.0.0.2", "port": daemon.port, "fabric": "iwarp"})
    daemon.pool_path.write_text(json.dumps(daemon.pool))
    ailments = found(daemon)
    assert "daemon-pool" in ailments and "path" in ailments
    assert "smbdirectctl upgrade" in ailments["daemon-pool"]
    daemon.upgrade()  # as it says
    assert not found(daemon)


def test_another_server_is_where_smbd_should_be(host):
    _, daemon = host
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        daemon.pool["upstream"]["port"] = other.getsockname()[1]  # accepts, and says nothing
        daemon.pool_path.write_text(json.dumps(daemon.pool))
        assert set(found(daemon)) == {"smb-ports", "smbd"}


def test_a_pool_file_that_is_wrong(host):
    _, daemon = host
    daemon.pool_path.write_text('{"listeners": []}')
    assert "--check-config" in found(daemon)["pool-file"]


def test_an_smbd_that_speaks_nothing_but_3_1_1(make_smbd, make_daemon):
    smbd = make_smbd(options={"server min protocol": "SMB3_11"})
    daemon = make_daemon(smbd.port)
    put_to_use(daemon, smbd)
    assert found(daemon) == {}


@pytest.fixture
def module_host(scratch, make_daemon):
    """An smbd with vfs_smbdirect and a daemon; the doctor looks at the files of that smbd's mount namespace."""
    made = []

    def make(builds=None, **area):
        reason = module_smbd.missing()
        if reason:
            pytest.skip(reason)
        directory = scratch / f"doctor-{uuid.uuid4().hex[:8]}"
        directory.mkdir()
        made.append(ModuleSmbd(directory, builds=builds).start())
        pool = {"upstream": {"area": {"directory": str(made[-1].links), **area}}}
        daemon = make_daemon(made[-1].port, pool=pool)
        put_to_use(daemon, made[-1])
        daemon.within = made[-1].within
        return made[-1], daemon

    yield make
    for smbd in made:
        smbd.stop()


def test_vfs_module_as_it_should_be(module_host):
    smbd, daemon = module_host()
    assert found(daemon) == {} and not VFS & set(found(daemon, "warning"))
    assert f"smbd has vfs_smbdirect for Samba {smbd.series} on [share]" in examine(daemon).stdout


def test_vfs_module_is_not_installed(module_host):
    smbd, daemon = module_host()
    daemon.within = list  # this machine's own files, which the test does not touch
    if (module_smbd.modules_directory() / "vfs/smbdirect.so").exists():
        pytest.skip("vfs_smbdirect is installed on this machine")
    ailments = found(daemon)
    assert set(ailments) == {"vfs-module"} and "take smbdirect out of" in ailments["vfs-module"]
    # It is so: another smbd on this configuration refuses the share.
    other = SmbdServer(smbd.directory.with_name(smbd.directory.name + "-bare"), shares={"share": {"vfs objects": "smbdirect"}})
    other.directory.mkdir()
    with other.start():
        with pytest.raises(smb2.Status, match="0xc00000cc"):  # BAD_NETWORK_NAME
            smb2.over_tcp((other.address, other.port)).start(host=other.netbios_name)


def test_vfs_module_has_no_build_for_this_samba(module_host):
    smbd, daemon = module_host(builds=())
    assert found(daemon) == {}
    assert "scripts/setup module" in found(daemon, "warning")["vfs-module"]
    assert f"smbdirect-{smbd.series}.so" in examine(daemon).stdout


def test_vfs_module_in_smb_conf(module_host):
    smbd, daemon = module_host()
    text = smbd.config.read_text()
    shares = "".join(f"\n[{name}]\n    path = {smbd.directory}\n    vfs objects = {objects}\n"
                     for name, objects in (("behind", "btrfs smbdirect"), ("own", "catia"), ("none", ""), ("right", "smbdirect btrfs")))  # fmt: skip
    smbd.config.write_text(text.replace("[global]", "[global]\n    vfs objects = smbdirect", 1) + shares)
    told = [one["what"] for one in json.loads(examine(daemon, "--json").stdout)["doctor"] if one["name"] == "vfs-objects"]
    assert any("and [none] [own] a list without it" in what for what in told), told
    if smbd.series == "4.17":
        assert any("of [behind] has btrfs before smbdirect" in what for what in told), told
    assert found(daemon) == {}


def test_vfs_module_and_its_directory(module_host):
    smbd, daemon = module_host()
    smbd.links.chmod(0o777)
    assert "chmod 0700" in found(daemon, "warning")["vfs-directory"]
    smbd.links.chmod(0o700)
    assert "vfs-directory" not in found(daemon, "warning")
    daemon.pool["upstream"]["area"] = {"directory": "/run/elsewhere"}
    daemon.pool_path.write_text(json.dumps(daemon.pool))
    assert "set both to the same" in found(daemon, "warning")["vfs-directory"]
    daemon.pool["upstream"] |= {"area": {"enabled": False}, "direct": {"enabled": False}}
    daemon.pool_path.write_text(json.dumps(daemon.pool))
    assert "/upstream/area/enabled" in found(daemon, "warning")["vfs-directory"]


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes network namespaces")


@needs_root
def test_what_smb_conf_lines_says_makes_a_host_healthy(make_lan):
    lan = make_lan("transparent")
    ailments = found(lan.daemon)
    assert set(ailments) == {"interfaces"}
    assert '"net0;capability=RSS,capability=RDMA,speed=' in ailments["interfaces"]
    lines = examine(lan.daemon, "--smb-conf")
    assert lines.returncode == 0
    config = lan.smbd.config.read_text()
    lan.smbd.config.write_text(config.replace("[share]", lines.stdout + "[share]"))
    assert found(lan.daemon) == {}
    assert found(lan.daemon, "warning") == {}
    text = examine(lan.daemon).stdout
    assert "SMB Direct works with 10.9.9.1:5445" in text and "SMB Direct works with [fd99::1]:5445" in text
    assert len(text.splitlines()) < 12, text


@needs_root
def test_mode_transparent_and_its_routing(make_lan):
    lan = make_lan("transparent")
    rule = ["fwmark", "0x534d42", "lookup", "5342", "priority", "90", "protocol", "83"]
    before = lan.here.state()
    assert "upstream-mode" not in found(lan.daemon)
    lan.here.run("ip", "rule", "del", *rule)
    assert "systemctl restart smbdirectd" in found(lan.daemon)["upstream-mode"]
    lan.here.run("ip", "rule", "add", *rule)
    lan.here.sysctl("net.ipv4.tcp_fwmark_accept", 0)
    assert "net.ipv4.tcp_fwmark_accept=1" in found(lan.daemon)["upstream-mode"]
    lan.here.sysctl("net.ipv4.tcp_fwmark_accept", 1)
    assert "upstream-mode" not in found(lan.daemon)
    assert lan.here.state() == before


@needs_root
def test_mode_handoff_and_its_smbd(make_lan):
    lan = make_lan("handoff")
    assert "upstream-mode" not in found(lan.daemon)
    lan.smbd.stop()
    ailments = found(lan.daemon)
    assert {"upstream-mode", "smbd"} <= set(ailments)
    assert "systemctl start smbd" in ailments["upstream-mode"]
    lan.smbd.start()
    assert "upstream-mode" not in found(lan.daemon)
