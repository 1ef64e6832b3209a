# SPDX-License-Identifier: MIT
"""Leases that are taken back or given up: nothing may be done directly any more before anybody is told, and again what may be
when it is over."""

import os
import struct

import pytest

from lib import leases, smb2
from lib.area_link import connect
from lib.direct_link import BOTH, READ, WRITE, direct, fresh, link_of
from lib.leases import R, RH, RW, RWH, acknowledge, open_leased, send_open, wait_break
from lib.process import wait_until


def test_the_word_is_cleared_before_the_client_hears_of_it(pair, other):
    """And stays so until the client has answered; then what the lease still has comes back with the next request of smbd's."""
    client, link = pair
    for _ in range(30):
        name = fresh()
        opened = open_leased(client, name)
        grant = link.granted(opened.file_id)
        os.pwrite(grant.fd, b"written by the worker", 0)
        waiting = other.send(smb2.CREATE, smb2.create_body(name))
        broken = wait_break(client)
        assert link.rights(grant) == 0
        assert (broken.key, broken.current, broken.new) == (opened.key, RWH, RH)
        client.read(opened.file_id, 10).check()
        client.write(opened.file_id, b"flushed", 0).check()
        assert link.rights(grant) == 0, "while the client has not answered"
        acknowledge(client, broken).check()
        second = other.wait(waiting).check().pdu[128:144]
        assert other.read(second, 100).data == b"flushed by the worker"
        assert client.read(opened.file_id, 7).data == b"flushed"
        assert link.rights(grant) == READ
        assert link.drain().grants[opened.file_id].told == [0, READ]
        other.close_file(second).check()


def test_a_write_of_somebody_elses_takes_reading(pair, other):
    """The break to none is not acknowledged."""
    client, link = pair
    name = fresh()
    opened = open_leased(client, name, R)
    grant = link.granted(opened.file_id)
    second = other.create(name)
    assert link.rights(grant) == READ
    other.write(second, b"other's", 0).check()
    broken = wait_break(client)
    assert (broken.current, broken.new) == (R, 0) and link.rights(grant) == 0
    assert client.read(opened.file_id, 7).data == b"other's"
    assert link.rights(grant) == 0


def test_a_lock_of_somebody_elses_takes_reading(pair, other):
    client, link = pair
    name = fresh()
    opened = open_leased(client, name, R)
    client.write(opened.file_id, b"x" * 100, 0).check()
    grant = link.granted(opened.file_id)
    second = other.create(name)
    assert link.rights(grant) == READ
    other.rpc(smb2.LOCK, smb2.lock_body(second, 0, 10, immediate=True)).check()
    assert wait_break(client).new == 0 and link.rights(grant) == 0
    assert client.read(opened.file_id, 10).status == 0xC0000054 and link.rights(grant) == 0


@pytest.mark.parametrize("state", [RH, R, 0])
def test_less_than_what_was_asked_for(pair, other, state):
    client, link = pair
    name = fresh()
    opened = open_leased(client, name)
    grant = link.granted(opened.file_id)
    waiting = other.send(smb2.CREATE, smb2.create_body(name))
    broken = wait_break(client)
    acknowledge(client, broken, state).check()
    other.wait(waiting).check()
    client.read(opened.file_id, 1).check(smb2.END_OF_FILE)
    assert link.rights(grant) == (READ if state else 0)


def test_answers_that_smbd_refuses(pair, other):
    """To no break, and with more than is left."""
    client, link = pair
    name = fresh()
    opened = open_leased(client, name)
    grant = link.granted(opened.file_id)
    assert acknowledge(client, leases.Break(opened.key, RWH, R)).status != 0
    assert link.rights(grant) == BOTH
    waiting = other.send(smb2.CREATE, smb2.create_body(name))
    broken = wait_break(client)
    assert acknowledge(client, broken, RWH).status != 0
    client.read(opened.file_id, 1).check(smb2.END_OF_FILE)
    assert link.rights(grant) == 0
    acknowledge(client, broken).check()
    other.wait(waiting).check()


@pytest.mark.parametrize("oplock,level", [(leases.BATCH, 1), (leases.EXCLUSIVE, 0)])
def test_an_oplock_that_is_broken(pair, other, oplock, level):
    client, link = pair
    name = fresh()
    file_id = client.create(name, oplock=oplock)
    grant = link.granted(file_id)
    assert link.rights(grant) == BOTH
    waiting = other.send(smb2.CREATE, smb2.create_body(name))
    while not client.unsolicited:
        client._receive(20)
    assert link.rights(grant) == 0
    client.read(file_id, 1).check(smb2.END_OF_FILE)
    assert link.rights(grant) == 0
    answer = struct.pack("<HBBI16s", 24, level, 0, 0, file_id)
    client.rpc(smb2.OPLOCK_BREAK, answer).check()
    other.wait(waiting).check()
    client.read(file_id, 1).check(smb2.END_OF_FILE)
    assert link.rights(grant) == (READ if level else 0)
    assert client.rpc(smb2.OPLOCK_BREAK, answer).status != 0, "there is nothing to answer"


def test_a_client_that_never_answers(make_server):
    """smbd goes on without it; it has nothing then."""
    server = make_server()
    other = connect(server)
    with direct(server) as (client, link):
        opened = open_leased(client, "file")
        grant = link.granted(opened.file_id)
        waiting = other.send(smb2.CREATE, smb2.create_body("file"))
        wait_break(client)
        other.wait(waiting, timeout=60).check()
        client.read(opened.file_id, 1).check(smb2.END_OF_FILE)
        assert link.rights(grant) == 0
    other.close_transport()


