"""Erasure of a user from everything that is stored: a preview, the erasure, and a report of the rest.

Works in short transactions.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import audit, decisions, erasure, idempotent_calls
from app.db import people as rows
from app.db.engine import Database
from app.db.erasure import PersonalTable, Row, RowKey
from app.domain.erasing import ERASED, Identity
from app.domain.linking import UnlinkedReason
from app.domain.people import OwnerKind
from app.domain.states import ConnectionStatus, EventState
from app.errors import StillOwns
from app.ids import USER, show
from app.services.people import records

CHUNK: Final = 100  # most rows of one transaction
TRIES: Final = 5  # for rows that other transactions change meanwhile
WAITING: Final = "events not processed yet: run this again once they are"
LIVING: Final = "connections that live on in Nango, whose tags still name them: the next event brings them back"
KEYS: Final = "names in keys, such as a connection's id in Nango, which cannot be changed"

AGAIN: Final = "rows written meanwhile: run this again"


@dataclass(slots=True)
class ErasureReport:
    """`named`: rows by table that name the person, or that concern a connection of theirs alone; an erasure changes all
    of them. `stays`: numbers of rows that cannot be erased, by reason.
    """

    user: str
    named: Counter[str] = field(default_factory=Counter)
    links_closed: int = 0
    stays: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Person:
    id: UUID
    identity: Identity


class _Change:
    """A row and its columns' new values. `own`: an event of this person alone."""

    def __init__(self, row: Row, values: Mapping[str, Any], *, own: bool = False) -> None:
        self.row, self.own = row, own
        self.values = {name: value for name, value in values.items() if value != row[name]}


def preview(database: Database, user_id: UUID) -> ErasureReport:
    """Count the rows that name the user; nothing is changed. Raises NotFound."""
    with database.read() as session:
        person, _ = _find(session, user_id)
    return _walk(database, person, apply=False)


def erase(
    database: Database, user_id: UUID, *, force: bool, actor: str, clock: Callable[[], datetime]
) -> ErasureReport:
    """Remove the user and all rows that name them, a chunk per transaction. After an interruption, run it again.

    Raises NotFound, and StillOwns while connections of theirs live in Nango without `force`: their tags would come back
    with the next event.
    """
    with database.read() as session:
        person, removed = _find(session, user_id)
        living = rows.open_links(session, OwnerKind.USER, user_id)
    if living and not force:
        raise StillOwns(OwnerKind.USER, show(USER, user_id), links=living)
    closed = 0
    if not removed:
        closed = records.remove(
            database, OwnerKind.USER, user_id, force=True, keep=True, reason="erased", actor=actor, clock=clock
        ).links_closed
    report = _walk(database, person, apply=True)
    report.links_closed = closed
    with database.write() as session:
        _blank(session, person, report, actor=actor, now=clock())
    left = _walk(database, person, apply=False)
    report.stays |= left.stays | Counter({f"{AGAIN}: {table}": count for table, count in left.named.items()})
    return report


def _find(session: Session, user_id: UUID) -> tuple[_Person, bool]:
    user = rows.get(session, OwnerKind.USER, user_id)
    email = user["email"]
    # A shared address does not identify the person: the other users' data has to stay.
    own = email if email and not erasure.shares_email(session, user_id, email) else None
    return _Person(user_id, Identity(show(USER, user_id), user["external_id"], own)), user["removed_at"] is not None


def _blank(session: Session, person: _Person, report: ErasureReport, *, actor: str, now: datetime) -> None:
    """Delete the row itself, or empty it where links refer to it; and answers of the API kept to be repeated."""
    if rows.has_history(session, OwnerKind.USER, person.id):
        nothing = {"email": None, "display_name": None, "former_external_id": None}
        rows.change(session, OwnerKind.USER, [{"id": person.id, **nothing, "updated_at": now}])
    else:
        rows.delete(session, OwnerKind.USER, person.id)
    idempotent_calls.forget_answers(session)
    report.named["users"] = 1
    audit.record(
        session, actor=actor, action="user.erased", subject=report.user, detail={"rows": dict(report.named)}, now=now
    )


def _walk(database: Database, person: _Person, *, apply: bool) -> ErasureReport:
    report = ErasureReport(person.identity.user)
    for table in erasure.TABLES:
        after: RowKey | None = None
        while True:
            with database.read() as session:
                until = erasure.last_of_step(session, table, after)
                found = (
                    erasure.candidates(session, table, person.identity, person.id, after=after, until=until)
                    if until is not None
                    else []
                )
            for start in range(0, len(found), CHUNK):
                _erase_chunk(database, person, table, found[start : start + CHUNK], report, apply=apply)
            if until is None:
                break
            after = until
    return report


