"""Rows of processes: written by themselves, read with ages that no wrong clock falsifies."""

from datetime import timedelta

import msgspec
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError

from app.clock import utc_now
from app.db.models import Process
from app.db.read import processes as reads
from app.domain.liveness import STALE_SECONDS, ProcessKind, ProcessState, Work
from app.services.liveness.pulse import Pulse
from app.services.liveness.reporter import Reporter, version
from app.services.maintenance import upkeep
from app.web.api.processes import ProcessRow
from tests.waiting import until


def seen(database):
    with database.read() as session:
        return reads.all_processes(session, now=utc_now())


def one(database, kind=ProcessKind.IO, *, ahead=0.0, silent=0.0, ago=0.0):
    """A process that has reported once. ahead: of its clock. silent: its loop has not answered for so long at its
    report, which was so long `ago`.
    """
    pulse = Pulse(kind, ("consumer",), clock=lambda: utc_now() + timedelta(seconds=ahead - ago))
    pulse._answered["consumer"] -= silent
    reporter = Reporter(database, pulse)
    reporter.report()
    if ago and not database.is_sqlite:
        with database.write() as session:
            session.execute(
                text("UPDATE processes SET database_at = database_at - make_interval(secs => :ago) WHERE id = :id"),
                {"ago": ago, "id": pulse.id},
            )
    return reporter


def test_a_process_reports_what_it_is_and_does(database):
    pulse = Pulse(ProcessKind.WEB, ("event loop",))
    reporter = Reporter(database, pulse)
    pulse.did(Work.STORED)
    pulse.began("waylink.sweep")
    reporter.report()
    [process] = seen(database)
    assert (process.id, process.kind, process.state) == (pulse.id, ProcessKind.WEB, ProcessState.RUNNING)
    assert process.version == version()
    assert process.progress.keys() == {"stored"}
    assert process.task == "waylink.sweep"
    assert process.task_seconds is not None
    assert abs(process.clock_ahead_seconds) < STALE_SECONDS


def test_a_process_is_shown_as_the_api_has_it(database):
    one(database, ProcessKind.IO)
    [process] = seen(database)
    row = reads.shown(process)
    assert msgspec.convert(row, ProcessRow).kind == "io"
    assert set(row) == set(ProcessRow.__struct_fields__)


def test_a_loop_that_does_not_answer_makes_the_row_stale_although_it_is_written(database):
    one(database, silent=STALE_SECONDS)
    [process] = seen(database)
    assert process.state is ProcessState.STANDING_STILL
    assert process.seen_seconds >= STALE_SECONDS > process.written_seconds


def test_a_process_that_reports_no_more_is_silent_until_another_takes_its_place(database):
    one(database, ago=100)
    [process] = seen(database)
    assert (process.state, process.replaced) == (ProcessState.SILENT, False)
    one(database)
    assert [(process.state, process.replaced) for process in seen(database)] == [
        (ProcessState.RUNNING, False),
        (ProcessState.SILENT, True),
    ]


def test_a_clean_stop_is_told(database):
    reporter = one(database)
    reporter.start()
    reporter.stop()
    [process] = seen(database)
    assert process.state is ProcessState.STOPPED
    assert reads.missing_kinds([process]) == [*ProcessKind]


@pytest.mark.parametrize("ahead", [-3600.0, 3600.0])
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # processes of a SQLite database share a clock
def test_a_wrong_clock_is_told_and_makes_no_process_look_alive_or_dead(database, ahead):
    one(database, ahead=ahead)
    one(database, ahead=ahead, silent=STALE_SECONDS)
    still, running = seen(database)
    assert (running.state, still.state) == (ProcessState.RUNNING, ProcessState.STANDING_STILL)
    assert running.clock_ahead_seconds == pytest.approx(ahead, abs=STALE_SECONDS)


def test_kinds_that_do_not_run_are_missing(database):
    one(database, ProcessKind.WEB)
    one(database, ProcessKind.EVENTS, silent=STALE_SECONDS)
    one(database, ProcessKind.IO, ago=100)
    assert reads.missing_kinds(seen(database)) == [ProcessKind.EVENTS, ProcessKind.IO, ProcessKind.BEAT]


