# SPDX-License-Identifier: MIT
"""scripts/fresh: where it gets Debian from, and that nothing is left of what runs in a room, however it ends."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from lib.process import alive, wait_until

LIB = pathlib.Path(__file__).resolve().parents[2] / "scripts/lib"
sys.path += [str(LIB / "vm"), str(LIB / "fresh")]
import sources  # noqa: E402

# --- sources ------------------------------------------------------------------------------------------------------

DEB822 = """\
# a comment
Types: deb
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
# one in the middle
Components: main
 contrib

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://switched-off.example/debian
Suites: bookworm bookworm-updates
Components: main
"""
ONE_LINE = """\
# deb http://commented.example/debian bookworm main
deb [arch=amd64 signed-by=/etc/key.gpg] http://vendor.example/apt bookworm main
deb-src http://source.example/debian bookworm main
deb [arch=amd64] http://mirror.example/debian bookworm main contrib
deb http://mirror.example/debian bookworm-updates main
deb http://mirror.example/debian-security bookworm-security main
deb http://other.example/debian bookworm contrib
"""


def machine(directory, files, release="bookworm"):
    (directory / "sources.list.d").mkdir()
    for name, text in files.items():
        (directory / name).write_text(text)
    (directory / "os-release").write_text(f'ID=debian\nVERSION_CODENAME={release}\n')
    return directory, directory / "os-release"


@pytest.mark.parametrize(
    "files",
    [
        {"sources.list.d/debian.sources": DEB822},
        {"sources.list": ONE_LINE},
        {"sources.list.d/a.list": "deb http://vendor.example/apt bookworm main\n", "sources.list.d/z.sources": DEB822},
        {"sources.list": ONE_LINE, "sources.list.d/off.sources.disabled": "deb http://off.example/debian bookworm main\n"},
    ],
)
def test_debian_comes_from_where_this_machine_has_it(tmp_path, files):
    assert sources.mirrors(*machine(tmp_path, files)) == (
        "http://mirror.example/debian",
        "http://mirror.example/debian-security",
    )


def test_a_machine_without_security_or_without_sources(tmp_path):
    apt = machine(tmp_path, {"sources.list": "deb http://mirror.example/debian sid main\n"}, release="trixie")
    assert sources.mirrors(*apt) == ("http://mirror.example/debian", None)
    (tmp_path / "sources.list").unlink()
    assert sources.mirrors(*apt) == (None, None)


# --- endings ------------------------------------------------------------------------------------------------------

RUN = f"""
import signal, sys
sys.dont_write_bytecode = True
sys.path.insert(0, {str(LIB / "fresh")!r})
import room
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
script = "mount -t tmpfs mine /mnt; setsid sleep 300 & trap '' TERM INT HUP; echo up; wait"
room.confined(["/bin/bash", "-c", script])
"""


def descendants(pid):
    """Pids of all below `pid`."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [p for child in map(int, children) for p in [child, *descendants(child)]]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes namespaces")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_room(number):
    """Neither what its program has started and what hears no signal, nor a mount."""
    with subprocess.Popen([sys.executable, "-c", RUN], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"up\n"
        running = descendants(process.pid)
        assert len(running) >= 3, running  # unshare, bash, sleep
        process.send_signal(number)
        process.communicate(timeout=20)
    # Killed, it could not wait for them: the kernel ends them right behind it.
    wait_until(lambda: not any(alive(pid) for pid in running), 10, lambda: f"still there: {running}")
    assert " /mnt tmpfs " not in pathlib.Path("/proc/self/mounts").read_text()
