# SPDX-License-Identifier: MIT
"""What a worker believes of how it was started: its configuration comes sealed, or it does not run."""

import fcntl
import os
import socket
import subprocess

import pytest

from lib.daemon import program

SEALS = 0x1 | 0x2 | 0x4 | 0x8  # F_SEAL_SEAL, SHRINK, GROW, WRITE
F_ADD_SEALS = 1033


def start(text, seals):
    """(exit code, standard error) of a worker whose configuration is `text` in a memfd with `seals`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    config = os.memfd_create("config", os.MFD_ALLOW_SEALING)
    os.write(config, text)
    if seals:
        fcntl.fcntl(config, F_ADD_SEALS, seals)
    # The worker expects them as 3 and 4.
    shell = f'exec {program("smbdirect-worker")} --slot 0 --generation 1 3<&{theirs.fileno()} 4<&{config}'
    try:
        done = subprocess.run(
            ["bash", "-c", shell], pass_fds=[theirs.fileno(), config], capture_output=True, text=True, timeout=30
        )
    finally:
        for end in (ours, theirs):
            end.close()
        os.close(config)
    return done.returncode, done.stderr


@pytest.mark.parametrize("seals", [0, SEALS & ~0x8, SEALS & ~0x2], ids=["none", "may be written", "may shrink"])
def test_a_configuration_that_can_change_is_refused(seals):
    code, text = start(b"{}", seals)
    assert code == 2 and "not sealed" in text


def test_a_sealed_one_is_read(seals=SEALS):
    code, text = start(b"{}", seals)
    assert code == 2 and "not sealed" not in text and "is missing" in text
