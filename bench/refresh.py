"""Refreshes: claims of due plans, and the rate of one process."""

from bench import refresh_claims
from bench.report import Report


def measure(report: Report, *, quick: bool) -> None:
    refresh_claims.measure(report, quick=quick)
