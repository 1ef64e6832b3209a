# SPDX-License-Identifier: MIT
"""Where sanitized daemons leave their findings, and which of those files are findings."""

import re

# A process that is killed while it looks for leaks at its exit (tests kill at any moment) leaves this line and no
# other: its threads are gone before the tracer has read their registers. The leak check itself reports with "ERROR:".
KILLED_WHILE_LOOKING = re.compile(r'==\d+==Unable to get registers from thread \d+\.')


def environment(reports):
    """Findings of daemons and their children go to files in `reports`: they are not on anybody's terminal."""
    reports.mkdir(parents=True, exist_ok=True)
    reports.chmod(0o1777)  # workers may run as another user
    for old in reports.iterdir():
        old.unlink()
    return {
        'ASAN_OPTIONS': f'log_path={reports}/report:detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1',
        'UBSAN_OPTIONS': f'log_path={reports}/report:print_stacktrace=1',
        'LSAN_OPTIONS': 'print_suppressions=0',
    }


def is_finding(text):
    """True unless every line of a report is known to say only that its process was killed. An empty report is none: its
    process was killed before it could write that line."""
    lines = [line for line in text.splitlines() if line.strip()]
    return not all(KILLED_WHILE_LOOKING.fullmatch(line.strip()) for line in lines)


def findings(reports):
    """(file name, text) of each report that is a finding."""
    texts = [(report.name, report.read_text(errors='replace')) for report in sorted(reports.iterdir())]
    return [(name, text) for name, text in texts if is_finding(text)]
