"""Import of users or organizations from a file, a chunk per transaction. A repeated import changes nothing."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Final
from uuid import UUID

from sqlalchemy.exc import OperationalError

from app.db import audit
from app.db.engine import Database
from app.db.errors import is_conflict
from app.domain.people import Fields, OwnerKind
from app.domain.people_files import FileLine
from app.domain.states import AuditOutcome
from app.services.linking import waiting
from app.services.people import records
from app.services.people.records import EntryOutcome, EntryResult, MergeResult
from app.services.policy import Policy
from app.services.routing.cache import RouteCache

REFUSED_SHOWN: Final = 1000  # further ones are only counted
TRIES: Final = 5  # of a chunk that was chosen as the victim of a deadlock


@dataclass(slots=True)
class ImportSummary:
    """Result of an import. `refused_lines` has the first REFUSED_SHOWN faults."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    refused: int = 0
    linked: int = 0  # waiting connections that were linked
    refused_lines: list[dict[str, Any]] = field(default_factory=list)

    def count(self, line: FileLine, outcome: EntryOutcome) -> None:
        setattr(self, outcome.result, getattr(self, outcome.result) + 1)
        for fault in outcome.faults if len(self.refused_lines) < REFUSED_SHOWN else ():
            self.refused_lines.append(
                {"line": line.number, "field": fault.field or None, "rule": fault.rule, "reason": fault.message}
            )


def run(
    database: Database,
    policy: Policy,
    routes: RouteCache,
    kind: OwnerKind,
    lines: Iterable[FileLine],
    *,
    dry_run: bool = False,
    actor: str,
    clock: Callable[[], datetime],
) -> ImportSummary:
    """Write the valid lines and report the refused ones. Raises InvalidInput for a file that cannot be read.

    dry_run: write nothing, and report what would happen.
    """
    summary = ImportSummary()
    remaining = iter(lines)
    begun = None if dry_run else _begin(database, kind, actor=actor, now=clock())
    while chunk := list(islice(remaining, records.CHUNK)):
        merged = _merge(database, kind, chunk, dry_run=dry_run, clock=clock)
        for line, outcome in zip(chunk, merged.outcomes, strict=True):
            summary.count(line, outcome)
        if not dry_run:
            summary.linked += waiting.link_appeared(database, routes, policy, merged.appeared, clock=clock)
    if begun is not None:
        detail = {"added": summary.added, "changed": summary.changed, "refused": summary.refused}
        with database.write() as session:
            audit.conclude(session, begun, AuditOutcome.DONE, detail)
    return summary


def _begin(database: Database, kind: OwnerKind, *, actor: str, now: datetime) -> UUID:
    """Begin the audit's entry. If it stays `begun`, the import was interrupted; the rows written by then stay."""
    with database.write() as session:
        return audit.record(
            session, actor=actor, action=f"{kind}.imported", subject=f"{kind}s", now=now, outcome=AuditOutcome.BEGUN
        )


def _merge(
    database: Database, kind: OwnerKind, chunk: Sequence[FileLine], *, dry_run: bool, clock: Callable[[], datetime]
) -> MergeResult:
    merged = _merge_readable(
        database, kind, [line.fields for line in chunk if not line.faults], dry_run=dry_run, clock=clock
    )
    outcomes = iter(merged.outcomes)
    return MergeResult(
        [EntryOutcome(EntryResult.REFUSED, faults=line.faults) if line.faults else next(outcomes) for line in chunk],
        merged.appeared,
    )


def _merge_readable(
    database: Database,
    kind: OwnerKind,
    entries: Sequence[Fields],
    *,
    dry_run: bool,
    clock: Callable[[], datetime],
    tries: int = TRIES,
) -> MergeResult:
    try:
        with database.dry_run() if dry_run else database.write() as session:
            return records.merge(session, kind, entries, now=clock(), dry_run=dry_run)
    except OperationalError as failed:
        if tries == 1 or not is_conflict(failed):
            raise
    return _merge_readable(database, kind, entries, dry_run=dry_run, clock=clock, tries=tries - 1)
