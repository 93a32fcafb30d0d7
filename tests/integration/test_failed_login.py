"""A login fails for a temporary reason, and the client has sent commands without waiting for the
answer. A message that the client did not get must not be deleted, whenever the commands arrive."""

import contextlib
import signal
import threading

import pytest

from harness.backend import Backend, Pop3, Session
from harness.clients import RawClient, plain, xoauth2
from harness.http_server import HttpServer, Request, Response

NAME = "mail"
LOCKED = b"-ERR [IN-USE] Mailbox is locked by another session"
REST = b"RETR 1\r\nDELE 1\r\nQUIT\r\n"
LOG_IN_AGAIN = b"-ERR the login has failed: log in again, or connect again"
CONNECT_AGAIN = b"-ERR a message was asked for and not sent: connect again"


class LockedAtFirst(Pop3):
    """A server that refuses the first login and accepts all others. It can be made to wait
    before."""

    def __init__(self, think: threading.Event | None = None, tokens: bool = False):
        super().__init__(
            capabilities=("TOP", "UIDL", "SASL XOAUTH2" if tokens else "USER"),
            replies={"AUTH" if tokens else "PASS": self._judge},
        )
        self._think = think
        self._tokens = tokens

    def _judge(self, session: Session) -> None:
        if self._tokens:
            session.send(b"+ \r\n")
            session.read_line()
        if session.number > 0:
            session.send(b"+OK logged in\r\n")
            return
        if self._think:
            self._think.wait()
        session.send(LOCKED + b"\r\n")


def nothing_deleted(backend: Backend, connections: int = 1) -> None:
    assert backend.connections() == connections
    assert not [line for line in backend.heard() if line.upper().startswith(b"DELE")]


# The lines before a client's first mailbox command, and the number of lines that answer them before
# the failure.
LOGINS = {
    "no login": (b"", 0),
    "USER and PASS": (b"USER a\r\nPASS b\r\n", 1),
    "APOP": (b"APOP a 0123456789abcdef0123456789abcdef\r\n", 0),
    "AUTH PLAIN": (b"AUTH PLAIN " + plain() + b"\r\n", 0),
    "AUTH PLAIN, two lines": (b"AUTH PLAIN\r\n" + plain() + b"\r\n", 1),
    "AUTH LOGIN": (b"AUTH LOGIN\r\nYQ==\r\nYg==\r\n", 2),
    "AUTH XOAUTH2": (b"AUTH XOAUTH2 " + xoauth2() + b"\r\n", 0),
}


@pytest.mark.parametrize("at_once", [True, False], ids=["one packet", "two packets"])
@pytest.mark.parametrize("login", LOGINS)
def test_commands_behind_the_login_fail_too(tproxy, backend, login, at_once):
    first, before = LOGINS[login]
    think = threading.Event()
    backend.script = LockedAtFirst(think)
    port = tproxy.add(NAME, backend.host, backend.port)
    with RawClient(port) as client:
        if at_once:
            client.send(first + REST)
        else:
            client.send(first or b"STAT\r\n")
            backend.wait_command(b"PASS Scripted-Pa55word")
            client.send(REST)
        think.set()
        answers = client.rest().splitlines()
    failed = 2 if at_once and not first else 3
    assert answers[before:] == [LOCKED] * failed + [b"+OK bye"]
    nothing_deleted(backend)


@pytest.mark.parametrize("login", LOGINS)
def test_commands_after_the_failure_delete_nothing(tproxy, backend, login):
    """The client may have sent the command before it could see the failure."""
    first, before = LOGINS[login]
    backend.script = LockedAtFirst()
    port = tproxy.add(NAME, backend.host, backend.port)
    with RawClient(port) as client:
        client.send(first or b"RETR 2\r\n")
        answers = [client.line() for _ in range(before + 1)]
        assert answers[-1] == LOCKED
        client.send(REST)
        # The third failure ends the session.
        text = LOG_IN_AGAIN if first else CONNECT_AGAIN
        assert client.line() in (LOG_IN_AGAIN, CONNECT_AGAIN)
        assert client.line() in (text, CONNECT_AGAIN)
        assert client.rest() == b""
    nothing_deleted(backend)


