"""The servers around tproxy behave like the real ones: tokens of the OAuth server open mailboxes of
Dovecot, SAP's own client accepts the stand-in for the Destination service, and both fail as they
are told."""

import base64
import concurrent.futures
import http.client
import json
import socket
import ssl
import threading
import time
import urllib.parse

import pytest

from harness.btp_client import (
    access_token,
    ask_token,
    find,
    found_by_sap,
    in_environment,
    mounted,
    post,
    run_sap,
)
from harness.clients import RawClient, with_poplib, xoauth2
from harness.destination_service import AUDIENCE, FIND
from harness.http_client import fetch
from harness.http_server import (
    after,
    close,
    cut_json,
    cut_off,
    endless,
    garbage,
    html,
    once,
    proper,
    silent,
    status,
    success,
    where,
)
from harness.oauth import TOKEN_PATH, Client, OAuthServer, SigningKey
from harness.secret_registry import Secrets
from harness.tproxy import destination
from harness.util import PATIENCE

MESSAGES = [b"Subject: one\r\n\r\nfirst\r\n", b"Subject: two\r\n\r\n.dots\r\n..\r\n"]


def token_of(oauth: OAuthServer, client: Client) -> str:
    return ask_token(oauth.url, client).json()["access_token"]


# --- the OAuth server ---


def test_token(oauth, secrets):
    client = oauth.client("urn:a", {"zid": "z", "nested": {"x": 1}}, lifetime=1234)
    answer = ask_token(oauth.url, client)
    assert answer.status == 200
    assert answer.json()["token_type"].lower() == "bearer"
    assert answer.json()["expires_in"] == 1234
    token = answer.json()["access_token"]
    claims = oauth.key.verify(token, "urn:a")
    assert (claims["zid"], claims["nested"]) == ("z", {"x": 1})
    assert claims["exp"] - claims["iat"] == 1234
    assert {client.secret, token} <= set(secrets.values())
    (request,) = oauth.requests_of(client.id)
    assert request.form()["grant_type"] == "client_credentials"
    assert request.status == 200
    assert client.secret not in repr(request)


def test_credentials_in_the_header(oauth):
    client = oauth.client("urn:a", {}, in_body=False)
    pair = ":".join(map(urllib.parse.quote_plus, (client.id, client.secret)))
    form = {"grant_type": "client_credentials", "scope": "mail"}
    header = f"Basic {base64.b64encode(pair.encode()).decode()}"
    answer = post(oauth.url + TOKEN_PATH, form, Authorization=header)
    assert (answer.status, answer.json()["scope"]) == (200, "mail")
    assert len(oauth.requests_of(client.id)) == 1


def test_refusals(oauth):
    client, other = oauth.client("urn:a", {}), oauth.client("urn:a", {})
    for wrong, grant, code, error in (
        (Client(client.id, other.secret), "client_credentials", 401, "invalid_client"),
        (Client("nobody", client.secret), "client_credentials", 401, "invalid_client"),
        (client, "password", 400, "unsupported_grant_type"),
    ):
        answer = ask_token(oauth.url, wrong, grant_type=grant)
        assert (answer.status, answer.json()["error"]) == (code, error)


def test_https(oauth_provider, secrets, certificates):
    context = certificates.server_context(certificates.good)
    with OAuthServer(oauth_provider, secrets, context) as oauth:
        client = oauth.client("urn:a", {})
        answer = ask_token(oauth.url, client, certificates.client_context())
        oauth.key.verify(answer.json()["access_token"], "urn:a")
        with pytest.raises(ssl.SSLError):
            ask_token(oauth.url, client, ssl.create_default_context())


# --- Dovecot and its tokens ---


@pytest.fixture
def box(oauth_dovecot):
    return oauth_dovecot.mailbox(MESSAGES)


def oauthbearer(user: str, token: str) -> bytes:
    return base64.b64encode(f"n,a={user},\x01auth=Bearer {token}\x01\x01".encode())


def login(dovecot, mechanism: bytes, response: bytes, one_line: bool) -> RawClient:
    client = RawClient(dovecot.pop3)
    if one_line:
        client.send(b"AUTH %b %b\r\n" % (mechanism, response))
    else:
        assert client.command(b"AUTH " + mechanism) == b"+ "
        client.send(response + b"\r\n")
    return client


