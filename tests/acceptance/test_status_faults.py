"""No fault stays green: each one turns the status red by name, and green again after its repair (promise 11)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.fault_rounds import (
    DATABASE_DISK_FULL,
    DISK_FULL,
    FILE_LOCKED,
    RABBITMQ_AND_CLOCK,
    ROUNDS,
    faketime,
)
from tests.acceptance.status_faults import Installation, installed, is_well, on_a_small_disk, round_of, with_rabbitmq
from tests.rabbit import RabbitServer
from tests.servers import ValkeyServer

NO_MOUNT = "needs the right to mount a file system, which root of many containers has not"


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installed(tmp_path_factory.mktemp("patched")) as running:
        yield running


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ROUNDS)
def test_faults_are_red_by_name_until_they_are_repaired(at: Installation, name: str) -> None:
    for seen in round_of(at, ROUNDS[name]):
        assert seen.said or not seen.fault.api
    is_well(at)


@pytest.mark.timeout(600)
def test_a_full_disk_of_postgresql_is_red_by_name_until_there_is_room(at: Installation) -> None:
    if at.small_disk is None:
        pytest.skip(NO_MOUNT)
    [seen] = round_of(at, DATABASE_DISK_FULL)
    assert seen.said.startswith(("disk full", "away"))
    is_well(at)


@pytest.mark.rabbitmq
@pytest.mark.skipif(not RabbitServer.program.exists(), reason="needs Debian's rabbitmq-server")
@pytest.mark.skipif(faketime() is None, reason="needs Debian's faketime")
@pytest.mark.timeout(600)
def test_a_stopped_rabbitmq_and_a_wrong_clock_are_red_by_name_until_they_are_repaired(tmp_path: Path) -> None:
    with with_rabbitmq(tmp_path) as at:
        for seen in round_of(at, RABBITMQ_AND_CLOCK):
            assert seen.said
        is_well(at)


@pytest.mark.timeout(600)
def test_a_full_disk_and_a_lock_of_sqlite_are_red_by_name_until_they_are_repaired(valkey: ValkeyServer) -> None:
    valkey.start()
    with on_a_small_disk(valkey.url(0)) as at:
        if at is None:
            pytest.skip(NO_MOUNT)
        for faults, name in ((DISK_FULL, "disk full"), (FILE_LOCKED, "locked")):
            [seen] = round_of(at, faults)
            assert seen.said.startswith(name)
