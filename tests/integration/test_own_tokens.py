"""tproxy requests tokens itself, from the token service that a destination in a file names: a real
OAuth server, whose tokens a real Dovecot verifies."""

import base64
import gzip
import json
import threading
import urllib.parse

import pytest
from test_probe import details, names, probed, text_of_step

from harness.backend import Pop3
from harness.clients import RawClient
from harness.http_server import Response, changed, status, success
from harness.installation import list_and_fetch
from harness.tproxy import ROOT, destination
from harness.user_logins import LOGINS, fetch, log_in, usual

NAME = "mail"
MAILS = [b"Subject: one\r\n\r\nfirst\r\n", b"Subject: two\r\n\r\nsecond\r\n"]


@pytest.fixture
def proxy(make_tproxy, secrets):
    """A proxy that logs everything it can; nothing of it is a secret."""
    proxy = make_tproxy("--log-level", "trace")
    yield proxy
    assert not secrets.shown_in(proxy.everything_said())


@pytest.fixture
def mail(oauth_dovecot):
    return oauth_dovecot.mailbox(MAILS)


@pytest.fixture
def add(proxy, oauth, oauth_dovecot, mail):
    """Adds a destination to the directory."""

    def add(client, authentication: str = "OAuth2ClientCredentials", **more: object) -> int:
        properties = {**oauth.properties(client, authentication), "mail.user": mail.user, **more}
        return proxy.add(
            NAME, oauth_dovecot.host, oauth_dovecot.pop3, mail__password=None, **properties
        )

    return add


class TokenServer(Pop3):
    """A mail server that accepts the tokens for which `good` is true, and records all tokens that
    it sees."""

    def __init__(self, good):
        super().__init__(capabilities=("TOP", "UIDL", "SASL XOAUTH2"))
        self.good = good
        self.seen: list[str] = []

    def _auth(self, session, argument: bytes) -> bytes:
        assert argument == b"XOAUTH2"
        session.send(b"+ \r\n")
        message = base64.b64decode(session.read_line()).decode()
        token = message.split("Bearer ")[1].rstrip("\x01")
        self.seen.append(token)
        if self.good(token):
            return b"+OK logged in\r\n"
        session.send(b"+ " + base64.b64encode(b'{"status":"400"}') + b"\r\n")
        assert session.read_line() == b""
        return b"-ERR [AUTH] token refused\r\n"


# --- client credentials ---


def test_client_credentials(add, oauth, mail):
    client = oauth.mail_client(mail.user)
    port = add(client)
    for _ in range(3):
        assert list_and_fetch(port) == MAILS
    (request,) = oauth.requests_of(client.id)
    assert request.form()["grant_type"] == "client_credentials"


def test_probe_tells_where_the_token_is_from(add, proxy, oauth, mail):
    add(oauth.mail_client(mail.user))
    asked, cached = (
        details(probed(proxy, NAME), "the destination")["access token for the mail server"]
        for _ in range(2)
    )
    assert asked == "asked for" and cached.startswith("cached for ")


@pytest.mark.one_build
def test_credentials_in_a_header_field(add, oauth, mail):
    client = oauth.mail_client(mail.user, in_body=False)
    port = add(client, **{"tokenService.addClientCredentialsInBody": "false"})
    assert list_and_fetch(port) == MAILS
    (request,) = oauth.requests_of(client.id)
    assert "client_secret" not in request.form()


@pytest.mark.one_build
def test_user_and_password_of_the_token_service(add, oauth, mail):
    client = oauth.mail_client(mail.user, in_body=False)
    own = {"tokenServiceUser": client.id, "tokenServicePassword": client.secret}
    port = add(client, **own, clientId="another", clientSecret=None)
    assert list_and_fetch(port) == MAILS


@pytest.mark.one_build
def test_all_parts_of_a_request(add, oauth, mail):
    client = oauth.mail_client(mail.user)
    more = {
        "scope": "read mail",
        "tokenServiceURL.headers.X-Api-Key": "from the header",
        "tokenServiceURL.queries.tenant": "a&b",
        "tokenService.body.response_type": "token",
        "tokenServiceURL.ConnectionTimeoutInSeconds": "3",
        "tokenServiceURL.SocketReadTimeoutInSeconds": "3",
    }
    assert list_and_fetch(add(client, **more)) == MAILS
    (request,) = oauth.requests_of(client.id)
    assert request.form()["scope"] == "read mail"
    assert request.form()["response_type"] == "token"
    assert request.headers["X-Api-Key"] == "from the header"
    assert request.query["tenant"] == "a&b"


