"""What came of handing a job over, whoever carried it."""

from typing import NamedTuple


class Answer(NamedTuple):
    """Of one hand-over. A broker accepts by an answer without an error, an HTTP endpoint by a status of 2xx."""

    status: int | None = None  # HTTP: as answered
    error: str | None = None  # why there is no answer; never holds a credential
    ours: bool = False  # that is Waylink's fault or its configuration's: a refused address, a secret it cannot open
    latency_ms: float = 0.0
    retry_after: str | None = None  # HTTP: the header as it came
    excerpt: str | None = None  # HTTP: how the answer's body begins, at most 1 KiB
