"""Operators sign in with a password that they set by a link, and their sessions end when they should."""

import contextlib
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from app.clock import utc_now
from app.db import sign_in_attempts as attempts
from app.db.models import Operator
from app.domain.access import Rights, Role
from app.domain.sign_in_throttle import Failures
from app.errors import Conflict, InvalidInput, NotAllowed, NotFound, TooManyAttempts
from app.services.operators import accounts, hashing, links, sessions, single_sign_on
from app.services.operators import sign_in as passwords
from app.services.operators.sessions import Lives, Visitor
from app.web.console.sign_in import own_path
from tests.integration.operators.visitors import OWN, PASSWORD, add, browser, is_signed_in, sign_in, welcome
from tests.integration.web.web_server import serve

NOW = datetime(2026, 8, 21, 12, 0, tzinfo=UTC)
LIVES = Lives()
HERE = Visitor("192.0.2.7", "a browser")


@pytest.fixture(params=["sqlite", "postgresql"])
def web(request, broker_url, tmp_path):
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/waylink.db" if sqlite else request.getfixturevalue("postgres_url")
    with serve(database_url=url, broker_url=broker_url, folder=tmp_path) as running:
        yield running


@pytest.fixture
def ada(web):
    """A browser in which the operator ada is signed in."""
    link = add(web.database)
    with browser(web) as client:
        assert welcome(client, link).status_code == 303
        yield client


def actions(web) -> list[tuple[str, str]]:
    with web.database.read() as session:
        return [tuple(row) for row in session.execute(text("SELECT actor, action FROM audit ORDER BY id"))]


# Over HTTP


def test_a_link_sets_a_password_once_and_signs_in(web):
    link = add(web.database)
    with browser(web) as client:
        for _ in range(2):  # a mail program that looks at the link does not spend it
            shown = client.get(link)
            assert (shown.status_code, "Welcome, ada" in shown.text) == (200, True)
        answer = welcome(client, link)
        assert (answer.status_code, answer.headers["location"]) == (303, "/console")
        assert is_signed_in(client)
        assert "ada" in client.get("/console").text
    with browser(web) as another:
        assert another.get(link).status_code == 410
        assert welcome(another, link).status_code == 410
        assert not is_signed_in(another)
        assert sign_in(another).status_code == 303
        assert is_signed_in(another)
    assert actions(web) == [
        ("cli:test", "operator.added"),
        ("cli:test", "operator.link_made"),
        ("operator:ada", "operator.password_set"),
        ("operator:ada", "operator.signed_in"),
        ("operator:ada", "operator.signed_in"),
    ]


def test_a_link_used_by_two_at_once_works_for_one(web):
    link = add(web.database)

    def use(_number: int) -> int:
        with browser(web) as client:
            return welcome(client, link).status_code

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(use, range(3))) == [303, 410, 410]


def test_a_password_that_cannot_be_one_is_refused_and_the_link_stays(web):
    link = add(web.database)
    with browser(web) as client:
        for password, repeated, told in (
            ("eleven char", "eleven char", "at least 12"),
            ("x" * 257, "x" * 257, "at most 256"),
            (PASSWORD, PASSWORD + "r", "differ"),
            ("with\0a NUL in it", "with\0a NUL in it", "printable"),
        ):
            answer = client.post(link, data={"password": password, "repeated": repeated})
            assert answer.status_code == 422
            assert told in answer.text
            assert password not in answer.text
            assert not is_signed_in(client)
        assert welcome(client, link).status_code == 303


def test_wrong_passwords_unknown_names_and_disabled_operators_are_answered_alike(web, ada):
    link = add(web.database, "bob")
    add(web.database, "eve")  # has not set a password
    with browser(web) as client:
        welcome(client, link)
    with web.database.write() as session:
        accounts.disable(session, accounts.find(session, "bob"), actor="cli:test", now=NOW, yes=False)
    pages = set()
    for name, password in (("ada", PASSWORD + "r"), ("nemo", PASSWORD), ("bob", PASSWORD), ("eve", "")):
        with browser(web) as client:
            answer = sign_in(client, name, password)
            assert answer.status_code == 422
            assert not answer.headers.get("set-cookie")
            pages.add(answer.text.replace(f'value="{name}"', ""))
    assert len(pages) == 1
    assert "Name or password is wrong" in pages.pop()


