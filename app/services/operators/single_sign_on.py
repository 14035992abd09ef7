"""Sign-in of persons at the identity provider: an account by their groups, made at the first time.

Opens its own short transactions.
"""

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from app.db import operator_sessions
from app.db import operators as rows
from app.db.engine import Database
from app.db.models import Operator
from app.db.operators import Identity
from app.domain.access import GroupRights, Rights, rights_of_groups
from app.errors import NotAllowed, NotFound
from app.openid.provider import Person
from app.services.operators import accounts, sessions
from app.services.operators.sessions import Lives, Visitor

ACTOR: Final = "openid"  # in the audit, of what follows from the provider's groups
_NOT_IN_NAMES: Final = re.compile(r"[^a-z0-9._@+-]+")


def sign_in(
    database: Database,
    person: Person,
    mapping: Sequence[GroupRights],
    *,
    visitor: Visitor,
    lives: Lives,
    now: datetime,
    former: str | None = None,
) -> str:
    """The secret of a new session, with the rights of the person's groups. Raises NotAllowed.

    A person whose groups give no rights any more is signed out everywhere.
    """
    rights = rights_of_groups(mapping, person.groups)
    identity = Identity(person.issuer, person.subject)
    with database.write() as session:
        row = rows.by_identity(session, identity)
        if rights is None and row is not None:
            operator_sessions.end_all(session, row.id)
        elif rights is not None:
            row = _account(session, row, person, rights, now=now)
            if row.disabled_at is None:
                return sessions.begin(session, row, method="oidc", visitor=visitor, lives=lives, now=now, former=former)
    if rights is None:
        raise NotAllowed("none of your groups has access to Waylink", person.groups)
    raise NotAllowed("your account is disabled in Waylink")


def _account(session: Session, row: Operator | None, person: Person, rights: Rights, *, now: datetime) -> Operator:
    """The person's account with these rights. Raises NotAllowed where their team is not there."""
    try:
        if row is None:
            identity = Identity(person.issuer, person.subject)
            return accounts.add(session, _name(session, person), rights, actor=ACTOR, now=now, identity=identity)
        if rows.rights_of(row) != rights:
            accounts.require_usable(session, rights)
            accounts.apply_rights(session, row, rights, actor=ACTOR, now=now)
    except NotFound:
        raise NotAllowed(f"the team of your group, {rights.team}, is not there") from None
    return row


def _name(session: Session, person: Person) -> str:
    """A name of the person that no other operator has."""
    shortened = _NOT_IN_NAMES.sub("-", person.name.lower()).strip("._@+-")[:80]
    name = shortened if accounts.NAME.fullmatch(shortened) else "operator"
    if rows.by_name(session, name) is None and shortened == name:
        return name
    mark = hashlib.sha256(f"{person.issuer}\0{person.subject}".encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{name}-{mark}"
