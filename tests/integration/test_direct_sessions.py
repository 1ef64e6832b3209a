# SPDX-License-Identifier: MIT
"""Direct I/O, and whose session it is: smbd's module tells every connection of one client's smbd of all its open files, so
that multichannel works; a connection that has not bound a session may name neither it nor its files."""

import uuid

import pytest

from lib import module_fixture, rdma, smb2
from lib.direct_use import done, warm
from lib.leases import RWH, open_leased
from lib.process import wait_until

SECRET = b"of the first one"


@pytest.fixture(scope="module", params=["4.17", "4.22"])
def server(request, scratch):
    shares = {"share": {"vfs objects": "smbdirect"}}
    with module_fixture.running(scratch / f"direct-sessions-{request.param}", request.param, shares=shares) as smbd:
        yield smbd


@pytest.fixture
def daemon(make_daemon, server):
    return make_daemon(server.port, pool={"upstream": {"area": {"directory": str(server.links)}}})


def clients(server, daemon, directly, guid):
    """One that is logged on, and a second connection of the same ClientGuid."""
    if directly:
        return rdma.session(daemon, server, user=True, guid=guid), rdma.client(daemon, guid)
    address = (server.address, server.port)
    who = {"user": server.user, "password": server.password, "host": server.netbios_name}
    return smb2.over_tcp(address, guid).start("share", (smb2.SMB_3_0_2,), **who), smb2.over_tcp(address, guid)


def intrude(server, daemon, directly, known=True):
    """known: the second one has a session of its own. What it is answered in the name of the first one's."""
    first, second = clients(server, daemon, directly, uuid.uuid4().bytes)
    name = f"secret-{uuid.uuid4().hex}"
    file = open_leased(first, name, RWH).file_id
    first.write(file, SECRET).check()
    second.negotiate((smb2.SMB_3_0_2,)).check()
    if known:
        second.login().check()
        second.tree_connect(f"\\\\{server.netbios_name}\\share").check()
        mine = open_leased(second, f"mine-{uuid.uuid4().hex}", RWH).file_id
        second.write(mine, b"of the second one").check()
        if directly:
            warm(daemon, second, mine)  # its link is up, and has been told of both
    if directly:
        warm(daemon, first, file)
    second.session_id, second.tree_id = first.session_id, first.tree_id
    answers = []
    for sequence in (0, 0, 1):  # the last one would count the other's open on
        second.channel_sequence = sequence
        read, written = second.read(file, 16), second.write(file, b"INTRUDER")
        answers.append((hex(read.status), read.data if read.status == 0 else None, hex(written.status)))
    kept = first.read(file, 16).check().data
    if directly:
        before = done(daemon)
        first.write(file, SECRET).check()
        wait_until(lambda: done(daemon) > before, 10, "the first one's WRITE is done directly, as before")
    for c in (first, second):
        c.close_transport()
    return answers, kept


@pytest.mark.parametrize("known", [True, False], ids=["with a session of its own", "with none"])
def test_another_connections_session(server, daemon, known):
    over_tcp = intrude(server, daemon, directly=False, known=known)
    assert over_tcp[1] == SECRET
    assert intrude(server, daemon, directly=True, known=known) == over_tcp
