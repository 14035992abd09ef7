"""What the API takes and answers, as types; where a listing of the command has the same rows, so do these."""

from typing import Any

from msgspec import Struct


class AuditEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who did what, and what came of it. `begun`: Nango was to be asked, and nobody knows how that ended."""

    id: str
    at: str
    actor: str
    action: str
    subject: str
    outcome: str
    detail: dict[str, Any]
