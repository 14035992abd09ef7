"""Acts on a connection: its credentials, tags, metadata, link, and its end."""

import json
from collections.abc import Mapping
from typing import Any, Final

from app.errors import FieldFault, InvalidFields
from app.web.api import connection_edits, connection_links, connections
from app.web.console.act_pages import REASON, Act, Field, Form, Parts, Told, json_of
from app.web.console.calling import ask
from app.web.console.connections import PATH, person_of
from app.web.console.serving import ConsoleContext, Visit
from app.wording import counted


def _back(parts: Parts) -> str:
    return f"{PATH}/{parts['con_id']}"


def _about(found: Any, person: Mapping[str, str | None]) -> dict[str, Any]:
    """The facts by which an operator recognizes the connection."""
    return {
        "Connection": found.connection_id,
        "Integration": found.integration,
        "Environment": found.environment,
        "End user": person["name"] or person["email"],
        "User": found.user,
        "Organization": found.organization,
        "Status": found.status,
    }


def _telling(*sentences: str, fields: tuple[Field, ...] = ()) -> Any:
    """A page with these sentences, beside the facts of the connection."""

    async def tell(context: ConsoleContext, visit: Visit, parts: Parts) -> Told:
        found = await ask(context, visit, connections.get_connection, con_id=parts["con_id"])
        person = person_of(found.tags, context.api.policy.tag_keys)
        return Told(sentences, _about(found, person), fields)

    return tell


async def _tell_tags(context: ConsoleContext, visit: Visit, parts: Parts) -> Told:
    found = await ask(context, visit, connections.get_connection, con_id=parts["con_id"])
    lines = "\n".join(f"{key}={value}" for key, value in sorted(found.tags.items()))
    told = "Nango writes only the whole set: what is not in the field goes. Record and link follow within seconds."
    field = Field("tags", "Tags", "One `key=value` a line.", kind="long", value=lines, required=False)
    return Told((told,), _about(found, person_of(found.tags, context.api.policy.tag_keys)), (field,))


async def _tell_removal(context: ConsoleContext, visit: Visit, parts: Parts) -> Told:
    found = await ask(context, visit, connections.get_connection, con_id=parts["con_id"])
    fields = (Field("key", "Tag", choices=sorted(found.tags)),) if found.tags else ()
    told = "The tag goes at Nango, then here." if found.tags else "The connection has no tags."
    return Told((told,), {"Connection": found.connection_id, "Tags": found.tags}, fields, possible=bool(found.tags))


async def _tell_metadata(context: ConsoleContext, visit: Visit, parts: Parts) -> Told:
    found = await ask(context, visit, connection_edits.get_metadata, con_id=parts["con_id"])
    text = json.dumps(found.metadata, indent=2, ensure_ascii=False)
    told = "The metadata is at Nango alone; Waylink does not store it. The object in the field replaces all of it."
    field = Field("metadata", "Metadata", "A JSON object.", kind="long", value=text)
    return Told((told,), fields=(field,))


def _tags_body(form: Form) -> dict[str, Any]:
    """Raises InvalidFields for a line that is no pair."""
    tags: dict[str, str] = {}
    for number, line in enumerate(form.get("tags", "").splitlines(), start=1):
        if not line.strip():
            continue
        key, equals, value = line.partition("=")
        if not equals or key.strip() in tags:
            what = "is there twice" if equals else "has no `=`"
            raise InvalidFields([FieldFault("tags", "pairs", f"line {number}: the tag {what}")])
        tags[key.strip()] = value.strip()
    return {"tags": tags}


def _metadata_body(form: Form) -> dict[str, Any]:
    """Raises InvalidFields where the text is no JSON object."""
    found = json_of(form, "metadata")
    if not isinstance(found, dict):
        raise InvalidFields([FieldFault("metadata", "object", "is not a JSON object")])
    return {"metadata": found}


def _reason(form: Form) -> dict[str, Any]:
    """Raises InvalidFields without a reason."""
    reason = form.get("reason", "").strip()
    if not reason:
        raise InvalidFields([FieldFault("reason", "required", "is missing")])
    return {"reason": reason}


def whole_number(form: Form, name: str) -> int:
    """The number of a field. Raises InvalidFields."""
    text = form.get(name, "").strip()
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InvalidFields([FieldFault(name, "number", "is not a whole number")])
    return int(text)


_FORCE: Final = Field(
    "force",
    "Also where the token is not due",
    "The provider issues another one, whatever the expiry.",
    "check",
    "true",
)


