#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The kernel's SMB Direct client over soft-RoCE against the verbs fabric, its data by memory shared with a stock smbd."""

import sys

from lib import area_cases
from lib.network import DRAIN

cases = area_cases.all_cases("rxe", {"rsize": 1048576, "wsize": 1048576}, allow=[DRAIN])

if __name__ == "__main__":
    sys.exit(cases.main())
