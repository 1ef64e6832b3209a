#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""In the place of smbdirect-worker: slot 0 is the real one, slot 1 one that a client has taken over. It speaks the
contract (daemon/contract/contract.h) and does what $TAKEN_WORKER lists:

    mitm    names itself as the process that serves the client $TAKEN_GUID, and attaches itself to what it is passed
    link    dials $TAKEN_SMBD with each connection, asks for the link to the module of who accepts, says hello there, and
            notes what it is told
    flood   asks for smbd for connections that it does not have, without end, and reads no answer
    board   shows a scoreboard of a hundred thousand rows that are for ever being changed
    report  writes escape sequences into its reports
"""

import array
import fcntl
import json
import mmap
import os
import pathlib
import socket
import struct
import sys
import time

READY, TAKE, PONG, WANT_SMBD, CLAIM, CHANNEL_UP, BOARD, REPORTED, WANT_MODULE = 1, 2, 5, 6, 7, 8, 9, 10, 18
OFFER, GRANT, PING, STOP, REPORT, PASS_TO, MODULE, NO_MODULE = 64, 65, 66, 68, 72, 76, 81, 82
ATTACHED, VERSION = 17, 1
ROWS, HEADER, ROW = 1 << 17, 4096, 128
TITLE = "\x1b]0;title\x07\x1b[31m\u009b2J"


class Worker:
    def __init__(self, generation):
        self.generation, self.held = generation, 0
        self.does = os.environ.get("TAKEN_WORKER", "").split()
        self.notes = pathlib.Path(os.environ["TAKEN_NOTES"])
        self.control = socket.socket(fileno=3)
        self.control.setblocking(False)

    def say(self, kind, offer=0, sequence=0, process=0, guid=b"", fd=None):
        m = bytearray(96)
        struct.pack_into("<IHHIIQQ", m, 0, 0x31434453, 4, kind, self.generation, process, offer, sequence)
        m[40 : 40 + len(guid)] = guid
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd is not None else []
        while True:
            try:
                return self.control.sendmsg([bytes(m)], rights)
            except BlockingIOError:
                time.sleep(0.001)

    def show_board(self):
        """The header is the real worker's, read from the file that the test has put there."""
        head = bytearray(pathlib.Path(os.environ["TAKEN_BOARD"]).read_bytes())
        fd = os.memfd_create("smbdirect-scoreboard", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, HEADER + ROWS * ROW)
        struct.pack_into("<I", head, 16, ROWS)
        struct.pack_into("<II", head, 28, 1, self.generation)
        m = mmap.mmap(fd, HEADER + ROWS * ROW)
        m[:HEADER] = bytes(head)
        m[HEADER:] = (struct.pack("<Q", 1) + bytes(ROW - 8)) * ROWS
        fcntl.fcntl(fd, 1033, 0x1 | 0x2 | 0x4 | 0x10)  # F_ADD_SEALS: SEAL, SHRINK, GROW, FUTURE_WRITE
        self.say(BOARD, fd=fd)

    def hear(self):
        data, rights, _, _ = self.control.recvmsg(200, 200)
        if not data:
            sys.exit(0)
        fds = [fd for _, _, words in rights for fd in array.array("i", words)]
        kind, offer, sequence = (struct.unpack_from(f, data, at)[0] for f, at in (("<H", 6), ("<Q", 16), ("<Q", 24)))
        if kind == PING:
            self.say(PONG, sequence=sequence)
        if kind == STOP:
            sys.exit(0)
        if kind == OFFER:
            self.held = offer
            self.say(TAKE, offer)
        if kind == GRANT:
            self.connection = socket.socket(fileno=fds[0])
            if "mitm" in self.does:
                self.say(CLAIM, self.held, guid=bytes.fromhex(os.environ["TAKEN_GUID"]))
                self.say(CHANNEL_UP, self.held, process=os.getpid())
                (self.notes / "named").write_text(str(os.getpid()))
            if "link" in self.does:
                host, port = os.environ["TAKEN_SMBD"].split()
                self.stream = socket.create_connection((host, int(port)))
                self.stream.recv(1)  # before that no process has its other end
                self.say(WANT_MODULE, self.held + 1, fd=self.stream.fileno())  # not its own
                self.say(WANT_MODULE, self.held, fd=self.stream.fileno())
        if kind in (MODULE, NO_MODULE):
            assert offer in (self.held, self.held + 1)
            with open(self.notes / "told", "a") as told:
                error = struct.unpack_from("<I", data, 12)[0]
                print(kind, offer - self.held, error, file=told)
            if kind == MODULE:
                self.link = socket.socket(fileno=fds[0])
                self.link.send(b"hello from the worker")
        if kind == PASS_TO:
            channel = socket.socket(fileno=fds[0])
            channel.setblocking(True)
            (self.notes / "stolen").write_bytes(channel.recv(65536))
            channel.sendall(struct.pack("<IHHQI", 4, ATTACHED, 0, 0, VERSION))
            self.channel = channel
        if kind == REPORT:
            events = [{"ago_ms": 1, "event": TITLE, TITLE: TITLE}]
            os.write(fds[0], json.dumps({"connections": [{"number": self.held, "events": events}]}).encode())
            self.say(REPORTED, sequence=sequence)

    def run(self):
        if "board" in self.does:
            self.show_board()
        self.say(READY)
        while True:
            try:
                self.hear()
            except BlockingIOError:
                time.sleep(0.002)
            if "flood" in self.does:
                try:
                    word = struct.pack("<IHHIIQQ", 0x31434453, 4, WANT_SMBD, self.generation, 0, 9999, 0) + bytes(64)
                    for _ in range(500):
                        self.control.send(word)
                except BlockingIOError:
                    pass


def main(args):
    slot, generation = (int(args[args.index(name) + 1]) for name in ("--slot", "--generation"))
    if slot != 1:
        real = os.environ["REAL_WORKER"]
        os.execv(real, [real, *args])
    Worker(generation).run()


if __name__ == "__main__":
    main(sys.argv[1:])
