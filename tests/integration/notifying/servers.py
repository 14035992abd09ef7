"""The other sides of channels on loopback: an HTTP endpoint and a mail server, as good or bad as a test wants."""

import base64
import socketserver
import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class HttpSide:
    """`answers`: status and body of the next requests; the last one again and again. `held`: answers wait for it."""

    answers: list = field(default_factory=lambda: [(200, b"ok")])
    requests: list = field(default_factory=list)
    held: threading.Event | None = None
    url: str = ""


@contextmanager
def http_side(**how):
    side = HttpSide(**how)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            side.requests.append((dict(self.headers), body))
            if side.held is not None:
                side.held.wait()
            status, answer = side.answers.pop(0) if len(side.answers) > 1 else side.answers[0]
            try:
                self.send_response(status)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
            except OSError:
                pass  # the caller has given up

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        side.url = f"http://127.0.0.1:{server.server_port}/in"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield side
        finally:
            if side.held is not None:
                side.held.set()
            server.shutdown()
            thread.join(5)


@dataclass
class MailSide:
    """A mail server. `users`: passwords by user; None asks for none. `refuses`: recipients. `drips`: its answers never
    end. `says`: in place of the answer 250 to a message.
    """

    users: dict | None = None
    refuses: tuple = ()
    drips: bool = False
    says: bytes = b"250 queued"
    starttls: ssl.SSLContext | None = None
    mails: list = field(default_factory=list)
    words: list = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    port: int = 0


class _Conversation(socketserver.StreamRequestHandler):
    def handle(self):
        side = self.server.side
        if side.drips:
            while not side.over.wait(0.01):
                try:
                    self.wfile.write(b"2")
                except OSError:
                    break
            return
        try:
            self._converse(side)
        except OSError:  # of TLS, too
            pass
        finally:
            self.connection.close()  # the one that STARTTLS made, which the server does not know

    def _say(self, words):
        self.wfile.write(words + b"\r\n")
        self.wfile.flush()

    def _converse(self, side):
        self._say(b"220 mail.example")
        recipients, secure = [], False
        while line := self.rfile.readline().decode().strip():
            verb, _, rest = line.partition(" ")
            side.words.append(verb.upper())
            match verb.upper():
                case "EHLO":
                    offers = [b"mail.example"]
                    offers += [b"STARTTLS"] if side.starttls is not None and not secure else []
                    offers += [b"AUTH PLAIN"] if side.users is not None else []
                    for number, offer in enumerate(offers):
                        self._say((b"250 " if number == len(offers) - 1 else b"250-") + offer)
                case "STARTTLS":
                    self._say(b"220 go on")
                    self.connection = side.starttls.wrap_socket(self.connection, server_side=True)
                    self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
                    secure = True
                case "AUTH":
                    _, user, password = base64.b64decode(rest.partition(" ")[2]).decode().split("\0")
                    known = (side.users or {}).get(user) == password
                    self._say(b"235 welcome" if known else b"535 5.7.8 " + f"{user}/{password} is unknown".encode())
                case "RCPT":
                    address = rest.partition("<")[2].partition(">")[0]
                    recipients.append(address)
                    self._say(b"550 no such user" if address in side.refuses else b"250 ok")
                case "DATA":
                    self._say(b"354 go on")
                    mail = b""
                    while not mail.endswith(b"\r\n.\r\n"):
                        mail += self.rfile.readline()
                    if side.says.startswith(b"250"):
                        side.mails.append((list(recipients), mail.decode()))
                    self._say(side.says)
                case "QUIT":
                    self._say(b"221 bye")
                    return
                case _:
                    self._say(b"250 ok")


class _MailServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, side, tls):
        self.side, self.tls = side, tls
        super().__init__(("127.0.0.1", 0), _Conversation)

    def get_request(self):
        connection, address = super().get_request()
        return (self.tls.wrap_socket(connection, server_side=True) if self.tls else connection), address

    def handle_error(self, *_):
        pass


@contextmanager
def mail_side(*, tls=None, **how):
    side = MailSide(**how)
    with _MailServer(side, tls) as server:
        side.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield side
        finally:
            side.over.set()
            server.shutdown()
            thread.join(5)
