"""Users and organizations: add, change and remove. Connections that wait for a new one are linked.

Each function opens its own short transactions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db import audit, owner_locks
from app.db import connections as connection_rows
from app.db import people as rows
from app.db.connections import Appeared, ConnectionState
from app.db.engine import Database
from app.domain.linking import UnlinkedReason
from app.domain.people import Fields, OwnerKind, changed, check, required
from app.errors import AlreadyExists, FieldFault, InvalidFields, StillOwns
from app.ids import new_id, parse
from app.services.linking.connection_changes import ConnectionChanges

CHUNK: Final = 200  # rows of one transaction: short enough for SQLite, where all other writers wait meanwhile


class EntryResult(StrEnum):
    ADDED = "added"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass(slots=True)
class EntryOutcome:
    """Result of one write. `id` is None for a refused entry without a row."""

    result: EntryResult
    id: UUID | None = None
    faults: Sequence[FieldFault] = ()


@dataclass(slots=True)
class MergeResult:
    """Outcomes in the order of the entries, and the new names that connections may wait for."""

    outcomes: list[EntryOutcome] = field(default_factory=list)
    appeared: Appeared = field(default_factory=Appeared)


@dataclass(frozen=True, slots=True)
class RemovalResult:
    """`kept`: the row stays for the history of links; a new user or organization may take the external id."""

    id: UUID
    links_closed: int
    users_released: int
    kept: bool


@dataclass(slots=True)
class _State:
    """An entry during a merge, from the stored fields (`before`) to the given ones."""

    id: UUID
    before: Fields
    given: dict[str, str | None]
    outcome: EntryOutcome | None = None  # of a new one: it changes if a concurrent transaction added it first


def add(session: Session, kind: OwnerKind, fields: Mapping[str, Any], *, actor: str, now: datetime) -> MergeResult:
    """Add one. Raises InvalidFields, and AlreadyExists with the id of the row that has the external id."""
    merged = merge(session, kind, [fields], now=now, add_only=True)
    [outcome] = merged.outcomes
    if outcome.result is EntryResult.REFUSED:
        if outcome.id is not None:
            raise AlreadyExists(kind, existing=rows.shown_id(kind, outcome.id))
        raise InvalidFields(outcome.faults)
    if outcome.id is not None:
        _record(session, kind, outcome.id, "added", {"fields": sorted(fields)}, actor=actor, now=now)
    return merged


def change(
    session: Session, kind: OwnerKind, id_: UUID, fields: Mapping[str, Any], *, actor: str, now: datetime
) -> MergeResult:
    """Change the given fields of one; None clears a field. Raises NotFound, InvalidFields, AlreadyExists."""
    owner_locks.keep_owners(session)
    faults = check(kind, fields)
    organizations = _organizations(session, [fields])
    faults += _unknown_organization(fields, organizations)
    if faults:
        raise InvalidFields(faults)
    stored = rows.lock_by_id(session, kind, id_)
    changes = changed(stored.fields, fields)
    merged = MergeResult([EntryOutcome(EntryResult.CHANGED if changes else EntryResult.UNCHANGED, id_)])
    if not changes:
        return merged
    taken = rows.lock(session, kind, [fields["external_id"]]) if "external_id" in changes else {}
    if taken:
        existing = next(iter(taken.values())).id
        raise AlreadyExists(kind, existing=rows.shown_id(kind, existing))
    try:
        rows.change(session, kind, [_columns(changes, organizations) | {"id": id_, "updated_at": now}])
    except IntegrityError:
        raise AlreadyExists(kind, existing="added at this very moment") from None
    _note(merged.appeared, kind, before=stored.fields, changes=changes)
    _record(session, kind, id_, "changed", {"fields": sorted(changes)}, actor=actor, now=now)
    return merged


def merge(
    session: Session,
    kind: OwnerKind,
    entries: Sequence[Mapping[str, Any]],
    *,
    now: datetime,
    add_only: bool = False,
    dry_run: bool = False,
) -> MergeResult:
    """Add new entries and change existing ones, by external id. Never raises for an entry: a bad one is refused with
    its faults.

    add_only: an existing one is refused, with its id. dry_run: write nothing, and return what would happen.
    """
    owner_locks.keep_owners(session)
    merged = MergeResult()
    faults = [[*required(entry), *check(kind, entry)] for entry in entries]
    good = [entry for entry, wrong in zip(entries, faults, strict=True) if not wrong]
    organizations = _organizations(session, good)
    known = rows.lock(session, kind, {entry["external_id"] for entry in good})
    states = {external_id: _State(stored.id, stored.fields, {}) for external_id, stored in known.items()}
    for entry, broken in zip(entries, faults, strict=True):
        wrong = broken or _unknown_organization(entry, organizations)
        outcome = EntryOutcome(EntryResult.REFUSED, faults=wrong) if wrong else _plan(states, entry, add_only=add_only)
        merged.outcomes.append(outcome)
    if not dry_run:
        _write(session, kind, list(states.values()), organizations, now=now, add_only=add_only)
    for state in states.values():
        _note(merged.appeared, kind, before=state.before, changes=changed(state.before, state.given))
    return merged


def remove(
    database: Database,
    kind: OwnerKind,
    id_: UUID,
    *,
    force: bool,
    keep: bool = False,
    reason: str | None = None,
    actor: str,
    clock: Callable[[], datetime],
) -> RemovalResult:
    """Remove one. Raises NotFound, and StillOwns while connections or users belong to it and `force` is not given.

    With `force` the links are closed, a chunk per transaction; nothing is deleted in Nango. Past links stay. keep: the
    row stays even without references. reason: the links' close reason, else `<kind>_removed`.
    """
    closed = released = 0
    while True:
        with database.read() as session:
            owned, users = rows.open_links(session, kind, id_), rows.count_users(session, kind, id_)
            former = rows.count_users(session, kind, id_, removed=True)  # removed users are no obstacle
        if not owned and not users and not former:
            with database.write() as session:
                kept = _remove_unused(session, kind, id_, keep=keep, actor=actor, now=clock())
            if kept is not None:
                return RemovalResult(id_, closed, released, kept)
            continue
        if (owned or users) and not force:
            raise StillOwns(kind, rows.shown_id(kind, id_), links=owned, users=users)
        with database.write() as session:
            now = clock()
            rows.release_users(session, kind, id_, limit=CHUNK, removed=True)
            links = _close_links(session, kind, id_, reason=reason or f"{kind}_removed", now=now)
            gone = rows.release_users(session, kind, id_, limit=CHUNK)
            if links or gone:
                detail = {"links_closed": links, "users_released": gone}
                _record(session, kind, id_, "released", detail, actor=actor, now=now)
        closed, released = closed + links, released + gone


def _remove_unused(
    session: Session, kind: OwnerKind, id_: UUID, *, keep: bool, actor: str, now: datetime
) -> bool | None:
    """Remove one that owns nothing and has no users, and return whether its row stays; None where it got some
    meanwhile. Raises NotFound.
    """
    owner_locks.lock_owners(session)
    stored = rows.lock_by_id(session, kind, id_)
    if rows.is_in_use(session, kind, id_):
        return None
    kept = keep or rows.has_history(session, kind, id_)
    if kept:
        rows.retire(session, kind, stored, now=now)
    else:
        rows.delete(session, kind, id_)
    _record(session, kind, id_, "removed", {"history_kept": kept}, actor=actor, now=now)
    return kept


def find(session: Session, kind: OwnerKind, text: str) -> UUID:
    """Our id by public id or external id. Raises NotFound."""
    prefix = f"{rows.PREFIX[kind]}_"
    if text.startswith(prefix) and len(text) == len(prefix) + 32:
        return parse(rows.PREFIX[kind], text)
    return rows.find(session, kind, text)


def _record(
    session: Session, kind: OwnerKind, id_: UUID, done: str, detail: Mapping[str, Any], *, actor: str, now: datetime
) -> None:
    """Write the audit. It has the names of fields only, since it is kept for longer than the person may be."""
    audit.record(
        session, actor=actor, action=f"{kind}.{done}", subject=rows.shown_id(kind, id_), detail=detail, now=now
    )


def _close_links(session: Session, kind: OwnerKind, id_: UUID, *, reason: str, now: datetime) -> int:
    """Close a chunk of the owner's open links. Connections are locked first, as in all transactions."""
    owner_locks.lock_superseding(session)
    keys = rows.owned_connections(session, kind, id_, limit=CHUNK)
    changes = ConnectionChanges.load(session, connection_rows.lock(session, keys).values(), now=now)
    connections, links = {connection.id: connection for connection in changes.all()}, changes.links
    closed = 0
    for link in links.all():
        connection = connections[link.connection_ref]
        if id_ in {link.user_id, link.organization_id}:  # it may have got another owner meanwhile
            links.close(connection, reason)
            connection.unlinked_reason, connection.updated_at = _missing(connection), now
            connection.drift = connection.known_tags = None
            closed += 1
    # Connections that these had superseded wait like them.
    superseded = changes.add(connection_rows.lock_superseded(session, [link.id for link in links.ended]))
    for connection in superseded:
        connection.unlinked_reason, connection.superseded_by = _missing(connection), None
        connection.updated_at = now
    changes.write()
    return closed


