# SPDX-License-Identifier: MIT
"""The tests in the guest kernel, tests/vm/*.py: how each is run, and what its output says."""

import dataclasses
import pathlib
import re
import time

from test_run import BUILD, LOGS, ROOT, Failed, last_lines

SECONDS, FULL_SECONDS = 900, 3000  # one program, from boot to end; in a full run
CASE = re.compile(r'^(ok|FAILED|skip) ([^\s:]+):?(.*)$')
VOID = re.compile(r'^\(void (.*)\)$')  # run again: a fault of the kernel's own, see tests/vm/lib/kernels.py
CLOSING = re.compile(r'^(\d+) passed, (\d+) failed, (\d+) skipped$')
FIRST = ['rxe_verbs', 'siw_iwarp', 'upgrade', 'direct_siw', 'faults', 'area_siw']  # where not all may run: the widest
NOT_RUN = "tests in the guest kernel are off (--no-vm): SMB Direct was not tried with the kernel's own client"

KERNELS = ['6.1', '6.12', '7.x']  # scripts/vm --kernel
GUEST_DIED, UNREACHABLE = 125, 3  # scripts/vm's
ATTEMPTS = 3
MOST_AGAIN = 3  # programs that fail at first: of more than so many it is not chance that is at fault
# Where the kernel's own SMB Direct client falls (seen with 6.1), with any server: the function it fell in, one that called it, and why.
CLIENT_PANICS = [
    ('smbd_post_recv', 'smbd_post_send_credits', 'it grants credits on a connection whose queue pair it has destroyed'),
    ('rdma_disconnect', 'smbd_disconnect_rdma_work', 'it ends a connection whose id it has destroyed'),
    ('__wake_up_common', 'smbd_conn_upcall', 'it is told of an event before it has made the queue it wakes'),
]


def client_panic(console):
    """Why the guest's kernel has panicked, if it was in its SMB Direct client in a way known of it; else nothing."""
    trace = console.rpartition('BUG: kernel NULL pointer dereference')[2]
    if not trace.partition('Kernel panic')[1]:
        return None
    for fell, called, why in CLIENT_PANICS:
        caller = rf'(\] +{called}\+\S+|Workqueue: \S+ {called}) \[cifs\]'  # in the trace, or what was queued
        if re.search(rf'RIP: 0010:{fell}\+', trace) and re.search(caller, trace):
            return f"the kernel's own client panicked ({called}, {fell}): {why}"
    return None


def no_kernel(text):
    """Why no program ran, from what scripts/vm said: its first line of a problem tells it."""
    said = [line.partition('vm: ')[2] for line in text.splitlines() if line.startswith('vm: ')]
    return f"{said[-1] if said else text}: SMB Direct was not tried with the kernel's own client"


def programs():
    def place(path):
        return FIRST.index(path.stem) if path.stem in FIRST else len(FIRST), path.stem
    return sorted((ROOT / 'tests/vm').glob('*.py'), key=place)


def too_late(minutes):
    return f'not started: the run was {minutes} minutes old (--until); scripts/test runs it'


def kernels(full):
    """What `--kernel` is to say: nothing, for the usual one, or each of them."""
    return KERNELS if full else [None]


def command(program, console, full, kernel=None):
    more = ['--env', 'SMBDIRECTD_FULL=1'] if full else []
    more += ['--kernel', kernel] if kernel else []
    return [ROOT / 'scripts/vm', '--timeout', FULL_SECONDS if full else SECONDS, '--keep-log', console, *more, program]


def judge(name, status, text):
    """(passed, failures, skips) of one program, as run_tests' sections keep them. A program that does not end with
    the closing line that fits its cases has failed, whatever came before."""
    lines = text.rstrip().splitlines()
    passed, failures, skips = 0, [], []
    for number, line in enumerate(lines):
        case = CASE.match(line)
        if case and case[1] == 'ok':
            passed += 1
        elif case and case[1] == 'skip':
            skips.append((f'{name}: {case[2]}', f'{name}: {case[2]}: {case[3].strip()}'))
        elif case:
            failures.append((f'{name}: {case[2]}', '\n'.join(lines[max(0, number - 60):number + 1])))
    closing = CLOSING.match(lines[-1]) if lines else None
    counted = [passed, len(failures), len(skips)]
    if closing is None or [int(n) for n in closing.groups()] != counted or (status != 0) != bool(failures):
        failures.append((name, f'ended with {status}\n' + '\n'.join(lines[-60:])))
    skips += [(name, f'{name}: void and run again: {found[1]}') for found in map(VOID.match, lines) if found]
    return passed, failures, skips


