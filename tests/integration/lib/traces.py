# SPDX-License-Identifier: MIT
"""Random SMB2 traces of two clients, the first with two channels: opens with every oplock and lease, reads, writes, locks,
truncation, rename, break acknowledgements. A trace is drawn from its seed alone; Player does it on connections of any kind and
notes every answer, so that two servers, or two ways to one, can be compared."""

import random
import select
import struct
import time
from dataclasses import dataclass, field

from lib import leases, rdma, smb2
from lib.leases import BATCH, EXCLUSIVE, LEASE, LEVEL_II

ALL_ACCESS = leases.ALL_ACCESS | 0x10000  # and DELETE, for rename
FILES = 3  # each client has one that it likes best
LARGEST = 200_000  # bytes of one READ or WRITE
REACH = 400_000  # offsets
CONNECTIONS = ((0, 0), (0, 0), (0, 1), (0, 1), (1, 0), (1, 0))  # client, channel; as often as they are here


@dataclass
class Step:
    kind: str
    connection: tuple
    open: int = None  # the step that has opened the file
    values: dict = field(default_factory=dict)

    def __str__(self):
        shown = {k: f"{len(v)} bytes" if isinstance(v, bytes) else v for k, v in self.values.items()}
        return f"{self.kind} by {self.connection}{'' if self.open is None else f' of {self.open}'} {shown}"


def an_open(chance, client):
    oplock = chance.choice((0, LEVEL_II, EXCLUSIVE, BATCH, LEASE, LEASE, LEASE, LEASE))
    return {
        "name": chance.choice((*[client] * 8, *range(FILES))),
        "access": chance.choice((leases.READ_ACCESS, leases.WRITE_ACCESS, *[ALL_ACCESS] * 6)),
        "share": chance.choice((*[7] * 12, 3, 1, 0)),
        "disposition": chance.choice((3, 3, 3, 3, 1, 5)),
        "oplock": oplock,
        "lease": chance.choice((0, leases.R, leases.RH, leases.RW, leases.RWH, leases.RWH)) if oplock == LEASE else None,
        "key": chance.randrange(4) == 0,  # another one than this client's usual for the file
    }


def an_io(chance, write):
    length = chance.choice((1, 100, 4096, chance.randrange(1, 9000), chance.randrange(1, LARGEST)))
    values = {"offset": chance.randrange(REACH) if chance.randrange(3) else 4096 * chance.randrange(20), "channel": chance.randrange(3)}
    if write:
        return {**values, "data": chance.randbytes(length), "flags": chance.randrange(8) == 0}
    return {**values, "length": length, "minimum": chance.choice((0, 0, 0, 1, length, length + 1))}


MORE = {
    "read": lambda chance: an_io(chance, False),
    "write": lambda chance: an_io(chance, True),
    "truncate": lambda chance: {"size": chance.randrange(REACH)},
    "rename": lambda chance: {"name": chance.randrange(FILES), "replace": chance.randrange(2)},
    "lock": lambda chance: {"offset": chance.randrange(REACH), "length": chance.randrange(1, 50_000), "flags": chance.choice((0x11, 0x12, 4))},
    "flush": lambda chance: {},
    "size": lambda chance: {},
    "close": lambda chance: {},
}
KINDS = ["read"] * 16 + ["write"] * 16 + ["truncate", "rename", "lock", "lock", "flush", "size", "size", "close", "close"]


def contents(seed):
    """What the files have at first; one is not there."""
    chance = random.Random(f"contents {seed}")
    return [chance.randbytes(REACH), chance.randbytes(chance.randrange(REACH)), None]


def trace(seed, steps=80):
    chance = random.Random(f"trace {seed}")
    made, opens = [], []
    for number in range(steps):
        connection = chance.choice(CONNECTIONS)
        mine = [n for n in opens if made[n].connection[0] == connection[0]]
        if not mine or chance.randrange(12) == 0:
            opens.append(number)
            made.append(Step("open", connection, values=an_open(chance, connection[0])))
            continue
        # A client does most of its work on one file in a row.
        kind = chance.choice(KINDS)
        made.append(Step(kind, connection, mine[-1] if chance.randrange(3) else chance.choice(mine), MORE[kind](chance)))
    return made


