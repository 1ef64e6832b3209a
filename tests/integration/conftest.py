# SPDX-License-Identifier: MIT
"""Fixtures shared by all black-box tests. Run with SMBDIRECTD_BUILD=<build dir> /usr/bin/python3 -m pytest."""

import os
import pathlib
import shutil
import signal
import tempfile
import time

import pytest

from lib.daemon import Connect, Smbdirectd, build_dir
from lib.lan import Lan
from lib.peer import ReferencePeer
from lib.process import LogSource, tail
from lib.smbd import SmbdServer


# In CI, which it knows by these, pytest shows all of what differs, and takes minutes to find it in a megabyte. Nobody reads
# that, and the connection of which it is told has timed out by then.
for _variable in ("CI", "BUILD_NUMBER"):
    os.environ.pop(_variable, None)


@pytest.fixture(scope="session")
def scratch():
    """A directory for everything a run writes (on a file system with user xattrs), removed at the end."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="smbdirectd-test-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def build():
    return build_dir()


_numbers = {}


def _directory(scratch, name):
    _numbers[name] = _numbers.get(name, 0) + 1
    path = scratch / f"{name}-{_numbers[name]}"
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def smbd(scratch):
    """One stock smbd for all tests that need nothing special: share "share" and, encrypted, "secret"."""
    server = SmbdServer(
        _directory(scratch, "smbd"), shares={"share": {}, "secret": {"smb encrypt": "required"}}
    ).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def daemon(scratch, smbd):
    """One smbdirectd with the default protocol settings in front of it."""
    server = Smbdirectd(_directory(scratch, "smbdirectd"), smbd.port).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def fast_daemon(scratch, smbd):
    """One without CRC (unless the client asks): for tests that move much data through the Python client."""
    server = Smbdirectd(_directory(scratch, "smbdirectd-fast"), smbd.port, pool={"iwarp": {"crc": False}})
    yield server.start()
    server.stop()


@pytest.fixture(scope="session")
def small_daemon(scratch, smbd):
    """One with the smallest MaxFragmentedSize allowed, no CRC."""
    pool = {"iwarp": {"crc": False}, "smbdirect": {"max_fragmented_size": 131072}}
    server = Smbdirectd(_directory(scratch, "smbdirectd-small"), smbd.port, pool=pool)
    yield server.start()
    server.stop()


@pytest.fixture(autouse=True)
def workers_live(request):
    """No test may cost a worker its life: same pids before and after (mark costs_workers to opt out)."""
    names = {"daemon", "fast_daemon", "small_daemon"} & set(request.fixturenames)
    if not names or request.node.get_closest_marker("costs_workers"):
        yield
        return
    daemons = {name: request.getfixturevalue(name) for name in names}
    before = {name: d.workers() for name, d in daemons.items()}
    yield
    for name, d in daemons.items():
        assert d.workers() == before[name], f"a worker of {name} was lost"


@pytest.fixture
def make_smbd(scratch):
    """make_smbd(shares=..., options=...) -> a started SmbdServer, stopped at the end of the test."""
    made = []

    def make(**kw):
        made.append(SmbdServer(_directory(scratch, "smbd"), **kw))
        return made[-1].start()

    yield make
    for server in reversed(made):
        server.stop()


@pytest.fixture
def make_daemon(scratch):
    """make_daemon(upstream_port, pool={...}, workers=N) -> a started Smbdirectd, stopped at the end of the test."""
    made = []

    def make(upstream_port, **kw):
        made.append(Smbdirectd(_directory(scratch, "smbdirectd"), upstream_port, **kw))
        return made[-1].start()

    yield make
    for server in reversed(made):
        server.stop()


@pytest.fixture
def make_peer(scratch, build):
    """make_peer(daemon, smbd, *options, **kw) -> a started ReferencePeer, ended at the end of the test."""
    made = []

    def make(daemon, smbd, *options, **kw):
        log = _directory(scratch, "peer") / "peer.log"
        control = daemon.directory / "run" / "control"
        made.append(ReferencePeer(build, control, smbd.port, log, argv=options, **kw))
        return made[-1].start()

    yield make
    for peer in reversed(made):
        peer.end()


@pytest.fixture
def native(make_daemon, make_peer, smbd):
    """A daemon in mode "channel" whose connections go to its two workers in turn, a ReferencePeer, and its smbd."""
    daemon = make_daemon(smbd.port, pool={"affinity": "spread", "upstream": {"mode": "channel"}})
    return daemon, make_peer(daemon, smbd), smbd


@pytest.fixture
def make_connect(scratch):
    """make_connect(daemon, *options, source=..., rdma_io=True) -> a started Connect, stopped at the end."""
    made = []

    def make(to, *options, **kw):
        made.append(Connect(_directory(scratch, "connect"), to, *options, **kw))
        return made[-1].start()

    yield make
    for client in reversed(made):
        client.stop()


@pytest.fixture
def make_lan(scratch):
    """make_lan(mode, **kw) -> a Lan whose daemon runs in that upstream mode, stopped at the end of the test."""
    made = []

    def make(mode, **kw):
        directory = scratch / f"lan-{time.monotonic_ns()}"  # short: smbd has sockets below it
        directory.mkdir()
        made.append(Lan(directory, mode, **kw))
        return made[-1]

    yield make
    for lan in made:
        lan.stop()


def pytest_configure(config):
    # Ended from outside: still stop every server we started.
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("ended by SIGTERM", 143))
    config.addinivalue_line("markers", "costs_workers: the test ends workers on purpose")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    until, _, minutes = os.environ.get("SMBDIRECTD_UNTIL", "").partition(" ")
    if until and time.time() > float(until):
        pytest.skip(f"not started: the run was {minutes} minutes old (scripts/test --until)")
    for source in LogSource.live:
        source.mark()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for source in LogSource.live:
            text = tail(source.path, 80, source.start)
            if text:
                report.sections.append((f"log of {source.name}", text))
