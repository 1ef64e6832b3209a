# SPDX-License-Identifier: MIT
"""smbd alone stays where it learns that its client is gone by sending a break, and whoever has asked for that waits 35 seconds
(protocol/proxy/vfs/stray.c). With the module it ends like any other. The order of what it finds is made by stopping it
meanwhile."""

import contextlib

import pytest

from lib import leases, smb2
from lib.direct_link import direct, fresh, link_of
from lib.ground import Ground
from lib.leases import open_leased, send_open_that_waits
from lib.process import alive, held_asleep, wait_until

SOON = 10  # seconds; without the module it is 35


def ends(pid, other, waiting):
    other.wait(waiting, SOON).check()
    wait_until(lambda: not alive(pid), SOON, f"the end of smbd {pid}")


@pytest.mark.parametrize("first", ["the break", "the reset"])
@pytest.mark.parametrize("ended", [False, True], ids=["link", "ended-link"])
def test_a_break_that_cannot_be_sent(server, other, first, ended):
    with direct(server) as (client, link):
        pid, name = server.server_pid(client), fresh()
        open_leased(client, name)
        with held_asleep(pid):
            waiting = send_open_that_waits(other, name) if first == "the break" else None
            Ground.reset(client.transport)
            if ended:
                link.close()
            waiting = waiting or send_open_that_waits(other, name)
        ends(pid, other, waiting)


def test_several_breaks_that_cannot_be_sent(server, other):
    with direct(server) as (client, _):
        pid, names = server.server_pid(client), [fresh() for _ in range(4)]
        for name in names:
            open_leased(client, name)
        with held_asleep(pid):
            waiting = [send_open_that_waits(other, name) for name in names]
            Ground.reset(client.transport)
        for one in waiting:
            ends(pid, other, one)


@contextlib.contextmanager
def two_channels(server):
    """Both of them, and their process."""
    first = smb2.over_tcp((server.address, server.port))
    first.start("share", (smb2.SMB_3_0_2,), user=server.user, password=server.password, host=server.netbios_name)
    second = smb2.over_tcp((server.address, server.port), first.guid).bind(first, server.user, server.password)
    try:
        pid = server.server_pid(first)
        assert server.server_pid(second) == pid
        with link_of(server, first):
            yield first, second, pid
    finally:
        first.close_transport(), second.close_transport()


def test_a_break_that_cannot_be_sent_on_any_channel(server, other):
    name = fresh()
    with two_channels(server) as (client, second, pid):
        open_leased(client, name)
        with held_asleep(pid):
            waiting = send_open_that_waits(other, name)
            for c in (client, second):
                Ground.reset(c.transport)
        ends(pid, other, waiting)


@pytest.mark.parametrize("told_first", [True, False], ids=["told-first", "other-first"])
def test_channels_that_are_lost_with_a_break_on_its_way(server, other, told_first):
    """smbd waits for TCP's acknowledgement of it, and then would send it on the other channel."""
    name = fresh()
    with two_channels(server) as (client, second, pid):
        open_leased(client, name)
        waiting = send_open_that_waits(other, name)

        def told():
            for c in (client, second):
                with contextlib.suppress(smb2.Timeout):
                    c._receive(0.01)
            return [c for c in (client, second) if c.unsolicited]

        (c,) = wait_until(told, 10, "the break")
        with held_asleep(pid):
            for one in sorted((client, second), key=lambda one: (one is c) != told_first):
                Ground.reset(one.transport)
        ends(pid, other, waiting)


def test_a_channel_that_is_left_serves_on(server, other):
    """The first of them is gone when the break is sent, and the second hears of it."""
    name = fresh()
    with two_channels(server) as (client, second, pid):
        opened = open_leased(client, name)
        with held_asleep(pid):
            waiting = send_open_that_waits(other, name)
            Ground.reset(client.transport)
        broken = leases.wait_break(second)
        assert broken.key == opened.key
        leases.acknowledge(second, broken).check()
        other.wait(waiting, SOON).check()
        second.read(opened.file_id, 1).check(smb2.END_OF_FILE)
        assert alive(pid)
