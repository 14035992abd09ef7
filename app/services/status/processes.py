"""Checks of the processes: whether each kind runs and works, in one version, by clocks that agree."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from app.db.read import processes
from app.db.read.processes import SeenProcess
from app.db.schema_version import head
from app.domain.liveness import ProcessKind, ProcessState, Work
from app.domain.status import Check, CheckKind, Level
from app.services.status.wording import moment, some, span

GONE: Final = timedelta(hours=1)  # after which a process that did not come back is a hint
SKEW: Final = 5.0  # seconds by which a clock differs from the database's
LISTED: Final = 100  # processes that are well
STARTS: Final[Mapping[ProcessKind, str]] = {
    ProcessKind.WEB: "waylink web",
    ProcessKind.EVENTS: "waylink worker events",
    ProcessKind.IO: "waylink worker io",
    ProcessKind.BEAT: "waylink beat",
}
# Work that is done all the time, and after how long without it something is wrong.
STEADY: Final[Mapping[Work, tuple[ProcessKind, timedelta]]] = {
    Work.TICKED: (ProcessKind.BEAT, timedelta(seconds=25)),
    Work.SWEPT: (ProcessKind.IO, timedelta(seconds=60)),
    Work.PRUNED: (ProcessKind.IO, timedelta(minutes=15)),
}


@dataclass(frozen=True, slots=True)
class Processes:
    """Processes of the last day, the newest first. revision: the one of the database's schema."""

    seen: Sequence[SeenProcess]
    revision: str


def read(session: Session, *, now: datetime) -> Processes:
    """Read them: a small table. The schema is the one that this release needs, else nothing else is read either."""
    return Processes(processes.all_processes(session, now=now), head())


def checks(found: Processes) -> Iterator[Check]:
    """Judge them."""
    missing = set(processes.missing_kinds(found.seen))
    for kind in ProcessKind:
        alike = [one for one in found.seen if one.kind is kind]
        yield _missing(kind, alike) if kind in missing else _running(kind, alike)
    yield from _single_checks([one for one in found.seen if one.kind not in missing])
    for work, (kind, bound) in STEADY.items():
        if kind not in missing:
            yield _progress_check(work, [one for one in found.seen if one.kind is kind], bound)
    yield _version_check(found.seen)
    yield _schema_check(found)
    yield from _clock_checks(found.seen)


def _running(kind: ProcessKind, alike: Sequence[SeenProcess]) -> Check:
    here = [one for one in alike if one.state is ProcessState.RUNNING]
    if kind is ProcessKind.BEAT and len(here) > 1:
        named = some([f"process {one.pid} on {one.host}" for one in here])
        cause = (
            f"one is enough, and {named} each send every task: nothing is done twice, only asked for. Stop all but one"
        )
        return Check(CheckKind.PROCESSES, Level.HINT, len(here), cause, "waylink processes", subject=kind)
    return Check(CheckKind.PROCESSES, Level.OK, len(here), subject=kind)


def _missing(kind: ProcessKind, alike: Sequence[SeenProcess]) -> Check:
    cause = f"none runs: {_told(alike[0])}" if alike else "none runs, and none has reported within a day"
    return Check(CheckKind.PROCESSES, Level.RED, 0, cause, STARTS[kind], subject=kind)


def _single_checks(seen: Sequence[SeenProcess]) -> Iterator[Check]:
    """A check for each process that is alive, or that went without a word and was not replaced."""
    well = 0
    for one in seen:
        subject = f"{one.kind}@{one.host}/{one.pid}"
        if one.state is ProcessState.RUNNING and well < LISTED:
            well += 1
            yield Check(CheckKind.PROCESS, Level.OK, one.version, _working(one), subject=subject)
        elif one.state is ProcessState.STANDING_STILL or (one.state is ProcessState.SILENT and not one.replaced):
            level = Level.HINT if one.written_seconds > GONE.total_seconds() else Level.RED
            value = str(one.state).replace("_", " ")
            yield Check(CheckKind.PROCESS, level, value, _told(one), STARTS[one.kind], subject=subject)


