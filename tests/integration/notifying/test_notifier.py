"""Changes of checks are told once by all processes, in order, and none is lost when one dies or a channel fails."""

import json
from datetime import timedelta

import pytest
from sqlalchemy.exc import DBAPIError

from app.db import notifications as rows
from app.db import ticks
from app.db.models import NotificationChannel, NotificationCheck
from app.deadlines import NOTIFICATION_LEASE
from app.domain.notifying import ATTEMPTS, Channel, ChannelKind, Endpoint, Rules
from app.domain.status import Check, CheckKind, Level
from app.services.notifying import shown
from app.services.notifying.background import NotifyingThread
from app.services.notifying.courier import Sent
from app.services.notifying.notifier import EVERY, Notifier
from app.services.notifying.testing import ChannelTester
from app.services.status import notifications as status_of_notifications
from tests.integration.world import KilledError, in_threads, refusing

MINUTE = timedelta(minutes=1)
TAKEN, REFUSED = Sent(True, "answered 200", 1), Sent(False, "answered 500", 1)


def red(kind=CheckKind.STORING, subject="", level=Level.RED):
    return Check(kind, level, 3, "database_away", "waylink rejections", subject=subject)


class Courier:
    """Remembers what was sent; `answers` to each channel, TAKEN otherwise. `on_send` is called with each."""

    def __init__(self, **answers):
        self.sent, self.answers, self.on_send = [], {name: list(given) for name, given in answers.items()}, None

    def send(self, channel, document, *, message_id):
        self.sent.append((channel.name, message_id, document))
        if self.on_send is not None:
            self.on_send()
        waiting = self.answers.get(channel.name)
        return waiting.pop(0) if waiting else TAKEN

    def told(self, channel="ops"):
        return [
            [(change["state"], change["id"]) for change in document["data"]["changes"]]
            for name, _, document in self.sent
            if name == channel
        ]


def channel(name="ops", *, after=timedelta(0), fault="", **rules):
    place = None if fault else Endpoint("https://hooks.example", b"k" * 32)
    return Channel(name=name, kind=ChannelKind.WEBHOOK, rules=Rules(after=after, **rules), place=place, fault=fault)


class Ward:
    """Some processes with the same channels over one database; `checks` is what each of them sees."""

    def __init__(self, database, clock, *channels):
        self.database, self.clock, self.channels = database, clock, list(channels or (channel(),))
        self.checks, self.courier = [], Courier()

    def process(self, *, courier=None, look=None):
        return Notifier(
            database=self.database,
            channels=lambda: self.channels,
            look=look or (lambda: list(self.checks)),
            courier=courier or self.courier,
            clock=lambda: self.clock.now,
            installation="acme",
        )

    def run(self, *checks, processes=1):
        """A look's time later, each process runs."""
        self.clock.now += EVERY
        self.checks = list(checks)
        for _ in range(processes):
            self.process().run()

    def row(self, name="ops"):
        with self.database.read() as session:
            return session.get(NotificationChannel, name)

    def check_of_channel(self, name="ops"):
        with self.database.read() as session:
            found = status_of_notifications.read(session)
        checks = status_of_notifications.checks(found, self.channels, now=self.clock.now)
        return {check.id: check for check in checks}[f"notifications:{name}"]


@pytest.fixture
def ward(database, clock):
    return Ward(database, clock)


def test_a_red_check_and_its_recovery_are_told_once_by_all_processes(ward):
    for _ in range(3):
        ward.run(red(), processes=3)
    for _ in range(3):
        ward.run(processes=3)
    assert ward.courier.told() == [[("red", "storing")], [("recovered", "storing")]]
    [(_, first, document), (_, second, _)] = ward.courier.sent
    assert first != second
    assert first.startswith("msg_")
    assert document["data"]["installation"] == "acme"
    assert document["data"]["changes"][0]["repair"] == "waylink rejections"
    with ward.database.read() as session:
        assert session.query(NotificationCheck).all() == []


def test_several_changes_of_one_look_are_one_message(ward):
    ward.run(red(), red(CheckKind.BREAKER, "default"))
    ward.run(red(CheckKind.RETENTION, "events"))
    assert [sorted(message) for message in ward.courier.told()] == [
        [("red", "breaker:default"), ("red", "storing")],
        [("recovered", "breaker:default"), ("recovered", "storing"), ("red", "retention:events")],
    ]


def test_processes_that_run_at_the_same_moment_look_and_tell_once(ward):
    for _ in range(3):
        ward.clock.now += EVERY
        looks = []

        def look(looks=looks):
            looks.append(1)
            return [red()]

        in_threads(*[ward.process(look=look).run for _ in range(4)])
        assert len(looks) == 1
    assert ward.courier.told() == [[("red", "storing")]]


