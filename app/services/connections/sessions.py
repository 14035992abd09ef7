"""Connect sessions: what an application hands to an end user. A reconnect never loses the tags."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.domain import tags as tag_rules
from app.domain.json_values import JsonObject
from app.domain.linking import TagKeys, put_back
from app.errors import FieldFault, InvalidFields
from app.nango.types import ConnectSession
from app.services.connections.operations import Desk, read, remaining, require_not_deleted, require_same
from app.services.connections.tag_snapshots import known


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom a connection will belong to, in the application's own ids; the tags for it are filled in."""

    user_id: str | None = None
    user_email: str | None = None
    user_name: str | None = None
    organization_id: str | None = None
    organization_name: str | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """What Nango takes beside the tags; see its documentation."""

    integrations_config_defaults: JsonObject | None = None
    overrides: JsonObject | None = None
    webhook_url_override: str | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """A session, which is a secret until it expires, and the tags its connections get."""

    token: str
    connect_link: str
    expires_at: datetime | None  # None where Nango's answer does not tell it
    tags: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Opened(secret hidden, expires_at={self.expires_at})"


def connect(
    desk: Desk,
    environment: str,
    *,
    tags: Mapping[str, str],
    owner: Owner,
    allowed_integrations: Sequence[str],
    options: Options,
    actor: str,
) -> Opened:
    """Open a session for new connections. Raises InvalidTags and InvalidFields before Nango is asked, NangoError."""
    wanted = with_owner(tags, owner, desk.policy.tag_keys)
    client = desk.client(environment)
    detail = {"keys": sorted(wanted), "integrations": list(allowed_integrations)}
    with desk.audited(actor=actor, action="session.created", subject=environment, **detail):
        made = client.create_connect_session(
            tags=wanted,
            allowed_integrations=allowed_integrations,
            integrations_config_defaults=options.integrations_config_defaults,
            overrides=options.overrides,
            webhook_url_override=options.webhook_url_override,
            timeout=remaining(desk.ends_at()),
        )
    return _opened(made, wanted)


def reconnect(
    desk: Desk, connection_ref: UUID, *, tags: Mapping[str, str] | None, options: Options, actor: str
) -> Opened:
    """Open a session to authorize a connection again. Without `tags` it keeps those it has.

    In a drift it gets those back that carried its link.

    Nango takes a session's tags for the connection's, and one without any wipes them (Nango contract: Tag replacement):
    they are always sent. Raises what `connect` raises, NotFound and Conflict.
    """
    subject = desk.subject(connection_ref)
    require_not_deleted(subject)
    given = tag_rules.normalize(tags) if tags is not None else None
    client, ends_at = desk.client(subject.environment), desk.ends_at()
    with desk.audited(actor=actor, action="session.recreated", subject=subject.shown) as act:
        if given is None:
            seen = read(client, subject, ends_at=ends_at)
            require_same(subject, seen)
            # The list lags: where only that can be read, what is known here is the better answer.
            given = dict(seen.view.tags if seen.exact else known(desk, subject).tags or seen.view.tags)
            if subject.known_tags is not None:
                given = put_back(subject.known_tags, given, desk.policy.tag_keys)
        act.detail["keys"] = sorted(given)
        made = client.create_reconnect_session(
            subject.integration,
            subject.connection_id,
            tags=given,
            integrations_config_defaults=options.integrations_config_defaults,
            overrides=options.overrides,
            webhook_url_override=options.webhook_url_override,
            timeout=remaining(ends_at),
        )
    return _opened(made, given)


def with_owner(tags: Mapping[str, str], owner: Owner, keys: TagKeys) -> dict[str, str]:
    """The tags with those that name the owner. Raises InvalidTags, InvalidFields where both name one and differ."""
    named = {
        keys.user_id: owner.user_id,
        keys.user_email: owner.user_email,
        keys.user_name: owner.user_name,
        keys.organization_id: owner.organization_id,
        keys.organization_name: owner.organization_name,
    }
    filled = {key: value for key, value in named.items() if value is not None}
    given = {key.lower(): value for key, value in tag_rules.normalize(tags).items()}
    faults = [
        FieldFault(f"tags.{key}", "contradiction", "the tag and the owner that was given differ: give one of them")
        for key in sorted(filled.keys() & given.keys())
        if filled[key] != given[key]
    ]
    if faults:
        raise InvalidFields(faults)
    return tag_rules.normalize(given | filled)


def _opened(made: ConnectSession, tags: Mapping[str, str]) -> Opened:
    return Opened(made.token, made.connect_link, made.expires_at, tags)
