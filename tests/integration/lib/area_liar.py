# SPDX-License-Identifier: MIT
"""Servers in smbd's place that have vfs_smbdirect, as it were: a process for each connection, as smbd's are. Each carries
its connection on to the real smbd; one whose ClientGuid asks for it also plays the module (what goes by the area is put
to smbd inline, and its answer into the area), and lies in one of the ways below."""

import array
import contextlib
import mmap
import os
import pathlib
import signal
import socket
import struct
import sys
import threading

if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import smb2
from lib.area_link import (
    AREA,
    AREA_ADDED,
    AREA_GONE,
    COPYCHUNK_WRITE,
    HELLO,
    MARK,
    OP_READ,
    PACKET,
    TREE,
    TREE_GONE,
    TREE_REFUSED,
    VERSION,
    Packet,
)
from lib.hostile_server import carry, exactly, framed
from lib.process import PortServer

OVER = b"\xee" * (1 << 20)  # once: a process that takes fresh memory again and again is slow on some machines
ASKS = b"AREALIE"  # of a ClientGuid; the next byte is the number of the way


def guid_for(way):
    return ASKS + bytes([list(WAYS).index(way)]) + os.urandom(8)


class Server:
    """One connection. honest: what a carrier is answered where the way says nothing else."""

    def __init__(self, worker, smbd, directory, way):
        self.worker, self.smbd, self.way = worker, smbd, way
        self.sending = threading.Lock()
        self.trees, self.asked, self.areas, self.link = set(), {}, {}, None
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(directory / str(os.getpid())))
        self.listener.listen(8)
        threading.Thread(target=self.links, daemon=True).start()

    def serve(self, first):
        self.smbd.sendall(first)
        threading.Thread(target=self.answers, daemon=True).start()
        while True:
            pdu = self.receive(self.worker)
            (code,) = struct.unpack_from("<I", pdu, 68) if len(pdu) >= 176 and pdu[12] == smb2.IOCTL else (0,)
            if code == COPYCHUNK_WRITE and struct.unpack_from("<H", pdu, 142)[0] == MARK:
                self.way(self, "carrier", pdu)
            else:
                self.smbd.sendall(framed(pdu))

    def receive(self, sock):
        return exactly(sock, int.from_bytes(exactly(sock, 4)[1:], "big"))

    # --- the module ---

    def links(self):
        while True:
            self.link, _ = self.listener.accept()
            with contextlib.suppress(OSError):
                self.way(self, "link", None)
                self.way(self, "linked", None)

    def honest_link(self):
        self.say(Packet(HELLO, VERSION))
        for session, tree in set(self.trees):
            self.say(Packet(TREE, tree, session))
        data, fds, _, _ = socket.recv_fds(self.link, 4096, 1)
        packet = Packet.of(data)
        assert packet.type == AREA and len(fds) == 1, packet
        self.areas[packet.token] = mmap.mmap(fds[0], os.fstat(fds[0]).st_size)
        self.token = packet.token
        self.say(Packet(AREA_ADDED, token=packet.token))

    def say(self, packet):
        self.link.sendall(packet if isinstance(packet, bytes) else packet.bytes())

    # --- READs and WRITEs ---

    def honest_carrier(self, pdu):
        (message_id,) = struct.unpack_from("<Q", pdu, 24)
        token, file_id = pdu[120:136], pdu[72:88]
        length, operation = struct.unpack_from("<IB", pdu, 136)
        place, offset = struct.unpack_from("<QQ", pdu, 152)
        self.asked[message_id] = (operation, token, place, length)
        if operation == OP_READ:
            command, body = smb2.READ, smb2.read_body(file_id, length, offset)
        else:
            data = self.areas[token][place : place + length]
            command, body = smb2.WRITE, smb2.write_body(file_id, data, offset)
        self.smbd.sendall(framed(pdu[:12] + struct.pack("<H", command) + pdu[14:64] + body))

    def answer(self, pdu, total, status=0, message_id=None):
        """The final answer to a carrier, by its header or that of an answer."""
        head = bytearray(pdu[:64])
        struct.pack_into("<IHHI", head, 8, status, smb2.IOCTL, 64, struct.unpack_from("<I", head, 16)[0] | 1)
        if message_id is not None:
            struct.pack_into("<Q", head, 24, message_id)
        body = struct.pack("<HHI16sIIIIII", 49, 0, COPYCHUNK_WRITE, bytes(16), 0, 0, 112, 12, 0, 0)
        self.to_worker(bytes(head) + body + struct.pack("<III", 1, 0, total))

    def to_worker(self, pdu):
        with self.sending:
            self.worker.sendall(framed(pdu))

    def answers(self):
        with contextlib.suppress(OSError):
            while True:
                self.answered(self.receive(self.smbd))
        self.worker.shutdown(socket.SHUT_RDWR)

    def answered(self, pdu):
        status, command = struct.unpack_from("<IH", pdu, 8)
        message_id, _, tree, session = struct.unpack_from("<QIIQ", pdu, 24)
        if command == smb2.TREE_CONNECT and status == 0:
            self.trees.add((session, tree))
        if message_id not in self.asked:
            return self.to_worker(pdu)
        if status == smb2.PENDING:
            return self.to_worker(pdu[:12] + struct.pack("<H", smb2.IOCTL) + pdu[14:])
        operation, token, place, length = self.asked.pop(message_id)
        (count,) = struct.unpack_from("<I", pdu, 68)
        if status == 0 and operation == OP_READ:
            self.areas[token][place : place + count] = pdu[80 : 80 + count]
        self.way(self, "answer", (pdu, status or count))


