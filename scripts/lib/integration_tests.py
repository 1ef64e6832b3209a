# SPDX-License-Identifier: MIT
"""The integration tests, by pytest: several files at a time, for they mostly wait, and those that measure alone after them."""

import collections
import dataclasses
import time
import xml.etree.ElementTree as ET

import sanitizers
from exclusions import ALONE
from test_run import BUILD, LOGS, ROOT, Failed, last_lines

TESTS = ROOT / 'tests/integration'
# The longest begin first: one that begins last is waited for by all lanes but its own.
LONGEST = ['test_torture.py', 'test_native_kills.py', 'test_area_answers.py', 'test_direct_closing.py',
           'test_direct_coherence.py', 'test_direct_times.py', 'vfs/test_breaks.py', 'test_area_odd.py', 'test_area_kills.py']
MOST_AGAIN = 5  # tests of a part that fail at first: of more than so many it is neither neighbours nor chance that is at fault


@dataclasses.dataclass
class Case:
    path: str  # of its file, from tests/integration
    name: str
    seconds: float
    problem: str = ''
    skipped: str = ''

    @property
    def said(self):
        return f'{self.path.rpartition("/")[2].removesuffix(".py")}::{self.name}'

    @property
    def argument(self):
        return f'{TESTS / self.path}::{self.name}'


def integration(run, section, log, kind, ignored=(), until=None):
    """All of them but those `ignored`, files or folders. until: starts no test when the run is so many minutes old; those
    left are skipped."""
    lanes = run.options.lanes
    if lanes == 1:
        parts = [(log, files(ignored))]
    else:
        alone = [path for path in files(ignored) if named(path) in ALONE]
        beside = ['-n', str(lanes), '--dist', 'loadfile', *files([*ignored, *ALONE])]
        parts = [(log, beside), *([(f'{log}-alone', alone)] if alone else [])]
    seconds = collections.Counter()
    for name, arguments in parts:
        try:
            cases = pytest(run, section, name, kind, *arguments, until=until)
            if lanes > 1:
                cases = once_more(run, section, f'{name}-again', kind, cases, 'beside others' if '-n' in arguments else 'once')
        except Failed as e:
            section.failures.append((name, str(e)))
            continue
        for case in cases:
            count(section, case)
            seconds[case.said.partition('::')[0]] += case.seconds
    print('    slowest: ' + ', '.join(f'{name} {took:.0f} s' for name, took in seconds.most_common(12)), flush=True)


def named(path):
    return str(path.relative_to(TESTS))


def files(ignored):
    def place(path):
        return LONGEST.index(named(path)) if named(path) in LONGEST else len(LONGEST), named(path)

    def is_ignored(path):
        return named(path) in ignored or named(path).partition('/')[0] in ignored

    return sorted((path for path in TESTS.rglob('test_*.py') if not is_ignored(path)), key=place)


def once_more(run, section, log, kind, cases, how):
    """What has failed, beside others or once, is run again without any, and that counts; but it is told, with what was wrong:
    the last lines of a run that passed say which of its tests to look at."""
    failed = [case for case in cases if case.problem and case.path]
    if not 0 < len(failed) <= MOST_AGAIN:
        return cases
    second_time = {case.argument: case for case in pytest(run, section, log, kind, *(case.argument for case in failed))}
    for case in failed:
        second = second_time.get(case.argument)
        if second is not None and not second.problem and not second.skipped:
            section.notes.append(f'{case.said} failed {how}, and passed alone: {gist(case.problem)}')
            print(f'FAILED {how}, passed alone: {case.said}\n{case.problem}', flush=True)
            cases[cases.index(case)] = second
    return cases


def gist(text):
    """The line that says what was wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line[1:].strip() for line in lines if line.startswith('E ')]
    return (said or lines or ['no reason given'])[0][:300]


def count(section, case):
    if case.problem:
        section.failures.append((f'{case.said}: {gist(case.problem)}', case.problem))
    elif case.skipped:
        section.skips.append((case.said, case.skipped))
    else:
        section.passed += 1


def smoke(run, section, log):
    for case in pytest(run, section, log, 'normal', '-m', 'smoke', TESTS):
        count(section, case)


def pytest(run, section, log, kind, *arguments, until=None):
    """Its cases. until: as above."""
    results = LOGS / f'{log}.xml'
    results.unlink(missing_ok=True)
    (LOGS / f'{log}.log').unlink(missing_ok=True)
    env = {'SMBDIRECTD_BUILD': str(BUILD / kind), 'PYTHONDONTWRITEBYTECODE': '1'}
    env['SMBDIRECTD_FULL'] = '1' if run.options.full else ''
    reports = BUILD / kind / 'sanitizer-reports'
    if kind == 'asan':
        env |= sanitizers.environment(reports)
        env['SMBDIRECTD_KILLS'] = '100'  # of test_kills.py: each is slower here, and all of them ran before
    if until is not None:
        env['SMBDIRECTD_UNTIL'] = f'{time.time() + until * 60 - (time.monotonic() - run.began):.0f} {until}'  # conftest.py
    status, text = run.command(
        ['/usr/bin/python3', '-m', 'pytest', '-p', 'no:cacheprovider', '-q', '--durations=15', '-rfEs',
         f'--junitxml={results}', *arguments], log, env, check=False, timeout=3600)
    if not results.exists():
        raise Failed(f'pytest ended with {status} and left no results\n{last_lines(text)}')
    cases = [case_of(element) for element in ET.parse(results).getroot().iter('testcase')]
    if status not in (0, 1) and not any(case.problem for case in cases):
        raise Failed(f'pytest ended with {status}\n{last_lines(text)}')
    if kind == 'asan':
        for name, report in sanitizers.findings(reports):
            section.failures.append((f'sanitizer report {name}', last_lines(report, 60)))
    return cases


def case_of(element):
    problem = element.find('failure')
    problem = element.find('error') if problem is None else problem
    skipped = element.find('skipped')
    dotted = element.get('classname', '')
    words = dotted.split('.')
    path = '/'.join(words[words.index('integration') + 1:] if 'integration' in words else words) + '.py' if dotted else ''
    case = Case(path, element.get('name'), float(element.get('time', 0)))
    if problem is not None:
        case.problem = last_lines(problem.text or problem.get('message', ''), 80) or 'no reason given'
    elif skipped is not None:
        case.skipped = skipped.get('message') or 'no reason given'
    return case
