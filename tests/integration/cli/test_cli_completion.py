"""Completion in a shell."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ASK = """
PATH={folder}:$PATH
eval "$(waylink completion bash)"
complete -p waylink >/dev/null || exit 3
COMP_WORDS=({words} "{begun}") COMP_CWORD={at}
_waylink_completion waylink
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def _completions(words: str, begun: str) -> list[str]:
    script = ASK.format(folder=Path(sys.executable).parent, words=words, begun=begun, at=len(words.split()))
    ran = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, check=True)
    assert not ran.stderr
    return ran.stdout.split()


@pytest.mark.parametrize(
    ("words", "begun", "expected"),
    [
        ("waylink", "con", ["connections"]),
        ("waylink", "re", ["reconcile", "refreshes", "rejections"]),
        ("waylink events", "r", ["replay", "retry"]),
        ("waylink events", "--si", ["--since"]),
        ("waylink jobs --state", "dis", ["discarded"]),
        ("waylink jobs --state", "DIS", ["discarded"]),
        ("waylink worker", "", ["events", "io"]),
        ("waylink connections tags", "", ["add", "remove", "set"]),
        ("waylink completion", "", ["bash", "fish", "zsh"]),
    ],
)
def test_a_shell_completes_commands_options_and_values(words: str, begun: str, expected: list[str]) -> None:
    assert sorted(_completions(words, begun)) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell: str) -> None:
    ran = subprocess.run(
        [Path(sys.executable).parent / "waylink", "completion", shell], capture_output=True, text=True, check=True
    )
    assert f"_WAYLINK_COMPLETE={shell}_complete" in ran.stdout


def test_completing_a_command_loads_none() -> None:
    code = """
import sys
from app.cli.main import waylink
try:
    waylink.main([], prog_name="waylink")
finally:
    print(*sys.modules)
"""
    asked = {**os.environ, "_WAYLINK_COMPLETE": "bash_complete", "COMP_WORDS": "waylink ", "COMP_CWORD": "1"}
    ran = subprocess.run([sys.executable, "-c", code], env=asked, capture_output=True, text=True, check=True)
    assert "plain,events" in ran.stdout
    assert "app.cli.events" not in ran.stdout.split()
