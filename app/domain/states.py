"""The states of events, connections and jobs, each with its meaning, and the transitions between them.

Diagram: docs/concepts.md. Being due is no state: a row is due when its `next_at` has passed.
"""

from enum import StrEnum
from typing import Final


class EventState(StrEnum):
    RECEIVED = "received"  # stored and acknowledged; not applied yet, or to be applied again
    PROCESSED = "processed"  # applied and routed, its jobs stored; final until the same delivery comes again
    FAILED = "failed"  # given up, with a reason; taken up again by a repeated delivery or an operator


class Origin(StrEnum):
    WEBHOOK = "webhook"  # Nango posted it
    RECONCILE = "reconcile"  # found by comparing Nango's list with ours
    REFRESH = "refresh"  # found while keeping a token fresh
    OPERATOR = "operator"  # a person
    SYSTEM = "system"  # concluded by Waylink from another event


class ConnectionStatus(StrEnum):
    UNCONFIRMED = "unconfirmed"  # a webhook named it; Nango's API has not shown it
    ACTIVE = "active"  # exists in Nango, credentials believed good
    NEEDS_RECONNECT = (
        "needs_reconnect"  # Nango gave it up, or its token expired for good; the end user has to reconnect
    )
    DELETED = "deleted"  # gone from Nango


class JobState(StrEnum):
    AVAILABLE = "available"  # to be delivered; parked while `blocked_by` is set
    RUNNING = "running"  # a worker holds its lease
    RETRYABLE = "retryable"  # an attempt failed; the next is due at `next_at`
    COMPLETED = "completed"  # the team's broker or endpoint accepted it
    DISCARDED = "discarded"  # dead letter, with a reason
    CANCELLED = "cancelled"  # an operator stopped it


UNFINISHED_JOBS: Final = (JobState.AVAILABLE, JobState.RUNNING, JobState.RETRYABLE)


class Block(StrEnum):
    BREAKER = "breaker"  # its destination is failing; released when a probe succeeds
    DISABLED = "disabled"  # its destination is disabled; released when it is enabled


class Fault(StrEnum):
    TEAM = "team"  # the team's endpoint or broker refused the job, or did not answer
    OURS = "ours"  # Waylink or its configuration


class DestinationTransition(StrEnum):
    FAILING = "failing"  # its breaker opened: jobs are parked, and probes are sent
    RECOVERED = "recovered"  # a probe succeeded, or it was enabled: its jobs are released
    DISABLED = "disabled"  # it answered 410, or was disabled by hand: jobs are parked until it is enabled


class RefreshOutcome(StrEnum):
    RENEWED = "renewed"  # the token's expiry moved
    FIRST_SEEN = "first_seen"  # the expiry is known for the first time, or of new credentials
    UNCHANGED = "unchanged"  # Nango answered, the expiry is where it was (not due yet, or cannot be renewed)
    NOT_REFRESHABLE = "not_refreshable"  # a forced call changed nothing: there is no refresh token
    NO_EXPIRY = "no_expiry"  # the credentials carry no expiry: nothing to plan
    FAILED = "failed"  # the provider refused: tried again in minutes, then hours
    BACKING_OFF = "backing_off"  # Nango still waits after a refusal of seconds ago: tried again as after one
    EXHAUSTED = "exhausted"  # Nango gave it up: the connection needs a reconnect
    GONE = "gone"  # the connection does not exist in Nango
    RATE_LIMITED = "rate_limited"  # Nango's limit or our budget is spent: no result, the same plan after the wait
    PROVIDER_DOWN = "provider_down"  # the provider, not the connection: the same plan in minutes
    PAUSED = "paused"  # its integration is paused, nothing was asked: the same plan later
    NANGO_DOWN = "nango_down"  # Nango does not answer: no result, the same plan in a minute
    WAITED = "waited"  # Nango does not accept the API key: no result, the same plan in a minute
    SUPERSEDED = "superseded"  # a re-authorization, refresh by hand, deletion or policy made it pointless


class RefreshState(StrEnum):
    OPEN = "open"  # planned; in lists, due and paused ones, too
    DUE = "due"  # its moment has passed, and no worker has taken it yet
    OVERDUE = "overdue"  # due for longer than a sound scheduler lets it wait
    PAUSED = "paused"  # held by the pause of its integration
    FINISHED = "finished"  # over, with an outcome


class AuditOutcome(StrEnum):
    BEGUN = "begun"  # before the call to Nango; final if the process died, with an unknown result
    DONE = "done"  # it was done
    FAILED = "failed"  # not done, or only in part; the detail says why
