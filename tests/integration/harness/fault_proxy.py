"""A proxy between an API server and its client, with which a test causes faults.

Like `kubectl proxy` it speaks HTTP in clear text and adds a token to requests that have none. Its
`behaviour` decides how single requests are answered; its methods cut, stall and drop watches, even
those under way.
"""

import contextlib
import http.client
import json
import socket
import threading
import urllib.parse
from collections.abc import Callable, Iterator

from harness.http_server import Behaviour, HttpServer, Request, Response, status
from harness.kube import Kube
from harness.util import PATIENCE

# Headers that describe one connection, or that this server sends itself.
NOT_PASSED_ON = ("connection", "content-length", "transfer-encoding", "host", "date")

Matches = Callable[[Request], bool]

# --- requests ---


def anything(request: Request) -> bool:
    return True


def is_watch(request: Request) -> bool:
    return request.query.get("watch") in ("1", "true")


def is_write(request: Request) -> bool:
    return request.method != "GET"


def list_of(plural: str) -> Matches:
    return lambda request: (
        request.path.endswith(f"/{plural}") and not is_write(request) and not is_watch(request)
    )


def watch_of(plural: str) -> Matches:
    return lambda request: request.path.endswith(f"/{plural}") and is_watch(request)


# --- refusals of the API server ---


def refusal(code: int, reason: str, message: str = "") -> dict:
    fields = {"status": "Failure", "code": code, "reason": reason, "message": message}
    return {"apiVersion": "v1", "kind": "Status", "metadata": {}, **fields}


def refuse(code: int, reason: str, message: str = "") -> Behaviour:
    return lambda exchange: exchange.reply(Response.json(code, refusal(code, reason, message)))


def refuse_in_watch(code: int, reason: str, message: str = "") -> Behaviour:
    """Answers a watch with one event, which reports an error."""
    event = {"type": "ERROR", "object": refusal(code, reason, message)}
    line = json.dumps(event).encode() + b"\n"
    headers = {"Content-Type": "application/json"}
    return lambda exchange: exchange.reply(Response(200, iter([line]), headers))


def too_many(exchange) -> None:
    body = b"Too many requests, please try again later.\n"
    status(429, body, Content_Type="text/plain; charset=utf-8", Retry_After="1")(exchange)


# --- the proxy ---


class FaultProxy(HttpServer):
    def __init__(self, kube: Kube, token: str = ""):
        """`token` is used instead of the administrator's."""
        super().__init__()
        self._kube = kube
        self._token = token or kube.token
        self._changed = threading.Condition()
        self._cuts: list[tuple[Matches, int]] = []
        self._stalls: list[Matches] = []
        self._watches: dict[http.client.HTTPConnection, Request] = {}

    def stop(self) -> None:
        super().stop()
        with self._changed:
            self._stalls.clear()
            self._changed.notify_all()

    def cut(self, matches: Matches, after: int) -> None:
        """Ends the next event of one of these watches after `after` bytes, and then the connection.
        Several cuts are used one after another."""
        with self._changed:
            self._cuts.append((matches, after))

    def drop(self, matches: Matches = is_watch, at_least: int = 1) -> None:
        """Waits for so many of these watches, and closes the connections of all of them."""
        with self._changed:
            there = self._changed.wait_for(lambda: len(self._open(matches)) >= at_least, PATIENCE)
            assert there, "no such watch"
            for upstream in self._open(matches):
                with contextlib.suppress(OSError):  # the watch may have ended by itself
                    upstream.sock.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def stalled(self, matches: Matches = anything) -> Iterator[None]:
        """Keeps back the answers to these requests and the events of these watches, and reports no
        error."""
        with self._changed:
            self._stalls.append(matches)
        yield
        with self._changed:
            self._stalls.remove(matches)
            self._changed.notify_all()

    def writes(self) -> list[Request]:
        """Returns all requests so far that were meant to change something."""
        return [request for request in self.requests.all() if is_write(request)]

    # --- inside ---

    def answer(self, request: Request) -> Response:
        self._wait_while_stalled(request)
        target = request.path
        if request.query:
            target += "?" + urllib.parse.urlencode(request.query)
        headers = _passed_on(request.headers.items())
        if "Authorization" not in request.headers:
            headers["Authorization"] = f"Bearer {self._token}"
        upstream = self._kube.connect()
        try:
            upstream.request(request.method, target, request.body, headers)
            answer = upstream.getresponse()
            headers = _passed_on(answer.getheaders())
            if is_watch(request) and answer.status == 200:
                return Response(200, self._events(request, upstream, answer), headers)
            with contextlib.closing(upstream):
                return Response(answer.status, answer.read(), headers)
        except http.client.HTTPException as error:
            raise ConnectionAbortedError from error  # this ends the client's connection

    def _events(self, request: Request, upstream, answer) -> Iterator[bytes]:
        """Yields the lines of a watch, as long as it lasts."""
        upstream.sock.settimeout(None)
        with self._changed:
            self._watches[upstream] = request
            self._changed.notify_all()
        threading.Thread(target=_follow, args=(request.peer, upstream), daemon=True).start()
        try:
            for line in _lines(answer):
                self._wait_while_stalled(request)
                after = self._due_cut(request)
                if piece := line[:after]:
                    yield piece
                if after is not None:
                    raise ConnectionAbortedError
        except http.client.HTTPException as error:
            raise ConnectionAbortedError from error
        finally:
            with self._changed:
                self._watches.pop(upstream)
            upstream.close()

    def _open(self, matches: Matches) -> list[http.client.HTTPConnection]:
        return [upstream for upstream, request in self._watches.items() if matches(request)]

    def _due_cut(self, request: Request) -> int | None:
        with self._changed:
            for cut in self._cuts:
                matches, after = cut
                if matches(request):
                    self._cuts.remove(cut)
                    return after
        return None

    def _wait_while_stalled(self, request: Request) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: not any(matches(request) for matches in self._stalls), PATIENCE * 10
            )


def _passed_on(headers) -> dict[str, str]:
    return {name: value for name, value in headers if name.lower() not in NOT_PASSED_ON}


def _lines(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yields each line as soon as it is complete."""
    rest = b""
    while data := answer.read1():
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield line + b"\n"


def _follow(peer: socket.socket, upstream: http.client.HTTPConnection) -> None:
    """Leaves a watch when the client leaves it."""
    with contextlib.suppress(OSError, AttributeError):
        if not peer.recv(1, socket.MSG_PEEK):
            upstream.sock.shutdown(socket.SHUT_RDWR)
