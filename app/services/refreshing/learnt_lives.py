"""Lives of grants as their deaths show them, proposed as policies and never applied.

Reads in short transactions of its own.
"""

from typing import Any

from app.db.engine import Database
from app.db.read import grant_deaths
from app.domain.refreshing.learning import LearntLife, learn, policy_text, written


def learnt_lives(database: Database, *, environment: str | None = None) -> list[LearntLife]:
    """Each integration of which a grant has died, of the environment or of all."""
    with database.read() as session:
        dead = grant_deaths.deaths(session)
    found = []
    for name in sorted({place[0] for place in dead if environment in {None, place[0]}}):
        integrations = sorted(integration for of, integration in dead if of == name)
        with database.read() as session:
            living = grant_deaths.living(session, name, integrations)
        for integration in integrations:
            place, ages = (name, integration), living.ages.get(integration, [])
            found.append(learn(*place, dead[place], ages, weight=living.weight))
    return found


def proposal(database: Database, found: list[LearntLife]) -> str:
    """The tables for waylink.toml; of single environments where there are several."""
    with database.read() as session:
        several = any(grant_deaths.has_other(session, name) for name in {one.environment for one in found})
    return policy_text(found, by_environment=several)


def shown(one: LearntLife) -> dict[str, Any]:
    """A learnt life as commands and the API show it."""
    age = one.age
    return {
        "environment": one.environment,
        "integration": one.integration,
        "deaths": one.deaths,
        "at_common_age": age.deaths if age else None,
        "since": age.since if age else None,
        "youngest": written(age.youngest) if age else None,
        "oldest": written(age.oldest) if age else None,
        "outlived": age.outlived if age else None,
        "proposal": f'{one.key} = "{one.span}"' if one.key else None,
        "why_not": one.why_not,
    }