@pytest.mark.parametrize("one_line", [True, False], ids=["one line", "two lines"])
@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
def test_issued_token_opens_the_mailbox(oauth, oauth_dovecot, box, mechanism, one_line):
    token = token_of(oauth, oauth.mail_client(box.user))
    message = {"XOAUTH2": xoauth2, "OAUTHBEARER": oauthbearer}[mechanism](box.user, token)
    with login(oauth_dovecot, mechanism.encode(), message, one_line) as client:
        assert client.line().startswith(b"+OK")
        assert [client.retr(number) for number in (1, 2)] == MESSAGES


def forged(key: SigningKey, box) -> str:
    return SigningKey().sign(good_claims(box), key.id)


def of_an_unknown_key(key: SigningKey, box) -> str:
    return SigningKey().sign(good_claims(box))


def expired(key: SigningKey, box) -> str:
    now = int(time.time())
    return key.sign({**good_claims(box), "iat": now - 7200, "exp": now - 3600})


def of_somebody_else(key: SigningKey, box) -> str:
    return key.sign({**good_claims(box), "email": "somebody"})


def no_token(key: SigningKey, box) -> str:
    return "no-token"


def good_claims(box) -> dict:
    now = int(time.time())
    return {"iss": "http://oauth.test", "aud": "urn:mail", "sub": "someone"} | {
        "email": box.user,
        "iat": now - 1,  # time(2) may lag some milliseconds behind
        "exp": now + 3600,
    }


@pytest.mark.parametrize(
    "make",
    [forged, of_an_unknown_key, expired, of_somebody_else, no_token],
    ids=lambda f: f.__name__,
)
def test_other_tokens_do_not_open_it(oauth, oauth_dovecot, box, make):
    """The bad token is refused, while the same dialogue succeeds with a good one."""
    good = xoauth2(box.user, oauth.key.sign(good_claims(box)))
    with login(oauth_dovecot, b"XOAUTH2", good, one_line=False) as client:
        assert client.line().startswith(b"+OK")
    bad = xoauth2(box.user, make(oauth.key, box))
    with login(oauth_dovecot, b"XOAUTH2", bad, one_line=False) as client:
        challenge = client.line()
        assert challenge.startswith(b"+ ")
        assert "status" in json.loads(base64.b64decode(challenge[2:]))
        assert client.command(b"").startswith(b"-ERR [AUTH]")


def test_passwords_work_there_too(oauth_dovecot, box):
    client = with_poplib(oauth_dovecot.pop3, box.user, box.password)
    assert client.stat()[0] == 2
    client.quit()


# --- the Destination service ---


def basic(name: str = "mail") -> dict:
    return destination(name, "127.0.0.1", 110)


def with_tokens(oauth: OAuthServer, client: Client, **properties: str) -> dict:
    more = {**oauth.properties(client), **properties}
    return destination("mail", "127.0.0.1", 110, mail__password=None, **more)


def test_find(oauth, destination_service, secrets):
    service = destination_service
    service.destinations["a b/ü"] = basic("a b/ü")
    answer = find(service, access_token(oauth, service), "a b/ü")
    assert answer.status == 200
    assert answer.json() == {
        "owner": {"SubaccountId": service.subaccount, "InstanceId": None},
        "destinationConfiguration": basic("a b/ü"),
    }
    assert basic()["mail.password"] in secrets.values()
    assert len(service.finds("a b/ü", with_tokens=True)) == 1


def test_destinations_of_the_instance_come_first(oauth, destination_service):
    service, token = destination_service, access_token(oauth, destination_service)
    service.destinations["mail"] = basic()
    service.instance_destinations["mail"] = {**basic(), "mail.user": "other"}
    found = find(service, token).json()
    assert found["owner"]["InstanceId"] == service.instance
    assert found["destinationConfiguration"]["mail.user"] == "other"
    del service.instance_destinations["mail"]
    assert find(service, token).json()["destinationConfiguration"] == basic()


def test_there_is_no_such_destination(oauth, destination_service):
    answer = find(destination_service, access_token(oauth, destination_service))
    assert answer.status == 404
    assert answer.json() == {"ErrorMessage": "Configuration with the specified name was not found"}


def test_service_wants_a_token_of_its_own(oauth, destination_service):
    service = destination_service
    service.destinations["mail"] = basic()
    now = int(time.time())
    old = {"aud": AUDIENCE, "iat": now - 7200, "exp": now - 3600}
    good = {**old, "exp": now + 3600}
    assert find(service, oauth.key.sign(good)).status == 200
    for bad in (
        "",
        "no-token",
        oauth.key.sign(old),
        SigningKey().sign(good, oauth.key.id),
        oauth.key.sign({**good, "aud": "urn:mail"}),
    ):
        assert find(service, bad).status == 401
    assert fetch(service.url + FIND + "mail").status == 401