class Player:
    """connections: (client, channel) -> smb2.Client. by_rdma: READs and WRITEs may go by the RDMA channel."""

    def __init__(self, connections, by_rdma):
        self.connections, self.by_rdma = connections, by_rdma

    def play(self, steps, label):
        """(what each step was answered, what leases and oplocks became)"""
        self.label, self.opens, self.answers, self.leases = label, {}, [], []
        self.held = {}  # open -> [the file's name, the key of its lease, what it has of a lease or an oplock]
        for number, step in enumerate(steps):
            if step.open is not None and step.open not in self.opens:
                self.answers.append(None)  # was not opened, or is closed
                continue
            self.answers.append(getattr(self, step.kind)(self.connections[step.connection], number, step))
        for number in list(self.opens):
            self.close(self.connections[steps[number].connection], number, Step("close", None, number))
        return self.answers, self.leases

    # --- what waits for what ---

    def wait(self, c, message_id):
        """The answer, with all that is broken meanwhile acknowledged."""
        while message_id not in c.responses:
            for one in (c, *(other for other in self.connections.values() if other is not c)):
                if hear(one, 0.2 if one is c and message_id not in c.interims else 0.005):
                    break
            else:
                self.patience -= 1
                assert self.patience > 0, f"{self.label}: no answer"
            self.acknowledge()
        response = c.wait(message_id)
        for one in self.connections.values():
            while hear(one, 0):
                pass
        self.acknowledge()
        return response

    def do(self, c, command, body, **kw):
        self.patience = 200
        return self.wait(c, c.send(command, body, **kw))

    def broken(self, number):
        """One has changed the file: smbd tells another process that its client's leases are gone, and does not wait for that. The
        next request may overtake it, and is then served as before; here it does not, so that two ways can be compared."""
        name, key, _ = self.held[number]
        others = [other for n, other in self.held.items() if n != number and other[0] == name and (key is None or other[1] != key)]
        end = time.monotonic() + 0.2
        while any(other[2] for other in others) and time.monotonic() < end:
            for one in self.connections.values():
                hear(one, 0.001)
            self.acknowledge()
        for other in others:
            other[2] = 0  # nothing was broken: the file has another name by now

    def acknowledge(self):
        for (client, channel), c in self.connections.items():
            while c.unsolicited:
                pdu = c.unsolicited.pop(0).pdu
                (size,) = struct.unpack_from("<H", pdu, 64)
                if size == 44:
                    flags, key, current, new = struct.unpack_from("<I16sII", pdu, 68)
                    self.leases.append(("break", client, current, new))
                    for held in self.held.values():
                        if held[1] == key:
                            held[2] = new
                    body = struct.pack("<HHI16sIQ", 36, 0, 0, key, new, 0) if flags & 1 else None
                else:
                    level, file_id = pdu[66], pdu[72:88]
                    self.leases.append(("break", client, level))
                    number, held = next(((n, o) for n, o in self.opens.items() if o[0] == file_id), (None, None))
                    owes = held and held[1] in (EXCLUSIVE, BATCH)
                    body = struct.pack("<HBBI16s", 24, level, 0, 0, file_id) if owes else None
                    if held:
                        held[1] = level
                        self.held[number][2] = level
                if body:
                    c.rpc(smb2.OPLOCK_BREAK, body)

    # --- the steps ---

    def open(self, c, number, step):
        v = step.values
        name = f"{self.label}-{v['name']}"
        key = None
        kw = {"access": v["access"], "share": v["share"], "disposition": v["disposition"]}
        if v["oplock"] == LEASE:
            key = f"{step.connection[0]}{v['name']}{number if v['key'] else ''}{self.label}".encode()[-16:].rjust(16, b"-")
            body = leases.create_body(name, [leases.lease_context(key, v["lease"])], **kw)
        else:
            body = smb2.create_body(name, oplock=v["oplock"], **kw)
        response = self.do(c, smb2.CREATE, body)
        if response.status != smb2.SUCCESS:
            return response.status, None
        granted = response.pdu[66]
        self.opens[number] = [response.pdu[128:144], granted]
        state = leases.opened(response, None).state if granted == LEASE else None
        self.leases.append(("granted", number, granted, state))
        self.held[number] = [v["name"], key if granted == LEASE else None, state if granted == LEASE else granted]
        action, end = struct.unpack_from("<I", response.pdu, 68), struct.unpack_from("<Q", response.pdu, 112)
        return response.status, (action, end)

    def read(self, c, number, step):
        v, (file_id, _) = step.values, self.opens[step.open]
        if self.by_rdma and v["channel"]:
            self.patience = 200
            message_id, region = rdma.send_channel_read(c, file_id, v["length"], v["offset"], minimum=v["minimum"], channel=v["channel"])
            response = self.wait(c, message_id)
            return response.status, bytes(region.memory[: response.data_remaining]) if response.status == 0 else None
        body = smb2.read_body(file_id, v["length"], v["offset"], minimum=v["minimum"])
        response = self.do(c, smb2.READ, body, charge=smb2.charge_for(v["length"]))
        return response.status, response.data if response.status == 0 else None

    def write(self, c, number, step):
        v, (file_id, _) = step.values, self.opens[step.open]
        flags = int(v["flags"])
        if self.by_rdma and v["channel"]:
            self.patience = 200
            message_id, _ = rdma.send_channel_write(c, file_id, v["data"], v["offset"], flags=flags, channel=v["channel"])
            response = self.wait(c, message_id)
        else:
            body = smb2.write_body(file_id, v["data"], v["offset"], flags=flags)
            response = self.do(c, smb2.WRITE, body, charge=smb2.charge_for(len(v["data"])))
        if response.status == 0:
            self.broken(step.open)
        return response.status, response.count if response.status == 0 else None

    def set_info(self, c, file_id, kind, data):
        body = struct.pack("<HBBIHHI16s", 33, 1, kind, len(data), 96, 0, 0, file_id) + data
        return self.do(c, smb2.SET_INFO, body).status, None

    def truncate(self, c, number, step):
        answer = self.set_info(c, self.opens[step.open][0], 20, struct.pack("<Q", step.values["size"]))
        if answer[0] == 0:
            self.broken(step.open)
        return answer

    def rename(self, c, number, step):
        name = f"{self.label}-{step.values['name']}".encode("utf-16le")
        data = struct.pack("<B7xQI", step.values["replace"], 0, len(name)) + name
        return self.set_info(c, self.opens[step.open][0], 10, data)

    def lock(self, c, number, step):
        v = step.values
        body = struct.pack("<HHI16sQQII", 48, 1, 0, self.opens[step.open][0], v["offset"], v["length"], v["flags"], 0)
        status = self.do(c, smb2.LOCK, body).status
        if status == 0 and v["flags"] != 4:  # an unlock changes nothing
            self.broken(step.open)
        return status, None

    def flush(self, c, number, step):
        return self.do(c, smb2.FLUSH, struct.pack("<HHI16s", 24, 0, 0, self.opens[step.open][0])).status, None

    def size(self, c, number, step):
        body = struct.pack("<HBBIHHIII16s", 41, 1, 5, 64, 0, 0, 0, 0, 0, self.opens[step.open][0])
        response = self.do(c, smb2.QUERY_INFO, body)
        return response.status, struct.unpack_from("<Q", response.pdu, 72 + 8) if response.status == 0 else None

    def close(self, c, number, step):
        file_id, _ = self.opens.pop(step.open)
        self.held.pop(step.open)
        return self.do(c, smb2.CLOSE, smb2.close_body(file_id)).status, None


def hear(c, seconds):
    """One PDU, if one comes in time."""
    if isinstance(c.transport, smb2.TcpTransport):
        if not select.select([c.transport.sock], [], [], seconds)[0]:
            return False
        c._receive(c.timeout)
        return True
    try:
        c._receive(seconds)
    except rdma.Timeout:
        return False
    return True
