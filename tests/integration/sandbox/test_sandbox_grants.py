"""Grants of the sandbox over HTTP: lives, rotation, what token responses tell, outages, and the state file."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.integration.sandbox.sandbox_server import control, fetch, register, serve

T0 = datetime(2026, 12, 1, 9, tzinfo=UTC)
DAYS = 86_400


class Clock:
    def __init__(self):
        self.now = T0

    def __call__(self):
        return self.now

    def move(self, **span):
        self.now += timedelta(**span)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sandbox(clock):
    with serve(clock=clock) as client:
        yield client


def rules(client, **members):
    return client.put("/sandbox/integrations/crm", json={"provider": "a-crm", **members}).raise_for_status().json()


def connected(client, **members):
    rules(client, **members)
    register(client, "c-1", "crm")
    return "c-1"


def grant(client):
    query = {"provider_config_key": "crm"}
    return client.get("/sandbox/connections/c-1", params=query).raise_for_status().json()


def forced(client):
    return fetch(client, "c-1", "crm", force_refresh=True)


def refresh_token(client):
    return fetch(client, "c-1", "crm", refresh_token=True).json()["credentials"]["refresh_token"]


def test_a_grant_that_is_not_used_lapses_and_one_that_is_used_lives_on(sandbox, clock):
    connected(sandbox, idle_limit=30 * DAYS)
    clock.move(days=29)
    assert forced(sandbox).status_code == 200
    clock.move(days=29)
    assert grant(sandbox)["lapsed"] is None
    clock.move(days=1)
    assert grant(sandbox)["lapsed"] == "idle_limit"
    assert forced(sandbox).json()["error"]["code"] == "invalid_credentials"


def test_a_lapsed_grant_fails_as_any_refusal_and_is_given_up_on_the_fourth_failing_day(sandbox, clock):
    connected(sandbox, access_life=3600)
    control(sandbox, "c-1", "crm", revoked=True)
    clock.move(hours=2)
    said = []
    for _ in range(4):
        answer = fetch(sandbox, "c-1", "crm")
        said.append((answer.status_code, answer.json()["error"]["code"]))
        clock.move(days=1)
    assert said == [(400, "invalid_credentials")] * 4
    assert grant(sandbox)["exhausted"]
    assert fetch(sandbox, "c-1", "crm").status_code == 424
    assert "invalid_grant" not in answer.text  # Nango does not pass on what the provider said


def test_a_renewal_replaces_the_refresh_token_where_it_rotates_and_keeps_it_where_not(sandbox):
    for rotates in (True, False):
        connected(sandbox, rotates=rotates)
        before = refresh_token(sandbox)
        assert forced(sandbox).status_code == 200
        assert (refresh_token(sandbox) != before) == rotates


@pytest.mark.parametrize(("reuse", "status"), [("allowed", 200), ("refused", 400), ("revokes", 400)])
def test_a_renewal_past_nango_leaves_it_an_old_refresh_token(sandbox, reuse, status):
    connected(sandbox, reuse=reuse)
    taken = sandbox.post("/sandbox/provider/token", json={"refresh_token": refresh_token(sandbox)})
    assert taken.raise_for_status().json()["refresh_token"] != refresh_token(sandbox)
    assert forced(sandbox).status_code == status
    assert grant(sandbox)["lapsed"] == ("reused" if reuse == "revokes" else None)
    newest = sandbox.post("/sandbox/provider/token", json={"refresh_token": taken.json()["refresh_token"]})
    assert newest.status_code == (400 if reuse == "revokes" else 200)


def test_the_token_endpoint_refuses_tokens_that_it_does_not_know(sandbox):
    refused = sandbox.post("/sandbox/provider/token", json={"refresh_token": "stolen"})
    assert (refused.status_code, refused.json()) == (400, {"error": "invalid_grant"})


@pytest.mark.parametrize("member", ["refresh_token_expires_in", "x_refresh_token_expires_in"])
def test_the_token_response_tells_the_life_of_the_refresh_token_in_seconds(sandbox, clock, member):
    connected(sandbox, refresh_life=30 * DAYS, rotates=False, tells=member)
    clock.move(days=10)
    raw = forced(sandbox).json()["credentials"]["raw"]
    assert raw[member] == 20 * DAYS
    assert raw["expires_in"] == 3600


def test_the_token_response_tells_the_moment_and_never_the_token(sandbox):
    connected(sandbox, idle_limit=30 * DAYS, tells="refresh_token_expires_at")
    credentials = fetch(sandbox, "c-1", "crm").json()["credentials"]
    assert credentials["raw"]["refresh_token_expires_at"] == "2026-12-31T09:00:00.000Z"
    assert "refresh_token" not in credentials["raw"]


def test_a_provider_that_tells_the_refresh_tokens_life_only_gives_no_expiry_and_is_not_renewed(sandbox, clock):
    connected(sandbox, access_life=1800, refresh_life=30 * DAYS, tells="refresh_token_expires_in", tells_expiry=False)
    clock.move(days=29)
    credentials = fetch(sandbox, "c-1", "crm").json()["credentials"]
    assert "expires_at" not in credentials
    assert not {"expires_in", "expires_at"} & set(credentials["raw"])
    assert grant(sandbox)["used_at"] == "2026-12-01T09:00:00.000Z"
    assert forced(sandbox).status_code == 200
    assert grant(sandbox)["lapses_at"] == "2027-01-29T09:00:00.000Z"


@pytest.mark.parametrize(
    ("members", "minutes_before", "renewed"),
    [
        ({}, 14, True),
        ({"margin": 60}, 14, False),
        ({"margin": 60}, 0.5, True),
        ({"renews": "forced"}, 1, False),
        ({"renews": "never"}, 1, False),
        ({"renews": "introspected"}, 16, False),
        ({"renews": "introspected"}, 14, True),
    ],
)
def test_a_plain_get_renews_by_the_rules_of_the_provider(*, sandbox, clock, members, minutes_before, renewed):
    connected(sandbox, access_life=7200, **members)
    before = fetch(sandbox, "c-1", "crm").json()["credentials"]["access_token"]
    clock.move(seconds=7200 - minutes_before * 60)
    assert (fetch(sandbox, "c-1", "crm").json()["credentials"]["access_token"] != before) == renewed


def test_a_token_without_a_refresh_token_is_not_renewed_by_force_either(sandbox):
    connected(sandbox, renews="never")
    before = fetch(sandbox, "c-1", "crm").json()["credentials"]
    assert forced(sandbox).json()["credentials"] == before


def test_an_outage_of_the_provider_refuses_all_of_an_integration_until_it_is_over(sandbox, clock):
    connected(sandbox)
    register(sandbox, "other", "oauth2")
    outage = {"operation": "refresh", "provider_config_key": "crm", "lasts": 600, "message": "503 from the provider"}
    added = sandbox.post("/sandbox/faults", json=outage).raise_for_status().json()["fault"]
    assert added["ends_at"] == "2026-12-01T09:10:00.000Z"
    assert forced(sandbox).json()["error"]["message"] == "503 from the provider"
    assert fetch(sandbox, "other", "oauth2", force_refresh=True).status_code == 200
    clock.move(seconds=600)
    assert sandbox.get("/sandbox/faults").json() == {"faults": []}
    assert forced(sandbox).status_code == 200
    assert grant(sandbox)["failing_days"] == 0


def test_a_grant_can_be_aged_by_hand(sandbox):
    connected(sandbox, idle_limit=30 * DAYS)
    control(sandbox, "c-1", "crm", renewed_ago=31 * DAYS)
    assert grant(sandbox)["lapsed"] == "idle_limit"
    control(sandbox, "c-1", "crm", renewed_ago=0)
    assert forced(sandbox).status_code == 200


def test_rules_are_shown_checked_and_replaced_as_a_whole(sandbox):
    shown = rules(sandbox, access_life=1800, idle_limit=30 * DAYS, reuse="revokes")
    assert (shown["provider"], shown["auth_mode"], shown["access_life"], shown["tells"]) == (
        "a-crm",
        "OAUTH2",
        1800,
        None,
    )
    assert sandbox.get("/sandbox/integrations/crm").json() == shown
    assert rules(sandbox)["idle_limit"] is None
    wrong = sandbox.put("/sandbox/integrations/crm", json={"reuse": "perhaps", "idle_limit": -1, "more": 1})
    assert [issue["path"] for issue in wrong.json()["error"]["errors"]] == [["idle_limit"], ["reuse"], []]
    assert sandbox.get("/sandbox/integrations/nothing").status_code == 404
    assert sandbox.put("/sandbox/integrations/a%2Fb", json={}).status_code in {400, 404}


def test_rules_and_grants_survive_a_restart(tmp_path, clock):
    kept = tmp_path / "state.json"
    with serve(clock=clock, state_file=kept) as client:
        connected(client, idle_limit=30 * DAYS, tells="refresh_token_expires_in")
        clock.move(days=3)
        forced(client)
        before = rules_and_grant(client)
    with serve(clock=clock, state_file=kept) as client:
        assert rules_and_grant(client) == before


def test_a_connection_of_an_earlier_releases_state_file_has_a_grant_that_began_with_it(tmp_path, clock):
    kept = tmp_path / "state.json"
    with serve(clock=clock, state_file=kept) as client:
        connected(client, idle_limit=30 * DAYS)
    text = kept.read_text()
    begin = text.index(',"grant":{')
    kept.write_text(text[:begin] + text[text.index("}", begin) + 1 :])
    clock.move(days=2)
    with serve(clock=clock, state_file=kept) as client:
        assert grant(client)["used_at"] == "2026-12-01T09:00:00.000Z"
        assert forced(client).status_code == 200
        assert grant(client)["used_at"] == "2026-12-03T09:00:00.000Z"


def rules_and_grant(client):
    return client.get("/sandbox/integrations/crm").json(), grant(client), refresh_token(client)
