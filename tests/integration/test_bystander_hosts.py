# SPDX-License-Identifier: MIT
"""The same (test_bystander.py) on other ground: a host with an IPv6 network of its own, local users, a log nobody reads."""

import pytest

from lib import attacks_fabric, attacks_local, attacks_smb
from lib.netspace import NetSpace
from lib.smbd import SmbdServer
from lib.stage import Stage, Stages, withstands

# --- IPv6: one host has a whole /64 ---


class SmbdThere(SmbdServer):
    """On loopback of a namespace."""

    def __init__(self, space, directory):
        super().__init__(directory)
        self.space = space

    def command(self):
        return self.space.wrap(*super().command())

    def _listening(self):
        return f":{self.port} " in self.space.run("ss", "-ltn")


@pytest.fixture(scope="module")
def six(scratch):
    """Stages in a namespace that has fd00:1::/64 (the attacker's) and fd00:2::/64 (the others')."""
    with NetSpace() as space:
        for network in (1, 2):
            space.run("ip", "-6", "route", "add", "local", f"fd00:{network}::/64", "dev", "lo")
        space.sysctl("net.ipv6.ip_nonlocal_bind", 1)
        directory = scratch / "six-smbd"
        directory.mkdir()
        with SmbdThere(space, directory) as smbd:
            pool = {
                "listeners": [{"address": "::1", "port": 5445, "fabric": "iwarp"}],
                "upstream": {"allow": ["fd00:1::/64", "fd00:2::/64"]},
            }
            made = Stages(scratch, lambda key, at: Stage(at, smbd, space=space, host="fd00:2::", pool=pool))
            yield made
            made.stop()


@pytest.mark.parametrize(
    "attack",
    [attacks_fabric.half_open, attacks_fabric.half_negotiations, attacks_smb.unanswered_reads, attacks_smb.silent_after_negotiate],
    ids=lambda a: a.__name__,
)
def test_beside_a_host_with_a_network(six, attack):
    """Each connection comes from another address of one /64."""
    withstands(six, attack, "six", source=lambda n: f"fd00:1::{n % 0xFFFF + 1:x}")


# --- local ---


class PipeNobodyReads:
    """The daemon's standard error is a pipe; once it listens, nobody reads it any more."""

    def wrap(self, *argv):
        return ["bash", "-c", 'exec "$@" 2> >(sed -u "/listening on/q" >&2; exec sleep 600)', "bash", *map(str, argv)]


@pytest.fixture(scope="module")
def local(scratch, smbd):
    wraps = {"pipe": PipeNobodyReads()}

    def make(key, directory):
        return Stage(directory, smbd, wrap=wraps.get(key), connect=key == "connect")

    made = Stages(scratch, make)
    yield made
    made.stop()


def test_a_log_that_nobody_reads(local):
    withstands(local, attacks_local.offences, "pipe", seconds=4)


def test_beside_squatters_at_the_control_socket(local):
    withstands(local, attacks_local.control_socket_squatters, "control")


@pytest.mark.parametrize("attack", attacks_local.AT_CONNECT, ids=lambda a: a.__name__)
def test_beside_a_user_of_smbdirect_connect(local, attack):
    """The bystander is another local client of the same smbdirect-connect."""
    withstands(local, attack, "connect")