@pytest.mark.parametrize("in_body", [True, False])
def test_service_gets_tokens(oauth, destination_service, oauth_dovecot, box, in_body):
    service, client = destination_service, oauth.mail_client(box.user, in_body=in_body)
    service.destinations["mail"] = with_tokens(
        oauth, client, tokenService__addClientCredentialsInBody=str(in_body).lower(), scope="pop"
    )
    token = access_token(oauth, service)
    found = find(service, token, query="?$skipTokenRetrieval=true").json()
    assert "authTokens" not in found
    assert oauth.requests_of(client.id) == []
    (element,) = find(service, token).json()["authTokens"]
    assert element["http_header"]["key"] == "Authorization"
    assert element["http_header"]["value"] == f"{element['type']} {element['value']}"
    assert (element["expires_in"], element["scope"]) == ("3600", "pop")
    assert len(oauth.requests_of(client.id)) == 1
    assert len(service.finds("mail", with_tokens=True)) == 1
    assert len(service.finds("mail", with_tokens=False)) == 1
    message = xoauth2(box.user, element["value"])
    with login(oauth_dovecot, b"XOAUTH2", message, one_line=True) as pop3:
        assert pop3.line().startswith(b"+OK")


def test_service_says_why_there_is_no_token(oauth, destination_service):
    service, client = destination_service, oauth.mail_client("nobody")
    token = access_token(oauth, service)

    def failure(properties: dict) -> str:
        service.destinations["mail"] = properties
        answer = find(service, token)
        (element,) = answer.json()["authTokens"]
        assert answer.status == 200
        assert (element["type"], element["value"]) == ("", "")
        assert "http_header" not in element
        return element["error"]

    good = with_tokens(oauth, client)
    assert "invalid_client" in failure({**good, "clientSecret": "wrong"})
    assert "tokenServiceURL" in failure({k: v for k, v in good.items() if k != "tokenServiceURL"})
    for nonsense in (html, cut_json, cut_off, endless, garbage, close, success([])):
        oauth.behaviour = once(nonsense)
        assert failure(good)
    oauth.stop()
    assert "refused" in failure(good)


# --- SAP's own client ---


@pytest.mark.parametrize("binding", ["environment", "secret, whole", "secret, one key per field"])
def test_sap_client_finds_a_destination(oauth, destination_service, directory, binding):
    destination_service.destinations["mail"] = basic()
    key = destination_service.service_key()
    if binding == "environment":
        keys = in_environment(destination=key)
    else:
        keys = mounted(directory, key, "credentials" if binding == "secret, whole" else None)
    found = found_by_sap(keys, "mail")
    assert (found["name"], found["type"]) == ("mail", "MAIL")
    assert found["authentication"] == "BasicAuthentication"
    assert found["originalProperties"] == basic()
    assert [request.status for request in oauth.requests_of(key["clientid"])] == [200]


def test_sap_client_gets_a_token(oauth, destination_service):
    client = oauth.mail_client("user1")
    destination_service.instance_destinations["mail"] = with_tokens(oauth, client)
    key = destination_service.service_key()
    found = found_by_sap(in_environment(destination=key), "mail")
    assert found["originalProperties"]["owner"]["InstanceId"] == key["instanceid"]
    (element,) = found["authTokens"]
    assert element["error"] is None
    assert element["expiresIn"] == "3600"
    assert element["http_header"]["value"].endswith(element["value"])
    assert oauth.key.verify(element["value"], "urn:mail")["email"] == "user1"


def test_sap_client_finds_nothing(destination_service):
    key = destination_service.service_key()
    assert found_by_sap(in_environment(destination=key), "absent") is None


def test_sap_client_is_told_what_is_wrong(oauth, destination_service):
    destination_service.destinations["mail"] = with_tokens(oauth, Client("nobody", "wrong-secret"))
    key = destination_service.service_key()
    (element,) = found_by_sap(in_environment(destination=key), "mail")["authTokens"]
    assert "invalid_client" in element["error"]
    wrong = in_environment(destination={**key, "clientsecret": "wrong"})
    done = run_sap("sap_client.mjs", wrong, "mail")
    assert done.returncode != 0
    assert "401" in done.stderr


