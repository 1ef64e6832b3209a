# SPDX-License-Identifier: MIT
"""What scripts/test makes of a guest that died: the client's own known panics void an attempt, nothing else does."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "scripts/lib"))
import guest_tests  # noqa: E402

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
