# SPDX-License-Identifier: MIT
"""Opens that a worker may read and write itself: which they are, what it is told of them and when, and their end."""

import fcntl
import mmap
import os
import struct

import pytest

from lib import leases, smb2
from lib.area_link import F_SEAL_GROW, F_SEAL_SHRINK, Packet, connect
from lib.direct_link import BOTH, DIRECT, READ, SLOTS, WRITE, direct, fresh, link_of
from lib.leases import R, RH, RW, RWH, open_leased
from lib.process import wait_until

DATA = bytes(range(256)) * 256
TREE_DISCONNECT_BODY = LOGOFF_BODY = struct.pack("<HH", 4, 0)


def test_the_grant_comes_before_the_answer(pair):
    """All that it says is what the client sees on the wire."""
    client, link = pair
    for _ in range(50):
        opened = open_leased(client, fresh())
        grant = link.granted(opened.file_id)
        assert grant and (grant.session, grant.tree) == (client.session_id, client.tree_id)
        assert grant.access == BOTH == link.rights(grant) and grant.channel_sequence == 0 and grant.told == []


def test_data_is_the_same_on_both_ways(pair, server):
    client, link = pair
    name = fresh()
    opened = open_leased(client, name)
    fd = link.granted(opened.file_id).fd
    assert os.pwrite(fd, DATA, 0) == len(DATA)
    assert client.read(opened.file_id, len(DATA)).data == DATA
    client.write(opened.file_id, b"by smbd", 1000).check()
    assert os.pread(fd, 7, 1000) == b"by smbd"
    assert (server.share_path() / name).read_bytes() == os.pread(fd, 1 << 20, 0)


@pytest.mark.parametrize("state,rights", [(RWH, BOTH), (RW, BOTH), (RH, READ), (R, READ)])
def test_what_a_lease_lets_be_done(pair, state, rights):
    client, link = pair
    opened = open_leased(client, fresh(), state)
    grant = link.granted(opened.file_id)
    assert opened.state == state and grant.access == BOTH
    assert link.rights(grant) == rights and grant.told == []


@pytest.mark.parametrize("oplock,rights", [(leases.BATCH, BOTH), (leases.EXCLUSIVE, BOTH), (leases.LEVEL_II, READ), (0, None)])
def test_what_an_oplock_lets_be_done(pair, oplock, rights):
    client, link = pair
    grant = link.granted(client.create(fresh(), oplock=oplock))
    assert grant is None if rights is None else link.rights(grant) == rights


@pytest.mark.parametrize(
    "access,rights",
    [(leases.READ_ACCESS, READ), (leases.WRITE_ACCESS, WRITE), (leases.ALL_ACCESS, BOTH), (0x00120114, None), (0x00120080, None),
     (0x00120020, None), (0x00120085, READ)],
)  # fmt: skip
def test_what_its_access_lets_be_done(pair, access, rights):
    """FILE_APPEND_DATA, FILE_READ_ATTRIBUTES and FILE_EXECUTE alone let nothing be done."""
    client, link = pair
    name = fresh()
    client.close_file(client.create(name)).check()
    grant = link.granted(open_leased(client, name, access=access).file_id)
    assert grant is None if rights is None else (grant.access, link.rights(grant)) == (rights, rights)


@pytest.mark.parametrize("access,rights", [(leases.ALL_ACCESS, READ), (leases.WRITE_ACCESS, None)])
def test_an_open_whose_writes_wait_for_the_disk_is_only_read(pair, access, rights):
    """FILE_WRITE_THROUGH: the kernel tells once that something could not be written back, and has to tell smbd."""
    client, link = pair
    name = fresh()
    client.close_file(client.create(name)).check()
    opened = open_leased(client, name, access=access, options=0x42)
    grant = link.granted(opened.file_id)
    assert opened.state == RWH and (grant and (grant.access, link.rights(grant))) == (rights and (rights, rights))


def test_directories_and_streams_are_none(pair):
    client, link = pair
    name = fresh()
    directory = client.rpc(smb2.CREATE, leases.create_body(name, [leases.lease_context(os.urandom(16), RH)], options=1))
    assert link.granted(leases.opened(directory, b"").file_id) is None
    with_stream = client.rpc(smb2.CREATE, leases.create_body(f"{name}:s", [leases.lease_context(os.urandom(16), RWH)]))
    if with_stream.status == 0:
        assert link.granted(leases.opened(with_stream, b"").file_id) is None
    assert link.all == []


@pytest.mark.parametrize("share", ["streams_below", "fruit"])
def test_streams_beside_a_file_that_is_one(server, share):
    with direct(server, share) as (client, link):
        name = fresh()
        assert link.granted(open_leased(client, name).file_id)
        assert link.granted(open_leased(client, f"{name}:stream").file_id) is None


# --- whole shares -----------------------------------------------------------------------------------------------------

REFUSED = {
    "audit_above": "full_audit.so",
    "audit_below": "full_audit.so",
    "time_audit": "time_audit.so",
    "sync": '"sync always" is yes',
    "strict_locking": '"strict locking" is yes',
    "strict_allocate": '"strict allocate" is yes',
    "no_aio": '"aio read size" or "aio write size" is 0',
    "kernel_oplocks": '"kernel oplocks" is yes',
    "no_oplocks": '"oplocks" is no',
    "direct_no": '"smbdirect:direct" is none of both, read and write',
    "direct_odd": '"smbdirect:direct" is none of both, read and write',
}


@pytest.mark.parametrize("share", REFUSED)
def test_shares_that_have_none_say_why(server, share):
    with direct(server, share) as (client, link):
        opened = open_leased(client, fresh())
        assert link.granted(opened.file_id) is None
        client.read(opened.file_id, 1).check(smb2.END_OF_FILE)
        assert link.all == [] and link.granted(opened.file_id) is None
        (text,) = link.refused_shares
        assert text.startswith(f"{share}: ") and REFUSED[share] in text


