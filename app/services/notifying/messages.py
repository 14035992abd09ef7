"""Messages as channels take them: a document for webhooks, and the same as a text for chat and e-mail."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any, Final

from app.domain.notifying import Change, ChangeState, Mailbox
from app.domain.scrub import scrub
from app.domain.status import Check, headline
from app.services.status.wording import moment, span
from app.telemetry import escape_control

CHANGED: Final = "waylink.status.changed"
TEST: Final = "waylink.notification.test"
SHOWN: Final = 20  # changes in a text; a webhook has all
LONGEST_CAUSE: Final = 400  # characters
LONGEST_SUBJECT: Final = 150
_NOTHING_HAPPENED: Final = "this is a test: nothing has happened"


def changed(installation: str, checks: Sequence[Check], changes: Sequence[Change], *, now: datetime) -> dict[str, Any]:
    """The document of a message. checks: all, for the number of those that are red."""
    data = {"installation": installation, "summary": headline(checks), "changes": [_shown(one) for one in changes]}
    return {"type": CHANGED, "timestamp": now.isoformat(), "data": data}


def test_message(installation: str, *, now: datetime) -> dict[str, Any]:
    """The document of a test."""
    data = {"installation": installation, "summary": _NOTHING_HAPPENED, "changes": []}
    return {"type": TEST, "timestamp": now.isoformat(), "data": data}


def slack(document: Mapping[str, Any]) -> dict[str, str]:
    """The message as Slack and what is compatible with it take it."""
    data = document["data"]
    lines = [f"*{_plain(data['installation'])}*: {_plain(data['summary'])}"]
    for change in data["changes"][:SHOWN]:
        lines.append(f"• {_plain(_headline(change))}")
        lines += [_plain(text) for text in (change["cause"],) if text]
        lines += [f"`{_plain(change['repair'])}`" for _ in (1,) if change["repair"]]
    return {"text": "\n".join([*lines, *_rest(data["changes"])])}


def email(document: Mapping[str, Any], mailbox: Mailbox, *, message_id: str, now: datetime) -> EmailMessage:
    """The message as an e-mail."""
    data = document["data"]
    mail = EmailMessage()
    mail["Subject"] = _subject(data)
    mail["From"], mail["To"] = mailbox.sender, ", ".join(mailbox.recipients)
    mail["Date"] = format_datetime(now)
    # The same for each attempt, so that a repeated one can be recognised.
    mail["Message-ID"] = f"<{message_id}@{mailbox.sender.rpartition('@')[2].rstrip('>') or 'waylink'}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content("\n".join(_lines(data)) + "\n")
    return mail


def _shown(change: Change) -> dict[str, Any]:
    lasted = (change.until - change.since).total_seconds() if change.until is not None else None
    return {
        "id": change.id,
        "name": change.name,
        "state": str(change.state),
        "since": moment(change.since),
        "until": moment(change.until) if change.until is not None else None,
        "lasted_seconds": round(lasted) if lasted is not None else None,
        "value": change.value,
        "cause": scrub(" ".join(change.cause.split()), limit=LONGEST_CAUSE),
        "repair": change.repair or None,
    }


def _lines(data: Mapping[str, Any]) -> Iterator[str]:
    yield f"{data['installation']}: {data['summary']}"
    for change in data["changes"][:SHOWN]:
        yield ""
        yield escape_control(_headline(change))
        if change["cause"]:
            yield f"  {escape_control(change['cause'])}"
        if change["repair"]:
            yield f"  -> {escape_control(change['repair'])}"
    yield from _rest(data["changes"])


def _headline(change: Mapping[str, Any]) -> str:
    if change["state"] == ChangeState.RECOVERED:
        lasted = span(timedelta(seconds=change["lasted_seconds"] or 0))
        return f"recovered: {change['id']}, after {lasted}; it was so since {change['since']}"
    return f"{str(change['state']).upper()}: {change['id']} ({change['value']}), since {change['since']}"


def _rest(changes: Sequence[Any]) -> list[str]:
    return [f"and {len(changes) - SHOWN} more: `waylink status` shows all"] if len(changes) > SHOWN else []


def _subject(data: Mapping[str, Any]) -> str:
    names = ", ".join(change["id"] for change in data["changes"][:3])
    text = f"[{data['installation']}] {data['summary']}{f': {names}' if names else ''}"
    text = " ".join(escape_control(text).split())
    return text if len(text) <= LONGEST_SUBJECT else f"{text[: LONGEST_SUBJECT - 1]}…"


def _plain(text: str) -> str:
    """Text that Slack shows as it is."""
    return escape_control(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("`", "'")
