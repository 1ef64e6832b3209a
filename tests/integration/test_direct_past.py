# SPDX-License-Identifier: MIT
"""A's file is closed past the daemon, by A's channel over TCP, while a WRITE of it hangs in a worker: smbd knows nothing of it."""

import contextlib
import time

import pytest

from lib import leases, smb2
from lib.area_link import connect
from lib.held_file import HeldFile
from test_direct_closing import ByTcp, again, daemon, needs_held_files, server, then_has_it, writing  # noqa: F401


@needs_held_files
@pytest.mark.parametrize("how", ["CLOSE", "TREE_DISCONNECT", "LOGOFF"])
def test_its_channel_over_tcp_closes_it(request, writing, server, how):  # noqa: F811
    if not isinstance(writing, ByTcp):
        known = "known: smbd waits for no worker where a channel over TCP closes the file"
        request.applymarker(pytest.mark.xfail(strict=True, reason=known))
    second = again(writing, server)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(second.transport))
        other = stack.enter_context(connect(server))
        second.bind(writing.c, server.user, server.password)
        held = stack.enter_context(HeldFile(writing.path))
        writing.hanging()
        body = smb2.close_body(writing.file) if how == "CLOSE" else b"\4\0\0\0"
        closing = second.send({"CLOSE": smb2.CLOSE, "TREE_DISCONNECT": smb2.TREE_DISCONNECT, "LOGOFF": smb2.LOGOFF}[how], body)
        time.sleep(0.2)
        waiting, _ = leases.send_open(other, writing.name, leases.R)
        then_has_it(held, writing, other, waiting)
        second.wait(closing, 20)
