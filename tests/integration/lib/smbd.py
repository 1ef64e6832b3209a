# SPDX-License-Identifier: MIT
"""A private stock smbd: own directories, own port on 127.0.0.1, own user in a private tdbsam."""

import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess

from lib.process import LogSource, Server, alive, children_of, descendants_of, descriptors_of, free_port, wait_until

SMBD = next((p for p in ("/usr/sbin/smbd", "/usr/local/sbin/smbd") if os.path.exists(p)), "smbd")
DIRECTORIES = "lock state cache private pid ncalrpc binddns log".split()


def samba_version():
    """(4, 17) of the smbd there is; () where there is none."""
    if not shutil.which(SMBD):
        return ()
    text = subprocess.run([SMBD, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
    found = re.match(r"Version (\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else ()


class SmbdServer:
    """SmbdServer(directory, shares={"share": {}}).start() ... .stop()

    directory   an existing empty directory (on a file system with user xattrs for acl_xattr & co.)
    shares      name -> {option: value}; each gets a directory of its own, `share_path(name)`
    options     extra [global] lines, {option: value}
    The user `user` (the account this process runs as) has the password `password`; unknown users are guests.
    """

    def __init__(self, directory, shares=None, options=None, password="Passw0rd!", log_level=1, port=None):
        self.directory = pathlib.Path(directory)
        self.shares = {"share": {}} if shares is None else shares
        self.options = dict(options or {})
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.password = password
        self.log_level = log_level
        self.address = "127.0.0.1"
        self.port = port or free_port()
        self.netbios_name = "SMBDTEST"
        self.config = self.directory / "smb.conf"
        self.log_path = self.directory / "log" / "log.smbd"
        self.server = None
        self._smbd_log = None

    def share_path(self, name="share"):
        return self.directory / "shares" / name

    def write_config(self):
        d = self.directory
        for name in DIRECTORIES:
            (d / name).mkdir(parents=True, exist_ok=True)
        (d / "private").chmod(0o700)
        (d / "ncalrpc").chmod(0o755)
        settings = {
            "netbios name": self.netbios_name,
            "workgroup": "TESTGRP",
            "server role": "standalone server",
            "map to guest": "bad user",
            "guest account": self.user,
            "interfaces": "lo",
            "bind interfaces only": "yes",
            "smb ports": self.port,
            "disable netbios": "yes",
            "lock directory": d / "lock",
            "state directory": d / "state",
            "cache directory": d / "cache",
            "private dir": d / "private",
            "pid directory": d / "pid",
            "ncalrpc dir": d / "ncalrpc",
            "binddns dir": d / "binddns",
            "usershare path": "",
            "passdb backend": f"tdbsam:{d}/private/passdb.tdb",
            "log file": self.log_path,
            "log level": self.log_level,
            "max log size": 0,
            "load printers": "no",
            "printing": "bsd",
            "printcap name": "/dev/null",
            "disable spoolss": "yes",
            "server multi channel support": "yes",
            **self.options,
        }
        lines = ["[global]"] + [f"    {k} = {v}" for k, v in settings.items()]
        for name, extra in self.shares.items():
            path = self.share_path(name)
            path.mkdir(parents=True, exist_ok=True)
            share = {"path": path, "read only": "no", "guest ok": "yes", **extra}
            lines += [f"[{name}]"] + [f"    {k} = {v}" for k, v in share.items()]
        self.config.write_text("\n".join(lines) + "\n")

    def _add_user(self):
        subprocess.run(
            [str(word) for word in self.within(["smbpasswd", "-c", self.config, "-s", "-a", self.user])],
            input=f"{self.password}\n{self.password}\n",
            text=True,
            check=True,
            capture_output=True,
            timeout=30,
        )

    def start(self):
        self.write_config()
        if not (self.directory / "private" / "passdb.tdb").exists():
            self._add_user()
        self.server = Server(
            "smbd",
            self.within(self.command()),
            self.directory / "log" / "smbd.out",
        )
        self._smbd_log = LogSource("smbd's log", self.log_path)

        def ready():
            assert self.server.running(), f"smbd ended: {self.server.log}\n{self.log_tail()}"
            return self._listening()

        try:
            wait_until(ready, 20, lambda: f"smbd listening on port {self.port}: {self.log_tail()}")
        except BaseException:
            self.stop()
            raise
        return self

    def command(self):
        return [SMBD, "-F", "--no-process-group", "-s", self.config]

    def within(self, argv):
        """What runs that command where this smbd is; here that is where everything is."""
        return argv

    def _listening(self):
        wanted = f":{self.port:04X}"
        with open("/proc/net/tcp") as f:
            return any(line.split()[1].endswith(wanted) and line.split()[3] == "0A" for line in f.readlines()[1:])

    def log_tail(self, lines=40):
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"

    @property
    def pid(self):
        return self.server.pid

    def children(self):
        """Pids of smbd's children, helpers (notifyd, cleanupd) included."""
        return children_of(self.pid)

    def client_pids(self):
        """Pids of the smbd processes that have a TCP connection open on our port."""
        inodes = self._established_inodes()
        wanted = {f"socket:[{inode}]" for inode in inodes}
        return [pid for pid in descendants_of(self.pid) if wanted & set(descriptors_of(pid).values())]

    def connections(self):
        """How many TCP connections smbd has established on its port now."""
        return len(self._established_inodes())

    def _established_inodes(self):
        wanted = f":{self.port:04X}"
        with open("/proc/net/tcp") as f:
            rows = [line.split() for line in f.readlines()[1:]]
        return {r[9] for r in rows if r[1].endswith(wanted) and r[3] == "01" and r[9] != "0"}

    def smbclient(self, *args, **kw):
        return smbclient(self, *args, **kw)

    def pause(self):
        """SIGSTOP: nobody accepts new connections (the kernel still completes handshakes)."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self.pid, signal.SIGCONT)

    def stop(self):
        if self.server is None:
            return
        helpers = descendants_of(self.pid)
        try:
            self.server.end(deadline=10)
        finally:
            for pid in helpers:  # helpers and clients' processes end when the parent does; make sure
                if alive(pid):
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
            self._smbd_log.close()
            self.server = None

    def __enter__(self):
        return self.start() if self.server is None else self

    def __exit__(self, *exc):
        self.stop()


def smbclient(
    smbd,
    commands,
    port=None,
    address="127.0.0.1",
    share="share",
    protocol="SMB3_11",
    user=None,
    password=None,
    guest=False,
    encrypt=False,
    sign=False,
    timeout=60,
    check=True,
    cwd=None,
    options=None,
):
    """Runs smbclient -c COMMANDS against `address`:`port` (default: smbd's own port). `guest`: as an unknown
    user. Returns the CompletedProcess; with check, a failure is an AssertionError with its output."""
    config = smbd.directory / "client.conf"
    if not config.exists():
        config.write_text(
            "[global]\n    client min protocol = SMB2\n    name resolve order = host\n"
            f"    lock directory = {smbd.directory}/client\n    state directory = {smbd.directory}/client\n"
            f"    cache directory = {smbd.directory}/client\n    private dir = {smbd.directory}/client\n"
        )
        (smbd.directory / "client").mkdir(exist_ok=True)
    who = "nosuchuser%" if guest else f"{user or smbd.user}%{password or smbd.password}"
    argv = ["smbclient", f"//{address}/{share}", "-p", str(port or smbd.port), "-s", str(config), "-U", who]
    argv += [f"--option=client min protocol={protocol}", f"--option=client max protocol={protocol}"]
    if encrypt:
        argv += ["--client-protection=encrypt"]
    elif sign:
        argv += ["--client-protection=sign"]
    elif guest:
        argv += ["--client-protection=off"]
    for key, value in (options or {}).items():
        argv += [f"--option={key}={value}"]
    argv += ["-c", commands]
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout, cwd=cwd
    )
    if check:
        assert done.returncode == 0, f"{argv} ended {done.returncode}:\n{done.stdout}{done.stderr}"
    return done


def have(program):
    return shutil.which(program) is not None
