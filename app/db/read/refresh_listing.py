"""Lists of planned and past refreshes, and one of them with what comes next."""

from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import ColumnElement, Select, or_, select
from sqlalchemy.orm import Session, aliased

from app.db.models import Connection, Link, Organization, Refresh, User
from app.db.read import searching
from app.db.read.listing import between, equal
from app.db.read.searching import Page, Place
from app.db.read.shown_rows import shown_time
from app.domain.refreshing.lives import earliest
from app.domain.refreshing.renewal import OVERDUE, plan_state, why_no_plan
from app.domain.states import ConnectionStatus, RefreshOutcome, RefreshState
from app.errors import NotFound
from app.ids import CONNECTION, REFRESH, show

MOST_OWNED: Final = 2_000  # connections of an owner whose refreshes are listed

Row = tuple[Refresh, Connection, User | None, Organization | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshFilters:
    """All that is given has to hold; None is any.

    after: continues a list behind the row with this id. due: bounds of when a plan is due. deadline_before: one of the
    connection's clocks runs out before then. These two mean open plans. finished: bounds of when a refresh ended.
    search: rows that a page looks at where no index has what is asked for (`searching`); None: as many as it takes.
    """

    now: datetime
    limit: int = 50
    after: UUID | None = None
    search: int | None = None
    state: RefreshState | None = None
    outcome: str | None = None
    due_after: datetime | None = None
    due_before: datetime | None = None
    deadline_before: datetime | None = None
    finished_since: datetime | None = None
    finished_until: datetime | None = None
    environment: str | None = None
    integration: str | None = None
    connection_id: str | None = None
    provider: str | None = None
    user: str | None = None  # the owner's external id
    organization: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether only open plans are meant."""
        return (self.state is not None and self.state is not RefreshState.FINISHED) or self._bounds_plans

    @property
    def is_contradictory(self) -> bool:
        """Whether no row can be meant: past refreshes with properties of plans."""
        return self.is_open and (self.state is RefreshState.FINISHED or self.bounds_end)

    @property
    def is_indexed(self) -> bool:
        """Whether an index has what is asked for."""
        named = (self.connection_id, self.user, self.organization)
        other = (self.bounds_end, self.outcome, self.environment, self.integration, self.provider, self.deadline_before)
        return any(named) or not (any(other) or self.state in {RefreshState.PAUSED, RefreshState.FINISHED})

    @property
    def bounds_end(self) -> bool:
        """Whether only past refreshes of a time are meant."""
        return self.finished_since is not None or self.finished_until is not None

    @property
    def _bounds_plans(self) -> bool:
        return any((self.due_after, self.due_before, self.deadline_before))


def refreshes(session: Session, filters: RefreshFilters) -> Page:
    """Open plans, the first due first; past refreshes, or all, the last made first. Raises NotFound."""
    statement = equal(
        _rows(),
        (Refresh.outcome, filters.outcome),
        (Connection.environment, filters.environment),
        (Connection.integration, filters.integration),
        (Connection.connection_id, filters.connection_id),
    )
    if filters.provider is not None:
        # Of each refresh that is looked at: PostgreSQL would read all connections for those of a provider.
        of_plan = aliased(Connection)
        served = select(of_plan.provider).where(of_plan.id == Refresh.connection_ref)
        statement = statement.where(served.scalar_subquery() == filters.provider)
    if filters.user is not None or filters.organization is not None:
        statement = statement.where(Refresh.connection_ref.in_(_owned(session, filters)))
    if filters.after is not None:
        statement = statement.where(*_behind(session, filters.after, is_open=filters.is_open))
    search = None if filters.is_indexed else filters.search
    if filters.is_open:
        return _plans(session, statement, filters, search)

    def shown(bounded: Select[Any]) -> list[dict[str, Any]]:
        return [_shown(cast("Row", tuple(row)), filters.now) for row in session.execute(bounded)]

    ended = between(Refresh.finished_at, filters.finished_since, filters.finished_until)
    ended += [Refresh.finished_at.is_not(None)] if filters.state is RefreshState.FINISHED else []
    newest = statement.where(*ended).order_by(Refresh.id.desc()).limit(filters.limit)
    if any((filters.connection_id, filters.user, filters.organization)):
        rows = [row for kind in _KINDS for row in shown(newest.where(kind))]
        return Page(sorted(rows, key=itemgetter("id"), reverse=True)[: filters.limit])
    place = Place(before=filters.after, limit=filters.limit, search=search)
    return searching.page_of(session, newest, Refresh.id, REFRESH, place=place, read=shown)


def _owned(session: Session, filters: RefreshFilters) -> list[UUID]:
    """The owner's connections, the newest MOST_OWNED; read first, or PostgreSQL would read all refreshes."""
    owners = (User.external_id, filters.user), (Organization.external_id, filters.organization)
    linked = select(Link.connection_ref).outerjoin(User, User.id == Link.user_id)
    linked = equal(linked.outerjoin(Organization, Organization.id == Link.organization_id), *owners)
    newest = linked.where(Link.closed_at.is_(None)).order_by(Link.connection_ref.desc()).limit(MOST_OWNED)
    return list(session.scalars(newest))


def _plans(session: Session, statement: Select[Any], filters: RefreshFilters, search: int | None) -> Page:
    """Open plans in the order of `next_at`; `search` of them are looked at."""
    place = Refresh.next_at, Refresh.id
    wanted, end = statement.where(*_open(filters)).order_by(*place).limit(filters.limit), None
    if search is not None:
        ids = select(*place).where(Refresh.finished_at.is_(None)).order_by(*place).offset(search - 1).limit(1)
        behind = _behind(session, filters.after, is_open=True) if filters.after is not None else []
        end = session.execute(ids.where(*behind)).first()
    if end is not None:
        # The first condition is for the index, which has no ids.
        wanted = wanted.where(place[0] <= end[0], or_(place[0] < end[0], place[1] <= end[1]))
    found = Page(_shown(cast("Row", tuple(row)), filters.now) for row in session.execute(wanted))
    if end is not None and len(found) < filters.limit:
        found.searched_to = show(REFRESH, end[1])
    return found


def refresh(session: Session, refresh_id: UUID, *, now: datetime) -> dict[str, Any]:
    """One refresh, and what comes next for its connection. Raises NotFound."""
    row = session.execute(_rows().where(Refresh.id == refresh_id)).first()
    if row is None:
        raise NotFound("refresh", show(REFRESH, refresh_id))
    return _with_next(session, cast("Row", tuple(row)), now)


def latest_of(session: Session, connection_ref: UUID, *, now: datetime) -> dict[str, Any]:
    """The open plan of a connection, or else its last refresh. Raises NotFound."""
    mine = _rows().where(Refresh.connection_ref == connection_ref).order_by(Refresh.id.desc()).limit(1)
    for kind in _KINDS:
        if (row := session.execute(mine.where(kind)).first()) is not None:
            return _with_next(session, cast("Row", tuple(row)), now)
    raise NotFound("refresh of the connection", show(CONNECTION, connection_ref))


# Open plans and those that are over are read apart: each kind has an index of its own by connection.
_KINDS: Final = (Refresh.finished_at.is_(None), Refresh.finished_at.is_not(None))


def _rows() -> Select[Any]:
    statement: Any = (
        select(Refresh, Connection, User, Organization)
        .join(Connection, Connection.id == Refresh.connection_ref)
        .outerjoin(Link, (Link.connection_ref == Connection.id) & Link.closed_at.is_(None))
        .outerjoin(User, User.id == Link.user_id)
        .outerjoin(Organization, Organization.id == Link.organization_id)
    )
    return cast("Select[Any]", statement)


def _open(filters: RefreshFilters) -> list[ColumnElement[bool]]:
    """Open plans, which are claimed unless their connection is deleted."""
    found: list[ColumnElement[bool]] = [Refresh.finished_at.is_(None), Connection.status != ConnectionStatus.DELETED]
    if filters.state is RefreshState.PAUSED:
        found.append(Refresh.outcome == RefreshOutcome.PAUSED)
    elif filters.state in {RefreshState.DUE, RefreshState.OVERDUE}:
        found.append(or_(Refresh.outcome.is_(None), Refresh.outcome != RefreshOutcome.PAUSED))
    if filters.state is RefreshState.DUE:
        found.append(Refresh.next_at <= filters.now)
    if filters.state is RefreshState.OVERDUE:
        found.append(Refresh.next_at < filters.now - OVERDUE)
    if filters.due_after is not None:
        found.append(Refresh.next_at >= filters.due_after)
    if filters.due_before is not None:
        found.append(Refresh.next_at < filters.due_before)
    if (until := filters.deadline_before) is not None:
        found.append(or_(Connection.expires_at < until, Connection.grant_expires_at < until))
    return found


def _behind(session: Session, refresh_id: UUID, *, is_open: bool) -> list[ColumnElement[bool]]:
    if not is_open:
        return [Refresh.id < refresh_id]
    next_at = session.scalar(select(Refresh.next_at).where(Refresh.id == refresh_id))
    if next_at is None:
        raise NotFound("refresh", show(REFRESH, refresh_id))
    # The first condition is for the index, which has no ids.
    return [Refresh.next_at >= next_at, or_(Refresh.next_at > next_at, Refresh.id > refresh_id)]


def _with_next(session: Session, row: Row, now: datetime) -> dict[str, Any]:
    found, connection = row[0], row[1]
    plan: Refresh | None = found
    if found.finished_at is not None:
        mine = Refresh.connection_ref == connection.id, Refresh.finished_at.is_(None)
        plan = session.scalar(select(Refresh).where(*mine))
    more = {"keeps": found.keeps, "keeps_until": shown_time(found.deadline_at)}
    return _shown(row, now) | more | {"next": next_look(connection, plan, now=now)}


def connection_and_plan(session: Session, connection_ref: UUID) -> tuple[Connection, Refresh | None]:
    """The connection with its open plan. Raises NotFound."""
    with_plan = select(Connection, Refresh).outerjoin(
        Refresh, (Refresh.connection_ref == Connection.id) & Refresh.finished_at.is_(None)
    )
    row = session.execute(with_plan.where(Connection.id == connection_ref)).first()
    if row is None:
        raise NotFound("connection", show(CONNECTION, connection_ref))
    return row[0], row[1]


def next_look(connection: Connection, plan: Refresh | None, *, now: datetime) -> dict[str, Any]:
    """The next request for the connection and its reason, or the reason why there is none. plan: its open one."""
    if plan is None or connection.status == ConnectionStatus.DELETED:
        why = why_no_plan(connection.status, connection.auth_mode or "", connection.not_refreshable)
        return {"id": None, "at": None, "state": None, "forced": None, "why": why}
    state = _state(plan, now)
    is_taken = state is RefreshState.OPEN and plan.attempts > 0
    held = f"; held back: {plan.error}" if plan.outcome and plan.error else ""
    why = "a worker asks for it now, or did when it was killed" if is_taken else f"{plan.reason}{held}"
    return {
        "id": show(REFRESH, plan.id),
        "at": shown_time(plan.next_at),
        "state": state,
        "forced": plan.forced,
        "why": why,
    }


def _state(refresh: Refresh, now: datetime) -> RefreshState:
    return plan_state(next_at=refresh.next_at, finished_at=refresh.finished_at, outcome=refresh.outcome, now=now)


def _shown(row: Row, now: datetime) -> dict[str, Any]:
    refresh, connection, user, organization = row
    deadline = earliest((connection.expires_at, connection.grant_expires_at))
    return {
        "id": show(REFRESH, refresh.id),
        "connection": show(CONNECTION, connection.id),
        "environment": connection.environment,
        "integration": connection.integration,
        "connection_id": connection.connection_id,
        "provider": connection.provider,
        "user": user.external_id if user else None,
        "organization": organization.external_id if organization else None,
        "state": _state(refresh, now),
        "refresh_at": shown_time(refresh.refresh_at),
        "next_at": shown_time(refresh.next_at) if refresh.finished_at is None else None,
        "deadline_at": shown_time(deadline) if refresh.finished_at is None else None,
        "forced": refresh.forced,
        "reason": refresh.reason,
        "requested_by": refresh.requested_by,
        "attempts": refresh.attempts,
        "asked_at": shown_time(refresh.asked_at),
        "answered_at": shown_time(refresh.answered_at),
        "finished_at": shown_time(refresh.finished_at),
        "outcome": refresh.outcome,
        "error": refresh.error,
        "failures": refresh.failures,
        "previous_expires_at": shown_time(refresh.previous_expires_at),
        "expires_at": shown_time(refresh.expires_at),
        "previous_grant_expires_at": shown_time(refresh.previous_grant_expires_at),
        "grant_expires_at": shown_time(refresh.grant_expires_at),
    }
