# SPDX-License-Identifier: MIT
"""A client that has lost a channel sends again by another one what it was not answered, with its ChannelSequence counted on
(MS-SMB2 3.3.5.2.10). What the lost channel has brought must not be written after that, wherever it is under way. The lost
channel's worker is one that is stopped for a while: it still lives, and still has all."""

import contextlib
import os
import random
import signal
import struct
import uuid

import pytest

from lib import module_fixture, rdma, smb2
from lib.direct_link import DirectLink
from lib.direct_use import done
from lib.leases import RWH, open_leased
from lib.process import wait_until
from test_direct_coherence import worker_of

SEED = int(os.environ.get("SMBDIRECTD_SEED", "20261130"))
SERIES = ("4.17", "4.22")
SIZE = 4096


@pytest.fixture(scope="module", params=SERIES)
def server(request, scratch):
    with module_fixture.running(
        scratch / f"failover-{request.param}", request.param, shares={"share": {"vfs objects": "smbdirect"}}
    ) as smbd:
        yield smbd


class Channels:
    """A file that both channels of a client read and write directly: at two workers; or one is to smbd itself, over TCP."""

    def __init__(self, server, daemon, by_tcp=False):
        self.server, self.daemon = server, daemon
        self.name = f"failover-{uuid.uuid4().hex}"
        self.path = server.share_path("share") / self.name
        self.lost = rdma.session(daemon, server, user=True)
        stays = smb2.over_tcp((server.address, server.port), self.lost.guid) if by_tcp else rdma.client(daemon, self.lost.guid)
        self.stays = stays.bind(self.lost, server.user, server.password)
        self.worker = worker_of(daemon, self.lost)
        direct = [self.lost] if by_tcp else [self.lost, self.stays]
        assert by_tcp or self.worker != worker_of(daemon, self.stays)
        for c in direct:  # each asks for its link
            c.close_file(open_leased(c, "asks-for-the-link", RWH).file_id).check()
        self.file = open_leased(self.lost, self.name, RWH).file_id
        for c in direct:
            self.until_direct(c)

    def until_direct(self, c):
        def goes():
            before = done(self.daemon)[1]
            c.write(self.file, bytes(SIZE)).check()
            with contextlib.suppress(AssertionError):
                wait_until(lambda: done(self.daemon)[1] > before, 0.2, "a direct WRITE")
                return True
            return False

        wait_until(goes, 20, "direct WRITEs")

    @contextlib.contextmanager
    def stopped(self):
        os.kill(self.worker, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.worker, signal.SIGCONT)

    def link(self):
        """One more, to the smbd that serves the client."""
        (pid,) = self.server.client_pids()
        link = DirectLink(self.server.links / str(pid))
        link.until(lambda: self.file in link.grants)
        return link

    def mark(self, link, count, sequence=0):
        """So many WRITEs of that sequence are under way by this link."""
        at, _ = link.mark(link.grants[self.file].slot)
        struct.pack_into("<HH", link.use, at, count, sequence)

    def close(self):
        for c in (self.lost, self.stays):
            c.close_transport()


@pytest.fixture
def make_channels(server, make_daemon):
    pool = {"affinity": "spread", "upstream": {"area": {"directory": str(server.links)}}}
    with contextlib.ExitStack() as stack:

        def make(by_tcp=False):
            it = Channels(server, make_daemon(server.port, workers=2, pool=pool), by_tcp)
            stack.callback(it.close)
            return it

        yield make


@pytest.fixture
def channels(make_channels):
    return make_channels()


@pytest.mark.parametrize("channel", [False, True], ids=["inline", "rdma"])
def test_what_the_lost_channel_has_brought_is_refused(channels, channel):
    """The WRITE is with its worker, all of it, before it is sent again."""
    chance = random.Random(SEED)
    old, new = chance.randbytes(SIZE), chance.randbytes(SIZE)
    with channels.stopped():
        if channel:
            stale = rdma.send_channel_write(channels.lost, channels.file, old, 0)[0]
        else:
            stale = channels.lost.send_write(channels.file, old, 0)
        channels.stays.channel_sequence = 1
        channels.stays.write(channels.file, old).check()
        assert channels.path.read_bytes() == old
        channels.stays.write(channels.file, new).check()
        assert channels.path.read_bytes() == new
    assert channels.lost.wait(stale, 20).status == smb2.FILE_NOT_AVAILABLE
    assert channels.path.read_bytes() == new
    channels.until_direct(channels.stays)  # it goes on
    channels.lost.channel_sequence = 1
    channels.until_direct(channels.lost)  # and so does one that has come back


def test_the_client_goes_on_by_tcp(make_channels):
    """No worker sees that: smbd does, and its module tells them."""
    channels = make_channels(by_tcp=True)
    chance = random.Random(SEED)
    old, new = chance.randbytes(SIZE), chance.randbytes(SIZE)
    with channels.stopped():
        stale = channels.lost.send_write(channels.file, old, 0)
        channels.stays.channel_sequence = 1
        channels.stays.write(channels.file, old).check()
        channels.stays.write(channels.file, new).check()
    assert channels.lost.wait(stale, 20).status == smb2.FILE_NOT_AVAILABLE
    assert channels.path.read_bytes() == new
    with channels.link() as link:  # a WRITE that a thread is at
        grant = link.grants[channels.file]
        channels.mark(link, 1, 1)
        channels.stays.channel_sequence = 2
        waits = channels.stays.send_write(channels.file, old, 0)
        with pytest.raises(smb2.Timeout):
            channels.stays.wait(waits, 0.3)
        assert link.sequence(grant.slot)[1] == 2 and channels.path.read_bytes() == new
        channels.mark(link, 0)
        channels.stays.wait(waits, 10).check()
    assert channels.path.read_bytes() == old


def test_what_another_channel_has_under_way_is_waited_for(channels):
    """A WRITE that a thread is at, of another link: the test's, which has marked it and does it at last."""
    new = random.Random(SEED).randbytes(SIZE)
    with channels.link() as link:
        grant = link.grants[channels.file]
        channels.mark(link, 1)
        channels.stays.channel_sequence = 1
        waits = channels.stays.send_write(channels.file, new, 0)
        other = open_leased(channels.lost, f"other-{uuid.uuid4().hex}", RWH).file_id
        assert channels.lost.write(other, b"others do not wait").check()
        with pytest.raises(smb2.Timeout):
            channels.stays.wait(waits, 0.5)
        assert link.sequence(grant.slot)[1] == 1, "nobody begins another one"
        os.pwrite(grant.fd, b"\1" * SIZE, 0)
        channels.mark(link, 0)
        channels.stays.wait(waits, 10).check()
    assert channels.path.read_bytes() == new


def test_whose_link_has_died_is_not_waited_for(channels):
    with channels.link() as link:
        channels.mark(link, 1)
        channels.stays.channel_sequence = 1
        waits = channels.stays.send_write(channels.file, b"n" * SIZE, 0)
        with pytest.raises(smb2.Timeout):
            channels.stays.wait(waits, 0.2)
    channels.stays.wait(waits, 10).check()
    assert channels.path.read_bytes() == b"n" * SIZE
