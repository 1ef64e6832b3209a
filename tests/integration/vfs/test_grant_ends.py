# SPDX-License-Identifier: MIT
"""The end of what was granted: opens, trees, sessions, connections and processes that end; slots that are used again; durable
opens; and links that do not read what they are told."""

import os
import resource
import signal
import struct

import pytest

from lib import leases, smb2
from lib.area_link import Area, Carrier, connect
from lib.direct_link import BOTH, READ, SLOTS, direct, fresh, link_of
from lib.iwarp import Closed
from lib.leases import RH, RWH, acknowledge, open_leased, send_open, wait_break
from lib.process import alive, wait_until

NOTHING = struct.pack("<HH", 4, 0)  # body of LOGOFF and TREE_DISCONNECT


def test_closing_clears_the_word(pair):
    """The slot is used again, and is another one then."""
    client, link = pair
    seen = set()
    for _ in range(20):
        file_id = open_leased(client, fresh()).file_id
        grant = link.granted(file_id)
        assert (grant.slot, grant.generation) not in seen
        seen.add((grant.slot, grant.generation))
        client.close_file(file_id).check()
        assert link.word(grant.slot) == (0, 0) and link.drain().grants[file_id].closed
    assert len({slot for slot, _ in seen}) < 20


def test_an_open_that_is_closed_before_anybody_hears_of_it(pair):
    """Both are told, in this order."""
    client, link = pair
    for _ in range(20):
        client.close_file(open_leased(client, fresh()).file_id).check()
    assert len(link.drain().all) == 20 and all(grant.closed for grant in link.all)


@pytest.mark.parametrize("command", [smb2.TREE_DISCONNECT, smb2.LOGOFF])
def test_trees_and_sessions_that_end(pair, server, command):
    client, link = pair
    other = connect(server, guid=client.guid)
    mine = [link.granted(open_leased(client, fresh()).file_id) for _ in range(10)]
    others = link.granted(open_leased(other, fresh()).file_id)
    client.rpc(command, NOTHING).check()
    link.until(lambda: all(grant.closed for grant in mine))
    assert [link.word(grant.slot) for grant in mine] == [(0, 0)] * 10
    assert link.rights(others) == BOTH and not others.closed
    other.close_transport()


def test_a_connection_that_ends(pair, server):
    """The process lives on for the client's other one."""
    client, link = pair
    other = connect(server, guid=client.guid)
    grants = [link.granted(open_leased(other, fresh()).file_id) for _ in range(10)]
    other.close_transport()
    link.until(lambda: all(grant.closed for grant in grants))
    assert [link.word(grant.slot) for grant in grants] == [(0, 0)] * 10
    assert link.granted(open_leased(client, fresh()).file_id)


def test_a_share_that_is_closed_by_the_administrator(pair, server):
    client, link = pair
    grant = link.granted(open_leased(client, fresh()).file_id)
    server.run_there("smbcontrol", "-s", server.config, str(server.server_pid(client)), "close-share", "share")
    link.until(lambda: grant.closed)
    assert link.word(grant.slot) == (0, 0)


def test_smbd_that_is_killed(server):
    client = connect(server)
    with link_of(server, client) as link:
        grant = link.granted(open_leased(client, fresh()).file_id)
        pid = server.server_pid(client)
        os.kill(pid, signal.SIGKILL)
        assert link.ended()
        wait_until(lambda: not alive(pid), 10, "the process has ended")
        assert link.rights(grant) == BOTH, "nobody was there to clear it: the end of the link says so"
    client.close_transport()


@pytest.mark.parametrize("how", ["is killed", "ends"])
def test_the_table_says_that_its_keeper_has_died(server, how):
    """Before anybody can find that the process is gone, and so open what it had."""
    with direct(server) as (client, link):
        pid = server.server_pid(client)
        open_leased(client, fresh())
        assert link.keeper() == pid
        if how == "ends":
            client.close_transport()
        else:
            os.kill(pid, signal.SIGKILL)
        while os.path.exists(f"/proc/{pid}"):
            pass
        assert link.keeper() == 0


