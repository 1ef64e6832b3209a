# SPDX-License-Identifier: MIT
"""Tests in the guest kernel: networks, RDMA devices, mounts and the kernel's own log.

One package with tests/integration/lib: `from lib.smbd import SmbdServer` works in here as it does there.
Standard library only.
"""

import pathlib

__path__.append(str(pathlib.Path(__file__).resolve().parents[2] / "integration/lib"))