@pytest.mark.one_build
@pytest.mark.parametrize(
    "property", ["tokenService.KeyStoreLocation", "clientAssertion.destinationName"]
)
def test_refused_properties_are_named(proxy, oauth, mail, property):
    client = oauth.mail_client(mail.user)
    fields = {"Name": NAME, "Type": "MAIL", "ProxyType": "Internet", "mail.pop3.host": "localhost"}
    fields |= {**oauth.properties(client), "mail.user": mail.user, property: "x"}
    proxy.write(fields)
    line = proxy.printed.wait(lambda line: NAME in line, "a word about the file")
    assert property in line


@pytest.mark.one_build
def test_a_tenant_is_needed_for_a_common_token_service(add, oauth, mail):
    port = add(oauth.mail_client(mail.user), tokenServiceURLType="Common")
    with RawClient(port) as client:
        assert client.command(b"LIST").startswith(
            b'-ERR [SYS/PERM] destination "mail": tokenServiceURLType: Common needs a tenant'
        )


def test_a_client_that_is_refused(add, oauth, mail):
    client = oauth.mail_client(mail.user)
    port = add(client)
    oauth.revoke(client)
    for _ in range(5):
        with RawClient(port) as session:
            answer = session.command(b"LIST")
            assert answer.startswith(b'-ERR [AUTH] destination "mail": authorization server ')
            assert b"invalid_client" in answer
    assert len(oauth.requests_of(client.id)) < 5, "it is not asked again each time"


@pytest.mark.one_build
def test_the_token_service_is_away(add, oauth, mail):
    client = oauth.mail_client(mail.user)
    port = add(client)
    oauth.behaviour = status(503)
    with RawClient(port) as session:
        assert session.command(b"LIST").startswith(b'-ERR [SYS/TEMP] destination "mail": ')


# --- answers of the token service ---


SAID = {
    "an error in an answer of success": (
        success({"error": "invalid_client", "error_description": "no such client"}),
        (b"AUTH", b"refuses the client (200: invalid_client: no such client)"),
    ),
    "an error as an object, in several lines": (
        status(403, b'{"error":{"code":403,"message":"Not\\r\\nallowed","status":"DENIED"}}'),
        (b"AUTH", b"refuses the client (403: DENIED: Not allowed)"),
    ),
    "a scope that is unknown": (
        status(400, b'{"error":"invalid_scope","error_description":"AADSTS70011: no.\\r\\nTrace: 1"}'),
        (b"SYS/PERM", b"gives no token (400: invalid_scope: AADSTS70011: no. Trace: 1)"),
    ),
    "a tenant that is unknown": (
        status(400, b'{"error":"invalid_request","error_description":"AADSTS90002: Tenant x not found"}'),
        (b"SYS/PERM", b"gives no token (400: invalid_request: AADSTS90002: Tenant x not found)"),
    ),
    "a grant that is unknown": (
        status(400, b'{"error":"unsupported_grant_type"}'),
        (b"SYS/PERM", b"gives no token (400: unsupported_grant_type)"),
    ),
    "a redirect": (
        status(308, Location="https://login.example.com/oauth/token?session=1"),
        (
            b"SYS/PERM",
            b"redirects to https://login.example.com/oauth/token (308), which is not followed: "
            b"tokenServiceURL has to name that address",
        ),
    ),
    "another type": (
        success({"access_token": "abc", "token_type": "mac"}),
        (b"SYS/TEMP", b'gives no token that can be used: its token_type is "mac", not Bearer'),
    ),
    "compressed words": (
        status(401, gzip.compress(b'{"error":"invalid_client"}'), Content_Encoding="gzip"),
        (b"AUTH", b"refuses the client (401; its text is coded as gzip)"),
    ),
}


@pytest.mark.parametrize("behaviour, expected", SAID.values(), ids=SAID.keys())
def test_answers_of_the_token_service(add, oauth, mail, behaviour, expected):
    port = add(oauth.mail_client(mail.user))
    oauth.behaviour = behaviour
    with RawClient(port) as session:
        said = b'-ERR [%b] destination "mail": authorization server 127.0.0.1 %b' % expected
        assert session.command(b"LIST") == said


