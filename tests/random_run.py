"""Run the tests that draw, with new seeds again and again, until one fails or the time is over (`make test-random`).

A pytest plugin as well: it ends a round in time, and writes each finding to a file.
"""

import argparse
import os
import platform
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DRAWS = re.compile(r"@given|@seeds\(")


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.random_run", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="no test begins after these")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000_000), help="of the first round")
    options = parser.parse_args()
    ends_at, seed, failed = time.monotonic() + options.seconds, options.seed, 0
    while not failed and (left := ends_at - time.monotonic()) > 0:
        sys.stdout.write(f"seed {seed}, {left:.0f} s left\n")
        sys.stdout.flush()
        failed = one_round(seed, seconds=left)
        seed += 1
    return failed


def one_round(seed: int, *, seconds: float) -> int:
    files = [str(file) for file in sorted((ROOT / "tests").rglob("test_*.py")) if DRAWS.search(file.read_text())]
    random.Random(seed).shuffle(files)
    command = [sys.executable, "-m", "pytest", "-q", "-m", "draws", "-p", "tests.random_run"]
    command += [f"--hypothesis-seed={seed}", f"--end-after={seconds}", *files]
    environment = os.environ | {"PYTHONHASHSEED": str(seed % 2**32)}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


# The plugin


class Round:
    """One round: when it ends, and the findings it has written."""

    def __init__(self, config: pytest.Config) -> None:
        self.seed = config.getoption("--hypothesis-seed")
        self.ends_at = time.monotonic() + config.getoption("--end-after")
        self.folder: Path = config.getoption("--findings")
        self.ended_early = False
        self.findings: list[Path] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.failed:
            return
        again = f"--hypothesis-seed={self.seed} '{report.nodeid}'"
        facts = [f"python -m pytest {again}", f"Python {platform.python_version()}", "", report.longreprtext]
        sections = [f"--- {title}\n{text}" for title, text in report.sections]
        self.folder.mkdir(exist_ok=True)
        file = self.folder / f"{self.seed}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', report.nodeid)[-150:]}-{report.when}.txt"
        file.write_text("\n".join([*facts, *sections]))
        self.findings.append(file)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        came = yield
        if time.monotonic() > self.ends_at:
            item.session.shouldstop = "the time is over"
            self.ended_early = True
        return came

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.ended_early and not self.findings:
            session.exitstatus = pytest.ExitCode.OK

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for file in self.findings:
            terminalreporter.line(f"finding: {file}")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--end-after", type=float, default=float("inf"), help="seconds after which no test begins")
    parser.addoption("--findings", type=Path, default=ROOT / ".random-findings", help="where failures are written to")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Round(config))


if __name__ == "__main__":
    sys.exit(main())
