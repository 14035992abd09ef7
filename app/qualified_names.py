"""Names of destinations and routes in commands and API calls: `TEAM/NAME`."""

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


def within(team: str | None, noun: Noun, text: str | None) -> tuple[str | None, str | None]:
    """Team and name of two filters combined. Raises InvalidInput, also where they contradict each other."""
    if text is None:
        return team, None
    owner, name = split_target(noun, text)
    if team not in {None, owner}:
        raise InvalidInput(f"the {noun} {text[:100]!a} is of another team than {team!a}")
    return owner, name
