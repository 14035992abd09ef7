"""Each act of the console on events, jobs, bulk runs and connections, done by its form."""

from app.clock import utc_now
from app.db.models import Acknowledgement, Audit, BulkRun, Connection, Event, Job, Link, Refresh, User
from app.ids import BULK_RUN, REFRESH, new_id, show
from tests.integration.console.acting import Acting, does
from tests.integration.status.rows import a_connection, add, add_bulk_run

EVENTS, JOBS, CONNECTIONS, RUNS = "/console/events", "/console/jobs", "/console/connections", "/console/bulk-runs"


def state_of(acting: Acting, event: str) -> str:
    return str(acting.one(Event.state, id=acting.id_of(event)))


# Events


@does("POST /console/events/acknowledge")
def acknowledge_events(acting: Acting) -> None:
    acting.failed_event()
    acting.act(f"{EVENTS}/acknowledge", reason="seen by all")
    note, actor, until = acting.one(
        Acknowledgement.note, Acknowledgement.actor, Acknowledgement.until_at, kind="events", subject=""
    )
    assert (note, actor) == ("seen by all", "operator:operator")
    assert max(acting.rows(Event.processed_at, state="failed")) <= until


@does("POST /console/events/retry")
def retry_events(acting: Acting) -> None:
    mine, other = acting.failed_event(integration="retried"), acting.failed_event(integration="not-retried")
    acting.act(f"{EVENTS}/retry?integration=retried", f"{EVENTS}/retry", reason="mended")
    assert (state_of(acting, mine), state_of(acting, other)) == ("received", "failed")


@does("POST /console/events/replay")
def replay_events(acting: Acting) -> None:
    event = acting.routed_event(integration="replayed")
    acting.act(f"{EVENTS}/replay?integration=replayed", f"{EVENTS}/replay", reason="a new route")
    [(chosen, reason, counted)] = acting.rows(BulkRun.chosen, BulkRun.reason, BulkRun.counted, act="events.replay")
    assert (reason, counted) == ("a new route", 1)
    assert '"replayed"' in chosen
    assert state_of(acting, event) == "processed"


@does("POST /console/events/{event_id}/acknowledge")
def acknowledge_event(acting: Acting) -> None:
    event = acting.failed_event()
    acting.act(f"{EVENTS}/{event}", f"{EVENTS}/{event}/acknowledge")
    assert acting.one(Acknowledgement.actor, kind="events", subject=event) == "operator:operator"


@does("POST /console/events/{event_id}/retry")
def retry_event(acting: Acting) -> None:
    event = acting.failed_event()
    acting.act(f"{EVENTS}/{event}", f"{EVENTS}/{event}/retry")
    assert state_of(acting, event) == "received"


@does("POST /console/events/{event_id}/replay")
def replay_event(acting: Acting) -> None:
    event = acting.routed_event()
    acting.act(f"{EVENTS}/{event}/replay")
    assert acting.rows(Job.route, Job.state, event_id=acting.id_of(event)) == [("created", "available")]
    acting.audited("event.replayed", event)


# Jobs and bulk runs


@does("POST /console/jobs/{job_id}/retry")
def retry_job(acting: Acting) -> None:
    job = acting.job("discarded")
    acting.act(f"{JOBS}/{job}", f"{JOBS}/{job}/retry")
    assert acting.one(Job.state, Job.fault, id=acting.id_of(job)) == ("available", None)


@does("POST /console/jobs/{job_id}/cancel")
def cancel_job(acting: Acting) -> None:
    job = acting.job("available")
    acting.act(f"{JOBS}/{job}", f"{JOBS}/{job}/cancel")
    assert acting.one(Job.state, id=acting.id_of(job)) == "cancelled"


@does("POST /console/jobs/{job_id}/redeliver")
def redeliver_job(acting: Acting) -> None:
    job = acting.job("completed")
    acting.act(f"{JOBS}/{job}", f"{JOBS}/{job}/redeliver")
    assert acting.one(Job.state, Job.finished_at, id=acting.id_of(job)) == ("available", None)


@does("POST /console/jobs/{job_id}/acknowledge")
def acknowledge_job(acting: Acting) -> None:
    job = acting.job("discarded")
    acting.act(f"{JOBS}/{job}", f"{JOBS}/{job}/acknowledge")
    assert acting.one(Acknowledgement.actor, kind="jobs", subject=job) == "operator:operator"
    assert acting.one(Job.state, id=acting.id_of(job)) == "discarded"


@does("POST /console/jobs/acknowledge")
def acknowledge_jobs(acting: Acting) -> None:
    place = acting.destination()
    job = acting.job("discarded", destination=place)
    acting.act(f"{JOBS}/acknowledge?destination=crm/{place}", f"{JOBS}/acknowledge", reason="known")
    assert acting.one(Acknowledgement.note, kind="jobs", subject=f"crm/{place}") == "known"
    assert acting.one(Job.state, id=acting.id_of(job)) == "discarded"


