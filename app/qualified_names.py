"""Names in commands and API calls: `TEAM/NAME` of destinations and routes, `ENVIRONMENT/NAME` of integrations."""

from typing import Literal

from app.errors import InvalidInput

Noun = Literal["destination", "route"]


def split_target(noun: Noun, text: str) -> tuple[str, str]:
    """Team and name. Raises InvalidInput."""
    team, slash, name = text.partition("/")
    if not (team and slash and name) or "/" in name:
        example = "crm/jobs" if noun == "destination" else "crm/import-contacts"
        raise InvalidInput(f"{text[:100]!a} names no {noun}: expected TEAM/NAME, such as {example}")
    return team, name


def split_integration(text: str) -> tuple[str, str]:
    """Environment and integration; only the latter may hold a slash. Raises InvalidInput."""
    environment, slash, integration = text.partition("/")
    if not (environment and slash and integration):
        raise InvalidInput(f"{text[:100]!a} names no integration: expected ENVIRONMENT/NAME, such as default/hubspot")
    return environment, integration


def within(team: str | None, noun: Noun, text: str | None) -> tuple[str | None, str | None]:
    """Team and name of two filters combined. Raises InvalidInput, also where they contradict each other."""
    if text is None:
        return team, None
    owner, name = split_target(noun, text)
    if team not in {None, owner}:
        raise InvalidInput(f"the {noun} {text[:100]!a} is of another team than {team!a}")
    return owner, name
