# SPDX-License-Identifier: MIT
"""Who has connected to the control socket and asks when another daemon has taken over is heard by that one, or by nobody."""

import json
import socket
import time

from lib import rdma
from test_upgrade import make_pool  # noqa: F401


def test_a_command_that_comes_late(make_pool, smbd):  # noqa: F811
    daemon = make_pool(workers=1)
    with rdma.session(daemon, smbd), socket.socket(socket.AF_UNIX) as late:
        late.settimeout(10)
        late.connect(str(daemon.directory / "run" / "control"))
        daemon.ctl("status")  # behind it: it was accepted
        time.sleep(0.1)
        daemon.upgrade()
        try:
            late.send(b'{"command":"leave","argument":"127.0.0.9"}\n')
            told = late.recv(4096)
        except (BrokenPipeError, ConnectionResetError):
            told = b""
        assert not told or daemon.ctl("status")["leaving"] == ["127.0.0.9"], json.loads(told)
