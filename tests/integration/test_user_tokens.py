"""Refresh tokens and codes of clients: the Destination service gets tokens for them from a real
OAuth server, and a real Dovecot verifies these."""

import concurrent.futures
import contextlib
import signal
import threading
import time

import pytest

from harness.clients import RawClient, is_closed
from harness.http_server import after, proper, status, where
from harness.installation import destination_cr, list_and_fetch
from harness.user_logins import LOGINS, fetch, log_in
from harness.util import until

NAME = "user-mail"
CR = "mail-u"
MAILS = [b"Subject: one\r\n\r\nfirst\r\n", b"Subject: two\r\n\r\nsecond\r\n"]
KINDS = ("OAuth2RefreshToken", "OAuth2AuthorizationCode")
LOGIN_WAITS = "backend: none -> finding the destination"
READING_GIVEN_UP = "the server did not send the answer within 10 s"


@pytest.fixture
def mail(add_destination):
    return add_destination(NAME, MAILS, mail__password=None)


@pytest.fixture
def serve(installation, cluster_tproxy, mail, namespace, oauth):
    """Gives the destination this kind and applies a CR for it. Returns the target port."""

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
def test_headers_sent_with_a_code(serve, oauth, destination_service, mail):
    client = oauth.mail_client("nobody")
    bound = {"X-redirect-uri": "https://client.test/callback", "X-code-verifier": "v" * 43}
    port = serve(client, KINDS[1], **bound)
    code = oauth.code(client, mail.user, bound["X-redirect-uri"], bound["X-code-verifier"])
    assert fetch(port, mail.user, code) == MAILS
    (find,) = destination_service.finds(NAME, with_tokens=True)
    assert {name: find.headers[name] for name in bound} == bound


@pytest.mark.one_build
def test_a_code_is_redeemed_once(serve, oauth, destination_service, mail):
    """A code is sent over a connection of its own and never again, not even if the service refuses
    the access token or does not answer."""
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
def test_wrong_tokens(serve, oauth, destination_service, mail, kind):
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


# --- after a restart ---


@pytest.fixture
def known() -> threading.Event:
    """An event: the Destination service may answer."""
    return threading.Event()


@pytest.fixture
def restart(installation, cluster_tproxy, make_cluster_tproxy, destination_service, known):
    """Restarts the program: the port listens again, and the destination is not known yet."""
    running = cluster_tproxy

    def restart(port: int):
        nonlocal running
        running.signal(signal.SIGTERM)
        running.wait()
        destination_service.behaviour = after(known)
        running = make_cluster_tproxy(installation, "--log-level", "debug")
        until(lambda: not is_closed(port), "the listener")
        return running

    yield restart
    known.set()


def asked_early(restart, port: int, known: threading.Event, ask) -> object:
    """Returns the result of an ask() that begins after a restart and before the destination is known.

    A machine under load may need longer for it than the program waits for the Destination service:
    the program is started once more then."""
    for _ in range(5):
        again = restart(port)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            asked = pool.submit(ask)
            line = again.logs.wait(
                lambda line: line["msg"] == LOGIN_WAITS or READING_GIVEN_UP in line["msg"], "a login"
            )
            if line["msg"] == LOGIN_WAITS:
                known.set()
                return asked.result()
            asked.exception()
    raise AssertionError("no login came while the destination was being read")


