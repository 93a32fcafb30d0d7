"""Many clients show unproved credentials at the same time: one session tries them."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.backend import Backend, Pop3, Session
from harness.clients import RawClient, xoauth2
from harness.http_server import HttpServer, Request, Response
from harness.util import PATIENCE, until

NAME = "mail"
CLIENTS = 12
WRONG = b"-ERR [AUTH] wrong"
GONE = "the client has gone; waiting for the verdict on the login"


class Judge(Pop3):
    """A server that counts the sessions that wait for its answer to PASS, and answers when it is
    allowed to."""

    def __init__(self, answer: Callable[[int], bytes]):
        super().__init__(capabilities=("TOP", "UIDL", "USER"), replies={"PASS": self._judge})
        self._answer_to = answer
        self._lock = threading.Lock()
        self.asked = 0
        self.waiting = 0
        self.go_on = threading.Event()

    def _judge(self, session: Session) -> None:
        with self._lock:
            number = self.asked
            self.asked += 1
            self.waiting += 1
        assert self.go_on.wait(PATIENCE)
        with self._lock:
            self.waiting -= 1
        answer = self._answer_to(number)
        if not answer:
            session.close()
        session.send(answer + b"\r\n")


def has_greeted(backend: Backend, n: int, what: str = "the clients") -> None:
    """Waits until the server has got the user's name on n connections."""
    until(lambda: sum(line == b"USER robot" for line in backend.heard()) >= n, what)


def crowd(port: int, judge: Judge, backend: Backend, n: int = CLIENTS) -> list[bytes]:
    """Starts clients at the same time; the server answers the first one after it has greeted all of
    them."""

    def client(_: int) -> bytes:
        with RawClient(port) as one:
            return one.command(b"STAT")

    before = sum(line == b"USER robot" for line in backend.heard())
    with ThreadPoolExecutor(n) as pool:
        answers = [pool.submit(client, i) for i in range(n)]
        has_greeted(backend, before + n)
        judge.go_on.set()
        return [answer.result() for answer in answers]


def test_a_wrong_password_is_shown_once(tproxy, backend):
    backend.script = judge = Judge(lambda number: WRONG)
    port = tproxy.add(NAME, backend.host, backend.port)
    answers = crowd(port, judge, backend)
    assert judge.asked == 1
    assert answers.count(WRONG) == 1
    assert sum(b"(it is not asked again for 5 s)" in answer for answer in answers) == CLIENTS - 1
    # After the pause one session tries again, and the next pause is twice as long.
    judge.go_on.clear()
    until(lambda: asks_again(port, judge), "the end of the pause", every=0.2)
    answers = crowd(port, judge, backend)
    assert judge.asked == 2
    assert sum(b"for 10 s)" in answer for answer in answers) == CLIENTS


def asks_again(port: int, judge: Judge) -> bool:
    """Returns whether a new client causes another question to the server. The client is left
    waiting."""
    before = judge.asked
    client = RawClient(port)
    client.send(b"STAT\r\n")
    client.sock.settimeout(0.5)
    try:
        client.line()
    except TimeoutError:
        return judge.asked == before + 1
    return False


def test_a_right_password_lets_all_go_on(tproxy, backend):
    backend.script = judge = Judge(lambda number: b"+OK")
    port = tproxy.add(NAME, backend.host, backend.port)
    answers = crowd(port, judge, backend, 60)
    assert judge.asked == 60 and all(answer.startswith(b"+OK 1 ") for answer in answers)
    # The password is proved now, so all sessions show it at once.
    judge.go_on.clear()
    clients = [RawClient(port) for _ in range(CLIENTS)]
    for client in clients:
        client.send(b"STAT\r\n")
    until(lambda: judge.waiting == CLIENTS, "all of them")
    judge.go_on.set()
    for client in clients:
        assert client.line().startswith(b"+OK 1 ")
        client.sock.close()


