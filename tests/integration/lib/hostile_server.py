# SPDX-License-Identifier: MIT
"""A server in smbd's place, in a process of its own: it carries every connection on to the real smbd, but those
whose ClientGuid asks for worse: it lets these in, and then misuses them in one of the ways below."""

import contextlib
import os
import pathlib
import socket
import struct
import sys
import threading

if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib.process import PortServer

MARK = b"HOSTILE"  # of a ClientGuid; the next byte is the number of the way
LARGEST = 0xFFFFFFFFFFFFFFFF


def guid_for(way):
    return MARK + bytes([list(WAYS).index(way)]) + os.urandom(8)


def framed(pdu):
    return struct.pack(">I", len(pdu)) + pdu


def answer(command, message_id, status=0, body=struct.pack("<HBBIB", 9, 0, 0, 0, 0)):
    ids = struct.pack("<IIQ", 0xFEFF, 0, 0)
    head = struct.pack("<4sHHIHHIIQ", b"\xfeSMB", 64, 1, status, command, 64, 1, 0, message_id)
    return head + ids + bytes(16) + body


def pour(sock, data):
    while True:
        sock.sendall(data)


def early_answers(sock):
    """Errors to requests that it has not been sent, WRITEs above all."""
    for round_ in range(100):
        for message_id in range(1, 40):
            sock.sendall(framed(answer(9, message_id, status=0xC0000022)))
        sock.settimeout(0.05)
        with contextlib.suppress(TimeoutError):
            sock.recv(1 << 20)


def unasked(sock):
    """Oplock breaks without an end."""
    pour(sock, framed(answer(18, LARGEST, body=struct.pack("<HBBI16s", 24, 0, 0, 0, bytes(16)))) * 200)


def half_a_message(sock):
    sock.sendall(struct.pack(">I", 1 << 20) + answer(8, 1)[:100])
    while sock.recv(1 << 20):
        pass


def never_reads(sock):
    threading.Event().wait()


def too_long(sock):
    sock.sendall(struct.pack(">I", 0xFFFFFF))
    pour(sock, answer(8, 1) * 800)


def garbage(sock):
    pour(sock, os.urandom(60000))


def keepalives(sock):
    """RFC 1002 4.3.6."""
    pour(sock, b"\x85\0\0\0" * 8000)


def byte_by_byte(sock):
    data = framed(answer(13, 1, body=struct.pack("<HH", 4, 0)))
    while True:
        for byte in data:
            sock.sendall(bytes([byte]))


WAYS = {
    w.__name__: w
    for w in (early_answers, unasked, half_a_message, never_reads, too_long, garbage, keepalives, byte_by_byte)
}


def exactly(sock, count):
    out = b""
    while len(out) < count:
        data = sock.recv(count - len(out))
        if not data:
            raise OSError("closed")
        out += data
    return out


def carry(a, b):
    with contextlib.suppress(OSError):
        while data := a.recv(1 << 18):
            b.sendall(data)
    for s in (a, b):
        with contextlib.suppress(OSError):
            s.shutdown(socket.SHUT_RDWR)


def serve(client, smbd):
    with contextlib.suppress(OSError), client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        first = exactly(client, 4)
        first += exactly(client, int.from_bytes(first[1:], "big"))
        guid = first[4 + 76 : 4 + 92]
        if guid[:7] == MARK:
            body = struct.pack("<HHHH16sIIIIQQHHI", 65, 1, 0x0302, 0, bytes(16), 0, 8 << 20, 8 << 20, 8 << 20, 0, 0, 128, 0, 0)
            client.sendall(framed(answer(0, 0, body=body)))
            log_on = exactly(client, int.from_bytes(exactly(client, 4)[1:], "big"))
            message_id = int.from_bytes(log_on[24:32], "little")
            client.sendall(framed(answer(1, message_id, body=struct.pack("<HHHH", 9, 1, 72, 0))))
            return list(WAYS.values())[guid[7]](client)
        with socket.create_connection(smbd) as server:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server.sendall(first)
            back = threading.Thread(target=carry, args=(server, client), daemon=True)
            back.start()
            carry(client, server)
            back.join()


class HostileServer(PortServer):
    """Before the smbd at `port`. Its own port: `port`."""

    def __init__(self, smbd_port):
        super().__init__(__file__, smbd_port)


def main():
    listener = socket.create_server(("127.0.0.1", 0), backlog=200)
    print(listener.getsockname()[1], flush=True)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client, ("127.0.0.1", int(sys.argv[1]))), daemon=True).start()


if __name__ == "__main__":
    main()
