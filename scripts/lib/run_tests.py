#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs all tests: the engine of scripts/test.

Each section is one runner (a build, a set of unit tests, the fuzzers, ...) with its own log under
build/logs. Numbers are summed over all of them; a section that cannot run counts as one failure.
"""

import argparse
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import static_checks  # noqa: E402
from exclusions import NOT_UNDER_VALGRIND, NOT_WITH_ASAN, NOT_WITH_UBSAN  # noqa: E402
from guest_tests import guest_kernel  # noqa: E402
from integration_tests import integration, smoke  # noqa: E402
from test_run import BUILD, LOGS, ROOT, Failed, Run, end_group, last_lines  # noqa: E402

JOBS = max(2, min(8, os.cpu_count() or 2))
LANES = JOBS + 1  # most of an integration test is waiting
VALGRIND = 'valgrind --quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,possible'


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
    parser.add_argument('--lanes', type=int, default=LANES, metavar='N',
                        help='so many files of integration tests at a time, but for those that measure (%(default)s)')
    parser.add_argument('--werror', action='store_true',
                        help='a warning of the compiler is an error (.ci/run, on supported compilers)')
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    run = Run(options)
    try:
        if options.quick:
            if quick(run):
                run.section('smoke', lambda s, log: smoke(run, s, log))
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
