"""How commands name a destination."""

import click

from app.errors import InvalidInput

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
PLACE = click.argument("place", metavar="TEAM/NAME")


def parted(place: str) -> tuple[str, str]:
    """Team and name. Raises InvalidInput."""
    team, slash, name = place.partition("/")
    if not slash or not team or not name:
        raise InvalidInput(f"{place!r}: a destination is named TEAM/NAME")
    return team, name
