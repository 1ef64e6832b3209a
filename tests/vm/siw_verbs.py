#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The kernel's SMB Direct client over siw against the verbs fabric on the same siw: an iWARP device."""

import functools
import sys

from lib import client_cases
from lib.cases import Cases
from lib.world import world

# Over siw, the client up to 6.12 retries a direct read or write of 1 MiB for ever when it is not on a page's boundary.
PLAIN = {"rsize": 524288, "wsize": 524288}

cases = Cases(functools.partial(world, "siw", "verbs", PLAIN))
client_cases.add_all(cases, PLAIN)

if __name__ == "__main__":
    sys.exit(cases.main())
