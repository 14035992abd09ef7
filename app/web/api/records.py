"""Read-only lists: what was done, received, concluded and handed over."""

from typing import Annotated, Final

from msgspec import Meta

from app.db import audit, listing
from app.db.audit import AuditFilters
from app.domain.access import Scope
from app.ids import AUDIT
from app.web.api.endpoint import Call, Endpoint, Page, PageQuery, endpoint, page
from app.web.api.reading import after
from app.web.api.shapes import AuditEntry


class AuditQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    actor: Annotated[str | None, Meta(description="By this one, such as `token:deploy` or `cli:root`.")] = None
    action: Annotated[str | None, Meta(description="Of this kind, such as `token.created`.")] = None
    subject: Annotated[str | None, Meta(description="On what has this id.")] = None


@endpoint("GET /audit", scope=Scope.OPERATOR)
def list_audit(call: Call, query: AuditQuery) -> Page[AuditEntry]:
    """List who did what through Waylink, newest first."""
    filters = AuditFilters(
        limit=query.limit + 1,
        before=after(AUDIT, query.cursor),
        actor=query.actor,
        action=query.action,
        subject=query.subject,
    )
    with call.context.database.read() as session:
        rows = [listing.audited(one) for one in audit.newest(session, filters)]
    return page(rows, query.limit, AuditEntry)


ENDPOINTS: Final[tuple[Endpoint, ...]] = (list_audit,)
