"""Acts on destinations: added by a form of their kind, parked, slowed, removed, and their secrets rotated."""

import math
from collections.abc import Mapping
from typing import Any, Final

from app.errors import FieldFault, InvalidFields
from app.outbound.sending import TIMEOUT
from app.web.api import destinations
from app.web.console.act_pages import REASON, Act, Field, Form, Parts, Told, optional, with_sentences
from app.web.console.calling import ask
from app.web.console.definition_pages import DESTINATIONS
from app.web.console.serving import ConsoleContext, Visit

_DESTINATION: Final = f"{DESTINATIONS}/{{team}}/{{destination}}"


def _destination(parts: Parts) -> str:
    return f"{DESTINATIONS}/{parts['team']}/{parts['destination']}"


async def _tell_destination(context: ConsoleContext, visit: Visit, parts: Parts) -> Told:
    found = await ask(context, visit, destinations.get_destination, **parts)
    where = found.url or found.queue
    return Told((), {"Destination": f"{found.team}/{found.name}", "Kind": found.kind, "Queue or URL": where})


async def _tell_rate(context: ConsoleContext, visit: Visit, parts: Parts) -> Told:
    found = await ask(context, visit, destinations.get_destination, **parts)
    value = "" if found.rate_per_second is None else f"{found.rate_per_second:g}"
    hint = "Such as `5` or `0.5`; empty for no limit. Waiting jobs follow it."
    return Told((), {}, (Field("rate_per_second", "Jobs a second", hint, value=value, required=False),))


def _number(form: Form, field: str) -> dict[str, Any]:
    """The number of a field that may be empty. Raises InvalidFields for a text that is none."""
    text = form.get(field, "").strip()
    try:
        number = float(text) if text else None
    except ValueError:
        number = math.nan
    if number is not None and not math.isfinite(number):
        raise InvalidFields([FieldFault(field, "number", "is not a number")])
    return {field: number}


def _rate(form: Form) -> dict[str, Any]:
    return _number(form, "rate_per_second")


_RATE: Final = Field("rate_per_second", "Jobs a second", "Such as `5` or `0.5`; empty for no limit.", required=False)


def _naming(visit: Visit) -> tuple[Field, ...]:
    """The fields for team and name. The team of an operator of one team is filled in."""
    team = visit.access.team or visit.request.query_params.get("team", "")[:100]
    hint = "Small letters, digits, `_` and `-`; the team has one of it."
    return (Field("team", "Team", value=team), Field("name", "Name", hint))


async def _tell_http(_context: ConsoleContext, visit: Visit, _parts: Parts) -> Told:
    return Told(
        (
            "Jobs are posted to the endpoint, signed by the rules of Standard Webhooks.",
            "The signing secret is shown once, when the destination is made.",
        ),
        {},
        (
            *_naming(visit),
            Field(
                "url", "URL", "Such as `https://crm.example/waylink`. Nothing is sent there before a route feeds it."
            ),
            Field("timeout_seconds", "Time-out in seconds", f"For one attempt; empty for {TIMEOUT:g}.", required=False),
            _RATE,
        ),
    )


async def _tell_celery(_context: ConsoleContext, visit: Visit, _parts: Parts) -> Told:
    broker = Field(
        "broker_url",
        "URL of the team's own broker",
        "Empty for the broker that all teams share. It is kept encrypted and not shown again.",
        "password",
        required=False,
    )
    return Told(
        ("Jobs are published to a queue that the team's own Celery workers consume.",),
        {},
        (
            *_naming(visit),
            Field("queue", "Queue", "It begins with `team.` and the team's name, as `team.crm.jobs`."),
            *((broker,) if visit.access.team is None else ()),
            _RATE,
        ),
    )


def _http(form: Form) -> dict[str, Any]:
    numbers = _number(form, "timeout_seconds") | _rate(form)
    return {"kind": "http", **optional(form, "team"), "name": form.get("name", "").strip()} | {
        "url": form.get("url", "").strip(),
        **numbers,
    }


def _celery(form: Form) -> dict[str, Any]:
    named = {"kind": "celery", **optional(form, "team", "broker_url"), "name": form.get("name", "").strip()}
    return {**named, "queue": form.get("queue", "").strip(), **_rate(form)}


_OVERLAP: Final = Field(
    "overlap", "Overlap", "How long earlier secrets still sign, such as `24h` or `0s`.", value="24h"
)

ACTS: Final[Mapping[str, Act]] = {
    f"{DESTINATIONS}/-/http": Act(
        destinations.add_destination,
        "Add an HTTP endpoint",
        "Add the destination",
        _tell_http,
        lambda _: DESTINATIONS,
        body=_http,
        once=lambda answer: (
            ("Signing secret", answer.secret),
            ("Destination", f"{answer.team}/{answer.name}"),
        ),
    ),
    f"{DESTINATIONS}/-/celery": Act(
        destinations.add_destination,
        "Add a Celery queue",
        "Add the destination",
        _tell_celery,
        lambda _: DESTINATIONS,
        "destination_added",
        body=_celery,
    ),
    f"{_DESTINATION}/enable": Act(
        destinations.enable_destination,
        "Enable the destination",
        "Enable",
        with_sentences(_tell_destination, "Its jobs go out again, parked ones too."),
        _destination,
        "destination_changed",
    ),
    f"{_DESTINATION}/disable": Act(
        destinations.disable_destination,
        "Disable the destination",
        "Park its jobs",
        with_sentences(
            _tell_destination,
            "Its jobs are parked until it is enabled: none is lost, and no attempt is used up.",
            fields=(REASON,),
        ),
        _destination,
        "destination_changed",
        query=lambda form: optional(form, "reason"),
        is_danger=True,
    ),
    f"{_DESTINATION}/rate": Act(
        destinations.change_destination,
        "Change the rate",
        "Set the rate",
        _tell_rate,
        _destination,
        "destination_changed",
        body=_rate,
    ),
    f"{_DESTINATION}/rotate": Act(
        destinations.rotate_destination_secret,
        "Rotate the signing secret",
        "Make a new secret",
        with_sentences(
            _tell_destination, "The new secret is shown once. Earlier ones sign too until then.", fields=(_OVERLAP,)
        ),
        _destination,
        query=lambda form: optional(form, "overlap"),
        once=lambda answer: (
            ("Signing secret", answer.secret),
            ("Id", answer.id),
            ("Earlier ones sign until", answer.overlap_ends_at or "now: they have ended"),
        ),
    ),
    f"{_DESTINATION}/remove": Act(
        destinations.remove_destination,
        "Remove the destination",
        "Remove 1 destination",
        with_sentences(_tell_destination, "No route may feed it. Jobs that there are already are still delivered."),
        lambda _: DESTINATIONS,
        "destination_removed",
        is_danger=True,
    ),
}
