# SPDX-License-Identifier: MIT
"""The number of workers and the pool file changed under load: no connection attempt fails, no byte is wrong, and those
who stay connected notice nothing."""

import json
import os
import pathlib
import random
import threading
import time

import pytest
from lib import rdma, smb2
from lib.iwarp import Closed
from lib.process import alive, wait_until
from lib.smbdirect import SmbDirect

FULL = bool(os.environ.get("SMBDIRECTD_FULL"))
LOOPS, LASTING, SIZE = 14, 2, 10_000
RELOADS = 50 if FULL else 20


class Traffic:
    """`loops` clients that come, write and read back by RDMA and inline, compare and go, without a pause; and `lasting`
    ones that stay connected and do the same. A failure of any is one of the test."""

    def __init__(self, daemon, loops, lasting):
        self.to = daemon.address, daemon.port
        self.over = threading.Event()
        self.failures, self.turns, self.visits = [], [0] * lasting, [0] * loops
        whom = [(self.visitor, n) for n in range(loops)] + [(self.resident, n) for n in range(lasting)]
        self.threads = [threading.Thread(target=self.guarded, args=one, daemon=True) for one in whom]
        for thread in self.threads:
            thread.start()

    def guarded(self, run, number):
        try:
            run(number)
        except BaseException as e:
            self.failures.append(f"{run.__name__} {number}: {e!r}")
            self.over.set()

    def client(self, number):
        made = smb2.Client(SmbDirect.connect(self.to, source=(f"127.0.0.{number + 2}", 0), crc=False))
        made.start()
        return made

    def turn(self, client, file, seed):
        rdma.write_and_read_back(client, file, random.Random(seed).randbytes(SIZE))

    def visitor(self, number):
        while not self.over.is_set():
            with self.client(number) as client:
                file = client.create(f"visitor-{number}")
                self.turn(client, file, self.visits[number])
                client.close_file(file).check()
            self.visits[number] += 1

    def resident(self, number):
        with self.client(100 + number) as client:
            file = client.create(f"resident-{number}")
            while not self.over.is_set():
                self.turn(client, file, self.turns[number])
                self.turns[number] += 1
            client.close_file(file).check()

    def wait_for_more(self, visits=1, turns=1):
        """Until every client has made so many more."""
        before = self.turns[:], self.visits[:]
        wait_until(
            lambda: self.failures
            or (
                all(now >= was + turns for now, was in zip(self.turns, before[0], strict=True))
                and all(now >= was + visits for now, was in zip(self.visits, before[1], strict=True))
            ),
            60,
            lambda: f"since {before}: {self.turns}, {self.visits}",
        )
        assert not self.failures, self.failures

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join(60)
        assert not self.failures, self.failures
        assert not any(thread.is_alive() for thread in self.threads)


@pytest.fixture
def pool(smbd, make_daemon):
    return make_daemon(smbd.port, workers=2, pool={"affinity": "spread", "limits": {"connection_rate_per_client": 0}})


def change(daemon, **keys):
    daemon.pool.update(keys)
    daemon.pool_path.write_text(json.dumps(daemon.pool))


def refused(daemon):
    status = daemon.ctl("status")
    return {name: count for name, count in status.items() if name.startswith("refused") and count}


def test_resize_under_load(pool):
    lasting = Traffic(pool, 0, LASTING)
    lasting.wait_for_more()
    traffic = Traffic(pool, LOOPS, 0)
    for count in (8, 1, 3, 2):
        told = pool.ctl("resize", str(count))
        assert told["workers"] == count, told
        traffic.wait_for_more(visits=3), lasting.wait_for_more()
        assert pool.ctl("status")["workers"] == count
    traffic.stop()
    lasting.wait_for_more()
    # Each worker that nobody uses any more has gone; those that the lasting clients have, have not.
    held = {c["worker"] for c in pool.ctl("connections")}
    wait_until(lambda: len(pool.workers()) <= 2 + len(held), 20, lambda: pool.ctl("workers"))
    lasting.stop()
    wait_until(lambda: len(pool.workers()) == 2, 20, lambda: pool.ctl("workers"))
    assert not refused(pool), pool.log
    print(f"{sum(traffic.visits)} visits, {sum(lasting.turns)} turns of lasting clients, no failure")


