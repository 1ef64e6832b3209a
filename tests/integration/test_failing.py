# SPDX-License-Identifier: MIT
"""What a test that fails costs: a difference is told at once, however large what is compared, in CI too."""

import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent

COMPARES = """
import random

def test_compares():
    assert random.Random(1).randbytes(1 << 18) == bytes(1 << 18)
"""


def test_a_large_difference_is_told_at_once(tmp_path):
    (tmp_path / "test_it.py").write_text(COMPARES)
    env = {**os.environ, "CI": "true", "BUILD_NUMBER": "1", "PYTHONPATH": str(HERE)}
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:cacheprovider", "test_it.py"]
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert "1 failed" in done.stdout, done.stdout + done.stderr
    assert "At index 0 diff" in done.stdout, done.stdout
