# SPDX-License-Identifier: MIT
"""Checks that run no program of ours: format, scripts, man pages, clang-tidy.

Each returns (number of passed checks, [(what failed, text for a person)]). clang-tidy takes seconds per
file, so what passed once is remembered by the hash of everything it depends on.
"""

import concurrent.futures
import hashlib
import json
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLANG = '19'  # clang 14, Debian 12's default, cannot compile std::expected


def run(argv):
    done = subprocess.run([str(a) for a in argv], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          errors='replace')
    return done.returncode, done.stdout + done.stderr


def tracked(*patterns):
    """Files that git knows or would take, relative to the root."""
    status, text = run(['git', 'ls-files', '--cached', '--others', '--exclude-standard', *patterns])
    if status == 0:
        return sorted(name for name in text.splitlines() if (ROOT / name).is_file())
    names = [str(p.relative_to(ROOT)) for p in ROOT.rglob('*') if p.is_file()]  # a tarball
    names = [n for n in names if not n.startswith(('build', '.git'))]
    return sorted(n for n in names if any(pathlib.PurePath(n).match(p) for p in patterns))


def formatting():
    names = tracked('*.cc', '*.h', '*.c')
    status, text = run([f'clang-format-{CLANG}', '--dry-run', '-Werror', *names])
    if status == 0:
        return 1, []
    files = sorted({line.split(':')[0] for line in text.splitlines() if 'error:' in line})
    return 0, [('clang-format', f'run clang-format-{CLANG} -i on: {" ".join(files) or text}')]


def scripts_and_pages():
    passed, failures = 0, []
    shell = [n for n in tracked('*') if n.endswith('.sh') or first_line(n).startswith(('#!/bin/sh', '#!/bin/bash'))]
    checks = [('shellcheck', ['shellcheck', '-x', *shell])] if shell else []
    for page in tracked('*.1', '*.3', '*.5', '*.7', '*.8'):
        checks.append((page, ['groff', '-man', '-Tutf8', '-ww', '-z', page]))
    for script in tracked('*.py'):
        checks.append((script, ['/usr/bin/python3', '-c', f'compile(open({script!r}).read(), {script!r}, "exec")']))
    # What is run where packages for tests are not installed must start without Python's.
    alone = ['scripts/lib/demo.py', 'scripts/lib/run_tests.py', 'tests/bench/run_bench.py']
    for program in alone + tracked('scripts/lib/*/main.py'):
        checks.append((f'{program} without packages', ['/usr/bin/python3', '-S', program, '--help']))
    for what, argv in checks:
        status, text = run(argv)
        if status != 0 or (what.endswith(('.1', '.3', '.5', '.7', '.8')) and text.strip()):
            failures.append((what, text))
        else:
            passed += 1
    return passed, failures


def first_line(name):
    with open(ROOT / name, 'rb') as f:
        return f.readline(80).decode(errors='replace')


INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.M)


def project_closure(name, seen):
    """Adds `name` and every header of ours it includes, directly or not, to `seen`."""
    if name in seen or not (ROOT / name).is_file():
        return
    seen.add(name)
    for header in INCLUDE.findall((ROOT / name).read_text(errors='replace')):
        project_closure(header, seen)


def tidy(build, cache, jobs):
    """clang-tidy over every source that is ours and compiled in `build` (configured with clang)."""
    cache.mkdir(parents=True, exist_ok=True)
    commands = {}
    for entry in json.loads((build / 'compile_commands.json').read_text()):
        path = (pathlib.Path(entry['directory']) / entry['file']).resolve()
        if path.is_relative_to(ROOT) and not path.is_relative_to(build):
            commands.setdefault(str(path.relative_to(ROOT)), entry['command'])
    common = hashlib.sha256((ROOT / '.clang-tidy').read_bytes() + run([f'clang-tidy-{CLANG}', '--version'])[1].encode())

    def key(name):
        seen = set()
        project_closure(name, seen)
        digest = common.copy()
        digest.update(commands[name].encode())
        for path in sorted(seen):
            digest.update(path.encode() + b'\0' + (ROOT / path).read_bytes())
        return digest.hexdigest()

    def check(name):
        stamp = cache / key(name)
        if stamp.exists():
            return name, 0, ''
        status, text = run([f'clang-tidy-{CLANG}', '--quiet', '-p', build, name])
        if status == 0:
            stamp.write_text(name)
        return name, status, text

    passed, failures = 0, []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for name, status, text in pool.map(check, sorted(commands)):
            if status == 0:
                passed += 1
            else:
                failures.append((name, text))
    return passed, failures
