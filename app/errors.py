"""Every error Waylink raises on purpose.

    WaylinkError
    ├── ConfigurationError        settings or waylink.toml are wrong; lists every problem at once
    │   └── DatabaseNotMigrated   the schema is missing or of another release
    ├── InvalidInput              a caller's input cannot be used
    │   ├── InvalidFields         one entry per field and broken rule
    │   ├── InvalidTags           one entry per tag that breaks a rule (Nango contract: Tag rules)
    │   ├── InvalidPattern        position and reason
    │   ├── KeyReused             an idempotency key was given to another call
    │   └── TooMuchWork           matching a document against a pattern would take more steps than are allowed
    ├── NotFound                  no row has that id
    ├── Conflict                  the present state does not allow it; `found` has the obstacle
    │   ├── AlreadyExists         a user or an organization has that external id
    │   ├── StillOwns             a user or an organization to be removed has connections or users
    │   ├── NameTaken             a team, a destination or a route has that name
    │   ├── ReadOnly              waylink.toml defines it
    │   ├── Stale                 it was changed after the caller had read it
    │   ├── CallRepeated          a call with this idempotency key has begun, and its answer cannot be given again
    │   └── StillUsed             a definition in force depends on the one to be removed
    ├── BrokerUnavailable         the internal or a team's broker does not answer
    ├── DatabaseUnavailable       the database does not take a commit now; it may later
    ├── Unreachable               a team's endpoint or broker accepts no connection; `failure` is its kind
    ├── SignInRefused             the identity provider, or a check of its answer, does not allow a sign-in
    ├── NotAllowed                a person of the identity provider has no access; `groups` are those that were seen
    ├── TooManyAttempts           attempts to sign in have failed; the next one may be made in `retry_after`
    ├── ProviderUnavailable       the identity provider does not answer, or not as one does
    ├── Sealed                    a stored value cannot be decrypted with the present keys
    └── NangoError                an error answer of Nango, or none at all
        ├── NangoConnectionNotFound
        ├── NangoUnknownIntegration
        ├── NangoUnknownEnvironment
        ├── NangoUnauthorized     the API key is wrong (401)
        ├── NangoForbidden        the API key lacks a scope (403)
        ├── NangoInvalidRequest   Nango refused body or query (400, 415)
        │   ├── NangoCredentialsRefused  the credentials of an import were tried and refused
        │   └── NangoPlanLimit    the account's plan allows no more of these
        ├── NangoRateLimited      429; `retry_after` seconds
        │   └── NangoBudgetSpent  the call was not sent, in favour of more urgent ones
        ├── NangoRefreshFailed    the provider refused a refresh now (400 invalid_credentials)
        │   └── NangoProviderDown  the provider did not answer, or failed itself
        ├── NangoRefreshBackingOff  within 30 s of a failure (424)
        ├── NangoRefreshExhausted   final until re-auth or a forced success (424)
        ├── NangoUnavailable      5xx, time-out, no connection
        └── NangoUnexpected       an answer no rule covers

An error's constructor takes facts and writes the message: what happened, the cause, and the remedy. No message ever
holds a credential, a signing key or an API key.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from app.outage_causes import is_refusal, of_broker, of_database, trouble_of_database
from app.wording import counted


class WaylinkError(Exception):
    """Base of all errors; `str()` is one line of text for users."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault of the configuration: the place, the fault, and an example of a right value."""

    where: str
    what: str
    example: str = ""

    def __str__(self) -> str:
        hint = f" (for example {self.example})" if self.example else ""
        return f"{self.where}: {self.what}{hint}"


class ConfigurationError(WaylinkError):
    """All problems of the configuration at once, so that they can be fixed together."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))


class DatabaseNotMigrated(ConfigurationError):
    """`newer`: the schema is ahead of this process, as during an upgrade."""

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
    """A caller's input cannot be used; the message has the part and the reason."""


@dataclass(frozen=True, slots=True)
class FieldFault:
    """A fault of one field: its dotted path, a stable word for the rule, and a sentence without the value."""

    field: str
    rule: str
    message: str


