"""A message over each kind of channel: whatever the other side does, an answer comes in time and has no secret."""

import json
import ssl
import threading
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from app.domain.addresses import read_networks
from app.domain.notifying import Channel, ChannelKind, Endpoint, Mailbox, MailSecurity, Rules
from app.domain.standard_webhooks import write_secret
from app.outbound import mail
from app.outbound.mail import mail_tls
from app.outbound.sending import HttpSender
from app.services.notifying import courier as couriers
from app.services.notifying.courier import Courier
from app.services.notifying.messages import test_message as a_message
from tests import certificates
from tests.integration.notifying.servers import http_side, mail_side
from tests.ports import free_port

NOW = datetime(2026, 11, 30, 14, tzinfo=UTC)
KEY = bytes(range(32))
LOOPBACK = read_networks("127.0.0.0/8")
DOCUMENT = a_message("acme", now=NOW)


def send(channel, *, allowed=LOOPBACK, authorities=None):
    courier = Courier(lambda: HttpSender(allowed=allowed), lambda: mail_tls(authorities), lambda: NOW)
    return courier.send(channel, DOCUMENT, message_id="msg_1")


def webhook(url, kind=ChannelKind.WEBHOOK):
    key = KEY if kind is ChannelKind.WEBHOOK else None
    return Channel(name="ops", kind=kind, rules=Rules(), place=Endpoint(url, key))


def by_mail(port, *, security=MailSecurity.NONE, host="127.0.0.1", **login):
    recipients = ("a@acme.example", "b@acme.example")
    place = {"host": host, "port": port, "security": security, "sender": "w@acme.example", "recipients": recipients}
    return Channel(name="mail", kind=ChannelKind.EMAIL, rules=Rules(), place=Mailbox(**place, **login))


def test_a_webhook_is_signed_so_that_the_official_library_verifies_it():
    with http_side() as side:
        sent = send(webhook(side.url))
        [(headers, body)] = side.requests
    assert (sent.taken, sent.text) == (True, "answered 200: ok")
    assert json.loads(body) == DOCUMENT
    assert headers["webhook-id"] == "msg_1"
    Webhook(write_secret(KEY)).verify(body, {name.lower(): value for name, value in headers.items()})


def test_slack_gets_a_text_and_no_signature():
    with http_side() as side:
        assert send(webhook(side.url, ChannelKind.SLACK)).taken
        [(headers, body)] = side.requests
    assert json.loads(body) == {"text": "*acme*: this is a test: nothing has happened"}
    assert not [name for name in headers if name.lower().startswith("webhook-")]


@pytest.mark.parametrize(
    ("status", "body", "text", "gone"),
    [
        (500, b"token=abcdef0123456789abcdef", "answered 500: token=", False),
        (410, b"", "answered 410", True),
        (302, b"", "answered 302: redirects are not followed", False),
        (404, b"no_service", "answered 404: no_service", False),
    ],
)
def test_what_is_not_taken_is_told_with_the_answer_and_without_what_may_be_secret_in_it(status, body, text, gone):
    with http_side(answers=[(status, body)]) as side:
        sent = send(webhook(side.url))
    assert (sent.taken, sent.gone) == (False, gone)
    assert sent.text.startswith(text)
    assert "abcdef0123456789" not in sent.text


def test_an_endpoint_that_hangs_is_left_after_its_time(monkeypatch):
    monkeypatch.setattr(couriers, "HTTP_SECONDS", 0.2)
    with http_side(held=threading.Event()) as side:
        sent = send(webhook(side.url))
    assert (sent.taken, sent.text) == (False, "no answer within 0.2 s")


def test_no_address_of_our_own_network_is_reached_and_no_url_is_quoted():
    with http_side() as side:
        sent = send(webhook(side.url), allowed=())
        assert side.requests == []
    assert (sent.taken, sent.text) == (False, "its address is refused (loopback)")
    sent = send(webhook(f"http://127.0.0.1:{free_port()}/secretpath"))
    assert sent.text == "no connection: Connection refused"


