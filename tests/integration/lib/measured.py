# SPDX-License-Identifier: MIT
"""A client in a process of its own that moves data, checks every byte, and times each request.

`Measured` is the handle; run as a program this file is the client. One thread works without a pause, the other
answers what it is asked on standard input: "take" how it fared since the last time, "new ADDRESS" how long a new
client from that address takes to get a session and an ECHO. Its own process, so that what the attacking test
does with its interpreter costs it nothing.
"""

import contextlib
import json
import os
import pathlib
import random
import subprocess
import sys
import threading
import time
import types

SIZE, PLAIN = 65536, 8192
PATIENCE_S = 6  # of a new client


class Measured:
    """over: "rdma" (to the daemon), or "tcp" (to smbd itself: how the machine is, whatever the daemon does)."""

    def __init__(self, over, to, netbios_name, source, space=None):
        self.lane = over
        argv = [sys.executable, str(pathlib.Path(__file__).resolve()), json.dumps([over, to, netbios_name, source])]
        self.process = subprocess.Popen(
            space.wrap(*argv) if space else argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).resolve().parent.parent)},
        )
        self._asking = threading.Lock()
        try:
            self.ready = json.loads(self.process.stdout.readline() or "null")
            assert self.ready == "ready", f"the measured client could not start: {self.ready}"
        except BaseException:
            self.stop()
            raise

    def _ask(self, question):
        with self._asking:
            self.process.stdin.write(question + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        assert line, "the measured client has ended"
        return types.SimpleNamespace(**json.loads(line))

    def take(self):
        """Since the last take: turns, seconds, slowest (of a request, also one still waiting), what, failure."""
        return self._ask("take")

    def over(self, seconds):
        """How it fares in the next seconds."""
        self.take()
        time.sleep(seconds)
        return self.take()

    def new(self, address):
        """seconds until a new client from `address` is served; failure."""
        return self._ask(f"new {address}")

    def stop(self):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Worker:
    def __init__(self, over, to, netbios_name, source):
        self.rdma_lane, self.to, self.name = over == "rdma", tuple(to), netbios_name
        self.random = random.Random(source)
        self.lock = threading.Lock()
        self.began = self.slowest = self.turns = 0
        self.at, self.what, self.failure = None, "", None
        self.client = self.session(source)
        # Others of this address, of another stage, go on beside this one.
        name = f"measured-{over}-{source}-{os.getpid()}".replace(":", "-")
        self.file = self.client.create(name)
        # Something is always awaited, as in real clients: a folder where nothing happens.
        folder = self.client.create(f"{name}-folder", options=1, attributes=0x10)
        self.client.change_notify(folder)
        self.took = time.monotonic()

    def session(self, source):
        if not self.rdma_lane:
            return smb2.over_tcp(self.to, source=(source, 0)).start(dialects=(smb2.SMB_3_0_2,), host=self.name)
        daemon = types.SimpleNamespace(address=self.to[0], port=self.to[1])
        smbd = types.SimpleNamespace(netbios_name=self.name)
        return rdma.session(daemon, smbd, source=(source, 0), crc=False)

    def timed(self, what, request):
        with self.lock:
            self.at, self.what_now = time.monotonic(), what
        try:
            return request()
        finally:
            with self.lock:
                self._note(time.monotonic() - self.at)
                self.at = None

    def _note(self, seconds):
        if seconds > self.slowest:
            self.slowest, self.what = seconds, self.what_now

    def turn(self):
        c, f = self.client, self.file
        data = self.random.randbytes(SIZE)
        if self.rdma_lane:
            self.timed("channel WRITE", lambda: rdma.channel_write(c, f, data).check())
            _, placed = self.timed("channel READ", lambda: rdma.channel_read(c, f, SIZE))
            c.transport.iwarp.regions.clear()
            c.transport.iwarp.events.clear()
            c.transport.messages.clear()
        else:
            self.timed("WRITE", lambda: c.write(f, data).check())
            placed = self.timed("READ of 64 KiB", lambda: c.read(f, SIZE).check().data)
        assert placed == data, "what was read back is not what was written"
        part = self.timed("READ", lambda: c.read(f, PLAIN, 4096).check().data)
        assert part == data[4096 : 4096 + PLAIN], "what was read inline is not what was written"
        self.timed("ECHO", lambda: c.echo().check())

    def run(self):
        try:
            while True:
                self.turn()
                with self.lock:
                    self.turns += 1
        except BaseException as e:
            self.failure = f"{self.what_now}: {e!r}"

    def take(self):
        with self.lock:
            now = time.monotonic()
            if self.at is not None:
                self._note(now - max(self.at, self.took))
            out = {"turns": self.turns, "seconds": now - self.took, "slowest": self.slowest, "what": self.what}
            self.turns, self.slowest, self.what, self.took = 0, 0, "", now
            return {**out, "failure": self.failure}

    def new(self, source):
        """One that is turned away tries again, as clients do."""
        began, failure = time.monotonic(), "not tried"
        while failure and time.monotonic() - began < PATIENCE_S:
            try:
                with self.session(source) as c:
                    c.echo().check()
                    failure = None
            except Exception as e:
                failure = repr(e)
                time.sleep(0.1)
        return {"seconds": time.monotonic() - began, "failure": failure}


def say(what):
    print(json.dumps(what), flush=True)


def main():
    try:
        worker = Worker(*json.loads(sys.argv[1]))
    except Exception as e:
        return say(repr(e))
    threading.Thread(target=worker.run, daemon=True).start()
    say("ready")
    for line in sys.stdin:
        command, *words = line.split()
        say(worker.take() if command == "take" else worker.new(*words))


if __name__ == "__main__":
    from lib import rdma, smb2

    main()
