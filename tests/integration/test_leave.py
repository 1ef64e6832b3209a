# SPDX-License-Identifier: MIT
"""smbdirectctl leave and take: local addresses that move to another host. Loopback's addresses are all there, so that of one
daemon some can leave while others stay."""

import os
import signal
import time

import pytest

from lib import leases, smb2
from lib.iwarp import Closed, Iwarp
from lib.process import free_port, wait_until
from lib.smbdirect import SmbDirect
from test_upgrade import install, make_pool  # noqa: F401: a fixture

GOES, STAYS = "127.0.0.2", "127.0.0.3"
EVERYWHERE = {"listeners": [{"address": "0.0.0.0", "port": 0, "fabric": "iwarp"}], "upstream": {"allow": ["127.0.0.0/8"]}}
DURABLE = {"kernel oplocks": "no", "kernel share modes": "no", "posix locking": "no"}


def everywhere():
    return {**EVERYWHERE, "listeners": [{**EVERYWHERE["listeners"][0], "port": free_port()}]}


def connect(daemon, address, guid=None, **kw):
    return smb2.Client(SmbDirect.connect((address, daemon.port), crc=False, **kw), guid)


def client(daemon, address, smbd, guid=None):
    return connect(daemon, address, guid).start(user=smbd.user, password=smbd.password, host=smbd.netbios_name)


def end_of(smb):
    """How the server ended the connection."""
    with pytest.raises(Closed) as closed:
        smb.timeout = 5
        while True:
            smb.echo()
    return closed.value.kind


def refused(daemon, address):
    with pytest.raises((ConnectionResetError, Closed)) as how:
        Iwarp.connect((address, daemon.port), crc=False).close()
    assert not isinstance(how.value, Closed) or how.value.kind == "reset", how.value


def test_who_has_an_address_that_leaves_goes_on_at_another(make_smbd, make_daemon):
    """Its durable handle is kept, what else it has open is free at once, and who is at another address notices nothing."""
    smbd = make_smbd(shares={"share": DURABLE})
    daemon = make_daemon(smbd.port, pool=everywhere())
    guid, key, create_guid = os.urandom(16), os.urandom(16), os.urandom(16)
    with client(daemon, GOES, smbd, guid) as mine, client(daemon, STAYS, smbd) as other:
        parts = [leases.lease_context(key, leases.RWH), leases.durable_context(create_guid)]
        opened = leases.opened(mine.rpc(smb2.CREATE, leases.create_body("durable", parts)), key)
        assert b"DH2Q" in opened.contexts
        mine.write(opened.file_id, b"before").check()
        mine.create("exclusive", share=0)
        assert other.rpc(smb2.CREATE, smb2.create_body("exclusive")).status == 0xC0000043  # SHARING_VIOLATION
        rows = {row["client"].split(":")[0] + "->" + row["local"] for row in daemon.ctl("connections")}
        assert rows == {f"127.0.0.1->{address}:{daemon.port}" for address in (GOES, STAYS)}, rows

        assert daemon.ctl("leave", GOES) == {"address": GOES, "connections": 1}
        assert [row["local"] for row in daemon.ctl("connections")] == [f"{STAYS}:{daemon.port}"]
        assert end_of(mine) == "eof"  # told, and not reset
        wait_until(lambda: other.rpc(smb2.CREATE, smb2.create_body("exclusive")).status == 0, 2, "smbd frees what was open")
        refused(daemon, GOES)
        assert daemon.ctl("leave", GOES) == {"address": GOES, "connections": 0}
        status = daemon.ctl("status")
        assert status["leaving"] == [GOES] and status["refused_leaving"] == 1, status

        with client(daemon, STAYS, smbd, guid) as back:
            parts = [leases.lease_context(key, leases.RWH), leases.reconnect_context(opened.file_id, create_guid)]
            again = leases.opened(back.rpc(smb2.CREATE, leases.create_body("durable", parts)), key)
            assert back.read(again.file_id, 100).data == b"before"
        assert daemon.ctl("take", GOES) == {"address": GOES, "left": True}
        with client(daemon, GOES, smbd) as new:
            assert new.echo().status == smb2.SUCCESS
        assert other.echo().status == smb2.SUCCESS
    assert "the address that the client is connected to leaves this host" in daemon.log
    assert " warning: connection from" not in daemon.log  # nothing failed


def test_what_it_says(smbd, make_daemon):
    daemon = make_daemon(smbd.port, workers=1, pool=everywhere())
    done = daemon.ctl("leave", GOES, check=False)
    told = f"0 connections to {GOES} were ended; new ones are refused until smbdirectctl take {GOES}\n"
    assert (done.returncode, done.stdout) == (0, told), done
    done = daemon.ctl("take", GOES, check=False)
    assert (done.returncode, done.stdout) == (0, f"connections to {GOES} are let in\n"), done
    for wrong in ("host.example", f"{GOES}:445", "0.0.0.0"):
        done = daemon.ctl("leave", wrong, check=False)
        assert done.returncode == 1 and wrong in done.stderr, done


