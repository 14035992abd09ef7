"""Files of any editor are read, and secrets are taken without what a copy or a shell leaves around them."""

import codecs
import json
from pathlib import Path

import pytest

from app.config.loading import load_all
from app.config.nango_environment import SigningKeys, split_keys, wrong_keys
from app.errors import ConfigurationError
from app.sealing import new_key, sealer_of_file
from app.text_input import decoded, misfit, misfit_in_url, read_text, unwrapped

KEY = "4d70f328-6b39-451e-b92f-21969323b448"
WRAPPINGS = [
    "{}", "{}\n", "{}\r\n", " {} ", "\t{}", "\ufeff{}", "{}\u200b", "\u00a0{}\u00a0", '"{}"', "'{}'", "`{}`",
    "\u201c{}\u201d", "\u2018{}\u2019", "\u201e{}\u201c", ' "{}"\r\n', "\ufeff\u201c{}\u201d\n", '" {} "',
]  # fmt: skip
MARKED = {
    "utf-8": b"",
    "utf-8-sig": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
}
TEXT = 'a = "ö"\nb = 1\n'


def files(folder: Path, text: str):
    """The text as editors of all systems write it."""
    for encoding, mark in MARKED.items():
        for ends in ("\n", "\r\n", "\r"):
            file = folder / f"{encoding}-{len(ends)}-{ord(ends[0])}"
            file.write_bytes(mark + text.replace("\n", ends).encode(encoding.removesuffix("-sig")))
            yield file


def test_a_file_of_any_editor_is_read(tmp_path):
    assert {read_text(file) for file in files(tmp_path, TEXT)} == {TEXT}


@pytest.mark.parametrize(
    ("content", "says"), [(b"ab\xff", "byte 3 is not UTF-8"), (codecs.BOM_UTF16_LE + b"a", "is not UTF-16")]
)
def test_what_is_no_text_is_reported_by_place(content, says):
    with pytest.raises(ValueError, match=says):
        decoded(content)


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_what_stands_around_a_secret_is_taken_away(wrapping):
    assert unwrapped(wrapping.format(KEY)) == KEY


@pytest.mark.parametrize("text", ["", " ", '"', '""', "\ufeff", "\u200b\n", "\u201c\u201d"])
def test_nothing_in_a_wrapping_is_nothing(text):
    assert unwrapped(text) in {"", '"'}


@pytest.mark.parametrize("text", ["a'b", "'a", 'a"', "don't", "a b"])
def test_what_stands_within_stays(text):
    assert unwrapped(text) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ab\u201dc", "character 3 is RIGHT DOUBLE QUOTATION MARK (U+201D)"),
        ("a b", "character 2 is SPACE"),
        ("a\rb", "character 2 is a control character (U+000D)"),
        ("\u00e4b", "character 1 is LATIN SMALL LETTER A WITH DIAERESIS"),
        ("a\x00", "character 2"),
    ],
)
def test_what_no_key_has_is_reported_by_place_and_name(text, says):
    assert says in misfit(text)


def test_a_url_may_have_letters_of_any_script_and_nothing_invisible():
    assert misfit_in_url("postgresql://w:p\u00e4ss\u6771@h/db?a=%20") is None
    assert "U+200B" in misfit_in_url("redis://:p\u200bw@h/0")
    assert misfit(KEY) is None


