"""Endpoints for operators: their accounts, links and sessions.

A caller who may not read credentials cannot change operators who may: a link to one of them would be a way to it.
"""

from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, Struct, UnsetType
from sqlalchemy.orm import Session

from app.db import operator_sessions
from app.db import operators as rows
from app.db.models import Operator
from app.domain.access import Rights, Role, Scope
from app.services.operators import accounts, links
from app.web.api.endpoint import Call, Endpoint, endpoint, record
from app.web.api.problems import FORBIDDEN, ApiRefusal
from app.web.api.reading import named_in

_NAME: Final = "The name that the operator signs in with: small letters, digits and . _ @ + -."
_ROLE: Final = "`viewer` reads, `operator` also changes things, `team` reads and changes what is one team's."
_TEAM: Final = "The team, for the role `team`."
_CREDENTIALS: Final = "Whether live credentials of connections may be read."
_YES: Final = "Also where no enabled operator of the role `operator` is left."


class NewOperator(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(description=_NAME, max_length=100)]
    role: Annotated[Role, Meta(description=_ROLE)]
    team: Annotated[str | None, Meta(description=_TEAM)] = None
    credentials: Annotated[bool, Meta(description=_CREDENTIALS)] = False


class OperatorChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Members that are left out stay as they are; a role without `team` has none."""

    role: Annotated[Role, Meta(description=_ROLE)] | UnsetType = UNSET
    team: Annotated[str | None, Meta(description=_TEAM)] | UnsetType = UNSET
    credentials: Annotated[bool, Meta(description=_CREDENTIALS)] | UnsetType = UNSET
    disabled: Annotated[bool, Meta(description="Whether the operator is kept out.")] | UnsetType = UNSET


class ConsentQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    yes: Annotated[bool, Meta(description=_YES)] = False


class OperatorRecord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    name: str
    role: str
    team: str | None
    credentials: bool
    signs_in_by: str | None
    created_at: str
    signed_in_at: str | None
    disabled_at: str | None


class Operators(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    data: list[OperatorRecord]


class PasswordLink(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`path`: of the page, on Waylink's own origin, on which the operator sets a password; it works once."""

    path: str
    expires_at: str


class SessionRecord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    method: str
    address: str
    browser: str
    created_at: str
    seen_at: str
    expires_at: str


class Sessions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    data: list[SessionRecord]


class Ended(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    sessions: int


@endpoint("GET /operators", scope=Scope.OPERATOR)
def list_operators(call: Call) -> Operators:
    """List operators, by name."""
    with call.context.database.read() as session:
        return Operators(data=[_record(row) for row in rows.all_operators(session)])


@endpoint("POST /operators", scope=Scope.OPERATOR, status=201)
def add_operator(call: Call, body: NewOperator) -> OperatorRecord:
    """Add an operator, who can sign in once a link was made and a password set."""
    rights = Rights(body.role, body.team, body.credentials)
    _require_rights(call, rights)
    with named_in("team"), call.context.database.write() as session:
        return _record(accounts.add(session, body.name, rights, actor=call.actor, now=call.context.clock()))


@endpoint("GET /operators/{name}", scope=Scope.OPERATOR)
def get_operator(call: Call, name: str) -> OperatorRecord:
    """One operator, by name or `opr_…` id."""
    with call.context.database.read() as session:
        return _record(accounts.find(session, name))


@endpoint("PATCH /operators/{name}", scope=Scope.OPERATOR)
def change_operator(call: Call, name: str, query: ConsentQuery, body: OperatorChange) -> OperatorRecord:
    """Change an operator's rights, disable or enable them. Other rights and a disabling end all sessions."""
    now = call.context.clock()
    with call.context.database.write() as session:
        row = _own(call, session, name)
        rights = _changed(rows.rights_of(row), body)
        _require_rights(call, rights)
        if rights != rows.rights_of(row):
            with named_in("team"):
                accounts.change_rights(session, row, rights, actor=call.actor, now=now, yes=query.yes)
        if body.disabled is True:
            accounts.disable(session, row, actor=call.actor, now=now, yes=query.yes)
        elif body.disabled is False:
            accounts.enable(session, row, actor=call.actor, now=now)
        return _record(row)


@endpoint("DELETE /operators/{name}", scope=Scope.OPERATOR)
def remove_operator(call: Call, name: str, query: ConsentQuery) -> None:
    """Remove an operator, with all sessions; the audit keeps the name."""
    with call.context.database.write() as session:
        row = _own(call, session, name)
        accounts.remove(session, row, actor=call.actor, now=call.context.clock(), yes=query.yes)


@endpoint("POST /operators/{name}/link", scope=Scope.OPERATOR, status=201, holds_secret=True)
def make_operator_link(call: Call, name: str) -> PasswordLink:
    """Make a link with which the operator sets a password, once, within a day. A former one ends."""
    now = call.context.clock()
    with call.context.database.write() as session:
        secret = links.issue(session, _own(call, session, name), actor=call.actor, now=now)
    expires_at = (now + links.LIFE).isoformat(timespec="seconds")
    return PasswordLink(path=f"{links.PATH}/{secret}", expires_at=expires_at)


@endpoint("GET /operators/{name}/sessions", scope=Scope.OPERATOR)
def list_operator_sessions(call: Call, name: str) -> Sessions:
    """List the browsers in which an operator is signed in, newest first."""
    with call.context.database.read() as session:
        found = operator_sessions.of_operator(session, accounts.find(session, name).id)
    return Sessions(data=[record(operator_sessions.shown(row), SessionRecord) for row in found])


@endpoint("DELETE /operators/{name}/sessions", scope=Scope.OPERATOR)
def sign_operator_out(call: Call, name: str) -> Ended:
    """Sign an operator out of all browsers."""
    with call.context.database.write() as session:
        row = accounts.find(session, name)
        return Ended(sessions=accounts.sign_out(session, row, actor=call.actor, now=call.context.clock()))


def _own(call: Call, session: Session, name: str) -> Operator:
    """An operator that the caller may change. Raises NotFound, Refusal."""
    row = accounts.find(session, name)
    _require_rights(call, rows.rights_of(row))
    return row


def _require_rights(call: Call, rights: Rights) -> None:
    if rights.credentials and not call.access.allows(Scope.CREDENTIALS):
        detail = "The operator may read credentials, or is to: only a caller who may read them can change that."
        raise ApiRefusal(FORBIDDEN, detail)


def _changed(rights: Rights, body: OperatorChange) -> Rights:
    role = rights.role if body.role is UNSET else body.role
    kept = rights.team if role is rights.role else None
    team = kept if body.team is UNSET else body.team
    return Rights(role, team, rights.credentials if body.credentials is UNSET else body.credentials)


def _record(row: Operator) -> OperatorRecord:
    shown: dict[str, Any] = rows.shown(row)
    return record(shown, OperatorRecord)


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    list_operators,
    add_operator,
    get_operator,
    change_operator,
    remove_operator,
    make_operator_link,
    list_operator_sessions,
    sign_operator_out,
)
