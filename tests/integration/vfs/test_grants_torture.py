# SPDX-License-Identifier: MIT
"""Samba's own tests of leases and durable opens, while somebody is granted each open that may be: no test may end otherwise
than on a share without the module, though each break goes by our handler."""

import os
import shutil

import pytest

from lib import torture
from lib.attendant import Attendant


mostly_sleeps = pytest.mark.skipif(
    not os.environ.get("SMBDIRECTD_FULL"), reason="mostly sleeps, about 5 minutes: runs with scripts/test --full"
)


@pytest.mark.skipif(not shutil.which("smbtorture"), reason="there is no smbtorture")
@pytest.mark.parametrize(
    "suite,successes",
    [
        ("smb2.durable-open", 15),
        ("smb2.durable-v2-open", 10),
        pytest.param("smb2.lease", 30, marks=mostly_sleeps),
        pytest.param("smb2.oplock", 30, marks=mostly_sleeps),
    ],
)
def test_a_suite_ends_as_without_the_module(server, suite, successes):
    lanes = [torture.Lane("plain", server.port, "plain_durable"), torture.Lane("module", server.port, "durable")]
    with Attendant(server) as attendant:
        comparison = torture.compare(lanes, server, suite, timeout=200)
    assert not comparison.different, "\n".join(comparison.log_lines())
    assert comparison.count(1) >= successes
    # Not all: a process that ends soon has ended before it is asked.
    assert attendant.grants >= 10
    assert attendant.changes >= 1 or "durable" in suite  # few of those break anything
