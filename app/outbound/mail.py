"""Send one e-mail by SMTP: TLS is verified, the whole takes a bounded time, and no error text holds a password."""

import smtplib
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Final

import httpx

from app.domain.notifying import Mailbox, MailSecurity
from app.domain.scrub import scrub
from app.outage_causes import of_connection

CONNECT_SECONDS: Final = 10.0  # and for each answer
WHOLE_SECONDS: Final = 30.0  # from connecting to the last answer, however slowly the server writes
LONGEST: Final = 200  # characters of a server's answer


@dataclass(frozen=True, slots=True)
class MailAnswer:
    """The mail server's answer. taken: it accepted the message for all recipients."""

    taken: bool
    text: str


def mail_tls(authorities: Path | None = None) -> ssl.SSLContext:
    """A TLS context that verifies by the public authorities, and by those of a PEM file."""
    context = httpx.create_ssl_context(trust_env=False)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if authorities is not None:
        context.load_verify_locations(cafile=authorities)
    return context


def send_mail(
    mailbox: Mailbox, message: EmailMessage, tls: ssl.SSLContext, *, seconds: float = WHOLE_SECONDS
) -> MailAnswer:
    """Send it, within so many seconds. Failures are answers, too.

    The conversation runs in a thread, since smtplib bounds each read and not their number. A server that has not
    finished in time is hung up on, which ends the thread.
    """
    conversation = _Conversation(mailbox, message, tls)
    thread = threading.Thread(target=conversation.run, name="mail", daemon=True)
    thread.start()
    thread.join(seconds)
    if conversation.answer is None:
        conversation.hang_up()
        return MailAnswer(taken=False, text=f"no end within {seconds:g} s")
    return conversation.answer


@dataclass(slots=True)
class _Conversation:
    mailbox: Mailbox
    message: EmailMessage
    tls: ssl.SSLContext
    answer: MailAnswer | None = None
    _client: smtplib.SMTP | None = field(default=None, init=False)

    def run(self) -> None:
        try:
            self.answer = self._converse()
        except smtplib.SMTPAuthenticationError as refused:
            self.answer = MailAnswer(taken=False, text=f"user or password is refused: {_said(refused)}")
        except smtplib.SMTPRecipientsRefused as refused:
            code, words = next(iter(refused.recipients.values()))
            self.answer = MailAnswer(taken=False, text=f"no recipient is taken: {code} {_text(words)}")
        except smtplib.SMTPResponseException as refused:
            self.answer = MailAnswer(taken=False, text=f"the mail server refuses: {_said(refused)}")
        except smtplib.SMTPNotSupportedError:
            missing = "STARTTLS" if self.mailbox.security is MailSecurity.STARTTLS else "sign-in"
            self.answer = MailAnswer(taken=False, text=f"the mail server offers no {missing}")
        except smtplib.SMTPServerDisconnected:
            self.answer = MailAnswer(taken=False, text="the mail server hung up")
        except Exception as failed:  # noqa: BLE001 - smtplib raises whatever a broken answer leads to
            self.answer = MailAnswer(taken=False, text=f"no connection: {of_connection(failed)}")

    def hang_up(self) -> None:
        client = self._client
        if client is not None and client.sock is not None:
            with suppress(OSError):
                client.sock.shutdown(socket.SHUT_RDWR)

    def _converse(self) -> MailAnswer:
        mailbox = self.mailbox
        client: smtplib.SMTP
        if mailbox.security is MailSecurity.TLS:
            client = smtplib.SMTP_SSL(timeout=CONNECT_SECONDS, context=self.tls)
        else:
            client = smtplib.SMTP(timeout=CONNECT_SECONDS)
        self._client = client
        client._host = mailbox.host  # type: ignore[attr-defined]  # the name that TLS verifies
        try:
            client.connect(mailbox.host, mailbox.port)
            if mailbox.security is MailSecurity.STARTTLS:
                client.starttls(context=self.tls)
            if mailbox.user is not None:
                client.login(mailbox.user, mailbox.password or "")
            refused = client.send_message(self.message, mailbox.sender, list(mailbox.recipients))
            with suppress(smtplib.SMTPException, OSError):
                client.quit()
        finally:
            client.close()
        if refused:
            code, words = next(iter(refused.values()))
            what = f"{len(refused)} of {len(mailbox.recipients)} recipients are refused: {code} {_text(words)}"
            return MailAnswer(taken=False, text=what)
        return MailAnswer(taken=True, text="taken")


def _said(refused: smtplib.SMTPResponseException) -> str:
    return f"{refused.smtp_code} {_text(refused.smtp_error)}"


def _text(words: bytes | str) -> str:
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    return scrub(" ".join(text.split()), limit=LONGEST)
