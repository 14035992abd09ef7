import socket

import psycopg
import pytest
import redis

from tests.ports import free_port
from tests.servers import PostgresServer, ValkeyServer


def connect(url: str) -> psycopg.Connection:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def test_each_database_is_empty_and_its_own(postgres: PostgresServer, postgres_url: str) -> None:
    with connect(postgres_url) as connection:
        connection.execute("CREATE TABLE mine (id int)")
    with connect(postgres.create_database()) as other:
        assert other.execute("SELECT to_regclass('mine')").fetchone() == (None,)
        assert other.execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_a_database_can_be_a_copy_of_another(postgres: PostgresServer, postgres_url: str) -> None:
    with connect(postgres_url) as connection:
        connection.execute("CREATE TABLE mine (id int)")
        name = connection.info.dbname
    with connect(postgres.create_database(template=name)) as copy:
        assert copy.execute("SELECT count(*) FROM mine").fetchone() == (0,)


def test_what_was_committed_survives_kill_9_of_the_database(postgres: PostgresServer, postgres_url: str) -> None:
    with connect(postgres_url) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 7 AS id")
        postgres.kill()
    postgres.start()
    with connect(postgres_url) as connection:
        assert connection.execute("SELECT id FROM mine").fetchone() == (7,)


def test_the_broker_keeps_what_it_holds_over_a_restart_until_it_is_flushed(valkey: ValkeyServer) -> None:
    with redis.Redis.from_url(valkey.url(1)) as client:
        client.set("kept", "1")
        valkey.restart()
        assert client.get("kept") == b"1"
        valkey.flush()
        assert client.get("kept") is None


def test_nothing_is_left_of_a_server_that_was_killed() -> None:
    server = PostgresServer()
    server.start()
    server.kill()
    server.close()
    assert not server.folder.exists()


def test_the_database_is_reached_over_tcp_with_a_password_by_a_role_that_may_do_no_more(postgres_url: str) -> None:
    with connect(postgres_url) as connection:
        facts = "SELECT inet_server_addr(), rolsuper FROM pg_roles WHERE rolname = current_user"
        [(address, is_superuser)] = connection.execute(facts)
        assert (str(address), is_superuser) == ("127.0.0.1", False)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(postgres_url.replace("@", "x@"))


def test_the_broker_asks_for_a_password(valkey: ValkeyServer) -> None:
    with redis.Redis(port=valkey.port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_a_port_stays_free_for_the_test_it_was_found_for() -> None:
    port = free_port()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    for _ in range(2):
        with socket.create_server(("127.0.0.1", port)) as server, socket.create_connection(("127.0.0.1", port)):
            assert server.getsockname()[1] == port
    assert port not in {free_port() for _ in range(100)}