def test_reloads_under_load(pool):
    traffic = Traffic(pool, LOOPS, LASTING)
    traffic.wait_for_more()
    for number in range(RELOADS):
        change(pool, smbdirect={"idle_timeout_ms": 100_000 + number}, workers=1 + number % 3)
        told = {c["key"]: c["applies"] for c in pool.ctl("reload")}
        assert told["/smbdirect/idle_timeout_ms"].startswith("to new connections"), told
        if number % 5 == 0:
            traffic.wait_for_more()
    change(pool, workers=2)
    pool.ctl("reload")
    traffic.wait_for_more(visits=2)
    traffic.stop()
    wait_until(lambda: len(pool.workers()) == 2, 30, lambda: pool.ctl("workers"))
    assert not refused(pool), pool.log
    assert not [line for line in pool.log.splitlines() if "killed" in line or " error: " in line], pool.log
    print(f"{RELOADS} reloads, {sum(traffic.visits)} visits, {sum(traffic.turns)} turns of lasting clients, no failure")


def test_a_drain_deadline_ends_those_who_stay(smbd, make_daemon):
    """They connect again and find what they wrote."""
    daemon = make_daemon(smbd.port, workers=2, pool={"shutdown": {"drain_deadline_ms": 500}})
    traffic = Traffic(daemon, 0, 0)
    client = traffic.client(0)
    file = client.create("stays")
    client.write(file, b"written", 0).check()
    (mine,) = daemon.ctl("connections")
    worker = daemon.workers()[mine["worker"]]
    change(daemon, smbdirect={"idle_timeout_ms": 99_000})
    daemon.ctl("reload")
    began = time.monotonic()
    wait_until(lambda: not alive(worker), 10, lambda: daemon.ctl("workers"))
    assert time.monotonic() - began > 0.2, "it had half a second"
    with traffic.client(0) as again:
        assert again.read(again.create("stays", disposition=1), 7).check().data == b"written"


def test_new_connections_have_the_new_settings_and_old_ones_the_old(smbd, make_daemon):
    daemon = make_daemon(smbd.port, workers=1)
    to = daemon.address, daemon.port
    with SmbDirect.connect(to) as before:
        assert before.max_send_size == 8192
        change(daemon, smbdirect={"max_receive_size": 4096, "receive_credit_max": 40, "receive_credit_initial": 8})
        told = {c["key"] for c in daemon.ctl("reload")}
        assert told == {"/smbdirect/max_receive_size", "/smbdirect/receive_credit_max", "/smbdirect/receive_credit_initial"}
        generation = max(w["generation"] for w in daemon.ctl("workers"))
        assert generation == 2
        wait_until(lambda: any(w["generation"] == 2 and w["state"] == "ready" for w in daemon.ctl("workers")), 10)
        with smb2.Client(SmbDirect.connect(to, source=("127.0.0.9", 0))) as after:
            after.start()
            assert after.transport.max_send_size == 4096
            assert {c["worker"] for c in daemon.ctl("connections")} == {0, 1}


def victims_row(daemon):
    """Once the daemon knows its ClientGuid."""
    return next((c for c in daemon.ctl("connections") if c["client"].startswith("127.0.0.3:") and c["guid"]), None)


def test_kick_ends_the_connections_of_one_client(smbd, make_daemon):
    """By its ClientGuid, its address or a number: with a goodbye that the client sees, and no other client's."""
    daemon = make_daemon(smbd.port, workers=2)
    traffic = Traffic(daemon, 0, 0)
    with traffic.client(50) as other:
        for whose in (lambda c: c["guid"], lambda c: c["guid"].upper(), lambda c: "127.0.0.3", lambda c: c["client"], lambda c: str(c["number"])):
            victim = traffic.client(1)
            victim.create("victim")
            mine = wait_until(lambda: victims_row(daemon), 10, lambda: daemon.ctl("connections"))
            assert daemon.ctl("kick", whose(mine)) == {"connections": 1}
            with pytest.raises(Closed):
                victim.timeout = 10
                while True:
                    victim.echo()
            victim.close_transport()
            wait_until(lambda: len(daemon.ctl("connections")) == 1, 10, lambda: daemon.ctl("connections"))
            assert "ended by an administrator" in daemon.log
        assert other.echo().status == smb2.SUCCESS


