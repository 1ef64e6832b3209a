# SPDX-License-Identifier: MIT
"""What a sanitizer left behind is a finding, but for the line of a process that a test killed as it looked for leaks."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts" / "lib"))
import sanitizers  # noqa: E402

KILLED = "==32309==Unable to get registers from thread 32304.\n"
LEAK = "\n=================================================================\n==7==ERROR: LeakSanitizer: detected memory leaks\n"
UNDEFINED = "session.cc:12:3: runtime error: shift exponent 64 is too large for 64-bit type\n"


def test_a_process_killed_while_it_looked_for_leaks_is_no_finding():
    assert not sanitizers.is_finding(KILLED)
    assert not sanitizers.is_finding(KILLED + KILLED.replace("32304", "32305"))
    assert not sanitizers.is_finding(""), "killed before it wrote that line"


def test_everything_else_is_a_finding():
    for text in (LEAK, UNDEFINED, KILLED + LEAK, UNDEFINED + KILLED, "==7==LeakSanitizer has encountered a fatal error.\n"):
        assert sanitizers.is_finding(text), text


def test_findings_are_read_from_the_directory_the_environment_names(tmp_path):
    reports = tmp_path / "reports"
    reports.mkdir()
    (reports / "report.1").write_text(LEAK)
    options = sanitizers.environment(reports)
    assert f"log_path={reports}/report" in options["ASAN_OPTIONS"]
    assert sanitizers.findings(reports) == [], "what an earlier run left is gone"
    (reports / "report.2").write_text(KILLED)
    (reports / "report.3").write_text(LEAK)
    assert sanitizers.findings(reports) == [("report.3", LEAK)]
