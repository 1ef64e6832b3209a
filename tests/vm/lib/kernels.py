# SPDX-License-Identifier: MIT
"""What differs between the kernels that the tests run on, and what of them is a fault of the kernel's own with any server:
where a fault shows now and then, its signature, by which what it broke is known and run again (a bounded number of
times, and said). docs/compatibility.md tells administrators the same."""

import os
import pathlib
import re
import threading
import time

ATTEMPTS = 3  # of what a fault of the kernel's makes void
NEGOTIATION = 44  # bytes in a TCP stream of SMB Direct's negotiate request: one FPDU with CRC (RFC 5044)


def release():
    return os.uname().release


def version():
    """Such as (6, 12)."""
    return tuple(int(n) for n in re.match(r"(\d+)\.(\d+)", release()).groups())


# Before 6.12 the client sends what is inline and more than one page wrongly: every page but the last one with bytes of
# its neighbour (smbd_send takes the length of the whole message where the page's is meant). Signed and sealed sessions
# send everything inline: there one page per WRITE.
INLINE_WSIZE = 4096 if version() < (6, 12) else 131072
# siw ended its connections when its network interface went down; since 6.12 they live through it.
SIW_ENDS_WITH_ITS_LINK = version() < (6, 12)


def void(lines):
    """Why what failed while the kernel logged these lines does not count, or nothing."""
    for line in lines:
        if found := re.search(r"siw: crc error\. in: ([0-9a-f]{8}), own ([0-9a-f]{8})", line):
            got, right = (int(text, 16).to_bytes(4, "little") for text in found.groups())
            if mended_wrongly(got, right):
                return f"siw put a CRC together wrongly that came in two pieces ({line.strip()})"
    return None


def mended_wrongly(got, right):
    """siw_get_trailer() writes the second piece of a trailer over the first, which had `n` bytes."""
    return any(got[: 4 - n] + got[4 - n : n] == right[n:] + right[4 - n : n] for n in (1, 2, 3))


class UnreadNegotiation(threading.Thread):
    """Used as a context manager: watches whether siw leaves the client's negotiate request unread. siw answers the
    connection's set-up before it listens to its socket, and nobody looks again at what came in between; the server then
    waits in vain. 7.x's client sends at once, and meets that now and then."""

    SECONDS = 3.0  # unread for so long; it is read within milliseconds otherwise

    def __init__(self, port=5445):
        super().__init__(daemon=True)
        self.port, self.seen, self.stuck, self.over = port, {}, False, threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()

    def run(self):
        while not self.over.wait(0.25):
            now, unread = time.monotonic(), self.unread()
            self.seen = {pair: self.seen.get(pair, now) for pair in unread}
            self.stuck = self.stuck or any(now - since >= self.SECONDS for since in self.seen.values())

    def unread(self):
        """The connections to the port with just that request in their receive queues."""
        found = []
        for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, state, queues = line.split()[:5]
            received = int(queues.split(":")[1], 16)
            if state == "01" and int(local.split(":")[1], 16) == self.port and received == NEGOTIATION:
                found.append((local, remote))
        return found
