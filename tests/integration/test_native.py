# SPDX-License-Identifier: MIT
"""Upstream mode "channel": a native server, reference-peer, whose processes get the connections of their clients."""

import json
import os
import signal
import threading
import uuid

import pytest

from lib import rdma, smb2
from lib.files import assert_same_tree, content, digests, make_file, make_tree
from lib.process import alive, wait_until
from lib.smbd import smbclient

DATA = b"".join(content(3 * 1024 * 1024 + 17, 7))


def shown(daemon, condition, what, deadline=1):
    """The clients, once `condition` holds for them."""
    return wait_until(
        lambda: (lambda c: (c,) if condition(c) else None)(daemon.ctl("clients")),
        deadline,
        lambda: f"{what}: {daemon.ctl('clients')}",
    )[0]


def another(native, first, **kw):
    """A further connection of the first one's client, bound to its session."""
    daemon, _, smbd = native
    return rdma.client(daemon, guid=first.guid, **kw).bind(first, smbd.user, smbd.password)


def write_and_read(writer, reader, file, data, offset):
    """By RDMA in both directions, in the pieces a client would use."""
    for at in range(0, len(data), 1 << 20):
        rdma.channel_write(writer, file, data[at : at + (1 << 20)], offset + at).check()
    for at in range(0, len(data), 1 << 20):
        piece = data[at : at + (1 << 20)]
        response, placed = rdma.channel_read(reader, file, len(piece), offset + at)
        assert response.check() and placed == piece


def test_a_client_is_served_by_a_child_of_its_own(native):
    daemon, peer, smbd = native
    with rdma.session(daemon, smbd, user=True) as c, rdma.session(daemon, smbd, user=True) as other:
        first, second = peer.wait_children(2)
        clients = shown(daemon, lambda them: len(them) == 2, "two clients")
        by_guid = {client["guid"]: client["smbd"] for client in clients}
        assert by_guid == {
            str(uuid.UUID(bytes_le=c.guid)): [first],
            str(uuid.UUID(bytes_le=other.guid)): [second],
        }
        write_and_read(c, c, c.create("channel"), DATA, 0)
        status = daemon.ctl("status")
        assert (status["upstream"], status["main_process"]) == ("channel", peer.pid)
        assert (status["processes_asked"], status["channels_passed"]) == (2, 0)
    shown(daemon, lambda them: not them, "no client")
    peer.wait_children(0)
    for end in peer.channel_ends():
        assert end["counters"]["rdma_read"][1] in (0, len(DATA)), end


def test_channels_join_across_workers_that_drain_and_come(native):
    """Of a client whose first connection stays with a worker that is to end, later ones come to others, and join."""
    daemon, peer, smbd = native
    with rdma.session(daemon, smbd, user=True) as first:
        file = first.create("shared")
        (child,) = peer.wait_children(1)
        (mine,) = daemon.ctl("connections")
        assert mine["area"] is None and mine["area_reason"] is None  # of smbd's alone
        daemon.pool["smbdirect"] = {"idle_timeout_ms": 99_000}
        daemon.pool_path.write_text(json.dumps(daemon.pool))
        assert [c["key"] for c in daemon.ctl("reload")] == ["/smbdirect/idle_timeout_ms"]
        wait_until(lambda: {"draining", "ready"} == {w["state"] for w in daemon.ctl("workers")}, 10, lambda: daemon.ctl("workers"))
        with another(native, first, source=("127.0.0.5", 0)) as second:
            assert len({c["worker"] for c in daemon.ctl("connections")}) == 2
            write_and_read(first, second, file, DATA, 0)
            write_and_read(second, first, file, DATA, len(DATA))
            (client,) = shown(daemon, lambda them: them[0]["channels"] == 2, "two channels")
            assert client["smbd"] == [child] and mine["worker"] in client["workers"]
            first.close_transport()
            wait_until(lambda: len(daemon.workers()) == 2, 10, lambda: daemon.ctl("workers"))
            write_and_read(second, second, file, DATA[:70000], 7)
            (client,) = shown(daemon, lambda them: them[0]["channels"] == 1, "one channel")
            assert client["smbd"] == [child]


