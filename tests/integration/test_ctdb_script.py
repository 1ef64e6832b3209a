# SPDX-License-Identifier: MIT
"""conf/ctdb/09.smbdirectd.script alone: what each of CTDB's events does, with CTDB's functions, smbdirectctl and the service played by
the test. test_ctdb.py has all of them as they are."""

import os
import pathlib
import subprocess

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "conf/ctdb/09.smbdirectd.script"

# What the script uses of CTDB's; each says what it was asked for.
FUNCTIONS = """\
CTDB="$CTDB_BASE/ctdb"
load_script_options () { . "$CTDB_BASE/options" ; }
ctdb_setup_state_dir () { script_state_dir="$CTDB_BASE/state" ; }
ctdb_counter_init () { : >"$script_state_dir/count" ; }
ctdb_counter_incr () { echo >>"$script_state_dir/count" ; }
ctdb_counter_get () { echo $(wc -c <"$script_state_dir/count") ; }
ctdb_get_pnn () { echo 1 ; }
ctdb_check_args () { : ; }
update_tickles () { echo "tickles $1" >>"$CTDB_BASE/did" ; }
service () { echo "service $*" >>"$CTDB_BASE/did" ; [ "$2" != start ] || [ ! -e "$CTDB_BASE/broken" ] ; }
"""
CTDB = """\
#!/bin/sh
printf '%s\\n' '|Public IP|Node|' '|192.0.2.1|0|' '|192.0.2.2|1|' '|192.0.2.3|-1|'
"""
CTL = """\
#!/bin/sh
here=$(dirname "$0")
case "$*" in
*status) cat "$here/status" 2>/dev/null || { echo "cannot connect" >&2 ; exit 1 ; } ;;
*) echo "$*" >>"$here/did" ; [ -e "$here/status" ] || { echo "cannot connect" >&2 ; exit 1 ; } ;;
esac
"""
WELL = '{"status": {"phase": "serving", "listeners": "0.0.0.0 port 5445 (iwarp)", "workers": 2, "workers_ready": 2, "z": 0}}'


class Event:
    """event("releaseip", ...) -> (exit status, what was done, what was said)"""

    def __init__(self, directory):
        self.base = directory
        (directory / "state").mkdir()
        (directory / "state/count").touch()
        (directory / "functions").write_text(FUNCTIONS)
        for name, text in (("ctdb", CTDB), ("smbdirectctl", CTL)):
            (directory / name).write_text(text)
            (directory / name).chmod(0o755)
        self.options()
        self.status(WELL)

    def options(self, **more):
        lines = {"CTDB_SMBDIRECTCTL": self.base / "smbdirectctl", **more}
        (self.base / "options").write_text("".join(f'{key}="{value}"\n' for key, value in lines.items()))

    def status(self, text):
        """None: nobody answers."""
        (self.base / "status").unlink(missing_ok=True)
        if text is not None:
            (self.base / "status").write_text(text)

    def broken(self):
        """The service does not start."""
        (self.base / "broken").touch()

    def __call__(self, *words):
        did = self.base / "did"
        did.unlink(missing_ok=True)
        done = subprocess.run(
            ["/bin/sh", SCRIPT, *words], env={"PATH": "/usr/bin:/bin", "CTDB_BASE": str(self.base)},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20,
        )  # fmt: skip
        assert not done.stderr, done.stderr
        return done.returncode, did.read_text().splitlines() if did.exists() else [], done.stdout


@pytest.fixture
def event(tmp_path):
    return Event(tmp_path)


STOP, START = "service smbdirectd stop", "service smbdirectd start"


def test_events_that_ask_nothing(event):
    for name in ("init", "setup", "recovered"):
        assert event(name) == (0, [], "")


def test_startup_and_shutdown(event):
    assert event("startup") == (0, [STOP, START], "")
    event.options(CTDB_SERVICE_SMBDIRECTD="mine")
    assert event("shutdown") == (0, ["service mine stop"], "")


def test_a_daemon_that_does_not_start_does_not_keep_the_node_from_starting(event):
    event.broken()
    status, did, said = event("startup")
    assert (status, did) == (0, [STOP, START])
    assert "WARNING: smbdirectd does not start" in said
    event.options(CTDB_SMBDIRECTD_UNHEALTHY=3)
    assert event("startup")[0] == 1


@pytest.mark.parametrize("name, word", [("releaseip", "leave"), ("takeip", "take")])
def test_addresses(event, name, word):
    assert event(name, "eth0", "192.0.2.1", "24") == (0, [f"{word} 192.0.2.1"], "")
    event.status(None)
    status, did, said = event(name, "eth0", "192.0.2.1", "24")
    assert status == 0, "10.interface has to have its turn"
    assert said == ("" if word == "take" else "WARNING: connections to 192.0.2.1 may be left: cannot connect\n")