@does("POST /console/jobs/act")
def act_on_jobs(acting: Acting) -> None:
    for act, before, after in (
        ("retry", "discarded", "available"),
        ("cancel", "available", "cancelled"),
        ("redeliver", "completed", "available"),
    ):
        place, name = acting.destination(), acting.name()
        jobs = [acting.job(before, destination=place, name=name) for _ in range(2)]
        other = acting.job(before, destination=place, name=f"{name}-other")
        filters = f"act={act}&name={name}&state={before}&destination=crm/{place}&ended_since=1h"
        filters = filters if act == "redeliver" else filters.removesuffix("&ended_since=1h")
        acting.act(f"{JOBS}/act?{filters}", f"{JOBS}/act", reason="all of this name")
        assert [acting.one(Job.state, id=acting.id_of(job)) for job in jobs] == [after] * 2, act
        assert acting.one(Job.state, id=acting.id_of(other)) == before, act


def change_run(acting: Acting, change: str) -> tuple[str, str]:
    """Change a run by its button; its state afterwards, and its id as it is shown."""
    run = show(BULK_RUN, add_bulk_run(acting.console.database, acting.id_of(acting.job("discarded"))))
    if change == "resume":
        acting.act(f"{RUNS}/{run}", f"{RUNS}/{run}/pause")
    acting.act(f"{RUNS}/{run}", f"{RUNS}/{run}/{change}")
    return str(acting.one(BulkRun.state, id=acting.id_of(run))), run


@does("POST /console/bulk-runs/{blk_id}/pause")
def pause_run(acting: Acting) -> None:
    state, run = change_run(acting, "pause")
    assert state == "paused"
    acting.audited("bulk_run.paused", run)


@does("POST /console/bulk-runs/{blk_id}/resume")
def resume_run(acting: Acting) -> None:
    state, run = change_run(acting, "resume")
    assert state == "waiting"
    acting.audited("bulk_run.resumed", run)


@does("POST /console/bulk-runs/{blk_id}/cancel")
def cancel_run(acting: Acting) -> None:
    state, run = change_run(acting, "cancel")
    assert state == "cancelled"
    acting.audited("bulk_run.cancelled", run)


# Connections, at Nango too


def linked(acting: Acting) -> tuple[str, str, str]:
    """A connection with its owner: our id, Nango's, and the user's."""
    user = acting.name()
    return *acting.connection(end_user_id=user), user


def owner_of(acting: Acting, con: str) -> list[str | None]:
    """The reasons for which its links were closed; None is the one that is open."""
    return acting.rows(Link.close_reason, connection_ref=acting.id_of(con))


@does("POST /console/connections/{con_id}/refresh")
def refresh_connection(acting: Acting) -> None:
    con, _, _ = linked(acting)
    before = acting.one(Connection.renewed_at, id=acting.id_of(con))
    acting.act(f"{CONNECTIONS}/{con}/refresh", force="true")
    assert acting.one(Connection.renewed_at, id=acting.id_of(con)) > before
    acting.audited("connection.refreshed", con)


@does("POST /console/connections/{con_id}/metadata")
def change_metadata(acting: Acting) -> None:
    con, of_nango, _ = linked(acting)
    acting.act(f"{CONNECTIONS}/{con}/metadata", metadata='{"folder": "inbox"}')
    assert acting.at_nango(of_nango, "metadata") == {"folder": "inbox"}
    acting.audited("metadata.set", con)


@does("POST /console/connections/{con_id}/reconnect")
def make_reconnect_link(acting: Acting) -> None:
    con, _, _ = linked(acting)
    page = acting.act(f"{CONNECTIONS}/{con}/reconnect", status=200)
    assert "Shown once." in page.text
    acting.audited("session.recreated", con)


@does("POST /console/connections/{con_id}/tags")
def set_tags(acting: Acting) -> None:
    con, of_nango, user = linked(acting)
    acting.act(f"{CONNECTIONS}/{con}/tags", tags=f"end_user_id={user}\nplan=pro")
    assert acting.at_nango(of_nango, "tags") == {"end_user_id": user, "plan": "pro"}
    acting.work()
    assert acting.one(Connection.tags, id=acting.id_of(con)) == {"end_user_id": user, "plan": "pro"}


@does("POST /console/connections/{con_id}/tags/add")
def add_tag(acting: Acting) -> None:
    con, of_nango, user = linked(acting)
    acting.act(f"{CONNECTIONS}/{con}/tags/add", key="plan", value="free")
    acting.work()
    assert acting.one(Connection.tags, id=acting.id_of(con)) == {"end_user_id": user, "plan": "free"}
    assert acting.at_nango(of_nango, "tags")["plan"] == "free"


