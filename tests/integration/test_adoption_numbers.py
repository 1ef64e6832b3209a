# SPDX-License-Identifier: MIT
"""A worker that a former daemon left names connections by numbers that the new daemon has not given yet: the former one had a
million connections, or the worker lies. Clients of the new daemon are counted, shown and ended as any."""

import subprocess
import sys

from lib import rdma
from lib.process import wait_until
from test_adoption import EPOCH, connection_of, crash, pool, rows, run_directory  # noqa: F401

LEFT_WORKER = """
import os, socket, struct, sys
line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
line.bind(os.path.join(sys.argv[1], f"{os.getpid()}.0"))
line.listen()
print("ready", flush=True)
peer, _ = line.accept()
def say(kind, generation, body=b""):
    peer.send((struct.pack("<IHHII", 0x31434453, 4, kind, generation, 0) + body).ljust(96, b"\\0"))
def address(last, port):
    return struct.pack("<HHI4s", 4, port, 0, bytes([127, 0, 0, last])).ljust(24, b"\\0")
say(16, 0)
while True:
    said = peer.recv(4096)
    if not said:
        break
    kind, generation = struct.unpack_from("<HI", said, 6)
    if kind == 80:
        for number in range(int(sys.argv[2]), int(sys.argv[3])):
            say(17, generation, struct.pack("<QQQ", number, 0, 0) + address(77, 1) + address(1, 2))
    elif kind == 66:
        say(5, generation, struct.pack("<QQ", 0, struct.unpack_from("<Q", said, 24)[0]))
"""


def test_numbers_that_come_later(pool, smbd):  # noqa: F811
    daemon, client = pool
    crash(daemon)
    argv = [sys.executable, "-c", LEFT_WORKER, str(run_directory(daemon) / "workers"), str(EPOCH + 1), str(EPOCH + 9)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as left:
        try:
            assert left.stdout.readline() == "ready\n"
            daemon.start()
            wait_until(lambda: connection_of(daemon, client), 5, "the adopted connection")
            wait_until(lambda: len(daemon.ctl("workers")) == 4, 5, "two of its own and two adopted")
            with rdma.session(daemon, smbd) as new:
                row = wait_until(lambda: connection_of(daemon, new), 5, lambda: rows(daemon, "connections"))
                assert daemon.workers()[row["worker"]] not in (left.pid,)
                assert daemon.ctl("kick", str(row["number"])) == {"connections": 1}
        finally:
            left.kill()
