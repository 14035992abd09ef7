"""Tokens over the API: shown once, listed without secrets, ended at once, with no more than the caller's rights."""

import pytest

from tests.integration.api.api_client import ApiClient, open_api, problem_of


@pytest.fixture(scope="module")
def api(tmp_path_factory, valkey):
    folder = tmp_path_factory.mktemp("tokens-api")
    valkey.start()
    url = f"sqlite:///{folder}/waylink.db"
    with open_api(database_url=url, broker_url=valkey.url(0), folder=folder) as opened:
        yield opened


def test_a_token_is_made_used_listed_and_revoked(api: ApiClient):
    body = {"name": "deploy", "scopes": ["viewer", "viewer"], "expires_in": "2h"}
    made = api("POST", "/tokens", json=body)
    assert made.status_code == 201, made.text
    assert (made.json()["scopes"], made.json()["team"]) == (["viewer"], None)
    api.secrets["made"] = made.json()["token"]
    assert api.get("/connections", who="made").status_code == 200
    problem_of(api("POST", "/teams", who="made", json={"name": "x"}), 403, "forbidden")
    [listed] = [row for row in api.json("/tokens")["data"] if row["name"] == "deploy"]
    assert listed["last_used_at"] is not None
    assert api.json(f"/tokens/{made.json()['id']}") == api.json("/tokens/deploy") == listed
    assert made.json()["token"] not in api.get("/tokens").text + api.get("/audit").text
    assert problem_of(api("POST", "/tokens", json=body), 409, "conflict")["detail"].startswith("there is a token")
    assert api("DELETE", "/tokens/deploy").json()["revoked_at"]
    problem_of(api.get("/connections", who="made"), 401, "unauthenticated")
    problem_of(api("DELETE", f"/tokens/{made.json()['id']}"), 404, "not_found")
    assert "deploy" not in {row["name"] for row in api.json("/tokens")["data"]}
    assert "deploy" in {row["name"] for row in api.json("/tokens?revoked=true")["data"]}
    entries = api.json(f"/audit?subject={made.json()['id']}")["data"]
    assert [(row["action"], row["actor"]) for row in entries] == [
        ("token.revoked", "token:operator"),
        ("token.created", "token:operator"),
    ]


def test_a_list_has_pages_and_is_narrowed_to_a_team(api: ApiClient):
    first = api.json("/tokens?limit=2")
    rest = api.json(f"/tokens?limit=500&cursor={first['next_cursor']}")
    names = [row["name"] for row in first["data"] + rest["data"]]
    assert names == [row["name"] for row in api.json("/tokens?limit=500")["data"]]
    assert {row["name"] for row in api.json("/tokens?team=crm")["data"]} == {"team", "team-viewer"}


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({"scopes": []}, 422, "invalid_input"),
        ({"scopes": ["root"]}, 400, "invalid_request"),
        ({"scopes": ["viewer"], "team": "crm"}, 422, "invalid_input"),
        ({"scopes": [], "team": "absent"}, 422, "invalid_input"),
        ({"expires_in": "soon"}, 422, "invalid_input"),
        ({"expires_in": "99999d"}, 422, "invalid_input"),
        ({"name": " x"}, 422, "invalid_input"),
        ({"name": "x" * 101}, 400, "invalid_request"),
        ({"scopes": ["credentials"]}, 403, "forbidden"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_made(api: ApiClient, changes, status, word):
    before = api.json("/tokens?limit=500&revoked=true")
    problem_of(api("POST", "/tokens", json={"name": "odd", "scopes": ["viewer"]} | changes), status, word)
    assert api.json("/tokens?limit=500&revoked=true") == before


def test_who_may_read_credentials_gives_that_and_teams_make_no_tokens(api: ApiClient):
    made = api("POST", "/tokens", who="everything", json={"name": "vault", "scopes": ["credentials"]})
    assert made.status_code == 201
    for who in ("viewer", "credentials", "team", "team-viewer"):
        problem_of(api("POST", "/tokens", who=who, json={"name": "mine", "scopes": ["viewer"]}), 403, "forbidden")
        problem_of(api.get("/tokens", who=who), 403, "forbidden")
