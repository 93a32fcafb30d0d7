"""Mail servers that repeat what they were sent: neither clients nor the log get a token."""

import base64
import re

import pytest

from harness.backend import Pop3, Session
from harness.clients import RawClient
from harness.http_server import HttpServer, Request, Response

TOKEN = "eyJhbGciOiJSUzI1NiJ9.c2VjcmV0LXNlY3JldC1zZWNyZXQ.c2lnbmF0dXJlLXNpZ25hdHVyZQ"


class TokenService(HttpServer):
    def answer(self, request: Request) -> Response:
        given = {"access_token": TOKEN, "token_type": "bearer", "expires_in": 3600}
        return Response.json(200, given)


def challenge(text: bytes) -> bytes:
    return b"+ " + base64.b64encode(text) + b"\r\n"


def at_once(session: Session, response: bytes) -> None:
    session.send(b"-ERR [AUTH] invalid response " + response + b"\r\n")


def behind_a_challenge(session: Session, response: bytes) -> None:
    session.send(challenge(b'{"status":"400"}'))
    session.read_line()
    session.send(b"-ERR [AUTH] invalid response " + response + b"\r\n")


def in_the_challenge(session: Session, response: bytes) -> None:
    session.send(challenge(b'{"status":"400","got":"' + response[:90] + b'"}'))
    session.read_line()
    session.send(b"-ERR refused\r\n")


def with_success(session: Session, response: bytes) -> None:
    session.send(b"+OK welcome, " + response + b"\r\n")


def shows_token(text: bytes) -> bool:
    """Returns whether the text contains the token, in clear text or in base64."""
    for word in re.findall(rb"[A-Za-z0-9+/]{12,}", text):
        for start in range(4):
            piece = word[start : start + (len(word) - start) // 4 * 4]
            if any(TOKEN.encode()[i : i + 9] in base64.b64decode(piece) for i in range(40)):
                return True
    return any(TOKEN.encode()[i : i + 12] in text for i in range(len(TOKEN) - 12))


@pytest.mark.parametrize(
    "repeat", [at_once, behind_a_challenge, in_the_challenge, with_success], ids=lambda f: f.__name__
)
def test_a_response_that_is_repeated(tproxy, backend, repeat):
    def judge(session: Session) -> None:
        session.send(b"+ \r\n")
        repeat(session, session.read_line())

    backend.script = Pop3(capabilities=("TOP", "UIDL", "SASL XOAUTH2"), replies={"AUTH": judge})
    with TokenService() as server:
        port = tproxy.add(
            "mail",
            backend.host,
            backend.port,
            Authentication="OAuth2ClientCredentials",
            mail__password=None,
            clientId="id",
            clientSecret="not-a-secret",
            tokenServiceURL=f"http://127.0.0.1:{server.port}/token",
            tokenServiceURLType="Dedicated",
        )
        with RawClient(port) as client:
            client.send(b"USER a\r\nPASS b\r\nQUIT\r\n")
            told = client.rest()
        tproxy.summary("mail")
    assert b"-ERR" in told or b"welcome" in told
    assert not shows_token(told)
    assert not shows_token(tproxy.everything_said())