def test_between_two_looks_no_process_looks(ward):
    ward.run()
    ward.checks = [red()]
    ward.clock.now += EVERY - timedelta(seconds=1)
    ward.process().run()
    assert ward.courier.sent == []


def test_a_message_whose_process_died_before_the_record_is_sent_again_with_the_same_id_and_bytes(ward):
    dying = Courier()
    dying.on_send = lambda: (_ for _ in ()).throw(KilledError)
    ward.clock.now += EVERY
    ward.checks = [red()]
    with pytest.raises(KilledError):
        ward.process(courier=dying).run()
    ward.run(red())
    assert ward.courier.sent == [], "its lease has not ended"
    ward.clock.now += NOTIFICATION_LEASE
    ward.run(red())
    ward.run(red())
    assert ward.courier.sent == dying.sent
    assert json.dumps(ward.courier.sent[0][2]) == json.dumps(dying.sent[0][2])


def test_a_message_that_was_sent_by_two_processes_after_a_lease_is_recorded_once(ward):
    slow, ward.checks = Courier(ops=[REFUSED]), [red()]
    ward.clock.now += EVERY

    def meanwhile():
        ward.clock.now += NOTIFICATION_LEASE
        ward.process().run()

    slow.on_send = meanwhile
    ward.process(courier=slow).run()
    assert ward.row().failures == 0, "the late answer counts for nothing"
    assert [message_id for _, message_id, _ in slow.sent] == [message_id for _, message_id, _ in ward.courier.sent]


def test_a_failure_that_comes_after_its_lease_does_not_count_against_the_attempt_that_followed(ward):
    slow, ward.checks = Courier(ops=[REFUSED]), [red()]
    ward.courier.answers["ops"] = [REFUSED]
    ward.clock.now += EVERY

    def meanwhile():
        ward.clock.now += NOTIFICATION_LEASE
        ward.process().run()

    slow.on_send = meanwhile
    ward.process(courier=slow).run()
    assert (ward.row().failures, ward.row().attempts) == (1, 2)


def test_while_a_channel_fails_its_message_is_tried_again_and_what_changes_meanwhile_is_one_message_after_it(ward):
    ward.courier.answers["ops"] = [REFUSED, REFUSED]
    ward.run(red())
    ward.run(red(), red(CheckKind.BREAKER, "default"))
    assert ward.check_of_channel().level is Level.RED
    assert "answered 500" in ward.check_of_channel().cause
    assert ward.check_of_channel().repair == "waylink notify test ops"
    for _ in range(4):
        ward.run(red(CheckKind.BREAKER, "default"), red(CheckKind.RETENTION, "events"))
    assert ward.courier.told() == [
        *3 * [[("red", "storing")]],
        [("red", "breaker:default"), ("red", "retention:events"), ("recovered", "storing")],
    ]
    assert len({message_id for _, message_id, _ in ward.courier.sent}) == 2
    assert ward.check_of_channel().level is Level.OK


def test_attempts_are_bounded_and_the_next_message_tells_what_is_so_by_then(ward):
    ward.courier.answers["ops"] = [REFUSED] * ATTEMPTS
    ward.run(red())
    for _ in range(ATTEMPTS):
        ward.clock.now = max(ward.clock.now, ward.row().next_at)
        ward.run(red(CheckKind.BREAKER, "default"))
    ward.clock.now = max(ward.clock.now, ward.row().next_at)
    ward.run(red(CheckKind.BREAKER, "default"))
    told = ward.courier.told()
    assert told[:ATTEMPTS] == [[("red", "storing")]] * ATTEMPTS
    assert told[ATTEMPTS:] == [[("red", "breaker:default")]]


def test_an_endpoint_that_is_gone_is_asked_once_an_hour(ward):
    ward.courier.answers["ops"] = [Sent(False, "answered 410", 1, gone=True)] * 9
    for _ in range(100):
        ward.run(red())
    assert len(ward.courier.sent) == 1
    ward.clock.now += 60 * MINUTE
    ward.run(red())
    assert len(ward.courier.sent) == 2
    assert "answered 410" in ward.check_of_channel().cause


def test_one_channel_that_fails_holds_up_no_other_and_is_told_by_it(ward):
    ward.channels = [channel("chat"), channel("ops")]
    ward.courier.answers["chat"] = [REFUSED] * 50
    for _ in range(3):
        ward.run(red())
    failing = ward.check_of_channel("chat")
    ward.run(red(), failing)
    assert ward.courier.told("ops") == [[("red", "storing")], [("red", "notifications:chat")]]
    with ward.database.read() as session:
        assert {one.watched.id for one in rows.listed(session) if one.channel == "chat"} == {"storing"}


