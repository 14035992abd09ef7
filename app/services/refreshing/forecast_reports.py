"""Forecasts in the form in which commands and the API show them. Counts are rounded."""

from datetime import timedelta
from typing import Any, Final

from app.domain.refreshing.forecasting import DAYS, HOURS, Forecast, LapseCount, hour_of
from app.services.refreshing.forecasts import Comparison, EnvironmentForecast

_HOUR: Final = timedelta(hours=1)


def shown(one: EnvironmentForecast) -> dict[str, Any]:
    """The forecast of one environment, with the last one and what happened."""
    found = one.found
    return {
        "environment": one.environment,
        "made_at": found.now.isoformat(),
        "connections": found.connections,
        "carried": found.carried,
        "weight": round(found.weight, 2),
        "overdue": round(found.overdue),
        "rest_of_hour": round(found.hours[0]),
        **_against_budget(found, one.budget.per_minute),
        "busiest_minute": _busiest_minute(found),
        "budget": _budget(one),
        "lapses": [_lapse(lapse) for lapse in found.lapses],
        "past": None if one.past is None else _past(one.past),
    }


def _against_budget(found: Forecast, per_minute: float) -> dict[str, Any]:
    """The refreshes of the hours and days to come, each beside the calls that the budget allows."""
    begins = hour_of(found.now)
    hours = [(begins + number * _HOUR, found.hours[number]) for number in range(1, HOURS + 1)]
    days = [(found.now + timedelta(days=day), calls) for day, calls in zip(range(DAYS), found.days, strict=True)]
    return {
        name: [{"at": at.isoformat(), "refreshes": round(calls), "budget": allowed} for at, calls in spans]
        for name, spans, allowed in (("hours", hours, round(per_minute * 60)), ("days", days, round(per_minute * 1440)))
    }


def _busiest_minute(found: Forecast) -> dict[str, Any]:
    minutes = found.minutes[found.now.minute :]
    busiest = max(range(len(minutes)), key=minutes.__getitem__)
    return {
        "at": (found.now.replace(second=0, microsecond=0) + timedelta(minutes=busiest)).isoformat(),
        "refreshes": round(minutes[busiest]),
        "mean": round(sum(minutes) / len(minutes), 2),
    }


def _budget(one: EnvironmentForecast) -> dict[str, Any]:
    budget = one.budget
    return {
        "account": one.account,
        "environments": list(one.environments),
        "limit": one.limit,
        "per_minute": round(budget.per_minute, 1),
        "busiest_minute": round(budget.busiest),
        "minutes_over": budget.minutes_over,
        "too_late": round(budget.too_late),
    }


def _lapse(lapse: LapseCount) -> dict[str, Any]:
    return {
        "integration": lapse.integration,
        "clock": lapse.clock,
        "why": lapse.why,
        "connections": max(1, round(lapse.count)),
        "first_at": lapse.first_at.isoformat(),
    }


def _past(past: Comparison) -> dict[str, Any]:
    return {
        "made_at": past.made_at.isoformat(),
        "hours": [
            {"at": at.isoformat(), "forecast": expected, "happened": happened, "difference": _share(expected, happened)}
            for at, expected, happened in past.hours
        ],
        "forecast": past.expected,
        "happened": past.happened,
        "difference": _share(past.expected, past.happened),
    }


def _share(expected: int, happened: int) -> float | None:
    """By how much of what happened the forecast was too high, or below zero too low; None where nothing happened."""
    return round((expected - happened) / happened, 4) if happened else None
