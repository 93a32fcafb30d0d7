"""The OAuth server has what the tests need: users' refresh tokens and codes, tenants with hosts of
their own, and clients that show certificates."""

import base64
import hashlib
import ssl

import jwt
import pytest

from harness.btp_client import ask_token, post
from harness.clients import RawClient, xoauth2
from harness.dns import hosts_file
from harness.http_client import Answer
from harness.oauth import IAS_TOKEN_PATH, PROVIDER, TOKEN_PATH, OAuthServer

VERIFIER = "a-verifier-has-43-to-128-characters-of-these._~"


def refresh(oauth: OAuthServer, client, token: str, url: str = "") -> Answer:
    form = {"grant_type": "refresh_token", "refresh_token": token}
    return ask_token(url or oauth.url, client, **form)


def redeem(oauth: OAuthServer, client, code: str, **more: str) -> Answer:
    return ask_token(oauth.url, client, grant_type="authorization_code", code=code, **more)


def is_refused(answer: Answer, error: str = "invalid_grant") -> bool:
    code = 401 if error == "invalid_client" else 400
    return (answer.status, answer.json()["error"]) == (code, error)


def user_of(oauth: OAuthServer, answer: Answer) -> str:
    assert answer.status == 200, answer.body
    return oauth.key.verify(answer.json()["access_token"], "urn:mail")["email"]


# --- users ---


def test_refresh_token(oauth, oauth_dovecot, secrets):
    """The access tokens open the mailbox of the refresh token's user, whatever the client's own
    user is."""
    box = oauth_dovecot.mailbox([b"Subject: x\r\n\r\n"])
    client = oauth.mail_client("somebody")
    token = oauth.refresh_token(client, box.user)
    for _ in range(2):
        answer = refresh(oauth, client, token)
        assert user_of(oauth, answer) == box.user
        assert answer.json()["refresh_token"] == token
    access = answer.json()["access_token"]
    with RawClient(oauth_dovecot.pop3) as pop3:
        assert pop3.command(b"AUTH XOAUTH2 " + xoauth2(box.user, access)).startswith(b"+OK")
    assert {token, access} <= set(secrets.values())


def test_rotating_refresh_token(oauth, secrets):
    client = oauth.mail_client("somebody", rotates=True)
    first = oauth.refresh_token(client, "user1")
    second = refresh(oauth, client, first).json()["refresh_token"]
    assert second != first
    assert second in secrets.values()
    third = refresh(oauth, client, second)
    assert user_of(oauth, third) == "user1"
    # A token that is used again may be stolen, so all tokens made from it are refused.
    assert is_refused(refresh(oauth, client, first))
    assert is_refused(refresh(oauth, client, third.json()["refresh_token"]))


def test_refresh_tokens_that_are_no_good(oauth):
    client, other = oauth.mail_client("somebody"), oauth.mail_client("somebody")
    assert is_refused(refresh(oauth, client, "1//no-such-token"))
    assert is_refused(refresh(oauth, client, oauth.refresh_token(client, "user1", lifetime=-1)))
    token = oauth.refresh_token(client, "user1")
    assert is_refused(refresh(oauth, other, token))
    assert user_of(oauth, refresh(oauth, client, token)) == "user1"


def test_code(oauth):
    client = oauth.mail_client("somebody")
    code = oauth.code(client, "user1")
    assert user_of(oauth, redeem(oauth, client, code)) == "user1"
    assert is_refused(redeem(oauth, client, code))
    assert is_refused(redeem(oauth, client, oauth.code(client, "user1", lifetime=-1)))
    assert is_refused(redeem(oauth, client, "4/no-such-code"))


