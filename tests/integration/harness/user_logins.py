"""The logins of a mail user with a refresh token or a code."""

import base64
from collections.abc import Callable

from harness.clients import RawClient, plain, xoauth2

Login = Callable[[RawClient, str, str], bytes]


def oauthbearer(user: str, token: str) -> bytes:
    return base64.b64encode(f"n,a={user},\x01auth=Bearer {token}\x01\x01".encode())


def one_line(mechanism: bytes, message: Callable[[str, str], bytes]) -> Login:
    return lambda client, user, token: client.command(
        b"AUTH %b %b" % (mechanism, message(user, token))
    )


def two_lines(mechanism: bytes, message: Callable[[str, str], bytes]) -> Login:
    def log_in(client: RawClient, user: str, token: str) -> bytes:
        assert client.command(b"AUTH " + mechanism) == b"+ "
        return client.command(message(user, token))

    return log_in


def user_and_pass(client: RawClient, user: str, token: str) -> bytes:
    assert client.command(f"USER {user}".encode()) == b"+OK"
    return client.command(f"PASS {token}".encode())


def login(client: RawClient, user: str, token: str) -> bytes:
    assert client.command(b"AUTH LOGIN").startswith(b"+ ")
    assert client.command(base64.b64encode(user.encode())).startswith(b"+ ")
    return client.command(base64.b64encode(token.encode()))


LOGINS: dict[str, Login] = {
    "AUTH XOAUTH2, one line": one_line(b"XOAUTH2", xoauth2),
    "AUTH XOAUTH2, two lines": two_lines(b"XOAUTH2", xoauth2),
    "AUTH OAUTHBEARER, one line": one_line(b"OAUTHBEARER", oauthbearer),
    "AUTH OAUTHBEARER, two lines": two_lines(b"oauthbearer", oauthbearer),
    "AUTH PLAIN, one line": one_line(b"PLAIN", plain),
    "AUTH PLAIN, two lines": two_lines(b"plain", plain),
    "AUTH LOGIN": login,
    "USER and PASS": user_and_pass,
}

usual: Login = LOGINS["AUTH XOAUTH2, one line"]


def log_in(port: int, user: str, token: str, how: Login = usual) -> bytes:
    """Logs in, quits, and returns the answer to the login."""
    with RawClient(port) as client:
        answer = how(client, user, token)
        assert client.command(b"QUIT").startswith(b"+OK")
    return answer


def fetch(port: int, user: str, token: str, how: Login = usual) -> list[bytes]:
    """Logs in and returns all messages behind a target."""
    with RawClient(port) as client:
        answer = how(client, user, token)
        assert answer.startswith(b"+OK"), answer
        numbers = [int(line.split()[0]) for line in client.multi(b"LIST")]
        messages = [client.retr(number) for number in numbers]
        assert client.command(b"QUIT").startswith(b"+OK")
    return messages