@pytest.mark.parametrize("how", ["AUTH XOAUTH2, one line", "AUTH XOAUTH2, two lines", "USER and PASS"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_login_before_the_destination_is_known(serve, restart, known, oauth, mail, kind, how):
    client = oauth.mail_client("nobody")
    port = serve(client, kind)
    token = issue(oauth, client, kind, mail.user)

    def ask() -> list[bytes]:
        with RawClient(port) as session:
            assert session.command(b"NOOP").startswith(b"+OK")
            assert b"USER" in session.multi(b"CAPA")
            assert session.command(b"QUIT").startswith(b"+OK")
        return fetch(port, mail.user, token, LOGINS[how])

    assert asked_early(restart, port, known, ask) == MAILS
    assert len(oauth.requests_of(client.id)) == 1


@pytest.mark.one_build
def test_no_login_before_the_destination_is_known(serve, restart, known, oauth):
    port = serve(oauth.mail_client("nobody"), KINDS[0])

    def ask() -> bytes:
        with RawClient(port) as session:
            return session.command(b"LIST")

    assert asked_early(restart, port, known, ask).startswith(b"-ERR log in first: AUTH XOAUTH2 ")


@pytest.mark.one_build
def test_the_clients_own_login_before_the_destination_is_known(
    installation, serve, restart, known, oauth, mail
):
    port = serve(oauth.mail_client("nobody"), "NoAuthentication")

    def ask() -> list[bytes]:
        with RawClient(port) as session:
            assert session.command(b"USER " + mail.user.encode()).startswith(b"+OK")
            return [session.command(b"PASS wrong"), session.command(b"PASS again")]

    first, second = asked_early(restart, port, known, ask)
    assert first.startswith(b"-ERR [AUTH]") and second.startswith(b"-ERR"), "Dovecot's own"


@pytest.mark.one_build
def test_a_login_while_the_destination_cannot_be_known(
    serve, restart, known, destination_service, oauth, mail
):
    """The client gets the failure at the end of the login, and the next login asks again."""
    client = oauth.mail_client("nobody")
    port = serve(client, KINDS[0])
    restart(port)
    destination_service.behaviour = status(503)
    known.set()
    token = oauth.refresh_token(client, mail.user)
    with RawClient(port) as session:
        assert session.command(b"USER " + mail.user.encode()) == b"+OK"
        answer = session.command(b"PASS " + token.encode())
        assert answer.startswith(b'-ERR [SYS/TEMP] destination "%b": ' % NAME.encode())
        destination_service.behaviour = proper
        until(lambda: fetch_or_none(port, mail.user, token) == MAILS, "the mailbox", every=0.2)
        assert session.command(b"USER " + mail.user.encode()) == b"+OK"
        assert session.command(b"PASS " + token.encode()).startswith(b"+OK")


def fetch_or_none(port: int, user: str, token: str) -> list[bytes] | None:
    with contextlib.suppress(AssertionError):
        return fetch(port, user, token)
    return None


# --- a service that refuses every access token ---


@pytest.mark.one_build
def test_every_access_token_is_refused(
    installation, cluster_tproxy, add_destination, namespace, oauth, destination_service
):
    """Each pause of 5 s or more has one renewal, however many destinations are asked for."""
    crs = [f"mail-{n}" for n in range(12)]
    mail = add_destination(NAME, MAILS)
    for cr in crs:
        add_destination(f"{NAME}-{cr}", mail__user=mail.user, mail__password=mail.password)
    installation.kube.apply(*(destination_cr(cr, namespace, f"{NAME}-{cr}") for cr in crs))
    ports = [installation.available(namespace, cr) for cr in crs]
    destination_service.behaviour = status(401)
    asked, began = len(oauth.requests.all()), time.monotonic()
    for port in ports:
        with RawClient(port) as session:
            answer = session.command(b"LIST")
            assert answer.startswith(b'-ERR [SYS/PERM] destination "%b-mail-' % NAME.encode())
            assert answer.endswith(b": the service refuses its access token (401)")
    trials = int(time.monotonic() - began) // 5 + 1
    assert len(oauth.requests.all()) - asked <= trials
    destination_service.behaviour = proper
    for port in ports:
        until(lambda port=port: fetch_at(port) == MAILS, "the mailbox", every=0.2)


def fetch_at(port: int) -> list[bytes] | None:
    with contextlib.suppress(AssertionError):
        return list_and_fetch(port)
    return None
