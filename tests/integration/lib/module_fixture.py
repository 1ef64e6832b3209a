# SPDX-License-Identifier: MIT
"""What fixtures of several files have in common: a stock smbd with vfs_smbdirect for some tests, or a skip that says why not."""

import contextlib

import pytest

from lib import module_smbd


def skip_if_missing(series=None):
    reason = module_smbd.missing(series)
    if reason:
        pytest.skip(reason)


@contextlib.contextmanager
def running(directory, series, **kw):
    """A ModuleSmbd of that series in `directory`, which is made. What it logs must tell of no panic."""
    skip_if_missing(series)
    directory.mkdir()
    smbd = module_smbd.ModuleSmbd(directory, series=series, **kw).start()
    try:
        yield smbd
        log = smbd.log_path.read_text(errors="replace")
    finally:
        smbd.stop()
    assert "PANIC" not in log and "INTERNAL ERROR" not in log, log[-4000:]