def _missing(connection: ConnectionState) -> UnlinkedReason:
    """The reason why the connection is unlinked from now on."""
    if connection.wanted_user:
        return UnlinkedReason.UNKNOWN_USER
    if connection.wanted_email:
        return UnlinkedReason.UNKNOWN_EMAIL
    return UnlinkedReason.UNKNOWN_ORGANIZATION if connection.wanted_organization else UnlinkedReason.NO_OWNER_TAGS


def _plan(states: dict[str, _State], entry: Fields, *, add_only: bool) -> EntryOutcome:
    external_id = entry["external_id"] or ""
    state = states.get(external_id)
    if state is None:
        states[external_id] = state = _State(new_id(), {}, dict(entry))
        state.outcome = EntryOutcome(EntryResult.ADDED, state.id)
        return state.outcome
    if add_only:
        return EntryOutcome(EntryResult.REFUSED, state.id)
    changes = changed({**state.before, **state.given}, entry)
    state.given.update(entry)
    return EntryOutcome(EntryResult.CHANGED if changes else EntryResult.UNCHANGED, state.id)


def _write(
    session: Session,
    kind: OwnerKind,
    states: Sequence[_State],
    organizations: Mapping[str, UUID],
    *,
    now: datetime,
    add_only: bool,
) -> None:
    new = [state for state in states if not state.before]
    added = [rows.new_row(kind, now=now) | {"id": state.id} | _columns(state.given, organizations) for state in new]
    if not rows.add(session, kind, added):
        _yield_to_others(session, kind, new, add_only=add_only)
    updates = [
        _columns(changes, organizations) | {"id": state.id, "updated_at": now}
        for state in states
        if state.before and (changes := changed(state.before, state.given))
    ]
    rows.change(session, kind, updates)