def test_further_channels_of_a_client_go_to_the_process_that_serves_it(native):
    """The second arrives at the other worker, and goes through the supervisor and the first; the third at a worker that
    has one already, which passes it on by itself."""
    daemon, peer, smbd = native
    with rdma.session(daemon, smbd, user=True) as first:
        file = first.create("shared")
        (child,) = peer.wait_children(1)
        with another(native, first, source=("127.0.0.5", 0)) as second:
            write_and_read(first, second, file, DATA, 0)
            write_and_read(second, first, file, DATA, len(DATA))
            (client,) = shown(daemon, lambda them: them[0]["channels"] == 2, "two channels")
            assert (client["smbd"], client["workers"]) == ([child], [0, 1])
            assert client["addresses"] == ["127.0.0.1", "127.0.0.5"]
            with another(native, first) as third:
                write_and_read(third, second, file, DATA[:70000], 5)
                (client,) = shown(daemon, lambda them: them[0]["channels"] == 3, "three channels")
                assert client["smbd"] == [child]
                assert daemon.ctl("status")["channels_passed"] == 1
            shown(daemon, lambda them: them[0]["channels"] == 2, "two channels again")
        # The rest goes on, and the last one's end is the process's.
        write_and_read(first, first, file, DATA[:70000], 0)
        assert peer.children() == [child]
    shown(daemon, lambda them: not them, "no client")
    peer.wait_children(0)
    used = [end["counters"] for end in peer.channel_ends()]
    assert len(used) == 3 and all(c["rdma_read"][1] for c in used), used
    assert sum(c["rdma_write"][1] for c in used) == 2 * len(DATA) + 2 * 70000


def test_connections_of_one_instant_end_in_one_process(native):
    daemon, peer, smbd = native
    for round_number in range(15):
        guid = uuid.uuid4().bytes
        clients = [rdma.client(daemon, guid=guid) for _ in range(4)]
        threads = [threading.Thread(target=c.negotiate, daemon=True) for c in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in threads)
        (client,) = shown(daemon, lambda them: them and them[0]["channels"] == 4, f"round {round_number}: four channels")
        assert client["smbd"] == peer.wait_children(1)
        for c in clients:
            c.close_transport()
        shown(daemon, lambda them: not them, "no client")
        peer.wait_children(0)
    assert len(peer.starts()) == 15


def test_signed_and_encrypted_sessions_and_old_dialects(native):
    daemon, peer, smbd = native
    for options in ({"sign": True}, {"encrypt": True, "dialect": smb2.SMB_3_1_1}, {"dialect": 0x0202}):
        with rdma.session(daemon, smbd, **options) as c:
            file = c.create("plain")
            for at in range(0, 200000, 50000):
                c.write(file, DATA[at : at + 50000], at).check()
            assert c.read(file, 60000, 30000).check().data == DATA[30000:90000]
    # Below 2.1 there is no GUID to serve anybody by.
    peer.wait_children(0)
    assert len(peer.starts()) == 3 and peer.starts()[2]["guid"] == "0" * 32


# --- who dies ---


def gone(c):
    with pytest.raises((rdma.Closed, rdma.Terminated, rdma.Timeout)):
        c.echo(timeout=5)
    c.close_transport()


def works(native):
    daemon, peer, smbd = native
    with rdma.session(daemon, smbd, user=True) as c:
        write_and_read(c, c, c.create("works"), DATA[:100000], 0)
        shown(daemon, lambda them: str(uuid.UUID(bytes_le=c.guid)) in [x["guid"] for x in them], "the new client")


