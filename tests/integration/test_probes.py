# SPDX-License-Identifier: MIT
"""USDT probes: the table (shm/base/probes.h), the manual, and what a tracer finds in the programs are the same."""

import pathlib
import re
import subprocess

import pytest

from lib.daemon import program

ROOT = pathlib.Path(__file__).parents[2]
PROGRAMS = ["smbdirectd", "smbdirect-worker"]


def table():
    """Program -> {probe: names of its arguments}."""
    found = {}
    for part, name, arguments in re.findall(
        r"^// --- (\S+) ---$|^inline void (\w+)\(([^)]*)\)", (ROOT / "shm/base/probes.h").read_text(), re.M
    ):
        if part:
            probes = found.setdefault(part, {})
        else:
            probes[name] = [argument.split()[-1].lstrip("*") for argument in arguments.split(",")]
    return found


def manual():
    page = (ROOT / "docs/smbdirectd.8").read_text().split(".SH PROBES\n")[1].split(".SH ")[0]
    return {
        part.replace("\\", ""): {
            name: words.split() for name, words in re.findall(r'^\.BI (\w+) " ([^"]*)"$', text, re.M)
        }
        for part, text in re.findall(r"^\.SS In (\S+)\n(.*?)(?=^\.SS |\Z)", page, re.M | re.S)
    }


def notes(name):
    """{probe: how many arguments each of its places has}, as a tracer reads it from the file."""
    text = subprocess.run(["readelf", "-n", program(name)], capture_output=True, text=True, check=True).stdout
    found = {}
    for probe, arguments in re.findall(r"Provider: smbdirect\n\s+Name: (\w+)\n.*\n\s+Arguments:(.*)\n", text):
        # "8@%rax -8@16(%rdi) 8@$1": the places of the values, which may have spaces in none
        found.setdefault(probe, set()).add(len(re.findall(r"-?\d+f?@\S+", arguments)))
    return found


def test_the_manual_has_the_table():
    assert set(table()) == set(PROGRAMS)
    assert manual() == table()


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_program_has_the_table(name):
    found = notes(name)
    if not found and not pathlib.Path("/usr/include/sys/sdt.h").exists() and not list(pathlib.Path("/usr/include").glob("*/sys/sdt.h")):
        pytest.skip("built without probes: sys/sdt.h is missing (package systemtap-sdt-dev)")
    assert found == {probe: {len(arguments)} for probe, arguments in table()[name].items()}