def test_more_opens_than_slots(server):
    """Those that are too many are served by smbd; when others close, they get a slot with their next READ."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 3 * SLOTS), hard))
    try:
        with direct(server, "exact") as (client, link):
            files = [open_leased(client, f"many-{i}").file_id for i in range(SLOTS + 100)]
            link.until(lambda: len(link.all) == SLOTS)
            assert {grant.slot for grant in link.all} == set(range(SLOTS))
            last = files[-1]
            client.write(last, b"served", 0).check()
            assert client.read(last, 6).data == b"served" and link.granted(last) is None
            for file_id in files[:50]:
                client.close_file(file_id).check()
            assert client.read(last, 6).data == b"served"
            assert link.rights(link.granted(last)) == BOTH
            assert len(link.all) == SLOTS + 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- durable opens ----------------------------------------------------------------------------------------------------


def user_client(server, guid, share="durable"):
    client = smb2.over_tcp((server.address, server.port), guid)
    return client.start(share, user=server.user, password=server.password, host=server.netbios_name)


@pytest.mark.parametrize("same_process", [True, False])
def test_a_durable_open(server, same_process):
    """Nothing is granted while its client is away; when it is back there is another grant, of the same file."""
    guid, name, create_guid = os.urandom(16), fresh(), os.urandom(16)
    stays = user_client(server, guid if same_process else os.urandom(16))
    client = user_client(server, guid)
    with link_of(server, client) as link:
        key = os.urandom(16)
        parts = [leases.lease_context(key, RWH), leases.durable_context(create_guid)]
        opened = leases.opened(client.rpc(smb2.CREATE, leases.create_body(name, parts)), key)
        assert b"DH2Q" in opened.contexts
        grant = link.granted(opened.file_id)
        os.pwrite(grant.fd, b"before", 0)
        client.close_transport()
        if same_process:
            link.until(lambda: grant.closed)
            assert link.word(grant.slot) == (0, 0)
        else:
            assert link.ended()
        back = user_client(server, guid)
        with link_of(server, back) as other:
            now = link if same_process else other
            parts = [leases.lease_context(key, RWH), leases.reconnect_context(opened.file_id, create_guid)]
            again = leases.opened(back.rpc(smb2.CREATE, leases.create_body(name, parts)), key)
            assert again.file_id[:8] == opened.file_id[:8] and again.state == RWH
            new = now.granted(again.file_id)
            assert now.rights(new) == BOTH and new.session == back.session_id and new.tree == back.tree_id
            assert not same_process or (new.slot, new.generation) != (grant.slot, grant.generation)
            os.pwrite(new.fd, b"after", 0)
            assert back.read(again.file_id, 100).data == b"aftere"
        back.close_transport()
    stays.close_transport()


# --- links that do not read -------------------------------------------------------------------------------------------


@pytest.fixture
def exact_pair(server):
    with direct(server, "exact") as (client, link):
        yield client, link


def test_a_link_that_falls_behind(exact_pair, server):
    """It keeps its areas, and is told later what is different from what it heard last."""
    client, link = exact_pair
    with link_of(server, client) as deaf, Area(1 << 20) as area:
        assert deaf.push(area) == 0
        files, other = {}, connect(server, "exact")
        for i in range(600):
            file_id = open_leased(client, fresh(f"deaf-{i}")).file_id
            if i % 3:
                client.close_file(file_id).check()
            else:
                files[file_id] = link.granted(file_id)
            link.drain()
        name = fresh("broken")
        broken_one = open_leased(client, name)
        waiting = other.send(smb2.CREATE, smb2.create_body(name))
        broken = wait_break(client)
        acknowledge(client, broken).check()
        other.wait(waiting).check()
        client.read(broken_one.file_id, 1).check(smb2.END_OF_FILE)
        files[broken_one.file_id] = link.granted(broken_one.file_id)
        carrier = Carrier(client, area)
        assert carrier.write(broken_one.file_id, 0, b"by the area") == (0, 11)
        assert len(files) == 201

        deaf.until(lambda: {f for f, g in deaf.grants.items() if not g.closed} == set(files))
        assert len(deaf.all) < 600, "it had fallen behind"
        for file_id, grant in files.items():
            late = deaf.grants[file_id]
            assert (late.slot, late.generation, deaf.rights(late)) == (grant.slot, grant.generation, link.rights(grant))
        client.close_file(broken_one.file_id).check()
        deaf.until(lambda: deaf.grants[broken_one.file_id].closed)
        deaf.drop(area)
        deaf.until(lambda: deaf.gone)
        other.close_transport()


def test_a_link_that_goes_while_it_is_behind(exact_pair, server):
    client, link = exact_pair
    before = server.log_path.read_text().count("not its protocol")
    with link_of(server, client):
        for _ in range(300):
            client.close_file(open_leased(client, fresh()).file_id).check()
            link.drain()
    assert link.granted(open_leased(client, fresh()).file_id)
    assert server.log_path.read_text().count("not its protocol") == before


# --- what asks again --------------------------------------------------------------------------------------------------


def test_a_read_by_the_area_brings_the_rights_back(pair, server):
    """As one that smbd answers inline does."""
    client, link = pair
    other, name = connect(server), fresh()
    opened = open_leased(client, name)
    client.write(opened.file_id, b"x" * 4096, 0).check()
    grant = link.granted(opened.file_id)
    waiting, _ = send_open(other, name, 0)
    acknowledge(client, wait_break(client)).check()
    other.wait(waiting).check()
    assert link.rights(grant) == 0
    with Area(1 << 16) as area:
        assert link.push(area) == 0
        assert Carrier(client, area).read(opened.file_id, 0, 4096) == (0, b"x" * 4096)
    assert link.rights(grant) == READ
    other.close_transport()


def test_an_open_without_a_lease_gets_one(pair):
    """Another open of the client's with a lease does not help one without; one that asks with its own key does."""
    client, link = pair
    name = fresh()
    first = open_leased(client, name, 0)
    assert first.state == 0 and link.granted(first.file_id) is None
    client.close_file(first.file_id).check()
    second = open_leased(client, name, RH)
    assert link.rights(link.granted(second.file_id)) == READ