@pytest.mark.parametrize(
    "bound, given, good",
    [
        ({"redirect_uri": "https://app.test/"}, {"redirect_uri": "https://app.test/"}, True),
        ({"redirect_uri": "https://app.test/"}, {"redirect_uri": "https://other.test/"}, False),
        ({"redirect_uri": "https://app.test/"}, {}, False),
        ({}, {"redirect_uri": "https://app.test/"}, False),
        ({"verifier": VERIFIER}, {"code_verifier": VERIFIER}, True),
        ({"verifier": VERIFIER}, {"code_verifier": VERIFIER[::-1]}, False),
        ({"verifier": VERIFIER}, {}, False),
    ],
)
def test_bindings_of_a_code(oauth, bound, given, good):
    client = oauth.mail_client("somebody")
    answer = redeem(oauth, client, oauth.code(client, "user1", **bound), **given)
    assert user_of(oauth, answer) == "user1" if good else is_refused(answer)


def test_scope(oauth):
    client = oauth.mail_client("somebody")
    token = oauth.refresh_token(client, "user1", scope="pop smtp")
    form = {"grant_type": "refresh_token", "refresh_token": token}
    assert ask_token(oauth.url, client, **form, scope="pop").json()["scope"] == "pop"
    assert is_refused(ask_token(oauth.url, client, **form, scope="imap"), "invalid_scope")


def test_long_tokens(oauth):
    client = oauth.client("urn:mail", {"padding": "x" * 6000})
    token = oauth.refresh_token(client, "user1", size=3000)
    assert len(token) > 4000
    answer = refresh(oauth, client, token)
    assert user_of(oauth, answer) == "user1"
    assert len(answer.json()["access_token"]) > 8000


# --- clients ---


def test_revoked_client(oauth):
    client, other = oauth.mail_client("user1"), oauth.mail_client("user1")
    token = oauth.refresh_token(client, "user1")
    oauth.revoke(client)
    assert is_refused(ask_token(oauth.url, client), "invalid_client")
    assert is_refused(refresh(oauth, client, token), "invalid_client")
    assert ask_token(oauth.url, other).status == 200


def test_renewed_secret(oauth):
    client = oauth.mail_client("user1")
    old = client.secret
    oauth.renew(client)
    assert ask_token(oauth.url, client).status == 200
    assert is_refused(ask_token(oauth.url, client, client_secret=old), "invalid_client")


def test_token_that_is_too_old(oauth):
    """The token has expired, although the answer gives it a lifetime."""
    client = oauth.mail_client("user1", age=7200)
    answer = ask_token(oauth.url, client).json()
    assert answer["expires_in"] == 3600
    with pytest.raises(jwt.ExpiredSignatureError):
        oauth.key.verify(answer["access_token"], "urn:mail")


# --- tenants ---


def test_tenants(oauth):
    """The host determines whose token it is."""
    acme = oauth.tenant("acme")
    client = oauth.mail_client("user1", in_tenant={"acme": "user2"})
    for url, subdomain, user in (
        (oauth.url_of("acme"), "acme", "user2"),
        (oauth.url_of("ACME"), "acme", "user2"),
        (oauth.url_of(PROVIDER), PROVIDER, "user1"),
        (oauth.url, PROVIDER, "user1"),
    ):
        token = ask_token(url, client).json()["access_token"]
        claims = oauth.key.verify(token, "urn:mail")
        tenant = oauth.tenant(subdomain)
        assert (claims["zid"], claims["email"]) == (tenant.id, user)
        assert claims["ext_attr"]["zdn"] == subdomain
        assert claims["iss"] == oauth.url_of(subdomain)
    assert acme.id != oauth.tenant(PROVIDER).id
    assert oauth.tenant("acme") is acme
    assert len(oauth.requests_of(client.id)) == 4


def test_tenant_by_its_id(oauth):
    client, acme = oauth.mail_client("user1"), oauth.tenant("acme")
    form = {"grant_type": "client_credentials", "client_id": client.id}
    form["client_secret"] = client.secret
    answer = post(oauth.url + TOKEN_PATH, form, **{"X-zid": acme.id})
    assert oauth.key.verify(answer.json()["access_token"], "urn:mail")["zid"] == acme.id
    assert post(oauth.url + TOKEN_PATH, form, **{"X-zid": "nobody"}).status == 404


