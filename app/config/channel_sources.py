"""Channels of notifications as waylink.toml has them, with their secrets from variables and files.

A secret that is missing stops no process: the channel has a fault, which the status shows.
"""

from collections.abc import Mapping
from typing import Final

from app.config.notify_entries import ChannelEntry, NotifyEntry
from app.config.secret_sources import configured_secret
from app.domain.addresses import Network
from app.domain.definitions import wrong_url
from app.domain.notifying import Channel, ChannelKind, Endpoint, Mailbox, Rules
from app.domain.standard_webhooks import read_secret
from app.errors import InvalidInput, Problem

_PORTS: Final = range(1, 65536)


def channels_of(entry: NotifyEntry, environ: Mapping[str, str], *, allowed: tuple[Network, ...] = ()) -> list[Channel]:
    """The channels in the order of their names. allowed: private networks that endpoints may be in."""
    return [_channel(name, found, environ, allowed) for name, found in sorted(entry.channels.items())]


def _channel(name: str, entry: ChannelEntry, environ: Mapping[str, str], allowed: tuple[Network, ...]) -> Channel:
    problems: list[Problem] = []
    where = f"notify.channels.{name}"
    rules = Rules(after=entry.after, levels=frozenset(entry.levels), checks=entry.checks)
    try:
        place = (
            _mailbox(where, entry, environ, problems)
            if entry.kind is ChannelKind.EMAIL
            else _endpoint(where, entry, environ, problems, allowed)
        )
    except InvalidInput as wrong:
        problems.append(Problem(where, str(wrong)))
        place = None
    if problems:
        return Channel(name=name, kind=entry.kind, rules=rules, fault="; ".join(map(str, problems)))
    return Channel(name=name, kind=entry.kind, rules=rules, place=place)


def _endpoint(
    where: str,
    entry: ChannelEntry,
    environ: Mapping[str, str],
    problems: list[Problem],
    allowed: tuple[Network, ...],
) -> Endpoint:
    """The endpoint. Raises InvalidInput for a secret that is none."""
    secret = configured_secret(f"{where}.url", entry.url_env, entry.url_file, environ, problems)
    url = entry.url or (secret.get_secret_value() if secret else "")
    if not problems and (wrong := wrong_url(url, allowed=allowed)):
        problems.append(Problem(f"{where}.url", wrong))
    key = configured_secret(f"{where}.secret", entry.secret_env, entry.secret_file, environ, problems)
    return Endpoint(url, read_secret(key.get_secret_value()) if key and not problems else None)


def _mailbox(where: str, entry: ChannelEntry, environ: Mapping[str, str], problems: list[Problem]) -> Mailbox:
    host, _, port = (entry.server or "").rpartition(":")
    if int(port) not in _PORTS:
        problems.append(Problem(f"{where}.server", "the port is from 1 to 65535", "smtp.example:587"))
    password = configured_secret(
        f"{where}.password", entry.password_env, entry.password_file, environ, problems, blanks=True
    )
    return Mailbox(
        host=host.removeprefix("[").removesuffix("]"),
        port=int(port),
        security=entry.security,
        sender=entry.sender or "",
        recipients=entry.recipients,
        user=entry.user,
        password=password.get_secret_value() if password else None,
    )