def test_every_split(tproxy, backends):
    """The input has a second login behind a RETR that fails. It is cut in two at every octet; the
    second login is never made."""
    script = b"RETR 1\r\nUSER a\r\nPASS b\r\nDELE 1\r\nQUIT\r\n"
    for cut in range(1, len(script)):
        backend = backends(LockedAtFirst())
        name = f"{NAME}-{cut}"
        port = tproxy.add(name, backend.host, backend.port)
        with RawClient(port) as client:
            client.send(script[:cut])
            if cut >= len(b"RETR 1\r\n"):
                assert client.line() == LOCKED
            client.send(script[cut:])
            client.rest()
        nothing_deleted(backend)
        (tproxy.directory / f"{name}.json").unlink()


def test_commands_that_wait_in_the_kernel(tproxy, backend):
    """The commands arrive together with the mail server's refusal, and are read after it."""
    think = threading.Event()
    backend.script = LockedAtFirst(think)
    port = tproxy.add(NAME, backend.host, backend.port)
    with RawClient(port) as client:
        client.send(b"STAT\r\n")
        backend.wait_command(b"PASS Scripted-Pa55word")
        tproxy.signal(signal.SIGSTOP)
        try:
            think.set()
            client.send(b"LIST\r\nUSER a\r\nPASS b\r\nDELE 1\r\nQUIT\r\n")
        finally:
            tproxy.signal(signal.SIGCONT)
        assert client.rest().splitlines() == [*[LOCKED] * 2, b"+OK", *[LOCKED] * 2, b"+OK bye"]
    nothing_deleted(backend)


def test_more_than_is_read_at_a_time(tproxy, backend):
    think = threading.Event()
    backend.script = LockedAtFirst(think)
    port = tproxy.add(NAME, backend.host, backend.port)
    commands = 30_000
    with RawClient(port) as client:
        sender = threading.Thread(
            target=client.send, args=(b"STAT\r\n" + b"DELE 1\r\n" * commands + b"QUIT\r\n",)
        )
        sender.start()
        backend.wait_command(b"PASS Scripted-Pa55word")
        think.set()
        with contextlib.suppress(ConnectionError):
            answers = client.rest().splitlines()
            assert answers[:2] == [LOCKED] * 2
        sender.join()
    nothing_deleted(backend)


def test_the_client_logs_in_again(tproxy, backend):
    backend.script = LockedAtFirst()
    port = tproxy.add(NAME, backend.host, backend.port)
    with RawClient(port) as client:
        assert client.command(b"LIST") == LOCKED
        assert client.command(b"LIST") == LOG_IN_AGAIN
        assert client.command(b"USER a") == b"+OK"
        assert client.command(b"PASS b").startswith(b"+OK")
        assert client.retr(1) == b"Subject: one\r\n\r\nfirst\r\n"
        assert client.command(b"DELE 1").startswith(b"+OK")
        assert client.command(b"QUIT").startswith(b"+OK")


@pytest.mark.parametrize("command", [b"RETR 1", b"TOP 1 0"])
def test_no_login_behind_a_message_that_was_not_sent(tproxy, backend, command):
    backend.script = LockedAtFirst()
    port = tproxy.add(NAME, backend.host, backend.port)
    with RawClient(port) as client:
        assert client.command(command) == LOCKED
        assert client.command(b"USER a") == b"+OK"
        assert client.command(b"PASS b") == CONNECT_AGAIN
        assert client.command(b"AUTH PLAIN " + plain()) == CONNECT_AGAIN
        assert client.rest() == b""
    nothing_deleted(backend)


