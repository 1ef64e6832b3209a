# SPDX-License-Identifier: MIT
"""The kernel's SMB server, to be compared with (scripts/vm --ksmbd). Its tools are Debian's, unpacked: installed, their
package would remove samba."""

import os
import pathlib

from lib.network import modprobe, run
from lib.process import Server, wait_until

CONFIG = """\
[global]
    netbios name = KSMBD
    server multi channel support = yes
    tcp port = {port}
[share]
    path = {path}
    read only = no
"""


def root():
    """Where the package is unpacked ($SMBDIRECTD_KSMBD), or None."""
    value = os.environ.get("SMBDIRECTD_KSMBD")
    return pathlib.Path(value) if value else None


class Ksmbd:
    """A context manager: serves `path` as "share" to root, at every address: TCP on `port`, and SMB Direct on the RDMA
    devices that are there as it starts."""

    def __init__(self, directory, path, port=4451, password="Passw0rd!"):
        self.directory, self.path, self.port, self.password = pathlib.Path(directory), path, port, password
        self.mountd = None

    def program(self, name):
        (found,) = root().glob(f"usr/sbin/{name}")
        return found

    def __enter__(self):
        self.directory.mkdir(parents=True, exist_ok=True)
        config, users = self.directory / "ksmbd.conf", self.directory / "ksmbdpwd.db"
        config.write_text(CONFIG.format(port=self.port, path=self.path))
        users.write_text("")  # of an earlier start, too
        modprobe("ksmbd")
        run(self.program("ksmbd.adduser"), "-C", config, "-P", users, "-a", "-p", self.password, "root")
        argv = [self.program("ksmbd.mountd"), "-C", config, "-P", users, "-n"]
        self.mountd = Server("ksmbd.mountd", argv, self.directory / "ksmbd.log")
        try:
            wait_until(self._listens, 20, lambda: f"ksmbd listens on port {self.port}: {self.mountd.log}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def _listens(self):
        rows = [line.split() for name in ("tcp", "tcp6") for line in pathlib.Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
        return any(row[1].endswith(f":{self.port:04X}") and row[3] == "0A" for row in rows)

    def __exit__(self, *_):
        run(self.program("ksmbd.control"), "-s", check=False)
        self.mountd.end()
        run("modprobe", "-r", "ksmbd", check=False)
