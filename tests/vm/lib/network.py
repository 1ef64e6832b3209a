# SPDX-License-Identifier: MIT
"""The guest's network: a veth pair with RDMA devices on one end. Client and server share it."""

import contextlib
import json
import pathlib
import re
import subprocess

from lib.process import wait_until

# What the client up to 6.12 warns of when it ends a connection over rxe, with any server. It may then hang for good.
DRAIN = "failed to drain recv queue: -12"

DRIVERS = {"rxe": "rdma_rxe", "siw": "siw"}
# Where SMB Direct is served on RoCE and on iWARP. From 7.x on the client looks nowhere else; older ones try both.
PORTS = {"rxe": 445, "siw": 5445}


def run(*argv, timeout=30, check=True, cwd=None, env=None):
    """A program's CompletedProcess; with check, a failure is an AssertionError with what it said. TimeoutExpired when
    the time is up, even if it hangs in the kernel and cannot be killed."""
    argv = [str(a) for a in argv]
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        cwd=cwd, env=env,
    )
    try:
        out, errors = process.communicate(timeout=timeout)
    except BaseException:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=2)
        raise
    done = subprocess.CompletedProcess(argv, process.returncode, out, errors)
    assert not check or done.returncode == 0, f"{' '.join(argv)} ended {done.returncode}: {out}{errors}"
    return done


def modprobe(*names):
    run("modprobe", "-a", *names)


class Network:
    """The pair v0 (with `addresses`, as "ADDR/PREFIX") and v1, both up and carrying. A context manager."""

    def __init__(self, addresses=("192.0.2.1/24",), mtu=None):
        self.addresses, self.mtu = list(addresses), mtu

    @property
    def address(self):
        """The first address."""
        return self.addresses[0].split("/")[0]

    def __enter__(self):
        run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
        for name in ("v1", "v0"):
            if self.mtu:
                run("ip", "link", "set", name, "mtu", self.mtu)
            run("ip", "link", "set", name, "up")
        for address in self.addresses:
            nodad = ["nodad"] if ":" in address else []
            run("ip", "address", "add", address, "dev", "v0", *nodad)
        wait_until(lambda: pathlib.Path("/sys/class/net/v0/operstate").read_text() == "up\n", 10, "v0 is up")
        return self

    def __exit__(self, *_):
        if not client_hangs():  # else it would wait for the RDMA device that stayed
            run("ip", "link", "delete", "v0")


def link(name):
    """What `rdma link` says of the device, or nothing."""
    found = json.loads(run("rdma", "-j", "link", "show").stdout or "[]")
    return next((entry for entry in found if entry["ifname"] == name), None)


@contextlib.contextmanager
def rdma_device(kind, netdev="v0", name=None, serves=True):
    """An RDMA device of `kind` ("rxe" or "siw") on netdev; gives its name. Removal waits for every process that has
    the device open, hence for a bounded time only. serves: a server of ours is to use it."""
    name = name or f"{kind}0"
    modprobe(DRIVERS[kind], "rdma_ucm", "ib_uverbs")
    if kind == "siw":
        # It reports what it sends by reference as sent before it is: since 6.12 what a server writes into the buffer
        # afterwards is seen to go out instead (scripts/lib/vm/modules.py).
        pathlib.Path("/sys/module/siw/parameters/zcopy_tx").write_text("N" if serves else "Y")
    run("rdma", "link", "add", name, "type", kind, "netdev", netdev)
    try:
        wait_until(lambda: (link(name) or {}).get("state") == "ACTIVE", 10, lambda: f"{name} active: {link(name)}")
        yield name
    finally:
        delete_device(name)


def delete_device(name, seconds=20):
    """Waits for who has it open. Where that is a client that hangs in the kernel, the device stays until the guest
    ends, and nobody waits."""
    if client_hangs():
        print(f"(the client hangs at the end of a connection: {name} stays)", flush=True)
        return
    deletion = subprocess.Popen(["rdma", "link", "delete", name], stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        assert deletion.wait(seconds) == 0, f"rdma link delete {name} ended {deletion.returncode}"
    except subprocess.TimeoutExpired:
        stack = pathlib.Path(f"/proc/{deletion.pid}/stack").read_text()
        held = {kind: resources(kind) for kind in ("qp", "cm_id", "pd")}
        raise AssertionError(f"rdma link delete {name} hangs: who has it open? {held}\n{stack}") from None


def client_hangs():
    """Whether a thread of the kernel's SMB client (up to 6.12) waits in the end of a connection over rxe, as it may for ever."""
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if "(cifsd) D " in stat.read_text() and "smbd_destroy" in stat.with_name("wchan").read_text():
                return True
    return False


def resources(kind="qp"):
    """The entries of `rdma resource show KIND` ("qp", "mr", "pd", "cq"): dicts with pid or kern owner."""
    return json.loads(run("rdma", "-j", "-d", "resource", "show", kind).stdout or "[]")


def queue_pairs(pid=None, state=None):
    """Queue pairs other than the drivers' own (GSI, SMI), of one process or in one state."""
    found = [qp for qp in resources("qp") if qp.get("type") not in ("GSI", "SMI")]
    found = [qp for qp in found if pid is None or qp.get("pid") == pid]
    return [qp for qp in found if state is None or qp.get("state") == state]


def hardware_counters(device):
    """Name -> value of the device's counters, where its driver has some."""
    folder = pathlib.Path(f"/sys/class/infiniband/{device}/ports/1/hw_counters")
    out = {}
    for path in folder.glob("*") if folder.is_dir() else ():
        text = path.read_text().strip()
        if re.fullmatch(r"\d+", text):
            out[path.name] = int(text)
    return out