@pytest.mark.parametrize("failure", [b"-ERR [SYS/TEMP] busy", b""], ids=["busy", "closes"])
def test_without_a_verdict_the_next_one_tries(tproxy, backend, failure):
    """The clients try one after another until one gets a verdict."""
    backend.script = judge = Judge(lambda number: failure if number < 5 else b"+OK")
    port = tproxy.add(NAME, backend.host, backend.port)
    answers = crowd(port, judge, backend)
    assert sum(answer.startswith(b"+OK") for answer in answers) == CLIENTS - 5
    assert judge.asked == CLIENTS


def test_clients_that_leave(tproxy, backend):
    """A waiting client that leaves does not disturb the others. The verdict for a client that has
    left counts."""
    backend.script = judge = Judge(lambda number: b"+OK")
    port = tproxy.add(NAME, backend.host, backend.port)
    clients = [RawClient(port) for _ in range(6)]
    for i, client in enumerate(clients):
        client.send(b"STAT\r\n")
        has_greeted(backend, i + 1)
    until(lambda: judge.asked == 1, "the first one")
    for leaving in (2, 4, 0):
        clients[leaving].reset()
    until(lambda: tproxy.metric("tp_open_tcp_connections") == 4, "those that waited have gone")
    assert judge.asked == 1
    judge.go_on.set()
    for client in (clients[1], clients[3], clients[5]):
        assert client.line().startswith(b"+OK")
        client.sock.close()
    tproxy.wait_log("session ended", target=NAME, session=1, result="client vanished")
    # A client that has left sent no QUIT, so the server gets no QUIT.
    assert backend.session(0).commands[-1].startswith(b"PASS ")


def vanish(client: RawClient) -> None:
    client.send(b"STAT\r\n")
    client.reset()


def leave_early(client: RawClient) -> None:
    client.send(b"USER someone\r\nQUIT\r\n")
    client.rest()
    client.sock.close()


def end_the_stream(client: RawClient) -> None:
    client.send(b"USER someone\r\n")
    client.half_close()
    client.rest()
    client.sock.close()


@pytest.mark.parametrize("goes", [vanish, leave_early, end_the_stream])
def test_the_verdict_is_heard_when_the_client_has_gone(tproxy, backend, goes):
    """The verdict counts, because accounts get locked after a few wrong passwords and clients may
    come and go as they like."""
    backend.script = judge = Judge(lambda number: WRONG)
    port = tproxy.add(NAME, backend.host, backend.port)
    with RawClient(port) as first:
        first.send(b"USER someone\r\n")
        until(lambda: judge.asked == 1, "the password")
        goes(first)
    tproxy.wait_log(GONE)
    for _ in range(10):
        goes(RawClient(port))
    with RawClient(port) as last:
        last.send(b"STAT\r\n")
        tproxy.wait_log("waits for another session with the same credentials")
        judge.go_on.set()
        assert b"(it is not asked again for 5 s)" in last.line()
    assert judge.asked == 1


def test_a_proved_password_is_not_trusted_blindly(tproxy, backend):
    """The password may have been changed at the server; clients that vanish reveal that, too."""
    backend.script = judge = Judge(lambda number: WRONG if number else b"+OK")
    judge.go_on.set()
    port = tproxy.add(NAME, backend.host, backend.port)
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"+OK")
    judge.go_on.clear()
    client = RawClient(port)
    client.send(b"STAT\r\n")
    until(lambda: judge.asked == 2, "the password")
    client.reset()
    tproxy.wait_log(GONE)
    judge.go_on.set()
    assert tproxy.summary(NAME, 2)["result"] == "client vanished"
    for _ in range(3):
        with RawClient(port) as client:
            assert b"(it is not asked again for" in client.command(b"STAT")
    assert judge.asked == 2


def test_a_server_that_does_not_answer_holds_no_session_for_long(tproxy, backend):
    """After the client has left, the answer timeout bounds the wait for the verdict, and a shutdown
    ends it."""
    backend.script = judge = Judge(lambda number: b"+OK")
    port = tproxy.add(NAME, backend.host, backend.port, mail__pop3__timeout="2000")
    client = RawClient(port)
    client.send(b"STAT\r\n")
    until(lambda: judge.asked == 1, "the password")
    client.reset()
    tproxy.wait_log(GONE)
    assert tproxy.metric("tp_open_tcp_connections") == 1
    assert tproxy.summary(NAME)["result"] == "client vanished"
    assert tproxy.metric("tp_open_tcp_connections") == 0
    judge.go_on.set()


