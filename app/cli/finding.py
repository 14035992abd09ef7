"""Results of `waylink check`, a row each."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: `ok`, `note` (works, but worth knowing) or `bad`."""

    what: str
    result: str
    detail: str
