# SPDX-License-Identifier: MIT
"""What bash proposes for our programs, and that zsh understands its files."""

import shutil
import subprocess

import pytest

from lib.daemon import build_dir

PROGRAMS = ["smbdirectctl", "smbdirectd", "smbdirect-exporter", "smbdirect-connect"]

ASK = """
source "$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
compopt() { :; }
function=$(complete -p "$1"); function=${function#*-F }; "${function%% *}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def script(name):
    return build_dir() / "scripts/completion" / name


def proposed(*words):
    """What bash offers for the last word."""
    argv = ["bash", "--norc", "-c", ASK, "bash", script(words[0]), *words]
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0 and not done.stderr, done
    return set(done.stdout.split())


def test_commands_and_their_options():
    commands = proposed("smbdirectctl", "")
    assert {"status", "resize", "log-level", "doctor", "metrics", "top"} <= commands
    assert not any(word.startswith("-") for word in commands)
    assert proposed("smbdirectctl", "re") == {"resize", "reload"}
    assert {"--json", "--events", "--smb-conf", "--socket"} <= proposed("smbdirectctl", "--")
    with_status = proposed("smbdirectctl", "status", "--")
    assert "--json" in with_status and not with_status & {"--events", "--smb-conf", "--once"}
    assert proposed("smbdirectctl", "connections", "--e") == {"--events"}
    assert proposed("smbdirectctl", "doctor", "--s") == {"--socket", "--smb-conf"}
    assert proposed("smbdirectctl", "log-level", "") == {"error", "warning", "notice", "info", "debug"}
    assert proposed("smbdirectctl", "status", "") == set()


def test_arguments_of_options(tmp_path):
    (tmp_path / "pool.json").touch()
    (tmp_path / "directory").mkdir()
    both = {str(tmp_path / "pool.json"), str(tmp_path / "directory")}
    start = str(tmp_path) + "/"
    assert proposed("smbdirectctl", "--socket", start) == both
    assert proposed("smbdirectctl", "-s", start) == both
    assert proposed("smbdirectctl", "--socket", "=", start) == both  # as bash splits --socket=...
    assert proposed("smbdirectd", "--log-basename", start) == {str(tmp_path / "directory")}
    assert proposed("smbdirectd", "-d", "1") == {"1", "10"}
    assert proposed("smbdirect-connect", "--fabric", "") == {"iwarp", "verbs"}
    assert proposed("smbdirect-connect", "--stats", "=", "j") == {"json"}
    assert "--to" in proposed("smbdirect-connect", "--stats", "--")
    assert proposed("smbdirect-exporter", "--listen", "") == set()
    # An option's argument is no command, and what follows still is.
    assert "status" in proposed("smbdirectctl", "--socket", "doctor", "")
    assert "status" in proposed("smbdirectctl", "--socket", "=", "doctor", "")


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_files_are_in_order(name):
    shellcheck = shutil.which("shellcheck")
    if shellcheck:
        subprocess.run([shellcheck, script(name)], check=True, timeout=60)
    subprocess.run(["bash", "-n", script(name)], check=True, timeout=20)


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh, which this system does not have")
@pytest.mark.parametrize("name", PROGRAMS)
def test_zsh_completes_too(name):
    """Presses the tab key: zsh completes only in its line editor."""
    commands = """
zmodload zsh/zpty
zpty shell zsh -f -i
send() { zpty -w shell "$1" }
send "fpath=($1 \\$fpath); autoload -Uz compinit; compinit -D -u; PS1=; zstyle ':completion:*' list-prompt ''"
send "zstyle ':completion:*:default' list-colors 'no=<' 'fi=<'; bindkey '^X' list-choices"
send "print BEGIN"
zpty -r shell seen '*BEGIN*BEGIN*' 
zpty -w -n shell "$2 --"$'\\x18'
integer turn=0
text=
while (( turn++ < 200 )); do
  zpty -r -t shell more && text+=$more || sleep 0.05
  [[ $text == *--help* && $text == *--version* ]] && break
done
print -r -- $text
"""
    argv = ["zsh", "-f", "-c", commands, "zsh", script("_" + name).parent, name]
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=60)
    assert "--help" in done.stdout and "print this" in done.stdout, done
