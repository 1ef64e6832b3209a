# SPDX-License-Identifier: MIT
"""Client A has a file with a write lease, and a worker does its WRITEs directly; client B opens the file at a random moment.
What must hold, block of 4 KiB by block, whatever is killed:

- B reads each block as the last WRITE of it left it that A had an answer for, or as one left it that was in flight: all of
  the block is of one WRITE of this file.
- What B has read stays: nothing of A's that is done later changes it, but for WRITEs that A sends after it has acknowledged
  the break, which B then reads. What B has written since it opened the file stays as well.
- A reads what B has written.
- The file, as smbd over TCP and the disk have it, is the same at the end.

SMBDIRECTD_SEED is the seed of all that is random; a failure names it, with the round."""

import contextlib
import hashlib
import os
import pathlib
import random
import shutil
import signal
import tempfile
import time
import uuid

import pytest

from lib import leases, module_fixture, module_smbd, rdma, smb2
from lib.coherence import BLOCKS, GONE, PATIENCE, Model, Other, Writer, filled, stamps_of
from lib.direct_use import done
from lib.leases import RH, RWH
from lib.module_smbd import sockets_of
from lib.process import wait_until

SEED = int(os.environ.get("SMBDIRECTD_SEED", "20261130"))
FULL = bool(os.environ.get("SMBDIRECTD_FULL"))
ROUNDS = int(os.environ.get("SMBDIRECTD_ROUNDS", 1000 if FULL else 60))
SERIES = ("4.17", "4.22") if FULL else (module_smbd.own_series(),)
STEPS = ["before the grant", "before the first write", "writing", "revoked", "told", "acknowledged", "closing"]
OTHERS = 1_000_000  # the first stamp of B's
AT_ONCE, SOON = 4, 20  # seconds; B waits 35 for an answer to the break that nobody will give

pytestmark = pytest.mark.costs_workers


@pytest.fixture(scope="module", params=SERIES)
def server(request, scratch):
    """Shares on a disk, where threads do what may wait, and in memory, where the loop does all."""
    memory = pathlib.Path(tempfile.mkdtemp(prefix="smbdirectd-test-", dir="/dev/shm"))
    memory.chmod(0o777)
    shares = {"disk": {"vfs objects": "smbdirect"}, "memory": {"vfs objects": "smbdirect", "path": memory}}
    try:
        with module_fixture.running(scratch / f"coherence-{request.param}", request.param, shares=shares) as smbd:
            smbd.paths = {"disk": smbd.share_path("disk"), "memory": memory}
            yield smbd
    finally:
        shutil.rmtree(memory, ignore_errors=True)


@pytest.fixture
def daemon(server, make_daemon):
    pool = {"affinity": "spread", "iwarp": {"crc": False}, "limits": {"connection_rate_per_client": 0},
            "restart": {"backoff_increment_s": 0}}  # fmt: skip
    return make_daemon(server.port, workers=3, pool={**pool, "upstream": {"area": {"directory": str(server.links)}}})


def over_tcp(server, share, guid=None):
    c = smb2.over_tcp((server.address, server.port), guid)
    return c if guid else c.start(share, (smb2.SMB_3_0_2,), user=server.user, password=server.password, host=server.netbios_name)


def with_credits(c):
    while c.credits < 120:
        c.echo().check()
    return c


def worker_of(daemon, c):
    """The process that has the other end of this connection."""
    port = int(c.local.rsplit(":", 1)[1])
    wanted = f":{daemon.port:04X}", f":{port:04X}"
    with open("/proc/net/tcp") as f:
        rows = [line.split() for line in f.readlines()[1:]]
    inodes = {r[9] for r in rows if (r[1][-5:], r[2][-5:]) == wanted}
    for pid in daemon.worker_pids():
        if sockets_of(pid) & inodes:
            return pid
    raise AssertionError(f"no worker has the connection from port {port}")


