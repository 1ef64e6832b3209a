# SPDX-License-Identifier: MIT
"""Members of /control/group who ask more than they wait for: the pool does not notice."""

import contextlib
import grp
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from lib import rdma
from lib.resources import descriptors
from lib.scene import seconds_used

STRANGER = 65534
SECONDS = 3

FLOOD = """
import socket, sys, time
path, end = sys.argv[1], time.monotonic() + float(sys.argv[2])
asked = 0
while time.monotonic() < end:
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(5)
    try:
        s.connect(path)
        s.send(b'{"command":"connections","events":true}\\n')
        s.send(b'x' * 1024)
        asked += 1
    except OSError:
        pass
    s.close()
print(asked)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it asks as another user")
def test_those_who_ask_and_do_not_wait(make_daemon, smbd):
    group = grp.getgrnam("daemon")
    daemon = make_daemon(smbd.port, workers=2, pool={"control": {"group": group.gr_name}, "affinity": "spread"})
    daemon.directory.chmod(0o755)
    before, workers = descriptors(daemon.pid), daemon.workers()
    stopped = workers[0]
    os.kill(stopped, signal.SIGSTOP)  # its report comes late
    try:
        argv = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", f"--groups={group.gr_gid}"]
        argv += [sys.executable, "-c", FLOOD, str(pathlib.Path(daemon.directory) / "run" / "control"), str(SECONDS)]
        flood = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        most = 0
        while flood.poll() is None:
            most = max(most, descriptors(daemon.pid))
            time.sleep(0.02)
    finally:
        os.kill(stopped, signal.SIGCONT)
    asked = int(flood.stdout.read())
    print(f"{asked} asked; {before} descriptors before, {most} at most")
    assert asked > 100
    assert most < before + 100, f"{most} descriptors, {before} before"
    assert daemon.workers() == workers
    with rdma.session(daemon, smbd) as client:
        assert client.echo().check()


CALLED_SMBD = """
import ctypes, os, resource, time
ctypes.CDLL(None).prctl(15, b"smbd", 0, 0, 0)
resource.setrlimit(resource.RLIMIT_NOFILE, (5100, 5100))
held = [os.open("/dev/null", os.O_RDONLY) for _ in range(5000)]
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it runs programs as another user")
def test_programs_that_are_called_smbd(make_daemon, smbd):
    """Of a user of this host, with many files open: who asks for the clients does not hold up those who connect."""
    daemon = make_daemon(smbd.port)
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(rdma.session(daemon, smbd))
        for _ in range(60):
            one = stack.enter_context(subprocess.Popen([sys.executable, "-c", CALLED_SMBD], stdout=subprocess.PIPE, text=True))
            stack.callback(one.kill)
            assert one.stdout.readline() == "ready\n"
        before = seconds_used(daemon.pid)
        for _ in range(3):
            (row,) = daemon.ctl("clients")
        assert seconds_used(daemon.pid) - before < 1
        assert row["smbd"] and client.echo().check()