def test_unknown_tenant(oauth):
    client = oauth.mail_client("user1")
    for url in (oauth.url_of("nobody"), oauth.common_url):
        answer = ask_token(url, client)
        assert answer.status == 404
        assert answer.headers["Content-Type"].startswith("text/html")
        assert answer.body.startswith(b"<!doctype html>")


def test_tenant_without_a_subscription(oauth):
    client = oauth.mail_client("user1")
    oauth.tenant("acme").subscribed = False
    answer = ask_token(oauth.url_of("acme"), client)
    assert (answer.status, answer.json()["error"]) == (401, "unauthorized")
    oauth.tenant("acme").subscribed = True
    assert ask_token(oauth.url_of("acme"), client).status == 200


def test_users_are_of_one_tenant(oauth):
    oauth.tenant("acme")
    client = oauth.mail_client("somebody")
    token = oauth.refresh_token(client, "user1", tenant="acme")
    assert user_of(oauth, refresh(oauth, client, token, oauth.url_of("acme"))) == "user1"
    assert is_refused(refresh(oauth, client, token))


def test_hosts_file(oauth, directory):
    oauth.tenant("acme")
    lines = hosts_file(directory, *oauth.host_names("nobody")).read_text().splitlines()
    assert "127.0.0.1 acme.authentication.test" in lines
    assert "127.0.0.1 nobody.authentication.cert.test" in lines


# --- certificates ---


def test_client_with_a_certificate(oauth, certificates):
    oauth.tenant("acme")
    client = oauth.certified_client("urn:a")
    tls = certificates.client_context(client.certificate)
    for tenant in (PROVIDER, "acme"):
        answer = ask_token(oauth.url_of(tenant, certificate=True), client, tls)
        claims = oauth.key.verify(answer.json()["access_token"], "urn:a")
        assert claims["zid"] == oauth.tenant(tenant).id
        assert "cnf" not in claims
    first, _ = oauth.requests_of(client.id)
    own, footer, _ = client.certificate.chain.partition(ssl.PEM_FOOTER)
    assert first.certificate == ssl.PEM_cert_to_DER_cert(own + footer)


def test_certificates_that_are_no_good(oauth, certificates):
    client, other = oauth.certified_client("urn:a"), oauth.certified_client("urn:a")
    url = oauth.url_of(PROVIDER, certificate=True)
    nobody = certificates.client_context()
    somebody_else = certificates.client_context(other.certificate)
    before = certificates.client_context(client.certificate)
    assert ask_token(url, client, before).status == 200
    oauth.renew(client)
    for tls in (nobody, somebody_else, before):
        assert is_refused(ask_token(url, client, tls), "invalid_client")
    assert ask_token(url, client, certificates.client_context(client.certificate)).status == 200
    assert is_refused(ask_token(oauth.url, client), "invalid_client")


def test_certificate_of_a_stranger(oauth, certificates):
    client = oauth.certified_client("urn:a")
    tls = certificates.client_context()
    tls.load_cert_chain(certificates.untrusted)
    with pytest.raises(OSError):
        ask_token(oauth.url_of(PROVIDER, certificate=True), client, tls)


def test_cloud_identity_services(oauth, certificates):
    """Tokens of Cloud Identity Services are bound to the certificate."""
    client = oauth.certified_client("urn:a", bound=True)
    tls = certificates.client_context(client.certificate)
    form = {"grant_type": "client_credentials", "client_id": client.id}
    answer = post(oauth.ias_url + IAS_TOKEN_PATH, form, tls)
    claims = oauth.key.verify(answer.json()["access_token"], "urn:a")
    assert claims["app_tid"] == oauth.tenant(PROVIDER).id
    assert "zid" not in claims
    (request,) = oauth.requests_of(client.id)
    digest = base64.urlsafe_b64encode(hashlib.sha256(request.certificate).digest())
    assert claims["cnf"]["x5t#S256"] == digest.decode().rstrip("=")
