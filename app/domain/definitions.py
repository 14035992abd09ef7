"""What teams, destinations and routes may be called: the same rules for waylink.toml, the API and the commands.

Each function says what is wrong, as the end of a sentence that begins with the field's name, or None.
"""

import re
from typing import Final

QUEUE_PREFIX: Final = "team."  # queues that do not begin so are Waylink's own

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_JOB: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_QUEUE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
_RESERVED_JOBS: Final = ("waylink.", "celery.")


def wrong_name(name: str) -> str | None:
    """Of a team, a destination, a route or an environment: it stands in URLs and queues."""
    if _NAME.fullmatch(name):
        return None
    return "takes 1 to 63 lower-case letters, digits, `_` and `-`, beginning with a letter or digit"


def wrong_job(job: str) -> str | None:
    """Of a route's job, which is the name of the team's Celery task."""
    if job.startswith(_RESERVED_JOBS):
        return f"names that start with {' or '.join(f'`{one}`' for one in _RESERVED_JOBS)} are reserved"
    if _JOB.fullmatch(job):
        return None
    return "takes 1 to 128 letters, digits, `_`, `.` and `-`, beginning with a letter or `_`"


def wrong_queue(queue: str, *, team: str) -> str | None:
    """Of a team's queue: it has its own only, so that it can reach neither Waylink's nor another team's."""
    if not queue.startswith(f"{QUEUE_PREFIX}{team}."):
        return f"has to start with `{QUEUE_PREFIX}{team}.`"
    if _QUEUE.fullmatch(queue):
        return None
    return "takes at most 200 letters, digits, `_`, `.` and `-`"
