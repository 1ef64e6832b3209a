# SPDX-License-Identifier: MIT
"""Parity: each smbtorture test ends the same through SMB Direct as it does directly over TCP.

What fails over TCP (root may do what a test expects to be denied, and so on) may fail here too; what
succeeds there must succeed here. torture_floor.json holds how many successes there must be at least, so
that equal results cannot come from both lanes failing alike; what differs with a newer Samba is told there under its
version. (setinfo.setinfo is on Samba's own list of known
failures: smbd cannot set a change time.)

With direct I/O, most of what Samba's lists do with leases is without a READ or WRITE that a worker could do: what they demand is
counted in files that were granted to it (GRANTED), and lists that have none say why (NONE_GRANTED).

The same with vfs_smbdirect in the share that SMB Direct's lane uses, and every READ and WRITE by memory shared with
smbd, but for the first of each connection: those ask for it. The share of TCP's lane is without the module.
"""

import contextlib
import json
import os
import pathlib
import shutil

import pytest

from lib import module_fixture, module_smbd
from lib import direct_use
from lib.area_use import moved
from lib.daemon import Connect, Smbdirectd, build_dir
from lib.module_smbd import ModuleSmbd, ModuleSpace
from lib.netspace import NetSpace, SmbdInside
from lib.peer import ReferencePeer
from lib.process import at_rest
from lib.smbd import SmbdServer, samba_version
from lib.torture import Lane, compare, floor_of

HERE = pathlib.Path(__file__).parent
FLOOR = floor_of(samba_version(), json.loads((HERE / "torture_floor.json").read_text()))

DEFAULT = "connect read rw create getinfo setinfo dir lock credits compound session ioctl durable-open sharemode".split()
# Mostly sleeps: leases and oplocks time out, notifies are waited for.
FULL = "oplock lease rename streams timestamps".split()
# Test by test: these break channels, or wait for good for what does not come (over TCP just the same), and
# one that goes wrong takes the rest of its suite with it.
MULTICHANNEL = """
    generic.interface_info generic.num_channels
    oplocks.test1 oplocks.test2 oplocks.test3_windows oplocks.test3_specification
    leases.test1 leases.test2 leases.test3 leases.test4 bugs.bug_15346
""".split()
NOTIFY = """
    valid-req tcon dir mask tdis tdis1 mask-change close logoff session-reconnect invalid-reauth tree basedir
    double file tcp rec overflow rmdir1 rmdir2 rmdir3 rmdir4 handle-permissions
""".split()
SINGLE = [f"multichannel.{test}" for test in MULTICHANNEL] + [f"notify.{test}" for test in NOTIFY]

# Those of the default list that read or write; the others' time is not spent again on what has no data.
BY_AREA = "read rw lock credits compound ioctl".split()
MODULES = [("4.17", "connect"), ("4.17", "transparent"), ("4.22", "connect")]
# Dozens and thousands on one connection: some are sure to come after the area, which a connection gets while its first go
# as always.
SURE = "credits ioctl".split()

# Seconds, where 120 are not enough on a busy machine: 4.22 has 71 cases of sessions.
LONGER = {"session": 400, "dir": 400}

# How many open files the worker has to be granted at least. Each has its lease or oplock broken, given up, taken over by a durable
# reconnect, or used on several channels; few are read or written, and then once, which is smbd's: test_direct_traces.py does that.
GRANTED = {
    "durable-open": 20,
    "durable-v2-open": 30,
    "replay.channel-sequence": 2,
    "multichannel.leases.test1": 3,
    "multichannel.oplocks.test1": 2,
    "multichannel.leases.test2": 3,
}
GRANTED_FULL = {"lease": 5, "oplock": 5}
NONE_GRANTED = {
    "lock": "its files are opened without an oplock, but for two, on which it does no more than close them",
    "rename": "its files are opened without an oplock",
    "streams": "alternate streams are smbd's, and their files are opened without an oplock",
    "timestamps": "its files are opened without an oplock",
    "read": "its files are opened without an oplock",
    "rw": "its files are opened without an oplock",
}

INSIDE = ["transparent", "handoff"]  # modes in which smbd sees the client's address

needs_full = pytest.mark.skipif(
    not os.environ.get("SMBDIRECTD_FULL"), reason="mostly sleeps, about 8 minutes: runs with scripts/test --full"
)
pytestmark = pytest.mark.skipif(
    not shutil.which("smbtorture"), reason="smbtorture is missing: scripts/setup test installs it"
)

