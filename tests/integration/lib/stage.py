# SPDX-License-Identifier: MIT
"""A daemon with one worker, a client that it must serve well, and the measure of both while something else goes on.

The measure allows for the machine: a second client beside it goes to the same server over TCP, never through the worker.
What slows that one down, or has it fail, is not the worker's doing.
"""

import threading
import types

from lib.daemon import Connect, Smbdirectd, merged
from lib.ground import Ground
from lib.hostile_server import HostileServer
from lib.measured import Measured
from lib.resources import MIB, Watch, resident, sanitized
from lib.scene import Lookout, describe

PER_WORKER, SLACK = 24 * MIB, 32 * MIB

# Small limits show in seconds what large ones show in minutes.
POOL = {
    "iwarp": {"crc": False},
    "smbdirect": {"max_fragmented_size": MIB + 131072, "max_read_write_size": MIB},
    "limits": {
        "connections": 48,
        "connections_per_client": 32,
        "buffered_bytes_per_connection": 4 * MIB,
        "buffered_bytes_per_worker": PER_WORKER,
    },
}

SLOWEST_S, NEW_CLIENT_S, SHARE = 1.0, 2.0, 0.25
LEAST_ALONE, PATIENCE = 20, 20  # turns a second, looks
STALLED_S = 6  # longer than it should last