def _yield_to_others(session: Session, kind: OwnerKind, new: Sequence[_State], *, add_only: bool) -> None:
    """Continue with rows that a concurrent transaction added meanwhile: the given fields change them."""
    found = rows.lock(session, kind, [str(state.given["external_id"]) for state in new])
    for state in new:
        theirs = found.get(str(state.given["external_id"]))
        if theirs is None or theirs.id == state.id or state.outcome is None:
            continue
        state.id, state.before = theirs.id, theirs.fields
        state.outcome.id = theirs.id
        if add_only:
            state.outcome.result, state.given = EntryResult.REFUSED, {}
        else:
            changes = changed(theirs.fields, state.given)
            state.outcome.result = EntryResult.CHANGED if changes else EntryResult.UNCHANGED


def _note(appeared: Appeared, kind: OwnerKind, *, before: Fields, changes: Fields) -> None:
    """Record the new names for waiting connections. An e-mail that a user gave up may identify another one again."""
    if external_id := changes.get("external_id"):
        (appeared.users if kind is OwnerKind.USER else appeared.organizations).add(external_id)
    if "email" in changes:
        appeared.emails.update(email.lower() for email in (before.get("email"), changes["email"]) if email)


def _organizations(session: Session, entries: Sequence[Mapping[str, Any]]) -> dict[str, UUID]:
    named = {entry.get("organization") for entry in entries}
    return rows.organization_ids(session, {name for name in named if isinstance(name, str)})


def _unknown_organization(fields: Mapping[str, Any], known: Mapping[str, UUID]) -> list[FieldFault]:
    name = fields.get("organization")
    if name is None or name in known:
        return []
    return [FieldFault("organization", "unknown", "names none that is here: add it first")]


def _columns(fields: Fields, organizations: Mapping[str, UUID]) -> dict[str, Any]:
    """Fields as columns, with the organization by our own id."""
    columns: dict[str, Any] = {name: value for name, value in fields.items() if name != "organization"}
    if "organization" in fields:
        name = fields["organization"]
        columns["organization_id"] = organizations[name] if name is not None else None
    return columns
