# SPDX-License-Identifier: MIT
"""A compound whose CLOSE is related to a request that is on no file closes the file that it names itself."""

import contextlib
import struct
import time

import pytest

from lib import leases, smb2
from lib.area_link import connect
from lib.direct_use import warm
from lib.held_file import HeldFile
from test_direct_closing import ByTcp, again, daemon, needs_held_files, server, then_has_it, writing  # noqa: F401


@needs_held_files
def test_another_channel_closes_it_behind_what_is_on_no_file(writing, server, daemon):  # noqa: F811
    direct = not isinstance(writing, ByTcp)
    second = again(writing, server, daemon if direct else None)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(second.transport))
        other = stack.enter_context(connect(server))
        second.bind(writing.c, server.user, server.password)
        second.sign = False
        if direct:
            second.read(writing.file, 8).check()
            warm(daemon, second, writing.file)
            writing.set_time()
        held = stack.enter_context(HeldFile(writing.path))
        writing.hanging()
        ids = second.chain(
            (smb2.OPLOCK_BREAK, struct.pack("<HHI16sIQ", 36, 0, 0, b"no such lease...", 0, 0)),
            (smb2.CLOSE, smb2.close_body(writing.file)),
        )
        time.sleep(0.2)
        waiting, _ = leases.send_open(other, writing.name, leases.R)
        then_has_it(held, writing, other, waiting)
        second.wait(ids[1], 20).check()
