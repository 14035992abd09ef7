"""The signs of life of a web process: its event loop runs, and its writers come back from the database."""

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from app.domain.liveness import ProcessKind, Work
from app.services.liveness.pulse import EVERY_SECONDS, Pulse
from app.web.fatal_tasks import end_process_on_failure
from app.web.group_commit import GroupCommit

PROVE_SECONDS: Final = 10.0  # without a write, after which one is made that changes nothing
LOOP: Final = "event loop"
COMMIT: Final = "commit"


def pulse_of(store: GroupCommit) -> Pulse:
    """The pulse of this process, which is told of each commit."""
    pulse = Pulse(ProcessKind.WEB, (LOOP, COMMIT), id=store.answers.process)
    store.proof.stored = partial(pulse.did, Work.STORED)
    return pulse


@dataclass(slots=True)
class Answering:
    """Answers from the event loop, once a second. Has storing proven, where no webhook does it."""

    pulse: Pulse
    store: GroupCommit
    _task: asyncio.Task[None] | None = field(default=None, init=False)

    def start(self) -> None:
        self._task = end_process_on_failure(asyncio.create_task(self._answer(), name="liveness"))

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _answer(self) -> None:
        while True:
            self.pulse.answered(LOOP)
            if not self.store.stuck:
                self.pulse.answered(COMMIT)
            await self.store.prove(within=0.0, seconds=PROVE_SECONDS)
            await asyncio.sleep(EVERY_SECONDS)
