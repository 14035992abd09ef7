"""Scopes of acknowledgements: all dead letters or failed events, those of a destination, or one."""

from dataclasses import dataclass
from enum import StrEnum


class AckKind(StrEnum):
    """Rows that need a look, and stay red until an operator acknowledges them."""

    JOBS = "jobs"  # dead letters: discarded jobs
    EVENTS = "events"  # failed events


@dataclass(frozen=True, slots=True)
class AckScope:
    """The rows of one acknowledgement. subject: empty for all, a destination as `team/name`, or a row's public id."""

    kind: AckKind
    subject: str = ""

    @property
    def is_everything(self) -> bool:
        return not self.subject
