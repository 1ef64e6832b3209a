# SPDX-License-Identifier: MIT
"""A file system in memory, of one directory, whose operations take as long as one says: storage far away. As root.

    with SlowFuse(directory) as fs:
        fs.slow("statfs", 3)        # seconds, each one from now on
"""

import ctypes
import errno
import multiprocessing
import os
import stat
import struct
import threading
import time

_libc = ctypes.CDLL(None, use_errno=True)
OPS = {"lookup": 1, "getattr": 3, "setattr": 4, "read": 15, "write": 16, "statfs": 17, "release": 18, "flush": 25, "fsync": 20}
CTX = multiprocessing.get_context("fork")


class SlowFuse:
    def __init__(self, at, attr_seconds=0):
        self.at, self.attr_seconds = str(at), attr_seconds
        self.delays = CTX.Array("d", 64, lock=False)
        self.counts = CTX.Array("L", 64, lock=False)
        self.pid = CTX.Value("L", 0, lock=False)  # only its operations; 0: everybody's

    def __enter__(self):
        os.makedirs(self.at, exist_ok=True)
        self.fd = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self.fd},rootmode=40000,user_id=0,group_id=0,allow_other"
        if _libc.mount(b"slow", self.at.encode(), b"fuse.slow", 0, options.encode()) != 0:
            raise OSError(ctypes.get_errno(), "mount")
        self.process = CTX.Process(target=_Server(self).run, daemon=True)
        self.process.start()
        os.close(self.fd)
        return self

    def slow(self, what, seconds, pid=0):
        self.pid.value = pid
        self.delays[OPS[what]] = seconds

    def count(self, what):
        return self.counts[OPS[what]]

    def __exit__(self, *exc):
        for i in range(64):
            self.delays[i] = 0
        _libc.umount2(self.at.encode(), 2)
        self.process.kill()
        self.process.join()


class _Server:
    def __init__(self, fs):
        self.fs, self.fd = fs, fs.fd
        self.nodes = {1: [None, stat.S_IFDIR | 0o777, bytearray()]}  # name, mode, data
        self.lock = threading.Lock()

    def run(self):
        while True:
            try:
                request = os.read(self.fd, 1 << 20)
            except OSError as e:
                if e.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                return
            threading.Thread(target=self.one, args=(request,), daemon=True).start()

    def one(self, request):
        _, op, unique, node = struct.unpack_from("<IIQQ", request)
        (thread,) = struct.unpack_from("<I", request, 32)
        body = request[40:]
        wanted = self.fs.pid.value
        if op < 64 and (wanted == 0 or os.path.exists(f"/proc/{wanted}/task/{thread}")):
            self.fs.counts[op] += 1
            end = time.monotonic() + self.fs.delays[op]
            while time.monotonic() < end and self.fs.delays[op] > 0:
                time.sleep(0.01)
        if op in (2, 42):  # FORGET
            return
        try:
            with self.lock:
                out, error = self.answer(op, node, body), 0
        except OSError as e:
            out, error = b"", -e.errno
        if out is None:
            return
        os.write(self.fd, struct.pack("<IiQ", 16 + len(out), error, unique) + out)

    def attr(self, node):
        name, mode, data = self.nodes[node]
        return struct.pack("<QQQQQQIIIIIIIIII", node, len(data), (len(data) + 511) // 512, 1, 1, 1, 0, 0, 0, mode, 2 if node == 1 else 1, 0, 0, 0, 4096, 0)

    def entry(self, node):
        t = self.fs.attr_seconds
        return struct.pack("<QQQQII", node, 0, t, t, 0, 0) + self.attr(node)

    def find(self, name):
        for node, (n, _, _) in self.nodes.items():
            if n == name:
                return node
        raise OSError(errno.ENOENT, "")

    def make(self, name, mode):
        node = max(self.nodes) + 1
        self.nodes[node] = [name, mode, bytearray()]
        return node

    def answer(self, op, node, body):
        if op == 26:  # INIT
            return struct.pack("<IIIIHHIIHHI28x", 7, 31, 1 << 17, 0, 16, 12, 1 << 17, 1, 0, 0, 0)
        if op == 1:
            return self.entry(self.find(body.split(b"\0")[0]))
        if op == 3:
            return struct.pack("<QII", self.fs.attr_seconds, 0, 0) + self.attr(node)
        if op == 4:  # SETATTR
            valid, _, _, size = struct.unpack_from("<IIQQ", body)
            (mode,) = struct.unpack_from("<I", body, 68)
            if valid & 8:
                data = self.nodes[node][2]
                self.nodes[node][2] = data[:size] + bytes(max(0, size - len(data)))
            if valid & 1:
                self.nodes[node][1] = stat.S_IFMT(self.nodes[node][1]) | stat.S_IMODE(mode)
            return struct.pack("<QII", self.fs.attr_seconds, 0, 0) + self.attr(node)
        if op in (14, 27):
            return struct.pack("<QII", node, 0, 0)
        if op == 35:  # CREATE
            mode = struct.unpack_from("<II", body)[1]
            name = body[16:].split(b"\0")[0]
            new = self.make(name, stat.S_IFREG | stat.S_IMODE(mode))
            return self.entry(new) + struct.pack("<QII", new, 0, 0)
        if op == 8:  # MKNOD
            mode = struct.unpack_from("<I", body)[0]
            return self.entry(self.make(body[16:].split(b"\0")[0], mode))
        if op == 15:
            _, offset, size = struct.unpack_from("<QQI", body)
            return bytes(self.nodes[node][2][offset : offset + size])
        if op == 16:
            _, offset, size = struct.unpack_from("<QQI", body)
            data = self.nodes[node][2]
            if len(data) < offset:
                data.extend(bytes(offset - len(data)))
            data[offset : offset + size] = body[40 : 40 + size]
            return struct.pack("<II", size, 0)
        if op == 17:
            return struct.pack("<QQQQQIII28x", 1 << 20, 1 << 19, 1 << 19, 1 << 20, 1 << 19, 4096, 255, 4096)
        if op == 10:  # UNLINK
            self.nodes[self.find(body.split(b"\0")[0])][0] = None
            return b""
        if op == 28:  # READDIR
            _, offset, size = struct.unpack_from("<QQI", body)
            names = [(1, b"."), (1, b"..")] + [(n, v[0]) for n, v in self.nodes.items() if v[0]]
            out = b""
            for i, (n, name) in enumerate(names):
                if i < offset:
                    continue
                e = struct.pack("<QQII", n, i + 1, len(name), 0) + name
                e += bytes(-len(e) % 8)
                if len(out) + len(e) > size:
                    break
                out += e
            return out
        if op in (18, 25, 20, 29, 30):
            return b""
        if op == 36:  # INTERRUPT
            return None
        raise OSError(errno.ENOSYS, "")