class Stage:
    """Made where it is needed first, and used until something on it has broken.

    hostile: smbd is reached through a server that misuses some (lib/hostile_server.py). wrap: something with a
    wrap(), for the daemon's command. space: everything is in that network namespace. host: how the addresses of the
    bystander and of new clients begin. connect: the bystander is a client of an smbdirect-connect, over TCP.
    """

    def __init__(self, directory, smbd, hostile=False, wrap=None, space=None, host="127.0.0.7", pool=None, connect=False):
        self.smbd, self.space, self.host, self.connect = smbd, space, host, None
        self.parts = []
        try:
            upstream = smbd.port
            if hostile:
                self.parts.append(HostileServer(smbd.port))
                upstream = self.parts[-1].port
            pool = merged(POOL, pool)
            self.daemon = Smbdirectd(directory, upstream, pool=pool, workers=1, space=wrap or space).start()
            self.parts.append(self.daemon)
            (self.worker,) = self.daemon.worker_pids()
            self.at_first = {pid: resident(pid) for pid in (self.daemon.pid, self.worker)}
            if connect:
                self.connect = Connect(directory, self.daemon, source="127.0.0.6").start()
                self.parts.append(self.connect)
            front, lane = (self.connect, "tcp") if connect else (self.daemon, "rdma")
            self.bystander = Measured(lane, [front.address, front.port], smbd.netbios_name, f"{host}7", space)
            self.parts.append(self.bystander)
            # By the same server, hostile or not, so that only the daemon is what they do not share.
            self.control = Measured("tcp", ["127.0.0.1", upstream], smbd.netbios_name, "127.0.0.78", space)
            self.parts.append(self.control)
        except BaseException:
            self.stop()
            raise

    def stop(self, check=False):
        for part in reversed(self.parts):
            if part in (getattr(self, "daemon", None), self.connect):
                part.stop(check=check)
            else:
                part.stop()
        self.parts = []

    def measure(self, seconds):
        self.control.take()
        here = self.bystander.over(seconds)
        return here, self.control.take()

    def beside(self, attack, seconds=2.5, alone_s=0.6, seed=1, source=None):
        """The attack, and what became of the others meanwhile: `wrong` (never allowed) and `slow` (perhaps the
        machine's fault: worth another look), as lists of sentences, and `text` of the figures."""
        for _ in range(PATIENCE):
            alone, control_alone = self.measure(alone_s)
            if alone.turns >= LEAST_ALONE * alone.seconds:
                break  # else the machine has no time even for this, and says nothing of an attack
        ground = Ground(self.daemon, self.smbd, seconds, seed, source, self.connect)
        newcomers = []

        def arrive():
            for n in (1, 2):
                ground.rest(seconds / 3)
                newcomers.append(self.bystander.new(f"{self.host}{n}"))

        arriving = threading.Thread(target=arrive, daemon=True)
        failure = None

        def run():
            nonlocal failure
            try:
                attack(ground)
            except Exception as e:  # the attack itself has failed: that is no proof of anything
                failure = e
            return True

        with Watch(self.at_first) as memory, Lookout(seconds + STALLED_S, self._scene) as lookout:
            arriving.start()
            if self.space:
                self.space.socket_in(run)  # what it opens is in there
            else:
                run()
            during, control = self.bystander.take(), self.control.take()
            ground.drop()
            arriving.join(30)
        for _ in range(20):  # it goes on: one more turn
            after = self.bystander.over(0.25)
            if after.turns or after.failure:
                break
        if failure is not None:
            raise failure
        return self._judge(types.SimpleNamespace(**locals()))

    def _scene(self):
        processes = {"worker": self.worker, "supervisor": self.daemon.pid}
        processes |= {type(p).__name__: p.process.pid for p in self.parts if isinstance(p, HostileServer)}
        processes |= {f"measured {p.lane}": p.process.pid for p in (self.bystander, self.control)}
        return describe(
            processes,
            lambda: self.daemon.ctl("connections", "--events", check=False).stdout,
            lambda: self.daemon.ctl("metrics", check=False).stdout,
        )

    def _judge(self, m):
        wrong, slow = [], []
        for when, what in (("during", m.during), ("after", m.after)):
            if what.failure:
                wrong.append(f"the bystander failed {when} it: {what.failure}")
        if m.control.failure:  # the server of both stands still: that says nothing of the worker
            slow += [*wrong, f"the server itself stands still: {m.control.failure}"]
            wrong = []
        workers = self.daemon.worker_pids()
        if self.connect and not self.connect.server.running():
            wrong.append("smbdirect-connect has ended")
        if workers != [self.worker]:
            wrong.append(f"the worker was {self.worker}, now there are {workers}")
        if not wrong and not m.after.turns:
            slow.append("the bystander stands still after it")
        machine = m.control.slowest
        if m.during.slowest > SLOWEST_S + machine:
            slow.append(f"the bystander's {m.during.what} took {m.during.slowest:.2f} s")
        rate, alone = m.during.turns / m.during.seconds, m.alone.turns / m.alone.seconds
        left = m.control.turns / m.control.seconds / max(0.001, m.control_alone.turns / m.control_alone.seconds)
        if rate < alone * SHARE * min(1, left):
            slow.append(f"the bystander made {rate:.1f} turns a second; alone {alone:.1f}")
        for new in m.newcomers:
            if new.failure:
                slow.append(f"a new client was not served: {new.failure} after {new.seconds:.2f} s")
            elif new.seconds > NEW_CLIENT_S + machine:
                slow.append(f"a new client waited {new.seconds:.2f} s")
        if len(m.newcomers) < 2:
            wrong.append("a new client waits for ever")
        grown = {pid: m.memory.most[pid] - self.at_first[pid] for pid in self.at_first}
        if grown[self.worker] > PER_WORKER + SLACK:
            wrong.append(f"the worker grew by {grown[self.worker] / MIB:.1f} MiB")
        if grown[self.daemon.pid] > SLACK:
            wrong.append(f"the supervisor grew by {grown[self.daemon.pid] / MIB:.1f} MiB")
        if sanitized():
            wrong = [w for w in wrong if "grew" not in w]
            slow = [s for s in slow if "not served" in s or "still" in s]
        text = (
            f"did {m.ground.did}; slowest {m.during.slowest:.2f} s ({m.during.what}), control {machine:.2f} s; {rate:.0f} of "
            f"{alone:.0f} turns/s, control kept {left:.0%}; new clients "
            + ", ".join(f"{n.seconds:.2f} s{' ' + n.failure if n.failure else ''}" for n in m.newcomers)
            + f"; worker {grown[self.worker] / MIB:+.1f} MiB, supervisor {grown[self.daemon.pid] / MIB:+.1f} MiB"
            + (f"\nwhile it stood still:\n{m.lookout.seen}" if m.lookout.seen and (wrong or slow) else "")
        )
        return types.SimpleNamespace(wrong=wrong, slow=slow, text=text)


def withstands(stages, attack, key=None, tries=3, **kw):
    """The attack beside the bystander of the stage that stages(key) gives, until it goes well: what may be the
    machine's fault is tried again. AssertionError with all that was wrong."""
    for number in range(tries):
        outcome = stages(key).beside(attack, seed=number, **kw)
        print(f"{attack.__name__}: {outcome.text}")
        if outcome.wrong or outcome.slow:
            stages(key, broken=True)
        assert not outcome.wrong, f"{'; '.join(outcome.wrong + outcome.slow)}\n{outcome.text}"
        if not outcome.slow:
            return
    raise AssertionError(f"{tries} times: {'; '.join(outcome.slow)}\n{outcome.text}")


class Stages:
    """make(key, directory) -> a Stage, once for each key, and again after one has broken."""

    def __init__(self, scratch, make):
        self._scratch, self._make, self._made, self._count = scratch, make, {}, 0

    def __call__(self, key, broken=False):
        if broken and key in self._made:
            self._made.pop(key).stop()
        if key not in self._made and not broken:
            self._count += 1
            self._made[key] = self._make(key, self._scratch / f"stage-{key}-{self._count}")
        return self._made.get(key)

    def stop(self):
        for stage in self._made.values():
            stage.stop(check=True)
