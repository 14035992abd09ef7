"""A terminal with a shell in it."""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

from tests.acceptance.harness import descendants
from tests.pages import commands
from tests.waiting import PATIENCE, until

COLUMNS = 200
CTRL_C = b"\x03"
_DONE = re.compile(r"done: (\d+)\n")


class Terminal:
    """`sh` on a pseudo-terminal: what is typed runs as it stands, Ctrl-C included."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._ours, self._theirs = pty.openpty()
        terminal = os.ttyname(self._theirs)
        # Opened by the leader of a session, it becomes the terminal that Ctrl-C comes from.
        self._process = subprocess.Popen(
            ["sh", "-c", 'exec sh <"$0" >"$0" 2>&1', terminal],
            cwd=folder,
            # A virtual environment that is activated would put its name in front of what the next command says.
            env={**env, "COLUMNS": str(COLUMNS), "ENV": "", "VIRTUAL_ENV_DISABLE_PROMPT": "1"},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.output = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        # No prompts and no echo: what is read is what the commands say.
        self._type("PS1= PS2=; stty -echo -onlcr; echo done'': 0\n")  # the quotes: the line itself is echoed, too
        until("a shell", lambda: _DONE.search(self.output))

    def run(self, typed: str) -> str:
        """Run commands, one or several, over one line or several; their output. Each must succeed."""
        said = []
        for command in commands(typed):
            begin = len(self.output)
            self._type(command + "; echo done: $?\n")
            status = until(f"the end of {command!r}", lambda at=begin: _DONE.search(self.output, at))
            assert status[1] == "0", f"{command}\n{self.output[begin:]}"
            said.append(self.output[begin : status.start()])
        return "".join(said)

    def start(self, typed: str) -> int:
        """Run all but the last, and begin that one, which goes on; where in the output it begins."""
        *before, last = commands(typed)
        self.run("\n".join(before))
        begin = len(self.output)
        self._type(last + "; echo done: $?\n")
        return begin

    def says(self, words: str, *, since: int = 0) -> None:
        def said() -> bool:
            ended = _DONE.search(self.output, since)
            assert words in self.output[since:] or not ended, f"it ended before it said {words!r}:\n{self.output}"
            return words in self.output[since:]

        until(f"{words!r}", said)

    def below(self) -> dict[int, str]:
        """The command line of each process that was started here and runs."""
        return descendants(self._process.pid)

    def interrupt(self) -> None:
        """End by Ctrl-C what goes on in the foreground; the shell leaves the rest of that line, too."""
        begin = len(self.output)
        os.write(self._ours, CTRL_C)

        def prompt() -> bool:
            self._type("echo done'': 0\n")  # again and again: what is typed while the shell is interrupted is dropped
            return bool(_DONE.search(self.output, begin))

        until("the prompt", prompt, every=0.2)

    def close(self) -> None:
        """Leave the shell, and end whatever of it is left."""
        below = self.below()
        with contextlib.suppress(AssertionError, OSError):
            self.interrupt()
            self._type("exit\n")
            self._process.wait(PATIENCE)
        for pid in (*below, self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._theirs)
        self._reader.join(PATIENCE)
        os.close(self._ours)

    def _type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # how a terminal ends that is open nowhere else
            while select.select([self._ours], [], []) and (came := os.read(self._ours, 65536)):
                self.output += came.decode(errors="replace").replace("\r\n", "\n")
