"""The parts of a database's URL that are shown."""

import pytest

from app.db.engine import sqlite_file, unverified

HOST = "postgresql+psycopg://w:p@db.example/w"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (HOST, True),
        (f"{HOST}?sslmode=require", True),
        (f"{HOST}?sslmode=verify-ca", True),
        (f"{HOST}?sslmode=verify-full&sslrootcert=system", False),
        ("postgresql+psycopg://w:p@127.0.0.1/w", False),
        ("postgresql+psycopg://w@/w?host=/run/postgresql", False),
        ("postgresql+psycopg://w@/w?host=db.example", True),
        ("sqlite:///w.db", False),
    ],
)
def test_a_server_elsewhere_that_is_not_verified_is_reported(url, told):
    assert (unverified(url) is not None) is told


@pytest.mark.parametrize(
    ("url", "name"), [("sqlite:////a/w.db", "/a/w.db"), ("sqlite:///w.db", "w.db"), ("sqlite://", None), (HOST, None)]
)
def test_the_file_of_a_sqlite_database(url, name):
    found = sqlite_file(url)
    assert (str(found) if found else None) == name
