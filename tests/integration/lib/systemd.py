# SPDX-License-Identifier: MIT
"""A host with systemd as its first process, on this machine, with a build installed. Its files are a layer over this
machine's, and its network is this machine's."""

import functools
import pathlib
import shutil
import subprocess
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[3] / "scripts/lib/fresh"))
import systemd_host  # noqa: E402


@functools.cache
def why_not():
    """Why there can be none here; nothing: there can."""
    if not shutil.which("meson"):
        return "needs meson, which installs what is to run there"
    return systemd_host.why_not()


class SystemdHost(systemd_host.SystemdHost):
    """SystemdHost(directory).write(...).install(build).start() ... .stop(). The directory is not on tmpfs."""

    def install(self, build):
        done = subprocess.run(
            ["meson", "install", "--no-rebuild", "--quiet", "-C", str(build), "--destdir", str(self.directory / "upper")],
            capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return self
