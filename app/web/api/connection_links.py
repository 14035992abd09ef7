"""Endpoints for links between connections and owners: explained, closed, decided anew."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from app.domain.access import Scope
from app.ids import CONNECTION, show
from app.services.linking import by_hand, explaining, supersede_existing
from app.web.api.endpoint import Call, Endpoint, endpoint
from app.web.api.expected import require_expected
from app.web.api.problems import INVALID_INPUT
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


class SupersedeWanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    dry_run: Annotated[bool, Meta(description="Count, and change nothing.")] = False
    expected: Annotated[int, Meta(ge=0, description="The `count` of the dry run: more by now is a 409.")] | None = None
    reason: Annotated[str, Meta(min_length=1, max_length=500, description="Why, for the audit.")] | None = None


class Superseded(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`count` links of `owners` are closed, or would be; `links`: by integration."""

    dry_run: bool
    owners: int
    count: int
    links: dict[str, int]


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


@endpoint("POST /connections/supersede", scope=Scope.OPERATOR, problems=(INVALID_INPUT,))
def supersede_connections(call: Call, body: SupersedeWanted) -> Superseded:
    """Close the older links of owners with several connections, where the duplicates policy is `supersede`.

    It is tried with `dry_run` first; the call that follows repeats its `count` in `expected`. Nothing is deleted in
    Nango. Without such a policy there is nothing to close, and a call that is no dry run is a 422.
    """
    context = call.context
    if body.dry_run and not context.policy.supersedes_any:
        return Superseded(dry_run=True, owners=0, count=0, links={})
    found = supersede_existing.count(context.database, context.policy)
    if not body.dry_run:
        require_expected(found.links.total(), body.expected, noun="link")
        found = supersede_existing.supersede(
            context.database,
            context.policy,
            context.routes,
            reason=body.reason,
            actor=call.actor,
            clock=context.clock,
        )
    return Superseded(
        dry_run=body.dry_run, owners=found.owners, count=found.links.total(), links=dict(sorted(found.links.items()))
    )


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    explain_connection,
    unlink_connection,
    relink_connection,
    supersede_connections,
)