def test_the_password_is_one_whatever_keyboard_it_was_typed_on(web):
    composed, decomposed = "Zürich am Fluß", "Zu\u0308rich am Fluß"
    link = add(web.database)
    with browser(web) as client:
        assert client.post(link, data={"password": composed, "repeated": decomposed}).status_code == 303
    with browser(web) as client:
        assert sign_in(client, " ADA ", decomposed).status_code == 303


def test_the_cookie_is_kept_from_scripts_and_other_sites(web):
    link = add(web.database)
    with browser(web) as client:
        cookie = welcome(client, link).headers["set-cookie"]
        attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert {"httponly", "samesite=lax", "path=/"} <= attributes
        assert cookie.startswith("waylink-session=wls_")
        assert "secure" not in attributes
    with browser(web, **{"x-forwarded-proto": "https"}) as client:  # a proxy on this machine is trusted
        cookie = sign_in(client).headers["set-cookie"]
        attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert cookie.startswith("__Host-waylink-session=wls_")
        assert {"httponly", "samesite=lax", "path=/", "secure"} <= attributes
        assert not any(attribute.startswith("domain") for attribute in attributes)


def test_a_session_is_new_at_each_sign_in_and_the_one_before_ends(web, ada):
    before = ada.cookies["waylink-session"]
    assert sign_in(ada).status_code == 303
    assert ada.cookies["waylink-session"] != before
    with browser(web) as other:
        other.cookies.set("waylink-session", before, domain="127.0.0.1")
        assert not is_signed_in(other)
        other.cookies.set("waylink-session", "wls_" + "x" * 43, domain="127.0.0.1")  # one that a stranger has chosen
        assert sign_in(other).status_code == 303
        assert "x" * 43 not in other.cookies["waylink-session"]


def test_signing_out_ends_the_session_and_not_only_the_cookie(web, ada):
    secret = ada.cookies["waylink-session"]
    assert ada.post("/console/sign-out").status_code == 200
    with browser(web) as thief:
        thief.cookies.set("waylink-session", secret, domain="127.0.0.1")
        assert not is_signed_in(thief)


@pytest.mark.parametrize("ends", ["disable", "role", "remove", "sign-out", "password"])
def test_sessions_end_when_rights_or_the_password_change(web, ada, ends):
    add(web.database, "root")
    with browser(web) as elsewhere:
        sign_in(elsewhere)
        if ends == "password":
            form = {"present": PASSWORD, "password": "another good password", "repeated": "another good password"}
            assert ada.post("/console/account/password", data=form).status_code == 303
            assert is_signed_in(ada)
            assert sign_in(elsewhere, "ada", PASSWORD).status_code == 422
        else:
            with web.database.write() as session:
                row = accounts.find(session, "ada")
                {
                    "disable": lambda: accounts.disable(session, row, actor="t", now=NOW, yes=False),
                    "role": lambda: accounts.change_rights(
                        session, row, Rights(Role.VIEWER), actor="t", now=NOW, yes=False
                    ),
                    "remove": lambda: accounts.remove(session, row, actor="t", now=NOW, yes=False),
                    "sign-out": lambda: accounts.sign_out(session, row, actor="t", now=NOW),
                }[ends]()
            assert not is_signed_in(ada)
            assert ada.get("/api/v1/events").status_code == 401
        assert not is_signed_in(elsewhere)


def test_the_account_page_ends_other_sessions(web, ada):
    with browser(web, **{"user-agent": "Lynx <2.9>"}) as elsewhere:
        sign_in(elsewhere)
        assert "Lynx &lt;2.9&gt;" in ada.get("/console/account").text
        assert ada.post("/console/account/sessions").status_code == 303
        assert not is_signed_in(elsewhere)
    assert is_signed_in(ada)


def test_a_wrong_present_password_changes_nothing(web, ada):
    form = {"present": "not the one I have", "password": "another good password", "repeated": "another good password"}
    answer = ada.post("/console/account/password", data=form)
    assert (answer.status_code, "present password is wrong" in answer.text) == (422, True)
    with browser(web) as elsewhere:
        assert sign_in(elsewhere).status_code == 303