@pytest.mark.parametrize(
    "answer, words",
    [
        (
            Response(200, gzip.compress(b"{}"), {"Content-Encoding": "gzip"}),
            b": the answer is coded as gzip, which was not asked for",
        ),
        (
            Response(200, b"{}", {f"X-{n}": "x" for n in range(64)}),
            b": the answer has more than 64 header fields",
        ),
    ],
    ids=["gzip", "fields"],
)
def test_an_answer_that_cannot_be_read(add, oauth, mail, answer, words):
    client = oauth.mail_client(mail.user)
    port = add(client)
    oauth.behaviour = lambda exchange: exchange.reply(answer)
    with RawClient(port) as session:
        said = session.command(b"LIST")
        assert said.startswith(b'-ERR [SYS/TEMP] destination "mail": authorization server 127.0.0.1:')
        assert said.endswith(words)
    assert oauth.requests_of(client.id)[0].headers["Accept-Encoding"] == "identity"


def test_an_answer_with_a_byte_order_mark(add, oauth, mail):
    def marked(exchange) -> None:
        proper = exchange.proper()
        exchange.reply(Response(proper.status, b"\xef\xbb\xbf" + proper.body, proper.headers))

    port = add(oauth.mail_client(mail.user))
    oauth.behaviour = marked
    assert list_and_fetch(port) == MAILS


def test_a_bearer_token_by_another_name(add, oauth, mail):
    port = add(oauth.mail_client(mail.user))
    oauth.behaviour = changed(lambda answer: answer.update(token_type="BearerToken"))
    assert list_and_fetch(port) == MAILS


@pytest.mark.parametrize("repeat", [str, urllib.parse.quote_plus], ids=["as it is", "in a form"])
def test_secrets_that_the_token_service_repeats(add, oauth, mail, repeat):
    """Secrets that the token service repeats are not in the log, which the fixture checks when the
    test ends."""
    client = oauth.mail_client(mail.user)
    port = add(client)
    said = {"error": "invalid_request", "error_description": f"got {repeat(client.secret)}!"}
    oauth.behaviour = status(400, json.dumps(said).encode())
    with RawClient(port) as session:
        answer = session.command(b"LIST")
    assert b"(400: invalid_request: (not shown: a secret is in it))" in answer


def plain_examples() -> list[dict]:
    """Returns the examples that are only a destination; the others have tests of their own."""
    paths = sorted((ROOT / "examples").glob("*/*.json"))
    found = [json.loads(path.read_text()) for path in paths]
    return [example for example in found if example.get("ProxyType") == "Internet"]


@pytest.mark.one_build
@pytest.mark.parametrize("example", plain_examples(), ids=lambda example: example["Name"])
def test_examples(proxy, oauth, oauth_dovecot, mail, example):
    """The examples work, both unchanged and with a mail server, a mailbox and a client filled
    in."""
    proxy.write(example)
    port = proxy.port(example["Name"])
    protocol, kind = example["mail.transport.protocol"], example["Authentication"]
    filled = {
        "mail.user": mail.user,
        f"mail.{protocol}.host": "localhost",
        f"mail.{protocol}.port": str(getattr(oauth_dovecot, protocol)),
    }
    client = oauth.mail_client(mail.user)
    if kind == "BasicAuthentication":
        filled["mail.password"] = mail.password
    else:
        filled |= oauth.properties(client, kind)
    proxy.write(example | filled)
    proxy.wait_log(f"default/{example['Name']}: changed")
    if kind == "OAuth2RefreshToken":
        assert fetch(port, mail.user, oauth.refresh_token(client, mail.user)) == MAILS
    else:
        assert list_and_fetch(port) == MAILS


# --- tokens and codes of users ---


@pytest.mark.parametrize("how", LOGINS.values(), ids=LOGINS.keys())
@pytest.mark.parametrize("kind", ["OAuth2RefreshToken", "OAuth2AuthorizationCode"])
def test_logins(add, oauth, mail, kind, how):
    client = oauth.mail_client("nobody")
    port = add(client, kind)
    make = oauth.refresh_token if kind == "OAuth2RefreshToken" else oauth.code
    token = make(client, mail.user)
    assert fetch(port, mail.user, token, how) == MAILS
    assert fetch(port, mail.user, token) == MAILS
    assert len(oauth.requests_of(client.id)) == 1


@pytest.mark.one_build
def test_a_token_of_several_kilobytes(add, oauth, mail):
    client = oauth.mail_client("nobody")
    port = add(client, "OAuth2RefreshToken")
    token = oauth.refresh_token(client, mail.user, size=6000)
    assert len(token) > 8000
    for how in LOGINS.values():
        assert fetch(port, mail.user, token, how) == MAILS


