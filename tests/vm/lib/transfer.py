# SPDX-License-Identifier: MIT
"""A transfer over a mount that goes on while something breaks, and every byte of it afterwards."""

import os
import subprocess
import threading

from lib import cifs
from lib.files import content, sha256
from lib.network import run
from lib.process import wait_until
from lib.world import fresh

BLOCK = 256 * 1024
BLOCKS = 160  # 40 MiB


class Transfer(threading.Thread):
    """Writes BLOCKS blocks with direct I/O, each known, and reads all of it back."""

    def __init__(self, path, seed):
        super().__init__(daemon=True)
        self.path, self.seed, self.written, self.error = path, seed, 0, None

    def run(self):
        try:
            with open(self.path, "wb", buffering=0) as out:
                for block in self.blocks():
                    out.write(block)
                    self.written += 1
                os.fsync(out.fileno())
        except OSError as e:
            self.error = e

    def blocks(self):
        source = content(BLOCK * BLOCKS, self.seed)
        data = b"".join(source)
        return (data[i : i + BLOCK] for i in range(0, len(data), BLOCK))

    def reached(self, blocks):
        wait_until(lambda: self.written >= blocks or self.error, 60, lambda: f"{blocks} blocks written: {self.written}")
        assert not self.error, self.error

    def finish(self, seconds=150):
        self.join(seconds)
        assert not self.is_alive(), f"stuck after {self.written} of {BLOCKS} blocks:\n{cifs.debug_data()}"
        assert not self.error, f"after {self.written} blocks: {self.error}"


def survives(world, name, strike, interrupts=True):
    """A transfer through `strike`, and what there is afterwards, byte for byte, on both sides. Where the strike
    does not interrupt the transfer, that may end during it."""
    server_side = fresh(world, name)
    options = {"cache": "none", "hard": True, "echo_interval": 2, **world.plain}
    with cifs.Mount("/mnt/fault", world.network.address, rdma=True, options=options) as mount:
        transfer = Transfer(mount.path / name / "file", seed=len(name))
        transfer.start()
        transfer.reached(BLOCKS // 4)
        told = strike(world)
        at = transfer.written
        assert at < BLOCKS or not interrupts, "it was over before anything broke"
        transfer.finish()
        wanted = run("sha256sum", server_side / "file").stdout.split()[0]
        mount.remount()
        assert sha256(mount.path / name / "file") == wanted
    expected = subprocess.run(["sha256sum"], input=b"".join(transfer.blocks()), capture_output=True, check=True)
    assert expected.stdout.decode().split()[0] == wanted, "what was written is not what smbd has"
    return f"{told} after {at} of {BLOCKS} blocks"
