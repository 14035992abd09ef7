"""Checks of the canary's way: whether what is stored is processed and delivered."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final

from app.db.read.canary import StageAge
from app.domain.status import Check, CheckKind, Level
from app.services.status.wording import span

LEEWAY: Final = timedelta(seconds=12)  # for one stage; without a backlog it takes less than a second
_STARTS: Final[Mapping[str, str]] = {
    "stored": "waylink web",
    "processed": "waylink worker events",
    "delivered": "waylink worker io",
}


def checks(stages: Sequence[StageAge], *, every: timedelta) -> Iterator[Check]:
    """Judge them. every: the time between two canaries. The first stage that is late is red, those behind it hints.

    While a canary is on its way, no other is stored: the stages that it has passed are well, however long ago that was.
    """
    held_by, on_its_way = "", any(stage.waiting is not None for stage in stages)
    for stage in stages:
        age = f"{span(timedelta(seconds=stage.passed))} ago" if stage.passed is not None else "never"
        repair = _STARTS.get(stage.stage, "")
        if not _is_late(stage, every, on_its_way=on_its_way):
            yield Check(CheckKind.CANARY, Level.OK, age, subject=stage.stage)
        elif held_by:
            cause = f"it waits for the stage before, {held_by}"
            yield Check(CheckKind.CANARY, Level.HINT, age, cause, repair, subject=stage.stage)
        else:
            held_by = stage.stage
            waits = f"; one waits for {span(timedelta(seconds=stage.waiting))}" if stage.waiting is not None else ""
            cause = f"the last canary was {stage.stage} {age}{waits}: webhooks are most likely not {stage.stage} either"
            yield Check(CheckKind.CANARY, Level.RED, age, cause, repair, subject=stage.stage)


def _is_late(stage: StageAge, every: timedelta, *, on_its_way: bool) -> bool:
    if stage.waiting is not None:
        return stage.waiting > LEEWAY.total_seconds()
    return not on_its_way and stage.passed is not None and stage.passed > (every + LEEWAY).total_seconds()
