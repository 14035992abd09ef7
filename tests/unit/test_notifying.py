"""A channel is told of a check once when it stays red, and once when it stays well; a shorter change counts as none."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config.channel_sources import channels_of
from app.config.notify_entries import NotifyEntry
from app.domain.notifying import (
    ATTEMPTS,
    MOST_CHANGES,
    ChangeState,
    Endpoint,
    Mailbox,
    Rules,
    judge,
    unknown_patterns,
    wait_after,
)
from app.domain.status import Check, CheckKind, Level
from app.services.notifying import messages

NOW = datetime(2026, 11, 30, 14, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
RULES = Rules(after=MINUTE)
KEY = "whsec_QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo="


def red(kind=CheckKind.DATABASE, subject="", level=Level.RED, **facts):
    given_facts = {"value": 3, "cause": "it does not answer", "repair": "waylink check"}
    return Check(kind, level, **given_facts | facts, subject=subject)


class Ward:
    """A channel that is told at once of whatever it is to be told."""

    def __init__(self, rules=RULES, channel="ops"):
        self.rules, self.channel, self.known, self.told = rules, channel, {}, []

    def look(self, at, *checks, sends=True):
        judged = judge(self.known, checks, self.rules, channel=self.channel, now=NOW + at)
        self.known = {row.id: row for row in judged.kept}
        if sends:
            for change in judged.changes:
                self.told.append((str(change.state), change.id))
                if change.state is ChangeState.RECOVERED:
                    del self.known[change.id]
                else:
                    self.known[change.id] = replace(self.known[change.id], told=Level(str(change.state)))
        return judged


def test_a_check_is_told_once_it_has_been_red_for_its_time_and_once_it_has_been_well_for_as_long():
    ward = Ward()
    for seconds in range(0, 60, 15):
        assert ward.look(seconds * SECOND, red()).changes == []
    [change] = ward.look(MINUTE, red(cause="by now another one")).changes
    assert (change.state, change.since, change.cause, change.repair) == (
        ChangeState.RED, NOW, "by now another one", "waylink check"
    )  # fmt: skip
    assert ward.look(5 * MINUTE, red()).changes == []
    assert ward.look(6 * MINUTE).changes == []
    [change] = ward.look(7 * MINUTE).changes
    assert (change.state, change.since, change.until) == (ChangeState.RECOVERED, NOW, NOW + 6 * MINUTE)
    assert ward.look(8 * MINUTE) == judge({}, [], RULES, channel="ops", now=NOW)


def test_what_is_red_for_a_moment_is_not_told_and_leaves_nothing():
    ward = Ward()
    ward.look(0 * SECOND, red())
    ward.look(15 * SECOND)
    ward.look(75 * SECOND)
    assert (ward.told, ward.known) == ([], {})


def test_what_goes_to_and_fro_is_told_once():
    ward = Ward()
    for tick in range(0, 3600, 15):
        ward.look(tick * SECOND, *[red()] * (tick % 30 == 0))
    assert ward.told == [("red", "database")]
    ward.look(2 * 60 * MINUTE)
    ward.look(2 * 60 * MINUTE + MINUTE)
    assert ward.told == [("red", "database"), ("recovered", "database")]


@given(st.lists(st.booleans(), max_size=200))
def test_no_history_is_told_twice_of_the_same_and_none_more_often_than_its_time_allows(history):
    ward = Ward()
    for number, is_red in enumerate(history):
        ward.look(number * 15 * SECOND, *[red()] * is_red)
    states = [state for state, _ in ward.told]
    assert states == ["red", "recovered"] * (len(states) // 2) + ["red"] * (len(states) % 2)
    assert len(states) <= len(history) * 15 / 60 + 1


def test_a_hint_that_gets_worse_is_told_again_after_its_time():
    ward = Ward(Rules(after=MINUTE, levels=frozenset({Level.HINT, Level.RED})))
    for tick in range(0, 61, 15):
        ward.look(tick * SECOND, red(level=Level.HINT))
    for tick in range(75, 151, 15):
        ward.look(tick * SECOND, red())
    for tick in range(165, 300, 15):
        ward.look(tick * SECOND, red(level=Level.HINT))
    assert ward.told == [("hint", "database"), ("red", "database")]
    ward.look(301 * SECOND)
    ward.look(361 * SECOND)
    assert ward.told[2:] == [("recovered", "database")]


def test_without_the_level_hint_a_check_that_is_a_hint_by_now_has_recovered():
    ward = Ward()
    for tick in (0, 60):
        ward.look(tick * SECOND, red())
    for tick in (75, 135):
        ward.look(tick * SECOND, red(level=Level.HINT))
    assert [state for state, _ in ward.told] == ["red", "recovered"]


def test_a_channel_is_told_what_it_wants_and_never_that_itself_fails():
    mine, other = red(CheckKind.NOTIFICATIONS, "ops"), red(CheckKind.NOTIFICATIONS, "chat")
    assert not RULES.wants(mine, channel="ops")
    assert RULES.wants(other, channel="ops")
    failing, late = red(CheckKind.DESTINATION_FAILING, "crm/hook"), red(CheckKind.REFRESHES_OVERDUE)
    for patterns, wanted in (
        (("destination-failing",), {failing.id}),
        (("destination-failing:crm/hook",), {failing.id}),
        (("destination-failing:crm/*",), {failing.id}),
        (("destination-failing:web/hook",), set()),
        (("refreshes-*", "storing"), {late.id}),
    ):
        rules = Rules(checks=patterns)
        assert {check.id for check in (failing, late) if rules.wants(check, channel="ops")} == wanted


def test_what_a_message_under_way_tells_is_not_forgotten_before_it_is_sent():
    ward = Ward()
    ward.look(0 * SECOND, red())
    judged = ward.look(MINUTE, red(), sends=False)
    assert judged.changes
    for minutes in (2, 4):
        judged = judge(ward.known, [], RULES, channel="ops", now=NOW + minutes * MINUTE, telling={"database"})
        assert (judged.gone, [row.id for row in judged.kept]) == ([], ["database"])
        ward.known = {row.id: row for row in judged.kept}


def test_one_message_has_a_bounded_number_of_changes_and_the_next_one_has_the_rest():
    ward = Ward(Rules(after=0 * SECOND))
    checks = [red(CheckKind.PROCESS, f"io@h/{number}") for number in range(MOST_CHANGES + 5)]
    assert len(ward.look(0 * SECOND, *checks).changes) == MOST_CHANGES
    assert len(ward.look(SECOND, *checks).changes) == 5


def test_waits_grow_to_their_bound():
    waits = [wait_after(failures, gone=False) for failures in range(1, 30)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (10 * SECOND, 15 * MINUTE)
    assert sum(waits[:ATTEMPTS], timedelta()) < timedelta(hours=1)
    assert wait_after(1, gone=True) == timedelta(hours=1)


def test_patterns_that_fit_no_check_are_found():
    assert list(unknown_patterns(["*", "database", "key:*", "refreshes-*", "key:default/1"])) == []
    assert list(unknown_patterns(["databse", "x*", "databse:*"])) == ["databse", "x*", "databse:*"]


# Messages


def test_texts_have_installation_state_cause_repair_and_times():
    ward = Ward()
    ward.look(0 * SECOND, red(), red(CheckKind.STORING))
    changes = [*ward.look(MINUTE, red(), red(CheckKind.STORING)).changes]
    ward.look(2 * MINUTE, red())
    changes += ward.look(9 * MINUTE, red()).changes
    document = messages.changed("acme <eu>", [red()], changes, now=NOW)
    told = messages.slack(document)["text"]
    mailbox = Mailbox(
        host="h", port=25, security="none", sender="waylink@acme.example", recipients=("a@acme.example", "b@x.example")
    )
    mail = messages.email(document, mailbox, message_id="msg_1", now=NOW)
    assert told.startswith("*acme &lt;eu&gt;*: 1 thing needs a person\n")
    for text in (told, mail.get_content()):
        assert "RED: database (3), since 2026-11-30T14:00:00+00:00" in text
        assert "it does not answer" in text
        assert "waylink check" in text
        assert "recovered: storing, after 2 min" in text
    assert mail["To"] == "a@acme.example, b@x.example"
    assert mail["Message-ID"] == "<msg_1@acme.example>"
    assert mail["Subject"] == "[acme <eu>] 1 thing needs a person: database, storing, storing"
    recovered = document["data"]["changes"][-1]
    assert (recovered["state"], recovered["lasted_seconds"], recovered["repair"]) == ("recovered", 120, None)


def test_text_from_outside_stays_text_and_holds_no_credential():
    cause = "GET https://ann:hunter2@h.example/x?token=abcdef0123456789abcdef failed\r\nBcc: all@x.example"
    cause += " \x1b[2J <!channel> `x`"
    ward = Ward(Rules(after=0 * SECOND))
    document = messages.changed("a", [], ward.look(MINUTE, red(cause=cause, subject="x\r\nBcc: y")).changes, now=NOW)
    mailbox = Mailbox(host="h", port=25, security="none", sender="w@acme.example", recipients=("a@acme.example",))
    mail = messages.email(document, mailbox, message_id="msg_1", now=NOW)
    for text in (str(document), messages.slack(document)["text"], mail.as_string()):
        assert "hunter2" not in text
        assert "abcdef0123456789" not in text
        assert "\x1b" not in text
    assert "<!channel>" not in messages.slack(document)["text"]
    assert mail["Bcc"] is None


def test_a_text_shows_some_changes_and_says_how_many_more_there_are():
    ward = Ward(Rules(after=0 * SECOND))
    changes = ward.look(0 * SECOND, *[red(CheckKind.PROCESS, f"io@h/{number}") for number in range(50)]).changes
    document = messages.changed("a", [], changes, now=NOW)
    assert len(document["data"]["changes"]) == 50
    assert messages.slack(document)["text"].endswith("and 30 more: `waylink status` shows all")


# Configuration


def entry(**channel):
    return NotifyEntry.model_validate({"channels": {"ops": channel}})


WEBHOOK = {"kind": "webhook", "url": "https://hooks.example/ops", "secret_env": "KEY"}
SLACK = {"kind": "slack", "url_env": "URL"}
MAIL = {"kind": "email", "server": "smtp.example:587", "sender": "w@acme.example", "recipients": ["a@acme.example"]}


def test_channels_have_their_secrets_from_variables_and_files(tmp_path):
    (tmp_path / "password").write_text("abcd efgh ijkl\n")
    environ = {"KEY": KEY, "URL": "https://chat.example/T0/B0/xyz"}
    [webhook] = channels_of(entry(**WEBHOOK), environ)
    [slack] = channels_of(entry(**SLACK), environ)
    mail = {"user": "w", "password_file": tmp_path / "password", "levels": ["red", "hint"], "after": "5m"}
    [by_mail] = channels_of(entry(**MAIL, **mail, checks=["storing"]), environ)
    assert webhook.place == Endpoint("https://hooks.example/ops", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert slack.place == Endpoint("https://chat.example/T0/B0/xyz", None)
    assert (by_mail.place.host, by_mail.place.port, by_mail.place.password) == ("smtp.example", 587, "abcd efgh ijkl")
    assert by_mail.rules == Rules(after=5 * MINUTE, levels=frozenset({Level.RED, Level.HINT}), checks=("storing",))
    for channel in (webhook, slack, by_mail):
        assert not channel.fault
        assert not {"ABCDEF", "xyz", "efgh"} & set(repr(channel).replace("/", " ").split())
        assert "xyz" not in repr(channel)
        assert "efgh" not in repr(channel)


@pytest.mark.parametrize(
    ("channel", "environ", "fault"),
    [
        (WEBHOOK, {}, "notify.channels.ops.secret_env: the variable KEY is not set"),
        (WEBHOOK, {"KEY": "hunter2"}, "a signing secret starts with whsec_"),
        (SLACK, {"URL": "ftp://chat.example/secretpath"}, "a URL starts with https://"),
        (SLACK, {"URL": "https://127.0.0.1/secretpath"}, "the address is refused (loopback)"),
        (SLACK, {"URL": "https://ann:hunter2@chat.example/"}, "holds no user or password"),
        ({**MAIL, "user": "w", "password_file": "gone"}, {}, "gone cannot be read"),
        ({**MAIL, "server": "smtp.example:70000"}, {}, "the port is from 1 to 65535"),
    ],
)
def test_a_secret_that_cannot_be_used_is_a_fault_of_its_channel_that_does_not_quote_it(channel, environ, fault):
    [found] = channels_of(entry(**channel), environ)
    assert found.place is None
    assert fault in found.fault
    assert "hunter2" not in found.fault
    assert "secretpath" not in found.fault


@pytest.mark.parametrize(
    ("channel", "wrong"),
    [
        ({"kind": "webhook", "url": "https://h.example"}, "needs secret_env or secret_file"),
        ({"kind": "webhook", "secret_env": "KEY"}, "needs one of url, url_env, url_file"),
        ({**WEBHOOK, "url_env": "URL"}, "has more than one of url, url_env, url_file"),
        ({"kind": "slack", "url": "https://chat.example/T0/x"}, "url is a secret here"),
        ({**SLACK, "secret_env": "KEY"}, "secret_env is not for channels of the kind slack"),
        ({"kind": "email"}, "needs server, sender and recipients"),
        ({**MAIL, "url": "https://h.example"}, "url is not for channels of the kind email"),
        ({**MAIL, "user": "w"}, "user goes with password_env or password_file"),
        ({**MAIL, "user": "w", "password_env": "P", "security": "none"}, "not sent without TLS"),
        ({**MAIL, "sender": "w@acme.example\r\nBcc: x@x.example"}, "sender"),
        ({**SLACK, "levels": ["ok"]}, "names red, hint or both"),
        ({**SLACK, "checks": ["databse"]}, "there is no check 'databse'"),
        ({**SLACK, "after": "2d"}, "from 0 to 1d"),
    ],
)
def test_a_channel_that_cannot_be_is_refused_with_its_reason(channel, wrong):
    with pytest.raises(ValueError, match=wrong):
        entry(**channel)
