#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs all tests: the engine of scripts/test.

Each section is one runner (a build, a set of unit tests, the fuzzers, ...) with its own log under
build/logs. Numbers are summed over all of them; a section that cannot run counts as one failure.
"""

import argparse
import collections
import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'scripts/lib'))
import guest_tests  # noqa: E402
import sanitizers  # noqa: E402
import static_checks  # noqa: E402

BUILD = ROOT / 'build'
LOGS = BUILD / 'logs'
JOBS = max(2, min(8, os.cpu_count() or 2))
VALGRIND = 'valgrind --quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,possible'


@dataclasses.dataclass
class Section:
    name: str
    seconds: float = 0.0
    passed: int = 0
    failures: list = dataclasses.field(default_factory=list)  # (what, text for a person)
    skips: list = dataclasses.field(default_factory=list)  # (what, reason)


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


# --- builds -----------------------------------------------------------------------------------------

# Lightly optimised, and with no more to debug by than lines: compiling is most of the time these builds take. At -O1
# g++ 12 sees uninitialised std::expected errors where there are none.
LIGHT = ['-Doptimization=1', '-Dcpp_args=-Wno-maybe-uninitialized -g1']
BUILDS = {
    'normal': LIGHT,
    'asan': [*LIGHT, '-Db_sanitize=address,undefined', '-Dbench=false'],
    'fuzz': ['-Doptimization=1', '-Db_sanitize=address,undefined', '-Db_lundef=false', '-Dfuzzers=true'],
}


def set_up_build(run, log, kind):
    """Its directory, the command that builds it and the environment for that."""
    directory = BUILD / kind
    environment = {'CXX': 'clang++-19', 'CC': 'clang-19'} if kind == 'fuzz' else {}
    options = [f'-Dwerror={str(run.options.werror).lower()}', *BUILDS[kind]]
    arguments = ['meson', 'setup', directory, ROOT, *options]
    if (directory / 'build.ninja').exists():
        arguments.append('--reconfigure')
    status, text = run.command(arguments, log, environment, check=False)
    if status != 0 and '--reconfigure' in arguments:
        # An older meson or moved options; a build directory holds nothing of value.
        status, text = run.command(['meson', 'setup', '--wipe', directory, ROOT, *options], log, environment,
                                   check=False)
    if status != 0:
        raise Failed(last_lines(text))
    targets = ['fuzz_programs'] if kind == 'fuzz' else []
    return ['ninja', '-C', directory, f'-j{JOBS}', *targets], environment


def build(run, section, log, kind):
    command, environment = set_up_build(run, log, kind)
    run.command(command, log, environment, timeout=7200)  # a busy machine is no failure
    section.passed += 1


# --- meson's tests (doctest, corpus replay, tree rules) ---------------------------------------------

DOCTEST = re.compile(r'test cases:\s*(\d+)\s*\|\s*(\d+) passed\s*\|\s*(\d+) failed\s*\|\s*(\d+) skipped')


def meson_tests(run, section, log, kind, *arguments, env=None, excluded=False):
    name = log
    run.command(['meson', 'test', '-C', BUILD / kind, '--no-rebuild', f'--num-processes={JOBS}', '--logbase', name,
                 *arguments], log, env, check=False)
    results = BUILD / kind / 'meson-logs' / f'{name}.json'
    if not results.exists():  # a wrapper becomes part of the name
        found = sorted(results.parent.glob(f'{name}*.json'), key=lambda p: p.stat().st_mtime)
        if not found:
            raise Failed('meson test left no results')
        results = found[-1]
    entries = [json.loads(line) for line in results.read_text().splitlines()]
    if not entries:
        raise Failed('there are no tests')
    for entry in entries:
        output = entry.get('stdout', '') + entry.get('stderr', '')
        cases = DOCTEST.search(re.sub(r'\x1b\[[0-9;]*m', '', output))
        if entry['result'] == 'SKIP':
            section.skips.append((entry['name'], f'{entry["name"]}: {last_lines(output, 1) or "no reason given"}'))
        elif entry['result'] == 'OK':
            section.passed += int(cases[2]) if cases else 1
            if cases and int(cases[4]) and not excluded:  # what was excluded by name is told by who did it
                section.skips += [(entry['name'], f'test cases of {entry["name"]} marked skip')] * int(cases[4])
        else:
            section.passed += int(cases[2]) if cases else 0
            failed = max(1, int(cases[3])) if cases else 1
            section.failures.append((entry['name'], f'{entry["result"]}\n{last_lines(output, 60)}'))
            section.failures += [(entry['name'], '(see above)')] * (failed - 1)


# Cases that valgrind itself defeats: it keeps descriptors of its own, and slows what must end in seconds.
NOT_UNDER_VALGRIND = {
    'so are windows*': 'asks the kernel about an address that is gone, on purpose',
    'a confined process*': 'valgrind does not survive an execve that fails, and knows no seccomp(2)',
    'threads that were started before are confined*': 'valgrind knows no seccomp(2)',
    'disconnect sends what was posted*': 'the fabric gives an orderly close 3 s',
    'a descriptor that finds no room*': "valgrind's own descriptors defeat RLIMIT_NOFILE",
    'out of descriptors*': "valgrind's own descriptors defeat RLIMIT_NOFILE",
    'a worker without descriptors*': "valgrind's own descriptors defeat RLIMIT_NOFILE",
    'while the worker has no descriptor left*': "valgrind's own descriptors defeat RLIMIT_NOFILE",
    'the link goes on for the area*': "valgrind's own descriptors defeat RLIMIT_NOFILE",
    'a process that ends takes its clients along*': 'valgrind knows no pidfd_open(2)',
    **dict.fromkeys([
        'a process that serves a client beside another*',
        'streams of one pair of addresses in two networks*',
        'a process has the streams that it has*',
        'the link is to the module of the process*',
        'of many smbds it is the right one*',
        'there is no module: a directory*',
        'a module that does not accept*',
        'a worker may ask for its own connections*',
        'what nobody waits for any more*',
        'a worker that asks without end*',
        'however many wait*',
    ], 'valgrind knows no pidfd_open(2)'),
}


# UBSan reads what an object is through a pipe of its own, and takes "no descriptor left" for "no object".
NOT_WITH_UBSAN = {'out of descriptors*': "UBSan's look at an object's type needs descriptors"}


# The long parity lists; the module in stock smbd, which has no sanitizer; what takes the same ways through the worker as
# test_area; and tests of scripts. They ran before, and here the sanitizers watch all else.
NOT_WITH_ASAN = ('test_torture.py', 'vfs', 'test_area_answers.py', 'test_area_modes.py', 'test_direct_rules.py',
                 'test_direct_times.py', 'test_direct_disk_errors.py', 'test_fresh.py', 'test_guest_verdicts.py', 'test_package.py',
                 'test_ctdb_script.py')


def unit_tests_but(run, section, log, kind, excluded, *arguments):
    """All unit programs without the cases named in `excluded` (name -> why); those become skips."""
    meson_tests(run, section, log, kind, '--no-suite', 'rules', '--no-suite', 'fuzz', *arguments, '--test-args',
                '"-tce=' + ','.join(excluded) + '"', excluded=True)
    section.skips += list(excluded.items())


def valgrind_tests(run, section, log):
    wrapped = ('--wrapper', VALGRIND, '--timeout-multiplier', '20')
    unit_tests_but(run, section, log, 'normal', NOT_UNDER_VALGRIND, '--no-suite', 'threads', *wrapped)
    meson_tests(run, section, log + '-fuzz', 'normal', '--suite', 'fuzz', *wrapped)


def sanitized_tests(run, section, log):
    unit_tests_but(run, section, log, 'asan', NOT_WITH_UBSAN, '--timeout-multiplier', '4')
    meson_tests(run, section, log + '-fuzz', 'asan', '--suite', 'fuzz')


def sanitizer_findings(section, reports):
    for name, text in sanitizers.findings(reports):
        section.failures.append((f'sanitizer report {name}', last_lines(text, 60)))


# --- fuzzing ----------------------------------------------------------------------------------------


def fuzz(run, section, log, seconds):
    directory = BUILD / 'fuzz' / 'tests' / 'fuzz'
    corpus = ROOT / 'tests' / 'fuzz' / 'corpus'
    targets = sorted(p for p in directory.iterdir() if p.is_file() and p.name.endswith('_fuzz') and os.access(p, os.X_OK))
    sources = sorted(p.stem for p in (ROOT / 'tests' / 'fuzz').glob('*_fuzz.cc'))
    missing = [name for name in sources if name not in [t.name for t in targets]]
    if missing or not targets:
        raise Failed(f'fuzz targets not built: {", ".join(missing) or "all"}')
    waiting, running = list(targets), []
    try:
        while waiting or running:
            while waiting and len(running) < JOBS:
                running.append(start_fuzzer(waiting.pop(0), corpus, seconds))
            for item in running[:]:
                target, process, output, deadline = item
                if process.poll() is None and time.monotonic() < deadline:
                    continue
                end_group(process)
                running.remove(item)
                text = output.read_text(errors='replace')
                with open(LOGS / f'{log}.log', 'a') as out:
                    out.write(text)
                if process.returncode == 0:
                    section.passed += 1
                    done = re.findall(r'Done (\d+) runs', text)
                    print(f'    {target.name}: {done[-1] if done else "?"} runs', flush=True)
                else:
                    section.failures.append((target.name, f'ended with {process.returncode}\n{last_lines(text)}'))
            time.sleep(0.1)
    finally:
        for _, process, _, _ in running:
            end_group(process)


def start_fuzzer(target, corpus, seconds):
    grown = BUILD / 'fuzz' / 'grown' / target.name  # new inputs stay here, the tree's corpus is untouched
    artifacts = BUILD / 'fuzz' / 'artifacts'
    for path in (grown, artifacts):
        path.mkdir(parents=True, exist_ok=True)
    output = artifacts / f'{target.name}.log'
    argv = [target, f'-max_total_time={seconds}', '-timeout=10', '-rss_limit_mb=2048', '-print_final_stats=1',
            f'-artifact_prefix={artifacts}/{target.name}-', grown]
    if (corpus / target.name).is_dir():
        argv.append(corpus / target.name)
    with open(output, 'wb') as out:
        process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=out,
                                   stderr=subprocess.STDOUT, start_new_session=True)
    return target, process, output, time.monotonic() + seconds + 60


# --- integration tests ------------------------------------------------------------------------------


# Files whose tests have to do with time, memory or processors as much as with what is right, or with something that all of
# the machine has (huge pages): nothing runs beside them, whatever --lanes says.
ALONE = ['test_area.py', 'test_bad_input_limits.py', 'test_bystander.py', 'test_bystander_hosts.py',
         'test_conformance_negotiate.py', 'test_conformance_timers.py', 'test_ctdb.py', 'test_day.py', 'test_memory.py',
         'test_places.py', 'test_progress.py', 'test_soak.py', 'test_taken_worker.py', 'test_worker_death.py',
         'vfs/test_bystanders.py']


def integration(run, section, log, kind, ignored=(), until=None):
    """All integration tests but those `ignored`, files or folders. until: starts no test when the run is so many minutes
    old; those left are skipped."""
    tests, lanes = ROOT / 'tests/integration', run.options.lanes
    parts = [(log, [*(f'--ignore={tests / name}' for name in ignored), tests])]
    if lanes > 1:
        alone = [tests / name for name in ALONE if name not in ignored and name.partition('/')[0] not in ignored]
        beside = [f'--ignore={tests / name}' for name in [*ignored, *ALONE]]
        parts = [(log, ['-n', str(lanes), '--dist', 'loadfile', *beside, tests]), (f'{log}-alone', alone)]
    seconds = collections.Counter()
    for name, arguments in parts:
        (LOGS / f'{name}.log').unlink(missing_ok=True)
        try:
            seconds += pytest(run, section, name, kind, *arguments, until=until)
        except Failed as e:
            section.failures.append((name, str(e)))
    print('    slowest: ' + ', '.join(f'{name} {took:.0f} s' for name, took in seconds.most_common(12)), flush=True)


def pytest(run, section, log, kind, *arguments, until=None):
    """Gives how long each file took. until: as above."""
    results = LOGS / f'{log}.xml'
    results.unlink(missing_ok=True)
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
    seconds = collections.Counter()
    for case in ET.parse(results).getroot().iter('testcase'):
        seconds[case.get('classname', '').rsplit('.', 1)[-1]] += float(case.get('time', 0))
        name = f'{case.get("classname", "").rsplit(".", 1)[-1]}::{case.get("name")}'
        problem = case.find('failure')
        problem = case.find('error') if problem is None else problem
        skipped = case.find('skipped')
        if problem is not None:
            section.failures.append((name, last_lines(problem.text or problem.get('message', ''), 80)))
        elif skipped is not None:
            section.skips.append((name, skipped.get('message', 'no reason given')))
        else:
            section.passed += 1
    if status not in (0, 1) and not section.failures:
        raise Failed(f'pytest ended with {status}\n{last_lines(text)}')
    if kind == 'asan':
        sanitizer_findings(section, reports)
    return seconds


# --- tests in the guest kernel ----------------------------------------------------------------------


def late(run):
    return run.options.until is not None and time.monotonic() - run.began > run.options.until * 60


def guest_kernel(run, section, log):
    if run.options.no_vm:
        section.skips.append(('all', guest_tests.NOT_RUN))
        return
    for kernel in guest_tests.kernels(run.options.full):
        if late(run):
            section.skips.append((kernel or 'all', guest_tests.too_late(run.options.until)))
            continue
        prepare = [ROOT / 'scripts/vm', *(['--kernel', kernel] if kernel else []), '--prepare']
        status, text = run.command(prepare, log, check=False)
        if status == guest_tests.UNREACHABLE:
            section.skips.append((kernel or 'all', guest_tests.no_kernel(text)))
        elif status != 0:
            raise Failed(f'scripts/vm --prepare ended with {status}\n{last_lines(text)}')
        else:
            guest_programs(run, section, log, kernel)


def guest_programs(run, section, log, kernel):
    for program in guest_tests.programs():
        name = f'{program.stem} on {kernel}' if kernel else program.stem
        if late(run):
            section.skips.append((name, f'{name}: {guest_tests.too_late(run.options.until)}'))
            continue
        for attempt in range(1, guest_tests.ATTEMPTS + 1):
            console = LOGS / f'{log}-{name.replace(" ", "-")}.console{attempt if attempt > 1 else ""}.log'
            status, text = run.command(guest_tests.command(program, console, run.options.full, kernel), log,
                                       {'SMBDIRECTD_BUILD': str(BUILD / 'normal')}, check=False,
                                       timeout=guest_tests.FULL_SECONDS + 60)
            panic = status == guest_tests.GUEST_DIED and guest_tests.client_panic(console.read_text(errors='replace'))
            if not panic or attempt == guest_tests.ATTEMPTS:
                break
            # Told among what was skipped: nothing of this attempt counts, and it is run again.
            section.skips.append((name, f'{name}: attempt {attempt} is void: {panic}'))
        passed, failures, skips = guest_tests.judge(name, status, text)
        section.passed += passed
        section.failures += failures
        section.skips += skips
        print(f'    {name}: {passed} passed, {len(failures)} failed, {len(skips)} skipped', flush=True)


# --- the whole --------------------------------------------------------------------------------------


def static_section(check):
    def function(section, log):
        passed, failures = check()
        section.passed += passed
        section.failures += failures
        (LOGS / f'{log}.log').write_text('\n\n'.join(f'{what}\n{text}' for what, text in failures))
    return function


def quick(run):
    run.section('format', static_section(static_checks.formatting))
    run.section('scripts and man pages', static_section(static_checks.scripts_and_pages))
    if not run.section('build', lambda s, log: build(run, s, log, 'normal')):
        return False
    # Limits are for what hangs; on a busy machine 30 s are few.
    run.section('unit tests', lambda s, log: meson_tests(run, s, log, 'normal', '--timeout-multiplier', '4'))
    return True


def everything(run):
    built = quick(run)
    tests = run.options
    if built:
        run.section('integration', lambda s, log: integration(run, s, log, 'normal'))
        run.section('unit tests under valgrind', lambda s, log: valgrind_tests(run, s, log))
    # Not beside the tests: there a build starves processes that have deadlines, whatever scheduling class it has.
    if run.section('build with ASan and UBSan', lambda s, log: build(run, s, log, 'asan')):
        run.section('unit tests with ASan', lambda s, log: sanitized_tests(run, s, log))
        run.section('integration with ASan',
                    lambda s, log: integration(run, s, log, 'asan', NOT_WITH_ASAN, until=tests.until))
    if built:
        run.section('guest kernel', lambda s, log: guest_kernel(run, s, log))
    # A third build and every source through clang-tidy: they would double the time on two cores.
    if tests.full and run.section('build for fuzzing', lambda s, log: build(run, s, log, 'fuzz')):
        run.section('fuzzing', lambda s, log: fuzz(run, s, log, 60))
        run.section('clang-tidy', static_section(
            lambda: static_checks.tidy(BUILD / 'fuzz', BUILD / 'tidy-cache', JOBS)))


def main():
    parser = argparse.ArgumentParser(prog='scripts/test', description='Builds everything and runs every test.')
    group = parser.add_mutually_exclusive_group()
    group.add_argument('--quick', action='store_true',
                       help='one build, the unit tests, the tree rules and a smoke test: a few minutes')
    group.add_argument('--full', action='store_true', help='also the long parity lists, every kernel in the guest, the fuzzers (a minute each) and '
                       'clang-tidy')
    parser.add_argument('--no-vm', action='store_true', help='without the tests in the guest kernel (scripts/vm)')
    parser.add_argument('--until', type=int, metavar='MINUTES',
                        help='when the run is so old, start no more of what comes last: integration tests under the '
                        'sanitizers, programs in the guest; those left are skipped')
    parser.add_argument('--lanes', type=int, default=1, metavar='N',
                        help='so many files of integration tests at a time, but for those that measure: half the time on two '
                        'processors that do nothing else')
    parser.add_argument('--werror', action='store_true',
                        help='a warning of the compiler is an error (.ci/run, on supported compilers)')
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    run = Run(options)
    try:
        if options.quick:
            if quick(run):
                run.section('smoke', lambda s, log: pytest(run, s, log, 'normal', '-m', 'smoke', ROOT / 'tests/integration'))
        else:
            everything(run)
    except KeyboardInterrupt:
        print('\ninterrupted', file=sys.stderr)
        return 130
    finally:
        for process in list(run.going):  # what a thread waits for
            end_group(process)
    return run.summary()


if __name__ == '__main__':
    sys.exit(main())
