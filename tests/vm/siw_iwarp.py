#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The kernel's SMB Direct client over siw against the iwarp fabric: iWARP of the kernel, iWARP of ours."""

import functools
import re
import sys

from lib import cifs, client_cases
from lib.cases import Cases
from lib.world import mounted, world

# Over siw, the client up to 6.12 retries a direct read or write of 1 MiB for ever when it is not on a page's boundary.
PLAIN = {"rsize": 524288, "wsize": 524288}

cases = Cases(functools.partial(world, "siw", "iwarp", PLAIN))


@cases.case()
def what_was_negotiated(world):
    """The client's own view of the connection."""
    with mounted(world, **PLAIN):
        got = cifs.smb_direct_values()
        assert got and got["max_send_size"] == 1364 and got["receive_credit_max"] == 255, cifs.debug_data()
        assert got["responder_resources"] > 0 and got["max_readwrite_size"] == 1 << 20, cifs.debug_data()
        return ", ".join(f"{name} {value}" for name, value in got.items() if re.search("^max|responder|_max", name))


client_cases.add_all(cases, PLAIN)

if __name__ == "__main__":
    sys.exit(cases.main())