class TestSettings:
    @pytest.fixture
    def configured(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)

        def read(**variables):
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
            return load_all()[0]

        return read

    def problems(self, configured, **variables):
        with pytest.raises(ConfigurationError) as refused:
            configured(**variables)
        return {problem.where: str(problem) for problem in refused.value.problems}

    @pytest.mark.parametrize("wrapping", WRAPPINGS)
    def test_every_secret_of_a_variable_is_taken_without_its_wrapping(self, configured, wrapping):
        secrets = {
            "WAYLINK_NANGO_API_KEY": KEY,
            "WAYLINK_NANGO_SIGNING_KEYS": "k1,k2",
            "WAYLINK_NANGO_ACCOUNT_KEY": KEY,
            "WAYLINK_NANGO_ENVIRONMENT_ID": KEY,
            "WAYLINK_DATABASE_URL": "postgresql://w:p@h/w",
            "WAYLINK_BROKER_URL": "redis://:p@h/0",
            "WAYLINK_TEAM_BROKER_URL": "redis://:p@h/1",
            "WAYLINK_SECRET_KEY": new_key(),
            "WAYLINK_NANGO_BASE_URL": "https://nango.example",
            "WAYLINK_HOST": "127.0.0.1",
            "WAYLINK_PORT": "8081",
        }
        settings = configured(**{name: wrapping.format(value) for name, value in secrets.items()})
        environment = settings.environments["default"]
        assert environment.api_key.get_secret_value() == KEY
        assert environment.signing_keys.live() == ("k1", "k2")
        assert (environment.base_url, environment.nango_id) == ("https://nango.example", KEY)
        assert settings.database == "postgresql+psycopg://w:p@h/w"
        assert (settings.broker, settings.team_broker) == ("redis://:p@h/0", "redis://:p@h/1")
        assert settings.secret_key.get_secret_value() == secrets["WAYLINK_SECRET_KEY"]
        assert (settings.host, settings.port) == ("127.0.0.1", 8081)

    @pytest.mark.parametrize("inside", ["a\u201db", "a b", "a\u200bb", "a\tb"])
    @pytest.mark.parametrize(
        ("variable", "form"),
        [
            ("WAYLINK_NANGO_API_KEY", "{}"),
            ("WAYLINK_DATABASE_URL", "postgresql://w:{}@h/w"),
            ("WAYLINK_BROKER_URL", "redis://:{}@h/0"),
            ("WAYLINK_TEAM_BROKER_URL", "redis://:{}@h/1"),
        ],
    )
    def test_what_cannot_belong_is_refused_by_the_variables_name(self, configured, variable, form, inside):
        others = {"WAYLINK_NANGO_API_KEY": KEY, "WAYLINK_NANGO_SIGNING_KEYS": "k"}
        found = self.problems(configured, **(others | {variable: form.format(inside)}))
        assert "does not belong there" in found[variable]
        assert inside not in found[variable]

    def test_a_signing_key_is_refused_by_its_number(self, configured):
        found = self.problems(configured, WAYLINK_NANGO_SIGNING_KEYS="k1,k\u201d2")
        assert "of key 2, character 2 is RIGHT DOUBLE QUOTATION MARK" in found["WAYLINK_NANGO_SIGNING_KEYS"]

    def test_the_file_and_all_that_it_names_are_read_as_any_editor_writes_them(self, configured, tmp_path):
        toml = (
            '[environments.prod]\naccount = "\u00e4"\napi_key_file = "{0}"\nsigning_keys_file = "{0}"\n'
            '[teams.crm.destinations.hook]\nkind = "http"\nurl = "https://hooks.example/w"\nsecret_file = "{1}"\n'
        )
        signing = "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo="
        (tmp_path / "keys").mkdir()
        (tmp_path / "secrets").mkdir()
        secrets = files(tmp_path / "secrets", f"\u201c{signing}\u201d\n")
        for key, secret in zip(files(tmp_path / "keys", f'"{KEY}"\n'), secrets, strict=True):
            for file in files(tmp_path, toml.format(key, secret)):
                settings = configured(WAYLINK_CONFIG=str(file))
                environment = settings.environments["prod"]
                assert (environment.account, environment.api_key.get_secret_value()) == ("\u00e4", KEY)
                assert environment.signing_keys.live() == (KEY,)
                assert load_all()[1].secrets["crm", "hook"].signing.get_secret_value() == signing

    @pytest.mark.parametrize("name", ["api_key", "signing_keys"])
    def test_what_cannot_belong_in_a_file_is_refused_by_its_name(self, configured, tmp_path, name):
        (tmp_path / "good").write_text("k")
        (tmp_path / "bad").write_text("k\u201d2")
        entries = {"api_key": "good", "signing_keys": "good", name: "bad"}
        lines = [f'{name}_file = "{file}"\n' for name, file in entries.items()]
        (tmp_path / "waylink.toml").write_text("[environments.prod]\n" + "".join(lines))
        [(where, what)] = self.problems(configured).items()
        assert where == f"environments.prod.{name}_file"
        assert "bad" in what
        assert "RIGHT DOUBLE QUOTATION MARK" in what

    def test_the_secret_keys_file_is_read_as_any_editor_writes_it(self, tmp_path):
        for file in files(tmp_path, f"# the newest\n{new_key()}\n"):
            assert sealer_of_file(file).check() == 1

    def test_a_configuration_that_is_no_text_is_refused_by_place(self, configured, tmp_path):
        (tmp_path / "waylink.toml").write_bytes(b"a = 1\n\xff")
        assert "byte 7 is not UTF-8" in self.problems(configured)["waylink.toml"]


def test_keys_lose_their_quotes_one_by_one():
    assert split_keys("\"k1\", \u201ck2\u201d\n# a comment\n'k3'") == ("k1", "k2", "k3")
    assert wrong_keys(()) == "holds no key"


def test_a_key_file_with_a_stray_character_keeps_the_last_known_keys(tmp_path):
    file = tmp_path / "keys"
    file.write_text("k1")
    keys = SigningKeys(file=file)
    assert keys.live() == ("k1",)
    file.write_text("k\u200b22")
    keys._checked_at = float("-inf")
    assert keys.live() == ("k1",)
    assert "ZERO WIDTH SPACE" in keys.problem


def test_documents_from_other_editors_are_json(tmp_path):
    for file in files(tmp_path, json.dumps({"a": "\u00f6"}, ensure_ascii=False) + "\n"):
        assert json.loads(read_text(file)) == {"a": "\u00f6"}