def _erase_chunk(
    database: Database, person: _Person, table: PersonalTable, keys: list[RowKey], report: ErasureReport, *, apply: bool
) -> None:
    """Scan a chunk of rows, as many as fit into one read, with no transaction open, then change them in one that finds
    them unchanged.

    Rows that changed in between are scanned again, at last within the transaction.
    """
    left, tries = keys, 0
    while left:
        with database.read() as session:
            rows_now, left_now = erasure.read_some(session, table, left)
            scanned = _Scanned(rows_now, _others(session, person, table, rows_now))
        part = ErasureReport(report.user)
        changes = _changes(person, table, scanned, part)
        if apply and changes:
            with database.write() as session:
                held = erasure.lock(session, table, [erasure.key_in(table, row) for row in rows_now])
                again = _Scanned(held, _others(session, person, table, held))
                if again != scanned:
                    tries += 1
                    if tries < TRIES:
                        continue
                    part = ErasureReport(report.user)
                    changes = _changes(person, table, again, part)
                _write(session, person, table, changes)
        report.named += part.named
        report.stays += part.stays
        left, tries = left_now, 0


@dataclass(frozen=True, slots=True)
class _Scanned:
    """Rows, and those of their connections that belong to another user."""

    rows: list[Row]
    others: set[UUID]


def _others(session: Session, person: _Person, table: PersonalTable, found: list[Row]) -> set[UUID]:
    reference = {"events": "connection_ref", "connections": "id"}.get(table.name)
    refs = {row[reference] for row in found if row[reference]} if reference is not None else set()
    return erasure.owned_by_others(session, person.id, refs)


def _write(session: Session, person: _Person, table: PersonalTable, changes: list[_Change]) -> None:
    for change in changes:
        erasure.change(session, table, change.row, change.values)
    if table.name == "events":
        _erase_results(session, person.identity, changes)


def _changes(person: _Person, table: PersonalTable, scanned: _Scanned, report: ErasureReport) -> list[_Change]:
    """The rows that name the person, with the new values of their columns."""
    identity = person.identity
    changes = []
    for row in scanned.rows:
        if table.name == "events":
            change = _event(identity, row, report, belongs_to_another=row["connection_ref"] in scanned.others)
        elif table.name == "connections":
            change = _connection(identity, row, report, belongs_to_another=row["id"] in scanned.others)
        else:
            names = [column.name for column in erasure.free_text(table)]
            change = _Change(row, {name: identity.erased_from(row[name]) for name in names})
        if change.values:
            changes.append(change)
        rest = [value for name, value in row.items() if isinstance(value, str) and name not in change.values]
        if identity.is_named_in(rest):
            report.stays[f"{KEYS}: {table.name}"] += 1
    report.named[table.name] += len(changes)
    return changes


def _event(who: Identity, row: Row, report: ErasureReport, *, belongs_to_another: bool) -> _Change:
    document, tags, body = row["document"], row["tags"], row["body"]
    in_tags = who.is_named_in(tags)
    named = in_tags or who.erased_from(document) != document or (body is not None and who.is_named_in_body(body))
    if row["state"] == EventState.RECEIVED:
        report.stays[WAITING] += named
        return _Change(row, {})
    owner = ((document or {}).get("user") or {}).get("id")
    unowned = owner is None and not belongs_to_another
    own = owner == who.user or (unowned and (named or not tags))
    if not own and not named:
        return _Change(row, {})
    values = {column.name: who.erased_from(row[column.name]) for column in erasure.free_text(erasure.EVENTS)}
    values |= {"body": None, "document": who.erased_document(document, own=own) if document else document}
    return _Change(row, values | ({"tags": {}} if own and tags else {}), own=own)


def _connection(who: Identity, row: Row, report: ErasureReport, *, belongs_to_another: bool) -> _Change:
    wanted = [row["wanted_user"], row["wanted_email"]]
    named = who.is_named_in([row["tags"], *wanted])
    report.stays[LIVING] += named and row["status"] != ConnectionStatus.DELETED
    values = {column.name: who.erased_from(row[column.name]) for column in erasure.free_text(erasure.CONNECTIONS)}
    if values["known_tags"] != row["known_tags"]:
        values["known_tags"] = None  # all of them are the person's
    if belongs_to_another or (not named and any(wanted)):
        return _Change(row, values | {name: None for name in ("wanted_user", "wanted_email") if values[name] == ERASED})
    empty: dict[str, Any] = {"tags": {}, "known_tags": None, "wanted_user": None, "wanted_email": None}
    waits = row["unlinked_reason"] is not None
    ended = {"drift": None, "owner_look_at": None, "superseded_by": None}
    return _Change(row, values | empty | ended | {"unlinked_reason": UnlinkedReason.NO_OWNER_TAGS if waits else None})


def _erase_results(session: Session, who: Identity, changes: list[_Change]) -> None:
    """Erase values in decisions, and the teams' answers, which may repeat the content of their jobs."""
    own = {change.row["id"]: change.own for change in changes}
    decisions.rewrite(session, own, lambda event_id, conditions: who.erased_conditions(conditions, own=own[event_id]))
    erasure.end_windows(session, own)
    erasure.forget_answers(session, [event_id for event_id, theirs in own.items() if theirs])
