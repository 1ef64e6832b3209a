#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""An address that moves from one RDMA device to another, as between nodes of a cluster: who is connected to it is told at once,
nobody gets in until it is there, and then by the other device."""

import contextlib
import sys
import time

from lib import cifs, kernels, smb2
from lib.cases import Cases, Skip
from lib.daemon import Connect, Smbdirectd, program
from lib.iwarp import Closed
from lib.network import DRAIN, PORTS, queue_pairs, rdma_device, run
from lib.process import wait_until
from lib.world import smbd_world

MOVES = "192.0.2.101"
PORT = PORTS["rxe"]
BLOCK = bytes(range(256)) * 256


@contextlib.contextmanager
def world():
    """The address is at v0, with the device rxe0; the other end of the cable, v1, has rxe1."""
    cifs.load()
    with contextlib.ExitStack() as stack:
        w = stack.enter_context(smbd_world(("192.0.2.1/24", f"{MOVES}/32")))
        run("ip", "address", "add", "192.0.2.2/24", "dev", "v1")
        for number in (0, 1):
            stack.enter_context(rdma_device("rxe", netdev=f"v{number}", name=f"rxe{number}"))
        pool = {"listeners": [{"address": "0.0.0.0", "port": PORT, "fabric": "verbs"}], "upstream": {"allow": ["192.0.2.0/24"]}}
        w.daemon = stack.enter_context(Smbdirectd(w.directory / "smbdirectd", w.smbd.port, pool=pool))
        yield w


cases = Cases(world, allow=[DRAIN])


def devices(world):
    """Of the workers' queue pairs that are connected."""
    pids = world.daemon.worker_pids()
    return sorted(qp["ifname"] for qp in queue_pairs(state="RTS") if qp.get("pid") in pids)


def move(source, target):
    run("ip", "address", "delete", f"{MOVES}/32", "dev", source)
    run("ip", "address", "add", f"{MOVES}/32", "dev", target)


@cases.case()
def an_idle_connection(world):
    def session():
        return smb2.over_tcp(("127.0.0.1", connect.port)).start(
            user=world.smbd.user, password=world.smbd.password, host=world.smbd.netbios_name
        )

    with Connect(world.directory / "connect", f"{MOVES}:{PORT}", "--fabric", "verbs", "--source", MOVES) as connect:
        idle = session()
        file = idle.create("kept")
        idle.write(file, BLOCK).check()
        wait_until(lambda: devices(world) == ["rxe0"], 20, lambda: f"a connection by rxe0: {queue_pairs()}")
        begin = time.monotonic()
        assert world.daemon.ctl("leave", MOVES) == {"address": MOVES, "connections": 1}
        took = time.monotonic() - begin
        assert not devices(world), queue_pairs()
        idle.timeout = 5
        try:
            raise AssertionError(f"it lives: {idle.echo()}")
        except Closed:
            pass
        assert world.daemon.ctl("connections") == []
        wait_until(lambda: world.smbd.client_pids() == [], 20, "smbd has heard of it")
        done = run(program("smbdirect-connect"), "--fabric", "verbs", "--to", f"{MOVES}:{PORT}", "--source", MOVES, "--probe",
                   check=False)  # fmt: skip
        assert done.returncode == 1 and "refused" in done.stderr, done.stdout + done.stderr
        move("v0", "v1")
        try:
            assert world.daemon.ctl("take", MOVES) == {"address": MOVES, "left": True}
            with session() as again:
                assert again.read(again.create("kept"), len(BLOCK)).check().data == BLOCK
                wait_until(lambda: devices(world) == ["rxe1"], 20, lambda: f"a connection by rxe1: {queue_pairs()}")
        finally:
            move("v1", "v0")
    return f"told after {took:.2f} s"


@cases.case()
def a_mount(world):
    if kernels.version() < (7,):
        raise Skip("the kernel's client up to 6.12 can hang for good when a connection ends over rxe, whatever the server does")
    options = {"cache": "none", "hard": True, "echo_interval": 2, "rsize": 65536, "wsize": 65536}
    with cifs.Mount("/mnt/leave", MOVES, rdma=True, options=options) as mount:
        (mount.path / "before").write_bytes(BLOCK)
        assert devices(world) == ["rxe0"]
        world.daemon.ctl("leave", MOVES)
        assert not devices(world)
        move("v0", "v1")
        try:
            world.daemon.ctl("take", MOVES)
            assert (mount.path / "before").read_bytes() == BLOCK
            (mount.path / "after").write_bytes(BLOCK)
            assert devices(world) == ["rxe1"]
        finally:
            mount.unmount()
            move("v1", "v0")
    assert (world.smbd.share_path() / "after").read_bytes() == BLOCK
    return "reconnected by rxe1"


if __name__ == "__main__":
    sys.exit(cases.main())
