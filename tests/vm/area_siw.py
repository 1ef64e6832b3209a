#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The kernel's SMB Direct client over siw against the verbs fabric, its data by memory shared with a stock smbd."""

import sys

from lib import area_cases

# Over siw, the client up to 6.12 retries a direct read or write of 1 MiB for ever when it is not on a page's boundary.
cases = area_cases.all_cases("siw", {"rsize": 524288, "wsize": 524288})

if __name__ == "__main__":
    sys.exit(cases.main())
