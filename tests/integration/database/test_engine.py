"""Opening and closing of a database."""

import pytest

from app.db.engine import connect


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    return f"sqlite:///{tmp_path}/w.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


def test_a_connection_that_is_in_use_at_the_close_is_closed_when_it_is_given_back(url):
    database = connect(url)
    in_use = database.engine.connect()
    driver = in_use.connection.driver_connection
    database.close()
    assert in_use.exec_driver_sql("SELECT 1").scalar() == 1
    in_use.close()
    with pytest.raises(Exception, match="clos"):  # each driver has an error of its own
        driver.execute("SELECT 1")