class World:
    """shape: A's channels: one; and a second one by TCP, or at another worker. B comes by TCP or through smbdirectd."""

    def __init__(self, server, daemon, what, share, shape, by_tcp):
        self.server, self.daemon, self.what, self.share, self.shape = server, daemon, what, share, shape
        self.path = server.paths[share]
        self.channels = []
        self.b = with_credits(over_tcp(server, share) if by_tcp else rdma.session(daemon, server, share=share, user=True))
        self.third = with_credits(over_tcp(server, share))
        self.longest = 0.0  # seconds that B has waited after somebody was killed
        self.behind = 0  # times that the third client waited for nobody
        self.ends = {}  # path -> of which round, and what it has to be in the end

    def connect(self):
        """A's channels, and the link to the module with the first open."""
        known = set(self.server.client_pids())
        first = rdma.session(self.daemon, self.server, share=self.share, user=True)
        self.channels = [first]
        self.smbd = None
        (self.smbd,) = wait_until(lambda: set(self.server.client_pids()) - known, 10, "A's smbd")
        if self.shape == "tcp":
            second = smb2.over_tcp((self.server.address, self.server.port), first.guid)
        elif self.shape == "workers":
            second = rdma.client(self.daemon, first.guid)
        if self.shape != "one":
            self.channels.append(second.bind(first, self.server.user, self.server.password))
        for c in self.channels:
            with_credits(c)
        if self.shape == "workers":
            assert worker_of(self.daemon, first) != worker_of(self.daemon, second)
        for c in self.channels:
            opened = leases.open_leased(c, "asks-for-the-link", leases.RWH)
            c.close_file(opened.file_id).check()
        return self

    def begin(self, number):
        """(what is drawn from, the file's model, A)"""
        label = f"seed {SEED}, {self.what}, round {number}"
        chance = random.Random(label)
        self.name = f"coherent-{uuid.uuid4().hex}"
        model = Model(label)
        (self.path / self.name).write_bytes(model.whole())
        return chance, model, Writer(self.channels, self.name, model, chance)

    def on_disk(self):
        return (self.path / self.name).read_bytes()

    def keep(self, model, data):
        """It is looked at again when all is over."""
        self.ends[self.path / self.name] = model.label, hashlib.sha256(data).digest(), stamps_of(data)

    def end(self):
        for path, (label, wanted, stamps) in self.ends.items():
            data = path.read_bytes()
            now = {block: change for block, change in enumerate(zip(stamps, stamps_of(data))) if len(set(change)) > 1}
            assert hashlib.sha256(data).digest() == wanted, f"{label}: changed later; WRITEs by block (B's from {OTHERS} on): {now}"
            path.unlink()
        self.b.close_transport()
        self.third.close_transport()


def overwriting(chance):
    """Blocks that B writes: [(stamp, block)]."""
    return [(OTHERS + i, block) for i, block in enumerate(chance.sample(range(BLOCKS), 6))]


def applied(stamps, overwritten):
    """The file as it is then."""
    stamps = list(stamps)
    for stamp, block in overwritten:
        stamps[block] = stamp
    return stamps, b"".join(filled(stamp, block) for block, stamp in enumerate(stamps))


def acknowledge(writer, broken):
    """Per block what may be there when the break is acknowledged."""
    may_be = writer.model.may_be()
    c, message_id = writer.send_acknowledge(broken)
    end = time.monotonic() + PATIENCE
    while message_id not in c.responses:
        writer.hear(0.01)
        assert time.monotonic() < end, f"{writer.model.label}: no answer to the acknowledgement"
    c.wait(message_id).check()
    return may_be


def one_round(world, number):
    """Nobody is killed."""
    chance, model, writer = world.begin(number)
    assert writer.open() == RWH
    if chance.randrange(4):  # the first WRITE is smbd's, and so are those behind it that do not wait for its answer
        writer.send()
        writer.settle()
    patient = chance.randrange(4) != 0  # all is answered before it acknowledges
    overwritten = overwriting(chance) if patient else []
    other = Other(world.b, world.name, model, chance.uniform(0, 0.06), overwritten)
    broken = writer.write_on()
    assert (broken.key, broken.current, broken.new) == (writer.key, RWH, RH)
    if patient:
        writer.settle()
    may_be = acknowledge(writer, broken)
    found = model.check(other.done(), "B", may_be)
    writer.settle()
    if not patient:  # what was in flight may have come later; B's thread has ended
        model.check(other.read(), "B, when all is answered")
        found = model.answered
    assert found == model.answered
    model.answered, data = applied(found, overwritten)
    assert writer.read_all() == data, f"{model.label}: A reads something else than B has written"
    for _ in range(3):
        writer.send()
    writer.settle()
    data = model.whole()
    assert other.read() == data, f"{model.label}: B reads something else than A has written"
    assert world.on_disk() == data
    world.b.close_file(other.file).check()
    writer.channels[0].close_file(writer.file).check()
    for c in writer.channels:
        c.unsolicited.clear()
    world.keep(model, data)
    return writer.wrote


