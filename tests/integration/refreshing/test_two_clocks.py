"""Promise 13: token and grant each have a deadline with its source; promise 7: nothing else of an answer is kept."""

from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from app.config.provider_catalogue import shipped_catalogue
from app.db.read import connection_listing
from app.db.read.listing import ListFilters
from app.domain.access import Access, Scope
from app.domain.refreshing.policy import RefreshPolicies
from app.services.connections import credentials
from app.services.connections.operations import Operations
from app.web.api import connections
from app.web.api.endpoint import Call, Context
from tests.integration.sandbox.sandbox_server import control, register
from tests.integration.world import DANA, auth, dump

DAY = timedelta(days=1)
CANARY = "canary-7f3a91"
RAW = {
    "refresh_token_expires_in": 30 * 86_400,
    "refresh_token_expires_at": CANARY,
    "scope": CANARY,
    CANARY: {"id_token": CANARY},
    "refresh_token": f"{CANARY}-refresh",
}


@pytest.fixture
def world(open_world, gate):
    return open_world(base_url=gate.url)


@pytest.fixture
def answering(gate):
    """Replaces members of the token response in every answer from then on; None removes the expiry."""

    def answer(raw, **members):
        def edit(body):
            if "credentials" not in body:  # of a list, or an error
                return body
            sent = body["credentials"] | members
            if "expires_at" in members and members["expires_at"] is None:
                del sent["expires_at"]
            return body | {"credentials": sent | {"raw": raw}}

        gate.edit = edit

    return answer


@pytest.fixture
def connected(world, nango, connection_id):
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    return connection_id


def refresh(world, connection_id):
    world.clock.now = max(world.clock.now, world.open_plan(connection_id).next_at)
    assert world.refresher.refresh_due() == 1


def shown(world, connection_id):
    """The connection as API and commands show it."""
    with world.database.read() as session:
        return connection_listing.connection(session, world.connection(connection_id).id)


def test_a_connection_that_was_not_read_says_so_and_one_that_has_no_clock_says_why(world, nango, connected):
    before = shown(world, connected)
    assert (before["expires_source"], before["grant_source"]) == ("unknown", "unknown")
    assert before["expires_reason"] == before["grant_reason"] == "its token has not been read yet"
    register(nango, "a-key", "oauth2", tags=DANA)
    world.handle(auth(connection_id="a-key", tags=DANA, mode="API_KEY"))
    key = shown(world, "a-key")
    assert "API_KEY" in key["expires_reason"]
    assert "API_KEY" in key["grant_reason"]


def test_both_clocks_are_read_from_one_answer_and_shown_in_lists(world, nango, answering, clock, connected):
    issued = clock.now
    control(nango, connected, "oauth2", expires_in=3600)
    answering(RAW | {"expires_in": 3600})
    refresh(world, connected)
    with world.database.read() as session:
        [row] = connection_listing.connections(session, ListFilters(connection_id=connected))
    assert (row["expires_source"], row["expires_reason"], row["grant_source"]) == ("provider", None, "provider")
    stored = world.connection(connected)
    assert row["grant_expires_at"] == stored.grant_expires_at.isoformat()
    assert abs(stored.grant_expires_at - (issued + 30 * DAY)) < timedelta(minutes=5)
    assert row["grant_reason"].startswith("30 days from 2")


def test_the_life_of_a_refresh_token_without_any_expiry_counts_from_the_authorization(world, answering, connected):
    """A provider that states only the refresh token's life. (Nango contract: When a token is refreshed)"""
    answering({"refresh_token_expires_in": 30 * 86_400}, expires_at=None)
    authorized = world.clock.now
    refresh(world, connected)
    connection = world.connection(connected)
    assert (connection.expires_at, connection.expires_source) == (None, "unknown")
    assert connection.grant_expires_at == authorized + 30 * DAY
    assert shown(world, connected)["expires_reason"] == "Nango knows no expiry of its token"


