"""Draws of tests are the same in every run; a random run draws anew, keeps what it finds, and ends in time."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

DRAW = """
import sys
from hypothesis import core, given, strategies as st
from tests import drawing
if sys.argv[1]:
    core.global_force_seed = int(sys.argv[1])
drawing.draw_by(core.global_force_seed)
if sys.argv[2]:
    import app.main, app.cli.main
drawn = []

@drawing.seeds(1, 2)
def by_itself(seed):
    pass

@given(st.text(), st.integers(), st.binary(), st.sets(st.text()))
def by_hypothesis(text, number, data, several):
    drawn.append((text, number, data, sorted(several)))

by_hypothesis()
[mark] = [one for one in by_itself.pytestmark if one.name == "parametrize"]
print(ascii([*mark.args[1], *drawn]))
"""


@cache
def drawn(seed: str = "", *, loading_more: str = "", hash_seed: str = "0") -> str:
    argv = [sys.executable, "-c", DRAW, seed, loading_more]
    done = subprocess.run(argv, env=os.environ | {"PYTHONHASHSEED": hash_seed}, capture_output=True, check=True)
    return done.stdout.decode()


def test_without_a_seed_the_same_is_drawn_whatever_is_loaded_and_however_sets_are_ordered() -> None:
    assert drawn() == drawn(loading_more="yes", hash_seed="1")
    assert drawn().startswith("[1, 2, ")


def test_a_seed_draws_what_is_new_and_can_be_repeated() -> None:
    once = drawn("7")
    assert once == drawn("7", hash_seed="1")
    assert len({once.partition("(")[0], drawn("8").partition("(")[0], drawn().partition("(")[0]}) == 3
    assert len({once.partition("(")[2], drawn("8").partition("(")[2], drawn().partition("(")[2]}) == 3


TESTS = """
import pytest
from hypothesis import given, strategies as st

@pytest.mark.parametrize("number", range(3))
def test_a(number):
    pass

@given(st.integers())
def test_b(number):
    assert number < 100 or not {wrong}
"""


def a_round(folder: Path, *, wrong: bool, seconds: float) -> subprocess.CompletedProcess[str]:
    (folder / "test_some.py").write_text(TESTS.format(wrong=wrong))
    argv = [sys.executable, "-m", "pytest", "-p", "tests.random_run", "--hypothesis-seed=7", f"--end-after={seconds}"]
    argv += [f"--findings={folder / 'found'}", f"--rootdir={folder}", "-p", "no:cacheprovider", str(folder)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_what_a_random_run_finds_is_a_file_that_says_how_to_find_it_again(tmp_path: Path) -> None:
    done = a_round(tmp_path, wrong=True, seconds=60)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    [finding] = (tmp_path / "found").iterdir()
    assert f"finding: {finding}" in done.stdout
    text = finding.read_text()
    assert "--hypothesis-seed=7 'test_some.py::test_b'" in text
    assert "number = 100" in text


def test_a_random_run_ends_when_its_time_is_over_and_that_is_no_failure(tmp_path: Path) -> None:
    done = a_round(tmp_path, wrong=True, seconds=0)
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout
    assert not (tmp_path / "found").exists()
