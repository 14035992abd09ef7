"""Every error Waylink raises on purpose.

    WaylinkError
    ├── ConfigurationError        settings or waylink.toml are wrong; lists every problem at once
    │   └── DatabaseNotMigrated   the schema is missing or of another release
    ├── InvalidInput              what a caller gave us cannot be used
    │   ├── InvalidFields         one entry per field and broken rule
    │   ├── InvalidTags           one entry per tag that breaks a rule (Nango contract: Tag rules)
    │   ├── InvalidPattern        position and reason
    │   └── TooMuchWork           judging a document by a pattern would take more steps than are allowed
    ├── NotFound                  no row of ours has that id
    ├── Conflict                  what is there does not allow it; `found` says what that is
    │   ├── AlreadyExists         a user or an organization has that external id
    │   ├── StillOwns             somebody who is to be removed has connections or users
    │   ├── NameTaken             a team, a destination or a route has that name
    │   ├── ReadOnly              waylink.toml defines it
    │   ├── Stale                 somebody changed it after the caller had read it
    │   └── StillUsed             something in force belongs to what is to be removed
    ├── OwnerRemoved              an owner was removed while a connection was being linked to it; decide anew
    ├── BrokerUnavailable         the internal or a team's broker does not answer
    ├── DatabaseUnavailable       the database does not take a commit now; it may later
    ├── Unreachable               nothing takes connections where a team's jobs go; `failure` says of what kind
    ├── Sealed                    what is stored encrypted cannot be opened with the keys there are
    └── NangoError                Nango answered, or failed to
        ├── NangoConnectionNotFound
        ├── NangoUnknownIntegration
        ├── NangoUnknownEnvironment
        ├── NangoUnauthorized     the API key is wrong (401)
        ├── NangoForbidden        the API key lacks a scope (403)
        ├── NangoInvalidRequest   Nango refused body or query (400, 415)
        │   ├── NangoCredentialsRefused  the credentials of an import were tried and are no good
        │   └── NangoPlanLimit    the account's plan allows no more of these
        ├── NangoRateLimited      429; `retry_after` seconds
        │   └── NangoBudgetSpent  we held the call back ourselves, for more urgent ones
        ├── NangoRefreshFailed    tried now, the provider refused (400 invalid_credentials)
        ├── NangoRefreshBackingOff  within 30 s of a failure (424)
        ├── NangoRefreshExhausted   final until re-auth or a forced success (424)
        ├── NangoUnavailable      5xx, time-out, no connection
        └── NangoUnexpected       an answer no rule covers

An error takes the facts and writes its own message: what happened, the cause, and what to do.
No message ever holds a credential, a signing key or an API key.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.causes import of_broker, of_database


class WaylinkError(Exception):
    """Base of all; `str()` is one line meant for a person."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the configuration: where, what, and how it should look."""

    where: str
    what: str
    example: str = ""

    def __str__(self) -> str:
        hint = f" (for example {self.example})" if self.example else ""
        return f"{self.where}: {self.what}{hint}"