@pytest.mark.one_build
def test_the_user_is_the_clients(add, oauth, oauth_dovecot, proxy, mail):
    other = oauth_dovecot.mailbox([b"Subject: other\r\n\r\n"])
    client = oauth.mail_client("nobody")
    port = add(client, "OAuth2RefreshToken")
    token = oauth.refresh_token(client, other.user)
    assert fetch(port, other.user, token) == [b"Subject: other\r\n\r\n"]
    proxy.wait_log(f"the client logs in as {other.user}, though mail.user is {mail.user}")
    # A user cannot open another's mailbox with a token of his own.
    assert log_in(port, mail.user, token).startswith(b"-ERR ")


@pytest.mark.one_build
def test_nothing_goes_on_without_a_login(add, oauth, oauth_dovecot):
    port = add(oauth.mail_client("nobody"), "OAuth2RefreshToken")
    with RawClient(port) as client:
        for command in (b"LIST", b"STAT", b"APOP a b"):
            assert client.command(command).startswith(b"-ERR log in first: AUTH XOAUTH2 ")
        assert b"SASL XOAUTH2 OAUTHBEARER PLAIN LOGIN" in client.multi(b"CAPA")
        assert client.command(b"AUTH XOAUTH2") == b"+ "
        assert client.command(b"*").startswith(b"-ERR authentication cancelled")
        assert client.command(b"AUTH XOAUTH2 ****").startswith(b"-ERR [AUTH] the response is not b")
        typed = base64.b64encode(rb"user=a\x01auth=Bearer b\x01\x01")
        assert b"\\x01 were sent" in client.command(b"AUTH XOAUTH2 " + typed)
        assert client.command(b"QUIT").startswith(b"+OK")
    assert not oauth.requests.all()


@pytest.mark.parametrize("kind", ["OAuth2RefreshToken", "OAuth2AuthorizationCode"])
def test_probe(add, proxy, oauth, mail, kind, directory):
    """A probe logs in with a token from standard input or a file, and says what is wrong with it."""
    client = oauth.mail_client("nobody")
    add(client, kind)
    make = oauth.refresh_token if kind == "OAuth2RefreshToken" else oauth.code
    missing = probed(proxy, NAME)
    assert (missing["result"], names(missing)) == ("config", ["the login"])
    assert "give one with --user and --token-file" in missing["text"]

    def with_token(user: str, token: str) -> dict:
        return probed(proxy, NAME, "--user", user, "--token-file", "-", stdin=f"{token}\n")

    good = make(client, mail.user)
    result = with_token(mail.user, good)
    assert result["result"] == "ok" and names(result)[0] == "the destination"
    assert text_of_step(result, "the answer to STAT").startswith(f"+OK {len(MAILS)} ")
    file = directory / "token"
    file.write_text(good)
    assert probed(proxy, NAME, "--user", mail.user, "--token-file", str(file))["result"] == "ok"

    for bad in make(client, mail.user, lifetime=-1), "no-such-thing-0123456789":
        result = with_token(mail.user, bad)
        assert (result["result"], names(result)[-1]) == ("auth", "the destination")
        assert "refuses the refresh token or code" in result["text"]


def test_one_bad_token_locks_nobody_out(add, oauth, mail):
    client = oauth.mail_client("nobody")
    port = add(client, "OAuth2RefreshToken")
    good = oauth.refresh_token(client, mail.user)
    for _ in range(5):
        answer = log_in(port, mail.user, "1//no-such-refresh-token-0123456789")
        assert answer.startswith(b'-ERR [AUTH] destination "mail": authorization server ')
        assert b"refuses the refresh token or code (400: invalid_grant" in answer
        assert fetch(port, mail.user, good) == MAILS
    requests = oauth.requests_of(client.id)
    assert 2 <= len(requests) < 6, "the server is not asked about a wrong one each time"


@pytest.mark.one_build
def test_a_code_works_once(add, oauth, mail):
    client = oauth.mail_client("nobody", lifetime=17)
    port = add(client, "OAuth2AuthorizationCode")
    code = oauth.code(client, mail.user)
    assert fetch(port, mail.user, code) == MAILS
    assert fetch(port, mail.user, code) == MAILS
    assert len(oauth.requests_of(client.id)) == 1
    other = oauth.mail_client("nobody")
    answer = log_in(port, mail.user, oauth.code(other, mail.user))
    assert answer.startswith(b"-ERR [AUTH] "), "a code of another client"


@pytest.mark.one_build
def test_a_code_that_is_bound(add, oauth, mail):
    client = oauth.mail_client("nobody")
    bound = {"X-redirect-uri": "https://client.test/callback", "X-code-verifier": "v" * 43}
    port = add(client, "OAuth2AuthorizationCode", **bound)
    code = oauth.code(client, mail.user, bound["X-redirect-uri"], bound["X-code-verifier"])
    assert fetch(port, mail.user, code) == MAILS


