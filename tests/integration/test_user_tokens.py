"""Refresh tokens and codes that clients bring: the Destination service makes tokens of them at a real
OAuth server, and a real Dovecot verifies these."""

import threading

import pytest

from harness.clients import RawClient
from harness.http_server import status, where
from harness.installation import destination_cr
from harness.user_logins import LOGINS, fetch, log_in

NAME = "user-mail"
CR = "mail-u"
MAILS = [b"Subject: one\r\n\r\nfirst\r\n", b"Subject: two\r\n\r\nsecond\r\n"]
KINDS = ("OAuth2RefreshToken", "OAuth2AuthorizationCode")


@pytest.fixture
def mail(add_destination):
    return add_destination(NAME, MAILS, mail__password=None)


@pytest.fixture
def serve(installation, cluster_tproxy, mail, namespace, oauth):
    """Makes the destination one of this kind, and applies a CR for it; the target port."""

    def serve(client, kind: str, **more: str) -> int:
        installation.service.destinations[NAME] |= oauth.properties(client, kind) | more
        installation.kube.apply(destination_cr(CR, namespace, NAME))
        return installation.available(namespace, CR)

    return serve


def issue(oauth, client, kind: str, user: str) -> str:
    return (oauth.refresh_token if kind == KINDS[0] else oauth.code)(client, user)


@pytest.fixture(autouse=True)
def no_secret_in_the_log(cluster_tproxy, secrets):
    yield
    assert not secrets.shown_in(cluster_tproxy.everything_said())


@pytest.mark.parametrize("kind", KINDS)
def test_logins(serve, destination_service, oauth, mail, kind):
    client = oauth.mail_client("nobody")
    port = serve(client, kind)
    assert not oauth.requests_of(client.id), "to check a destination takes no token"
    for how in LOGINS.values():
        token = issue(oauth, client, kind, mail.user)
        assert fetch(port, mail.user, token, how) == MAILS
        assert fetch(port, mail.user, token) == MAILS
    assert len(oauth.requests_of(client.id)) == len(LOGINS)
    assert len(destination_service.finds(NAME, with_tokens=True)) == len(LOGINS)


@pytest.mark.one_build
def test_what_goes_with_a_code(serve, oauth, destination_service, mail):
    client = oauth.mail_client("nobody")
    bound = {"X-redirect-uri": "https://client.test/callback", "X-code-verifier": "v" * 43}
    port = serve(client, KINDS[1], **bound)
    code = oauth.code(client, mail.user, bound["X-redirect-uri"], bound["X-code-verifier"])
    assert fetch(port, mail.user, code) == MAILS
    (find,) = destination_service.finds(NAME, with_tokens=True)
    assert {name: find.headers[name] for name in bound} == bound


@pytest.mark.one_build
def test_a_code_is_redeemed_once(serve, oauth, destination_service, mail):
    """Over a connection of its own, and never again: not even when the service wants another access
    token, or says nothing."""
    client = oauth.mail_client("nobody")
    port = serve(client, KINDS[1])

    def with_code(request) -> bool:
        return "X-code" in request.headers

    destination_service.behaviour = where(with_code, status(401))
    answer = log_in(port, mail.user, oauth.code(client, mail.user))
    assert b"(401); log in again, with a new code" in answer
    destination_service.behaviour = where(with_code, lambda exchange: exchange.close())
    answer = log_in(port, mail.user, oauth.code(client, mail.user))
    assert answer.startswith(b"-ERR [SYS/TEMP] ")
    finds = destination_service.finds(NAME, with_tokens=True)
    assert len(finds) == 2 and not oauth.requests_of(client.id)
    before = [r for r in destination_service.requests.all() if r not in finds]
    assert not {r.peer for r in finds} & {r.peer for r in before}


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_ones(serve, oauth, destination_service, mail, kind):
    client = oauth.mail_client("nobody")
    port = serve(client, kind)
    good = issue(oauth, client, kind, mail.user)
    for _ in range(5):
        answer = log_in(port, mail.user, "4/no-such-thing-0123456789-abcdef")
        assert answer.startswith(b'-ERR [AUTH] destination "%b": ' % NAME.encode())
        assert b"with the refresh token or code that was sent: " in answer
        assert b"no-such-thing" not in answer
        assert fetch(port, mail.user, good) == MAILS
    finds = destination_service.finds(NAME, with_tokens=True)
    assert 2 <= len(finds) < 6, "the service is not asked about a wrong one each time"


@pytest.mark.one_build
def test_expired_and_revoked(serve, oauth, mail):
    client = oauth.mail_client("nobody")
    port = serve(client, KINDS[0])
    expired = oauth.refresh_token(client, mail.user, lifetime=-1)
    assert b"invalid_grant" in log_in(port, mail.user, expired)
    token = oauth.refresh_token(client, mail.user)
    oauth.revoke(client)
    answer = log_in(port, mail.user, token)
    assert answer.startswith(b"-ERR [AUTH] ") and b"invalid_client" in answer


@pytest.mark.one_build
def test_refresh_tokens_that_rotate(serve, oauth, destination_service, mail):
    client = oauth.mail_client("nobody", lifetime=13, rotates=True)
    port = serve(client, KINDS[0])
    token = oauth.refresh_token(client, mail.user)
    while len(oauth.requests_of(client.id)) < 3:
        assert fetch(port, mail.user, token) == MAILS
    finds = destination_service.finds(NAME, with_tokens=True)
    sent = [find.headers["X-refresh-token"] for find in finds]
    assert sent[0] == token and len(set(sent)) == len(sent)


def test_many_logins_take_one_token(serve, oauth, destination_service, mail):
    client = oauth.mail_client("nobody")
    port = serve(client, KINDS[0])
    token = oauth.refresh_token(client, mail.user)
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(log_in(port, mail.user, token)))
        for _ in range(200)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 200 and all(answer.startswith(b"+OK") for answer in answers)
    assert len(destination_service.finds(NAME, with_tokens=True)) == 1
    assert len(oauth.requests_of(client.id)) == 1


@pytest.mark.one_build
def test_the_service_away_while_a_token_is_valid(serve, oauth, destination_service, mail):
    client = oauth.mail_client("nobody")
    port = serve(client, KINDS[0])
    token = oauth.refresh_token(client, mail.user)
    assert fetch(port, mail.user, token) == MAILS
    destination_service.behaviour = status(503)
    assert fetch(port, mail.user, token) == MAILS
    other = oauth.refresh_token(client, mail.user)
    assert log_in(port, mail.user, other).startswith(b"-ERR [SYS/TEMP] ")


@pytest.mark.one_build
def test_client_credentials_that_the_service_has_no_token_for(
    installation, cluster_tproxy, add_destination, namespace, oauth, destination_service
):
    """tproxy asks the token service itself."""
    mail = add_destination(NAME, mail__password=None)
    client = oauth.mail_client(mail.user)
    destination_service.destinations[NAME] |= oauth.properties(client)
    destination_service.token_error = "the token service is not reached from here"
    installation.kube.apply(destination_cr(CR, namespace, NAME))
    port = installation.available(namespace, CR)
    with RawClient(port) as session:
        assert session.command(b"STAT").startswith(b"+OK 1 ")
        assert session.command(b"QUIT").startswith(b"+OK")
    assert len(oauth.requests_of(client.id)) == 1
    oauth.revoke(client)