async def _tell_supersede(context: ConsoleContext, visit: Visit, _parts: Parts) -> Told:
    found = await ask(context, visit, connection_links.supersede_connections, body={"dry_run": True})
    if not found.count:
        told = "There is nothing to close: no owner has several linked connections where the policy is `supersede`."
        return Told((told,), possible=False)
    what = f"{counted(found.count, 'link')} of {counted(found.owners, 'owner')} will be closed: {_EACH}"
    expected = Field("expected", "Links to close", "Refused where there are more by then.", value=str(found.count))
    return Told((what,), {"By integration": found.links}, (expected, REASON))


_EACH: Final = "each owner keeps the newest connection to an integration. Nothing is deleted at Nango."

ACTS: Final[Mapping[str, Act]] = {
    f"{PATH}/supersede": Act(
        connection_links.supersede_connections,
        "Close older links of the same owners",
        "Close the older links",
        _tell_supersede,
        lambda _: f"{PATH}?duplicates=true",
        "links_superseded",
        body=lambda form: {"expected": whole_number(form, "expected"), **_reason(form)},
        is_danger=True,
        count="count",
    ),
    f"{PATH}/{{con_id}}/refresh": Act(
        connections.refresh_connection,
        "Refresh the credentials",
        "Refresh now",
        _telling("Nango renews the credentials of this connection. They are not shown.", fields=(_FORCE,)),
        _back,
        "connection_refreshed",
        query=lambda form: {"force": form.get("force", "false")},
    ),
    f"{PATH}/{{con_id}}/tags": Act(
        connection_edits.set_tags, "Change the tags", "Set the tags", _tell_tags, _back, "tags_set", body=_tags_body
    ),
    f"{PATH}/{{con_id}}/tags/add": Act(
        connection_edits.put_tag,
        "Add or change a tag",
        "Set the tag",
        _telling("The other tags stay as they are.", fields=(Field("key", "Tag"), Field("value", "Value"))),
        _back,
        "tags_set",
        body=lambda form: {"value": form.get("value", "")},
        parts=lambda form: {"key": form.get("key", "")},
    ),
    f"{PATH}/{{con_id}}/tags/remove": Act(
        connection_edits.remove_tag,
        "Remove a tag",
        "Remove the tag",
        _tell_removal,
        _back,
        "tags_set",
        parts=lambda form: {"key": form.get("key", "")},
        is_danger=True,
    ),
    f"{PATH}/{{con_id}}/tags/restore": Act(
        connection_edits.restore_tags,
        "Put the tags back",
        "Put the tags back",
        _telling("The tags that carried the link are written to Nango again. Tags that name no owner stay."),
        _back,
        "tags_set",
    ),
    f"{PATH}/{{con_id}}/metadata": Act(
        connection_edits.set_metadata,
        "Metadata",
        "Replace the metadata",
        _tell_metadata,
        _back,
        "metadata_set",
        body=_metadata_body,
    ),
    f"{PATH}/{{con_id}}/reconnect": Act(
        connection_edits.create_reconnect_session,
        "Make a reconnect link",
        "Make the link",
        _telling("With the link the end user authorizes the connection again. It is shown once, and kept nowhere."),
        _back,
        once=lambda answer: (
            ("Link for the end user", answer.connect_link),
            ("Works until", answer.expires_at or "Nango did not say"),
            ("Tags that it sets", ", ".join(sorted(answer.tags)) or "none"),
        ),
    ),
    f"{PATH}/{{con_id}}/relink": Act(
        connection_links.relink_connection,
        "Link it again",
        "Decide the owner anew",
        _telling("The owner is decided anew by the stored tags, a held change included. Nango is not asked."),
        _back,
        "connection_relinked",
    ),
    f"{PATH}/{{con_id}}/unlink": Act(
        connection_links.unlink_connection,
        "Unlink the connection",
        "Close the link",
        _telling(
            "The link is closed, and stays so until the tags name another owner or it is linked again.",
            "Nothing changes at Nango, and no event tells teams of it.",
            fields=(REASON,),
        ),
        _back,
        "connection_unlinked",
        body=_reason,
        is_danger=True,
    ),
    f"{PATH}/{{con_id}}/delete": Act(
        connections.delete_connection,
        "Delete the connection",
        "Delete 1 connection, at Nango too",
        _telling(
            "The connection is deleted at Nango and closed here: this cannot be undone.",
            "Nothing is revoked at the provider. Teams are told by `connection.deleted`.",
            fields=(REASON,),
        ),
        _back,
        "connection_deleted",
        query=_reason,
        is_danger=True,
    ),
}
