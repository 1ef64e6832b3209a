# SPDX-License-Identifier: MIT
"""What Prometheus reads: smbdirectctl metrics, and smbdirect-exporter as a user without rights."""

import contextlib
import grp
import os
import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request

import pytest

from lib import rdma
from lib.daemon import program
from lib.process import Server, wait_until

SAMPLE = re.compile(r'^([a-z_]+)(?:\{([^}]*)\})? (\S+)$')


def parsed(text):
    """Name with labels -> value; and every family has a help text and a type before its samples."""
    samples, described = {}, set()
    for line in text.splitlines():
        if line.startswith("# "):
            described.add((line.split()[1], line.split()[2]))
            continue
        name, labels, value = SAMPLE.match(line).groups()
        family = re.sub("_(count|sum|bucket)$", "", name)
        assert {("HELP", family), ("TYPE", family)} & described or {("HELP", name), ("TYPE", name)} <= described, line
        samples[name + (f"{{{labels}}}" if labels else "")] = float(value)
    return samples


def metrics(daemon):
    done = daemon.ctl("metrics", check=False)
    assert (done.returncode, done.stderr) == (0, ""), done
    return parsed(done.stdout)


def total(samples, name):
    return sum(value for sample, value in samples.items() if sample.startswith(name + "{"))


MANY = 20


def test_the_figures_are_those_of_the_connections(make_daemon, smbd):
    daemon = make_daemon(smbd.port)
    assert metrics(daemon)["smbdirect_connections_open"] == 0
    with rdma.session(daemon, smbd, user=True) as client:
        file = client.create("metrics")
        # How long it took is told only of what smbd answers without saying before that it waits, as it does on a busy machine.
        for _ in range(MANY):
            client.write(file, b"m" * 5000).check()
            response, placed = rdma.channel_read(client, file, 5000)
            assert response.check() and placed == b"m" * 5000

        def counted(samples, operation):
            name = f'smbdirect_operation_duration_seconds_count{{worker="%d",operation="{operation}"}}'
            return samples[name % 0] + samples[name % 1]

        def moved():  # an answer is counted when it has gone, or a little later
            samples = metrics(daemon)
            least = {"smb_read": 1, "smb_write": 1, "smb_other": 3, "rdma_write": 1}
            all_of_it = total(samples, "smbdirect_rdma_write_bytes_total") == 5000 * MANY
            return samples if all_of_it and all(counted(samples, what) >= n for what, n in least.items()) else None

        samples = wait_until(moved, 5, "the bytes of the reads, and how long some took")
        assert samples["smbdirect_connections_open"] == samples["smbdirect_clients"] == 1
        assert samples["smbdirect_workers_ready"] == samples["smbdirect_workers_wanted"] == 2
        assert samples['smbdirect_phase{phase="serving"}'] == samples["smbdirect_up"] == 1
        assert total(samples, "smbdirect_connections_total") == 1
        assert total(samples, "smbdirect_worker_connections_open") == 1
        assert total(samples, "smbdirect_worker_state") == 2
        told = {m["name"]: m for m in daemon.ctl("metrics")}
        assert told["smbdirect_clients"]["samples"] == [{"labels": {}, "value": 1.0}]
        assert {s["labels"]["worker"] for s in told["smbdirect_smb_requests_total"]["samples"]} == {"0", "1"}


class Exporter:
    """smbdirect-exporter on a port of loopback."""

    def __init__(self, directory, socket, wrap=()):
        argv = [*wrap, program("smbdirect-exporter"), "--socket", socket, "--listen", "127.0.0.1:0"]
        self.server = Server("smbdirect-exporter", argv, directory / "exporter.log")
        try:
            self.server.wait_for_log("serving http://127.0.0.1:", 10)
        except BaseException:
            self.server.end(signal.SIGKILL)
            raise
        self.port = int(re.search(r"serving http://127.0.0.1:(\d+)/metrics", self.server.log)[1])

    def get(self, path="/metrics"):
        return urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10)

    def samples(self):
        with self.get() as answer:
            assert answer.headers["Content-Type"].startswith("text/plain")
            return parsed(answer.read().decode())

    def __enter__(self):
        return self

    def __exit__(self, exc_type, *exc):
        status = self.server.end()
        assert exc_type or status == 0, self.server.log


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the exporter runs as another user")
def test_the_exporter_serves_them_without_rights(make_daemon, smbd, tmp_path):
    group = grp.getgrnam("daemon")
    daemon = make_daemon(smbd.port, pool={"control": {"group": group.gr_name}})
    socket = daemon.directory / "run" / "control"
    wrap = ["setpriv", "--reuid=65534", "--regid=65534", f"--groups={group.gr_gid}", "--no-new-privs"]
    with Exporter(tmp_path, socket, wrap) as exporter:
        ours = {k: v for k, v in exporter.samples().items() if k.startswith("smbdirect_")}
        assert ours.keys() == metrics(daemon).keys()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            exporter.get("/")
        # A daemon that is gone is a figure, and comes back.
        daemon.stop()
        samples = exporter.samples()
        assert {k: v for k, v in samples.items() if k.startswith("smbdirect_")} == {"smbdirect_up": 0}
        exporter.samples()
        assert exporter.server.log.count("smbdirect_up is 0") == 1 and "is smbdirectd running" in exporter.server.log
        daemon.start()
        assert exporter.samples()["smbdirect_up"] == 1
        assert "smbdirectd answers again" in exporter.server.log


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the exporter runs as another user")
def test_an_exporter_that_is_in_no_group_says_what_to_do(make_daemon, smbd, tmp_path):
    daemon = make_daemon(smbd.port)
    wrap = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    with Exporter(tmp_path, daemon.directory / "run" / "control", wrap) as exporter:
        assert exporter.samples()["smbdirect_up"] == 0
        assert "/control/group" in exporter.server.log


def test_without_a_daemon_or_a_port_it_says_so(tmp_path):
    done = subprocess.run([program("smbdirectctl"), "-s", tmp_path / "none", "metrics"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and "is smbdirectd running" in done.stderr
    with Exporter(tmp_path, tmp_path / "none") as exporter:
        assert exporter.samples()["smbdirect_up"] == 0
        argv = [program("smbdirect-exporter"), "--listen", f"127.0.0.1:{exporter.port}"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
        assert done.returncode == 3 and "is the address this host's, and the port free? (--listen)" in done.stderr, done
    done = subprocess.run([program("smbdirect-exporter"), "--listen", "80"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and "allowed: ADDRESS:PORT" in done.stderr


def test_connections_that_ask_nothing_hold_no_scrape_up(make_daemon, smbd, tmp_path):
    """Whoever is on the host can open them, and browsers open some to have them."""
    daemon = make_daemon(smbd.port)
    with Exporter(tmp_path, daemon.directory / "run" / "control") as exporter, contextlib.ExitStack() as idle:
        for _ in range(20):
            idle.enter_context(socket.create_connection(("127.0.0.1", exporter.port)))
        assert exporter.samples()["smbdirect_up"] == 1