def test_another_open_of_the_same_client(pair):
    """Its break comes from the same process; an open of the same lease breaks nothing, and has what the lease has."""
    client, link = pair
    name = fresh()
    opened = open_leased(client, name)
    grant = link.granted(opened.file_id)
    same = open_leased(client, name, key=opened.key)
    assert link.rights(grant) == link.rights(link.granted(same.file_id)) == BOTH
    waiting, key = send_open(client, name, RWH)
    broken = wait_break(client)
    assert broken.key == opened.key and [link.rights(g) for g in link.all] == [0, 0]
    acknowledge(client, broken).check()
    third = leases.opened(client.wait(waiting), key)
    assert third.state == RH and link.rights(link.granted(third.file_id)) == READ
    for one in (opened, same):
        client.read(one.file_id, 1).check(smb2.END_OF_FILE)
        assert link.rights(link.granted(one.file_id)) == READ
    client.write(opened.file_id, b"breaks the third's", 0).check()
    broken = wait_break(client)
    assert (broken.key, broken.new) == (third.key, 0)
    # All rights go before the break is sent; those that are still good come back behind it.
    wait_until(lambda: link.rights(grant) == READ, 10, "the right of whose lease was not broken")
    assert link.rights(link.granted(third.file_id)) == 0


def test_a_lease_that_becomes_more(pair, other):
    """Opened again with the same key, when nobody else is there any more: the old open has it with its next WRITE."""
    client, link = pair
    name = fresh()
    second = other.create(name)
    opened = open_leased(client, name, RH)
    grant = link.granted(opened.file_id)
    other.close_file(second).check()
    assert link.rights(grant) == READ
    again = open_leased(client, name, RWH, key=opened.key)
    assert again.state == RWH and link.rights(link.granted(again.file_id)) == BOTH
    client.write(opened.file_id, b"x", 0).check()
    assert link.rights(grant) == BOTH and link.drain().grants[opened.file_id].told == [BOTH]


def test_opens_that_no_break_is_about(pair, other):
    """They have all of it back at once, and nobody is told."""
    client, link = pair
    names = [fresh() for _ in range(8)]
    files = [open_leased(client, name) for name in names]
    second = other.send(smb2.CREATE, smb2.create_body(names[3]))
    broken = wait_break(client)
    wait_until(lambda: link.rights(link.grants[files[7].file_id] if link.drain() else None) == BOTH, 10, "granted again")
    assert [link.rights(link.granted(f.file_id)) for f in files] == [BOTH] * 3 + [0] + [BOTH] * 4
    acknowledge(client, broken).check()
    other.wait(second).check()
    assert [len(link.granted(f.file_id).told) for f in files] == [0] * 3 + [1] + [0] * 4


def test_many_breaks_at_once(pair, other, server):
    """No notification arrives while its word is set, whatever the order of the messages among the processes."""
    client, link = pair
    third = connect(server)
    names = [fresh() for _ in range(64)]
    files = {f.key: link.granted(f.file_id) for f in (open_leased(client, name) for name in names)}
    waiting = [(who, who.send(smb2.CREATE, smb2.create_body(name)))
               for name, who in zip(names, [other, third] * 32, strict=True)]  # fmt: skip
    for _ in names:
        broken = wait_break(client)
        assert link.rights(files[broken.key]) == 0
        acknowledge(client, broken).check()
    for who, message_id in waiting:
        who.wait(message_id).check()
    third.close_transport()


def test_an_open_made_while_a_break_is_under_way(pair, other):
    """The first has nothing any more, and one more with its lease gets nothing either."""
    client, link = pair
    name = fresh()
    opened = open_leased(client, name)
    waiting = other.send(smb2.CREATE, smb2.create_body(name))
    broken = wait_break(client)
    again = open_leased(client, name, key=opened.key)
    assert link.granted(again.file_id) is None
    acknowledge(client, broken).check()
    other.wait(waiting).check()
    client.read(again.file_id, 1).check(smb2.END_OF_FILE)
    assert link.rights(link.granted(again.file_id)) == READ


def test_deleting_and_renaming(pair, other):
    """Deletion on close breaks the handle lease of another; renaming by the client itself changes nothing."""
    client, link = pair
    name = fresh()
    opened = open_leased(client, name, access=0x001F01FF)
    grant = link.granted(opened.file_id)
    raw = f"{name}-2".encode("utf-16le")
    rename = struct.pack("<B7xQI", 0, 0, len(raw)) + raw
    body = struct.pack("<HBBIHHI16s", 33, 1, 10, len(rename), 96, 0, 0, opened.file_id) + rename
    client.rpc(smb2.SET_INFO, body).check()
    assert link.rights(grant) == BOTH and link.granted(opened.file_id)
    os.pwrite(grant.fd, b"renamed", 0)
    assert client.read(opened.file_id, 7).data == b"renamed"
    body = struct.pack("<HBBIHHI16s", 33, 1, 13, 1, 96, 0, 0, opened.file_id) + b"\x01"
    client.rpc(smb2.SET_INFO, body).check()
    assert link.rights(grant) == BOTH
    client.close_file(opened.file_id).check()
    assert link.word(grant.slot) == (0, 0) and link.granted(opened.file_id) is None


def test_the_links_of_a_process_that_has_none_to_break(server):
    """smbd's own handler has the messages where no link asks for direct I/O, and where the link has gone."""
    other, client = connect(server), connect(server)
    for ask in (False, True):
        with link_of(server, client, ask):
            pass
        name = fresh()
        opened = open_leased(client, name)
        waiting = other.send(smb2.CREATE, smb2.create_body(name))
        broken = wait_break(client)
        assert (broken.key, broken.new) == (opened.key, RH)
        acknowledge(client, broken, RW & RH).check()
        other.wait(waiting).check()
    for one in (other, client):
        one.close_transport()
