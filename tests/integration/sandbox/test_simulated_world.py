"""The simulated Nango of the benchmark answers as the sandbox does over HTTP."""

import random
from datetime import timedelta

import pytest

from app.sandbox.grants import Renewing, TokenRules, Told
from bench.refresh_lives import DAY, HOUR, Cohort, Outage
from bench.refresh_world import BEGINS, Got, SimulatedWorld
from tests.drawing import seeds
from tests.integration.sandbox.sandbox_server import fetch, register, serve


class Clock:
    def __init__(self):
        self.now = BEGINS

    def __call__(self):
        return self.now


RULES = {
    "hourly": TokenRules(access_life=HOUR, idle_limit=6 * DAY),
    "introspected": TokenRules(access_life=2 * HOUR, idle_limit=8 * DAY, renews=Renewing.INTROSPECTED),
    "silent": TokenRules(access_life=HOUR, refresh_life=9 * DAY, tells=Told.EXPIRES_IN, tells_expiry=False),
    "fixed": TokenRules(access_life=12 * HOUR, refresh_life=7 * DAY, rotates=False, tells=Told.EXPIRES_AT),
    "forced": TokenRules(access_life=5 * DAY, refresh_life=5 * DAY, renews=Renewing.FORCED),
    "never": TokenRules(access_life=DAY, renews=Renewing.NEVER),
}


def told(rules):
    return {name: getattr(rules, name) for name in rules.__dataclass_fields__}


def answered(response, token_before):
    if response.status_code == 424:
        return Got.EXHAUSTED if "limit" in response.json()["error"]["message"] else Got.BACKING_OFF
    if response.status_code == 400:
        return Got.FAILED
    return Got.READ if response.json()["credentials"]["access_token"] == token_before else Got.RENEWED


@pytest.mark.parametrize("kind", RULES)
@seeds(1, 2)
def test_answers_are_those_of_the_sandbox(kind, seed):
    rules, drawn, clock = RULES[kind], random.Random(seed), Clock()
    outage = Outage("crm", 3.0, 3.4)
    cohort = Cohort(name="crm", provider="a-provider", count=1, sampled=1, rules=rules)
    made = SimulatedWorld(1, (cohort,), (outage,), 0.0, 30.0, created_within=timedelta(0))
    [one] = made.connections.values()
    with serve(clock=clock) as client:
        client.put("/sandbox/integrations/crm", json={"provider": "a-provider", **told(rules)}).raise_for_status()
        token = register(client, "c-1", "crm")["credentials"]["access_token"]
        steps = sorted({round(drawn.random() * 14 * DAY) for _ in range(60)} | {round(3 * DAY)})
        for seconds in steps:
            clock.now = BEGINS + timedelta(seconds=seconds)
            if seconds == round(3 * DAY):
                fault = {"operation": "refresh", "provider_config_key": "crm", "lasts": 0.4 * DAY}
                client.post("/sandbox/faults", json=fault).raise_for_status()
            force = drawn.random() < 0.2
            response = fetch(client, "c-1", "crm", force_refresh=force)
            assert answered(response, token) is made.get(one, force=force, now=clock.now), clock.now
            if response.status_code == 200:
                token = response.json()["credentials"]["access_token"]