def _told(one: SeenProcess) -> str:
    name = f"process {one.pid} on {one.host}"
    if one.state is ProcessState.STOPPED:
        return f"{name} was stopped{f' {moment(one.stopped_at)}' if one.stopped_at else ''}"
    if one.state is ProcessState.STANDING_STILL:
        task = f", and {_working(one)}" if one.task else ""
        return f"{name} stands still: it has not answered for {_seconds(one.seen_seconds)}{task}"
    return f"{name} has not reported for {_seconds(one.written_seconds)}: it was killed, hangs, or lacks the database"


def _working(one: SeenProcess) -> str:
    if one.task is None:
        return ""
    since = f" for {_seconds(one.task_seconds)}" if one.task_seconds is not None else ""
    return f"works on {one.task}{since}"


def _progress_check(work: Work, alike: Sequence[SeenProcess], bound: timedelta) -> Check:
    """Red where processes run for longer than the bound, and none has done the work within it."""
    since = processes.last_done(alike, work)
    longest = max((one.started_seconds for one in alike if one.is_alive), default=0.0)
    late = min(since if since is not None else longest, longest) > bound.total_seconds()
    told = f"last done {_seconds(since)} ago" if since is not None else "not done yet"
    kind = alike[0].kind if alike else ProcessKind.IO
    if not late:
        return Check(CheckKind.PROGRESS, Level.OK, "done", told, subject=work)
    cause = f"{told}, though a process of the kind {kind} runs: its log says why, or the internal broker is away"
    return Check(CheckKind.PROGRESS, Level.RED, "late", cause, STARTS[kind], subject=work)


def _version_check(seen: Sequence[SeenProcess]) -> Check:
    versions = processes.versions(seen)
    value = ", ".join(f"{version} ({count})" for version, count in versions.items()) or "none"
    if len(versions) <= 1:
        return Check(CheckKind.VERSIONS, Level.OK, value)
    alive = [one for one in seen if one.is_alive]
    rarest = min(versions, key=lambda version: (versions[version], version))
    named = some([f"{one.kind} {one.pid} on {one.host}" for one in alive if one.version == rarest])
    cause = f"processes of several releases run, of {rarest} {named}: replace those of the older one"
    return Check(CheckKind.VERSIONS, Level.RED, value, cause, "waylink status --all")


def _schema_check(found: Processes) -> Check:
    others = [one for one in found.seen if one.is_alive and one.schema_revision != found.revision]
    if not others:
        return Check(CheckKind.SCHEMA, Level.OK, found.revision)
    named = some([f"{one.kind} {one.pid} on {one.host} needs {one.schema_revision}" for one in others])
    cause = f"the database is at {found.revision}; {named}: replace these processes"
    return Check(CheckKind.SCHEMA, Level.RED, found.revision, cause, "waylink status --all")


def _clock_checks(seen: Sequence[SeenProcess]) -> Iterator[Check]:
    hosts: dict[str, list[float]] = defaultdict(list)
    for one in seen:
        if one.is_alive:
            hosts[one.host].append(one.clock_ahead_seconds)
    for host, differences in sorted(hosts.items()):
        ahead = max(differences, key=abs)
        if abs(ahead) <= SKEW:
            yield Check(CheckKind.CLOCK, Level.OK, f"{ahead:+.1f} s", subject=host)
        else:
            way = "ahead of" if ahead > 0 else "behind"
            cause = (
                f"its clock is {_seconds(abs(ahead))} {way} the database's: leases and deadlines go wrong. Set it right"
            )
            yield Check(CheckKind.CLOCK, Level.RED, f"{ahead:+.1f} s", cause, "waylink status --all", subject=host)


def _seconds(seconds: float | None) -> str:
    return span(timedelta(seconds=seconds or 0.0))
