# SPDX-License-Identifier: MIT
"""Samba's own protocol test suite, run side by side over TCP and through SMB Direct, and compared test by test."""

import collections
import dataclasses
import re
import subprocess

RESULT = re.compile(r"^(success|failure|error|skip): (.+?)(?: \[)?$")
RERUNS = 3


@dataclasses.dataclass
class Lane:
    """One way to smbd: where smbtorture connects to, and which share is this lane's own; in a NetSpace, or here."""

    name: str
    port: int
    share: str
    space: object = None


def floor_of(version, floors):
    """How many successes there must be at least with Samba `version`: {list: {suite: number}}. floors: for each version
    of Samba what changed with it; the oldest has everything."""
    known = sorted(floors, key=lambda name: tuple(map(int, name.split("."))))
    out = {}
    for name in known:
        if name == known[0] or tuple(map(int, name.split("."))) <= version:
            for which, numbers in floors[name].items():
                out[which] = out.get(which, {}) | numbers
    return out


def parse(text):
    """smbtorture's own output format: test name -> success | failure | error | skip. A test that was begun
    and never ended (smbtorture died, or was stopped) is an error."""
    results, running = {}, None
    for line in text.splitlines():
        if line.startswith("test: "):
            running = line[len("test: ") :].strip()
        elif m := RESULT.match(line):
            results[m[2].strip()] = m[1]
            running = None
    if running is not None:
        results[running] = "error"
    return results


def begin(lane, smbd, test, seed):
    argv = ["smbtorture", f"//127.0.0.1/{lane.share}", "-p", str(lane.port), f"-U{smbd.user}%{smbd.password}"]
    argv += ["-s", str(smbd.config), "--target=samba3", f"--seed={seed}", "--option=torture:progress=no", test]
    argv = lane.space.wrap(*argv) if lane.space else argv
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def side_by_side(lanes, smbd, test, seed, timeout):
    """Runs `test` in all lanes at once. Returns [(results, output)] in the order of the lanes."""
    running = [begin(lane, smbd, test, seed) for lane in lanes]
    out = []
    try:
        for process in running:
            try:
                text = process.communicate(timeout=timeout)[0].decode(errors="replace")
            except subprocess.TimeoutExpired:
                process.kill()
                text = process.communicate()[0].decode(errors="replace") + f"\n(stopped after {timeout} s)\n"
            out.append((parse(text), text))
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.communicate()
    return out


def usual(outcomes):
    """The outcome seen most often; the better one where two are seen equally often."""
    rank = ["success", "skip", "failure", "error", None]
    counts = collections.Counter(outcomes)
    return min(counts, key=lambda o: (-counts[o], rank.index(o) if o in rank else len(rank)))


@dataclasses.dataclass
class Comparison:
    """One suite (or single test) in two lanes."""

    suite: str
    results: dict  # test -> (outcome in lane 0, outcome in lane 1), after re-runs
    rerun: dict  # test -> ([outcomes lane 0], [outcomes lane 1]) for what differed at first
    outputs: list  # of the first run, one per lane
    by_area: tuple = None  # READs and WRITEs that lane 1's daemon moved by memory shared with smbd
    direct: tuple = None  # and those that its workers did themselves, and the open files that were granted

    @property
    def different(self):
        return {t: r for t, r in self.results.items() if r[0] != r[1]}

    def count(self, lane, outcome="success"):
        return sum(1 for r in self.results.values() if r[lane] == outcome)

    def log_lines(self):
        counts = [dict(sorted(collections.Counter(r[i] for r in self.results.values()).items(), key=str)) for i in (0, 1)]
        area = f", by the area {self.by_area[0]} READs, {self.by_area[1]} WRITEs" if self.by_area else ""
        direct = f", directly {self.direct[0]} READs, {self.direct[1]} WRITEs of {self.direct[2]} files" if self.direct else ""
        yield f"{self.suite}: {len(self.results)} tests, tcp {counts[0]}, smbdirect {counts[1]}{area}{direct}"
        for test, (tcp, direct) in self.rerun.items():
            verdict = "the same" if self.results[test][0] == self.results[test][1] else "DIFFERENT"
            yield f"  {test}: differed; tcp {tcp}, smbdirect {direct}: {verdict}"


def single(suite, test):
    """The name under which one test of a suite's output can be run alone."""
    last = suite.rsplit(".", 1)[-1]
    return suite if test in (suite, last) else f"{suite}.{test}"


def compare(lanes, smbd, suite, seed=4711, timeout=120):
    """Runs a suite in two lanes; what differs is run alone three more times in both, and then the usual
    outcome counts: a test that depends on timing must not decide, one that always differs must."""
    first = side_by_side(lanes, smbd, suite, seed, timeout)
    names = list(dict.fromkeys([*first[0][0], *first[1][0]]))
    results = {n: (first[0][0].get(n), first[1][0].get(n)) for n in names}
    rerun = {}
    for name in [n for n, r in results.items() if r[0] != r[1]]:
        seen = ([], [])
        for attempt in range(RERUNS):
            again = side_by_side(lanes, smbd, single(suite, name), seed + attempt, timeout)
            for lane in (0, 1):
                # Run alone, the test may go by its last name only.
                found = again[lane][0]
                seen[lane].append(found.get(name) or found.get(name.rsplit(".", 1)[-1]))
        rerun[name] = seen
        results[name] = (usual(seen[0]), usual(seen[1]))
    return Comparison(suite, results, rerun, [text for _, text in first])