@pytest.mark.parametrize("share", ["acl", "shadow", "recycle", "io_uring", "aio_pthread", "as_nobody", "streams_above"])
def test_shares_of_other_modules_that_have_them(server, share):
    with direct(server, share) as (client, link):
        assert link.granted(open_leased(client, fresh()).file_id) and link.refused_shares == []


@pytest.mark.parametrize("share,rights", [("direct_read", READ), ("direct_write", WRITE)])
def test_half_of_it(server, share, rights):
    with direct(server, share) as (client, link):
        grant = link.granted(open_leased(client, fresh()).file_id)
        assert grant.access == link.rights(grant) == rights
        assert link.granted(open_leased(client, fresh(), R).file_id) is None or rights == READ


def test_the_log_says_it_once_for_each_share(make_server):
    server = make_server(shares={"audit": {"vfs objects": "smbdirect full_audit"}})
    with direct(server, "audit") as (client, link):
        for _ in range(3):
            client.tree_connect(f"\\\\{server.netbios_name}\\audit").check()
        link.wait_for_tree(client)
        with link_of(server, client) as other:
            for one in (other, link):
                wait_until(lambda one=one: one.drain().refused_shares, 5, "the share is refused")
            assert len(other.refused_shares) == len(link.refused_shares) == 1
        lines = [line for line in server.log_path.read_text().splitlines() if "share audit: no direct I/O: full_audit.so" in line]
        assert len(lines) == 1


def test_without_a_link_that_asks_the_log_says_nothing(make_server):
    server = make_server(shares={"audit": {"vfs objects": "smbdirect full_audit"}})
    client = connect(server, "audit")
    with link_of(server, client, ask=False) as link:
        open_leased(client, fresh())
        assert link.drain().all == [] and link.refused_shares == []
    assert "no direct I/O" not in server.log_path.read_text()
    client.close_transport()


@pytest.mark.parametrize("how", ["signed by the server's wish", "encrypted session", "encrypted share", "desired session", "desired share"])
def test_not_where_the_session_has_keys_at_work(make_server, how):
    """Where encryption is desired, a request in the clear is answered encrypted."""
    options = {
        "signed by the server's wish": {"server signing": "mandatory"},
        "encrypted session": {"smb encrypt": "required"},
        "desired session": {"smb encrypt": "desired"},
    }.get(how, {})
    extra = {"encrypted share": {"smb encrypt": "required"}, "desired share": {"smb encrypt": "desired"}}.get(how, {})
    server = make_server(shares={"share": {"vfs objects": "smbdirect", **extra}}, options=options)
    client = smb2.over_tcp((server.address, server.port))
    client.negotiate((smb2.SMB_3_1_1,)).check()
    client.login(server.user, server.password).check()
    client.sign, client.encrypt = True, how.startswith("encrypted")
    client.tree_connect(f"\\\\{server.netbios_name}\\share").check()
    with link_of(server, client) as link:
        opened = open_leased(client, fresh())
        assert opened.state == RWH and link.granted(opened.file_id) is None
    client.close_transport()


# --- the table --------------------------------------------------------------------------------------------------------


def test_no_link_can_write_the_table(pair):
    client, link = pair
    seals = fcntl.fcntl(link.table_fd, fcntl.F_GET_SEALS)
    assert seals & (F_SEAL_SHRINK | F_SEAL_GROW) == F_SEAL_SHRINK | F_SEAL_GROW
    with pytest.raises(PermissionError):
        mmap.mmap(link.table_fd, 8 * SLOTS)
    with pytest.raises(PermissionError):
        os.pwrite(link.table_fd, b"\xff" * 8, 0)
    with pytest.raises(PermissionError):
        os.ftruncate(link.table_fd, 0)


def test_asking_twice_ends_the_link(pair):
    client, link = pair
    link.send(Packet(DIRECT))
    assert link.ended()
    client.echo().check()


def test_asking_with_a_descriptor_ends_the_link(pair, server):
    client, _ = pair
    with link_of(server, client, ask=False) as link:
        link.send(Packet(DIRECT), [0])
        assert link.ended()


def test_a_link_that_does_not_ask_hears_nothing(pair, server):
    client, link = pair
    with link_of(server, client, ask=False) as other:
        opened = open_leased(client, fresh())
        assert link.granted(opened.file_id) and other.drain().all == []


def test_opens_that_are_older_than_the_link(server):
    """No link was there when they were made; then another comes, and has the same slots."""
    client = connect(server)
    files = [open_leased(client, fresh()).file_id for _ in range(20)]
    client.close_file(files.pop()).check()
    with link_of(server, client) as link, link_of(server, client) as late:
        for file_id in files:
            first, second = link.granted(file_id), late.granted(file_id)
            assert (first.slot, first.generation) == (second.slot, second.generation)
            assert late.rights(second) == BOTH and os.path.sameopenfile(first.fd, second.fd)
        assert len(link.all) == len(late.all) == 19
    client.close_transport()


def test_another_session_and_tree_of_the_process(pair, server):
    client, link = pair
    client.tree_connect(f"\\\\{server.netbios_name}\\acl").check()
    grant = link.granted(open_leased(client, fresh()).file_id)
    assert grant.tree == client.tree_id
    other = connect(server, guid=client.guid)
    assert server.server_pid(other) == server.server_pid(client)
    grant = link.granted(open_leased(other, fresh()).file_id)
    assert (grant.session, grant.tree) == (other.session_id, other.tree_id)
    other.close_transport()