PLAIN = [("one", False), ("one", True), ("tcp", True), ("workers", True), ("workers", False)]


@pytest.mark.parametrize("share", ["disk", "memory"])
@pytest.mark.parametrize("shape,by_tcp", PLAIN, ids=["rdma", "tcp", "second-channel-tcp", "two-workers-tcp", "two-workers"])
def test_b_reads_what_a_was_answered(server, daemon, share, shape, by_tcp):
    world = World(server, daemon, f"{share}, {shape}, B {'by TCP' if by_tcp else 'through smbdirectd'}", share, shape, by_tcp)
    world.connect()
    before = done(daemon)
    wrote = sum(one_round(world, number) for number in range(ROUNDS // 2))
    world.end()
    for c in world.channels:
        c.close_transport()
    # Not many: the first WRITE of each file is smbd's, and so is all that is in flight when the lease goes.
    least = ROUNDS // 2
    wait_until(lambda: done(daemon)[1] - before[1] >= least, 5, lambda: f"{least} of {wrote} direct: {before} {done(daemon)}")
    print(f"{world.what}: {wrote} WRITEs, direct (READs, WRITEs): {before} -> {done(daemon)}")


# --- somebody is killed ---


class Victim:
    """Who is killed in a round: A, its smbd, or the worker of its last channel."""

    def __init__(self, world, kind):
        self.world, self.kind = world, kind
        self.pid = {"A": lambda: None, "smbd": lambda: world.smbd, "worker": lambda: worker_of(world.daemon, world.channels[-1])}[kind]()

    def kill(self, writer):
        if self.kind == "A":
            writer.reset()
        else:
            os.kill(self.pid, signal.SIGKILL)


def lead_up(world, step, chance, writer, kill):
    """To the step, and kills. (B, which has the file open or waits for it; the break that A was told of and has not answered)"""

    def other():
        return Other(world.b, world.name, writer.model, chance.uniform(0, 0.004), overwriting(chance))

    if step == "before the grant":
        writer.send_open()
        b = other() if chance.randrange(2) else None
        kill()
        return b or other(), None
    assert writer.open() == RWH
    if step == "before the first write":
        b = other() if chance.randrange(2) else None
        kill()
        return b or other(), None
    writer.send()
    writer.settle()
    writer.write_on(chance.uniform(0.005, 0.03))
    if step == "writing":
        kill()
        return other(), None
    if step == "closing":
        writer.settle()
        writer.channels[0].send(smb2.CLOSE, smb2.close_body(writer.file))
        b = other()
        kill()
        return b, None
    b = other()
    if step == "revoked":
        b.asked.wait(PATIENCE)  # the module has revoked it, or is about to; A does not listen any more
        writer.send()
        kill()
        return b, None
    broken = writer.wait_break()
    if step == "acknowledged":
        writer.settle()
        writer.send_acknowledge(broken)
    kill()
    return b, broken


def to_the_end(writer, victim):
    """What A still sends, and what it is answered, until all its connections have ended."""
    end = time.monotonic() + PATIENCE
    with contextlib.suppress(*GONE):
        while victim.kind != "A" and time.monotonic() < end:
            if writer.file and len(writer.flying) < 8:
                writer.send()
            writer.hear(0.002)
    assert time.monotonic() < end, f"{writer.model.label}: A's connections do not end"


def goes_on(writer, b, broken):
    """On the channel that is left: it answers the break, and has the file. A break that was lost with the other channel it
    never hears of, and closes the file. smbd may end it as well, if it was about to tell the lost one of the break."""
    writer.lose(writer.channels[-1])
    end = time.monotonic() + 1
    with contextlib.suppress(*GONE):
        while not b.opened.is_set():
            writer.hear(0.005)
            broken = broken or writer.broken()
            if broken:
                writer.settle()
                writer.send_acknowledge(broken)
                broken = None
            if time.monotonic() > end and writer.file:
                writer.settle()
                writer.channels[0].send(smb2.CLOSE, smb2.close_body(writer.file))
                writer.file = None


def b_goes_on(world, b, kind, step):
    """A's smbd ends, and B has the file then; or when somebody else has had it: smbd lets B wait for 70 seconds when it has asked
    while a process that was killed was still there, if only as a zombie. 4.22 wakes B only when the other one closes it."""
    if kind != "smbd":
        begun = time.monotonic()
        assert b.opened.wait(SOON), f"{world.what}: B still waits, and smbd {world.smbd} is {stray(world)}"
        world.longest = max(world.longest, time.monotonic() - begun)
    wait_until(lambda: not os.path.exists(f"/proc/{world.smbd}"), SOON, "A's smbd gone")
    delayed = kind == "smbd" and step == "acknowledged"
    world.third.close_file(open_after_kill(world, b) if delayed else world.third.create(world.name)).check()


def open_after_kill(world, b):
    """The FileId. Who asks first has A's open forgotten, and waits all the same, for 70 seconds, if A still had the break of its RH
    to answer, which comes of B's WRITEs: smbd (delay_for_oplock_fn) looks for breaks under way before it looks if anybody is
    there. With 4.17 it is 2 seconds, as B's WRITE changes the record then. B has the file by then, and who asks next as well."""
    asked = world.third.send(smb2.CREATE, smb2.create_body(world.name))
    with contextlib.suppress(smb2.Timeout):
        return world.third.wait(asked, AT_ONCE).check().pdu[128:144]
    assert b.opened.is_set(), f"{world.what}: B and the third client wait, and A's smbd is gone"
    world.behind += 1
    world.third.cancel(asked)
    assert world.third.wait(asked, SOON).status == smb2.CANCELLED
    return world.third.create(world.name)


def stray(world):
    """What A's smbd is at, for the message: one without a connection that has not noticed is protocol/proxy/vfs/stray.c's."""
    if not os.path.exists(f"/proc/{world.smbd}"):
        return "gone"
    return "served" if world.smbd in world.server.client_pids() else "there without a connection"


def killing_round(world, number, kind):
    step = STEPS[number % len(STEPS)]
    chance, model, writer = world.begin(f"{number} ({step})")
    victim = Victim(world, kind)
    wait = chance.choice((0, chance.uniform(0, 0.003)))

    def kill():
        time.sleep(wait)
        victim.kill(writer)

    b, broken = lead_up(world, step, chance, writer, kill)
    if kind == "worker" and len(world.channels) > 1:
        goes_on(writer, b, broken)
    else:
        to_the_end(writer, victim)
        b_goes_on(world, b, kind, step)
    found = model.check(b.done(), "B")
    _, data = applied(found, b.overwrite)
    assert b.read() == data, f"{model.label}: what B has read or written was changed"
    assert world.on_disk() == data, f"{model.label}: what B has read or written was changed on disk"
    world.keep(model, data)
    world.b.close_file(b.file).check()
    writer.close()
    return writer.wrote


VICTIMS = [("A", "one", False), ("A", "workers", True), ("smbd", "one", True), ("smbd", "workers", False), ("worker", "one", True),
           ("worker", "workers", True)]  # fmt: skip


@pytest.mark.parametrize("kind,shape,by_tcp", VICTIMS, ids=lambda value: value if isinstance(value, str) else "")
def test_somebody_is_killed(server, daemon, kind, shape, by_tcp):
    """At each step. What A was answered B has read, or B had not opened the file yet."""
    what = f"{kind} of {shape} killed, B {'by TCP' if by_tcp else 'through smbdirectd'}"
    worlds = [World(server, daemon, f"{share}, {what}", share, shape, by_tcp) for share in ("disk", "memory")]
    wrote, before = 0, done(daemon)[1]
    for number in range(ROUNDS):
        world = worlds[number // len(STEPS) % 2].connect()
        wrote += killing_round(world, number, kind)
    for world in worlds:
        world.end()
    if kind != "worker":  # its counters go with it
        least = ROUNDS // 2
        wait_until(lambda: done(daemon)[1] - before >= least, 5, lambda: f"{least} of {wrote} direct: {before} {done(daemon)}")
    longest, behind = max(world.longest for world in worlds), sum(world.behind for world in worlds)
    print(f"{what}: {wrote} WRITEs were answered, B waited for {longest:.3f} s at most, the third {behind} times for nobody")
