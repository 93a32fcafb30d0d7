"""An HTTP server that answers properly unless a test changes that, and records its requests."""

import email.message
import json
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from harness.server import Server
from harness.util import PATIENCE, Feed


@dataclass
class Request:
    """A request. Its repr contains no secret."""

    method: str
    path: str  # as sent, percent-encoded
    query: dict[str, str]
    headers: email.message.Message = field(repr=False)  # found by name in any case
    body: bytes = field(repr=False)
    time: float = field(repr=False)  # on the monotonic clock, when the request was complete
    peer: socket.socket = field(repr=False)
    certificate: bytes | None = field(repr=False)  # the client's, in DER
    status: int | None = None  # the answer's, once it is known

    def form(self) -> dict[str, str]:
        return dict(urllib.parse.parse_qsl(self.body.decode("latin-1"), keep_blank_values=True))


@dataclass
class Response:
    status: int
    body: bytes | Iterator[bytes] = b""  # an iterator is sent in chunks
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, status: int, value: object) -> "Response":
        return cls(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


class Exchange:
    """One request, and the functions that answer it."""

    def __init__(self, request: Request, answer, handler: BaseHTTPRequestHandler):
        self.request = request
        self._answer = answer
        self._handler = handler

    def proper(self) -> Response:
        """Returns the proper answer."""
        return self._answer(self.request)

    def reply(self, response: Response, length: int | None = None) -> None:
        """Sends an answer. `length` is a false Content-Length."""
        self.request.status = response.status
        self._handler.send_response(response.status)
        for name, value in response.headers.items():
            self._handler.send_header(name, value)
        if isinstance(response.body, bytes):
            self._handler.send_header("Content-Length", str(length or len(response.body)))
            self._handler.end_headers()
            self.send(response.body)
        else:
            self._handler.send_header("Transfer-Encoding", "chunked")
            self._handler.end_headers()
            for piece in response.body:
                self.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.send(b"0\r\n\r\n")

    def send(self, data: bytes) -> None:
        """Sends raw data."""
        self._handler.wfile.write(data)

    def hold(self) -> None:
        """Sends nothing until the peer closes."""
        while self._handler.connection.recv(65536):
            pass
        self.close()

    def close(self) -> None:
        self._handler.close_connection = True


# --- behaviours of a server ---

Behaviour = Callable[[Exchange], None]


def proper(exchange: Exchange) -> None:
    exchange.reply(exchange.proper())


def once(behaviour: Behaviour, times: int = 1) -> Behaviour:
    """Applies the behaviour to the first `times` requests only."""
    left = [behaviour] * times

    def first_ones(exchange: Exchange) -> None:
        try:
            chosen = left.pop()
        except IndexError:
            chosen = proper
        chosen(exchange)

    return first_ones


def where(matches: Callable[[Request], bool], behaviour: Behaviour) -> Behaviour:
    """Applies the behaviour to matching requests only."""
    return lambda exchange: (behaviour if matches(exchange.request) else proper)(exchange)


def after(event: threading.Event) -> Behaviour:
    """Sends the proper answer after the test has set the event."""

    def late(exchange: Exchange) -> None:
        assert event.wait(PATIENCE * 2), "nobody released the answer"
        proper(exchange)

    return late


def status(code: int, body: bytes = b"", **headers: str) -> Behaviour:
    """Answers with a status and headers: status(503, Retry_After="1")."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda exchange: exchange.reply(Response(code, body, named))


def success(value: object) -> Behaviour:
    """Answers with unexpected JSON."""
    return lambda exchange: exchange.reply(Response.json(200, value))


def changed(change: Callable[[dict], object]) -> Behaviour:
    """Sends the proper answer with its JSON changed by change()."""

    def otherwise(exchange: Exchange) -> None:
        whole = exchange.proper()
        value = json.loads(whole.body)
        change(value)
        exchange.reply(Response.json(whole.status, value))

    return otherwise


def html(exchange: Exchange) -> None:
    body = b"<!DOCTYPE html><title>Welcome</title><p>Please sign in.\n"
    exchange.reply(Response(200, body, {"Content-Type": "text/html"}))


def cut_json(exchange: Exchange) -> None:
    """Sends a complete body with one half of the proper one."""
    whole = exchange.proper()
    exchange.reply(Response(whole.status, whole.body[: len(whole.body) // 2], whole.headers))


def cut_off(exchange: Exchange) -> None:
    """Ends the connection in the middle of the body."""
    whole = exchange.proper()
    half = Response(whole.status, whole.body[: len(whole.body) // 2], whole.headers)
    exchange.reply(half, length=len(whole.body))
    exchange.close()


def endless(exchange: Exchange) -> None:
    """Sends a body that continues as long as the client reads it."""
    exchange.request.status = 200
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
    exchange.send(b'Transfer-Encoding: chunked\r\n\r\n2\r\n["\r\n')
    size = 0x4000
    while True:
        exchange.send(b"%x\r\n%b\r\n" % (size, b"x" * size))


def garbage(exchange: Exchange) -> None:
    exchange.send(b"+OK this is not HTTP\r\n")
    exchange.close()


def silent(exchange: Exchange) -> None:
    """Never answers."""
    exchange.hold()


def close(exchange: Exchange) -> None:
    exchange.close()


# --- the server ---


class HttpServer(Server):
    """The base class of HTTP servers; subclasses define answer(). With `tls` the server is
    https://localhost. With `mutual_tls`, whose context asks for a client certificate, it has a
    second port for https."""

    def __init__(self, tls: ssl.SSLContext | None = None, mutual_tls: ssl.SSLContext | None = None):
        super().__init__(_Handler, tls, *([mutual_tls] if mutual_tls else []))
        self.behaviour: Behaviour = proper
        self.requests = Feed()
        self.port, self.mutual_port = [*self.ports, 0][:2]
        self._tls = tls

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}" if self._tls else f"http://{self.host}:{self.port}"

    def answer(self, request: Request) -> Response:
        raise NotImplementedError


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        request = Request(
            method=self.command,
            path=path,
            query=dict(urllib.parse.parse_qsl(query, keep_blank_values=True)),
            headers=self.headers,
            body=self.rfile.read(int(self.headers.get("Content-Length", 0))),
            time=time.monotonic(),
            peer=self.connection,
            certificate=_certificate(self.connection),
        )
        owner = self.server.owner
        owner.requests.add(request)
        owner.behaviour(Exchange(request, owner.answer, self))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def log_message(self, *arguments) -> None:
        pass


def _certificate(connection: socket.socket) -> bytes | None:
    is_tls = isinstance(connection, ssl.SSLSocket)
    return connection.getpeercert(binary_form=True) if is_tls else None
