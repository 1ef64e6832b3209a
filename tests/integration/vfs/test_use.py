# SPDX-License-Identifier: MIT
"""What the links to one smbd process are told of each other (USE): rows, the sequence of each open, and what becomes of the marks
of a link that ends."""

import contextlib
import os
import select
import signal
import struct
import time

import pytest

from lib import smb2
from lib.area_link import connect
from lib.direct_link import BOTH, READ, ROWS, direct, fresh, link_of
from lib.leases import open_leased


def test_each_link_has_its_row_of_one_memory(pair, server):
    client, link = pair
    with link_of(server, client) as other:
        assert {link.row, other.row} == {0, 1}
        at, _ = link.mark(7)
        link.use[at : at + 4] = b"\2\0\5\0"
        assert other.mark(7, link.row)[1] == (2, 5) and other.mark(7)[1] == (0, 0)


def test_an_open_begins_with_what_smbd_has_seen_of_it(pair, server):
    """Also where the slot was another one's, which has gone on since."""
    client, link = pair
    for _ in range(3):
        grant = link.granted(open_leased(client, fresh()).file_id)
        assert link.sequence(grant.slot) == (grant.generation, 0) and grant.channel_sequence == 0
        link.use[8 * grant.slot : 8 * grant.slot + 2] = b"\7\0"
        client.close_file(grant.file_id).check()
    client.channel_sequence = 3
    file_id = open_leased(client, fresh()).file_id
    client.write(file_id, b"counts on").check()
    late = connect(server, guid=client.guid)
    with link_of(server, late) as other:
        assert other.granted(file_id).channel_sequence == 3
        assert other.sequence(other.grants[file_id].slot) == (other.grants[file_id].generation, 3)
    late.close_transport()


def test_the_marks_of_a_link_that_ends_go_with_it(pair, server):
    client, link = pair
    grants = [link.granted(open_leased(client, fresh()).file_id) for _ in range(5)]
    before = [link.mark(grant.slot)[1] for grant in grants]
    with link_of(server, client) as dies:
        row = dies.row
        for grant in grants:
            at, _ = dies.mark(grant.slot)
            dies.use[at : at + 4] = b"\1\0\0\0"
            at, _ = link.mark(grant.slot)
            link.use[at : at + 4] = b"\1\0\1\0"
        assert link.mark(grants[0].slot, row)[1] == (1, 0)
        # As a worker does that has something under way when its session ends: the other end stays open.
        kept = os.dup(dies.sock.fileno())
    client.echo().check()
    assert link.mark(grants[0].slot, row)[1] == (1, 0)
    os.close(kept)
    client.close_file(open_leased(client, fresh()).file_id).check()  # smbd has been at its loop since
    assert [link.mark(grant.slot, row)[1] for grant in grants] == [(0, 0)] * 5
    assert [link.mark(grant.slot)[1] for grant in grants] == [(1, 1)] * 5 != before


@pytest.mark.parametrize("under_way", [False, True])
def test_when_smbd_has_set_the_time_it_has_to_note_another_write(pair, under_way):
    """Only then it sets it once more when the file is closed. What a link is writing ends later, and is such a WRITE."""
    client, link = pair
    grant = link.granted(open_leased(client, fresh()).file_id)
    client.write(grant.file_id, b"the first").check()
    at, _ = link.mark(grant.slot)
    link.use[at : at + 2] = struct.pack("<H", under_way)
    assert link.rights(grant) == BOTH
    client.rpc(smb2.FLUSH, struct.pack("<HHI16s", 24, 0, 0, grant.file_id)).check()
    link.use[at : at + 2] = bytes(2)
    assert link.rights(grant) == READ
    found = []
    for _ in range(3):
        client.write(grant.file_id, b"smbd's").check()
        found.append(link.rights(grant))
    assert found == [BOTH if under_way else READ, BOTH, BOTH]
    assert link.drain() and grant.told == ([] if under_way else [READ, BOTH])