def test_the_api_takes_a_session_with_the_rights_of_its_operator(web, ada):
    link = add(web.database, "vic", Role.VIEWER)
    assert ada.get("/api/v1/audit").status_code == 200
    user = {"external_id": "u-1"}
    assert ada.post("/api/v1/users", json=user).status_code == 201
    assert actions(web)[-1] == ("operator:ada", "user.added")
    with browser(web) as viewer:
        welcome(viewer, link)
        assert viewer.get("/api/v1/users").status_code == 200
        assert viewer.get("/api/v1/audit").status_code == 403
        assert viewer.post("/api/v1/users", json={"external_id": "u-2"}).status_code == 403


CROSS = [
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site", "origin": "http://127.0.0.1"},
    {"sec-fetch-site": "none"},
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "https://127.0.0.1"},
    {},
]


def test_what_another_site_sends_with_a_session_is_not_done(web, ada):
    with browser(web) as victim:
        victim.cookies.set("waylink-session", ada.cookies["waylink-session"], domain="127.0.0.1")
        del victim.headers["sec-fetch-site"]
        for headers in CROSS:
            for path in ("/console/sign-out", "/console/account/sessions", "/console/account/password"):
                assert victim.post(path, data={}, headers=headers).status_code == 403, headers
            name = {"name": "x", "password": "y"}
            assert victim.post("/console/sign-in", data=name, headers=headers).status_code == 403, headers
            answer = victim.post("/api/v1/users", json={"external_id": "u-1"}, headers=headers)
            assert (answer.status_code, answer.json()["type"]) == (403, "urn:waylink:problem:cross_site"), headers
            assert victim.delete("/api/v1/operators/ada?yes=true", headers=headers).status_code == 403, headers
    assert is_signed_in(ada)


def test_a_browser_without_sec_fetch_site_is_known_by_its_origin(web, ada):
    del ada.headers["sec-fetch-site"]
    origin = {"origin": f"http://127.0.0.1:{web.port}"}
    assert ada.post("/api/v1/users", json={"external_id": "u-1"}, headers=origin).status_code == 201
    assert ada.post("/console/account/sessions", headers=origin).status_code == 303


def test_pages_are_served_under_known_host_names_alone(web, ada):
    for path in ("/console", "/console/sign-in"):
        assert ada.get(path, headers={"host": "evil.example"}).status_code == 421
    assert ada.get("/api/v1/events", headers={"host": "evil.example"}).status_code == 421


def test_signing_in_leads_to_pages_of_the_console_alone(web, ada):
    with browser(web) as client:
        assert sign_in(client, next="/console/account").headers["location"] == "/console/account"
        assert sign_in(client, next="https://evil.example/").headers["location"] == "/console"


@pytest.mark.parametrize(
    ("asked", "onward"),
    [
        ("/console/account", "/console/account"),
        ("https://evil.example/", "/console"),
        ("//evil.example/", "/console"),
        ("/console//evil.example", "/console"),
        ("/console/\\evil.example", "/console"),
        ("/console/\r\nset-cookie:x", "/console"),
        ("/console/sign-in", "/console"),
        ("/api/v1/events", "/console"),
        ("", "/console"),
        (None, "/console"),
    ],
)
def test_a_way_onward_is_a_path_of_the_console(asked, onward):
    assert own_path(asked) == onward


def test_a_page_that_needs_a_session_leads_to_the_sign_in_and_back(web, ada):
    with browser(web) as client:
        led = client.get("/console/account").headers["location"]
        assert led == "/console/sign-in?next=/console/account"
        assert 'value="/console/account"' in client.get(led).text


def test_a_form_that_cannot_be_read_is_refused(web):
    with browser(web) as client:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        for body in (b"name=a&password=" + b"x" * 9000, b"&".join(b"a=b" for _ in range(50)), b"\xff=%ff"):
            assert client.post("/console/sign-in", content=body, headers=headers).status_code in {400, 413}
        assert client.post("/console/sign-in", content=b"{}", headers=OWN).status_code == 400


