"""The stand-in for the Destination service: levels, fragments and chains, users' tokens, tenants,
and service keys with certificates."""

import base64
import json

import pytest

from harness.btp_client import (
    access_token,
    ask_token,
    consume,
    find,
    found_by_sap,
    in_environment,
    post,
)
from harness.certs import Certificates
from harness.destination_service import (
    FIND,
    DestinationService,
    key_secret,
    private_key_secret,
)
from harness.http_client import Answer, fetch
from harness.http_server import changed
from harness.oauth import IAS_TOKEN_PATH, PROVIDER, OAuthServer
from harness.tproxy import destination

VERIFIER = "a-verifier-has-43-to-128-characters-of-these._~"


@pytest.fixture
def service(destination_service):
    return destination_service


@pytest.fixture
def token(oauth, service) -> str:
    return access_token(oauth, service)


def mailbox(user: str = "robot", **properties: object) -> dict[str, str]:
    return destination("mail", "127.0.0.1", 110, mail__user=user, **properties)


def user(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    return answer.json()["destinationConfiguration"]["mail.user"]


def refusal(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json()["ErrorMessage"]


NO_DESTINATION = (404, "Configuration with the specified name was not found")
NO_FRAGMENT = (404, "Destination fragment with the specified name was not found")

# --- levels ---


def test_levels(service, token):
    """A destination is found at the requested level only."""
    service.destinations["mail"] = mailbox("of the subaccount")
    for level in ("subaccount", "provider_subaccount"):
        assert user(consume(service, token, level)) == "of the subaccount"
    for level in ("instance", "provider_instance"):
        assert refusal(consume(service, token, level)) == NO_DESTINATION
    service.instance_destinations["mail"] = mailbox("of the instance")
    assert user(consume(service, token, "instance")) == "of the instance"
    assert user(consume(service, token, "subaccount")) == "of the subaccount"
    assert consume(service, token, "nowhere").status == 400
    assert consume(service, "no-token", "instance").status == 401
    assert len(service.finds("mail", with_tokens=True)) == 8


def test_owner_is_told_when_asked_for(service, token):
    service.destinations["mail"] = mailbox()
    assert consume(service, token, "subaccount").json() == {"destinationConfiguration": mailbox()}
    answer = consume(service, token, "subaccount", "?includeMetadata=owner").json()
    owner = answer["destinationConfiguration"]["$metadata"]["owner"]
    whose = {"SubaccountId": service.subaccount, "InstanceId": None}
    assert owner["destinations"] == [{"Name": "mail", **whose}]


def test_levels_of_a_subscriber(oauth, service):
    acme = service.tenant("acme")
    acme.instance.destinations["mail"] = mailbox("acme")
    service.destinations["mail"] = mailbox("provider")
    token = access_token(oauth, service, "acme")
    assert user(consume(service, token, "instance")) == "acme"
    assert refusal(consume(service, token, "subaccount")) == NO_DESTINATION
    assert user(consume(service, token, "provider_subaccount")) == "provider"


# --- fragments ---


def test_fragments(service, token):
    service.destinations["mail"] = mailbox(mail__password=None)
    service.fragments["a"] = {"FragmentName": "a", "mail.user": "a", "extra": "a"}
    service.fragments["b"] = {"FragmentName": "b", "mail.user": "b"}
    assert user(find(service, token)) == "robot"
    found = find(service, token, X_Fragment_Name="a").json()["destinationConfiguration"]
    assert found == {**mailbox("a", mail__password=None), "extra": "a", "FragmentName": "a"}
    found = find(service, token, X_Fragment_Name="a, b").json()["destinationConfiguration"]
    assert (found["mail.user"], found["extra"]) == ("b", "a")
    assert found["FragmentName"] == "a,b"


def test_missing_fragments(service, token):
    service.destinations["mail"] = mailbox()
    service.fragments["a"] = {"FragmentName": "a"}
    assert refusal(find(service, token, X_Fragment_Name="b")) == NO_FRAGMENT
    optional = find(service, token, X_Fragment_Name="b", X_Fragment_Optional="true")
    assert optional.json()["destinationConfiguration"] == mailbox()
    # If several fragments are named none of them is optional, and the destination has to exist in
    # any case.
    several = find(service, token, X_Fragment_Name="a,b", X_Fragment_Optional="true")
    assert refusal(several) == NO_FRAGMENT
    assert refusal(find(service, token, "absent", X_Fragment_Name="b")) == NO_DESTINATION


def test_fragment_at_a_level(oauth, service, token):
    service.destinations["mail"] = service.instance_destinations["mail"] = mailbox()
    service.tenant(PROVIDER).instance.fragments["a"] = {"mail.user": "a"}
    # The fragment's level is the destination's unless another one is given.
    assert user(find(service, token, X_Fragment_Name="a")) == "a"
    assert user(consume(service, token, "instance", X_Fragment_Name="a")) == "a"
    assert refusal(consume(service, token, "subaccount", X_Fragment_Name="a")) == NO_FRAGMENT
    assert user(consume(service, token, "subaccount", X_Fragment_Name="a@instance")) == "a"
    # A subscriber cannot use a fragment from elsewhere in its subaccount.
    acme = service.tenant("acme")
    acme.destinations["mail"] = mailbox()
    subscriber = access_token(oauth, service, "acme")
    fragment = "a@provider_instance"
    assert consume(service, subscriber, "subaccount", X_Fragment_Name=fragment).status == 403
    assert user(consume(service, subscriber, "provider_instance", X_Fragment_Name=fragment)) == "a"


# --- chains ---


def test_chains(service, token):
    service.destinations["mail"] = mailbox()
    service.chains["a-chain"] = ("key1", "key2")
    variables = {"X_chain_var_key1": "1", "X_chain_var_key2": "2"}
    assert find(service, token, X_chain_name="a-chain", **variables).status == 200
    assert find(service, token, X_chain_name="another", **variables).status == 400
    del variables["X_chain_var_key2"]
    answer = find(service, token, X_chain_name="a-chain", **variables)
    assert refusal(answer) == (400, "X-chain-var-key2 is missing")


# --- tokens ---


def element(answer: Answer) -> dict:
    assert answer.status == 200, answer.body
    (found,) = answer.json()["authTokens"]
    return found


def user_of(oauth: OAuthServer, found: dict) -> str:
    assert "error" not in found, found
    return oauth.key.verify(found["value"], "urn:mail")["email"]


def with_tokens(oauth: OAuthServer, client, authentication: str, common: bool = False) -> dict:
    properties = oauth.properties(client, authentication, common)
    return mailbox(mail__password=None, **properties)


@pytest.mark.parametrize("rotates", [False, True])
def test_refresh_token(oauth, service, token, rotates):
    client = oauth.mail_client("somebody", rotates=rotates)
    service.destinations["mail"] = with_tokens(oauth, client, "OAuth2RefreshToken")
    first = oauth.refresh_token(client, "user1")
    found = element(find(service, token, X_refresh_token=first))
    assert user_of(oauth, found) == "user1"
    assert (found["refresh_token"] == first) == (not rotates)
    if rotates:
        second = element(find(service, token, X_refresh_token=found["refresh_token"]))
        assert user_of(oauth, second) == "user1"
        assert "invalid_grant" in element(find(service, token, X_refresh_token=first))["error"]


def test_code(oauth, service, token):
    client = oauth.mail_client("somebody")
    service.destinations["mail"] = with_tokens(oauth, client, "OAuth2AuthorizationCode")
    code = oauth.code(client, "user1")
    assert user_of(oauth, element(find(service, token, X_code=code))) == "user1"
    assert "invalid_grant" in element(find(service, token, X_code=code))["error"]
    bound = oauth.code(client, "user1", "https://app.test/", VERIFIER)
    headers = {"X_redirect_uri": "https://app.test/", "X_code_verifier": VERIFIER}
    assert user_of(oauth, element(find(service, token, X_code=bound, **headers))) == "user1"
    another = oauth.code(client, "user1", "https://app.test/", VERIFIER)
    assert "invalid_grant" in element(find(service, token, X_code=another))["error"]


@pytest.mark.parametrize(
    "authentication, header",
    [("OAuth2RefreshToken", "X-refresh-token"), ("OAuth2AuthorizationCode", "X-code")],
)
def test_user_has_to_bring_something(oauth, service, token, authentication, header):
    client = oauth.mail_client("somebody")
    service.destinations["mail"] = with_tokens(oauth, client, authentication)
    assert refusal(find(service, token)) == (400, f"{header} is missing")
    assert find(service, token, query="?$skipTokenRetrieval=true").status == 200
    assert oauth.requests_of(client.id) == []


def test_common_token_service(oauth, service):
    """The token belongs to the tenant that asks, or to the one that it names."""
    service.tenant("acme").destinations["mail"] = service.destinations["mail"] = {}
    client = oauth.mail_client("user1", in_tenant={"acme": "user2"})
    mail = with_tokens(oauth, client, "OAuth2ClientCredentials", common=True)
    with_place = {**mail, "tokenServiceURL": oauth.url_of("{tenant}") + "/oauth/token"}
    provider, acme = access_token(oauth, service), access_token(oauth, service, "acme")
    for properties in (mail, with_place):
        service.destinations["mail"] = service.tenant("acme").destinations["mail"] = properties
        assert user_of(oauth, element(find(service, provider))) == "user1"
        assert user_of(oauth, element(find(service, acme))) == "user2"
        assert user_of(oauth, element(find(service, provider, X_tenant="acme"))) == "user2"
    assert "404" in element(find(service, provider, X_tenant="nobody"))["error"]


def test_parts_of_the_token_request(oauth, service, token):
    client = oauth.mail_client("user1", in_body=False)
    mail = with_tokens(oauth, client, "OAuth2ClientCredentials")
    service.destinations["mail"] = {
        **mail,
        "clientSecret": "another",
        "tokenServiceUser": client.id,
        "tokenServicePassword": client.secret,
        "tokenServiceURL.headers.X-Extra": "h",
        "tokenServiceURL.queries.q": "a b",
        "tokenService.body.extra": "b",
    }
    assert user_of(oauth, element(find(service, token))) == "user1"
    (request,) = oauth.requests_of(client.id)
    assert request.headers["X-Extra"] == "h"
    assert request.query == {"q": "a b"}
    assert request.form() == {"grant_type": "client_credentials", "extra": "b"}


def test_token_service_on_premise(oauth, service, token, connectivity_proxy):
    client = oauth.mail_client("user1")
    mail = with_tokens(oauth, client, "OAuth2ClientCredentials")
    url = "http://virtual.sap:8080/oauth/token"
    service.destinations["mail"] = {**mail, "ProxyType": "OnPremise", "tokenServiceURL": url}
    service.route = connectivity_proxy.route
    assert "does not expose" in element(find(service, token))["error"]
    connectivity_proxy.expose("virtual.sap", 8080, ("127.0.0.1", oauth.port))
    assert user_of(oauth, element(find(service, token))) == "user1"
    (request,) = oauth.requests_of(client.id)
    assert request.headers["Host"] == "virtual.sap:8080"
    service.destinations["mail"] |= {
        "tokenServiceURL": oauth.url + "/oauth/token",
        "tokenServiceURL.ProxyType": "Internet",
    }
    assert user_of(oauth, element(find(service, token))) == "user1"


def test_no_token_on_demand(oauth, service, token):
    client = oauth.mail_client("user1")
    service.destinations["mail"] = with_tokens(oauth, client, "OAuth2ClientCredentials")
    service.token_error = "the token service is a private endpoint"
    found = element(find(service, token))
    assert (found["value"], found["expires_in"]) == ("", "0")
    assert found["error"].endswith(service.token_error)
    assert oauth.requests_of(client.id) == []


def test_changed_answer(oauth, service, token):
    client = oauth.mail_client("user1")
    service.destinations["mail"] = with_tokens(oauth, client, "OAuth2ClientCredentials")
    service.behaviour = changed(lambda answer: answer["authTokens"][0].update(expires_in=5))
    assert element(find(service, token))["expires_in"] == 5


# --- tenants ---


def test_tenants(oauth, service):
    """The access token determines whose destinations are visible."""
    for tenant in ("acme", "umbrella"):
        service.tenant(tenant).destinations["mail"] = mailbox(tenant)
    service.destinations["mail"] = mailbox("provider")
    for tenant in ("acme", "umbrella"):
        answer = find(service, access_token(oauth, service, tenant))
        assert user(answer) == tenant
        assert answer.json()["owner"]["SubaccountId"] == oauth.tenant(tenant).id
    assert user(find(service, access_token(oauth, service))) == "provider"
    del service.tenant("acme").destinations["mail"]
    assert refusal(find(service, access_token(oauth, service, "acme"))) == NO_DESTINATION


# --- service keys ---


def test_key_by_name(oauth, service):
    key = service.service_key(by_name=True)
    assert key["url"] == oauth.url_of(PROVIDER)
    assert key["identityzone"] == PROVIDER
    assert ask_token(key["url"], oauth.clients[key["clientid"]]).status == 200


def test_key_with_a_certificate(oauth, service, certificates):
    service.destinations["mail"] = mailbox()
    key = service.service_key("x509")
    assert "clientsecret" not in key
    client = oauth.clients[key["clientid"]]
    before = certificates.client_context(client.certificate)
    token = ask_token(key["certurl"], client, before).json()["access_token"]
    assert user(find(service, token)) == "robot"
    renewed = service.renewed(key)
    assert {name for name in key if key[name] != renewed[name]} == {"certificate", "key"}
    assert ask_token(key["certurl"], client, before).status == 401
    after = certificates.client_context(client.certificate)
    assert ask_token(key["certurl"], client, after).status == 200


def test_renewed_secret(oauth, service):
    key = service.service_key()
    client = oauth.clients[key["clientid"]]
    renewed = service.renewed(key)
    assert {name for name in key if key[name] != renewed[name]} == {"clientsecret"}
    assert ask_token(oauth.url, client, client_secret=key["clientsecret"]).status == 401
    assert ask_token(oauth.url, client, client_secret=renewed["clientsecret"]).status == 200


def test_key_of_cloud_identity_services(oauth, service, certificates):
    """The token is valid only with its certificate, and for the first version of the API."""
    service.destinations["mail"] = mailbox()
    key = service.service_key("ias")
    client = oauth.clients[key["clientid"]]
    tls = certificates.client_context(client.certificate)
    form = {"grant_type": "client_credentials", "client_id": client.id}
    token = post(key["url"] + IAS_TOKEN_PATH, form, tls).json()["access_token"]

    def get(path: str, tls) -> Answer:
        headers = {"Authorization": f"Bearer {token}"}
        return fetch(key["uri"] + path, headers=headers, tls=tls)

    assert user(get(FIND + "mail", tls)) == "robot"
    assert get(FIND + "mail", certificates.client_context()).status == 401
    oauth.renew(client)
    other = certificates.client_context(client.certificate)
    assert get(FIND + "mail", other).status == 401
    assert get("/destination-configuration/v2/destinations/mail@subaccount", tls).status == 403
    assert find(service, token).status == 401


def entries(secret: dict) -> dict[str, str]:
    return {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}


def test_secrets(service):
    key = service.service_key("x509")
    fields = entries(key_secret("dest", "default", key))
    assert fields["certificate"] == key["certificate"]
    assert json.loads(fields[".metadata"])["credentialProperties"][0] == {
        "name": "clientid",
        "format": "text",
    }
    whole = entries(key_secret("dest", "default", key, secret_key="key"))
    assert json.loads(whole["key"]) == key
    (root,) = entries(key_secret("dest", "default", {**key, "n": [1]}, root_key="root")).values()
    assert json.loads(root) | key == json.loads(root)
    assert json.loads(root)["n"] == "[1]"
    assert entries(private_key_secret("x", "default", key["key"])) == {"pk.pem": key["key"]}


# --- SAP's own client ---


def trusting(certificates: Certificates, keys: dict[str, str]) -> dict[str, str]:
    return {**keys, "NODE_EXTRA_CA_CERTS": str(certificates.ca_file)}


def test_sap_client_brings_a_refresh_token(oauth, service):
    client = oauth.mail_client("somebody")
    service.destinations["mail"] = with_tokens(oauth, client, "OAuth2RefreshToken")
    keys = in_environment(destination=service.service_key())
    refresh_token = oauth.refresh_token(client, "user1")
    found = found_by_sap(keys, "mail", refreshToken=refresh_token)
    assert user_of(oauth, {"value": found["authTokens"][0]["value"]}) == "user1"


def test_sap_client_asks_for_a_tenant(oauth_provider, secrets, certificates):
    tls = certificates.server_context(certificates.services)
    with OAuthServer(oauth_provider, secrets, tls) as oauth:
        with DestinationService(oauth, secrets) as service:
            service.tenant("acme").destinations["mail"] = mailbox("acme")
            service.destinations["mail"] = mailbox("provider")
            keys = in_environment(destination=service.service_key(by_name=True))
            found = found_by_sap(trusting(certificates, keys), "mail", iss=oauth.url_of("acme"))
    assert found["originalProperties"]["mail.user"] == "acme"


def test_sap_client_shows_its_certificate(oauth, service, certificates):
    service.destinations["mail"] = mailbox()
    key = service.service_key("x509")
    found = found_by_sap(trusting(certificates, in_environment(destination=key)), "mail")
    assert found["originalProperties"] == mailbox()
    (request,) = oauth.requests_of(key["clientid"])
    assert request.certificate
