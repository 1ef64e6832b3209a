# SPDX-License-Identifier: MIT
"""Somebody who asks every process of an smbd for direct I/O, as soon as it listens, and hears what it says."""

import contextlib
import os
import threading

from lib.direct_link import DirectLink


class Attendant:
    """Its grants and breaks are counted; whatever is no protocol is raised at the end."""

    def __init__(self, server):
        self.server, self.over = server, threading.Event()
        self.grants = self.changes = 0
        self.problems, self.known, self.threads = [], set(), []

    def __enter__(self):
        self.watcher = threading.Thread(target=self._watch)
        self.watcher.start()
        return self

    def __exit__(self, *exc):
        self.over.set()
        self.watcher.join()
        for thread in self.threads:
            thread.join()
        if self.problems and not any(exc):
            raise self.problems[0]

    def _watch(self):
        while not self.over.wait(0.005):
            for name in set(os.listdir(self.server.links)) - self.known:
                self.known.add(name)
                self.threads.append(threading.Thread(target=self._attend, args=(name,)))
                self.threads[-1].start()

    def _attend(self, name):
        try:
            with DirectLink(self.server.links / name) as link:
                self._listen(link)
                self.grants += len(link.all)
                self.changes += sum(len(grant.told) for grant in link.all)
        except (EOFError, OSError):
            pass  # a process that has ended already
        except AssertionError as problem:
            self.problems.append(problem)

    def _listen(self, link):
        link.sock.settimeout(0.2)
        with contextlib.suppress(EOFError):
            while not self.over.is_set():
                with contextlib.suppress(TimeoutError):
                    link.receive()