def test_a_skew_of_versions_is_among_the_living(database):
    one(database)
    one(database, ago=100)
    with database.write() as session:
        gone = session.scalars(select(Process).order_by(Process.written_at)).first()
        gone.version, gone.schema_revision = "0.0.1", "0001"
    assert reads.versions(seen(database)) == {version(): 1}
    one(database)
    with database.write() as session:
        newest = session.scalars(select(Process).order_by(Process.id.desc())).first()
        newest.version, newest.schema_revision = "9.0.0", "9999"
    assert reads.versions(seen(database)) == {version(): 1, "9.0.0": 1}
    assert len(reads.schema_revisions(seen(database))) == 2


def test_the_last_time_of_a_kind_of_work_is_that_of_any_process(database):
    for ago in (50, 10):
        pulse = Pulse(ProcessKind.EVENTS, ("consumer",), clock=lambda ago=ago: utc_now() - timedelta(seconds=ago))
        pulse.did(Work.PROCESSED)
        pulse.clock = utc_now
        Reporter(database, pulse).report()
    found = reads.last_done(seen(database), Work.PROCESSED)
    assert found is not None
    assert 10 <= found < 50
    assert reads.last_done(seen(database), Work.DELIVERED) is None


def test_a_process_reports_again_under_its_id(database):
    reporter = one(database)
    reporter.report()
    reporter.report()
    assert [process.id for process in seen(database)] == [reporter.pulse.id]


def test_a_fault_of_what_else_is_written_leaves_the_report_as_it_is(database):
    told = []

    def fails(last):
        told.append(last)
        raise OperationalError("", {}, RuntimeError("no"))

    reporter = Reporter(database, Pulse(ProcessKind.IO, ("consumer",)), also=[fails])
    reporter.report()
    reporter.report(stopped=True)
    assert [process.id for process in seen(database)] == [reporter.pulse.id]
    assert told == [False, True]


def test_a_fault_of_the_database_is_logged_once_and_ends_nothing(database, caplog, monkeypatch):
    reporter = one(database)
    said = []
    monkeypatch.setattr("app.services.liveness.reporter.log.warning", lambda name, **facts: said.append((name, facts)))
    with database.write() as session:
        session.execute(text("ALTER TABLE processes RENAME TO away"))
    reporter.report()
    reporter.report()
    assert [name for name, _ in said] == ["process_not_reported"]
    with database.write() as session:
        session.execute(text("ALTER TABLE away RENAME TO processes"))
    reporter.report()
    assert [process.state for process in seen(database)] == [ProcessState.RUNNING]


def test_the_thread_reports_by_itself(database, monkeypatch):
    monkeypatch.setattr("app.services.liveness.reporter.EVERY_SECONDS", 0.05)
    pulse = Pulse(ProcessKind.BEAT, ("scheduler",))
    reporter = Reporter(database, pulse)
    reporter.start()
    until("it has reported", lambda: seen(database))
    pulse.did(Work.TICKED)
    until("it reports progress", lambda: seen(database)[0].progress)
    reporter.stop()


def test_processes_that_are_gone_for_a_day_are_forgotten(database):
    one(database, ago=100)
    kept = upkeep.PROCESSES_KEPT - timedelta(seconds=50)
    later = timedelta(seconds=100)
    assert upkeep.prune(database, window=timedelta(0), clock=lambda: utc_now() + kept - later) == 0
    assert upkeep.prune(database, window=timedelta(0), clock=lambda: utc_now() + kept) == 1
    assert seen(database) == []


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_report_changes_no_index(database):
    """A heap-only tuple: else each report would leave an entry of an index behind."""
    reporter = one(database)
    for _ in range(20):
        reporter.report()

    def hot():
        with database.write() as session:
            session.execute(text("SELECT pg_stat_force_next_flush()"))
        with database.read() as session:
            statistics = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'processes'"
            updated, in_place = session.execute(text(statistics)).one()
        return (updated, in_place) if updated >= 20 else None

    updated, in_place = until("the statistics are there", hot)
    assert updated == in_place