def test_another_interface_matters_to_rdma_devices_alone(event):
    assert event("updateip", "eth0", "eth1", "192.0.2.2", "24") == (0, [], "")
    event.status(WELL.replace("(iwarp)", "(verbs)"))
    assert event("updateip", "eth0", "eth1", "192.0.2.2", "24") == (0, ["leave 192.0.2.2"], "")


def test_what_was_not_done_is_done_after_all_have_moved(event):
    assert event("ipreallocated") == (0, ["leave 192.0.2.1", "take 192.0.2.2", "leave 192.0.2.3", "tickles 5445"], "")
    event.status(WELL.replace('"workers": 2', '"leaving": ["192.0.2.11", "192.0.2.1", "192.0.2.2"]'))
    assert event("ipreallocated")[1][:-1] == ["take 192.0.2.2", "leave 192.0.2.3"], "what it knows is not said again"
    event.options(CTDB_SMBDIRECTD_PORTS="5445 5446")
    assert event("ipreallocated")[1][-2:] == ["tickles 5445", "tickles 5446"]
    event.options(CTDB_SMBDIRECTD_PORTS="")
    event.status(None)
    assert event("ipreallocated") == (0, [], "")


@pytest.mark.parametrize(
    "status",
    [
        WELL,
        WELL.replace("(iwarp)", "(iwarp), waiting for its address"),
        WELL.replace('"workers_ready": 2', '"workers_ready": 1'),
        WELL.replace('"workers_ready": 2', '"workers_ready": 10'),
        WELL.replace("serving", "draining").replace('"workers_ready": 2', '"workers_ready": 0'),
        WELL.replace("serving", "stopping").replace('"workers_ready": 2', '"workers_ready": 0'),
    ],
)
def test_what_is_no_fault(event, status):
    event.options(CTDB_SMBDIRECTD_UNHEALTHY=1, CTDB_SMBDIRECTD_RESTART=1)
    event.status(status)
    assert event("monitor") == (0, ["tickles 5445"], "")


FAULTS = [
    (None, "it does not answer: cannot connect", True),
    (WELL.replace('"workers_ready": 2', '"workers_ready": 0'), "no worker is ready", True),
    (WELL.replace(', "z": 0', "").replace('"workers_ready": 2', '"workers_ready": 0'), "no worker is ready", True),
    (WELL.replace("serving", "starting"), "it is still starting", True),
    (WELL.replace("(iwarp)", "(verbs), waiting for its device"), "a listener waits for its RDMA device", False),
]


@pytest.mark.parametrize("status, what, curable", FAULTS, ids=[what for _, what, _ in FAULTS])
def test_what_fails_is_told_and_restarted_and_never_unhealthy(event, status, what, curable):
    event("startup")
    event("monitor")
    event.status(status)
    for number in range(1, 7):
        restart = curable and number % 2 == 0
        said = f"WARNING: smbdirectd: {what} (monitor event {number} in a row)\n"
        said += "NOTICE: restarting smbdirectd\n" if restart else ""
        assert event("monitor") == (0, [STOP, START] if restart else [], said)
    event.status(WELL)
    assert event("monitor") == (0, ["tickles 5445"], "NOTICE: smbdirectd serves again\n")
    assert event("monitor") == (0, ["tickles 5445"], "")


def test_unhealthy_and_restart_are_the_administrators(event):
    event.options(CTDB_SMBDIRECTD_UNHEALTHY=3, CTDB_SMBDIRECTD_RESTART=0)
    event.status(None)
    outcomes = [event("monitor") for _ in range(4)]
    assert [status for status, _, _ in outcomes] == [0, 0, 1, 1]
    assert not any(did for _, did, _ in outcomes)
    assert outcomes[2][2].startswith("ERROR: smbdirectd: it does not answer")


def test_stopped_by_smbds_own_start_it_is_started_at_once(event):
    """50.samba stops smbd before it starts it, and systemd stops smbdirectd with it."""
    event("startup")
    event.status(None)
    assert event("monitor") == (0, [START], "")
    status, did, said = event("monitor")
    assert (status, did) == (0, []) and "(monitor event 1 in a row)" in said


def test_it_runs_before_the_address_is_deleted():
    assert SCRIPT.name < "10.interface.script"
    assert os.access(SCRIPT, os.X_OK), "CTDB takes a script that is not executable for a disabled one"