@does("POST /console/connections/{con_id}/tags/remove")
def remove_tag(acting: Acting) -> None:
    user = acting.name()
    con, of_nango = acting.connection(end_user_id=user, plan="pro")
    acting.act(f"{CONNECTIONS}/{con}/tags/remove", key="plan")
    acting.work()
    assert acting.one(Connection.tags, id=acting.id_of(con)) == {"end_user_id": user}
    assert acting.at_nango(of_nango, "tags") == {"end_user_id": user}


@does("POST /console/connections/{con_id}/tags/restore")
def restore_tags(acting: Acting) -> None:
    con, of_nango, user = linked(acting)
    acting.act(f"{CONNECTIONS}/{con}/tags", tags="plan=pro")
    acting.work()
    assert acting.one(Connection.drift, id=acting.id_of(con)) is not None
    acting.act(f"{CONNECTIONS}/{con}/tags/restore")
    assert acting.at_nango(of_nango, "tags") == {"end_user_id": user, "plan": "pro"}
    acting.work()
    assert acting.one(Connection.drift, id=acting.id_of(con)) is None


@does("POST /console/connections/{con_id}/unlink")
def unlink_connection(acting: Acting) -> None:
    con, _, _ = linked(acting)
    acting.act(f"{CONNECTIONS}/{con}/unlink", reason="they asked")
    assert None not in owner_of(acting, con)
    assert acting.audited("connection.unlinked", con) == {"reason": "they asked"}


@does("POST /console/connections/{con_id}/relink")
def relink_connection(acting: Acting) -> None:
    con, _, _ = linked(acting)
    acting.act(f"{CONNECTIONS}/{con}/unlink", reason="they asked")
    acting.act(f"{CONNECTIONS}/{con}/relink")
    assert owner_of(acting, con)[-1] is None
    acting.audited("connection.relinked", con)


@does("POST /console/connections/{con_id}/delete")
def delete_connection(acting: Acting) -> None:
    con, _, _ = linked(acting)
    acting.act(f"{CONNECTIONS}/{con}/delete", reason="closed account")
    acting.work()
    assert acting.one(Connection.status, id=acting.id_of(con)) == "deleted"
    assert acting.audited("connection.deleted", con)["reason"] == "closed account"


@does("POST /console/connections/act")
def act_on_connections(acting: Acting) -> None:
    path, (con, of_nango, _) = f"{CONNECTIONS}/act", linked(acting)
    acting.act(f"{path}?selection=yes&id={con}&act=unlink", path, reason="they asked")
    assert None not in owner_of(acting, con)
    for kind, query in (
        ("connections.refresh", "act=refresh"),
        ("connections.add_tags", "act=add_tag&tag_key=plan&tag_value=pro"),
        ("connections.remove_tags", "act=remove_tag&tag_key=end_user_id"),
        ("connections.delete", "act=delete"),
    ):
        acting.act(f"{path}?connection_id={of_nango}&{query}", path, reason=f"{kind} of {con}")
        stored = acting.one(BulkRun.act, BulkRun.counted, BulkRun.actor, reason=f"{kind} of {con}")
        assert stored == (kind, 1, "operator:operator")


@does("POST /console/connections/supersede")
def supersede_links(acting: Acting) -> None:
    user, now = User(id=new_id(), external_id=acting.name(), created_at=utc_now()), utc_now()
    made = [a_connection(now, acting.name(), tags={}, nango_id=number) for number in (1, 2)]
    add(acting.console.database, user, *made)
    with acting.console.database.write() as session:
        for row in made:
            link = Link(id=new_id(), connection_ref=row.id, user_id=user.id, linked_by="end_user_id", opened_at=now)
            session.add(link)
    acting.act(f"{CONNECTIONS}/supersede", reason="tidy")
    closed = dict(acting.rows(Link.connection_ref, Link.close_reason, user_id=user.id))
    assert (closed[made[0].id], closed[made[1].id]) == ("superseded", None)
    assert "tidy" in {detail.get("reason") for detail in acting.rows(Audit.detail, action="links.superseded")}


@does("POST /console/refreshes/{ref_id}/run")
def run_refresh(acting: Acting) -> None:
    con, _, _ = linked(acting)
    plan = acting.one(Refresh.id, connection_ref=acting.id_of(con), outcome=None)
    before = acting.one(Connection.renewed_at, id=acting.id_of(con))
    acting.act(f"/console/refreshes/{show(REFRESH, plan)}/run", force="true")
    assert acting.one(Connection.renewed_at, id=acting.id_of(con)) > before
