"""A process killed between Nango's answer and our record: it is seen, and doing it again ends as if it had lived."""

import signal
import subprocess
import sys
from dataclasses import dataclass
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select

from app.clock import utc_now
from app.db.models import Audit
from app.deadlines import EDIT_LEASE
from app.domain.states import ConnectionStatus, RefreshOutcome
from app.errors import Conflict
from app.ids import CONNECTION, show
from app.services.connections import credentials, deletion, metadata, operations, tags
from app.services.connections.operations import Operations
from tests.integration.connections.dying_operation import WHO
from tests.integration.sandbox.sandbox_server import control, fetch, register
from tests.integration.world import DANA, World, auth
from tests.waiting import PATIENCE

AGAIN = "token:again"


@dataclass
class Scene:
    """A linked connection, and the operations on it."""

    world: World
    nango: httpx.Client
    connection_id: str
    con: UUID
    operations: Operations

    def die(self, operation):
        """Begin it in a process of its own, which is killed after Nango's answer; the connection as Nango has it."""
        url = self.world.database.engine.url.render_as_string(hide_password=False)
        nango_url, con_id = str(self.nango.base_url), show(CONNECTION, self.con)
        words = [
            sys.executable,
            "-m",
            "tests.integration.connections.dying_operation",
            url,
            nango_url,
            con_id,
            operation,
        ]
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        return self.at_nango()

    def at_nango(self):
        return fetch(self.nango, self.connection_id, "oauth2")

    def record(self):
        return self.world.connection(self.connection_id)

    def wait_for_the_lease(self):
        self.world.clock.now = utc_now() + EDIT_LEASE  # the killed process had a clock of its own

    def audited(self):
        with self.world.database.read() as session:
            return [
                (entry.actor, entry.action, entry.outcome)
                for entry in session.scalars(select(Audit).order_by(Audit.id))
            ]


@pytest.fixture
def scene(open_world, base_url, nango, connection_id, monkeypatch):
    monkeypatch.setattr(operations, "WAIT_SECONDS", 0.1)
    world = open_world(base_url=base_url)
    register(nango, connection_id, "oauth2", tags=DANA)
    world.handle(auth(connection_id=connection_id, tags=DANA))
    at = Operations(world.database, world.policy, world.clients, world.clock)
    return Scene(world, nango, connection_id, world.connection(connection_id).id, at)


def test_a_deletion_that_only_nango_knows_of_is_finished_by_doing_it_again(scene):
    assert scene.die("delete").status_code == 404
    assert scene.record().status == ConnectionStatus.ACTIVE
    assert scene.audited() == [(WHO, "connection.deleted", "begun")]
    with pytest.raises(Conflict, match="try again") as early:
        deletion.delete(scene.operations, scene.con, actor=AGAIN)
    assert early.value.retry_after
    scene.wait_for_the_lease()
    assert deletion.delete(scene.operations, scene.con, actor=AGAIN).was_gone
    scene.world.process()
    assert scene.record().status == ConnectionStatus.DELETED
    assert scene.world.owner(scene.connection_id) is None
    assert len(scene.world.events("connection.deleted")) == 1
    assert scene.audited() == [(WHO, "connection.deleted", "begun"), (AGAIN, "connection.deleted", "done")]


def test_a_tag_that_only_nango_has_is_taken_over_by_adding_it_again(scene):
    wanted = {**DANA, "plan": "pro"}
    assert scene.die("tag").json()["tags"] == wanted
    assert (scene.record().tags, scene.audited()) == (DANA, [(WHO, "tags.added", "begun")])
    scene.wait_for_the_lease()
    done = tags.add_tags(scene.operations, scene.con, {"plan": "pro"}, actor=AGAIN)
    assert (done.tags, done.changed, done.elsewhere) == (wanted, False, True)
    scene.world.process()
    assert scene.record().tags == wanted
    assert scene.world.owner(scene.connection_id) == ("usr_1042", "org_77")


def test_metadata_that_was_written_is_written_over(scene):
    assert scene.die("metadata").json()["metadata"] == {"a": 1}
    assert scene.audited() == [(WHO, "metadata.set", "begun")]
    scene.wait_for_the_lease()
    metadata.set_metadata(scene.operations, scene.con, {"b": 2}, actor=AGAIN)
    assert scene.at_nango().json()["metadata"] == {"b": 2}


def test_a_forced_refresh_is_not_repeated_within_the_lease_of_a_killed_one(scene):
    control(scene.nango, scene.connection_id, "oauth2", expires_in=1800)
    before = scene.at_nango().json()["credentials"]["expires_at"]
    renewed = scene.die("refresh").json()["credentials"]["expires_at"]
    assert (renewed > before, scene.record().expires_at) == (True, None)
    assert scene.audited() == [(WHO, "connection.refreshed", "begun")]
    with pytest.raises(Conflict, match="try again"):
        credentials.refresh(scene.operations, scene.con, actor=AGAIN)
    assert scene.at_nango().json()["credentials"]["expires_at"] == renewed
    scene.wait_for_the_lease()
    assert credentials.refresh(scene.operations, scene.con, actor=AGAIN).outcome == RefreshOutcome.FIRST_SEEN
    assert scene.record().expires_at is not None, "an expiry seen for the first time"
    assert [outcome for _, _, outcome in scene.audited()] == ["begun", "failed", "done"]
