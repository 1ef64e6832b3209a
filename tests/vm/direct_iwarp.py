#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The kernel's SMB Direct client over siw against the iwarp fabric, its data between the open files and the worker."""

import sys

from lib import direct_cases

# Over siw, the client up to 6.12 retries a direct read or write of 1 MiB for ever when it is not on a page's boundary.
cases = direct_cases.all_cases("siw", "iwarp", {"rsize": 524288, "wsize": 524288})

if __name__ == "__main__":
    sys.exit(cases.main())
