# SPDX-License-Identifier: MIT
"""Messages that have smbd close files: the module hears of them first, nothing is granted any more, and smbd has them when what is
under way is over."""

import os
import struct
import time

import pytest

from lib import leases, smb2
from lib.area_link import connect
from lib.direct_link import fresh, link_of
from lib.leases import open_leased
from lib.process import wait_until
from lib.traces import hear

CLOSING = 0x10000


def mark(link, slot, count):
    at, _ = link.mark(slot)
    link.use[at : at + 4] = struct.pack("<HH", count, 0)


def tell(server, client, *what):
    server.run_there("smbcontrol", "-s", server.config, str(server.server_pid(client)), *what)


def waits(c, message_id, seconds=2):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        hear(c, 0.1)
        assert message_id not in c.responses


def test_a_share_is_closed_when_what_is_under_way_is_over(pair, server, other):
    client, link = pair
    name = fresh()
    grant = link.granted(open_leased(client, name).file_id)
    mark(link, grant.slot, 1)
    tell(server, client, "close-share", "share")
    wait_until(lambda: link.word(grant.slot)[1] == 0, 10, "nothing being granted")
    # Its loop goes on, and gives no rights back.
    client.echo().check()
    client.read(grant.file_id, 8)
    assert link.word(grant.slot)[1] == 0
    waiting = leases.send_open_that_waits(other, name)
    waits(other, waiting)
    mark(link, grant.slot, 0)
    leases.opened(other.wait(waiting, 10), None)
    assert client.read(grant.file_id, 8).status != 0


def test_other_shares_have_their_rights_again(pair, server):
    client, link = pair
    grant = link.granted(open_leased(client, fresh()).file_id)
    before = link.word(grant.slot)
    for _ in range(3):
        tell(server, client, "close-share", "plain")
        wait_until(lambda: link.word(grant.slot) == before, 10, "the rights again")
        client.echo().check()
    mark(link, grant.slot, 1)
    tell(server, client, "close-share", "plain")
    wait_until(lambda: link.word(grant.slot)[1] == 0, 10, "nothing being granted")
    for _ in range(2):  # others wait behind it
        tell(server, client, "close-share", "plain")
    mark(link, grant.slot, 0)
    wait_until(lambda: link.word(grant.slot) == before, 10, "the rights again")


def test_a_slot_that_somebody_is_at_is_nobodys_next(pair):
    """A WRITE that outlasts its open concerns no other open."""
    client, link = pair
    before = link.granted(open_leased(client, fresh()).file_id)
    mark(link, before.slot, 1)
    client.close_file(before.file_id).check()  # it has waited for a while
    grant = link.granted(open_leased(client, fresh()).file_id)
    assert grant.slot != before.slot
    begin = time.monotonic()
    client.close_file(grant.file_id).check()
    assert time.monotonic() - begin < 0.5
    mark(link, before.slot, 0)
    slots = {link.granted(open_leased(client, fresh()).file_id).slot for _ in range(2)}
    assert slots == {before.slot, grant.slot}


def test_nobody_waits_for_the_dead(pair, server, other):
    client, link = pair
    name = fresh()
    grant = link.granted(open_leased(client, name).file_id)
    dies = link_of(server, client)
    mark(dies, grant.slot, 1)
    tell(server, client, "close-share", "share")
    wait_until(lambda: link.word(grant.slot)[1] == 0, 10, "nothing being granted")
    waiting = leases.send_open_that_waits(other, name)
    waits(other, waiting, 0.5)
    dies.close()
    leases.opened(other.wait(waiting, 10), None)


def test_a_process_that_is_told_to_end_does_so(pair, server, other):
    """When what is under way is over."""
    client, link = pair
    name = fresh()
    pid = server.server_pid(client)
    grant = link.granted(open_leased(client, name).file_id)
    mark(link, grant.slot, 1)
    tell(server, client, "kill-client-ip", "127.0.0.1")
    wait_until(lambda: link.word(grant.slot)[1] == 0, 10, "nothing being granted")
    waiting = leases.send_open_that_waits(other, name)
    waits(other, waiting)
    assert os.path.exists(f"/proc/{pid}")
    mark(link, grant.slot, 0)
    leases.opened(other.wait(waiting, 10), None)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), 10, "its end")


def test_what_is_being_closed_stays_so(pair, server):
    """Whatever smbd sees of the open meanwhile; and the next one in that place is nobody's end."""
    client, link = pair
    grant = link.granted(open_leased(client, fresh()).file_id)
    at = 8 * grant.slot
    (word,) = struct.unpack_from("<Q", link.use, at)
    struct.pack_into("<Q", link.use, at, word | CLOSING)
    client.channel_sequence = 2
    client.write(grant.file_id, b"counts on").check()
    (word,) = struct.unpack_from("<Q", link.use, at)
    assert word & CLOSING and word & 0xFFFF == 2
    client.close_file(grant.file_id).check()
    again = link.granted(open_leased(client, fresh()).file_id)
    assert again.slot == grant.slot
    (word,) = struct.unpack_from("<Q", link.use, at)
    assert word == again.generation << 32