@pytest.mark.parametrize("stage", ["connected", "negotiated", "many requests"])
def test_a_client_that_does_not_go_is_reset(smbd, make_daemon, stage):
    """It neither reads nor closes."""
    daemon = make_daemon(smbd.port, workers=1, pool=everywhere())
    if stage == "connected":
        stuck = Iwarp.connect((GOES, daemon.port), crc=False)
    else:
        smb = connect(daemon, GOES)
        stuck = smb.transport.iwarp
        if stage == "many requests":
            smb.start()
            file = smb.create("stuck")
            smb.write(file, bytes(1 << 20)).check()
            for _ in range(50):
                smb.send_read(file, 1 << 19, 0)
    wait_until(lambda: daemon.ctl("connections"), 5, "its connection")
    began = time.monotonic()
    assert daemon.ctl("leave", GOES) == {"address": GOES, "connections": 1}
    took = time.monotonic() - began
    assert took < 2, took
    assert not daemon.ctl("connections")
    wait_until(lambda: stuck.sock.getsockopt(1, 4) or ends_in_reset(stuck.sock), 5, "the reset")  # SOL_SOCKET, SO_ERROR
    stuck.close()


def ends_in_reset(sock):
    try:
        while sock.recv(1 << 20):
            pass
    except BlockingIOError:
        return False
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


def test_many_at_once(smbd, make_daemon):
    daemon = make_daemon(smbd.port, workers=2, pool={**everywhere(), "limits": {"connections_per_client": 200}})
    leaving = [connect(daemon, GOES).start() for _ in range(60)]
    staying = [connect(daemon, STAYS).start() for _ in range(10)]
    assert daemon.ctl("leave", GOES) == {"address": GOES, "connections": 60}
    assert len(daemon.ctl("connections")) == 10
    for smb in leaving:
        assert end_of(smb) == "eof"
        smb.close_transport()
    for smb in staying:
        assert smb.echo().status == smb2.SUCCESS
        smb.close_transport()


@pytest.mark.parametrize("mode", ["transparent", "handoff"])
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes network namespaces")
def test_smbd_that_sees_the_client_is_freed(make_lan, mode):
    lan = make_lan(mode)
    four, six = lan.session("IPv4"), lan.session("IPv6")
    wait_until(lambda: len(lan.serving()) == 2, 5, lan.serving)
    assert lan.daemon.ctl("leave", "10.9.9.1")["connections"] == 1
    wait_until(lambda: len(lan.serving()) == 1, 5, lan.serving)
    assert end_of(four) == "eof"
    assert six.echo().status == smb2.SUCCESS
    assert lan.daemon.ctl("leave", "fd99:0::1") == {"address": "fd99::1", "connections": 1}
    wait_until(lambda: not lan.serving(), 5, lan.serving)
    assert end_of(six) == "eof"
    for smb in (four, six):
        smb.close_transport()


def test_a_native_servers_client(native):
    daemon, _, _ = native
    with connect(daemon, daemon.address) as smb:
        smb.start()
        assert daemon.ctl("leave", daemon.address) == {"address": daemon.address, "connections": 1}
        assert end_of(smb) == "eof"
        wait_until(lambda: not daemon.ctl("clients"), 5, lambda: daemon.ctl("clients"))
    refused(daemon, daemon.address)
    assert daemon.ctl("take", daemon.address)["left"]
    with connect(daemon, daemon.address) as smb:
        smb.start()
        assert smb.echo().status == smb2.SUCCESS


def test_a_daemon_that_takes_over_has_the_addresses_and_ends_what_the_former_ones_have(make_pool):  # noqa: F811
    pool = make_pool(workers=1, pool=everywhere())
    assert pool.ctl("leave", STAYS)["connections"] == 0
    first, second = connect(pool, GOES).start(), None
    try:
        for _ in range(2):
            install(pool)
            pool.upgrade()
            assert pool.ctl("status")["leaving"] == [STAYS]
            refused(pool, STAYS)
            second = second or connect(pool, GOES).start()
        third = connect(pool, GOES).start()
        assert all(smb.echo().status == smb2.SUCCESS for smb in (first, second, third))
        assert pool.ctl("leave", GOES) == {"address": GOES, "connections": 3}
        for smb in (first, second, third):
            assert end_of(smb) == "eof"
            smb.close_transport()
        wait_until(lambda: "draining_former_pid" not in pool.ctl("status"), 10, "the former daemons' end")
        assert pool.ctl("status")["leaving"] == [GOES, STAYS]
    finally:
        for smb in (first, second):
            if smb:
                smb.close_transport()


def test_a_former_daemon_that_does_not_answer_is_told_of(make_pool):  # noqa: F811
    pool = make_pool(workers=1, pool=everywhere())
    with connect(pool, GOES).start() as smb:
        former = pool.pid
        pool.upgrade()
        os.kill(former, signal.SIGSTOP)
        try:
            done = pool.ctl("leave", GOES, check=False)
            assert done.returncode == 1 and "the former daemon" in done.stderr and "does not answer" in done.stderr, done
        finally:
            os.kill(former, signal.SIGCONT)
        assert end_of(smb) == "eof"


def test_workers_that_a_killed_daemon_left_are_reached_too(smbd, make_daemon):
    daemon = make_daemon(smbd.port, workers=1, pool=everywhere())
    with connect(daemon, GOES).start() as smb:
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.server.end(signal.SIGKILL)
        daemon.start()
        wait_until(lambda: daemon.ctl("connections"), 10, "the adopted connection")
        assert daemon.ctl("leave", GOES) == {"address": GOES, "connections": 1}
        assert end_of(smb) == "eof"
