"""The acts on many connections, each described by values."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.web.api import connection_bulk_acts
from app.web.api.connection_bulk_acts import ConnectionFilter
from app.web.api.endpoint import Endpoint
from app.web.console import connections
from app.web.console.bulk_act_pages import BulkActPage, Given, OneOf, Setting
from app.web.console.connections import PATH
from app.web.console.fields import Fields
from app.web.console.rendering import link
from app.web.console.tables import Column

FIELDS: Final = Fields(ConnectionFilter, connections.FILTERS)
_NUMBER: Final = Column("Connections", "count")


def _groups(found: Any) -> Sequence[Mapping[str, Any]]:
    return [
        {"of": each.integration, "environment": each.environment, "status": each.status, "count": each.count}
        for each in found.groups
    ]


def _samples(found: Any) -> list[tuple[str, str]]:
    return [(f"{PATH}/{each.id}", f"{each.integration} {each.connection_id}") for each in found.samples]


def _back(given: Given) -> str:
    return link(PATH, **{name: text for name, text in given.items() if name in connections.LIST_FILTERS})


def _page(
    act: str,
    endpoint: Endpoint,
    title: str,
    verb: str,
    will: str,
    *,
    settings: Sequence[Setting] = (),
    body: Any = lambda _: {},
    needs: str = "",
    is_danger: bool = False,
) -> BulkActPage:
    return BulkActPage(
        endpoint=endpoint,
        path=f"{PATH}/act",
        rows_path=PATH,
        list_name="Connections",
        title=title,
        verb=verb,
        noun="connection",
        counted_as="connection",
        fields=FIELDS,
        tell=lambda _found, _given: will,
        nothing="No connection matches.",
        samples=_samples,
        back=_back,
        fixed={"act": act},
        settings=settings,
        body=body,
        columns=(
            Column("Integration", "of"),
            Column("Environment", "environment"),
            Column("Status", "status"),
            _NUMBER,
        ),
        groups=_groups,
        needs_setting=needs,
        asks="Fill in what is to be done, and count.",
        is_danger=is_danger,
    )


_KEY: Final = Setting("tag_key", "Tag", hint="Its key, such as `plan`.")
CONNECTIONS: Final = OneOf(
    "act",
    {
        "refresh": _page(
            "refresh",
            connection_bulk_acts.refresh_connections,
            "Refresh connections",
            "Refresh",
            "will be renewed at Nango by workers, one after the other, within the request budget.",
        ),
        "add_tag": _page(
            "add_tag",
            connection_bulk_acts.add_tags_of_connections,
            "Set a tag of connections",
            "Set the tag of",
            "will get the tag at Nango, then here. Their other tags stay.",
            settings=(_KEY, Setting("tag_value", "Value")),
            body=lambda given: {"tags": {given.get("tag_key", ""): given.get("tag_value", "")}},
            needs="tag_key",
        ),
        "remove_tag": _page(
            "remove_tag",
            connection_bulk_acts.remove_tags_of_connections,
            "Remove a tag of connections",
            "Remove the tag of",
            "will lose the tag at Nango, then here. Their other tags stay.",
            settings=(_KEY,),
            body=lambda given: {"keys": [given.get("tag_key", "")]},
            needs="tag_key",
            is_danger=True,
        ),
        "unlink": _page(
            "unlink",
            connection_bulk_acts.unlink_connections,
            "Unlink connections",
            "Unlink",
            "will lose their owner here, until their tags name another. Nothing changes at Nango.",
            is_danger=True,
        ),
        "delete": _page(
            "delete",
            connection_bulk_acts.delete_connections,
            "Delete connections",
            "Delete",
            "will be deleted at Nango and closed here: this cannot be undone. Nothing is revoked at the providers.",
            is_danger=True,
        ),
    },
)
