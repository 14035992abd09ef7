"""Places of brokers, to compare two of them; without Celery, since every command checks its variables."""

from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from app.errors import InvalidInput


def redis_place(url: str) -> tuple[str, int, int]:
    """Socket or host, port and database of a Redis URL, to compare two URLs. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme == "redis+socket":
        database = parse_qs(parts.query).get("virtual_host", ["0"])[-1]
        return str(Path(unquote(parts.netloc + parts.path)).resolve()), 0, int(database.removeprefix("/"))
    if parts.scheme not in {"redis", "rediss"}:
        raise ValueError(parts.scheme)
    host = parts.hostname or "localhost"
    host = "localhost" if host in {"127.0.0.1", "::1"} else host
    return host, parts.port or 6379, int(parts.path.strip("/") or 0)


def refuse_internal(url: str, internal: str | None) -> None:
    """Raise InvalidInput if a URL leads to the internal broker's database."""
    try:
        same = internal is not None and redis_place(url) == redis_place(internal)
    except ValueError:
        return
    if same:
        raise InvalidInput("it is the internal broker's database, whose messages are Waylink's own")