def test_a_login_in_the_same_packet_counts_as_a_failure(tproxy, backend):
    backend.script = LockedAtFirst()
    port = tproxy.add(NAME, backend.host, backend.port)
    with RawClient(port) as client:
        client.send((b"AUTH PLAIN " + plain() + b"\r\n") * 3 + b"DELE 1\r\nQUIT\r\n")
        assert client.rest().splitlines() == [LOCKED] * 3
    nothing_deleted(backend)


@pytest.mark.parametrize("command", [b"DELE 1", b"RSET", b"dele 1"])
@pytest.mark.parametrize("authentication", ["BasicAuthentication", "NoAuthentication"])
def test_commands_that_never_begin_a_session(tproxy, backend, command, authentication):
    port = tproxy.add(NAME, backend.host, backend.port, Authentication=authentication)
    with RawClient(port) as client:
        assert client.command(command) == b"-ERR log in first; DELE and RSET do not start a login"
        assert client.command(b"QUIT").startswith(b"+OK")
    nothing_deleted(backend, connections=0)


def test_delete_in_place_of_a_password(tproxy, backend):
    port = tproxy.add(NAME, backend.host, backend.port)
    with RawClient(port) as client:
        assert client.command(b"USER a") == b"+OK"
        assert client.command(b"DELE 1").startswith(b"-ERR log in first")
        assert client.command(b"PASS b").startswith(b"+OK")
        assert client.command(b"DELE 1").startswith(b"+OK")
        assert client.command(b"QUIT").startswith(b"+OK")


def test_a_client_that_logs_in_itself(tproxy, backend):
    """The server cannot be reached at first. The second half of the login is not sent to it."""
    calls = []

    def greet(session: Session) -> None:
        calls.append(session.number)
        session.send(b"+OK\r\n") if session.number else session.close()

    backend.script = Pop3(replies={"greeting": greet})
    port = tproxy.add(NAME, backend.host, backend.port, Authentication="NoAuthentication")
    with RawClient(port) as client:
        client.send(b"USER robot\r\nPASS Scripted-Pa55word\r\n" + REST)
        *failures, last = client.rest().splitlines()
        assert len(failures) == 4 and last == b"+OK bye"
        assert len(set(failures)) == 1 and failures[0].startswith(b"-ERR [SYS/TEMP] ")
    nothing_deleted(backend)
    with RawClient(port) as client:
        assert client.command(b"PASS Scripted-Pa55word") == b"-ERR send USER first"
    with RawClient(port) as client:
        assert client.command(b"USER robot").startswith(b"+OK")
        assert client.command(b"PASS Scripted-Pa55word").startswith(b"+OK")
        assert client.command(b"QUIT").startswith(b"+OK")


class TokenService(HttpServer):
    def answer(self, request: Request) -> Response:
        given = {"access_token": "given", "token_type": "bearer", "expires_in": 3600}
        return Response.json(200, given)


def test_a_client_with_a_token(tproxy, backend):
    backend.script = LockedAtFirst(tokens=True)
    with TokenService() as server:
        port = tproxy.add(
            NAME,
            backend.host,
            backend.port,
            Authentication="OAuth2RefreshToken",
            mail__password=None,
            clientId="id",
            clientSecret="not-a-secret",
            tokenServiceURL=f"http://127.0.0.1:{server.port}/token",
            tokenServiceURLType="Dedicated",
        )
        login = b"AUTH XOAUTH2 " + xoauth2("robot", "refresh") + b"\r\n"
        with RawClient(port) as client:
            client.send(login + login + REST)
            assert client.rest().splitlines() == [*[LOCKED] * 4, b"+OK bye"]
        nothing_deleted(backend)
        with RawClient(port) as client:
            assert client.command(b"RETR 1").startswith(b"-ERR log in first: ")
            assert client.command(login.strip()).startswith(b"+OK")
            assert client.command(b"QUIT").startswith(b"+OK")
