"""A small scenario of users who connect, reconnect and fail, so that a fresh Waylink has something to show."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import httpx


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioUser:
    id: str
    email: str
    organization: str
    plan: str
    integration: str

    def tags(self) -> dict[str, str]:
        return {
            "end_user_id": self.id,
            "end_user_email": self.email,
            "organization_id": self.organization,
            "plan": self.plan,
        }


ADA: Final = ScenarioUser(
    id="ada", email="ada@acme.example", organization="acme", plan="enterprise", integration="oauth2"
)
GRACE: Final = ScenarioUser(
    id="grace", email="grace@acme.example", organization="acme", plan="enterprise", integration="apikey"
)
LINUS: Final = ScenarioUser(
    id="linus", email="linus@globex.example", organization="globex", plan="pro", integration="oauth2-cc"
)
MARGARET: Final = ScenarioUser(
    id="margaret", email="margaret@globex.example", organization="globex", plan="pro", integration="oauth2"
)

# Each integration's flow, and the end user's input.
_FLOWS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "apikey": ("/api-auth/api-key/apikey", {"apiKey": "sandbox-scenario-key"}),
    "oauth2": ("/sandbox/oauth/oauth2", {}),
    "oauth2-cc": ("/oauth2/auth/oauth2-cc", {"client_id": "scenario", "client_secret": "sandbox-scenario-secret"}),
}


def play(base_url: str, api_key: str, *, log: Callable[[str], None], pause: float = 0.3) -> None:
    """Play the scenario against a running sandbox, in about two seconds.

    Existing connections stay, so it may be played at each start: then only the reconnect and the failed attempt happen
    again. pause: seconds between two steps. Raises httpx.HTTPError.
    """
    headers = {"authorization": f"Bearer {api_key}"}
    with httpx.Client(base_url=base_url, headers=headers, timeout=5.0, trust_env=False) as client:
        for person in (GRACE, ADA, LINUS):
            if _connection_id(client, person) is None:
                _authorize(client, _session(client, person), person)
                log(f"{person.id} of {person.organization} ({person.plan}) connected {person.integration}")
                time.sleep(pause)
        _authorize(client, _session(client, MARGARET), MARGARET, fails=True)
        log(f"{MARGARET.id} of {MARGARET.organization} tried {MARGARET.integration}, and the provider refused")
        time.sleep(pause)
        if connection_id := _connection_id(client, ADA):
            _authorize(client, _reconnect_session(client, ADA, connection_id), ADA)
            log(f"{ADA.id} of {ADA.organization} reconnected {ADA.integration}")


def _connection_id(client: httpx.Client, person: ScenarioUser) -> str | None:
    query = {"integrationId": person.integration, "tags[end_user_id]": person.id}
    response = client.get("/connections", params=query).raise_for_status()
    return next((str(found["connection_id"]) for found in response.json()["connections"]), None)


def _session(client: httpx.Client, person: ScenarioUser) -> str:
    body = {"tags": person.tags(), "allowed_integrations": [person.integration]}
    return str(client.post("/connect/sessions", json=body).raise_for_status().json()["data"]["token"])


def _reconnect_session(client: httpx.Client, person: ScenarioUser, connection_id: str) -> str:
    """With the full tags: a reconnect session without them wipes the connection's (Nango contract: Tag replacement)."""
    body = {"connection_id": connection_id, "integration_id": person.integration, "tags": person.tags()}
    return str(client.post("/connect/sessions/reconnect", json=body).raise_for_status().json()["data"]["token"])


def _authorize(client: httpx.Client, token: str, person: ScenarioUser, *, fails: bool = False) -> None:
    path, body = _FLOWS[person.integration]
    response = client.post(path, params={"connect_session_token": token}, json=body | ({"fail": True} if fails else {}))
    if not fails:
        response.raise_for_status()