def test_a_process_without_trees_and_with_a_link(pair, server):
    """The table stays, and serves the next tree."""
    client, link = pair
    grant = link.granted(open_leased(client, fresh()).file_id)
    client.rpc(smb2.TREE_DISCONNECT, NOTHING).check()
    link.until(lambda: grant.closed)
    client.tree_connect(f"\\\\{server.netbios_name}\\share").check()
    again = link.granted(open_leased(client, fresh()).file_id)
    assert link.rights(again) == BOTH and again.tree == client.tree_id
    other = connect(server)
    opened = open_leased(client, fresh("broken"))
    waiting = other.send(smb2.CREATE, smb2.create_body(next(p.name for p in server.share_path().glob("broken-*"))))
    acknowledge(client, wait_break(client)).check()
    other.wait(waiting).check()
    assert link.rights(link.granted(opened.file_id)) == 0
    other.close_transport()


def test_a_client_that_goes_with_a_break_under_way(server):
    """The other open succeeds, and reads what was written directly."""
    other = connect(server)
    with direct(server) as (client, link):
        name = fresh()
        grant = link.granted(open_leased(client, name).file_id)
        os.pwrite(grant.fd, b"written", 0)
        waiting = other.send(smb2.CREATE, smb2.create_body(name))
        wait_break(client)
        client.close_transport()
        second = other.wait(waiting).check().pdu[128:144]
        assert other.read(second, 100).data == b"written"
        assert link.ended()
    with pytest.raises((Closed, OSError)):
        client.echo()
    other.close_transport()
