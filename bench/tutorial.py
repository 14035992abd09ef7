"""The way of the tutorials, to be compared with: `delay()` in the endpoint, one task and a few statements per event.

`python -m bench.tutorial create|enqueue COUNT|worker`: make the tables, queue events, or run a Celery worker;
TUTORIAL_DATABASE_URL and TUTORIAL_BROKER_URL say where. Nothing is slowed down on purpose: it is Celery as it comes,
with one commit per event and the solo pool, which is the fastest for one process.
"""

import json
import os
import sys
import uuid
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from celery import Celery
from sqlalchemy import Engine, ForeignKey, UniqueConstraint, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from app.domain.signature import HEADER, matching_key
from bench.load import KEY, body

TASK: Final = "tutorial.process"
TEAM_QUEUE: Final = "team.bench.jobs"


class Base(DeclarativeBase):
    pass


class Webhook(Base):
    __tablename__ = "webhooks"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str]
    received_at: Mapped[datetime]


class Organization(Base):
    __tablename__ = "organizations"
    id: Mapped[int] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(unique=True)


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(unique=True)
    organization_id: Mapped[int] = mapped_column(ForeignKey("organizations.id"))


class Connection(Base):
    __tablename__ = "connections"
    __table_args__ = (UniqueConstraint("integration", "connection_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    integration: Mapped[str]
    connection_id: Mapped[str]


class Link(Base):
    __tablename__ = "links"
    id: Mapped[int] = mapped_column(primary_key=True)
    connection_id: Mapped[int] = mapped_column(ForeignKey("connections.id"), unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))


class Job(Base):
    __tablename__ = "jobs"
    id: Mapped[str] = mapped_column(primary_key=True)
    connection_id: Mapped[int] = mapped_column(ForeignKey("connections.id"))
    created_at: Mapped[datetime]


Row = TypeVar("Row", bound=Base)


def engine() -> Engine:
    return create_engine(os.environ["TUTORIAL_DATABASE_URL"])


def celery() -> Celery:
    return Celery("tutorial", broker=os.environ["TUTORIAL_BROKER_URL"], set_as_current=False)


def register(app: Celery, database: Engine) -> Any:
    """The task: link the connection to its user, record a job, send it."""

    @app.task(name=TASK)
    def process(content: str) -> None:
        event = json.loads(content)
        with Session(database) as session, session.begin():
            job = _apply(session, event)
            task_id, job_document = job.id, {"id": job.id, "event": event}
        app.send_task("bench.job", kwargs={"job": job_document}, task_id=task_id, queue=TEAM_QUEUE)

    return process


def _apply(session: Session, event: dict[str, Any]) -> Job:
    tags = event["tags"]
    organization = _find_or_create(session, Organization, external_id=tags["organization_id"])
    user = _find_or_create(session, User, {"organization_id": organization.id}, external_id=tags["end_user_id"])
    connection = _find_or_create(
        session, Connection, integration=event["providerConfigKey"], connection_id=event["connectionId"]
    )
    link = _find_or_create(session, Link, {"user_id": user.id}, connection_id=connection.id)
    link.user_id = user.id
    job = Job(id=str(uuid.uuid4()), connection_id=connection.id, created_at=datetime.now(UTC))
    session.add(job)
    return job


def _find_or_create(session: Session, kind: type[Row], more: dict[str, Any] | None = None, **key: Any) -> Row:
    row = session.scalar(select(kind).filter_by(**key))
    if row is None:
        row = kind(**key, **(more or {}))
        session.add(row)
        session.flush()
    return row


def delay_endpoint() -> Callable[[Request], Any]:
    """Verify and `delay()`; nothing is stored."""
    process = register(celery(), engine())

    async def receive(request: Request) -> Response:
        content = await request.body()
        if matching_key(content, request.headers.get(HEADER), [KEY]) is None:
            return Response(status_code=401)
        process.delay(content.decode())
        return Response(status_code=202)

    return receive


def insert_endpoint() -> Callable[[Request], Any]:
    """Verify, one insert and one commit, then `delay()`."""
    database = engine()
    process = register(celery(), database)

    def store(content: str) -> None:
        with Session(database) as session:
            session.add(Webhook(body=content, received_at=datetime.now(UTC)))
            session.commit()
        process.delay(content)

    async def receive(request: Request) -> Response:
        content = await request.body()
        if matching_key(content, request.headers.get(HEADER), [KEY]) is None:
            return Response(status_code=401)
        await run_in_threadpool(store, content.decode())
        return Response(status_code=202)

    return receive


def main() -> None:
    app, database = celery(), engine()
    process = register(app, database)
    if sys.argv[1] == "create":
        Base.metadata.create_all(database)
    elif sys.argv[1] == "enqueue":
        for _ in range(int(sys.argv[2])):
            process.delay(body(str(uuid.uuid4())).decode())
    else:
        warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
        app.worker_main(["--quiet", "worker", "--pool=solo", "--loglevel=error"])


if __name__ == "__main__":
    main()
