# SPDX-License-Identifier: MIT
"""A worker that a client has taken over (lib/taken_worker.py, in slot 1): what it says costs nobody else anything. And
a log whose reader does not read."""

import contextlib
import errno
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import uuid

from lib import native as frames
from lib import rdma, smb2
from lib.daemon import Smbdirectd, program
from lib.process import descendants_of, dial, wait_until

TAKEN = pathlib.Path(__file__).parent / "lib" / "taken_worker.py"


class Taken(Smbdirectd):
    """Two workers, the second of which is not ours any more."""

    def __init__(self, directory, port, does, guid=b"", **kw):
        directory.mkdir(parents=True, exist_ok=True)
        env = {
            **os.environ,
            "TAKEN_WORKER": does,
            "TAKEN_GUID": guid.hex(),
            "TAKEN_NOTES": str(directory),
            "TAKEN_BOARD": str(directory / "board"),
            "REAL_WORKER": str(program("smbdirect-worker")),
        }
        super().__init__(directory, port, workers=2, env=env, argv=["--worker", TAKEN], **kw)


def to_slot(daemon, slot):
    """Connections from one address after the other, until the slot has one; those are kept."""
    held = []
    for i in range(8):
        held.append(dial((daemon.address, daemon.port), 5, (f"127.0.6.{i + 1}", 0)))
        number = len(held)
        wait_until(lambda: len(daemon.ctl("connections")) >= number, 5, "it to be taken")
        rows = daemon.ctl("connections")
        if any(row["worker"] == slot for row in rows):
            return held
    raise AssertionError(f"no connection came to worker {slot}")


def test_a_worker_reaches_the_module_of_its_own_connections_process_and_of_no_other(scratch, monkeypatch):
    """This process is the smbd: it accepts the worker's stream and listens as vfs_smbdirect does."""
    directory = scratch / "taken-link"
    modules = directory / "modules"
    modules.mkdir(parents=True, mode=0o700)
    pool = {"upstream": {"mode": "connect", "address": "127.0.0.1", "area": {"directory": str(modules)}}}
    with contextlib.ExitStack() as stack:
        smbd = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        module = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        module.bind(str(modules / str(os.getpid())))
        module.listen(8)
        module.settimeout(10)
        monkeypatch.setenv("TAKEN_SMBD", f"127.0.0.1 {smbd.getsockname()[1]}")
        daemon = stack.enter_context(Taken(directory, 445, "link", pool=pool))
        for s in to_slot(daemon, 1):
            stack.callback(s.close)
        stream, _ = smbd.accept()
        stack.callback(stream.close)
        stream.sendall(b"x")
        link, _ = module.accept()
        stack.callback(link.close)
        assert link.recv(100) == b"hello from the worker"
        told = directory / "told"
        assert sorted(told.read_text().splitlines()) == ["81 0 0", f"82 1 {errno.EPERM}"]
        daemon.wait_for_log("worker 1: no link to smbd's module for connection", 5)


def test_a_worker_that_names_itself_is_passed_no_client(scratch):
    """It claims a client's GUID and says that it serves it; the client, at the other worker, goes to the server."""
    guid = uuid.uuid4().bytes
    pool = {"affinity": "spread", "upstream": {"mode": "channel"}}
    directory = scratch / "taken-mitm"
    with Taken(directory, 445, "mitm", guid, pool=pool) as daemon, contextlib.ExitStack() as stack:
        main = stack.enter_context(contextlib.closing(frames.Main(daemon)))
        for s in to_slot(daemon, 1):
            stack.callback(s.close)
        wait_until((directory / "named").exists, 5, "the lie to be told")
        daemon.wait_for_log(re.compile(r"worker 1 reports that process \d+ serves a client, which is ignored"), 5)
        assert all(c["smbd"] == [] for c in daemon.ctl("clients"))
        for attempt in range(4):  # until it is at the honest worker
            before = len([r for r in daemon.ctl("connections") if r["worker"] == 0])
            try:
                c = rdma.client(daemon, guid=guid, source=(f"127.0.7.{attempt + 1}", 0), iwarp={"timeout": 1})
            except (rdma.Timeout, rdma.Closed, ConnectionError):
                continue
            stack.callback(c.close_transport)
            c.send(smb2.NEGOTIATE, c.negotiate_body(), credits=1)
            channel = stack.enter_context(contextlib.closing(frames.Channel.open(main.start())))
            channel.send(frames.REPLY, b"from the server itself")
            assert c.transport.recv_pdu(5).data == b"from the server itself"
            break
        else:
            raise AssertionError("no connection came to the honest worker")
        assert not (directory / "stolen").exists()


