"""The states of events, connections and jobs, each with its meaning, and which may follow which.

Diagram: docs/concepts.md. Due work is never a state: a row is due when its `next_at` has passed.
"""

from enum import StrEnum
from typing import Final


class EventState(StrEnum):
    RECEIVED = "received"  # stored and acknowledged; not applied yet, or being looked at again
    PROCESSED = "processed"  # applied, routed, its jobs stand; final until the same delivery comes again
    FAILED = "failed"  # given up with a reason; revived by a repeated delivery or an operator


class Origin(StrEnum):
    WEBHOOK = "webhook"  # Nango posted it
    RECONCILE = "reconcile"  # found by comparing Nango's list with ours
    REFRESH = "refresh"  # found while keeping a token fresh
    OPERATOR = "operator"  # a person did it
    SYSTEM = "system"  # Waylink concluded it from another event


class ConnectionStatus(StrEnum):
    UNCONFIRMED = "unconfirmed"  # a webhook named it; Nango's API has not shown it
    ACTIVE = "active"  # exists in Nango, credentials believed good
    NEEDS_RECONNECT = "needs_reconnect"  # Nango gave it up, or its token expired for good; the end user has to act
    DELETED = "deleted"  # gone from Nango


class JobState(StrEnum):
    AVAILABLE = "available"  # to be handed over; parked while `blocked_by` is set
    RUNNING = "running"  # a worker holds its lease
    RETRYABLE = "retryable"  # a hand-over failed; next try at `next_at`
    COMPLETED = "completed"  # the team's broker or endpoint accepted it
    DISCARDED = "discarded"  # dead letter, with a reason
    CANCELLED = "cancelled"  # an operator stopped it


UNFINISHED_JOBS: Final = (JobState.AVAILABLE, JobState.RUNNING, JobState.RETRYABLE)


class Block(StrEnum):
    BREAKER = "breaker"  # its destination is failing; released when a probe succeeds
    DISABLED = "disabled"  # its destination is disabled; released when somebody enables it


class Fault(StrEnum):
    TEAM = "team"  # their endpoint or broker refused it, or did not answer
    OURS = "ours"  # a fault of Waylink's, or of its configuration


class DestinationTransition(StrEnum):
    FAILING = "failing"  # its breaker opened: jobs are parked, a probe goes out now and then
    RECOVERED = "recovered"  # a probe succeeded, or somebody enabled it: its jobs are released
    DISABLED = "disabled"  # it answered 410, or somebody disabled it: jobs are parked until it is enabled


class RefreshOutcome(StrEnum):
    RENEWED = "renewed"  # the token's expiry moved
    FIRST_SEEN = "first_seen"  # the expiry is known for the first time, or of new credentials
    UNCHANGED = "unchanged"  # Nango answered, the expiry is where it was (not due yet, or cannot be renewed)
    NO_EXPIRY = "no_expiry"  # the credentials carry no expiry: nothing to plan
    FAILED = "failed"  # the provider refused, or Nango backs off
    EXHAUSTED = "exhausted"  # Nango gave it up: the connection needs a reconnect
    GONE = "gone"  # Nango does not know the connection
    WAITED = "waited"  # rate limit or Nango down: nothing was learnt, tried again later
    SUPERSEDED = "superseded"  # a re-authorization, refresh by hand, deletion or policy made it pointless


class AuditOutcome(StrEnum):
    BEGUN = "begun"  # Nango was to be asked; where this stays, the process died and nobody knows
    DONE = "done"  # it was done
    FAILED = "failed"  # it was not, or not wholly; the detail says why