@pytest.mark.one_build
def test_refresh_tokens_that_rotate(add, oauth, mail):
    """The client continues to send the first token."""
    client = oauth.mail_client("nobody", lifetime=12, rotates=True)
    port = add(client, "OAuth2RefreshToken")
    token = oauth.refresh_token(client, mail.user)
    while len(oauth.requests_of(client.id)) < 3:
        assert fetch(port, mail.user, token) == MAILS
    sent = [request.form()["refresh_token"] for request in oauth.requests_of(client.id)]
    assert len(set(sent)) == len(sent)


def test_many_logins_take_one_token(add, oauth, mail):
    client = oauth.mail_client("nobody")
    port = add(client, "OAuth2RefreshToken")
    token = oauth.refresh_token(client, mail.user)
    answers = []

    def once():
        answers.append(log_in(port, mail.user, token))

    threads = [threading.Thread(target=once) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(answer.startswith(b"+OK") for answer in answers)
    assert len(answers) == 200
    assert len(oauth.requests_of(client.id)) == 1


# --- tokens that the mail server refuses ---


@pytest.mark.parametrize("kind", ["OAuth2ClientCredentials", "OAuth2RefreshToken"])
def test_one_renewal_and_no_more(proxy, oauth, backends, kind):
    good = set()
    server = TokenServer(lambda token: not good or token in good)
    backend = backends(server)
    client = oauth.mail_client("robot")
    port = proxy.add(NAME, backend.host, backend.port, **oauth.properties(client, kind))
    token = oauth.refresh_token(client, "robot")

    def log_in_once() -> bytes:
        if kind == "OAuth2RefreshToken":
            return log_in(port, "robot", token)
        return log_in(port, "robot", "anything")

    assert log_in_once().startswith(b"+OK")
    first = server.seen.pop()

    # The token is revoked: another one replaces it in the same login.
    server.good = lambda token: token != first
    assert log_in_once().startswith(b"+OK")
    assert len(server.seen) == 2 and server.seen[0] == first != server.seen[1]
    assert log_in_once().startswith(b"+OK")
    assert proxy.metric("tproxy_mail_token_renewals_total") == 1

    # No token is accepted: there is one renewal, and then nobody asks the mail server for a while.
    server.good = lambda token: False
    server.seen.clear()
    assert log_in_once() == b"-ERR [AUTH] token refused"
    assert len(server.seen) == 2 and len(set(server.seen)) == 2
    for _ in range(3):
        answer = log_in_once()
        assert answer.startswith(b"-ERR [AUTH] ") and b"not asked again for" in answer
    assert len(server.seen) == 2


@pytest.mark.one_build
def test_one_users_refused_token_locks_nobody_out(proxy, oauth, backends):
    server = TokenServer(lambda token: True)
    backend = backends(server)
    client = oauth.mail_client("robot")
    port = proxy.add(
        NAME, backend.host, backend.port, **oauth.properties(client, "OAuth2RefreshToken")
    )
    tokens = {user: oauth.refresh_token(client, user) for user in ("alice", "bob")}
    assert log_in(port, "alice", tokens["alice"]).startswith(b"+OK")
    alices = server.seen[0]
    assert log_in(port, "bob", tokens["bob"]).startswith(b"+OK")
    bobs = set(server.seen[1:])
    server.good = lambda token: token in bobs
    assert log_in(port, "alice", tokens["alice"]).startswith(b"-ERR [AUTH]")
    assert alices in server.seen
    for _ in range(2):
        assert log_in(port, "bob", tokens["bob"]).startswith(b"+OK")
        assert b"not asked again" in log_in(port, "alice", tokens["alice"])


@pytest.mark.one_build
def test_a_changed_file_ends_the_pause(proxy, oauth, backends):
    server = TokenServer(lambda token: False)
    backend = backends(server)
    client = oauth.mail_client("robot")
    properties = oauth.properties(client)
    port = proxy.add(NAME, backend.host, backend.port, **properties)
    assert log_in(port, "a", "b").startswith(b"-ERR [AUTH]")
    assert b"not asked again" in log_in(port, "a", "b")
    server.good = lambda token: True
    proxy.write(destination(NAME, backend.host, backend.port, **properties, scope="more"))
    proxy.wait_log(f"default/{NAME}: changed")
    with RawClient(port) as session:
        assert usual(session, "a", "b").startswith(b"+OK")
