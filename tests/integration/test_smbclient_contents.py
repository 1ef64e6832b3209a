# SPDX-License-Identifier: MIT
"""smbclient, which knows nothing of RDMA, moves files through SMB Direct: every byte must survive."""

import re
import subprocess
import threading

import pytest

from lib.files import assert_same_tree, digests, make_file, make_tree, sha256
from lib.smbd import smbclient

MIB = 1 << 20
# Around the sizes where something changes: nothing, one byte, the channel threshold, one fragment, one credit,
# smbclient's largest request, and several of those.
SIZES = [0, 1, 4095, 4096, 4097, 8168, 65536, 65537, MIB, 8 * MIB - 1, 8 * MIB, 20 * MIB + 13]

USERS = [("user", "plain"), ("user", "sign"), ("user", "encrypt"), ("guest", "plain")]


def options(who, protection):
    return {"guest": who == "guest", "sign": protection == "sign", "encrypt": protection == "encrypt"}


@pytest.mark.smoke
@pytest.mark.parametrize("protocol", ["SMB3_00", "SMB3_02", "SMB3_11"])
@pytest.mark.parametrize("who,protection", USERS, ids=["-".join(u) for u in USERS])
def test_put_and_get(smbd, daemon, make_connect, tmp_path, protocol, who, protection):
    connect = make_connect(daemon)
    name = f"{protocol}-{who}-{protection}"
    sums = {size: make_file(tmp_path / f"{size}", size, seed=size + 1) for size in SIZES}
    commands = [f"mkdir {name}", f"cd {name}"]
    commands += [f"put {size}" for size in SIZES] + [f"get {size} {size}.back" for size in SIZES]
    smbclient(smbd, "; ".join(commands), port=connect.port, protocol=protocol, cwd=tmp_path, timeout=120,
              **options(who, protection))  # fmt: skip
    for size in SIZES:
        assert sha256(smbd.share_path() / name / str(size)) == sums[size], f"{size} bytes changed on the way to smbd"
        assert sha256(tmp_path / f"{size}.back") == sums[size], f"{size} bytes changed on the way back"
    moved = connect.stop()
    large = sum(size for size in SIZES if size >= 4096)
    if protection == "plain":
        assert moved["rdma_read_bytes"] >= large and moved["rdma_reads"] > 0, moved
        assert moved["rdma_write_bytes"] >= large and moved["rdma_writes"] > 0, moved
    else:
        # Protected PDUs cannot be rewritten: all of it goes inline.
        assert moved["rdma_reads"] == moved["rdma_writes"] == 0, moved
        assert moved["bytes_inline_sent"] >= large and moved["bytes_inline_received"] >= large, moved


def test_share_that_demands_encryption(smbd, daemon, make_connect, tmp_path):
    connect = make_connect(daemon)
    expected = make_file(tmp_path / "secret", 3 * MIB + 1, seed=77)
    smbclient(smbd, "put secret; get secret back", share="secret", port=connect.port, cwd=tmp_path)
    assert sha256(tmp_path / "back") == sha256(smbd.share_path("secret") / "secret") == expected
    assert connect.stop()["rdma_writes"] == 0


def test_file_of_one_gibibyte(smbd, daemon, make_connect, tmp_path):
    connect = make_connect(daemon)
    expected = make_file(tmp_path / "large", 1024 * MIB, seed=1024)
    smbclient(smbd, "put large", port=connect.port, cwd=tmp_path, timeout=300)
    assert sha256(smbd.share_path() / "large") == expected
    (tmp_path / "large").unlink()
    smbclient(smbd, "get large back; del large", port=connect.port, cwd=tmp_path, timeout=300)
    assert sha256(tmp_path / "back") == expected
    (tmp_path / "back").unlink()
    moved = connect.stop()
    assert moved["rdma_read_bytes"] >= 1024 * MIB and moved["rdma_write_bytes"] >= 1024 * MIB, moved


def test_two_thousand_small_files(smbd, daemon, make_connect, tmp_path):
    connect = make_connect(daemon)
    make_tree(tmp_path / "there", 2000, seed=2000)
    (tmp_path / "back").mkdir()
    expected = digests(tmp_path / "there")
    assert len(expected) == 2000
    walk = "recurse ON; prompt OFF"
    smbclient(smbd, f"mkdir small; cd small; {walk}; mput *", port=connect.port, cwd=tmp_path / "there", timeout=300)
    assert_same_tree(expected, digests(smbd.share_path() / "small"))
    smbclient(smbd, f"cd small; {walk}; mget *", port=connect.port, cwd=tmp_path / "back", timeout=300)
    assert_same_tree(expected, digests(tmp_path / "back"))


def test_eight_clients_at_once(smbd, daemon, make_connect, tmp_path):
    failures = []

    def client(number):
        try:
            here = tmp_path / f"client{number}"
            make_tree(here / "out", 100, seed=number)
            make_file(here / "out" / "large", 48 * MIB + number, seed=100 + number)
            (here / "in").mkdir()
            expected = digests(here / "out")
            walk = f"mkdir parallel{number}; cd parallel{number}; recurse ON; prompt OFF"
            port = connects[number].port
            smbclient(smbd, f"{walk}; mput *", port=port, cwd=here / "out", timeout=300)
            assert_same_tree(expected, digests(smbd.share_path() / f"parallel{number}"))
            smbclient(smbd, f"cd parallel{number}; recurse ON; prompt OFF; mget *", port=port, cwd=here / "in", timeout=300)
            assert_same_tree(expected, digests(here / "in"))
        except (AssertionError, OSError, subprocess.SubprocessError) as e:
            failures.append(f"client {number}: {e}")

    since = daemon.log_position()
    connects = [make_connect(daemon, source=f"127.0.0.{2 + number}") for number in range(8)]
    smbclient(smbd, "ls", port=connects[0].port)  # so that client.conf is written once, not eight times at once
    threads = [threading.Thread(target=client, args=(number,), daemon=True) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, "\n".join(failures)
    for connect in connects:
        moved = connect.stop()
        assert moved["rdma_read_bytes"] >= 48 * MIB and moved["rdma_write_bytes"] >= 48 * MIB, moved
    # Both workers had their share.
    slots = set(re.findall(r"worker (\d+)\[\d+\] info: connection established peer=", daemon.log_since(since)))
    assert len(slots) == len(daemon.worker_pids()), f"only workers {slots} served eight clients"
