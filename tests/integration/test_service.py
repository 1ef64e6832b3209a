# SPDX-License-Identifier: MIT
"""What init systems start: the systemd unit and its drop-in, the users and directories of packages, the init script of
System V, and the script that ends the service, with the programs of this build."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from lib import rdma
from lib.daemon import Smbdirectd, program
from lib.process import alive, children_of, command_line, free_port, kill_all_of, wait_until

CONF = pathlib.Path(__file__).resolve().parents[2] / "conf"

# Settings under which a daemon of mode "handoff" would start an smbd that does not serve what smbd.service serves.
LEAKING = re.compile(
    r"^(?:(?:Protect|Private|Restrict|ReadOnly|ReadWrite|Inaccessible|NoExec|Exec(?!Start|Stop|Reload|Condition)|Temporary|Bind"
    r"|RootD|RootI|Capability|Ambient|SystemCall|Device|IPAddress|SocketBind)\w*|NoNewPrivileges|MemoryDenyWriteExecute"
    r"|LockPersonality|DynamicUser|User|Group|UMask|ProcSubset|RemoveIPC|KeyringMode|SecureBits|DevicePolicy)=(?!no$)",
    re.M,
)


def needs(tool):
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"needs {tool}, which this system does not have")


def run(*argv, status=0, **kw):
    argv = [str(word) for word in argv]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, **kw)
    assert done.returncode == status, f"{argv} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


class Installed:
    """The programs of this build and the files of conf/ below a directory, as meson install would lay them out."""

    def __init__(self, root):
        self.root, self.logs = root, root / "log"
        (root / "sbin").mkdir(parents=True)
        (root / "libexec/smbdirectd").mkdir(parents=True)
        self.logs.mkdir()
        self.defaults = root / "defaults"
        (root / "sbin/smbdirectd").symlink_to(program("smbdirectd"))
        self.daemon = Smbdirectd(root / "pool", free_port())
        self.write_pool()
        self.stop_script = self.render("stop.in", "libexec/smbdirectd/stop")
        self.unit = self.render("smbdirectd.service.in", "smbdirectd.service")
        self.script = self.render("smbdirectd.init.in", "smbdirectd.init")
        self.pid_file = root / "run/smbdirectd.pid"
        self.defaults.write_text(
            f"PIDFILE={self.pid_file}\nLOG_DIRECTORY={self.logs}\nSMBDIRECTD_DRAIN_SECONDS=1\n"
            f"SMBDIRECTD_OPTIONS='--worker {program('smbdirect-worker')}'\n"
        )

    def write_pool(self, **more):
        self.daemon.pool_path.write_text(json.dumps({**self.daemon.pool, **more}))

    def render(self, name, target):
        text = (CONF / name).read_text()
        for word, path in (("sbindir", self.root / "sbin"), ("libexecdir", self.root / "libexec"),
                           ("config_file", self.daemon.pool_path), ("defaults_file", self.defaults)):  # fmt: skip
            text = text.replace(f"@{word}@", str(path))
        (self.root / target).write_text(text)
        (self.root / target).chmod(0o755 if text.startswith("#!") else 0o644)
        return self.root / target

    def harden(self):
        (self.root / "smbdirectd.service.d").mkdir()
        shutil.copy(CONF / "hardening.conf", self.root / "smbdirectd.service.d")

    def init(self, command, status=0, shell=(), **kw):
        return run(*shell, self.script, command, status=status, **kw)

    def pid(self):
        """Of the daemon that runs: its pid file names it, and it names its pool file."""
        pid = int(self.pid_file.read_text())
        assert str(self.daemon.pool_path) in command_line(pid), f"{self.pid_file} names process {pid}, which is not ours"
        return pid


@pytest.fixture
def installed(scratch):
    one = Installed(scratch / f"service-{time.monotonic_ns()}")
    yield one
    kill_all_of(one.daemon.pool_path)


# --- systemd ---


@needs("systemd-analyze")
def test_systemd_understands_the_unit_and_the_drop_in(installed):
    for _ in range(2):
        assert run("systemd-analyze", "verify", "--man=no", installed.unit) == ""
        if not (installed.root / "smbdirectd.service.d").exists():
            installed.harden()


@needs("systemd-analyze")
def test_the_drop_in_restricts_the_daemon(installed):
    """By systemd's own measure: 10 is everything, and a root daemon that serves a network cannot be far below 3."""

    def exposure():
        text = run("systemd-analyze", "security", "--offline=yes", "--no-pager", installed.unit)
        return float(re.search(r"Overall exposure level for \S+: ([\d.]+)", text)[1])

    open_to_all = exposure()
    installed.harden()
    assert exposure() <= 3.5 < open_to_all


