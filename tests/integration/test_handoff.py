# SPDX-License-Identifier: MIT
"""Upstream mode "handoff": a TCP pair with the real addresses, and an `smbd -i` at its other end. Each test has a
network namespace and an smbd of its own."""

import os
import re
import signal
import stat
import struct
import time

import pytest

from lib import smb2
from lib.connectors import Failed, Connector
from lib.netspace import NetSpace, SmbdInside
from lib.process import alive, children_of, command_line, wait_until
from lib.smb2 import Closed

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes network namespaces and starts smbd")

CLIENTS = [("203.0.113.77", "203.0.113.1"), ("2001:db8::77", "2001:db8::1")]


@pytest.fixture
def space():
    with NetSpace() as space:
        yield space


@pytest.fixture
def make_lan(space, scratch):
    """make_lan(**SmbdInside arguments) -> an smbd in `space`."""
    made = []

    def make(**kw):
        directory = scratch / f"handoff-smbd-{time.monotonic_ns()}"
        directory.mkdir()
        made.append(SmbdInside(space, directory, **kw))
        return made[-1].start()

    yield make
    for smbd in made:
        smbd.stop()


@pytest.fixture
def lan(make_lan):
    return make_lan(options={"hosts allow": "203.0.113.77 2001:db8::77 127.0.0.1", "interfaces": "lo"})


@pytest.fixture
def connector(space, tmp_path):
    """connector(smbd, **options) -> a started tool in mode "handoff", stopped at the end of the test."""
    made = []

    def make(server, **options):
        run = tmp_path / "run" / "smbd"
        made.append(Connector(space, tmp_path, "handoff", run=run, conf=server.config, **options))
        return made[-1].start()

    yield make
    for tool in made:
        if hasattr(tool, "server") and tool.server.running():
            tool.stop()


def spawned(tool):
    """Pids of its `smbd -i`, zombies included."""
    return children_of(tool.server.pid)


@pytest.mark.parametrize("client, server", CLIENTS)
def test_smbd_sees_the_clients_address(lan, connector, space, client, server):
    before = space.state()
    tool = connector(lan)
    with tool.smb(client, server, client_port=51234) as smb:
        smb.start()
        file = smb.create("seen")
        smb.write(file, b"y" * 100_000, 0).check()
        assert smb.read(file, 100_000).check().data == b"y" * 100_000
        (pid,) = spawned(tool)
        words = command_line(pid)
        assert "-i" in words and "--option=durable handles=no" in words
        assert os.getsid(pid) == pid  # what it does to its process group does not reach us
        status = lan.status()
        assert client in status and ":51234)" in status, status
        assert re.search(rf"info: smbd -i \(pid {pid}, client {re.escape(client)}\): .*Allowed connection", tool.server.log)
        assert space.state() == before
    wait_until(lambda: spawned(tool) == [], 5, "the smbd is reaped when its client has gone")
    assert (lan.directory / "pid" / "smbd.pid").read_text().strip() == str(lan.pid)


@pytest.mark.parametrize("client, server", [("203.0.113.78", "203.0.113.1"), ("2001:db8::78", "2001:db8::1")])
def test_hosts_allow_refuses_another(lan, connector, client, server):
    tool = connector(lan)
    with tool.smb(client, server) as smb, pytest.raises(Closed):
        smb.negotiate()
    tool.server.wait_for_log(f"Denied connection from {client}", 5)
    wait_until(lambda: spawned(tool) == [], 5, "the smbd is reaped")


def test_the_same_client_guid_goes_to_the_same_process(lan, connector, space):
    """The second connection reaches the listening smbd's child that has the first one, and the smbd started for it ends."""
    tool = connector(lan)

    def real():
        return smb2.over_tcp(("127.0.0.1", 445))

    with space.socket_in(real) as first:
        first.start()
        file = first.create("shared")
        first.write(file, b"of the first", 0).check()
        with tool.smb("203.0.113.77", "203.0.113.1", guid=first.guid) as second:
            second.start()
            wait_until(lambda: spawned(tool) == [], 5, "the started smbd has passed the stream on and is reaped")
            again = second.create("shared")
            assert second.read(again, 100).check(smb2.SUCCESS).data == b"of the first"
            first.close_transport()
            assert second.echo().check()  # it does not hang on the first


class OwnMounts:
    """The same network, but mounts of its own, as ProtectHome, PrivateTmp and their like make them for a unit."""

    def __init__(self, space):
        self.space = space

    def wrap(self, *argv):
        return self.space.wrap("unshare", "--mount", *argv)

    def __getattr__(self, name):
        return getattr(self.space, name)


