# SPDX-License-Identifier: MIT
"""What scripts/test makes of a guest that died: the client's own known panics void an attempt, nothing else does."""

import argparse
import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "scripts/lib"))
import guest_tests  # noqa: E402
import test_run  # noqa: E402

KERNELS = pathlib.Path(__file__).resolve().parents[1] / "vm/lib/kernels.py"
spec = importlib.util.spec_from_file_location("kernels", KERNELS)
kernels = importlib.util.module_from_spec(spec)
spec.loader.exec_module(kernels)

OOPS = """[   31.8] BUG: kernel NULL pointer dereference, address: 0000000000000000
[   31.8] Workqueue: smbd_0000000081b0479b {caller} [{module}]
[   31.8] RIP: 0010:{function}+0x13e/0x250 [{module}]
[   31.8] Call Trace:
[   31.8]  {caller}+0x7d/0x200 [{module}]
[   31.8]  process_one_work+0x1c4/0x380
"""
PANIC = "[   31.9] Kernel panic - not syncing: Fatal exception\n"


def oops(function="smbd_post_recv", caller="smbd_post_send_credits", module="cifs"):
    return OOPS.format(function=function, caller=caller, module=module)


def test_without_the_archive_there_is_no_guest_and_that_is_told(tmp_path):
    """Not a failure of ours, and never silent."""
    argv = ["unshare", "-n", guest_tests.ROOT / "scripts/vm", "--prepare"]
    environment = {**os.environ, "SMBDIRECTD_VM_CACHE": str(tmp_path)}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == guest_tests.UNREACHABLE, done.stderr
    assert "package lists" in guest_tests.no_kernel(done.stderr)
    assert "not tried" in guest_tests.no_kernel(done.stderr)


def test_the_clients_known_panics_are_told_apart():
    assert "smbd_post_send_credits" in guest_tests.client_panic("before\n" + oops() + PANIC)
    assert "smbd_conn_upcall" in guest_tests.client_panic(oops("__wake_up_common", "smbd_conn_upcall") + PANIC)
    queued = oops("rdma_disconnect", "smbd_disconnect_rdma_work") + PANIC
    queued = queued.replace("[   31.8]  smbd_disconnect_rdma_work+0x7d/0x200 [cifs]\n", "")  # it ends in a jump
    assert "smbd_disconnect_rdma_work" in guest_tests.client_panic(queued)
    for other in (
        "",
        PANIC,
        oops(),  # it goes on
        oops("smbd_post_recv", "smbd_connect") + PANIC,
        oops("siw_post_recv") + PANIC,
        oops(module="rdma_rxe") + PANIC,
        oops() + oops("siw_qp_event", "siw_run_sq", "siw") + PANIC,  # the last one is what it died of
    ):
        assert guest_tests.client_panic(other) is None, other


def test_what_a_fault_of_the_kernels_made_void_is_told():
    text = "(void mount: attempt 1: siw did not read)\nok files (1.0 s)\n1 passed, 0 failed, 0 skipped\n"
    passed, failures, skips = guest_tests.judge("siw_verbs", 0, text)
    assert (passed, failures) == (1, []) and "siw did not read" in skips[0][1]


def test_a_crc_that_siw_put_together_wrongly_is_told_from_a_wrong_one():
    """Its trailer came in two pieces, and the second lies over the first: of the right CRC's bytes 0f 0c 69 0b."""
    for got in ("251d0b69", "250b690c", "d4690c0b"):
        assert kernels.void([f"siw: crc error. in: {got}, own 0b690c0f, op 3"]), got
    for got in ("251d0b68", "0b690c0e", "d4690d0b", "00000000"):
        assert kernels.void([f"siw: crc error. in: {got}, own 0b690c0f, op 3"]) is None, got


FIRST_TIME_WRONG = """if [ -e {seen} ]; then echo "ok one (1 s)"; echo "1 passed, 0 failed, 0 skipped"; exit 0; fi
touch {seen}; echo "the machine was slow"; echo "FAILED one: too late"; echo "0 passed, 1 failed, 0 skipped"; exit 1"""
ALWAYS_WRONG = """echo "ok one (1 s)"; echo "FAILED two: 1 is not 2"; echo "1 passed, 1 failed, 0 skipped"; exit 1"""
RIGHT = """echo "ok one (1 s)"; echo "skip two: it is Sunday"; echo "1 passed, 0 failed, 1 skipped" """


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run({name of a program: what it does instead of a guest}) -> the section"""
    for module in (test_run, guest_tests):
        monkeypatch.setattr(module, "LOGS", tmp_path)

    def make(scripts, late=lambda run: False):
        monkeypatch.setattr(guest_tests, "late", late)
        monkeypatch.setattr(guest_tests, "programs", lambda: [pathlib.Path(name) for name in scripts])
        monkeypatch.setattr(guest_tests, "command", lambda program, *_: ["sh", "-c", scripts[program.name]])
        whole = test_run.Run(argparse.Namespace(full=False, until=None))
        whole.section("guest", lambda section, log: guest_tests.guest_programs(whole, section, log, None))
        return whole.sections[0]

    return make


def test_what_fails_is_run_once_more(run, tmp_path, capsys):
    wrong = {name: FIRST_TIME_WRONG.format(seen=tmp_path / f"{name}.seen") for name in "ab"}
    found = run({**wrong, "c": ALWAYS_WRONG, "d": RIGHT})
    assert (found.passed, [what for what, _ in found.failures]) == (4, ["c: two"]), found
    assert [note.partition(" failed")[0] for note in found.notes] == ["a: one", "b: one"]
    assert found.skips == [("d: two", "d: two: it is Sunday")]
    assert "the machine was slow" in capsys.readouterr().out


def test_what_failed_and_cannot_be_run_again_has_failed(run, tmp_path):
    seen = tmp_path / "a.seen"
    found = run({"a": FIRST_TIME_WRONG.format(seen=seen)}, late=lambda _: seen.exists())
    assert (found.passed, len(found.failures), found.notes) == (0, 1, []), found


def test_of_many_programs_that_fail_none_is_run_again(run, tmp_path):
    names = [str(n) for n in range(guest_tests.MOST_AGAIN + 1)]
    found = run({name: FIRST_TIME_WRONG.format(seen=tmp_path / f"{name}.seen") for name in names})
    assert (found.passed, len(found.failures), found.notes) == (0, len(names), []), found
