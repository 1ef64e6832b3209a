# SPDX-License-Identifier: MIT
"""One run of scripts/test: its sections, what each of them found, and the processes it has going."""

import collections
import dataclasses
import os
import pathlib
import signal
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / 'build'
LOGS = BUILD / 'logs'


@dataclasses.dataclass
class Section:
    name: str
    seconds: float = 0.0
    passed: int = 0
    failures: list = dataclasses.field(default_factory=list)  # (what, text for a person)
    skips: list = dataclasses.field(default_factory=list)  # (what, reason)
    notes: list = dataclasses.field(default_factory=list)  # of what passed: text for a person


class Failed(Exception):
    """The section cannot go on; the text says why."""


class Run:
    """One run of scripts/test: its sections, and the processes it has going."""

    def __init__(self, options):
        self.options = options
        self.sections = []
        self.going = set()  # processes
        self.began = time.monotonic()
        LOGS.mkdir(parents=True, exist_ok=True)

    def command(self, argv, log, env=None, cwd=ROOT, check=True, timeout=1800):
        """Runs a program with its output in build/logs/<log>.log (appended). Ends its whole process group
        if we are interrupted or it takes too long. Returns (exit status, output)."""
        path = LOGS / f'{log}.log'
        begin = path.stat().st_size if path.exists() else 0
        with open(path, 'ab') as out:
            out.write(('$ ' + ' '.join(map(str, argv)) + '\n').encode())
            out.flush()
            process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=out,
                                       stderr=subprocess.STDOUT, cwd=cwd, env={**os.environ, **(env or {})},
                                       start_new_session=True)
            self.going.add(process)
            try:
                status = process.wait(timeout)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                end_group(process)
                self.going.discard(process)
        with open(path, 'rb') as f:
            f.seek(begin)
            text = f.read().decode(errors='replace')
        if status is None:
            raise Failed(f'{argv[0]} took longer than {timeout} s\n{last_lines(text)}')
        if check and status != 0:
            raise Failed(f'{argv[0]} ended with {status}\n{last_lines(text)}')
        return status, text

    def section(self, name, function):
        section = Section(name)
        self.sections.append(section)
        slug = name.replace(' ', '-').replace('+', '-')
        (LOGS / f'{slug}.log').unlink(missing_ok=True)
        print(f'==> {name}', flush=True)
        begin = time.monotonic()
        try:
            function(section, slug)
        except Failed as e:
            section.failures.append((name, str(e)))
        section.seconds = time.monotonic() - begin
        for what, text in section.failures:
            print(f'FAILED {name}: {what}\n{indent(text)}', flush=True)
        print(f'    {section.passed} passed, {len(section.failures)} failed, {len(section.skips)} skipped '
              f'in {section.seconds:.0f} s', flush=True)
        return not section.failures

    def summary(self):
        print('\nsection                        seconds  passed  failed  skipped')
        for s in self.sections:
            print(f'{s.name:30} {s.seconds:7.0f} {s.passed:7} {len(s.failures):7} {len(s.skips):8}')
        print(f'{"all":30} {sum(s.seconds for s in self.sections):7.0f}\n')
        for s in self.sections:
            for what, _ in s.failures:
                print(f'failed: {s.name}: {what}')
        for s in self.sections:
            for note in s.notes:
                print(f'look at: {s.name}: {note}')
        reasons = collections.Counter((s.name, reason) for s in self.sections for _, reason in s.skips)
        for (name, reason), count in reasons.items():
            print(f'skipped: {name}: {count} x {reason}')
        passed = sum(s.passed for s in self.sections)
        failed = sum(len(s.failures) for s in self.sections)
        print(f'{passed} passed, {failed} failed, {sum(reasons.values())} skipped')
        return 1 if failed else 0


def last_lines(text, count=40):
    return '\n'.join(text.splitlines()[-count:])


def indent(text):
    return '\n'.join('    ' + line for line in text.splitlines())


def end_group(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