# --- the ways: what is done at each moment, where not what is honest ---


def honest(s, moment, what):
    if moment == "link":
        s.honest_link()
    elif moment == "carrier":
        s.honest_carrier(what)
    elif moment == "answer":
        s.answer(*what)


def way(moment):
    def add(function):
        def run(s, at, what):
            return function(s, what) if at == moment else honest(s, at, what)

        WAYS[function.__name__] = run
        return run

    return add


WAYS = {"honest": honest}


@way("carrier")
def counts_one_too_many(s, pdu):
    s.answer(pdu, struct.unpack_from("<I", pdu, 136)[0] + 1)


@way("carrier")
def counts_what_nobody_could(s, pdu):
    s.answer(pdu, 0xBFFFFFFF)


@way("carrier")
def succeeds_without_a_body(s, pdu):
    s.to_worker(smb2.header(smb2.IOCTL, struct.unpack_from("<Q", pdu, 24)[0], flags=1) + struct.pack("<HBBIB", 9, 0, 0, 0, 0))


@way("carrier")
def answers_as_a_read(s, pdu):
    s.to_worker(smb2.header(smb2.READ, struct.unpack_from("<Q", pdu, 24)[0], flags=1) + struct.pack("<HBBIII", 17, 80, 0, 0, 100, 0))


@way("answer")
def answers_twice(s, what):
    s.answer(*what)
    s.answer(*what)


@way("carrier")
def answers_what_nobody_asked(s, pdu):
    s.answer(pdu, 100, message_id=0x123456789)


@way("carrier")
def answers_half(s, pdu):
    s.worker.sendall(struct.pack(">I", 124) + pdu[:70])


@way("carrier")
def pends_without_an_end(s, pdu):
    """... under one AsyncId after the other."""
    (message_id,) = struct.unpack_from("<Q", pdu, 24)
    for number in range(1000):
        head = smb2.header(smb2.IOCTL, message_id, flags=1 | smb2.ASYNC, status=smb2.PENDING, async_id=number + 1)
        s.to_worker(head + struct.pack("<HBBIB", 9, 0, 0, 0, 0))


@way("carrier")
def never_answers(s, pdu):
    pass


@way("carrier")
def closes_its_link(s, pdu):
    s.link.shutdown(socket.SHUT_RDWR)


@way("carrier")
def ends_at_once(s, pdu):
    os.kill(os.getpid(), signal.SIGKILL)


@way("carrier")
def writes_over_all_of_the_area(s, pdu):
    """Again and again, with a request under way."""
    for _ in range(3):
        for area in s.areas.values():
            for at in range(0, len(area), len(OVER)):
                area[at : at + len(OVER)] = OVER[: len(area) - at]
    s.honest_carrier(pdu)


@way("link")
def says_nothing(s, _):
    threading.Event().wait()


@way("link")
def says_half(s, _):
    s.say(Packet(HELLO, VERSION).bytes()[:100])


@way("link")
def says_more(s, _):
    s.say(Packet(HELLO, VERSION).bytes() * 2)


@way("link")
def says_garbage(s, _):
    while True:
        s.say(os.urandom(PACKET.size))


@way("linked")
def announces_trees_without_end(s, _):
    number = 0
    while True:
        number += 1
        s.say(Packet(TREE, number % 100_000, number))


@way("linked")
def announces_and_takes_back(s, _):
    while True:
        for kind in (TREE, TREE_GONE):
            for session, tree in set(s.trees):
                s.say(Packet(kind, tree, session))


@way("linked")
def refuses_without_end(s, _):
    number = 0
    while True:
        number += 1
        s.say(Packet(TREE_REFUSED, number % 7, 1, text=f"share {number % 7}"))


@way("linked")
def gives_back_what_was_not_asked_for(s, _):
    while True:
        s.say(Packet(AREA_GONE, token=s.token))


@way("linked")
def sends_descriptors(s, _):
    null = os.open("/dev/null", os.O_RDONLY)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null] * 200).tobytes())]
    while True:
        s.link.sendmsg([Packet(AREA_GONE, token=s.token).bytes()], rights)


@way("linked")
def adds_the_area_twice(s, _):
    s.say(Packet(AREA_ADDED, token=s.token))


class Liars(PortServer):
    """Before the smbd at `smbd_port`; its own port: `port`. Its processes listen for links in `directory`."""

    def __init__(self, smbd_port, directory):
        super().__init__(__file__, smbd_port, directory)


def serve(worker, smbd_port, directory):
    smbd = socket.create_connection(("127.0.0.1", smbd_port))
    for sock in (worker, smbd):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    first = exactly(worker, 4)
    first += exactly(worker, int.from_bytes(first[1:], "big"))
    guid = first[4 + 76 : 4 + 92]
    if guid[:7] == ASKS:
        return Server(worker, smbd, directory, list(WAYS.values())[guid[7]]).serve(first)
    smbd.sendall(first)
    threading.Thread(target=carry, args=(smbd, worker), daemon=True).start()
    carry(worker, smbd)


def main():
    smbd_port, directory = int(sys.argv[1]), pathlib.Path(sys.argv[2])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.create_server(("127.0.0.1", 0), backlog=200)
    print(listener.getsockname()[1], flush=True)
    while True:
        worker, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            with contextlib.suppress(OSError):
                serve(worker, smbd_port, directory)
            os._exit(0)
        worker.close()


if __name__ == "__main__":
    main()
