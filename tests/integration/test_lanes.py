# SPDX-License-Identifier: MIT
"""scripts/test runs several files of these tests at a time, and some alone: what fails and passes when it is run again alone is
told, and no failure; what fails again is one."""

import argparse
import pathlib
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "scripts/lib"))
import integration_tests  # noqa: E402
import test_run  # noqa: E402

SECOND_TIME = """
import pathlib, pytest
@pytest.mark.parametrize("n", [1, 2])
def test_one(n):
    seen = pathlib.Path(__file__).with_suffix(".seen")
    if n == 2 and not seen.exists():
        seen.touch()
        raise AssertionError("the neighbours were loud")
"""
NEVER = "def test_other():\n    assert 1 == 2\n"
ALWAYS = "import pytest\ndef test_third():\n    pass\ndef test_skips():\n    pytest.skip('it is Sunday')\n"


@pytest.fixture
def results(tmp_path, monkeypatch):
    """results({file name: its text}, lanes=2, alone=()) -> what was found"""
    monkeypatch.setattr(test_run, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(integration_tests, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(integration_tests, "TESTS", tmp_path / "integration")

    def run(files, lanes=2, alone=()):
        monkeypatch.setattr(integration_tests, "ALONE", list(alone))
        for name, text in files.items():
            path = tmp_path / "integration" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        whole = test_run.Run(argparse.Namespace(lanes=lanes, full=False))
        whole.section("integration", lambda s, log: integration_tests.integration(whole, s, log, "normal"))
        return whole.sections[0], whole

    return run


def test_what_fails_beside_others_is_run_alone(results, capsys):
    files = {"test_a.py": SECOND_TIME, "more/test_b.py": NEVER, "test_c.py": ALWAYS, "test_d.py": ALWAYS}
    section, whole = results(files, alone=["test_d.py"])
    assert (section.passed, len(section.skips)) == (4, 2), section
    ((what, _),) = section.failures
    assert what.startswith("test_b::test_other: assert 1 == 2"), section.failures
    (note,) = section.notes
    assert note.startswith("test_a::test_one[2] failed beside others") and "neighbours were loud" in note
    assert whole.summary() == 1
    said = capsys.readouterr().out
    assert "look at: integration: test_a::test_one[2]" in said and "failed: integration: test_b::test_other" in said


def test_what_fails_alone_is_run_again_as_well(results):
    files = {"test_a.py": SECOND_TIME, "test_b.py": NEVER, "test_c.py": ALWAYS}
    section, whole = results(files, alone=["test_a.py", "test_b.py"])
    assert (section.passed, len(section.failures)) == (3, 1), section
    (note,) = section.notes
    assert note.startswith("test_a::test_one[2] failed once, and passed alone") and whole.summary() == 1


def test_one_lane_has_no_second_time(results):
    section, _ = results({"test_a.py": SECOND_TIME}, lanes=1)
    assert (section.passed, len(section.failures), section.notes) == (1, 1, [])


def test_of_many_none_is_run_again(results):
    section, _ = results({f"test_{n}.py": SECOND_TIME for n in range(integration_tests.MOST_AGAIN + 1)})
    assert len(section.failures) == integration_tests.MOST_AGAIN + 1 and not section.notes


def test_the_longest_begin_first_and_all_run():
    there = {path.relative_to(integration_tests.TESTS).as_posix() for path in integration_tests.TESTS.rglob("test_*.py")}
    assert set(integration_tests.LONGEST) | set(integration_tests.ALONE) <= there
    order = [integration_tests.named(path) for path in integration_tests.files(["vfs"])]
    longest = [name for name in integration_tests.LONGEST if not name.startswith("vfs/")]
    assert order[: len(longest)] == longest
    assert sorted(order) == sorted(name for name in there if not name.startswith("vfs/"))
