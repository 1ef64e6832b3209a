# SPDX-License-Identifier: MIT
"""Three CTDB nodes with clustered Samba and smbdirectd, and a client's host, on this machine and without a trace on it. The cluster's
file system is one directory that all nodes see."""

import json
import pathlib
import shutil
import subprocess

from lib.cluster_node import CONF, Node
from lib.netspace import NetSpace
from lib.process import LogSource, wait_until

PUBLIC = ["10.88.0.101", "10.88.0.102", "10.88.0.103"]
USER, PASSWORD = "smbuser", "Passw0rd!"
# An address stays where it is until something happens to that node.
SHORT_TIMERS = {"MonitorInterval": 3, "KeepaliveInterval": 1, "KeepaliveLimit": 3, "RerecoveryTimeout": 2,
                "TickleUpdateInterval": 2, "NoIPFailback": 1}  # fmt: skip
EVERYWHERE = [{"address": "0.0.0.0", "port": 5445}]

CTDB_CONF = """\
[logging]
    location = file:/var/log/ctdb/log.ctdb
    log level = NOTICE
[cluster]
    cluster lock = {shared}/lock
    node address = {private}
[legacy]
    realtime scheduling = false
    script log level = NOTICE
"""

# Three smbd that claim their version in one instant may fail in that, and 50.samba tries it once.
SMB_CONF = """\
[global]
    clustering = yes
    allow unsafe cluster upgrade = yes
    netbios name = CLUSTER
    workgroup = TEST
    server role = standalone server
    map to guest = never
    interfaces = "{static};capability=RDMA,speed=10000000000"
    smb ports = 445
    server min protocol = SMB2
    log file = /var/log/samba/log.smbd
    max log size = 0
    load printers = no
    printing = bsd
    disable spoolss = yes
    rpc start on demand helpers = no
    kernel oplocks = no
    kernel share modes = no
    posix locking = no
    durable handles = yes
[share]
    path = {shared}/data
    read only = no
"""


def static_address(number):
    return f"10.88.0.{number + 11}"


def private_address(number):
    return f"10.77.0.{number + 1}"