def test_guesses_are_slowed_down_over_all_addresses_and_the_operator_is_not_kept_out(web, ada):
    assert sign_in(ada).status_code == 303  # from an address that is then known
    now = utc_now()
    with web.database.write() as session:
        attempts.put(session, passwords._key("name", "ada"), Failures(9, now, now + timedelta(hours=1)))
    with browser(web, **{"x-forwarded-for": "203.0.113.99"}) as guesser:
        answer = sign_in(guesser, password=PASSWORD)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 0
        assert "Too many attempts" in answer.text
        assert not is_signed_in(guesser)
    with browser(web) as at_home:
        assert sign_in(at_home).status_code == 303


# The services, with a clock of the test's own


@pytest.fixture
def operator(database):
    """The operator ada with a password, and nothing else."""
    with database.write() as session:
        row = accounts.add(session, "ada", Rights(Role.OPERATOR), actor="cli:test", now=NOW)
        links.set_password(session, row, hashing.hashed(PASSWORD), now=NOW)
    return row


def attempt(database, password=PASSWORD, *, at=NOW, address=HERE.address, name="ada", lives=LIVES):
    visitor = Visitor(address, "a browser")
    return passwords.sign_in(database, name=name, password=password, visitor=visitor, lives=lives, now=at)


def test_a_session_ends_unused_and_after_its_longest_life(database, operator):
    lives = Lives(idle=timedelta(hours=1), longest=timedelta(hours=3))
    secret = attempt(database, lives=lives)

    def lives_at(after: timedelta) -> bool:
        return sessions.authenticate(database, secret, lives=lives, now=NOW + after) is not None

    assert [lives_at(timedelta(minutes=minutes)) for minutes in (0, 59, 117, 170, 179, 180)] == [True] * 5 + [False]
    idle = attempt(database, lives=lives)
    assert sessions.authenticate(database, idle, lives=lives, now=NOW + timedelta(minutes=60)) is None


def test_the_delays_grow_are_bounded_and_are_forgotten(database, operator):
    for number in range(5):
        assert attempt(database, "wrong", address=f"203.0.113.{number}") is None
    at, waits = NOW, []
    for number in range(8):
        with pytest.raises(TooManyAttempts) as early:
            attempt(database, at=at, address=f"198.51.100.{number}")
        waits.append(early.value.retry_after.total_seconds())
        at += early.value.retry_after
        assert attempt(database, "wrong", at=at, address=f"198.51.100.{number}") is None
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    assert attempt(database, at=at + timedelta(hours=1), address="198.51.100.99") is not None


def test_an_address_is_slowed_down_whatever_names_it_tries(database, operator):
    for number in range(20):
        assert attempt(database, "wrong", name=f"name-{number}") is None
    with pytest.raises(TooManyAttempts):
        attempt(database)
    assert attempt(database, address="192.0.2.8") is not None


def test_an_operator_is_let_in_where_they_were_before_whatever_strangers_do(database, operator):
    assert attempt(database) is not None
    for number in range(25):  # those behind the same proxy, and those elsewhere
        for name, address in ((f"name-{number}", HERE.address), ("ada", f"203.0.113.{number}")):
            with contextlib.suppress(TooManyAttempts):
                attempt(database, "wrong", name=name, address=address)
    with pytest.raises(TooManyAttempts):
        attempt(database, address="203.0.113.99")
    assert attempt(database) is not None
    for _ in range(5):
        assert attempt(database, "wrong") is None
    with pytest.raises(TooManyAttempts):
        attempt(database, "wrong")


def test_attempts_side_by_side_are_counted_one_by_one(database, operator):
    def guess(number: int) -> str:
        try:
            return str(attempt(database, "wrong", address=f"203.0.113.{number}"))
        except TooManyAttempts:
            return "too many"

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(guess, range(12)))
    assert outcomes.count("None") == 5


def test_a_name_that_is_not_there_costs_a_hash_too(database, operator, monkeypatch):
    checked = []
    verify = hashing._HASHER.verify
    monkeypatch.setattr(
        type(hashing._HASHER), "verify", lambda _hasher, *given: checked.append(given) or verify(*given)
    )
    assert attempt(database, name="nemo") is None
    assert len(checked) == 1


