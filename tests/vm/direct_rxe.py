#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The kernel's SMB Direct client over soft-RoCE against the verbs fabric, its data between the open files and the worker."""

import sys

from lib import direct_cases
from lib.network import DRAIN

cases = direct_cases.all_cases("rxe", "verbs", {"rsize": 1048576, "wsize": 1048576}, allow=[DRAIN])

if __name__ == "__main__":
    sys.exit(cases.main())
