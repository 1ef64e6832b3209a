# SPDX-License-Identifier: MIT
"""An smbd whose vfs_smbdirect lies (lib/area_liar.py): its own client gets what it would get without, or loses that one
connection; a client of the same worker with a server of its own goes on by its area, byte for byte; the worker keeps no
memory and no descriptor, and fills no log."""

import os
import random
import time

import pytest

from lib import rdma
from lib.area_liar import WAYS, Liars, guid_for
from lib.area_link import mapped
from lib.area_use import THRESHOLD, moved, warm
from lib.daemon import Smbdirectd
from lib.process import wait_until
from lib.resources import descriptors

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the daemon trusts no other's module")

GONE = (rdma.Closed, rdma.Terminated)
DATA = random.Random("area liars").randbytes(4 * THRESHOLD)
ENDS = """
    counts_one_too_many counts_what_nobody_could succeeds_without_a_body answers_as_a_read answers_twice
    answers_what_nobody_asked pends_without_an_end closes_its_link ends_at_once
""".split()
HANGS = ["answers_half", "never_answers"]  # as it would without the module
INLINE = ["says_nothing", "says_half", "says_more", "says_garbage", "adds_the_area_twice"]
WRONG = ["writes_over_all_of_the_area"]  # the data of its own client, as an smbd can
BY_AREA = [name for name in WAYS if name not in ENDS + HANGS + INLINE + WRONG]
MOST_LINES = 40


@pytest.fixture(scope="module")
def place(scratch, smbd):
    """(daemon, smbd) with the liars between, and one worker."""
    links = scratch / "liars"
    links.mkdir(mode=0o700)
    liars = Liars(smbd.port, links)
    pool = {"upstream": {"area": {"directory": str(links)}, "direct": {"enabled": False}}}
    with Smbdirectd(scratch / "liars-daemon", liars.port, workers=1, pool=pool) as daemon:
        yield daemon, smbd
    liars.stop()


class Client:
    def __init__(self, place, way):
        self.daemon, smbd = place
        self.c = rdma.session(self.daemon, smbd, guid=guid_for(way))
        self.file = self.c.create(f"liar-{os.urandom(8).hex()}")
        rdma.channel_write(self.c, self.file, DATA).check()

    def read(self):
        response, data = rdma.channel_read(self.c, self.file, len(DATA))
        assert response.check()
        return data

    def exchange(self):
        assert rdma.channel_write(self.c, self.file, DATA).check().count == len(DATA)
        assert self.read() == DATA

    def until(self, condition):
        """READs until then, each of them right."""
        end = time.monotonic() + 20
        while not condition():
            self.exchange()
            assert time.monotonic() < end, "it did not come to that"


@pytest.fixture
def bystander(place):
    b = Client(place, "honest")
    warm(b.daemon, b.c, b.file)
    b.exchange()
    yield b
    b.c.close_transport()


@pytest.mark.parametrize("way", [name for name in WAYS if name != "honest"])
def test_beside_a_client(place, bystander, way):
    daemon, _ = place
    (worker,) = daemon.worker_pids()
    held, lines = descriptors(worker), daemon.log.count("\n")
    assert mapped(worker) == 1
    liar = Client(place, way)
    liar.c.timeout = 3 if way in HANGS else 20
    try:
        if way in ENDS:
            with pytest.raises(GONE):
                liar.until(lambda: False)
        elif way in HANGS:
            with pytest.raises(rdma.Timeout):
                liar.until(lambda: False)
        elif way in WRONG:
            # Where it is overwritten between its arrival and its checksum, the connection is lost, as by a broken line.
            with pytest.raises((AssertionError, *GONE)) as ended:
                liar.until(lambda: False)
            assert "it did not come to that" not in str(ended.value)
            if ended.type is AssertionError:
                assert len(liar.read()) == len(DATA)
        else:
            before, end = moved(daemon), time.monotonic() + 1.5
            liar.until(lambda: time.monotonic() > end and (way in INLINE or moved(daemon)[0] > before[0] + 3))
            if way in INLINE:
                assert mapped(worker) == 1  # the bystander's
        # While it goes on.
        before = moved(daemon)
        for _ in range(3):
            bystander.exchange()
        wait_until(lambda: moved(daemon) >= (before[0] + 3, before[1] + 3), 5, "the bystander's by its area")
        if way == "sends_descriptors":
            assert descriptors(worker) < held + 20
    finally:
        liar.c.close_transport()
    wait_until(lambda: mapped(worker) == 1, 10, lambda: f"the liar's area unmapped: {mapped(worker)}")
    wait_until(lambda: descriptors(worker) <= held, 10, lambda: f"{held} descriptors, not {descriptors(worker)}")
    bystander.exchange()
    assert daemon.worker_pids() == [worker]
    assert daemon.log.count("\n") - lines < MOST_LINES, daemon.log[-3000:]


def test_the_player_can_be_honest(place, bystander):
    """Else nothing of the above would prove anything."""
    before = moved(bystander.daemon)
    for _ in range(10):
        bystander.exchange()
    wanted = tuple(n + 10 for n in before)
    wait_until(lambda: moved(bystander.daemon) >= wanted, 5, lambda: f"{wanted} by the area, not {moved(bystander.daemon)}")