def test_an_smbd_that_would_serve_other_files_is_told(lan, connector, space, tmp_path):
    """A daemon that does not see the listening smbd's files says so, once; one that does says nothing."""
    same = connector(lan)
    with same.smb("203.0.113.77", "203.0.113.1") as smb:
        smb.start()
    assert "may not get" not in same.server.log
    same.stop()
    tool = Connector(OwnMounts(space), tmp_path, "handoff", run=tmp_path / "run" / "smbd", conf=lan.config).start()
    try:
        for _ in range(2):
            with tool.smb("203.0.113.77", "203.0.113.1") as smb:
                smb.start()
        (line,) = [line for line in tool.server.log.splitlines() if "may not get" in line]
        assert f"listening smbd (pid {lan.pid})" in line and "ProtectHome, ProtectSystem, PrivateTmp" in line, line
        assert "NoNewPrivileges" not in line
    finally:
        tool.stop()


def test_two_of_one_client_share_a_process(lan, connector):
    tool = connector(lan)
    with tool.smb("203.0.113.77", "203.0.113.1") as first:
        first.start()
        (pid,) = spawned(tool)
        with tool.smb("203.0.113.77", "203.0.113.1", guid=first.guid) as second:
            second.start()
            wait_until(lambda: spawned(tool) == [pid], 5, "one process for both")
            with tool.smb("203.0.113.77", "203.0.113.1") as other:
                other.start()
                assert len(spawned(tool)) == 2
            wait_until(lambda: spawned(tool) == [pid], 5, "the other's has ended")
            assert first.echo().check() and second.echo().check()


def test_the_clients_port_is_kept_where_it_is_free(lan, connector):
    tool = connector(lan)
    with tool.open("203.0.113.77", "203.0.113.1", client_port=50001) as first:
        assert first.getsockname() == ("203.0.113.77", 50001)
        assert first.getpeername() == ("203.0.113.1", 445)
        with tool.open("203.0.113.77", "203.0.113.1", client_port=50001) as second:
            assert second.getsockname()[0] == "203.0.113.77" and second.getsockname()[1] != 50001


def test_without_a_listening_smbd_there_is_none(lan, connector):
    tool = connector(lan)
    lan.stop()
    with pytest.raises(Failed, match="smbd is not running .*smbd.pid.*systemctl start smbd"):
        tool.open("203.0.113.77", "203.0.113.1")
    assert spawned(tool) == []


def test_all_end_with_the_listening_smbd(lan, connector):
    tool = connector(lan)
    with tool.smb("203.0.113.77", "203.0.113.1") as one, tool.smb("2001:db8::77", "2001:db8::1") as two:
        one.start()
        two.start()
        pids = spawned(tool)
        assert len(pids) == 2
        lan.stop()
        wait_until(lambda: spawned(tool) == [], 5, "all have ended and are reaped")
        with pytest.raises(Closed):
            one.echo()
    # A new one is a new beginning.
    lan.start()
    with tool.smb("203.0.113.77", "203.0.113.1") as smb:
        smb.start()
        (pid,) = spawned(tool)
        time.sleep(2.5)  # beyond the time after which the former ones would be killed
        assert smb.echo().check() and spawned(tool) == [pid]
        lan.stop()
        wait_until(lambda: spawned(tool) == [], 5, "the new one is watched, too")


def test_all_end_with_the_supervisor(lan, connector):
    tool = connector(lan)
    with tool.smb("203.0.113.77", "203.0.113.1") as smb:
        smb.start()
        (pid,) = spawned(tool)
        tool.stop()
        assert not alive(pid)
        with pytest.raises(Closed):
            smb.echo()
    assert (lan.directory / "pid" / "smbd.pid").exists() and alive(lan.pid)


def test_one_that_does_not_end_is_killed(lan, connector):
    tool = connector(lan)
    with tool.smb("203.0.113.77", "203.0.113.1") as smb:
        smb.start()
        (pid,) = spawned(tool)
        os.kill(pid, signal.SIGSTOP)
        lan.stop()
        wait_until(lambda: spawned(tool) == [], 6, "it is killed after the grace")


def test_a_killed_supervisors_connections_go_on(lan, connector):
    tool = connector(lan)
    with tool.smb("203.0.113.77", "203.0.113.1") as smb:
        smb.start()
        (pid,) = spawned(tool)
        tool.kill()
        assert smb.echo().check() and alive(pid)
        file = smb.create("after")
        smb.write(file, b"still served", 0).check()
    wait_until(lambda: not alive(pid), 5, "it ends with its client")


def test_no_more_than_allowed(lan, connector):
    tool = connector(lan, most=2)
    with tool.smb("203.0.113.77", "203.0.113.1") as one, tool.smb("203.0.113.77", "203.0.113.1") as two:
        one.start()
        two.start()
        with pytest.raises(Failed, match="the most that /upstream/handoff/processes"):
            tool.open("203.0.113.77", "203.0.113.1")
        two.close_transport()
        wait_until(lambda: len(spawned(tool)) == 1, 5)
        with tool.smb("203.0.113.77", "203.0.113.1") as three:
            three.start()