def test_each_channel_has_its_own_time_and_its_own_checks(ward):
    ward.channels = [channel("slow", after=MINUTE), channel("breakers", checks=("breaker",))]
    for _ in range(4):
        ward.run(red(), red(CheckKind.BREAKER, "default"))
    assert ward.courier.told("slow") == []
    assert ward.courier.told("breakers") == [[("red", "breaker:default")]]
    ward.run(red())
    assert ward.courier.told("slow") == [[("red", "storing")]]


def test_where_the_database_could_not_be_looked_at_nothing_is_taken_for_well(ward):
    ward.run(red())
    for _ in range(10):
        ward.run(Check(CheckKind.DATABASE, Level.RED, "newer", "a later release", "waylink check"))
    assert ward.courier.told() == [[("red", "storing")]]


def test_a_look_of_a_process_that_stood_still_changes_nothing(ward):
    ward.run(red())
    ward.clock.now += EVERY

    def stood_still():
        """It took its turn, and all is red again by the time it goes on."""
        with ward.database.write() as session:
            session.get(NotificationChannel, "ops").looked_at = ward.clock.now + EVERY
        return []

    ward.process(look=stood_still).run()
    assert ward.courier.told() == [[("red", "storing")]]


def test_while_the_database_takes_no_writes_nothing_is_sent_and_afterwards_all_is(ward):
    thread = NotifyingThread(ward.process())
    ward.clock.now += EVERY
    ward.checks = [red()]
    with refusing(ward.database, "notification_checks", "check_id", "storing", away=True):
        with pytest.raises(DBAPIError):
            ward.process().run()
        ward.clock.now += EVERY
        thread.run_once()
        assert ward.courier.sent == []
    ward.run(red())
    assert ward.courier.told() == [[("red", "storing")]]


def test_what_was_taken_and_could_not_be_recorded_is_sent_again_with_the_same_id(ward):
    thread = NotifyingThread(ward.process())
    ward.clock.now += EVERY
    ward.checks = [red()]
    with refusing(ward.database, "notification_checks", "told", "red", writing="UPDATE", away=True):
        thread.run_once()
    ward.clock.now += NOTIFICATION_LEASE
    ward.run(red())
    ward.run(red())
    assert len(ward.courier.sent) == 2
    assert ward.courier.sent[0] == ward.courier.sent[1]


def test_a_channel_without_a_usable_secret_is_red_by_its_fault_and_gets_its_messages_once_it_has_one(ward):
    ward.channels = [channel(fault="the variable KEY is not set")]
    for _ in range(3):
        ward.run(red())
    assert ward.courier.sent == []
    assert ward.check_of_channel().cause == "the variable KEY is not set"
    ward.channels = [channel()]
    ward.run(red())
    assert ward.courier.told() == [[("red", "storing")]]


def test_a_channel_that_is_configured_no_more_is_forgotten_after_a_day(ward):
    ward.run(red())
    ward.channels = [channel("other")]
    ward.run(red())
    assert ward.row("ops") is not None
    ward.clock.now += timedelta(days=1)
    ward.run(red())
    assert ward.row("ops") is None
    with ward.database.read() as session:
        assert {one.channel for one in rows.listed(session)} == {"other"}


def test_that_no_process_looks_is_red(ward):
    ward.run()
    ward.clock.now += 3 * MINUTE
    with ward.database.read() as session:
        found = status_of_notifications.read(session)
        assert ticks.last(session, ticks.NOTIFICATIONS) == ward.clock.now - 3 * MINUTE
    [check] = [
        check
        for check in status_of_notifications.checks(found, ward.channels, now=ward.clock.now)
        if check.level is Level.RED
    ]
    assert (check.id, check.value) == ("notifications", "stands still")
    assert list(status_of_notifications.checks(found, [], now=ward.clock.now)) == []


def test_a_test_that_is_taken_ends_the_wait_of_a_channel_that_failed(ward):
    ward.courier.answers["ops"] = [REFUSED] * ATTEMPTS
    ward.run(red())
    while ward.row().failures < 4:
        ward.run(red())
    assert ward.check_of_channel().level is Level.RED
    tester = ChannelTester(lambda: ward.channels, ward.courier, lambda: ward.clock.now, "acme")
    ward.courier.answers["ops"] = [REFUSED]
    assert tester.test(ward.database, ward.channels[0], actor="cli:x")["taken"] is False
    assert ward.check_of_channel().level is Level.RED
    told = tester.test(ward.database, ward.channels[0], actor="cli:x")
    assert (told["taken"], told["answer"]) == (True, "answered 200")
    assert ward.check_of_channel().level is Level.OK
    ward.process().run()
    assert ward.courier.told()[-1] == [("red", "storing")]
    [shown_row] = _shown(ward)
    assert (shown_row["state"], shown_row["under_way"], shown_row["problem"]) == ("working", False, None)
    assert [(check["id"], check["told"]) for check in shown_row["checks"]] == [("storing", "red")]


def _shown(ward):
    with ward.database.read() as session:
        return shown.channels(session, ward.channels)