def test_the_process_of_a_client_dies(native):
    daemon, peer, smbd = native
    with rdma.session(daemon, smbd, user=True) as first, rdma.session(daemon, smbd, user=True) as other:
        second = another(native, first)
        (pid,) = next(
            c["smbd"] for c in daemon.ctl("clients") if c["guid"] == str(uuid.UUID(bytes_le=first.guid))
        )
        os.kill(pid, signal.SIGKILL)
        shown(daemon, lambda them: [c["guid"] for c in them] == [str(uuid.UUID(bytes_le=other.guid))], "the other")
        gone(first)
        gone(second)
        assert other.echo().check()
        works(native)


@pytest.mark.parametrize("label", ["started", "opened", "attached"])
def test_a_started_process_dies_on_its_way(make_daemon, make_peer, smbd, label):
    """Its client is told at once; the one that waited for it gets a process of its own, and the same happens to that."""
    daemon = make_daemon(smbd.port, pool={"affinity": "spread", "upstream": {"mode": "channel"}})
    stopping = make_peer(daemon, smbd, "--stop-at", label)
    guid = uuid.uuid4().bytes
    failures = []

    def negotiate(c):
        try:
            c.negotiate()
        except Exception as e:  # its connection ends, in whichever way
            failures.append(e)

    clients = [rdma.client(daemon, guid=guid) for _ in range(2)]
    threads = [threading.Thread(target=negotiate, args=[c], daemon=True) for c in clients]
    for number, thread in enumerate(threads):
        thread.start()
        wait_until(lambda: phases(daemon).count("negotiating") == 1 - number, 2, "its first message has come")
    for number, thread in enumerate(threads):
        (pid,) = stopping.wait_children(1, 3)
        wait_until(lambda: process_state(pid) == "T", 5, "it has stopped there")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(failures) > number, 3, "its client is told")
    shown(daemon, lambda them: not them, "no client")
    assert len(stopping.starts()) == 2
    for c in clients:
        c.close_transport()
    stopping.end(signal.SIGKILL, check=False)
    works((daemon, make_peer(daemon, smbd), smbd))


def phases(daemon):
    return [connection["phase"] for connection in daemon.ctl("connections")]


def process_state(pid):
    try:
        stat = open(f"/proc/{pid}/stat").read()
    except OSError:
        return None
    return stat[stat.rindex(")") + 2]


def test_the_main_process_dies(native, make_peer):
    """Its children go with it here; clients are turned away within a second until another registers."""
    daemon, peer, smbd = native
    with rdma.session(daemon, smbd) as c:
        children = peer.wait_children(1)
        peer.end(signal.SIGKILL, check=False)
        gone(c)
        wait_until(lambda: not any(map(alive, children)), 2, "no child is left")
    shown(daemon, lambda them: not them, "no client")
    assert daemon.ctl("status")["main_process"] is None
    with rdma.client(daemon) as turned_away, pytest.raises((rdma.Closed, rdma.Terminated)):
        turned_away.negotiate()
    daemon.wait_for_log("no main process of a server is registered")
    works((daemon, make_peer(daemon, smbd), smbd))


def test_a_worker_dies(native):
    daemon, peer, smbd = native
    with rdma.session(daemon, smbd, user=True) as first:
        second = another(native, first)
        where = {c["client"]: c["worker"] for c in daemon.ctl("connections")}
        os.kill(daemon.workers()[where[second.local]], signal.SIGKILL)
        gone(second)
        (client,) = shown(daemon, lambda them: them[0]["channels"] == 1, "one channel")
        assert client["workers"] == [where[first.local]] and client["smbd"] == peer.wait_children(1)
        wait_until(lambda: [w["state"] for w in daemon.ctl("workers")] == ["ready"] * 2, 10, "a new worker")
        with another(native, first) as third:
            assert third.echo().check()
            shown(daemon, lambda them: them[0]["channels"] == 2, "two channels")
        works(native)


