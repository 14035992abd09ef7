import os
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.config import nango_environment
from app.config.nango_environment import Environment, SigningKeys, split_keys


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(nango_environment, "_REREAD_AFTER", 0.0)
    return tmp_path / "keys"


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", ()),
        (" ,, \n", ()),
        ("one", ("one",)),
        ("one,two", ("one", "two")),
        ("one\ntwo\r\n", ("one", "two")),
        (" two , one , two ", ("two", "one")),
        ("# none\n", ()),
        ("# since May\none\n  # the old one\ntwo", ("one", "two")),
    ],
)
def test_keys_are_separated_by_commas_or_white_space_and_keep_their_order(text: str, keys: tuple[str, ...]) -> None:
    assert split_keys(text) == keys


def test_a_changed_key_file_counts_from_the_next_check(file: Path) -> None:
    file.write_text("one")
    keys = SigningKeys(file=file)
    assert keys.live() == ("one",)
    file.write_text("two,one")
    assert keys.live() == ("two", "one")


def test_a_file_replaced_by_a_rename_counts(file: Path) -> None:
    file.write_text("one")
    keys = SigningKeys(file=file)
    assert keys.live() == ("one",)
    new = file.with_name("new")
    new.write_text("two")
    os.utime(new, ns=(1, 1))
    new.rename(file)
    assert keys.live() == ("two",)


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe\x00", None], ids=["empty", "blank", "not UTF-8", "gone"])
def test_an_unreadable_file_leaves_the_last_keys_in_force(file: Path, content: bytes | None) -> None:
    file.write_text("one")
    keys = SigningKeys(file=file)
    assert keys.live() == ("one",)
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    assert keys.live() == ("one",)
    file.write_text("two")
    assert keys.live() == ("two",)


def test_a_file_that_cannot_be_used_any_more_is_reported_once(file: Path) -> None:
    file.write_text("one")
    keys = SigningKeys(file=file)
    keys.live()
    with capture_logs() as lines:
        file.write_text("# none\n")
        assert [keys.live(), keys.live()] == [("one",), ("one",)]
        file.unlink()
        keys.live()
        file.write_text("two")
        assert keys.live() == ("two",)
        file.unlink()
        keys.live()
    assert [(line["event"], line["problem"]) for line in lines] == [
        ("key_file_unusable", "holds no key"),
        ("key_file_unusable", "No such file or directory"),
    ]


def test_the_file_is_not_checked_for_every_request(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("one")
    keys = SigningKeys(file=file)
    keys.live()
    file.write_text("two")
    assert keys.live() == ("one",), "within the second"


def test_neither_keys_nor_environment_show_a_secret(file: Path) -> None:
    file.write_text("hunter2")
    for keys in (SigningKeys((SecretStr("hunter2"),)), SigningKeys(file=file)):
        assert keys.live() == ("hunter2",)
        nango_environment = Environment("default", "http://nango.test", "acme", keys, SecretStr("hunter2"))
        assert "hunter2" not in repr(keys) + str(keys) + repr(nango_environment) + str(nango_environment)


def test_only_an_api_key_makes_an_api() -> None:
    keys = SigningKeys((SecretStr("k"),))
    assert not Environment("default", "http://nango.test", "acme", keys).has_api
    assert Environment("default", "http://nango.test", "acme", keys, SecretStr("a")).has_api
