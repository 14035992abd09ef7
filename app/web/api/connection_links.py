"""Endpoints for the link between a connection and its owner: explained, closed, decided anew."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from app.domain.access import Scope
from app.ids import CONNECTION, show
from app.services.linking import by_hand, explaining
from app.web.api.endpoint import Call, Endpoint, endpoint
from app.web.api.reading import identity


class LinkExplanation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The explanation of a link, or of its absence. `cause`: an unlinked reason, a drift, or `linked`,
    `linked_to_organization`, `deleted`, `waiting_for_nango`, `refused`, `no_auth_event`, `linked_soon`. `repairs`: what
    would change it, with commands between backticks.
    """

    connection: str
    linked: bool
    cause: str
    why: str
    repairs: list[str]


class Unlinking(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    reason: Annotated[str, Meta(min_length=1, max_length=500, description="Why, for the audit.")] | None = None


class Relinking(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`linked`: it has a link now. `changed`: it had none, or another owner's. `reason`: why it has none. `asked`: the
    application's database decides, and is asked within seconds.
    """

    connection: str
    linked: bool
    changed: bool
    reason: str | None
    asked: bool


@endpoint("GET /connections/{con_id}/explain", scope=Scope.VIEWER)
def explain_connection(call: Call, con_id: str) -> LinkExplanation:
    """Explain why a connection is linked or not, and what repairs it. Nango is not asked."""
    ref = identity(CONNECTION, con_id)
    with call.context.database.read() as session:
        found = explaining.explain(session, ref, call.context.policy)
    return LinkExplanation(
        connection=show(CONNECTION, ref),
        linked=found.linked,
        cause=found.cause,
        why=found.why,
        repairs=list(found.repairs),
    )


@endpoint("POST /connections/{con_id}/unlink", scope=Scope.OPERATOR)
def unlink_connection(call: Call, con_id: str, body: Unlinking) -> LinkExplanation:
    """Close the link of a connection, which stays unlinked until its tags name another owner or it is linked again.

    Nothing changes at Nango, and no event is routed. Without a link this is a 409.
    """
    context = call.context
    by_hand.unlink(
        context.database,
        context.routes,
        context.policy,
        identity(CONNECTION, con_id),
        reason=body.reason,
        actor=call.actor,
        clock=context.clock,
    )
    answer: LinkExplanation = explain_connection.run(call, con_id)
    return answer


@endpoint("POST /connections/{con_id}/relink", scope=Scope.OPERATOR)
def relink_connection(call: Call, con_id: str) -> Relinking:
    """Decide the owner of a connection anew by its stored tags, and link it, a held change of the owner included.

    Tags that name no owner are a 409. Nango is not asked.
    """
    context = call.context
    ref = identity(CONNECTION, con_id)
    done = by_hand.relink(context.database, context.routes, context.policy, ref, actor=call.actor, clock=context.clock)
    return Relinking(
        connection=show(CONNECTION, ref),
        linked=done.linked,
        changed=done.changed,
        reason=done.reason,
        asked=done.asked,
    )


ENDPOINTS: Final[tuple[Endpoint, ...]] = (explain_connection, unlink_connection, relink_connection)
