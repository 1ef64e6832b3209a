# SPDX-License-Identifier: MIT
"""Black-box test library: private servers, raw clients, and a second implementation of the wire formats.

Nothing here shares code with the programs under test. Python 3.11 standard library, pytest and
python3-cryptography only. Every server listens on loopback, on a free port, and is stopped by its pid.
"""