def test_the_unit_takes_nothing_from_an_smbd_that_it_starts():
    """Shares in /home and /tmp, set-group-ID directories, scripts of smb.conf: all as smbd.service has them."""
    settings = (CONF / "smbdirectd.service.in").read_text()
    assert not LEAKING.findall(settings), LEAKING.findall(settings)
    assert len(LEAKING.findall((CONF / "hardening.conf").read_text())) > 15  # it does see them


def test_the_unit_fits_the_daemon():
    unit = (CONF / "smbdirectd.service.in").read_text()
    for line in ("Type=notify", "NotifyAccess=main", "KillMode=process", "RestartPreventExitStatus=2", "WatchdogSec=60",
                 "ExecStop=@libexecdir@/smbdirectd/stop ${MAINPID} service"):  # fmt: skip
        assert f"\n{line}\n" in unit, line
    # What Samba's unit is called on the systems we know: the same names wherever they stand.
    names = {key: set(re.search(rf"^{key}=(.*)$", unit, re.M)[1].split()) for key in ("After", "PartOf", "WantedBy")}
    assert names["PartOf"] == names["After"] - {"network-online.target"} == names["WantedBy"] - {"multi-user.target"}


@needs("systemctl")
def test_once_enabled_samba_starts_it(installed):
    """smbd.service wants it then. In a root of its own: no systemd needs to run."""
    root = installed.root / "root"
    (root / "usr/lib/systemd/system").mkdir(parents=True)
    (root / "etc/systemd/system").mkdir(parents=True)
    shutil.copy(installed.unit, root / "usr/lib/systemd/system")
    run("systemctl", f"--root={root}", "enable", "smbdirectd.service")
    assert (root / "etc/systemd/system/smbd.service.wants/smbdirectd.service").is_symlink()
    assert (root / "etc/systemd/system/multi-user.target.wants/smbdirectd.service").is_symlink()


@needs("systemd-sysusers")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: systemd-sysusers and systemd-tmpfiles set owners")
def test_users_and_directories_of_packages(installed):
    root = installed.root / "root"
    for kind in ("sysusers", "tmpfiles"):
        (root / f"usr/lib/{kind}.d").mkdir(parents=True)
        shutil.copy(CONF / f"smbdirectd.{kind}.conf", root / f"usr/lib/{kind}.d/smbdirectd.conf")
    (root / "etc").mkdir()
    run("systemd-sysusers", f"--root={root}", "smbdirectd.conf")
    assert re.search(r"^smbdirect:x:\d+:\d+:[^:]*:/nonexistent:/usr/sbin/nologin$", (root / "etc/passwd").read_text(), re.M)
    if shutil.which("systemd-tmpfiles"):
        run("systemd-tmpfiles", f"--root={root}", "--create", "smbdirectd.conf")
        status = (root / "run/smbdirectd").stat()
        assert (status.st_uid, status.st_mode & 0o7777) == (0, 0o755)
        modules = (root / "run/smbdirectd/smbd").stat()
        assert (modules.st_uid, modules.st_mode & 0o7777) == (0, 0o700)