class ConfigurationError(WaylinkError):
    """All problems of the configuration at once, so that nobody fixes them one start at a time."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))


class DatabaseNotMigrated(ConfigurationError):
    """`newer`: the schema is ahead of this process, as while an upgrade is under way."""

    @property
    def newer(self) -> bool:
        found = self.found or ""
        return found.isdigit() and int(found) > int(self.expected)

    def __init__(self, *, found: str | None, expected: str, where: str = "") -> None:
        self.found, self.expected, self.where = found, expected, where
        what = f"the schema is at revision {found}" if found else "there is no Waylink schema"
        what += f", this release needs {expected}: "
        if self.newer:
            what += "a later release has been here; run that one, or take a database of this one's"
        else:
            what += "run `waylink migrate`, then start again"
            what += "" if found else ", or go to the folder or set WAYLINK_DATABASE_URL that is meant"
        super().__init__([Problem(f"database {where}" if where else "database", what)])


class InvalidInput(WaylinkError):
    """What a caller gave us cannot be used; the message says which part and why."""


@dataclass(frozen=True, slots=True)
class FieldFault:
    """What is wrong with one field: its dotted path, a stable word for the rule, and a sentence without the value."""

    field: str
    rule: str
    message: str


class InvalidFields(InvalidInput):
    def __init__(self, faults: Sequence[FieldFault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{fault.field}: {fault.message}" for fault in self.faults))


@dataclass(frozen=True, slots=True)
class TagFault:
    """A tag that is wrong, by the first rule that it breaks (Nango contract: Tag rules). `rule` is a stable word; `key`
    is empty for rules about the whole object.
    """

    rule: str
    key: str
    message: str


class InvalidTags(InvalidInput):
    def __init__(self, faults: Sequence[TagFault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(fault.message for fault in self.faults))


class InvalidPattern(InvalidInput):
    """A pattern EventBridge would refuse. `path` is dotted, such as `tags.plan`; empty for the whole pattern."""

    def __init__(self, *, path: str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path or 'pattern'}: {reason}")


class TooMuchWork(InvalidInput):
    """No answer was reached within the steps that one pattern may take on one document."""

    def __init__(self) -> None:
        super().__init__(
            "judging this document by this pattern takes more steps than are allowed: "
            "ask for fewer fields of its long arrays, or search its long texts by fewer wildcards"
        )


class NotFound(WaylinkError):
    def __init__(self, kind: str, identity: str) -> None:
        self.kind, self.identity = kind, identity
        super().__init__(f"no {kind} {identity!r}")


class Conflict(WaylinkError):
    """`found` is what stands in the way, for programs; it never holds a secret. `retry_after` in seconds: it may go."""

    def __init__(
        self, message: str, *, found: Mapping[str, object] | None = None, retry_after: float | None = None
    ) -> None:
        self.found, self.retry_after = dict(found or {}), retry_after
        super().__init__(message)


class AlreadyExists(Conflict):
    """`existing` is the shown id of who has the external id."""

    def __init__(self, kind: str, *, existing: str) -> None:
        self.existing = existing
        message = f"another {kind} has this external id: {existing}; change that one instead"
        super().__init__(message, found={"id": existing})


class StillOwns(Conflict):
    """`links` connections and `users` belong to whom somebody wanted to remove."""

    def __init__(self, kind: str, identity: str, *, links: int, users: int = 0) -> None:
        members = f" and has {users} user(s)" if users else ""
        super().__init__(
            f"{kind} {identity} owns {links} connection(s){members}: with `force` the links are closed; nothing is"
            " deleted in Nango",
            found={"connections": links, "users": users},
        )


class NameTaken(Conflict):
    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"there is a {kind} {name!r} already: change that one, or take another name")


class ReadOnly(Conflict):
    def __init__(self, kind: str, name: str) -> None:
        what = f"the {kind} {name!r} is defined in waylink.toml: change it there, then run `waylink routes apply`"
        what += " (with `--keep`, what has left the file is managed here)"
        super().__init__(what, found={"source": "file"})


class Stale(Conflict):
    """`version` is the one that is there, `expected` the one that the caller had read."""

    def __init__(self, kind: str, name: str, *, version: int, expected: int) -> None:
        what = f"the {kind} {name!r} is at version {version}, no longer at {expected}: look at it again"
        super().__init__(what, found={"version": version})


class StillUsed(Conflict):
    """`by` names what has to go first, by what it is, such as `routes`; some of them, where they are many."""

    def __init__(self, kind: str, name: str, by: Mapping[str, Sequence[str]]) -> None:
        names = "; ".join(f"{what} {', '.join(found)}" for what, found in by.items() if found)
        found = {what: list(names) for what, names in by.items() if names}
        super().__init__(f"the {kind} {name!r} is in use: remove or change first {names}", found=found)


class OwnerRemoved(WaylinkError):
    def __init__(self) -> None:
        super().__init__("an owner was removed while a connection was being linked to it")


class BrokerUnavailable(WaylinkError):
    def __init__(self, name: str, cause: BaseException) -> None:
        self.name = name
        super().__init__(f"the {name} broker does not answer: {of_broker(name, cause)}")


class Unreachable(WaylinkError):
    """`failure` is one of `app.outbound.failure.Failure`. The message names no address of ours."""

    def __init__(self, failure: str, message: str) -> None:
        self.failure = failure
        super().__init__(message)


class Sealed(WaylinkError):
    """`what` names the value, such as `the signing secret of crm/hook`."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"{what} cannot be decrypted with WAYLINK_SECRET_KEY: give the key it was encrypted with beside the newest"
            " one, or set the value anew"
        )


