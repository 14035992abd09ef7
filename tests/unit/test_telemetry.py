"""Log lines: no text that looks like a secret, and no line forged from outside (promise 7)."""

import json
import logging
from collections.abc import Callable
from uuid import UUID

import pytest
import structlog

from app.errors import BrokerUnavailable
from app.telemetry import configure_logs, escape_control, get_logger, redact

SECRET = "hunter2"


@pytest.fixture
def logs(capsys) -> Callable[[str], None]:
    """Configures logging as a process does, and puts back what was there."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in logging.root.manager.loggerDict}
    yield lambda style: configure_logs(style=style, level="debug")
    root.handlers[:] = before
    root.setLevel(level)
    for name, value in levels.items():
        logging.getLogger(name).setLevel(value)
    structlog.reset_defaults()


def redacted(**fields: object) -> dict[str, object]:
    return redact(None, "info", fields)


@pytest.mark.parametrize(
    "name",
    [
        "token", "access_token", "refreshToken", "secret", "client_secret", "webhook-secret", "password", "passwd",
        "passphrase", "api_key", "apiKey", "x-api-key", "API_KEY", "authorization", "Authorization", "credentials",
        "signing_key", "signing_keys", "signing-key", "private_key", "cookie", "set-cookie",
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", [SECRET, SECRET.encode(), [SECRET], {"a": SECRET}, {"a": [{"b": SECRET}]}, (SECRET,)])
def test_whatever_stands_under_a_telling_name_is_hidden(name: str, value: object) -> None:
    assert redacted(**{name: value}) == {name: "[hidden]"}
    assert SECRET not in str(redacted(facts={name: value}))
    assert SECRET not in str(redacted(facts=[{"deep": {name: value}}]))


def test_numbers_and_flags_stay_readable() -> None:
    assert redacted(tokens=3, has_api_key=True, secret=None) == {"tokens": 3, "has_api_key": True, "secret": None}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"postgresql://waylink:{SECRET}@db/x", "postgresql://waylink:[hidden]@db/x"),
        (f"redis://:{SECRET}@host:6379/0", "redis://:[hidden]@host:6379/0"),
        (f"redis://:p@{SECRET}@host/0", "redis://:[hidden]@host/0"),
        (f"from rediss://u:{SECRET}@a to redis://v:{SECRET}@b", "from rediss://u:[hidden]@a to redis://v:[hidden]@b"),
        ("https://api.nango.dev:443/x", "https://api.nango.dev:443/x"),
        ("http://127.0.0.1:8080/a@b", "http://127.0.0.1:8080/a@b"),
        ("person@example.test", "person@example.test"),
    ],
)
def test_a_password_in_a_url_is_hidden_and_the_rest_stays(text: str, shown: str) -> None:
    for value, expected in (
        (text, shown),
        ([text], [shown]),
        ({"a": text}, {"a": shown}),
        (OSError(text), shown),
    ):
        assert redacted(problem=value) == {"problem": expected}


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\r", "\x08", "\x7f", "\x9b", "\u2028", "\u202e", "\u2066"])
def test_control_characters_are_made_visible(character: str) -> None:
    text = f"a{character}b"
    assert escape_control(text) == f"a{character.encode('unicode_escape').decode()}b"
    assert character not in str(redacted(tag=text, tags={text: [text]}, problem=OSError(text)))


def test_ordinary_text_of_any_language_is_left_alone() -> None:
    text = "Zoë, 東京, 👩‍💻 \\x1b\tnext\nline"
    assert escape_control(text) == text


def test_values_of_other_kinds_are_written_as_text() -> None:
    assert redacted(event=UUID(int=1)) == {"event": "00000000-0000-0000-0000-000000000001"}


@pytest.mark.parametrize("style", ["json", "console"])
def test_neither_our_logs_nor_those_of_libraries_show_a_secret(logs, capsys, style: str) -> None:
    logs(style)
    log = get_logger("test")
    url = f"redis://:{SECRET}@host/0"
    try:
        raise BrokerUnavailable("team", OSError(url)) from OSError(f"no answer from {url}")
    except BrokerUnavailable:
        log.exception("not_sent", url=url, api_key=SECRET, tags={"a\x1b[2J": "b\x1b[2J"})
        logging.getLogger("kombu").exception("cannot connect to %s", url, extra={"password": SECRET})
        logging.getLogger("kombu").error("lost %s", url)
    written = capsys.readouterr().err
    assert SECRET not in written
    assert written.count("[hidden]") >= 6
    assert "\x1b[2J" not in written
    assert "BrokerUnavailable" in written


def test_a_json_log_is_one_object_per_line_with_level_time_and_logger(logs, capsys) -> None:
    logs("json")
    get_logger("ours").info("stored", tags={"a": "x\nforged"}, event_id="evt_1")
    logging.getLogger("theirs").warning("careful\n%s", "forged")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["logger"], line["level"]) for line in lines] == [("ours", "info"), ("theirs", "warning")]
    assert lines[0]["event"] == "stored"
    assert lines[0]["event_id"] == "evt_1"
    assert all(line["timestamp"].endswith("Z") for line in lines)


def test_the_variables_of_a_crashed_function_are_not_printed(logs, capsys) -> None:
    logs("console")

    def fails() -> None:
        held = SECRET + "-held"
        raise ValueError(len(held))

    try:
        fails()
    except ValueError:
        get_logger("test").exception("failed")
    written = capsys.readouterr().err
    assert "ValueError" in written
    assert SECRET not in written


@pytest.mark.parametrize("chatty", ["httpx", "httpcore", "celery.app.trace"])
def test_libraries_that_log_every_request_are_quiet(logs, capsys, chatty: str) -> None:
    logs("json")
    logging.getLogger(chatty).info("GET /connections?tags=…")
    assert capsys.readouterr().err == ""


def test_levels_below_the_chosen_one_are_dropped(logs, capsys) -> None:
    logs("json")
    logging.getLogger().setLevel("ERROR")
    get_logger("quiet").info("nothing")
    assert capsys.readouterr().err == ""


def test_logs_go_to_standard_error_so_that_output_stays_clean(logs, capsys) -> None:
    logs("json")
    get_logger("test").info("said")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err