# --- all of them ------------------------------------------------------------------------------------


@dataclasses.dataclass
class Outcome:
    program: pathlib.Path
    name: str
    passed: int = 0
    failures: list = dataclasses.field(default_factory=list)  # as a section keeps them
    skips: list = dataclasses.field(default_factory=list)

    def add_to(self, section):
        section.passed += self.passed
        section.failures += self.failures
        section.skips += self.skips


def late(run):
    return run.options.until is not None and time.monotonic() - run.began > run.options.until * 60


def guest_kernel(run, section, log):
    if run.options.no_vm:
        section.skips.append(('all', NOT_RUN))
        return
    for kernel in kernels(run.options.full):
        if late(run):
            section.skips.append((kernel or 'all', too_late(run.options.until)))
            continue
        prepare = [ROOT / 'scripts/vm', *(['--kernel', kernel] if kernel else []), '--prepare']
        status, text = run.command(prepare, log, check=False)
        if status == UNREACHABLE:
            section.skips.append((kernel or 'all', no_kernel(text)))
        elif status != 0:
            raise Failed(f'scripts/vm --prepare ended with {status}\n{last_lines(text)}')
        else:
            guest_programs(run, section, log, kernel)


def guest_programs(run, section, log, kernel):
    """One guest at a time: where there is no KVM two guests with two processors each take more time than one after the other."""
    outcomes = [guest_program(run, log, program, kernel) for program in programs()]
    again = sum(1 for outcome in outcomes if outcome.failures) <= MOST_AGAIN
    for outcome in outcomes:
        (once_more(run, section, log, kernel, outcome) if outcome.failures and again else outcome).add_to(section)


def once_more(run, section, log, kernel, first):
    """That counts; but it is told, with what was wrong at first. What is not run again has failed."""
    if late(run):
        return first
    second = guest_program(run, f'{log}-again', first.program, kernel)
    if second.failures or not second.passed:
        return second if second.failures else first
    for what, text in first.failures:
        section.notes.append(f'{what} failed once, and passed when it was run again: {last_lines(text, 1)[:300]}')
        print(f'FAILED once, passed when run again: {what}\n{text}', flush=True)
    return second


def guest_program(run, log, program, kernel):
    name = f'{program.stem} on {kernel}' if kernel else program.stem
    outcome = Outcome(program, name)
    if late(run):
        outcome.skips.append((name, f'{name}: {too_late(run.options.until)}'))
        return outcome
    log = f'{log}-{name.replace(" ", "-")}'
    (LOGS / f'{log}.log').unlink(missing_ok=True)
    for attempt in range(1, ATTEMPTS + 1):
        console = LOGS / f'{log}.console{attempt if attempt > 1 else ""}.log'
        began = time.monotonic()
        status, text = run.command(command(program, console, run.options.full, kernel), log,
                                   {'SMBDIRECTD_BUILD': str(BUILD / 'normal')}, check=False, timeout=FULL_SECONDS + 60)
        panic = status == GUEST_DIED and client_panic(console.read_text(errors='replace'))
        if not panic or attempt == ATTEMPTS:
            break
        # Told among what was skipped: nothing of this attempt counts, and it is run again.
        outcome.skips.append((name, f'{name}: attempt {attempt} is void: {panic}'))
    passed, failures, skips = judge(name, status, text)
    outcome.passed, outcome.failures, outcome.skips = passed, failures, outcome.skips + skips
    print(f'    {name}: {passed} passed, {len(failures)} failed, {len(skips)} skipped in {time.monotonic() - began:.0f} s',
          flush=True)
    return outcome
