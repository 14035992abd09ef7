"""Take a person out of everything that is stored: say first what names them, then remove it, then say what stays.

Opens short transactions, one per chunk of rows.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import audit, erasure
from app.db import people as rows
from app.db.engine import Database
from app.db.erasure import PersonalTable, Row, RowKey
from app.domain.erasing import ERASED, Identity
from app.domain.linking import UnlinkedReason
from app.domain.people import Kind
from app.domain.states import ConnectionStatus, EventState
from app.errors import StillOwns
from app.ids import USER, show
from app.services.people import records

CHUNK: Final = 100  # rows of one transaction at most
TRIES: Final = 5  # of rows that others change meanwhile
WAITING: Final = "events not processed yet: run this again once they are"
LIVING: Final = "connections that live on in Nango, whose tags still name them: the next event brings them back"
KEYS: Final = "names in keys, such as a connection's id in Nango, which cannot be changed"

AGAIN: Final = "rows written meanwhile: run this again"


@dataclass(slots=True)
class Report:
    """`named`: rows by table that name the person, or that are about a connection of theirs alone; by an erasure all
    of them are changed. `stays`: what is left, and why."""

    user: str
    named: Counter[str] = field(default_factory=Counter)
    links_closed: int = 0
    stays: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Person:
    id: UUID
    identity: Identity


class _Change:
    """A row and those of its columns that become something else. `own`: an event of theirs alone."""

    def __init__(self, row: Row, values: Mapping[str, Any], *, own: bool = False) -> None:
        self.row, self.own = row, own
        self.values = {name: value for name, value in values.items() if value != row[name]}


def preview(database: Database, user_id: UUID) -> Report:
    """Count what names the user; nothing is changed. Raises NotFound."""
    with database.read() as session:
        person, _ = _find(session, user_id)
    return _walk(database, person, apply=False)


def erase(database: Database, user_id: UUID, *, force: bool, actor: str, clock: Callable[[], datetime]) -> Report:
    """Remove the user with all that names them, a chunk per transaction. Broken off, it is simply run again.

    Raises NotFound, and StillOwns while connections of theirs live in Nango and `force` is not given: their tags would
    come back with the next event.
    """
    with database.read() as session:
        person, removed = _find(session, user_id)
        living = rows.open_links(session, Kind.USER, user_id)
    if living and not force:
        raise StillOwns(Kind.USER, show(USER, user_id), links=living)
    closed = 0
    if not removed:
        closed = records.remove(
            database, Kind.USER, user_id, force=True, keep=True, reason="erased", actor=actor, clock=clock
        ).links_closed
    report = _walk(database, person, apply=True)
    report.links_closed = closed
    with database.write() as session:
        _blank(session, person, report, actor=actor, now=clock())
    left = _walk(database, person, apply=False)
    report.stays |= left.stays | Counter({f"{AGAIN}: {table}": count for table, count in left.named.items()})
    return report


def _find(session: Session, user_id: UUID) -> tuple[_Person, bool]:
    one = rows.get(session, Kind.USER, user_id)
    email = one["email"]
    # An address that several have names nobody: the others' data stays theirs.
    own = email if email and not erasure.shares_email(session, user_id, email) else None
    return _Person(user_id, Identity(show(USER, user_id), one["external_id"], own)), one["removed_at"] is not None


def _blank(session: Session, person: _Person, report: Report, *, actor: str, now: datetime) -> None:
    """The row itself goes, or stays without a name for the links that refer to it."""
    if rows.has_history(session, Kind.USER, person.id):
        nothing = {"email": None, "display_name": None, "former_external_id": None}
        rows.change(session, Kind.USER, [{"id": person.id, **nothing, "updated_at": now}])
    else:
        rows.delete(session, Kind.USER, person.id)
    report.named["users"] = 1
    audit.record(
        session, actor=actor, action="user.erased", subject=report.user, detail={"rows": dict(report.named)}, now=now
    )


def _walk(database: Database, person: _Person, *, apply: bool) -> Report:
    report = Report(person.identity.user)
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
                _take(database, person, table, found[start : start + CHUNK], report, apply=apply)
            if until is None:
                break
            after = until
    return report


def _take(
    database: Database, person: _Person, table: PersonalTable, keys: list[RowKey], report: Report, *, apply: bool
) -> None:
    """A chunk of rows, as many as fit into one read: looked through with no transaction open, then changed in one that
    finds them as they were. What changed in between is looked at once more, at last within the transaction.
    """
    left, tries = keys, 0
    while left:
        with database.read() as session:
            rows_now, left_now = erasure.read_some(session, table, left)
            looked = _Looked(rows_now, _others(session, person, table, rows_now))
        part = Report(report.user)
        changes = _changes(person, table, looked, part)
        if apply and changes:
            with database.write() as session:
                held = erasure.lock(session, table, [erasure.key_in(table, row) for row in rows_now])
                again = _Looked(held, _others(session, person, table, held))
                if again != looked:
                    tries += 1
                    if tries < TRIES:
                        continue
                    part = Report(report.user)
                    changes = _changes(person, table, again, part)
                _write(session, person, table, changes)
        report.named += part.named
        report.stays += part.stays
        left, tries = left_now, 0


@dataclass(frozen=True, slots=True)
class _Looked:
    """Rows, and of their connections those that belong to another user."""

    rows: list[Row]
    others: set[UUID]


def _others(session: Session, person: _Person, table: PersonalTable, found: list[Row]) -> set[UUID]:
    reference = {"events": "connection_ref", "connections": "id"}.get(table.name)
    refs = {row[reference] for row in found if row[reference]} if reference is not None else set()
    return erasure.owned_by_others(session, person.id, refs)


def _write(session: Session, person: _Person, table: PersonalTable, changes: list[_Change]) -> None:
    for one in changes:
        erasure.change(session, table, one.row, one.values)
    if table.name == "events":
        _erase_what_came_of(session, person.identity, changes)


def _changes(person: _Person, table: PersonalTable, looked: _Looked, report: Report) -> list[_Change]:
    """Each row that names them, with the columns as they become."""
    who = person.identity
    changes = []
    for row in looked.rows:
        if table.name == "events":
            one = _event(who, row, report, belongs_to_another=row["connection_ref"] in looked.others)
        elif table.name == "connections":
            one = _connection(who, row, report, belongs_to_another=row["id"] in looked.others)
        else:
            one = _Change(row, {name.name: who.erased_from(row[name.name]) for name in erasure.free_text(table)})
        if one.values:
            changes.append(one)
        if who.is_named_in([value for name, value in row.items() if isinstance(value, str) and name not in one.values]):
            report.stays[f"{KEYS}: {table.name}"] += 1
    report.named[table.name] += len(changes)
    return changes


def _event(who: Identity, row: Row, report: Report, *, belongs_to_another: bool) -> _Change:
    document, tags, body = row["document"], row["tags"], row["body"]
    in_tags = who.is_named_in(tags)
    named = in_tags or who.erased_from(document) != document or (body is not None and who.is_named_in_body(body))
    if row["state"] == EventState.RECEIVED:
        report.stays[WAITING] += named
        return _Change(row, {})
    owner = ((document or {}).get("user") or {}).get("id")
    nobodys = owner is None and not belongs_to_another
    own = owner == who.user or (nobodys and (named or not tags))
    if not own and not named:
        return _Change(row, {})
    values = {column.name: who.erased_from(row[column.name]) for column in erasure.free_text(erasure.EVENTS)}
    values |= {"body": None, "document": who.erased_document(document, own=own) if document else document}
    return _Change(row, values | ({"tags": {}} if own and tags else {}), own=own)


def _connection(who: Identity, row: Row, report: Report, *, belongs_to_another: bool) -> _Change:
    wanted = [row["wanted_user"], row["wanted_email"]]
    named = who.is_named_in([row["tags"], *wanted])
    report.stays[LIVING] += named and row["status"] != ConnectionStatus.DELETED
    values = {column.name: who.erased_from(row[column.name]) for column in erasure.free_text(erasure.CONNECTIONS)}
    if values["known_tags"] != row["known_tags"]:
        values["known_tags"] = None  # all of them are the person's, the name too
    if belongs_to_another or (not named and any(wanted)):
        return _Change(row, values | {name: None for name in ("wanted_user", "wanted_email") if values[name] == ERASED})
    nobody: dict[str, Any] = {"tags": {}, "known_tags": None, "wanted_user": None, "wanted_email": None}
    waits = row["unlinked_reason"] is not None
    ended = {"drift": None, "owner_look_at": None, "superseded_by": None}
    return _Change(row, values | nobody | ended | {"unlinked_reason": UnlinkedReason.NO_OWNER_TAGS if waits else None})


def _erase_what_came_of(session: Session, who: Identity, changes: list[_Change]) -> None:
    """Decisions tell of values, and teams may have answered with what they were sent."""
    own = {one.row["id"]: one.own for one in changes}
    for decision in erasure.decisions_of(session, own):
        conditions = who.erased_conditions(decision["conditions"], own=own[decision["event_id"]])
        erasure.change(session, erasure.DECISIONS, decision, {"conditions": conditions})
    erasure.end_windows(session, own)
    erasure.forget_answers(session, [event_id for event_id, theirs in own.items() if theirs])