def test_the_log_level_is_that_of_workers_too(smbd, make_daemon):
    daemon = make_daemon(smbd.port, workers=1, pool={"log": {"level": "notice"}})
    traffic = Traffic(daemon, 0, 0)

    def connect():
        with traffic.client(1) as client:
            client.create("logged")
        wait_until(lambda: not daemon.ctl("connections"), 10, lambda: daemon.ctl("connections"))

    connect()
    assert "connection established" not in daemon.log
    assert daemon.ctl("log-level", "info") == {"level": "info"}
    connect()
    daemon.wait_for_log("connection established")
    change(daemon, log={"level": "notice"})
    assert [c["applies"] for c in daemon.ctl("reload")] == ["at once"]
    before = daemon.log_position()
    connect()
    assert "connection established" not in daemon.log_since(before)
    assert len(daemon.workers()) == 1 and {w["generation"] for w in daemon.ctl("workers")} == {1}


WRONG = [
    ("{", "pool.json:1"),
    ('{"workers": 0}', "/workers is 0; allowed"),
    ('{"workers": 2, "workers": 3}', "/workers"),
    ('{"nonsense": 1}', "/nonsense"),
]


@pytest.mark.parametrize("text,said", WRONG)
def test_a_wrong_file_changes_nothing(pool, text, said):
    pool.pool_path.write_text(text)
    done = pool.ctl("reload", check=False)
    assert done.returncode == 1 and "nothing has changed" in done.stderr and said in done.stderr, done.stderr
    assert pool.ctl("status")["workers"] == 2
    with Traffic(pool, 0, 0).client(1) as client:
        assert client.create("still")


def test_commands_are_told_what_is_wrong_with_them(pool):
    for words, status, said in [
        (["resize"], 2, "needs an argument, N"),
        (["resize", "many"], 2, "is no number"),
        (["resize", "-1"], 2, ""),
        (["resize", "2", "3"], 2, "unexpected argument"),
        (["resize", "0"], 1, "allowed: 1 to 64"),
        (["resize", "65"], 1, "allowed: 1 to 64"),
        (["resize", "99999999999"], 1, "is no number"),
        (["reload", "now"], 2, "unexpected argument"),
        (["drain", "x"], 2, "is no number"),
        (["drain", "7"], 1, "there is no worker 7"),
        (["log-level", "loud"], 1, 'no log level; allowed: "error"'),
        (["kick"], 2, "needs an argument, WHOSE"),
        (["kick", "nobody"], 1, "no connection has"),
    ]:
        done = pool.ctl(*words, check=False)
        assert done.returncode == status and said in done.stderr, (words, done)
    assert pool.ctl("reload", check=False).stdout == "nothing has changed\n"


def processors_of(pid):
    line = next(one for one in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("Cpus_allowed_list:"))
    return line.split(":")[1].strip()


def test_workers_are_placed_on_processors(smbd, make_daemon):
    usable = sorted(os.sched_getaffinity(0))
    daemon = make_daemon(smbd.port, workers=2, pool={"placement": str(usable[-1])})
    assert {processors_of(pid) for pid in daemon.worker_pids()} == {str(usable[-1])}
    assert os.sched_getaffinity(daemon.pid) == set(usable), "the daemon itself is where it was"
    before = daemon.worker_pids()
    for placement in ("auto", ",".join(map(str, usable[:2])), "none"):
        change(daemon, placement=placement)
        (told,) = daemon.ctl("reload")
        assert told["key"] == "/placement" and told["applies"].startswith("to new connections"), told
        now = wait_until(
            lambda before=before: (lambda them: len(them) == 2 and not set(them) & set(before) and them)(daemon.worker_pids()),
            20,
            lambda: daemon.ctl("workers"),
        )
        where = sorted(processors_of(pid) for pid in now)
        if placement == "none":
            assert len(set(where)) == 1 and os.sched_getaffinity(now[0]) == set(usable), where
        elif placement != "auto":
            assert where == sorted(map(str, (usable * 2)[:2] if len(usable) == 1 else usable[:2])), where
        else:
            assert len(set(where)) == min(2, len(usable)), where
        before = now
    change(daemon, placement="1023")
    daemon.ctl("reload")
    daemon.wait_for_log("workers are not placed")