def test_a_locked_mailbox_proves_the_password(tproxy, backend):
    """IN-USE proves the password, because it says that the authentication was successful (RFC
    2449)."""
    backend.script = judge = Judge(lambda number: b"-ERR [IN-USE] locked")
    port = tproxy.add(NAME, backend.host, backend.port)
    assert crowd(port, judge, backend) == [b"-ERR [IN-USE] locked"] * CLIENTS
    judge.go_on.clear()
    clients = [RawClient(port) for _ in range(CLIENTS)]
    for client in clients:
        client.send(b"STAT\r\n")
    until(lambda: judge.waiting == CLIENTS, "all of them")
    judge.go_on.set()
    for client in clients:
        assert client.line() == b"-ERR [IN-USE] locked"
        client.sock.close()


def test_a_server_that_gives_up_on_those_that_wait(tproxy, backend):
    """A server's words while the credentials wait are not its answer to them."""
    backend.script = judge = Judge(lambda number: b"+OK")
    port = tproxy.add(NAME, backend.host, backend.port)
    with RawClient(port) as first, RawClient(port) as second:
        first.send(b"STAT\r\n")
        until(lambda: judge.asked == 1, "the first one")
        second.send(b"STAT\r\n")
        has_greeted(backend, 2)
        tproxy.wait_log("waits for another session with the same credentials")
        backend.session(1).send(b"-ERR [AUTH] too slow\r\n")
        backend.session(1).half_close()
        assert second.line().startswith(b"-ERR [SYS/TEMP] ")
        judge.go_on.set()
        assert first.line().startswith(b"+OK")
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"+OK")


class TokenService(HttpServer):
    """A token service that issues a new token each time."""

    def __init__(self):
        super().__init__()
        self.given = 0

    def answer(self, request: Request) -> Response:
        self.given += 1
        given = {"access_token": f"token-{self.given}", "token_type": "bearer", "expires_in": 3600}
        return Response.json(200, given)


class TokenJudge(Pop3):
    def __init__(self, good: str):
        super().__init__(
            capabilities=("TOP", "UIDL", "SASL XOAUTH2"), replies={"AUTH": self._judge_token}
        )
        self.good = good
        self.shown: list[str] = []

    def _judge_token(self, session: Session) -> None:
        session.send(b"+ \r\n")
        message = session.read_line()
        (token,) = [
            f"token-{i}" for i in range(1, 9) if message == xoauth2("robot", f"token-{i}")
        ]
        self.shown.append(token)
        session.send(b"+OK\r\n" if token == self.good else WRONG + b"\r\n")


@pytest.mark.parametrize("kind", ["OAuth2ClientCredentials", "OAuth2RefreshToken"])
def test_tokens_that_are_refused(tproxy, backend, kind):
    """All clients of a crowd bring the same token: each token is shown once, and renewed once."""
    backend.script = judge = TokenJudge("none")
    with TokenService() as server:
        port = tproxy.add(
            NAME,
            backend.host,
            backend.port,
            Authentication=kind,
            mail__password=None,
            clientId="id",
            clientSecret="not-a-secret",
            tokenServiceURL=f"http://127.0.0.1:{server.port}/token",
            tokenServiceURLType="Dedicated",
        )
        of_user = b"AUTH XOAUTH2 " + xoauth2("robot", "refresh")
        command = b"STAT" if kind == "OAuth2ClientCredentials" else of_user

        def client(_: int = 0) -> bytes:
            with RawClient(port) as one:
                return one.command(command)

        def together() -> list[bytes]:
            with ThreadPoolExecutor(CLIENTS) as pool:
                return list(pool.map(client, range(CLIENTS)))

        assert all(answer.startswith(b"-ERR [AUTH] ") for answer in together())
        assert len(judge.shown) == len(set(judge.shown)) <= 2
