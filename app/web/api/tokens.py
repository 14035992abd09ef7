"""Endpoints for API tokens. A token is shown once, in the answer that makes it.

A caller who may not read credentials cannot make a token that may.
"""

from datetime import timedelta
from typing import Annotated, Final

from msgspec import Meta, Struct

from app.config.durations import duration
from app.db import tokens as rows
from app.domain.access import Scope
from app.errors import FieldFault, InvalidFields
from app.ids import TOKEN
from app.services import tokens
from app.web.api.endpoint import Call, Endpoint, Page, PageQuery, endpoint, page, record
from app.web.api.problems import FORBIDDEN, ApiRefusal
from app.web.api.reading import after, named_in

_NAME: Final = "A name that no other live token has."
_SCOPES: Final = "What it may do; of a team's token `operator` alone, or nothing, with which it reads."
_TEAM: Final = "For this team's own routes, destinations, events and jobs alone."
_EXPIRES: Final = "How long it lives, such as `90d`."


class NewToken(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(description=_NAME, max_length=tokens.MAX_NAME)]
    scopes: Annotated[list[Scope], Meta(description=_SCOPES, max_length=len(Scope))] = []
    team: Annotated[str | None, Meta(description=_TEAM)] = None
    expires_in: Annotated[str, Meta(description=_EXPIRES, max_length=20)] = "90d"


class TokenQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    team: Annotated[str | None, Meta(description="Of this team.")] = None
    revoked: Annotated[bool, Meta(description="Those that were revoked, too.")] = False


class TokenRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token without its secret. `last_used_at` is known to ten minutes."""

    id: str
    name: str
    scopes: list[str]
    team: str | None
    created_at: str
    expires_at: str
    expired: bool
    last_used_at: str | None
    revoked_at: str | None


class TokenMade(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`token`: the secret, shown only in this answer."""

    id: str
    name: str
    scopes: list[str]
    team: str | None
    expires_at: str
    token: str


@endpoint("GET /tokens", scope=Scope.OPERATOR)
def list_tokens(call: Call, query: TokenQuery) -> Page[TokenRow]:
    """List tokens, newest first, without their secrets, which are not stored."""
    with call.context.database.read() as session:
        found = rows.newest(
            session,
            limit=query.limit + 1,
            before=after(TOKEN, query.cursor),
            team=query.team,
            revoked=query.revoked,
        )
    now = call.context.clock()
    return page([rows.shown(row, now=now) for row in found], query.limit, TokenRow)


@endpoint("POST /tokens", scope=Scope.OPERATOR, status=201, holds_secret=True)
def add_token(call: Call, body: NewToken) -> TokenMade:
    """Make a token, shown only in this answer."""
    if Scope.CREDENTIALS in body.scopes and not call.access.allows(Scope.CREDENTIALS):
        detail = "The token is to read credentials: only a caller who may read them can make it."
        raise ApiRefusal(FORBIDDEN, detail)
    lifetime, now = _lifetime(body.expires_in), call.context.clock()
    with named_in("team"), call.context.database.write() as session:
        made = tokens.issue(
            session,
            body.name,
            scopes=set(body.scopes),
            team=body.team,
            lifetime=lifetime,
            actor=call.actor,
            now=now,
        )
    return record(made.shown, TokenMade)


@endpoint("GET /tokens/{token}", scope=Scope.OPERATOR)
def get_token(call: Call, token: str) -> TokenRow:
    """One token, by its `tok_…` id or the name of a live one."""
    with call.context.database.read() as session:
        return record(rows.shown(tokens.find(session, token), now=call.context.clock()), TokenRow)


@endpoint("DELETE /tokens/{token}", scope=Scope.OPERATOR)
def revoke_token(call: Call, token: str) -> TokenRow:
    """End a token at once, by its `tok_…` id or its name."""
    now = call.context.clock()
    with call.context.database.write() as session:
        return record(rows.shown(tokens.revoke(session, token, actor=call.actor, now=now), now=now), TokenRow)


def _lifetime(text: str) -> timedelta:
    try:
        return duration(text)
    except ValueError as wrong:
        raise InvalidFields([FieldFault("expires_in", "duration", str(wrong))]) from None


ENDPOINTS: Final[tuple[Endpoint, ...]] = (list_tokens, add_token, get_token, revoke_token)
