"""Tests of the console."""

import pytest

pytest.register_assert_rewrite(
    *(f"tests.integration.console.acts_on_{subject}" for subject in ("rows", "definitions", "accounts"))
)
