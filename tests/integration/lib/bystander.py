# SPDX-License-Identifier: MIT
"""A client that keeps working while others misbehave."""

import threading
import time

from lib import rdma


class Bystander:
    """A session with traffic in a thread of its own: writes, channel reads and echoes, every byte checked."""

    def __init__(self, daemon, smbd, source="127.0.0.77", name="bystander"):
        self.turns, self.failure = 0, None
        self.client = rdma.session(daemon, smbd, source=(source, 0))
        self.file = self.client.create(name)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            while not self._stop.wait(0.02):
                data = bytes([self.turns % 251]) * 5000
                rdma.channel_write(self.client, self.file, data, 0).check()
                _, placed = rdma.channel_read(self.client, self.file, len(data), 0)
                assert placed == data
                self.client.transport.iwarp.regions.clear()
                self.client.transport.iwarp.events.clear()
                self.client.transport.messages.clear()
                self.client.echo().check()
                self.turns += 1
        except BaseException as e:
            self.failure = e

    def check(self, deadline=5):
        """It still works: one more turn is completed."""
        before, end = self.turns, time.monotonic() + deadline
        while self.turns == before and self.failure is None and time.monotonic() < end:
            time.sleep(0.005)
        assert self.failure is None, f"a connection that did nothing wrong was harmed: {self.failure!r}"
        assert self.turns > before, "a connection that did nothing wrong is stuck"

    def stop(self):
        self._stop.set()
        self._thread.join(10)
        self.client.close_transport()
