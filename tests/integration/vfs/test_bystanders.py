# SPDX-License-Identifier: MIT
"""Clients that have nothing to do with the daemon find a share with the module as they find one without: each smbtorture
test ends the same, those of server-side copies among them, which pass through it."""

import pathlib
import shutil
import subprocess

import pytest

from lib.process import kill_all_of
from lib.smbd import smbclient
from lib.torture import Lane, compare

# Suite -> how many successes there must be at least.
SUITES = {"read": 4, "rw": 3, "ioctl": 40, "lock": 20, "compound": 15}
LIKE_SAMBAS_OWN = {"kernel oplocks": "no", "kernel share modes": "no", "posix locking": "no"}
SHARES = {"with": {"vfs objects": "smbdirect", **LIKE_SAMBAS_OWN}, "without": LIKE_SAMBAS_OWN}


@pytest.mark.skipif(not shutil.which("smbtorture"), reason="smbtorture is missing: scripts/setup test installs it")
@pytest.mark.parametrize("suite", SUITES)
def test_smbtorture(make_server, suite):
    server = make_server(shares=SHARES)
    lanes = [Lane("without", server.port, "without"), Lane("with", server.port, "with")]
    found = compare(lanes, server, f"smb2.{suite}")
    print("\n".join(found.log_lines()))
    assert found.different == {}
    assert found.count(1) >= SUITES[suite]
    assert "PANIC" not in server.log_path.read_text(errors="replace")


def test_smbclient(server, tmp_path):
    """scopy is a server-side copy."""
    source = tmp_path / "source"
    source.write_bytes(pathlib.Path("/usr/bin/python3").resolve().read_bytes())
    smbclient(server, f"put {source} bystander; scopy bystander bystander_copy; get bystander_copy {tmp_path}/back", cwd=tmp_path)
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


def test_rpc(make_server):
    """Processes that serve RPC go to shares too, for no client: they load the module, and wait for no daemon."""
    server = make_server()
    (server.share_path() / "asked_about").write_text("")
    argv = ["rpcclient", "127.0.0.1", "-p", str(server.port), "-s", str(server.config), f"-U{server.user}%{server.password}"]
    try:
        done = subprocess.run([*argv, "-c", "netfilegetsec share asked_about"], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=60)  # fmt: skip
        assert done.returncode == 0 and "Owner SID" in done.stdout, done.stdout + done.stderr
        assert list(server.links.iterdir()) == []
    finally:
        kill_all_of(f"--configfile={server.config}")  # they have left smbd, and would wait for more to do
