import inspect
import re

import pytest

from app import errors
from app.errors import (
    BrokerUnavailable,
    ConfigurationError,
    DatabaseNotMigrated,
    InvalidPattern,
    InvalidTags,
    NangoError,
    NangoRateLimited,
    NotFound,
    Problem,
    TagFault,
    WaylinkError,
    refuse,
)


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn: list[tuple[str, str]] = []
    above: list[tuple[int, str]] = []
    for line in errors.__doc__.splitlines():
        match = re.match(r"^    ([│├└─ ]*)([A-Z]\w+)", line)
        if match is None:
            continue
        depth, name = len(match[1]), match[2]
        above = [heading for heading in above if heading[0] < depth]
        if above:
            drawn.append((name, above[-1][1]))
        above.append((depth, name))
    classes = [class_ for _, class_ in inspect.getmembers(errors, inspect.isclass) if issubclass(class_, WaylinkError)]
    assert sorted(drawn) == sorted(
        (class_.__name__, class_.__base__.__name__) for class_ in classes if class_ is not WaylinkError
    )


def test_all_problems_of_a_configuration_are_reported_a_line_each(capsys) -> None:
    error = ConfigurationError([Problem("A", "is wrong", "1"), Problem("B", "is missing")])
    assert refuse(error) == 2
    assert capsys.readouterr().err == "error: A: is wrong (for example 1)\nerror: B: is missing\n"
    assert str(error) == "A: is wrong (for example 1); B: is missing"


@pytest.mark.parametrize("found", [None, "0001"])
def test_an_unmigrated_database_names_the_command(found: str | None) -> None:
    message = str(DatabaseNotMigrated(found=found, expected="0002"))
    assert "`waylink migrate`" in message
    assert "0002" in message


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (NotFound("event", "evt_1"), "no event 'evt_1'"),
        (InvalidPattern(path="tags.plan", reason="is empty"), "tags.plan: is empty"),
        (InvalidPattern(path="", reason="is empty"), "pattern: is empty"),
        (InvalidTags([TagFault("length", "a", "a is long"), TagFault("count", "", "too many")]), "a is long; too many"),
        (NangoError(), "Nango refused the call"),
        (NangoError(status=400, code="bad", detail="why"), "Nango refused the call: HTTP 400, bad, why"),
        (
            NangoRateLimited(retry_after=2.4),
            "Nango's rate limit is reached: HTTP 429, too_many_request, retry after 2 s",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_writes_its_own_message_from_the_facts(error: WaylinkError, message: str) -> None:
    assert str(error) == message


def test_a_broker_error_names_the_kind_of_failure_and_not_its_text() -> None:
    said = str(BrokerUnavailable("team", ConnectionRefusedError("redis://:hunter2@host")))
    assert said == "the team broker does not answer: the connection is refused"


def test_a_name_from_outside_cannot_forge_a_line() -> None:
    assert "\n" not in str(NotFound("event", "x\nerror: forged"))
