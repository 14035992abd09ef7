"""Promise 7: Waylink's own secrets are encrypted at rest, and the key can be changed without losing one."""

import base64
import stat
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.errors import ConfigurationError, Sealed
from app.sealing import (
    KEY_FILE,
    new_key,
    read_keys,
    sealer_of_file,
    sealer_of_folder,
    sealer_with,
    sealer_without_key,
)

OLD, NEW = new_key(), new_key()
PURPOSE = "signing secret of crm/hook"


def test_what_is_sealed_opens_again_and_shows_nothing():
    sealed = sealer_with(OLD).seal("whsec_hunter2", purpose=PURPOSE)
    assert b"hunter2" not in sealed
    assert b"hunter2" not in base64.urlsafe_b64decode(sealed)
    assert sealer_with(OLD).open(sealed, purpose=PURPOSE) == "whsec_hunter2"


def test_a_value_put_in_anothers_place_does_not_open():
    sealer = sealer_with(OLD)
    with pytest.raises(Sealed, match="signing secret of erp/hook"):
        sealer.open(sealer.seal("x", purpose=PURPOSE), purpose="signing secret of erp/hook")


@pytest.mark.parametrize("sealed", [b"", b"nonsense", b"gAAAAA==", b"\xff\x00"])
def test_nonsense_does_not_open(sealed):
    with pytest.raises(Sealed):
        sealer_with(OLD).open(sealed, purpose=PURPOSE)


def test_the_wrong_key_is_reported_with_what_it_was_for_and_without_the_value():
    sealed = sealer_with(OLD).seal("hunter2", purpose=PURPOSE)
    with pytest.raises(Sealed) as refused:
        sealer_with(NEW).open(sealed, purpose=PURPOSE)
    told = "".join(traceback.format_exception(refused.value))
    assert "signing secret of crm/hook" in told
    assert "WAYLINK_SECRET_KEY" in told
    assert "hunter2" not in told
    assert NEW not in told
    assert refused.value.__context__ is None


def test_the_newest_key_seals_and_older_ones_still_open():
    before = sealer_with(OLD).seal("x", purpose=PURPOSE)
    both = sealer_with(f"{NEW},{OLD}")
    assert both.open(before, purpose=PURPOSE) == "x"
    assert sealer_with(NEW).open(both.seal("y", purpose=PURPOSE), purpose=PURPOSE) == "y"


def test_resealing_ends_the_need_for_the_old_key():
    both = sealer_with(f"{NEW},{OLD}")
    again = both.with_newest(sealer_with(OLD).seal("x", purpose=PURPOSE), purpose=PURPOSE)
    assert sealer_with(NEW).open(again, purpose=PURPOSE) == "x"
    assert both.with_newest(again, purpose=PURPOSE) is None


def test_a_key_is_taken_in_either_alphabet_of_base64_and_with_comments():
    raw = b"\xfb\xff" * 16
    standard, urlsafe = base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()
    assert standard != urlsafe
    assert read_keys(f"# the newest\n{standard}\n{urlsafe} {OLD}\n") == (
        urlsafe.encode(),
        urlsafe.encode(),
        OLD.encode(),
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "holds no key"),
        ("# none\n", "holds no key"),
        ("hunter2", "key 1"),
        pytest.param(f"{OLD},hunter2", "key 2", id="a good one and a bad one"),
        ("ä", "key 1"),
    ],
)
def test_a_key_that_is_none_is_refused_without_being_repeated(text, problem):
    with pytest.raises(ValueError, match=problem) as refused:
        read_keys(text)
    assert "hunter2" not in str(refused.value)


def test_a_key_file_may_change_without_a_restart(tmp_path):
    file = tmp_path / "keys"
    file.write_text(OLD)
    sealer = sealer_of_file(file)
    before = sealer.seal("x", purpose=PURPOSE)
    file.write_text(f"{NEW}\n{OLD}\n")
    elsewhere = sealer_with(NEW).seal("y", purpose=PURPOSE)
    assert sealer.open(elsewhere, purpose=PURPOSE) == "y"
    assert sealer.open(before, purpose=PURPOSE) == "x"
    assert sealer_with(NEW).open(sealer.seal("z", purpose=PURPOSE), purpose=PURPOSE) == "z"


@pytest.mark.parametrize("content", [None, b"", b"hunter2", b"\xff\xfe"])
def test_an_unusable_key_file_is_reported_with_its_name(tmp_path, content):
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError) as refused:
        sealer_of_file(file).check()
    assert str(file) in str(refused.value)
    assert "hunter2" not in "".join(traceback.format_exception(refused.value))


def test_the_embedded_default_makes_its_own_key_once_for_its_user_alone(tmp_path):
    folder = tmp_path / "data"
    sealers = [sealer_of_folder(folder, is_used=lambda: False) for _ in range(8)]
    assert not folder.exists()
    with ThreadPoolExecutor(8) as threads:
        sealed = list(threads.map(lambda sealer: sealer.seal("x", purpose=PURPOSE), sealers))
    assert {sealer.open(value, purpose=PURPOSE) for sealer in sealers for value in sealed} == {"x"}
    assert [path.name for path in folder.iterdir()] == [KEY_FILE]
    assert stat.S_IMODE((folder / KEY_FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_database_of_ones_own_without_a_key_is_reported_when_one_is_needed():
    with pytest.raises(ConfigurationError, match="WAYLINK_SECRET_KEY"):
        sealer_without_key().seal("x", purpose=PURPOSE)


def test_no_key_is_in_a_repr():
    assert OLD not in repr(sealer_with(OLD))
