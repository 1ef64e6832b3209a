# SPDX-License-Identifier: MIT
"""Clients that live through a failover: one that writes without a pause and reconnects as clients do, and one that waits in
silence."""

import contextlib
import os
import socket
import struct
import threading
import time

from lib import iwarp, leases, smb2
from lib.process import wait_until
from lib.smbdirect import SmbDirect

BLOCK, BLOCKS = 65536, 512  # a block, and how many there are in the file
ENDED = (iwarp.Closed, iwarp.Terminated, iwarp.Timeout, OSError)
NOT_YET = (*ENDED, smb2.Status, iwarp.PeerError)  # of an address that moves, or of a node that has just taken it
RETRY_S, CONNECT_S, GIVE_UP_S = 0.05, 0.5, 120

now = time.monotonic


class Person:
    """Who connects, from the client's host, to one address of the cluster, over SMB Direct or TCP."""

    def __init__(self, cluster, address, via="rdma", user="smbuser", password="Passw0rd!"):
        self.cluster, self.address, self.via, self.user, self.password = cluster, address, via, user, password
        self.guid, self.previous = os.urandom(16), 0

    def _transport(self):
        if self.via == "tcp":
            return smb2.TcpTransport((self.address, 445), timeout=CONNECT_S)
        return SmbDirect.connect((self.address, 5445), iwarp={"timeout": CONNECT_S})

    def session(self):
        """A session and a tree, in place of the former one of this person."""
        c = smb2.Client(self.cluster.client.socket_in(self._transport), self.guid)
        c.timeout = 3
        try:
            c.negotiate((smb2.SMB_3_0_2,)).check()
            c.login(self.user, self.password, previous=self.previous).check()
            c.tree_connect("\\\\CLUSTER\\share").check()
        except BaseException:
            c.close_transport()
            raise
        self.previous, c.timeout = c.session_id, GIVE_UP_S
        return c


def pattern(number, salt):
    return struct.pack("<QQ", number, salt) * (BLOCK // 16)


class Writer(threading.Thread):
    """Writes numbered blocks to one file with a durable handle, one at a time, round and round. When the connection ends it
    reconnects, asks for its handle, or opens the file anew, and sends the block again that was not acknowledged.

    gaps: for each loss {"last": when the last acknowledgement before it came, "first": the first one after it, "how":
    "durable" or "anew"}. finish() reads all acknowledged blocks back."""

    def __init__(self, person, name):
        super().__init__(daemon=True)
        self.person, self.name_of_file = person, name
        self.salt = int.from_bytes(os.urandom(7), "little")
        self.acknowledged, self.gaps, self.failure = 0, [], None
        self._over = threading.Event()
        self._create_guid = self._file = None
        self.client = person.session()
        self._open()
        self.start()

    def _open(self):
        """Returns "durable" if the former handle goes on."""
        c = self.client
        if self._file:
            body = leases.create_body(self.name_of_file, [leases.reconnect_context(self._file, self._create_guid)],
                                      oplock=leases.BATCH)  # fmt: skip
            response = c.rpc(smb2.CREATE, body)
            if response.status == smb2.SUCCESS:
                self._file = response.pdu[128:144]
                return "durable"
        self._create_guid = os.urandom(16)
        body = leases.create_body(self.name_of_file, [leases.durable_context(self._create_guid)], oplock=leases.BATCH)
        response = c.rpc(smb2.CREATE, body).check()
        self._file = response.pdu[128:144]
        return "anew"

    def run(self):
        last = now()
        try:
            while not self._over.is_set():
                try:
                    self._write(self.acknowledged)
                except (*ENDED, smb2.Status) as e:
                    self.gaps.append({"last": last, "lost": now(), "why": repr(e), **self._again()})
                    continue
                self.acknowledged += 1
                last = now()
                if self.gaps and "first" not in self.gaps[-1]:
                    self.gaps[-1]["first"] = last
        except BaseException as e:
            self.failure = repr(e)

    def _write(self, number):
        data = pattern(number, self.salt)
        self.client.write(self._file, data, number % BLOCKS * BLOCK).check()

    def _again(self):
        self.client.close_transport()
        end = now() + GIVE_UP_S
        while True:
            try:
                self.client = self.person.session()
                return {"connected": now(), "how": self._open()}
            except NOT_YET:
                self.client.close_transport()
                if now() > end:
                    raise
                time.sleep(RETRY_S)

    def goes_on(self, deadline=30, blocks=5):
        """Waits for some more acknowledgements."""
        seen = self.acknowledged
        wait_until(lambda: self.failure or self.acknowledged >= seen + blocks, deadline, lambda: f"writes go on: {self.gaps}")
        assert not self.failure, self.failure

    def finish(self):
        """The numbers of acknowledged blocks that are not in the file as they were written."""
        self._over.set()
        self.join(GIVE_UP_S)
        assert not self.is_alive() and not self.failure, self.failure
        wrong = []
        for number in range(max(0, self.acknowledged - BLOCKS), self.acknowledged):
            if self.client.read(self._file, BLOCK, number % BLOCKS * BLOCK).data != pattern(number, self.salt):
                wrong.append(number)
        self.client.close_file(self._file).check()
        self.client.close_transport()
        return wrong


class Idle(threading.Thread):
    """Opens a file and then waits for the end of the connection. told: when that came; None: not yet."""

    def __init__(self, person, name):
        super().__init__(daemon=True)
        self.person, self.told, self.how = person, None, None
        self.client = person.session()
        self.file = self.client.create(name)
        self.local = self.client.local
        self.start()

    def run(self):
        try:
            self.client.transport.recv_pdu(GIVE_UP_S)
            self.how = "a message"
        except iwarp.Timeout:
            return
        except ENDED as e:
            self.how = repr(e)
        self.told = now()
        self.client.close_transport()

    def wait_told(self, deadline):
        return wait_until(lambda: self.told, deadline, f"an idle client over {self.person.via} is told")

    def close(self):
        """In the thread that reads: this one must not take the descriptor away below it."""
        transport = self.client.transport
        with contextlib.suppress(OSError):
            getattr(transport, "iwarp", transport).sock.shutdown(socket.SHUT_RDWR)
        self.join(10)
