"""The loss audit can fail: each kind of loss or doubling in otherwise sound books is found, and nothing else is."""

from dataclasses import replace

import pytest

from bench.audit_ledger import EventRow, Finding, JobRow, Ledger, Rows, Sent, redeliveries, verdict

ROUTES = {"import": ["connection.created"], "welcome": ["connection.linked"]}


def books() -> tuple[Ledger, Rows]:
    """Two connections whose webhooks were acknowledged, and all that has to come of them."""
    ledger, events, links, jobs = Ledger(), [], [], []
    for name in ("a", "b"):
        ledger.sent[f"digest-{name}"] = Sent(name, "connection.created")
        ledger.acknowledged.add((f"evt_{name}", f"digest-{name}"))
        events.append(EventRow(f"evt_{name}", "processed", "connection.created", name, f"digest-{name}"))
        events.append(EventRow(f"evt_{name}_linked", "processed", "connection.linked", name, None))
        links.append(name)
        jobs.append(JobRow(f"job_{name}_1", f"evt_{name}", "import", "completed"))
        jobs.append(JobRow(f"job_{name}_2", f"evt_{name}_linked", "welcome", "completed"))
    return ledger, Rows(events, links, jobs, {job.id: 1 for job in jobs})


def found(rows: Rows, ledger: Ledger | None = None) -> list[tuple[str, str, str]]:
    return [(finding.kind, finding.what, finding.id) for finding in verdict(ledger or books()[0], rows, ROUTES)]


def test_sound_books_give_no_finding() -> None:
    assert found(books()[1]) == []


def test_what_was_stored_without_being_acknowledged_counts_like_the_rest() -> None:
    ledger, rows = books()
    ledger.acknowledged.discard(("evt_b", "digest-b"))
    assert found(rows, ledger) == []


def test_an_acknowledged_id_that_is_in_no_table_is_lost() -> None:
    ledger, rows = books()
    ledger.acknowledged.add(("evt_c", "digest-a"))
    assert found(rows, ledger) == [("lost", "acknowledged, but no such event", "evt_c")]


def test_an_acknowledgement_with_the_id_of_another_event_is_a_loss() -> None:
    ledger, rows = books()
    ledger.acknowledged = {("evt_a", "digest-a"), ("evt_a", "digest-b")}
    assert found(rows, ledger) == [("lost", "acknowledged with the id of another event", "evt_a")]


def test_nothing_acknowledged_is_no_success() -> None:
    assert verdict(Ledger(), Rows([], [], [], {}), ROUTES) == [Finding("lost", "nothing was acknowledged", "")]


@pytest.mark.parametrize("state", ["received", "failed"])
def test_an_event_that_is_not_processed_is_lost(state: str) -> None:
    rows = books()[1]
    events = [replace(rows.events[0], state=state), *rows.events[1:]]
    assert ("lost", f"event is {state}", "evt_a") in found(replace(rows, events=events))


def test_an_event_taken_for_another_type_is_lost() -> None:
    rows = books()[1]
    events = [replace(rows.events[0], type="nango.unhandled"), *rows.events[1:]]
    assert ("lost", "event was taken for nango.unhandled", "evt_a") in found(replace(rows, events=events))


def test_a_second_event_for_the_same_bytes_is_doubled() -> None:
    rows = books()[1]
    twice = [*rows.events, replace(rows.events[0], id="evt_again", type="connection.recovered")]
    assert ("doubled", "second event for the same bytes", "evt_again") in found(replace(rows, events=twice))


def test_an_event_that_was_not_sent_is_doubled() -> None:
    rows = books()[1]
    more = [*rows.events, EventRow("evt_x", "processed", None, None, "digest-x")]
    assert found(replace(rows, events=more)) == [("doubled", "event that was not sent", "evt_x")]


def test_a_missing_link_and_a_second_one_are_found() -> None:
    rows = replace(books()[1], open_links=["b", "b"])
    assert found(rows) == [
        ("lost", "no open link of the connection", "a"),
        ("doubled", "2 times: open link of the connection", "b"),
    ]


def test_a_connection_announced_twice_is_doubled() -> None:
    rows = books()[1]
    twice = [*rows.events, replace(rows.events[1], id="evt_again")]
    assert ("doubled", "2 times: connection.linked of the connection", "a") in found(replace(rows, events=twice))


def test_a_missing_job_and_a_doubled_one_are_found() -> None:
    rows = books()[1]
    jobs = [replace(rows.jobs[1], id="job_a_3"), *rows.jobs[1:]]
    assert found(replace(rows, jobs=jobs, queue={job.id: 1 for job in jobs})) == [
        ("lost", "no job of event and route", "evt_a import"),
        ("doubled", "2 times: job of event and route", "evt_a_linked welcome"),
    ]


def test_a_job_that_no_route_asked_for_is_doubled() -> None:
    rows = books()[1]
    jobs = [*rows.jobs, JobRow("job_x", "evt_a", "welcome", "completed")]
    assert found(replace(rows, jobs=jobs, queue={job.id: 1 for job in jobs})) == [
        ("doubled", "job of event and route that nothing asked for", "evt_a welcome")
    ]


@pytest.mark.parametrize("state", ["available", "running", "retryable", "discarded"])
def test_a_job_that_is_not_completed_is_lost(state: str) -> None:
    rows = books()[1]
    jobs = [replace(rows.jobs[0], state=state), *rows.jobs[1:]]
    assert found(replace(rows, jobs=jobs)) == [("lost", f"job is {state}", "job_a_1")]


def test_a_completed_job_that_the_team_never_got_is_lost() -> None:
    rows = books()[1]
    queue = {job.id: 1 for job in rows.jobs[1:]}
    assert found(replace(rows, queue=queue)) == [("lost", "completed job that the team never got", "job_a_1")]


def test_a_job_in_the_queue_that_is_in_no_table_is_found() -> None:
    rows = books()[1]
    queue = {**rows.queue, "job_x": 1}
    assert found(replace(rows, queue=queue)) == [("doubled", "job in the team's queue that is in no table", "job_x")]


def test_the_same_job_twice_in_the_queue_is_a_redelivery_and_no_finding() -> None:
    rows = books()[1]
    rows = replace(rows, queue={**rows.queue, "job_a_1": 3})
    assert found(rows) == []
    assert redeliveries(rows) == 2
