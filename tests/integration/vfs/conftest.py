# SPDX-License-Identifier: MIT
"""One smbd with vfs_smbdirect for each series of Samba that there is; its shares have the module among others."""

import os

import pytest

from lib import module_fixture
from lib.area_link import connect
from lib.direct_link import direct
from lib.module_smbd import ModuleSmbd

SERIES = ("4.17", "4.22")
AUDIT = {
    "full_audit:success": "pread_send pread_recv pwrite_send pwrite_recv fsync_send offload_write_send",
    "full_audit:failure": "none",
    "full_audit:syslog": "false",
    "full_audit:prefix": "AUDIT",
}
DURABLE = {"durable handles": "yes", "kernel share modes": "no", "posix locking": "no"}
# share -> its "vfs objects" and what else it has.
SHARES = {
    "share": {"vfs objects": "smbdirect"},
    "plain": {},
    "audit_above": {"vfs objects": "full_audit smbdirect", **AUDIT},
    "audit_below": {"vfs objects": "smbdirect full_audit", **AUDIT},
    "time_audit": {"vfs objects": "time_audit smbdirect"},
    "streams_below": {"vfs objects": "smbdirect streams_xattr"},
    "streams_above": {"vfs objects": "streams_xattr smbdirect"},
    "as_nobody": {"vfs objects": "smbdirect", "force user": "nobody"},
    "no_aio": {"vfs objects": "smbdirect", "aio read size": "0", "aio write size": "0"},
    "acl": {"vfs objects": "acl_xattr smbdirect"},
    "fruit": {"vfs objects": "catia fruit streams_xattr smbdirect"},
    "shadow": {"vfs objects": "shadow_copy2 smbdirect"},
    "aio_pthread": {"vfs objects": "smbdirect aio_pthread"},
    "io_uring": {"vfs objects": "smbdirect io_uring"},
    "recycle": {"vfs objects": "recycle smbdirect"},
    "sync": {"vfs objects": "smbdirect", "sync always": "yes"},
    "strict_locking": {"vfs objects": "smbdirect", "strict locking": "yes"},
    "strict_allocate": {"vfs objects": "smbdirect", "strict allocate": "yes"},
    "kernel_oplocks": {"vfs objects": "smbdirect", "kernel oplocks": "yes"},
    "no_oplocks": {"vfs objects": "smbdirect", "oplocks": "no"},
    "direct_no": {"vfs objects": "smbdirect", "smbdirect:direct": "no"},
    "direct_odd": {"vfs objects": "smbdirect", "smbdirect:direct": "sometimes"},
    "direct_read": {"vfs objects": "smbdirect", "smbdirect:direct": "read"},
    "direct_write": {"vfs objects": "smbdirect", "smbdirect:direct": "write"},
    # Where a new name is not looked for in the whole directory.
    "exact": {"vfs objects": "smbdirect", "case sensitive": "yes"},
    "durable": {"vfs objects": "smbdirect", **DURABLE},
    "plain_durable": DURABLE,
    "btrfs_below": {"vfs objects": "smbdirect btrfs"},
    "btrfs_above": {"vfs objects": "btrfs smbdirect"},
}


_made = []  # directories


@pytest.fixture(scope="session", params=SERIES)
def series(request):
    module_fixture.skip_if_missing(request.param)
    return request.param


def _directory(scratch, series):
    """One that is not there yet."""
    _made.append(scratch / f"vfs-{series}-{len(_made)}")
    return _made[-1]


@pytest.fixture(scope="session")
def server(scratch, series):
    """A ModuleSmbd with SHARES for all tests that leave it alive; made anew when they turn to another series and back."""
    with module_fixture.running(_directory(scratch, series), series, shares=SHARES) as smbd:
        os.chmod(smbd.share_path("as_nobody"), 0o777)
        (smbd.directory / "shares").chmod(0o755)
        yield smbd


@pytest.fixture
def pair(server):
    """A client, and a link to its process that has asked for direct I/O."""
    with direct(server) as (client, link):
        yield client, link


@pytest.fixture
def other(server):
    """Another client, in another process of smbd's."""
    client = connect(server)
    yield client
    client.close_transport()


@pytest.fixture
def make_server(scratch, series):
    """make_server(**kw) -> a started ModuleSmbd of this series, stopped at the end of the test."""
    made = []

    def make(**kw):
        directory = _directory(scratch, series)
        directory.mkdir()
        made.append(ModuleSmbd(directory, series=kw.pop("series", series), **kw))
        return made[-1].start()

    yield make
    for smbd in reversed(made):
        smbd.stop()
