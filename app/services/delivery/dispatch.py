"""Jobs on their way to teams. Who carries them is not waited for: what came of each lies in the `Landing`."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app.db.destinations import Target
from app.db.jobs import ClaimedJob
from app.domain.delivery_answer import Answer


@dataclass(frozen=True, slots=True)
class Handover:
    """One job on its way. `document` is what its team receives, signed with `keys` over HTTP; a `probe` tries whether
    its destination works again.
    """

    job: ClaimedJob
    target: Target
    document: dict[str, Any] = field(repr=False)
    keys: Sequence[bytes] = field(default=(), repr=False)
    probe: bool = False

    @property
    def suspect(self) -> bool:
        return self.job.crashes > 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. `interrupted`: nobody knows, since the process was told to stop."""

    handover: Handover
    started_at: datetime
    answer: Answer
    interrupted: bool = False


@dataclass(slots=True)
class Landing:
    """Where outcomes wait to be recorded, and who records them waits for outcomes."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    under_way: int = 0
    _outcomes: list[Outcome] = field(default_factory=list)

    def left(self, count: int) -> None:
        with self.changed:
            self.under_way += count

    def land(self, outcomes: Sequence[Outcome]) -> None:
        with self.changed:
            self.under_way -= len(outcomes)
            self._outcomes += outcomes
            self.changed.notify_all()

    def take(self) -> list[Outcome]:
        with self.changed:
            taken, self._outcomes = self._outcomes, []
        return taken

    def __len__(self) -> int:
        return len(self._outcomes)