def test_what_was_typed_as_a_name_is_not_stored(database, operator):
    attempt(database, name="my-secret-by-mistake", password="x")
    with database.read() as session:
        for table in ("sign_in_attempts", "audit", "operators"):
            assert "my-secret-by-mistake" not in repr(session.execute(text(f"SELECT * FROM {table}")).all())


def test_a_link_expires(database):
    with database.write() as session:
        row = accounts.add(session, "ada", Rights(Role.OPERATOR), actor="t", now=NOW)
        secret = links.issue(session, row, life=timedelta(hours=1), actor="t", now=NOW)
        assert links.of_secret(session, secret, now=NOW + timedelta(minutes=59)) is not None
        assert links.of_secret(session, secret, now=NOW + timedelta(minutes=60)) is None
        newer = links.issue(session, row, actor="t", now=NOW)
        assert links.of_secret(session, secret, now=NOW) is None
        assert links.of_secret(session, newer, now=NOW) is not None


def test_only_hashes_are_stored(database, operator):
    secret = attempt(database)
    with database.write() as session:
        link = links.issue(session, accounts.find(session, "ada"), actor="t", now=NOW)
        rows = [
            session.execute(text(f"SELECT * FROM {table}")).all()
            for table in ("operators", "operator_links", "operator_sessions", "audit")
        ]
    stored = repr(rows)
    assert re.search(r"\$argon2id\$", stored)
    assert not [value for value in (PASSWORD, secret, link, secret[4:], link[4:]) if value in stored]


def test_the_last_operator_stays_unless_it_is_meant(database, operator):
    with database.write() as session:
        row = accounts.find(session, "ada")
        accounts.add(session, "vic", Rights(Role.VIEWER), actor="t", now=NOW)
        for act in (
            lambda: accounts.disable(session, row, actor="t", now=NOW, yes=False),
            lambda: accounts.remove(session, row, actor="t", now=NOW, yes=False),
            lambda: accounts.change_rights(session, row, Rights(Role.VIEWER), actor="t", now=NOW, yes=False),
        ):
            with pytest.raises(Conflict, match="last enabled operator"):
                act()
        accounts.add(session, "bob", Rights(Role.OPERATOR), actor="t", now=NOW)
        accounts.disable(session, row, actor="t", now=NOW, yes=False)
        accounts.remove(session, accounts.find(session, "bob"), actor="t", now=NOW, yes=True)


@pytest.mark.parametrize(
    ("name", "rights", "error"),
    [
        ("Ada Lovelace", Rights(Role.VIEWER), InvalidInput),
        ("", Rights(Role.VIEWER), InvalidInput),
        ("ada", Rights(Role.VIEWER), Conflict),
        ("bob", Rights(Role.TEAM), InvalidInput),
        ("bob", Rights(Role.VIEWER, "crm"), InvalidInput),
        ("bob", Rights(Role.TEAM, "crm", credentials=True), InvalidInput),
        ("bob", Rights(Role.TEAM, "crm"), NotFound),
    ],
)
def test_an_operator_that_cannot_be_is_refused(database, operator, name, rights, error):
    with pytest.raises(error), database.write() as session:
        accounts.add(session, name, rights, actor="t", now=NOW)


def test_the_first_operator_is_offered_until_one_has_signed_in(database):
    with database.write() as session:
        made = accounts.first(session, actor="t", now=NOW)
        assert (made.name, made.role) == ("admin", "operator")
        assert accounts.first(session, actor="t", now=NOW).id == made.id
        session.get(Operator, made.id).signed_in_at = NOW
        session.flush()
        assert accounts.first(session, actor="t", now=NOW) is None


def test_rights_of_a_group_that_went_away_end_the_sessions(database):
    person = single_sign_on.Person("https://login.example", "s-1", "ada@example.com", ("ops",))
    mapping = [single_sign_on.GroupRights("ops", Rights(Role.OPERATOR))]
    given = {"visitor": HERE, "lives": Lives(), "now": NOW}
    secret = single_sign_on.sign_in(database, person, mapping, **given)
    assert sessions.authenticate(database, secret, lives=Lives(), now=NOW).name == "ada@example.com"
    with pytest.raises(NotAllowed):
        single_sign_on.sign_in(database, person, [], **given)
    assert sessions.authenticate(database, secret, lives=Lives(), now=NOW) is None