# --- the init script ---


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_init_script(installed, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}, which this system does not have")
    words = (shell, "sh") if shell == "busybox" else (shell,)

    def init(command, status=0):
        return installed.init(command, status, words)

    assert "is not running" in init("status", 3)
    init("stop")
    assert init("try-restart") == ""  # as LSB has it: none runs
    assert "is not running" in init("status", 3)
    init("start")
    first = installed.pid()
    assert f"is running (pid {first})" in init("status")
    init("start")  # once more: it runs already
    assert installed.pid() == first
    installed.write_pool(log={"level": "debug"})
    init("reload")
    wait_until(lambda: "/log/level" in (installed.logs / "log.smbdirectd").read_text(), 10, "the reload in the log")
    installed.write_pool()
    init("restart")
    second = installed.pid()
    assert second != first and not alive(first)
    init("force-reload")  # as LSB has it for a daemon that can reload
    assert installed.pid() == second
    init("try-restart")
    third = installed.pid()
    assert third != second and not alive(second)
    workers = children_of(third)
    init("stop")
    assert not installed.pid_file.exists() and not alive(third)
    assert not any(alive(pid) for pid in workers)
    init("stop")
    assert "Usage:" in init("status-of-what", 2)
    log = (installed.logs / "log.smbdirectd").read_text()
    assert log.count("listening on") == 3 and log.count("draining: SIGQUIT") == 3, log


def test_init_script_when_it_does_not_start(installed):
    installed.write_pool(workers=0)
    assert "/workers is 0; allowed" in installed.init("start", 2)
    assert "is not running" in installed.init("status", 3)
    installed.write_pool()
    installed.init("start")
    pid = installed.pid()
    installed.write_pool(workers=0)
    for command in ("reload", "restart", "try-restart", "force-reload"):
        assert "/workers is 0; allowed" in installed.init(command, 6)
        assert installed.pid() == pid and alive(pid), "a wrong pool file has ended the daemon"
    installed.write_pool()
    installed.daemon.pool_path.rename(installed.root / "elsewhere")
    installed.init("stop")
    assert "smbdirectd-pool(5) says what to write there" in installed.init("start", 6)


def test_init_script_after_a_crash(installed, smbd, make_daemon):
    """The pid file names a dead process, then others', then a daemon again."""
    installed.init("start")
    pid = installed.pid()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), 5, "the end of the daemon")
    assert "it crashed or was killed" in installed.init("status", 1)
    bystander = subprocess.Popen(["sleep", "60"])
    other = make_daemon(smbd.port)  # of another pool
    try:
        installed.pid_file.write_text(f"{other.pid}\n")
        assert "it crashed or was killed" in installed.init("status", 1)
        installed.init("stop")
        assert other.server.running(), "the script has ended the daemon of another pool"
        installed.pid_file.write_text(f"{bystander.pid}\n")
        assert "it crashed or was killed" in installed.init("status", 1)
        installed.init("stop")
        installed.init("reload", 7)
        assert bystander.poll() is None, "the script has ended a process that is not the daemon"
        installed.init("start")
        assert installed.pid() != bystander.pid
        installed.init("stop")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_init_script_without_the_functions_of_lsb(installed):
    text = installed.script.read_text()
    assert "/lib/lsb/init-functions" in text
    installed.script.write_text(text.replace("/lib/lsb/init-functions", str(installed.root / "none")))
    assert installed.init("start") == "Starting SMB Direct daemon: smbdirectd.\n"
    assert installed.init("stop") == "Stopping SMB Direct daemon: smbdirectd.\n"


def test_init_script_header():
    """insserv and systemd's generator read it."""
    header = re.search(r"^### BEGIN INIT INFO\n(.*?)^### END INIT INFO$", (CONF / "smbdirectd.init.in").read_text(), re.S | re.M)
    keys = dict(re.findall(r"^# ([\w-]+):\s+(.*)$", header[1], re.M))
    assert keys["Provides"] == "smbdirectd" and "smbd" in keys["Should-Start"].split()
    assert {"Required-Start", "Required-Stop", "Default-Start", "Default-Stop", "Short-Description"} <= set(keys)


# --- the end of the service ---


def pid_list(path, pids):
    """As cgroup.procs has them."""
    path.write_text("".join(f"{pid}\n" for pid in pids))
    return path


class Unrestricted:
    """As the unit starts it."""

    def wrap(self, *argv):
        return list(argv)