# --- how servers fail ---


@pytest.fixture(params=["oauth", "destination service"])
def server(request, oauth, destination_service):
    """A server, and a call that it answers properly."""
    if request.param == "oauth":
        client = oauth.client("urn:a", {})
        return oauth, lambda: ask_token(oauth.url, client)
    destination_service.destinations["mail"] = basic()
    token = access_token(oauth, destination_service)
    return destination_service, lambda: find(destination_service, token)


def test_answers_on_demand(server):
    service, call = server
    good = call().json()
    start = len(service.requests)
    codes = [401, 403, 404, 429, 500, 503]
    for code in codes:
        service.behaviour = status(code, b"<p>no</p>", Retry_After="7")
        answer = call()
        assert (answer.status, answer.body) == (code, b"<p>no</p>")
        assert answer.headers["Retry-After"] == "7"
    service.behaviour = success(["of another shape"])
    assert call().json() == ["of another shape"]
    for nonsense in (html, cut_json):
        service.behaviour = nonsense
        answer = call()
        assert answer.status == 200
        with pytest.raises(ValueError):
            answer.json()
    service.behaviour = proper
    assert call().json().keys() == good.keys()
    statuses = [request.status for request in service.requests.all()[start:]]
    assert statuses == [*codes, 200, 200, 200, 200]


@pytest.mark.parametrize(
    "behaviour, error",
    [
        (cut_off, http.client.IncompleteRead),
        (garbage, http.client.BadStatusLine),
        (close, http.client.RemoteDisconnected),
    ],
    ids=lambda value: value.__name__,
)
def test_broken_answers_on_demand(server, behaviour, error):
    service, call = server
    service.behaviour = once(behaviour)
    with pytest.raises(error):
        call()
    assert call().status == 200


def test_endless_answer(server):
    service, call = server
    service.behaviour = endless
    with socket.create_connection(("127.0.0.1", service.port), PATIENCE) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        taken = 0
        while taken < 10 << 20:
            data = client.recv(1 << 20)
            assert data
            taken += len(data)
    service.behaviour = proper
    assert call().status == 200


def test_silence(server):
    """A silent answer does not affect others, and ends when the server stops."""
    service, call = server
    service.behaviour = once(silent)
    with socket.create_connection(("127.0.0.1", service.port), PATIENCE) as client:
        client.sendall(b"GET /silence HTTP/1.1\r\nHost: x\r\n\r\n")
        service.requests.wait(lambda request: request.path == "/silence", "the request")
        assert call().status == 200
        service.stop()
        assert client.recv(100) == b""


def test_only_some_requests(destination_service, oauth):
    service, token = destination_service, access_token(oauth, destination_service)
    service.destinations.update(mail=basic(), other=basic("other"))
    service.behaviour = where(
        lambda request: request.path.endswith("/other"), once(status(500), times=2)
    )
    assert find(service, token, "mail").status == 200
    assert [find(service, token, "other").status for _ in range(3)] == [500, 500, 200]


def test_late_answers_to_many(server):
    service, call = server
    release = threading.Event()
    service.behaviour = after(release)
    before = len(service.requests)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        calls = [pool.submit(call) for _ in range(20)]
        service.requests.wait(lambda request: True, "all requests", count=before + 20)
        assert not any(each.done() for each in calls)
        release.set()
        assert all(each.result().status == 200 for each in calls)


def test_down_and_up_again(server):
    service, call = server
    kept = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE)
    kept.request("GET", "/")
    kept.getresponse().read()
    service.stop()
    with pytest.raises(ConnectionRefusedError):
        call()
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        kept.request("GET", "/")
        kept.getresponse()
    service.start()
    assert call().status == 200


# --- what is secret ---


def test_secrets_are_recognised():
    secrets = Secrets()
    shown, hidden = secrets.new(), secrets.new()
    for before in range(4):
        pair = f"{'u' * before}\0{shown}\0more".encode()
        assert secrets.shown_in(b"AUTH " + base64.b64encode(pair)) == [shown]
    for text in (shown, urllib.parse.quote_plus(shown), json.dumps({"password": shown})):
        assert secrets.shown_in(f"before {text} after".encode()) == [shown]
    assert secrets.shown_in(f"{hidden[:12]} {shown[3:27]} {hidden[-12:]}".encode()) == [shown]
    assert secrets.values() == [shown, hidden]
