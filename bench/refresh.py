"""Refreshes: claims of due plans, the rate of one process, forecasts, and 90 days under a controlled clock."""

from bench import refresh_claims, refresh_forecasts, refresh_ninety_days
from bench.report import Report


def measure(report: Report, *, quick: bool) -> None:
    refresh_claims.measure(report, quick=quick)
    refresh_forecasts.measure(report, quick=quick)
    refresh_ninety_days.measure(report, quick=quick)
