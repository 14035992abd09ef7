"""`rediss://` to our own brokers is verified: the password goes to no server whose certificate is not the name's."""

import socket
import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import trustme

from app.brokers.celery_broker import Broker
from app.brokers.tls import verified
from app.domain.budget import Priority
from app.errors import BrokerUnavailable, NangoBudgetSpent
from app.services.budget import Budget
from tests.waiting import PATIENCE, until

PASSWORD = "hunter2-of-redis"


@dataclass
class Listener:
    """Takes TLS connections, notes what is said, and answers as no Redis would."""

    port: int
    heard: list[bytes] = field(default_factory=list)
    handshakes: list[bool] = field(default_factory=list)

    def is_not_believed(self):
        until("a handshake has failed", lambda: self.handshakes)
        assert (self.heard, set(self.handshakes)) == ([], {False})

    def url(self, host="localhost", **query):
        return f"rediss://:{PASSWORD}@{host}:{self.port}/0" + "".join(f"?{k}={v}" for k, v in query.items())


@contextmanager
def listening(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as server:
        listener = Listener(server.getsockname()[1])

        def serve():
            while True:
                try:
                    raw, _ = server.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(raw, server_side=True) as secured:
                        listener.handshakes.append(True)
                        secured.settimeout(PATIENCE)
                        listener.heard.append(secured.recv(4096))
                except OSError:
                    listener.handshakes.append(False)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield listener
        finally:
            server.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def trusted(authority, tmp_path):
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(file)
    return file


def ask(url):
    broker = Broker.at("internal", url)
    try:
        with pytest.raises(BrokerUnavailable) as refused:
            broker.ping()
    finally:
        broker.close()
    assert PASSWORD not in str(refused.value)
    return str(refused.value)


def budgeted(url):
    budget = Budget(url, default_limit=600)
    try:
        budget.gate("acme", Priority.PEOPLE)()
    except NangoBudgetSpent:
        pass
    finally:
        budget.close()


@pytest.mark.parametrize("use", [ask, budgeted])
class TestServersThatGetThePassword:
    def test_not_a_server_of_an_unknown_authority(self, authority, use):
        with listening(authority.issue_cert("localhost")) as server:
            use(server.url())
            server.is_not_believed()

    def test_not_a_server_of_another_name(self, authority, trusted, use):
        with listening(authority.issue_cert("other.example")) as server:
            use(verified(server.url(), trusted))
            server.is_not_believed()

    def test_a_server_that_the_named_authority_vouches_for(self, authority, trusted, use):
        with listening(authority.issue_cert("localhost")) as server:
            use(verified(server.url(), trusted))
            until("something is said", lambda: server.heard)
            assert any(PASSWORD.encode() in said for said in server.heard)

    def test_any_where_the_url_says_so(self, authority, use):
        with listening(authority.issue_cert("other.example")) as server:
            use(server.url(ssl_cert_reqs="none"))
            until("something is said", lambda: server.heard)
            assert any(PASSWORD.encode() in said for said in server.heard)


def test_a_certificate_that_is_not_trusted_is_reported_with_the_setting_that_may_help(authority):
    with listening(authority.issue_cert("localhost")) as server:
        said = ask(server.url())
    assert "its certificate is not trusted: unable to get local issuer certificate (WAYLINK_BROKER_CA_FILE" in said


def test_a_certificate_of_another_name_is_reported_as_that(authority, trusted):
    with listening(authority.issue_cert("other.example")) as server:
        said = ask(verified(server.url(), trusted))
    assert "its certificate is not trusted: Hostname mismatch" in said
    assert "WAYLINK_BROKER_CA_FILE" not in said, "other authorities would change nothing"


def ping_of_team(url, authorities):
    broker = Broker.of_team("crm", url, authorities=authorities)
    try:
        with pytest.raises(BrokerUnavailable):
            broker.ping()
    finally:
        broker.close()


@pytest.mark.parametrize(("name", "is_heard"), [("localhost", True), ("other.example", False)])
def test_a_server_of_a_team_is_believed_by_its_name_and_the_operators_authorities(authority, trusted, name, is_heard):
    with listening(authority.issue_cert(name)) as server:
        ping_of_team(server.url(), None)
        server.is_not_believed()
        ping_of_team(server.url(), trusted)
        assert any(PASSWORD.encode() in said for said in server.heard) is is_heard


def test_urls_without_tls_stay_as_they_are(trusted):
    for url in ("redis://h/0", "redis+socket:///r.sock?virtual_host=1", "redis://h/0?socket_timeout=3"):
        assert verified(url, trusted) == url


def test_verifying_twice_changes_nothing(trusted):
    once = verified("rediss://:p%2F%3F@h:1/2?socket_timeout=3", trusted)
    assert once.startswith("rediss://:p%2F%3F@h:1/2?ssl_cert_reqs=required&ssl_check_hostname=true&ssl_ca_certs=")
    assert once.endswith("&socket_timeout=3")
    assert verified(once) == once