class Hardened:
    """With the capabilities of the drop-in, as far as setpriv(1) can do what systemd does."""

    def wrap(self, *argv):
        drop_in = (CONF / "hardening.conf").read_text()
        names = re.search(r"^CapabilityBoundingSet=(.*)$", drop_in, re.M)[1].lower().split()
        kept = ",".join("+" + name.removeprefix("cap_") for name in names)
        return ["setpriv", f"--bounding-set=-all,{kept}", "--inh-caps=-all", "--no-new-privs", *argv]


@pytest.mark.parametrize("unit", [Unrestricted, pytest.param(Hardened, marks=needs("setpriv"))])
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: workers become another user")
def test_stop_ends_the_workers_of_a_daemon_that_crashed(installed, smbd, make_daemon, unit):
    """Which serve on until then, beside a new daemon that cannot adopt them (test_adoption.py). Processes that are no
    workers, and workers of others, stay."""
    other = make_daemon(smbd.port)
    daemon = make_daemon(smbd.port, pool={"user": "nobody"}, space=unit())
    client = rdma.session(daemon, smbd)
    workers = daemon.worker_pids()
    daemon.server.process.kill()
    daemon.server.process.wait()
    daemon.server.end()
    wait_until(lambda: sum(map(alive, workers)) == 1, 10, "the end of the worker that has no client")
    shutil.rmtree(daemon.directory / "run" / "workers")
    daemon.start()
    assert client.echo().check()
    (orphan,) = filter(alive, workers)
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        listed = pid_list(installed.root / "procs", [daemon.pid, *daemon.worker_pids(), orphan, bystander.pid, 2**22 + 1])
        began = daemon.log_position()
        words = unit().wrap(installed.stop_script, daemon.pid, listed)
        run(*words, env={**os.environ, "SMBDIRECTD_DRAIN_SECONDS": "20"})
        wait_until(lambda: not alive(orphan), 5, "the end of the orphan")
        assert bystander.poll() is None and all(map(alive, other.worker_pids()))
        assert "stopping: SIGTERM" not in daemon.log_since(began)  # it had no clients: nothing to wait for
        assert daemon.server.process.wait(10) == 0
    finally:
        bystander.kill()
        bystander.wait()
        client.close_transport()
        daemon.stop(check=False)


def test_stop_drains_and_then_closes(installed, smbd, make_daemon):
    """A client that stays has SMBDIRECTD_DRAIN_SECONDS."""
    daemon = make_daemon(smbd.port)
    client = rdma.session(daemon, smbd)
    stopping = subprocess.Popen([installed.stop_script, str(daemon.pid)], env={**os.environ, "SMBDIRECTD_DRAIN_SECONDS": "2"})
    try:
        daemon.wait_for_log("draining: SIGQUIT (1 connections)")
        assert client.echo().check()
        assert stopping.wait(20) == 0
        assert daemon.server.process.wait(5) == 0
        assert "stopping: SIGTERM (1 connections)" in daemon.log
    finally:
        client.close_transport()
        daemon.stop(check=False)


def test_stop_without_a_daemon(installed):
    """Both are what systemd calls it with after the daemon has ended by itself."""
    run(installed.stop_script, "", installed.root / "none")
    run(installed.stop_script)
    ended = subprocess.Popen(["true"])
    ended.wait()
    run(installed.stop_script, ended.pid)


def test_stop_gives_up_on_a_daemon_that_does_not_end(installed):
    """It is init's to kill it."""
    deaf = subprocess.Popen([sys.executable, "-c", "import signal, time\n"
        "signal.signal(signal.SIGQUIT, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(flush=True); time.sleep(60)"], stdout=subprocess.PIPE)  # fmt: skip
    try:
        deaf.stdout.readline()
        limits = {"SMBDIRECTD_DRAIN_SECONDS": "0", "SMBDIRECTD_STOP_SECONDS": "1"}
        said = run(installed.stop_script, deaf.pid, status=1, env={**os.environ, **limits})
        assert f"smbdirectd (pid {deaf.pid}) did not end within 1 s of SIGTERM" in said
        assert deaf.poll() is None
    finally:
        deaf.kill()
        deaf.communicate()