SHARE = {
    "vfs objects": "acl_xattr xattr_tdb streams_depot",
    # What durable handles and DOS attributes need (samba's own test environment sets the same).
    "kernel oplocks": "no",
    "kernel share modes": "no",
    "posix locking": "no",
    "store dos attributes": "yes",
    "map archive": "no",
    "map hidden": "no",
    "map system": "no",
    "map readonly": "no",
    "create mask": "0755",
    # Else the kernel tells of the same changes a second time.
    "kernel change notify": "no",
}
WITH_MODULE = {**SHARE, "vfs objects": "smbdirect " + SHARE["vfs objects"]}


class Log:
    """Counts per suite, kept beside the build for a person to read: <build>/torture.log."""

    def __init__(self):
        self.path = build_dir() / "torture.log"
        self.path.write_text("")

    def add(self, comparison):
        text = "\n".join(comparison.log_lines())
        print(text)
        with open(self.path, "a") as out:
            out.write(text + "\n")


@pytest.fixture(scope="module")
def log():
    return Log()


@contextlib.contextmanager
def two_lanes(directory, mode, log, module=None):
    """run(suite, timeout) -> Comparison, with a server and two lanes. The modes in which the daemon opens smbd's
    side need a network namespace: one changes its routing, the other wants port 445. In mode "channel" reference-peer
    stands between the daemon and the server. module: the series of Samba whose smbd it is, and has vfs_smbdirect."""
    (directory / "smbd").mkdir(parents=True)
    links = directory / "smbd" / "links"
    shares = {"tcp": SHARE, "direct": WITH_MODULE if module else SHARE}
    kw = {"shares": shares, "options": {"smbd:FSCTL_SMBTORTURE": "yes"}}
    pool = {"log": {"level": "info"}}
    with contextlib.ExitStack() as stack:
        space = None
        if mode in INSIDE:
            space = stack.enter_context(ModuleSpace(directory, module) if module else NetSpace())
        if space:
            kw["options"]["smbdirect:directory"] = links
            kw["options"]["interfaces"] = "lo"
            kw["options"]["durable handles"] = "no" if mode == "handoff" else "yes"
            smbd = stack.enter_context(SmbdInside(space, directory / "smbd", **kw))
            pool["upstream"] = {"mode": mode, "handoff": {"configfile": str(smbd.config)}}
        else:
            server = ModuleSmbd(directory / "smbd", series=module, **kw) if module else SmbdServer(directory / "smbd", **kw)
            smbd = stack.enter_context(server)
            pool["upstream"] = {"mode": mode}
        if module:
            links.mkdir(mode=0o700, exist_ok=True)
            pool["upstream"]["area"] = {"directory": str(links), "threshold": 1}
        daemon = stack.enter_context(Smbdirectd(directory / "smbdirectd", smbd.port, pool=pool, space=space))
        if mode == "channel":
            control = daemon.directory / "run" / "control"
            stack.enter_context(ReferencePeer(build_dir(), control, smbd.port, directory / "peer.log"))
        # A threshold of one byte: every plain READ and WRITE becomes RDMA-channel I/O and meets the translator.
        connect = Connect(directory / "connect", daemon, "--threshold", "1", source="127.0.0.2", space=space)
        with connect:
            lanes = [Lane("tcp", smbd.port, "tcp", space), Lane("smbdirect", connect.port, "direct", space)]

            def run(suite, timeout):
                before, before_direct = moved(daemon), direct_use.shares(daemon)
                comparison = compare(lanes, smbd, suite, timeout=timeout)
                assert daemon.worker_pids(), "no worker is left"
                if module:
                    comparison.by_area = tuple(now - then for now, then in zip(at_rest(lambda: moved(daemon)), before))
                    comparison.direct = tuple(now - then for now, then in zip(direct_use.shares(daemon), before_direct))
                log.add(comparison)
                return comparison

            yield run


@pytest.fixture(scope="module")
def parity(scratch, log):
    with two_lanes(scratch / "torture", "connect", log) as run:
        yield run


@pytest.fixture(scope="module", params=[*INSIDE, "channel"])
def parity_elsewhere(request, scratch, log):
    if request.param in INSIDE and os.geteuid() != 0:
        pytest.skip("needs root: it makes network namespaces")
    with two_lanes(scratch / request.param, request.param, log) as run:
        yield run, {**FLOOR["default"], **FLOOR.get(request.param, {})}


@pytest.fixture(scope="module")
def parity_by_area(request, scratch, log):
    """Its parameter: the series of an smbd that has the module, and the mode. Gives (run, whether the floor holds: smbd is
    of the same series as smbtorture)."""
    series, mode = request.param
    module_fixture.skip_if_missing(series)
    with two_lanes(scratch / f"area-{mode}-{series}", mode, log, series) as run:
        yield run, series == module_smbd.own_series()


