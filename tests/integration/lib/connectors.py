# SPDX-License-Identifier: MIT
"""Drives connector_tool: the supervisor's smbd connectors in a network namespace, without a supervisor."""

import signal
import socket

from lib.daemon import build_dir
from lib.process import Server
from lib.smb2 import Client, TcpTransport


class Failed(Exception):
    """The connection was not made; the text says why."""


class Connector:
    """Connector(space, directory, "transparent", deadline=500).start() ... .stop()"""

    count = 0

    def __init__(self, space, directory, mode, **options):
        self.space, self.directory, self.mode, self.options = space, directory, mode, options
        self.number = 0
        self.answers = {}

    def start(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        tool = build_dir() / "tests/unit/daemon/connector_tool"
        words = [f"{k}={v}" for k, v in self.options.items()]
        Connector.count += 1
        self.server = Server(
            "connector_tool",
            self.space.wrap(tool, self.mode, theirs.fileno(), *words),
            self.directory / f"connector-{Connector.count}.log",
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self.sock = ours
        self.sock.settimeout(15)
        self.greeting = self._receive()[0]
        if not self.greeting.startswith("ready"):
            self.stop()
            raise Failed(self.greeting)
        return self

    def _receive(self):
        data, fds, _, _ = socket.recv_fds(self.sock, 4096, 1)
        return data.decode(), fds

    def begin(self, client, server, client_port=40000, server_port=445):
        """Asks, and returns the request's number."""
        self.number += 1
        self.sock.send(f"open {self.number} {client} {client_port} {server} {server_port}".encode())
        return self.number

    def finish(self, number):
        """The socket, or Failed."""
        while number not in self.answers:
            text, fds = self._receive()
            kind, answered, *rest = text.split(" ", 2)
            self.answers[int(answered)] = socket.socket(fileno=fds[0]) if fds else Failed(rest[0] if rest else kind)
        answer = self.answers.pop(number)
        if isinstance(answer, Failed):
            raise answer
        return answer

    def open(self, client, server, **kw):
        return self.finish(self.begin(client, server, **kw))

    def cancel(self, number):
        self.sock.send(f"cancel {number}".encode())

    def smb(self, client, server, guid=None, **kw):
        """A Client over the stream, not yet negotiated."""
        return over(self.open(client, server, **kw), guid)

    def kill(self):
        self.server.process.kill()
        self.server.process.wait()

    def stop(self):
        """EOF, and everything taken back."""
        self.sock.close()
        if not self.server.running():
            self.server.end()
            return
        try:
            self.server.process.wait(10)
        finally:
            self.server.end(signal.SIGKILL)


def over(sock, guid=None):
    transport = TcpTransport.__new__(TcpTransport)
    sock.setblocking(True)
    transport.sock = sock
    return Client(transport, guid)
