# SPDX-License-Identifier: MIT
"""A file whose storage hangs for writers: a thread of this process is in a pwrite() to it, with the inode's lock, and its bytes
are memory that nobody provides (userfaultfd) until it may go on.

    with HeldFile(path) as held:    # its last page is written with what is there
        ...                         # all other writes to it wait in the kernel, and no signal ends that
        held.let_go()
"""

import ctypes
import fcntl
import mmap
import os
import struct
import threading

from lib.process import wait_until

PAGE = mmap.PAGESIZE
USERFAULTFD, UFFD_API = 323, 0xAA
UFFDIO_API, UFFDIO_REGISTER, UFFDIO_COPY = 0xC018AA3F, 0xC020AA00, 0xC028AA03
MISSING = 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.pwrite.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long]


def _userfaultfd():
    """-1 where it may not be had."""
    return _libc.syscall(USERFAULTFD, os.O_CLOEXEC) if os.uname().machine == "x86_64" else -1


def why_not():
    """None where files can be held."""
    fd = _userfaultfd()
    if fd < 0:
        return "needs userfaultfd(), on x86_64 and as root"
    os.close(fd)
    return None


class HeldFile:
    def __init__(self, path):
        self.path = path

    def __enter__(self):
        self.file = os.open(self.path, os.O_RDWR)
        self.at = os.fstat(self.file).st_size - PAGE
        self.page = ctypes.create_string_buffer(os.pread(self.file, PAGE, self.at), PAGE)
        self.memory = mmap.mmap(-1, PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.missing = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.faults = _userfaultfd()
        fcntl.ioctl(self.faults, UFFDIO_API, struct.pack("<QQQ", UFFD_API, 0, 0))
        fcntl.ioctl(self.faults, UFFDIO_REGISTER, struct.pack("<QQQQ", self.missing, PAGE, MISSING, 0))
        self.wrote = None
        self.writer = threading.Thread(target=self._write)
        self.writer.start()
        wait_until(lambda: _waits_for_memory(self.writer.native_id), 10, "a write() that holds the file")
        return self

    def _write(self):
        self.wrote = _libc.pwrite(self.file, self.missing, PAGE, self.at)

    def let_go(self):
        if self.faults < 0:
            return
        fcntl.ioctl(self.faults, UFFDIO_COPY, struct.pack("<QQQQq", self.missing, ctypes.addressof(self.page), PAGE, 0, 0))
        self.writer.join(10)
        os.close(self.faults)
        os.close(self.file)
        self.faults = -1
        assert self.wrote == PAGE, self.wrote

    def __exit__(self, *exc):
        self.let_go()


def _waits_for_memory(thread):
    with open(f"/proc/self/task/{thread}/wchan") as f:
        return "userfault" in f.read()


def blocked_writers(pid):
    """How many threads of a process wait in pwritev2() or pwrite64()."""
    count = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{thread}/syscall") as f:
                number = f.read().split()[0]
            with open(f"/proc/{pid}/task/{thread}/stat") as f:
                state = f.read().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        count += state == "D" and number in ("18", "328")
    return count