def check(comparison, floor):
    assert comparison.results, f"{comparison.suite}: no result at all:\n{comparison.outputs[0][-2000:]}"
    if comparison.different:
        tails = "\n".join(f"--- {name}\n{text[-3000:]}" for name, text in zip(("tcp", "smbdirect"), comparison.outputs))
        pytest.fail(f"{comparison.suite}: different after re-runs: {comparison.different}\n{tails}")
    for lane, name in enumerate(("tcp", "smbdirect")):
        got = comparison.count(lane)
        assert got >= floor, f"{comparison.suite}: {got} successes over {name}, the floor is {floor}"


@pytest.mark.parametrize("suite", DEFAULT)
def test_parity(parity, suite):
    check(parity(f"smb2.{suite}", timeout=LONGER.get(suite, 120)), FLOOR["default"][suite])


@pytest.mark.parametrize("suite", DEFAULT)
def test_parity_in_other_modes(parity_elsewhere, suite):
    """Mode "handoff" goes without durable handles, in both lanes."""
    run, floor = parity_elsewhere
    check(run(f"smb2.{suite}", timeout=LONGER.get(suite, 120)), floor[suite])


@needs_full
@pytest.mark.parametrize("suite", FULL)
def test_parity_full(parity, suite):
    check(parity(f"smb2.{suite}", timeout=400), FLOOR["full"][suite])


@needs_full
@pytest.mark.parametrize("test", SINGLE)
def test_parity_single(parity, test):
    """Equal even where neither ends: that is an error in both lanes after the time given."""
    # notify.mask takes about 40 s before it fails, over TCP too.
    timeout = 40 if test.startswith("notify.") and test != "notify.mask" else 200
    check(parity(f"smb2.{test}", timeout=timeout), FLOOR["single"].get(test, 0))


def with_module(*which):
    return pytest.mark.parametrize("parity_by_area", which, indirect=True, ids=lambda p: f"{p[1]}-{p[0]}")


@with_module(*MODULES)
@pytest.mark.parametrize("suite", BY_AREA)
def test_parity_by_area(parity_by_area, suite):
    run, own = parity_by_area
    comparison = run(f"smb2.{suite}", timeout=LONGER.get(suite, 120))
    check(comparison, FLOOR["default"][suite] if own else 1)
    if suite in SURE:
        assert sum(comparison.by_area) > 0, "nothing went by the area"


@needs_full
@with_module(*MODULES)
@pytest.mark.parametrize("suite", [*[s for s in DEFAULT if s not in BY_AREA], *FULL, "replay.channel-sequence"])
def test_parity_by_area_full(parity_by_area, suite):
    run, own = parity_by_area
    floor = {**FLOOR["default"], **FLOOR["full"], "replay.channel-sequence": 1}
    check(run(f"smb2.{suite}", timeout=400), floor[suite] if own else 0)


@needs_full
@with_module(("4.17", "handoff"))
@pytest.mark.parametrize("suite", DEFAULT)
def test_parity_by_area_in_handoff(parity_by_area, suite):
    run, _ = parity_by_area
    check(run(f"smb2.{suite}", timeout=400), {**FLOOR["default"], **FLOOR["handoff"]}[suite])


def check_granted(run, suite, least, own):
    comparison = run(f"smb2.{suite}", timeout=400)
    check(comparison, 1 if own else 0)
    assert comparison.direct[2] >= least, f"{comparison.direct} READs, WRITEs and files were the worker's"


@with_module(*MODULES[::2])
@pytest.mark.parametrize("suite", GRANTED)
def test_parity_of_what_is_granted(parity_by_area, suite):
    check_granted(parity_by_area[0], suite, GRANTED[suite], parity_by_area[1])


@needs_full
@with_module(*MODULES[::2])
@pytest.mark.parametrize("suite", GRANTED_FULL)
def test_parity_of_what_is_granted_full(parity_by_area, suite):
    check_granted(parity_by_area[0], suite, GRANTED_FULL[suite], parity_by_area[1])


@needs_full
@with_module(MODULES[0])
@pytest.mark.parametrize("suite", NONE_GRANTED)
def test_what_is_never_direct(parity_by_area, suite):
    """Or it belongs to the others."""
    comparison = parity_by_area[0](f"smb2.{suite}", timeout=400)
    assert comparison.direct[:2] == (0, 0) and comparison.direct[2] <= 2, f"{comparison.direct}: not for {NONE_GRANTED[suite]!r}"
