"""Random draws of tests: the same in every run, or by a given seed (`--hypothesis-seed`, `make test-random`)."""

from collections.abc import Callable, Sequence
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

# How long an example takes depends on what else the machine does. No database of examples: what was found becomes an
# explicit example, or a seed in the test's list.
_COMMON = settings(database=None, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fixed", _COMMON, derandomize=True)
settings.register_profile("drawn", _COMMON, derandomize=False, max_examples=300)

_seed: int | None = None


def draw_by(seed: int | None) -> None:
    """Choose what all tests of this process draw by, before they are collected. None: what they always draw."""
    global _seed  # noqa: PLW0603 - decorators run at import, where no argument reaches them
    _seed = seed
    settings.load_profile("fixed" if seed is None else "drawn")
    if seed is None:
        # Hypothesis also draws constants out of the modules loaded so far, which depends on the tests that ran before.
        providers._get_local_constants = lambda: providers._local_constants


def seeds(*fixed: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test that draws by `Random(seed)` once for each of these seeds; in a random run, for as many new ones."""
    chosen: Sequence[int] = fixed
    if _seed is not None:
        chosen = [Random(f"{_seed} {fixed_seed}").randrange(1_000_000_000) for fixed_seed in fixed]

    def decorated(test: Callable[..., None]) -> Callable[..., None]:
        return pytest.mark.draws(pytest.mark.parametrize("seed", chosen)(test))

    return decorated


def seed_of_this_test(name: str) -> str:
    """The seed of the global `random` in a test of this name."""
    return f"{_seed} {name}"