class DatabaseUnavailable(WaylinkError):
    """`answered`: the server is there and refused, so what was asked of it may be the reason after all."""

    def __init__(self, cause: BaseException, *, answered: bool = False) -> None:
        self.answered = answered
        self.cause = of_database(cause)
        super().__init__(f"the database does not take commits: {self.cause}")


class NangoError(WaylinkError):
    """Nango's answer as an error. `status` is the HTTP status (None without an answer), `code` Nango's error code."""

    what = "Nango refused the call"

    def __init__(self, *, status: int | None = None, code: str = "", detail: str = "") -> None:
        self.status, self.code, self.detail = status, code, detail
        facts = ", ".join(part for part in (f"HTTP {status}" if status else "", code, detail) if part)
        super().__init__(f"{self.what}: {facts}" if facts else self.what)


class NangoConnectionNotFound(NangoError):
    what = "Nango knows no such connection"


class NangoUnknownIntegration(NangoError):
    what = "Nango knows no such integration"


class NangoUnknownEnvironment(NangoError):
    what = "Nango knows no environment of this UUID in the account"


class NangoUnauthorized(NangoError):
    what = "Nango does not accept the API key"


class NangoForbidden(NangoError):
    what = "the API key lacks a scope for this call"


class NangoInvalidRequest(NangoError):
    what = "Nango refused the request as invalid"


class NangoCredentialsRefused(NangoInvalidRequest):
    what = "the provider or the integration's own check refused the credentials"


class NangoPlanLimit(NangoInvalidRequest):
    what = "the Nango account's plan allows no more of these"


class NangoRateLimited(NangoError):
    """429. `retry_after` is in seconds and may be 0, as it is floored (Nango contract: Rate limit)."""

    what = "Nango's rate limit is reached"

    def __init__(self, *, retry_after: float, status: int | None = 429, code: str = "too_many_request") -> None:
        self.retry_after = retry_after
        super().__init__(status=status, code=code, detail=f"retry after {retry_after:.0f} s")


class NangoBudgetSpent(NangoRateLimited):
    """Nothing was sent: what is left of the account's rate limit is kept for more urgent calls."""

    what = "Waylink's request budget for Nango is used up for now"

    def __init__(self, *, retry_after: float) -> None:
        super().__init__(retry_after=retry_after, status=None, code="")


class NangoRefreshFailed(NangoError):
    what = "the provider refused the refresh"


class NangoRefreshBackingOff(NangoError):
    what = "Nango waits after a failed refresh"


class NangoRefreshExhausted(NangoError):
    what = "Nango gave the refresh up; the end user has to reconnect"


class NangoUnavailable(NangoError):
    what = "Nango could not be reached"


class NangoUnexpected(NangoError):
    what = "Nango answered in a way no rule covers"


def refuse(error: WaylinkError) -> int:
    """Say on standard error what is wrong, a line per problem, and answer the exit code of wrong use or bad input."""
    lines = [str(one) for one in error.problems] if isinstance(error, ConfigurationError) else [str(error)]
    for line in lines:
        print(f"error: {line}", file=sys.stderr)  # noqa: T201 - what a user of a command gets instead of a traceback
    return 2
