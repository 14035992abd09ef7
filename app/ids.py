"""Sortable ids: UUIDv7 inside, `evt_0197…` outside.

The prefix names the kind of row; the 32 hex digits are the UUID in the database, so either form can be searched. Ids in
text order are in order of creation.
"""

from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import convert
from uuid_utils import uuid7

from app.errors import InvalidInput

EVENT: Final = "evt"
CONNECTION: Final = "con"
USER: Final = "usr"
ORGANIZATION: Final = "org"
LINK: Final = "lnk"
JOB: Final = "job"
REFRESH: Final = "ref"
TOKEN: Final = "tok"  # noqa: S105 - a prefix
SECRET: Final = "sec"  # noqa: S105 - a prefix
AUDIT: Final = "aud"
OPERATOR: Final = "opr"
SESSION: Final = "ses"
TEAM_LINK: Final = "tlk"
RECONCILIATION: Final = "rec"
BULK_RUN: Final = "blk"
VIEW: Final = "viw"


def new_id() -> UUID:
    """A fresh UUIDv7. Converted by msgspec: `uuid_utils.compat` takes twice as long."""
    return convert(uuid7().bytes, UUID)


def first_id(since: datetime) -> UUID:
    """A lower bound of all ids made at `since` or later (RFC 9562: they begin with the milliseconds since 1970)."""
    return UUID(int=max(int(since.timestamp() * 1000), 0) << 80)


def made_at(value: UUID) -> float:
    """Time at which an id was made, in unix seconds, to the millisecond."""
    return (value.int >> 80) / 1000


def show(prefix: str, value: UUID) -> str:
    """The public id: `show("job", …)` is `job_` and 32 hex digits."""
    return f"{prefix}_{value.hex}"


def parse(prefix: str, text: str) -> UUID:
    """The UUID of a public id; the bare hex form is accepted, too. Raises InvalidInput."""
    bare = text.strip().removeprefix(f"{prefix}_")
    try:
        return UUID(bare)
    except ValueError:
        raise InvalidInput(f"{text!r} is not an id of this kind: expected {prefix}_ and 32 hex digits") from None