def test_the_daemon_dies_and_the_server_registers_with_the_next(native):
    daemon, peer, smbd = native
    with rdma.session(daemon, smbd, user=True) as c:
        daemon.server.process.kill()
        daemon.server.process.wait()
        daemon.server.end()
        daemon.start()
        peer.wait_ready(times=2)
        # Whom the old worker and the child serve, they serve on.
        write_and_read(c, c, c.create("orphan"), DATA[:100000], 0)
        assert daemon.ctl("clients") == []
        works((daemon, peer, smbd))
    peer.wait_children(0)


def test_a_channel_goes_to_another_process(make_daemon, make_peer, smbd, build, scratch):
    """The thread's own step: a started process finds another that serves, and exports the channel to it."""
    daemon = make_daemon(smbd.port, pool={"upstream": {"mode": "channel"}})
    place = daemon.directory / "adopt"
    place.mkdir()
    adopter = make_peer(daemon, smbd, adopt=place, name="adopter")
    peer = make_peer(daemon, smbd, "--pass-to", place)
    native = (daemon, peer, smbd)
    with rdma.session(daemon, smbd, user=True) as first:
        (client,) = shown(daemon, lambda them: them and them[0]["smbd"], "its process")
        assert client["smbd"] == [adopter.pid]
        peer.wait_children(0)
        # From here on it is known to serve the client: no process is started.
        with another(native, first) as second:
            file = first.create("adopted")
            write_and_read(first, second, file, DATA, 0)
            (client,) = shown(daemon, lambda them: them[0]["channels"] == 2, "two channels")
            assert client["smbd"] == [adopter.pid] and len(peer.starts()) == 1
    shown(daemon, lambda them: not them, "no client")


# --- what is refused ---


def test_areas_are_budgeted(make_daemon, make_peer, smbd):
    channel = {"area_bytes": 1 << 20, "area_bytes_per_worker": 2 << 20}
    daemon = make_daemon(smbd.port, workers=1, pool={"upstream": {"mode": "channel", "channel": channel}})
    peer = make_peer(daemon, smbd)
    with rdma.session(daemon, smbd, user=True) as first, rdma.session(daemon, smbd) as second:
        with rdma.client(daemon) as third, pytest.raises((rdma.Closed, rdma.Terminated)):
            third.negotiate()
        daemon.wait_for_log("/upstream/channel/area_bytes_per_worker")
        # Larger than the area: the peer uses it several times.
        assert second.echo().check()
        write_and_read(first, first, first.create("small-area"), DATA[: 1 << 20], 0)
    works((daemon, peer, smbd))


# --- Samba's own client ---


@pytest.mark.parametrize("protection", [{}, {"sign": True}, {"encrypt": True}], ids=["plain", "signed", "encrypted"])
def test_smbclient(native, make_connect, tmp_path, protection):
    daemon, peer, smbd = native
    name = f"smbclient-{'-'.join(protection) or 'plain'}"
    size = (150 if not protection else 20) << 20
    make_tree(tmp_path / "out", 300, seed=31)
    make_file(tmp_path / "out" / "large", size, seed=32)
    (tmp_path / "back").mkdir()
    expected = digests(tmp_path / "out")
    connect = make_connect(daemon)
    walk = "recurse ON; prompt OFF"
    smbclient(smbd, f"mkdir {name}; cd {name}; {walk}; mput *", port=connect.port, cwd=tmp_path / "out", timeout=120, **protection)
    assert_same_tree(expected, digests(smbd.share_path() / name))
    smbclient(smbd, f"cd {name}; {walk}; mget *", port=connect.port, cwd=tmp_path / "back", timeout=120, **protection)
    assert_same_tree(expected, digests(tmp_path / "back"))
    moved = connect.stop()
    if protection:
        assert moved["rdma_reads"] == moved["rdma_writes"] == 0, moved
    else:
        assert moved["rdma_read_bytes"] >= size and moved["rdma_write_bytes"] >= size, moved
    assert len(peer.starts()) == 2  # each smbclient is a client of its own