# E-mail


def server_tls(made):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    return context


def test_a_mail_reaches_all_recipients_in_plain_text_where_that_is_meant():
    with mail_side() as side:
        sent = send(by_mail(side.port))
        [(recipients, text)] = side.mails
    assert (sent.taken, sent.text) == (True, "taken")
    assert recipients == ["a@acme.example", "b@acme.example"]
    assert "Subject: [acme] this is a test: nothing has happened" in text
    assert "Message-ID: <msg_1@acme.example>" in text


@pytest.mark.parametrize("security", [MailSecurity.STARTTLS, MailSecurity.TLS])
def test_over_tls_user_and_password_are_sent_and_the_certificate_is_verified(security, tmp_path):
    made = certificates.issue(tmp_path)
    context = server_tls(made)
    how = {"tls": context} if security is MailSecurity.TLS else {"starttls": context}
    login = {"user": "w", "password": "correct horse"}
    with mail_side(users={"w": "correct horse"}, **how) as side:
        trusted = send(by_mail(side.port, security=security, **login), authorities=made.authority)
        untrusted = send(by_mail(side.port, security=security, **login))
        other_name = send(by_mail(side.port, security=security, host="localhost", **login), authorities=made.authority)
        assert side.words.count("AUTH") == 1
        assert len(side.mails) == 1
    assert trusted.taken
    assert "its certificate is not trusted" in untrusted.text
    assert "its certificate is not trusted" in other_name.text


def test_without_starttls_no_password_leaves():
    with mail_side(users={"w": "p"}) as side:
        sent = send(by_mail(side.port, security=MailSecurity.STARTTLS, user="w", password="p"))
        assert "AUTH" not in side.words
    assert sent.text == "the mail server offers no STARTTLS"


def test_a_refused_password_is_told_and_not_quoted(tmp_path):
    made = certificates.issue(tmp_path)
    with mail_side(users={}, starttls=server_tls(made)) as side:
        login = {"user": "w", "password": "hunter2-9f8e7d6c5b4a39281706f5e4d3c2b1a0"}
        sent = send(by_mail(side.port, security=MailSecurity.STARTTLS, **login), authorities=made.authority)
        assert side.mails == []
    assert sent.text.startswith("user or password is refused: 535")
    assert "hunter2" not in sent.text


def test_what_the_mail_server_refuses_is_told():
    with mail_side(says=b"554 5.7.1 spam") as side:
        assert send(by_mail(side.port)).text == "the mail server refuses: 554 5.7.1 spam"
    with mail_side(refuses=("a@acme.example", "b@acme.example")) as side:
        assert send(by_mail(side.port)).text == "no recipient is taken: 550 no such user"
    with mail_side(refuses=("a@acme.example",)) as side:
        some = send(by_mail(side.port))
        assert len(side.mails) == 1
    assert (some.taken, some.text) == (False, "1 of 2 recipients are refused: 550 no such user")
    assert send(by_mail(free_port())).text == "no connection: the connection is refused"


def test_a_mail_server_whose_answers_never_end_is_left_after_the_whole_time(monkeypatch):
    monkeypatch.setattr(couriers, "send_mail", lambda *given: mail.send_mail(*given, seconds=0.3))
    with mail_side(drips=True) as side:
        sent = send(by_mail(side.port))
        assert not [thread for thread in threading.enumerate() if thread.name == "mail" and not _ends(thread)]
    assert (sent.taken, sent.text) == (False, "no end within 0.3 s")


def _ends(thread):
    thread.join(30)
    return not thread.is_alive()


def test_a_fault_of_ours_is_an_answer_too(tmp_path, monkeypatch):
    sent = send(by_mail(free_port()), authorities=tmp_path / "gone.pem")
    assert (sent.taken, sent.text) == (False, "nothing was sent: no such file or directory")
    monkeypatch.setattr(couriers, "send_mail", lambda *_: 1 / 0)
    assert send(by_mail(free_port())).text == "nothing was sent: a fault of Waylink's, which is in its log"