def test_many_at_once(lan, connector):
    tool = connector(lan)
    # While the loop forks for one, the thread makes the next one's pair.
    numbers = [tool.begin("203.0.113.77", "203.0.113.1", client_port=42000 + i) for i in range(24)]
    for i, number in enumerate(numbers):
        with tool.finish(number) as stream:
            assert stream.getsockname() == ("203.0.113.77", 42000 + i)
    wait_until(lambda: spawned(tool) == [], 20, "all are reaped")


def test_cancelled_is_not_answered_and_leaves_nothing(lan, connector):
    tool = connector(lan)
    number = tool.begin("203.0.113.77", "203.0.113.1")
    tool.cancel(number)
    # Whichever was first: a stream that nobody takes is closed, and its smbd ends.
    try:
        tool.finish(number).close()
    except Failed as failed:
        assert "cancelled" in str(failed)
    wait_until(lambda: spawned(tool) == [], 5, "nothing is left")


def test_what_cannot_be_is_told(lan, connector):
    tool = connector(lan)
    with pytest.raises(Failed, match="addresses of one family"):
        tool.open("203.0.113.77", "2001:db8::1")
    with pytest.raises(Failed, match="NetBIOS on port 139"):
        tool.open("203.0.113.77", "203.0.113.1", server_port=139)
    with pytest.raises(Failed, match="link-local"):
        tool.open("fe80::77", "2001:db8::1")


# --- durable handles --------------------------------------------------------------------------------------------


def durable_create(smb, name):
    """CREATE with a batch oplock and DH2Q (MS-SMB2 2.2.13.2.11). Was a durable handle granted?"""
    fixed = smb2.create_body(name, oplock=9)
    fixed = fixed + bytes(-(64 + len(fixed)) % 8)
    context = struct.pack("<IHHHHI", 0, 16, 4, 0, 24, 32) + b"DH2Q" + bytes(4) + struct.pack("<IIQ", 0, 0, 0) + os.urandom(16)
    body = bytearray(fixed + context)
    struct.pack_into("<II", body, 48, 64 + len(fixed), len(context))
    answer = smb.rpc(smb2.CREATE, bytes(body)).check().pdu
    return b"DH2Q" in answer[152:]


def test_no_durable_handles_whatever_a_share_says(make_lan, connector, space):
    """With one, smbd -i panics when its client leaves."""
    lan = make_lan(
        options={"durable handles": "yes", "interfaces": "lo", "kernel oplocks": "no"},
        shares={"share": {"durable handles": "yes", "kernel oplocks": "no", "kernel share modes": "no", "posix locking": "no"}},
    )
    with space.socket_in(lambda: smb2.over_tcp(("127.0.0.1", 445))) as direct:
        assert durable_create(direct.start(), "durable")  # the test asks rightly
    tool = connector(lan)
    with tool.smb("203.0.113.77", "203.0.113.1") as smb:
        assert not durable_create(smb.start(), "not-durable")
    wait_until(lambda: spawned(tool) == [], 5, "it ends")
    assert "PANIC" not in tool.server.log and "panic" not in tool.server.log


def script(path, text):
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_share_that_keeps_durable_handles_is_refused(lan, connector, tmp_path):
    """No Samba known does that: the option wins. One that does not shows it in testparm's output."""
    text = f'case "$*" in *pid*) echo {lan.directory}/pid;; *) printf "[finance]\\n\\tdurable handles = Yes\\n";; esac\n'
    with pytest.raises(Failed, match=r"is on in \[finance\] of smb.conf"):
        connector(lan, testparm=script(tmp_path / "testparm", text))


def test_what_is_missing_at_the_start_is_named(lan, connector, space, tmp_path):
    with pytest.raises(Failed, match="testparm.*No such file"):
        connector(lan, testparm="/nonexistent/testparm")
    with pytest.raises(Failed, match="'/nonexistent/smbd' cannot be executed"):
        connector(lan, smbd="/nonexistent/smbd")
    wrapped = space.wrap
    space.wrap = lambda *argv: wrapped("setpriv", "--bounding-set=-dac_override", *argv)
    with pytest.raises(Failed, match="CapabilityBoundingSet.*Modes .transparent. and .connect. do not start smbd"):
        connector(lan)


def test_an_smbd_that_cannot_start_is_a_closed_stream(lan, connector, tmp_path):
    tool = connector(lan, smbd=script(tmp_path / "smbd", 'echo "no licence"; exit 1\n'))
    with tool.smb("203.0.113.77", "203.0.113.1") as smb, pytest.raises(Closed):
        smb.negotiate()
    tool.server.wait_for_log(re.compile(r"smbd -i \(pid \d+, client 203.0.113.77\): no licence"), 5)
    wait_until(lambda: spawned(tool) == [], 5, "it is reaped")