class InvalidFields(InvalidInput):
    def __init__(self, faults: Sequence[FieldFault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{fault.field}: {fault.message}" for fault in self.faults))


@dataclass(frozen=True, slots=True)
class TagFault:
    """The first rule that a tag breaks (Nango contract: Tag rules). `rule` is a stable word; `key` is empty for rules
    about the whole object.
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
    """The steps that one pattern may take on one document were used up without a result."""

    def __init__(self) -> None:
        super().__init__(
            "judging this document by this pattern takes more steps than are allowed: "
            "ask for fewer fields of its long arrays, or search its long texts by fewer wildcards"
        )


class KeyReused(InvalidInput):
    def __init__(self, key: str) -> None:
        super().__init__(f"the idempotency key {key!r} was given to another call: make a new one for each")


class NotFound(WaylinkError):
    def __init__(self, kind: str, identity: str) -> None:
        self.kind, self.identity = kind, identity
        super().__init__(f"no {kind} {identity!r}")


class Conflict(WaylinkError):
    """`found`: the obstacle, for programs; it never holds a secret. `retry_after`: seconds, where it is temporary."""

    def __init__(
        self, message: str, *, found: Mapping[str, object] | None = None, retry_after: float | None = None
    ) -> None:
        self.found, self.retry_after = dict(found or {}), retry_after
        super().__init__(message)


class AlreadyExists(Conflict):
    """`existing`: the public id of the row with this external id."""

    def __init__(self, kind: str, *, existing: str) -> None:
        self.existing = existing
        message = f"another {kind} has this external id: {existing}; change that one instead"
        super().__init__(message, found={"id": existing})


class StillOwns(Conflict):
    """`links` connections and `users` belong to the one to be removed."""

    def __init__(self, kind: str, identity: str, *, links: int, users: int = 0) -> None:
        members = f" and has {counted(users, 'user')}" if users else ""
        super().__init__(
            f"{kind} {identity} owns {counted(links, 'connection')}{members}: with `force` the links are closed;"
            " nothing is deleted in Nango",
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
    """`version`: the present one; `expected`: the one that the caller had read."""

    def __init__(self, kind: str, name: str, *, version: int, expected: int) -> None:
        what = f"the {kind} {name!r} is at version {version}, no longer at {expected}: look at it again"
        super().__init__(what, found={"version": version})


class CallRepeated(Conflict):
    """`status`: the earlier call's; None where it is unknown."""

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, found={"status": status}, retry_after=retry_after)


class StillUsed(Conflict):
    """`by`: names of dependent definitions by kind, such as `routes`; some of them, where there are many."""

    def __init__(self, kind: str, name: str, by: Mapping[str, Sequence[str]]) -> None:
        names = "; ".join(f"{what} {', '.join(found)}" for what, found in by.items() if found)
        found = {what: list(names) for what, names in by.items() if names}
        super().__init__(f"the {kind} {name!r} is in use: remove or change first {names}", found=found)


class BrokerUnavailable(WaylinkError):
    """`refuses`: it answers, and does not take what is sent, such as one without memory."""

    def __init__(self, name: str, cause: BaseException) -> None:
        self.name = name
        self.refuses = is_refusal(cause)
        does = "takes no messages" if self.refuses else "does not answer"
        super().__init__(f"the {name} broker {does}: {of_broker(name, cause)}")


class Unreachable(WaylinkError):
    """`failure` is one of `app.outbound.failure.Failure`. The message names no address of ours."""

    def __init__(self, failure: str, message: str) -> None:
        self.failure = failure
        super().__init__(message)


class SignInRefused(WaylinkError):
    """`reason` is a clause for the person, and holds no code or token."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the sign-in was refused: {reason}")


class NotAllowed(WaylinkError):
    """`groups`: as the identity provider shows them, the first MAX_GROUPS."""

    MAX_GROUPS = 50

    def __init__(self, reason: str, groups: Sequence[str] | None = None) -> None:
        self.reason, self.groups = reason, None if groups is None else tuple(groups[: self.MAX_GROUPS])
        super().__init__(f"no access: {reason}")


class TooManyAttempts(WaylinkError):
    def __init__(self, retry_after: timedelta) -> None:
        self.retry_after = retry_after
        super().__init__("attempts to sign in have failed: wait before the next one")


class ProviderUnavailable(WaylinkError):
    """`reason` is for the log, and holds no code, token or secret."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the identity provider cannot be used: {reason}")


class Sealed(WaylinkError):
    """`what` names the value, such as `the signing secret of crm/hook`."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"{what} cannot be decrypted with WAYLINK_SECRET_KEY: give the key it was encrypted with beside the newest"
            " one, or set the value anew"
        )


class DatabaseUnavailable(WaylinkError):
    """`answered`: the server answered with a refusal, so the statement may be the cause. `trouble`: its name."""

    def __init__(self, cause: BaseException, *, answered: bool = False) -> None:
        self.answered = answered
        self.cause = of_database(cause)
        self.trouble = trouble_of_database(cause)
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
    """Nothing was sent: the rest of the account's rate limit is reserved for more urgent calls."""

    what = "Waylink's request budget for Nango is used up for now"

    def __init__(self, *, retry_after: float) -> None:
        super().__init__(retry_after=retry_after, status=None, code="")


class NangoRefreshFailed(NangoError):
    what = "the provider refused the refresh"


class NangoProviderDown(NangoRefreshFailed):
    what = "the provider did not answer the refresh, or failed itself"


class NangoRefreshBackingOff(NangoError):
    what = "Nango waits after a failed refresh"


class NangoRefreshExhausted(NangoError):
    what = "Nango gave the refresh up; the end user has to reconnect"


class NangoUnavailable(NangoError):
    what = "Nango could not be reached"


class NangoUnexpected(NangoError):
    what = "Nango answered in a way no rule covers"


def refuse(error: WaylinkError) -> int:
    """Print the error on standard error, a line per problem. Returns exit code 2, for wrong use and bad input."""
    lines = [str(problem) for problem in error.problems] if isinstance(error, ConfigurationError) else [str(error)]
    for line in lines:
        print(f"error: {line}", file=sys.stderr)  # noqa: T201 - for a command's user, instead of a traceback
    return 2
