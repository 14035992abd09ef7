"""The count that a caller saw in a dry run, which an act on all that match has to name."""

from app.errors import Conflict, InvalidInput
from app.wording import counted


def require_expected(count: int, expected: int | None, *, noun: str) -> None:
    """Raise InvalidInput where no count is named, and Conflict where more `noun`s are meant by now."""
    if expected is None:
        raise InvalidInput("give `expected`: the `count` that the same call answered with `dry_run`")
    if count > expected:
        raise Conflict(f"{counted(count, noun)} by now, not {expected}: look again", found={"count": count})