class Cluster:
    """Cluster(directory).start() ... .stop(). timers: CTDB's tunables; the default ones with {}."""

    def __init__(self, directory, nodes=3, timers=SHORT_TIMERS):
        self.directory = pathlib.Path(directory)
        self.size, self.timers = nodes, timers
        self.shared, self.package = self.directory / "shared", self.directory / "package"
        self.client, self.nodes, self.logs = None, {}, []

    def start(self):
        (self.shared / "data").mkdir(parents=True)
        (self.shared / "data").chmod(0o1777)
        scripts = self.package / "events/legacy"
        scripts.mkdir(parents=True)
        shutil.copy(CONF / "ctdb/09.smbdirectd.script", scripts)
        try:
            self.client = NetSpace()
            for name in ("private", "public"):
                self.client.run("ip", "link", "add", name, "type", "bridge", "forward_delay", "0")
                self.client.run("ip", "link", "set", name, "up")
            self.client.run("ip", "address", "add", "10.88.0.200/24", "dev", "public")
            for number in range(self.size):
                self.power_on(number)
            self.wait_healthy(120)
            self.add_user()
        except BaseException:
            self.stop()
            raise
        return self

    # --- nodes ----------------------------------------------------------------------------------------------------

    def power_on(self, number):
        node = self.nodes[number] = Node(number, self.directory / f"n{number}", self.package)
        self.plug_in(node)
        self.configure(node)
        self.logs.append(LogSource(f"CTDB on {node.name}", node.directory / "var/log/ctdb/log.ctdb"))
        node.run("ctdbd")

    def plug_in(self, node):
        for network, device, address in (
            ("private", "eth1", private_address(node.number)),
            ("public", "eth0", static_address(node.number)),
        ):
            port = f"{network}{node.number}"
            self.client.run("ip", "link", "delete", port, check=False)  # of the same node, before its power failed
            self.client.run("ip", "link", "add", port, "type", "veth", "peer", "name", device, "netns", str(node.pid))
            self.client.run("ip", "link", "set", port, "master", network, "up")
            node.run("ip", "address", "add", f"{address}/24", "dev", device)
            node.run("ip", "link", "set", device, "up")

    def configure(self, node):
        fields = {"shared": self.shared, "private": private_address(node.number), "static": static_address(node.number)}
        node.write("/etc/ctdb/nodes", "".join(private_address(n) + "\n" for n in range(self.size)))
        node.write("/etc/ctdb/public_addresses", "".join(f"{a}/24 eth0\n" for a in PUBLIC[: self.size]))
        node.write("/etc/ctdb/ctdb.conf", CTDB_CONF.format(**fields))
        node.write("/etc/ctdb/ctdb.tunables", "".join(f"{k}={v}\n" for k, v in self.timers.items()))
        node.write("/etc/samba/smb.conf", SMB_CONF.format(**fields))
        for name, line in (("passwd", f"{USER}:x:4711:4711::/:/bin/false"), ("group", f"{USER}:x:4711:")):
            text = node.path(f"/etc/{name}").read_text()
            if f"\n{USER}:" not in text:
                node.write(f"/etc/{name}", f"{text}{line}\n")
        node.install(self.pool())

    def pool(self, listeners=EVERYWHERE):
        return json.dumps({"workers": 2, "user": "nobody", "listeners": listeners, "upstream": {"mode": "transparent"}})

    def power_off(self, number):
        """No last packet gets out."""
        for network in ("private", "public"):
            self.cable(number, network, "down")
        self.nodes.pop(number).off()

    def cable(self, number, network, state):
        self.client.run("ip", "link", "set", f"{network}{number}", state)

    def add_user(self):
        """Only while CTDB runs: the table of users is the cluster's."""
        done = subprocess.run(
            self.any().wrap("smbpasswd", "-s", "-a", USER),
            input=f"{PASSWORD}\n{PASSWORD}\n", capture_output=True, text=True, timeout=20,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def any(self, but=None):
        return next(node for number, node in sorted(self.nodes.items()) if node is not but)

    # --- what CTDB says ---------------------------------------------------------------------------------------------

    def wait_healthy(self, deadline=60):
        wait_until(
            lambda: all(node.flags() == set() for node in self.nodes.values()),
            deadline,
            lambda: f"all nodes healthy: { {n.name: n.flags() for n in self.nodes.values()} }",
            interval=0.1,
        )
        wait_until(lambda: all(map(self.holder, PUBLIC[: self.size])), 20, "every public address on a node", interval=0.1)

    def holder(self, address):
        """The node that has the address on an interface, if one alone has it."""
        found = [node for node in self.nodes.values() if node.has(address)]
        return found[0] if len(found) == 1 else None

    def heal(self, deadline=60):
        """As it was after start()."""
        for number in set(range(self.size)) - set(self.nodes):
            self.power_on(number)
        for node in self.nodes.values():
            if "Disabled" in (node.flags() or ()):
                node.run("ctdb", "enable")
            node.options()
            node.path("/etc/ctdb/rc.local").unlink(missing_ok=True)
            if node.path("/etc/smbdirectd/pool.json").read_text() != self.pool():
                node.write("/etc/smbdirectd/pool.json", self.pool())
                node.run("service", "smbdirectd", "stop", check=False)
            if not node.daemon_pid() and node.flags() is not None:
                node.run("service", "smbdirectd", "start", check=False)
        self.wait_healthy(deadline)

    def stop(self):
        for node in self.nodes.values():
            node.off()
        self.nodes = {}
        if self.client:
            self.client.close()
            self.client = None
        for log in self.logs:
            log.close()
        shutil.rmtree(self.directory, ignore_errors=True)