def test_a_close_waits_for_the_writes_that_are_under_way(pair, server):
    """Of all links: the file may be another one's afterwards, or its client's by another open. None begins any more."""
    client, link = pair
    grant = link.granted(open_leased(client, fresh()).file_id)
    with link_of(server, client) as other:
        at, _ = other.mark(grant.slot)
        other.use[at : at + 4] = b"\1\0\0\0"
        closing = client.send(smb2.CLOSE, smb2.close_body(grant.file_id))
        with pytest.raises(smb2.Timeout):
            client.wait(closing, 0.3)
        assert link.word(grant.slot) == link.sequence(grant.slot) == (0, 0)
        other.use[at : at + 4] = b"\0\0\0\0"
        client.wait(closing, 5).check()


def test_a_close_waits_for_a_while_and_not_for_the_dead(pair, server):
    client, link = pair
    grants = [link.granted(open_leased(client, fresh()).file_id) for _ in range(10)]
    other = link_of(server, client)
    for grant in grants:
        at, _ = other.mark(grant.slot)
        other.use[at : at + 4] = b"\1\0\0\0"
    began = time.monotonic()
    client.close_file(grants[0].file_id).check()
    assert 0.9 < time.monotonic() - began < 10
    # Its loop hears of the end of the link when it has closed some of the files, or before.
    pid = server.server_pid(client)
    os.kill(pid, signal.SIGSTOP)
    closing = [client.send(smb2.CLOSE, smb2.close_body(grant.file_id)) for grant in grants[1:]]
    other.close()
    os.kill(pid, signal.SIGCONT)
    began = time.monotonic()
    for message_id in closing:
        client.wait(message_id).check()
    assert time.monotonic() - began < 5  # nine waits would be nine seconds


def test_the_row_of_a_link_that_is_given_up(pair, server):
    """Its other end may be at a WRITE still: nobody has the row again, and what is marked there counts, as long as it lives."""
    client, link = pair
    grant = link.granted(open_leased(client, fresh()).file_id)
    deaf = link_of(server, client)
    at, _ = deaf.mark(grant.slot)
    deaf.use[at : at + 4] = b"\1\0\0\0"
    share = f"\\\\{server.netbios_name}\\share"
    mine = client.tree_id
    for _ in range(600):  # it does not read what it is told
        client.tree_connect(share).check()
        key = (client.session_id, client.tree_id)
        client.rpc(smb2.TREE_DISCONNECT, struct.pack("<HH", 4, 0)).check()
        link.until(lambda: key in link.trees).until(lambda: key not in link.trees)
    client.tree_id = mine
    gone = select.poll()
    gone.register(deaf.sock, select.POLLRDHUP)
    assert gone.poll(10_000), "the module has not given it up"
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(link_of(server, client)) for _ in range(ROWS - 2)]
        assert sorted([each.row for each in [link, *others]] + [deaf.row]) == list(range(ROWS))
        with link_of(server, client) as refused:
            assert refused.refusal == "the client has too many connections"
    assert link.mark(grant.slot, deaf.row)[1] == (1, 0)
    closing = client.send(smb2.CLOSE, smb2.close_body(grant.file_id))
    with pytest.raises(smb2.Timeout):
        client.wait(closing, 0.3)
    deaf.use[at : at + 4] = b"\0\0\0\0"
    client.wait(closing, 5).check()
    deaf.close()


def test_more_links_than_rows(server):
    """Those that are too many are told; a row that is free again is used again."""
    with direct(server) as (client, link), contextlib.ExitStack() as stack:
        links = [stack.enter_context(link_of(server, client)) for _ in range(ROWS - 1)]
        assert sorted(each.row for each in [link, *links]) == list(range(ROWS))
        with link_of(server, client) as refused:
            assert refused.refusal == "the client has too many connections" and refused.table is None
        row = links[9].row
        links.pop(9).close()
        client.close_file(open_leased(client, fresh()).file_id).check()
        again = stack.enter_context(link_of(server, client))
        assert again.row == row and again.granted(open_leased(client, fresh()).file_id)
