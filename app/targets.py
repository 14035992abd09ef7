"""A destination as it is named at the edges: `TEAM/NAME`."""

from app.errors import InvalidInput


def split_target(team: str | None, target: str | None) -> tuple[str | None, str | None]:
    """The team and the destination that are asked for together. Raises InvalidInput, also where they contradict."""
    if target is None:
        return team, None
    owner, slash, name = target.partition("/")
    if not (owner and slash and name) or "/" in name:
        raise InvalidInput(f"{target[:100]!a} is no destination: expected TEAM/NAME, such as crm/jobs")
    if team not in {None, owner}:
        raise InvalidInput(f"the destination {target[:100]!a} is of another team than {team!a}")
    return owner, name
