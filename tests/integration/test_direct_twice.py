# SPDX-License-Identifier: MIT
"""Orders of "vfs objects", smbdirect named twice among them: files are read and written directly."""

import pytest

from lib import module_fixture, rdma
from lib.direct_use import warm
from lib.leases import RWH, open_leased


@pytest.mark.parametrize("objects", ["smbdirect", "smbdirect smbdirect", "smbdirect streams_xattr smbdirect", "catia smbdirect streams_xattr", "worm smbdirect", "crossrename smbdirect dirsort", "acl_xattr recycle smbdirect"])
@pytest.mark.parametrize("series", ["4.17", "4.22"])
def test_listed(scratch, make_daemon, objects, series):
    with module_fixture.running(scratch / f"twice-{series}-{objects.replace(' ', '-')}", series, shares={"share": {"vfs objects": objects}}) as server:
        daemon = make_daemon(server.port, workers=1, pool={"upstream": {"area": {"directory": str(server.links)}}})
        c = rdma.session(daemon, server, user=True)
        one = open_leased(c, "file", RWH).file_id
        c.write(one, bytes(100)).check()
        warm(daemon, c, one)
        c.close_transport()
