"""The cost of an event from being stored to its job being delivered, in processor time too: one process, measured from
outside, so that it is the same for every checkout whose `bench.pipeline` prints its rate.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.ladder import Bench
from bench.processes import ROOT, Failed, pid_of, run
from bench.processor_time import sampled

# With the garbage collection settings that workers have, and with the moment at which it has ended.
PIPELINE: Final = """
import time
from app.runtime.interpreter import collect_rarely
from bench.pipeline import main
collect_rarely()
main()
print(time.time())
"""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A folder that holds Waylink's source, and the Python that has what it depends on."""

    name: str
    folder: Path = ROOT
    python: Path = Path(sys.executable)

    def path(self) -> dict[str, str]:
        """The environment variable by which this source goes before any other."""
        return {"PYTHONPATH": str(self.folder)}


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds per event: by the clock, and of processor time."""

    wall: float
    python: float
    postgresql: float  # the whole server; 0 where there is none, or it was not looked at

    @property
    def per_second(self) -> float:
        return 1e6 / self.wall

    @property
    def processor(self) -> float:
        return self.python + self.postgresql


def cost(on: Bench, checkout: Checkout, url: str, count: int) -> Cost:
    """Store `count` webhooks, process them and deliver their jobs; storing them does not count."""
    argv = [str(checkout.python), "-c", PIPELINE, url, str(count), "--teams", on.valkey.url(1)]
    with sampled(postgresql=pid_of(on.postgres)) as samples:
        *_, answered, printed_at = run(argv, checkout.path(), checkout.folder).splitlines()
    answer = json.loads(answered)
    if answer["jobs"] != count:
        raise Failed(f"{answer['jobs']} jobs were delivered for {count} events")
    seconds, ended = count / answer["per_second"], float(printed_at)
    used = samples.between(ended - seconds, ended)
    return Cost(1e6 / answer["per_second"], answer["cpu_us"], used["postgresql"] / count * 1e6)