def test_a_later_look_does_not_move_the_deadline_and_a_forced_renewal_does(world, nango, answering, clock, connected):
    answering({"refresh_token_expires_in": 30 * 86_400}, expires_at=None)
    refresh(world, connected)
    first = world.connection(connected).grant_expires_at
    operations = Operations(world.database, world.policy, world.clients, clock)
    clock.move(5 * 86_400)
    credentials.get_credentials(operations, world.connection(connected).id, actor="token:tester")
    assert world.connection(connected).grant_expires_at == first
    credentials.refresh(operations, world.connection(connected).id, actor="token:tester")
    moved = world.connection(connected).grant_expires_at
    assert moved is not None
    assert moved != first


def test_a_reauthorization_forgets_both_clocks_and_a_deletion_too(world, nango, answering, clock, connected):
    answering(RAW)
    refresh(world, connected)
    assert world.connection(connected).grant_expires_at is not None
    clock.move(60)
    world.handle(auth("override", connection_id=connected, tags=DANA))
    connection = world.connection(connected)
    assert (connection.expires_at, connection.grant_expires_at, connection.grant_source) == (None, None, None)
    assert connection.renewed_at is not None
    nango.delete(f"/connections/{connected}", params={"provider_config_key": "oauth2"}).raise_for_status()
    world.wait_out(auth("deletion", connection_id=connected, tags=DANA))
    assert shown(world, connected)["grant_reason"] == "the connection is deleted"


def test_what_the_provider_documents_is_used_where_its_answer_tells_nothing(open_world, nango, gate, connection_id):
    world = open_world(base_url=gate.url, refresh=RefreshPolicies(catalogue=shipped_catalogue()))
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA, provider="zendesk"))
    authorized = world.clock.now
    control(nango, connection_id, "oauth2", expires_in=None)
    refresh(world, connection_id)
    found = shown(world, connection_id)
    assert (found["expires_source"], found["grant_source"]) == ("catalogue", "catalogue")
    assert found["expires_at"] == (authorized + timedelta(minutes=30)).isoformat()
    assert found["grant_expires_at"] == (authorized + 30 * DAY).isoformat()
    assert found["refreshes"][0]["expires_at"] is None  # an estimate is no expiry that was read
    control(nango, connection_id, "oauth2", expires_in=3600)
    operations = Operations(world.database, world.policy, world.clients, world.clock)
    credentials.get_credentials(operations, world.connection(connection_id).id, actor="token:tester")
    assert shown(world, connection_id)["expires_source"] == "provider"


@pytest.mark.parametrize(
    "value", [True, -1, 0, 1e308, "NaN", "9999-12-31T00:00:00Z", [], {}, None, "never", 10**30], ids=repr
)
def test_no_date_of_an_answer_stops_a_wave(world, nango, answering, connected, value):
    names = ("refresh_token_expires_in", "refresh_token_expires_at", "expires_in")
    answering(dict.fromkeys(names, value), expires_at=value)
    refresh(world, connected)
    assert world.plans(connected)[0].outcome in {"first_seen", "no_expiry"}
    assert world.connection(connected).grant_source == "unknown"
    assert shown(world, connected)["grant_reason"]


def test_nothing_of_a_token_response_reaches_a_row_a_log_or_a_page(world, nango, answering, clock, connected):
    world.route(all={"environment": ["default"]})
    answering(RAW | {"expires_in": 3600})
    operations = Operations(world.database, world.policy, world.clients, clock)
    with capture_logs() as logs:
        refresh(world, connected)
        credentials.refresh(operations, world.connection(connected).id, actor="token:tester")
        control(nango, connected, "oauth2", exhausted=True)
        refresh(world, connected)
        world.process()
    call = Call(
        Access("tester", frozenset(Scope)),
        Context(world.database, world.policy, world.clients, clock, hints=None, means=None),
    )
    record = connections.get_connection.run(call, con_id=shown(world, connected)["id"])
    assert world.connection(connected).grant_source == "provider"  # the answer was read
    for place in (dump(world.database), repr(logs), repr(record), repr(shown(world, connected))):
        assert CANARY not in place
