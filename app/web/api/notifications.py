"""Endpoints for notifications: their channels, and test messages."""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from app.domain.access import Scope
from app.services.notifying import shown
from app.services.notifying.testing import ChannelTester
from app.web.api.endpoint import Call, Endpoint, endpoint, record
from app.web.api.problems import NOT_FOUND


class NotifiedCheck(Struct, frozen=True, kw_only=True):
    """A check that is not well, or was not a moment ago. `told`: the level that the channel was told; null for none."""

    id: str
    level: str
    since: str
    well_since: str | None
    told: str | None
    cause: str


class NotificationChannelRow(Struct, frozen=True, kw_only=True):
    """A channel. `problem`: why the last message was not taken, or what is wrong with its configuration. `failures`:
    in a row. `under_way`: a message waits to be sent, or to be tried again.
    """

    channel: str
    kind: Literal["webhook", "slack", "email"]
    state: Literal["working", "failing", "not_usable"]
    problem: str | None
    failures: int
    sent_at: str | None
    under_way: bool
    levels: list[str]
    after_seconds: int
    checks: list[NotifiedCheck]


class NotificationChannels(Struct, frozen=True, kw_only=True):
    data: list[NotificationChannelRow]


class TestWanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Without a channel, all are tested."""

    channel: Annotated[str, Meta(min_length=1, max_length=63)] | None = None


class TestedChannel(Struct, frozen=True, kw_only=True):
    """`answer`: what the other side said, or why it said nothing."""

    channel: str
    kind: Literal["webhook", "slack", "email"]
    taken: bool
    answer: str
    latency_ms: int


class TestedChannels(Struct, frozen=True, kw_only=True):
    data: list[TestedChannel]


@endpoint("GET /notifications", scope=Scope.VIEWER)
def list_notifications(call: Call) -> NotificationChannels:
    """List the channels of notifications, with the checks that each knows of."""
    with call.context.database.read() as session:
        rows = shown.channels(session, _tester(call).channels())
    return NotificationChannels(data=[record(row, NotificationChannelRow) for row in rows])


@endpoint("POST /notifications/test", scope=Scope.OPERATOR, asks_nango=True, problems=(NOT_FOUND,))
def test_notifications(call: Call, body: TestWanted) -> TestedChannels:
    """Send a test message to a channel, or to all, and show what is answered.

    It takes half a minute for each channel at most.
    """
    tester = _tester(call)
    chosen = tester.chosen(body.channel)
    rows = [tester.test(call.context.database, channel, actor=call.actor) for channel in chosen]
    return TestedChannels(data=[record(row, TestedChannel) for row in rows])


def _tester(call: Call) -> ChannelTester:
    if call.context.tester is None:
        raise RuntimeError("this process has no notifications to report on")
    return call.context.tester


ENDPOINTS: Final[tuple[Endpoint, ...]] = (list_notifications, test_notifications)