def test_a_flood_of_words_costs_few_lines(scratch, smbd):
    with Taken(scratch / "taken-flood", smbd.port, "flood") as daemon:
        time.sleep(2)  # of flood
        c = rdma_at(daemon, smbd, 0)
        assert c.echo().status == smb2.SUCCESS
        c.close_transport()
        assert daemon.log.count("\n") < 200
        assert "such lines held back" in daemon.log


def rdma_at(daemon, smbd, slot):
    """A session that the worker of that slot has."""
    for i in range(8):
        try:
            c = rdma.session(daemon, smbd, source=(f"127.0.7.{i + 1}", 0), iwarp={"timeout": 1})
        except (rdma.Timeout, rdma.Closed, ConnectionError):
            continue
        return c
    raise AssertionError(f"no session at worker {slot}")


def test_a_board_of_too_many_rows_is_none(scratch, smbd):
    directory = scratch / "taken-board"
    directory.mkdir()
    with Smbdirectd(directory / "real", smbd.port, workers=1) as real:
        pid = real.worker_pids()[0]
        for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if "smbdirect-scoreboard" in os.readlink(fd):
                    (directory / "board").write_bytes(open(fd, "rb").read(4096))
    with Taken(directory, smbd.port, "board") as daemon:
        daemon.wait_for_log("worker 1: shared memory", 30)
        began = time.monotonic()
        for _ in range(3):
            daemon.ctl("connections")
        assert time.monotonic() - began < 3


def test_a_report_moves_no_cursor(scratch, smbd):
    with Taken(scratch / "taken-report", smbd.port, "report", pool={"affinity": "spread"}) as daemon:
        held = to_slot(daemon, 1)
        for options in (["--events"], ["--events", "--json"]):
            shown = daemon.ctl("connections", *options, check=False)
            assert shown.returncode == 0, shown.stderr
            assert "title" in shown.stdout
            assert all(c == "\n" or 0x20 <= ord(c) < 0x7F for c in shown.stdout)
        for s in held:
            s.close()


def test_a_log_that_nobody_reads_stops_nobody(scratch, smbd):
    """Standard error is a pipe that is full: clients are served, and the lines that found no room are counted."""
    directory = scratch / "unread"
    daemon = Smbdirectd(directory, smbd.port, workers=1)
    daemon.pool_path.write_text(json.dumps(daemon.pool))
    argv = [program("smbdirectd"), "--foreground", "--configfile", daemon.pool_path]
    argv += ["--worker", program("smbdirect-worker")]
    server = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:

        def served():
            with contextlib.suppress(OSError):
                return rdma.session(daemon, smbd)

        c = wait_until(served, 10, "the daemon to serve")
        os.set_blocking(server.stderr.fileno(), False)
        # Lines until the pipe is full: each offence is another client's, and has its connection's events with it.
        for i in range(200):
            s = rdma.connect(daemon, source=(f"127.0.4.{1 + i}", 0))
            s.send_message(b"x" * 64, offset=25)
            s.iwarp.reset()
        assert c.echo().status == smb2.SUCCESS
        text = b""

        def told():
            nonlocal text
            with contextlib.suppress(OSError, TypeError):
                text += server.stderr.read() or b""
            with contextlib.suppress(rdma.Closed, ConnectionError):
                s = rdma.connect(daemon, source=("127.0.5.1", 0))  # the next lines
                s.close()
            return b"lines before this one were dropped because the log could not be written" in text

        wait_until(told, 10, "the count of lines dropped")
        assert c.echo().status == smb2.SUCCESS
        c.close_transport()
    finally:
        workers = descendants_of(server.pid)
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            for pid in [server.pid, *workers]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            server.wait()
            raise
        server.stderr.close()
