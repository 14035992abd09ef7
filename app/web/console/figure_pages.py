"""The page of one figure: its chart over any time, whose parts lead to narrower times, and the values as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from starlette.responses import Response

from app.domain.definitions import DestinationKey
from app.domain.figures import Step
from app.errors import FieldFault, InvalidFields, InvalidInput, NotFound
from app.qualified_names import split_target
from app.timestamp_input import moment
from app.web.console.charts import Overlay, Part
from app.web.console.fields import given_in
from app.web.console.figure_charts import PATH, SPANS, FigureChart, Wanted, chart_of, pages_of
from app.web.console.figure_kinds import KINDS, Kind
from app.web.console.figure_times import LONGEST, TimeRange, near_by, parts_of, range_of
from app.web.console.rendering import link
from app.web.console.serving import ConsoleContext, Visit
from app.wording import counted

MOST_LINKED: Final = 200  # rows of a table that are links: a page stays small
_LIMIT: Final = 64  # characters of a time


@dataclass(frozen=True, slots=True)
class Asked:
    """The time and the destination of a figure's page. notes: why less, or coarser values, are shown."""

    time: TimeRange
    destination: DestinationKey | None
    notes: Sequence[str]


async def show_figure(context: ConsoleContext, visit: Visit) -> Response:
    """One figure over the time of `?since=` and `?until=`, of one destination with `?destination=TEAM/NAME`."""
    kind = KINDS.get(visit.request.path_params["figure"])
    if kind is None:
        raise NotFound("figure", visit.request.path_params["figure"])
    given, now, problems = given_in(visit), context.clock(), dict[str, str]()
    try:
        asked = _asked(kind, given, now)
    except InvalidFields as wrong:
        problems = {fault.field: fault.message for fault in wrong.faults}
        asked = _asked(kind, {}, now)
    pages = pages_of(visit, context.installation(), now=now)
    chart: FigureChart = await context.rows.run(partial(_read, context, kind, asked, pages))
    to = partial(_path, kind, asked.destination)
    return visit.page(
        "figure.html",
        status=422 if problems else 200,
        each=chart,
        time=asked.time,
        notes=[*asked.notes, *_of_rows(kind, asked.time, pages)],
        destination="/".join(asked.destination) if asked.destination else "",
        given={name: given.get(name, "") if problems else "" for name in ("since", "until")},
        problems=problems,
        near=[(name, to(begin, end)) for name, (begin, end) in near_by(asked.time, now=now)],
        spans=[(name, link(f"{PATH}/{kind.id}", **_of(asked.destination), since=name)) for name in SPANS],
        narrower=_narrower(kind, asked),
    )


def _asked(kind: Kind, given: Mapping[str, str], now: datetime) -> Asked:
    """The parameters of the page. Raises InvalidFields."""
    since, until = (_time(given, name, default, now) for name, default in (("since", "24h"), ("until", "0s")))
    if since >= until:
        raise InvalidFields([FieldFault("until", "after", "has to be later than the beginning, and that in the past")])
    notes = []
    if until - since > LONGEST:
        since = until - LONGEST
        notes.append(f"{span_of(LONGEST)} at most are shown, the last before the end.")
    time = range_of(since, until, now=now)
    finer = Step.MINUTE if time.length <= timedelta(hours=3) else Step.HOUR
    if time.step != finer and since < now - finer.kept and time.length <= timedelta(days=8):
        notes.append(f"Values by {finer} are kept for {span_of(finer.kept)}; these are by {time.step}.")
    return Asked(time, _destination(kind, given), notes)


def _time(given: Mapping[str, str], name: str, default: str, now: datetime) -> datetime:
    """A time of the query, in UTC where it has no zone, as a browser's field for it has none; not in the future."""
    text = given.get(name, default)[:_LIMIT]
    try:
        at = datetime.fromisoformat(text)
        found = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        try:
            found = moment(text, now=now)
        except InvalidInput as wrong:
            raise InvalidFields([FieldFault(name, "time", str(wrong))]) from None
    return max(min(found, now), now - Step.DAY.kept)


def _destination(kind: Kind, given: Mapping[str, str]) -> DestinationKey | None:
    text = given.get("destination")
    if text is None:
        return None
    if not kind.by_destination:
        raise InvalidFields([FieldFault("destination", "not_apart", "this figure is not told apart by destination")])
    try:
        return split_target("destination", text)
    except InvalidInput as wrong:
        raise InvalidFields([FieldFault("destination", "name", str(wrong))]) from None


def _read(context: ConsoleContext, kind: Kind, asked: Asked, pages: Mapping[str, datetime]) -> FigureChart:
    parts = [
        Part(
            asked.time.share(part.since),
            asked.time.share(part.until),
            _path(kind, asked.destination, part.since, part.until),
            f"Narrow to {_said(part)}",
        )
        for part in parts_of(asked.time)
    ]
    marks = [asked.time.share(at) for at in sorted(_ends_of_rows(kind, asked.time, pages)) if at < asked.time.until]
    wanted = Wanted(asked.time, f"in {span_of(asked.time.length)}", pages, asked.destination, Overlay(parts, marks))
    with context.database.read() as session:
        return chart_of(session, kind, wanted)


def _narrower(kind: Kind, asked: Asked) -> Mapping[datetime, str]:
    """The pages of the rows of the table, by their beginning; none for minutes, and for more rows than MOST_LINKED."""
    spans = asked.time.spans
    if asked.time.step is Step.MINUTE or len(spans) > MOST_LINKED:
        return {}
    ends = zip(spans, [*spans[1:], asked.time.until], strict=True)
    return {begin: _path(kind, asked.destination, begin, end) for begin, end in ends}


def _ends_of_rows(kind: Kind, time: TimeRange, pages: Mapping[str, datetime]) -> set[datetime]:
    """The times before which rows of the figure's lists were deleted, of those behind the beginning."""
    return {at for to in kind.links if to.counts and (at := pages.get(to.path)) is not None and at > time.since}


def _of_rows(kind: Kind, time: TimeRange, pages: Mapping[str, datetime]) -> list[str]:
    """A sentence for rows that were counted and are not stored any more."""
    ends = _ends_of_rows(kind, time, pages)
    return [f"Rows from before {min(ends):%Y-%m-%d %H:%M} UTC are not stored any more."] if ends else []


def _path(kind: Kind, destination: DestinationKey | None, since: datetime, until: datetime) -> str:
    return link(f"{PATH}/{kind.id}", **_of(destination), **TimeRange(since, until, Step.MINUTE).query)


def _of(destination: DestinationKey | None) -> dict[str, Any]:
    return {"destination": "/".join(destination)} if destination else {}


def _said(time: TimeRange) -> str:
    return f"{time.since:%Y-%m-%d %H:%M} to {time.until:%Y-%m-%d %H:%M} UTC"


def span_of(length: timedelta) -> str:
    """A length of time in words, such as `2 days` or `90 minutes`."""
    minutes = round(length.total_seconds() / 60)
    for unit, size in (("day", 1440), ("hour", 60)):
        if minutes % size == 0:
            return counted(minutes // size, unit)
    return counted(minutes, "minute")
