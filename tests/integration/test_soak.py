# SPDX-License-Identifier: MIT
"""A thousand clients come, transfer and go; the processes must look as they did before."""

import threading

from lib import smb2
from lib.process import wait_until
from lib.resources import MIB, descriptors, resident, sanitized
from lib.smbdirect import SmbDirect, describe

WARM_UP, CYCLES, THREADS = 100, 1000, 2
SIZE = 10_000


def processes(daemon):
    return {"supervisor": daemon.pid, **{f"worker {slot}": pid for slot, pid in daemon.workers().items()}}


def cycle(daemon, number):
    """One client: its file is written by RDMA READ and read back by RDMA WRITE. Every fourth closes and logs
    off in order; the others just vanish, as clients do."""
    data = number.to_bytes(4, "little") * (SIZE // 4)
    with smb2.Client(SmbDirect.connect((daemon.address, daemon.port), crc=False)) as client:
        client.start()
        memory = client.transport.iwarp
        file = client.create(f"soak-{number % 64}-{threading.get_ident()}")
        source = memory.expose(bytearray(data), "r")
        channel = {"channel": smb2.CHANNEL_RDMA_V1}
        done = client.write(file, b"", 0, info=describe(source), remaining=SIZE, **channel).check()
        assert done.count == SIZE
        memory.revoke(source)
        sink = memory.expose(SIZE, "w")
        client.read(file, SIZE, 0, info=describe(sink), **channel).check()
        assert bytes(sink.memory) == data
        if number % 4 == 0:
            client.close_file(file).check()
            client.rpc(smb2.LOGOFF, smb2.ECHO_BODY).check()


def cycles(daemon, count):
    """Runs `count` clients, a few at a time. The smallest first error, if any, is raised here."""
    numbers, lock, errors = iter(range(count)), threading.Lock(), []

    def work():
        while not errors:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            try:
                cycle(daemon, number)
            except Exception as e:  # noqa: BLE001  (carried to the test's own thread)
                errors.append((number, e))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        number, error = min(errors, key=lambda e: e[0])
        raise AssertionError(f"client {number}: {error!r}") from error


def test_a_thousand_clients_leave_nothing_behind(smbd, make_daemon):
    # Spread, so that the warm-up warms both workers although all clients come from one address.
    daemon = make_daemon(smbd.port, workers=2, pool={"affinity": "spread", "iwarp": {"crc": False}, "log": {"level": "info"}})
    pids = processes(daemon)
    idle = {name: descriptors(pid) for name, pid in pids.items()}
    cycles(daemon, WARM_UP)

    def all_gone():
        return {name: descriptors(pid) for name, pid in pids.items()} == idle

    def what():
        return f"descriptors to be {idle}: {({name: descriptors(pid) for name, pid in pids.items()})}"

    wait_until(all_gone, 15, what)
    before = {name: resident(pid) for name, pid in pids.items()}
    cycles(daemon, CYCLES)
    wait_until(all_gone, 15, what)
    after = {name: resident(pid) for name, pid in pids.items()}
    assert processes(daemon) == pids, "a process was replaced"
    assert len(daemon.closed()) == WARM_UP + CYCLES
    growth = {name: after[name] - before[name] for name in pids}
    print("growth in bytes:", growth)
    if not sanitized():
        assert all(grown <= MIB for grown in growth.values()), f"resident memory grew: {growth} from {before}"
