"""`waylink token` and `waylink audit`: made once, listed without their secrets, ended at once."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert

from app.db.models import Team
from app.domain.access import Scope
from app.errors import Conflict, InvalidInput, NotFound
from app.services import tokens
from tests.integration.cli.test_cli import Command, one_line_error
from tests.integration.world import in_threads


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> Command:
    made = Command(tmp_path_factory.mktemp("tokens"))
    assert made("migrate").returncode == 0
    return made


def issue(world, name, *scopes, team=None, lifetime=timedelta(days=1)):
    with world.database.write() as session:
        return tokens.issue(
            session, name, scopes=scopes, team=team, lifetime=lifetime, actor="cli:test", now=world.clock()
        )


def test_a_token_is_shown_once_and_never_again(command: Command) -> None:
    made = command.json("token", "create", "deploy", "--scope", "operator", "--scope", "credentials")
    assert made["token"].startswith("wl_")
    assert len(made["token"]) == 46
    assert made["scopes"] == ["credentials", "operator"]
    [listed] = command.json("token", "list")
    assert (listed["name"], listed["expired"], listed["last_used_at"]) == ("deploy", False, None)
    shown = json.dumps(listed) + json.dumps(command.json("audit"))
    assert made["token"] not in shown
    ended = datetime.fromisoformat(listed["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89) < ended <= timedelta(days=90)


def test_a_token_is_revoked_by_name_or_id_and_the_name_is_free_again(command: Command) -> None:
    for by in ("name", "id"):
        made = command.json("token", "create", "brief", "--scope", "viewer", "--expires", "1h")
        assert "already" in one_line_error(command.inside("token", "create", "brief", "--scope", "viewer"), 1)
        assert command.inside("token", "revoke", made[by]).returncode == 0
        one_line_error(command.inside("token", "revoke", made[by]), 1)
    assert "brief" not in {token["name"] for token in command.json("token", "list")}
    assert [token["name"] for token in command.json("token", "list", "--revoked")].count("brief") == 2
    rows = command.json("audit", "--action", "token.revoked")
    assert {row["detail"]["name"] for row in rows} == {"brief"}
    assert all(row["actor"].startswith("cli:") and row["outcome"] == "done" for row in rows)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["x"], 2),
        (["x", "--scope", "viewer", "--team", "crm"], 2),
        (["x", "--scope", "credentials", "--team", "crm"], 2),
        (["x", "--scope", "root"], 2),
        (["x", "--scope", "viewer", "--expires", "0s"], 2),
        (["x", "--scope", "viewer", "--expires", "soon"], 2),
        ([" x", "--scope", "viewer"], 2),
        (["x\x1b[2J", "--scope", "viewer"], 2),
        (["x" * 101, "--scope", "viewer"], 2),
        (["x", "--team", "nobody"], 1),
    ],
)
def test_what_no_token_can_be_is_refused(command: Command, arguments: list[str], code: int) -> None:
    done = command.inside("token", "create", *arguments)
    assert done.returncode == code
    assert "wl_" not in done.stdout
    assert "\x1b" not in done.stderr


def test_a_team_token_belongs_to_a_team_that_is_there(world):
    with pytest.raises(NotFound, match="crm"):
        issue(world, "t", team="crm")
    with world.database.write() as session:
        session.execute(insert(Team).values(name="crm", source="file", created_at=world.clock()))
    secret = issue(world, "t", team="crm").secret
    access = tokens.authenticate(world.database, secret, now=world.clock())
    assert (access.actor, access.team, access.scopes) == ("token:t", "crm", frozenset())
    assert not any(access.allows(scope) for scope in Scope)
    assert {scope for scope in Scope if access.allows(scope, teams=True)} == {Scope.VIEWER}


def test_a_team_token_changes_what_is_the_teams_where_it_is_its_operator(world):
    with world.database.write() as session:
        session.execute(insert(Team).values(name="crm", source="file", created_at=world.clock()))
    access = tokens.authenticate(
        world.database, issue(world, "t", Scope.OPERATOR, team="crm").secret, now=world.clock()
    )
    assert not any(access.allows(scope) for scope in Scope), "what is not about teams is not for them"
    assert {scope for scope in Scope if access.allows(scope, teams=True)} == {Scope.VIEWER, Scope.OPERATOR}


def test_a_team_that_is_gone_gets_no_token(world):
    with world.database.write() as session:
        gone = {"created_at": world.clock(), "retired_at": world.clock()}
        session.execute(insert(Team).values(name="crm", source="file", **gone))
    with pytest.raises(NotFound, match="crm"):
        issue(world, "t", team="crm")


def test_two_calls_that_make_the_same_token_make_one(world):
    made = []

    def make():
        try:
            made.append(issue(world, "same", Scope.VIEWER))
        except Conflict:
            made.append(None)

    in_threads(make, make)
    assert sum(token is not None for token in made) == 1


def test_a_token_ends_when_it_expires(world, clock):
    secret = issue(world, "brief", Scope.VIEWER, lifetime=timedelta(seconds=10)).secret
    assert tokens.authenticate(world.database, secret, now=clock()) is not None
    clock.move(10)
    assert tokens.authenticate(world.database, secret, now=clock()) is None


def test_a_new_tokens_repr_hides_its_secret(world):
    made = issue(world, "shown", Scope.VIEWER)
    assert made.secret not in repr(made)
    with pytest.raises(InvalidInput, match="printable"):
        issue(world, "", Scope.VIEWER)


@pytest.mark.parametrize(
    ("held", "allowed"),
    [
        (Scope.VIEWER, {Scope.VIEWER}),
        (Scope.OPERATOR, {Scope.VIEWER, Scope.OPERATOR}),
        (Scope.CREDENTIALS, {Scope.VIEWER, Scope.CREDENTIALS}),
    ],
)
def test_each_scope_includes_what_it_says(world, held, allowed):
    access = tokens.authenticate(world.database, issue(world, "one", held).secret, now=world.clock())
    assert {scope for scope in Scope if access.allows(scope)} == allowed
