"""Every kind of destination in the documentation works over every transport, for one tenant and for
two. The mail comes from a real Dovecot, which verifies the tokens of a real OAuth server, directly
or through the Connectivity Proxy. Every failure is reported."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from harness.clients import RawClient
from harness.connectivity_proxy import ConnectivityProxy
from harness.destination_service import DestinationService
from harness.dns import hosts_file
from harness.dovecot import PASSWORD_MARK, Dovecot, Mailbox
from harness.http_server import proper, status, where
from harness.installation import (
    CONNECTIVITY_HOSTS,
    ClusterTproxy,
    Installation,
    destination_cr,
    list_and_fetch,
)
from harness.oauth import COMMON_HOST, PROVIDER, UNKNOWN_TENANT, Client, OAuthServer
from harness.samples import TENANTS
from harness.secret_registry import Secrets
from harness.tproxy import destination
from harness.user_logins import fetch, log_in
from harness.util import until, work_directory

# The tenants whose destinations exist.
MODES = {"dedicated": [PROVIDER], "shared": ["acme", "umbrella"]}

PROXY_TYPES = ("Internet", "OnPremise")
TECHNICAL = {"basic": "BasicAuthentication", "credentials": "OAuth2ClientCredentials"}
USERS = {"refresh": "OAuth2RefreshToken", "code": "OAuth2AuthorizationCode"}

# The protocols, each with more properties.
STLS = {"mail.pop3.starttls.enable": "true", "mail.pop3.starttls.required": "true"}
TRANSPORTS = {"pop3": ("pop3", {}), "pop3s": ("pop3s", {}), "stls": ("pop3", STLS)}

# The virtual host behind which Cloud Connectors expose Dovecot; its certificate has the name.
VIRTUAL_HOST = "pop.test"
VIRTUAL_PORTS = {"pop3": 110, "pop3s": 995}


@dataclass(frozen=True)
class Kind:
    """A kind of destination."""

    login: str
    proxy_type: str
    transport: str = "pop3"

    def __str__(self) -> str:
        return f"{self.login}-{self.proxy_type.lower()}-{self.transport}"

    @property
    def authentication(self) -> str:
        return (TECHNICAL | USERS)[self.login]

    def properties(self, dovecot: Dovecot) -> dict[str, str]:
        """Returns the properties that say how to reach Dovecot."""
        protocol, more = TRANSPORTS[self.transport]
        host, port = "localhost", getattr(dovecot, protocol)
        if self.proxy_type == "OnPremise":
            host, port = VIRTUAL_HOST, VIRTUAL_PORTS[protocol]
        more = {**more, "ProxyType": self.proxy_type, "mail.transport.protocol": protocol}
        return destination(str(self), host, port, **more)


KINDS = [
    Kind(login, proxy_type, transport)
    for login in (*TECHNICAL, *USERS)
    for proxy_type in PROXY_TYPES
    for transport in TRANSPORTS
]


class Site:
    """An installation in one of the tenant modes."""

    def __init__(
        self,
        installation: Installation,
        oauth: OAuthServer,
        connectivity: ConnectivityProxy,
        dovecot: Dovecot,
        mode: str,
    ):
        self.installation = installation
        self.oauth = oauth
        self.connectivity = connectivity
        self.dovecot = dovecot
        self.tenants = MODES[mode]
        self._shared = mode == "shared"
        self.namespace = installation.kube.namespace()
        self.mails: dict[tuple[str, str], Mailbox] = {}  # by name of the destination, and tenant
        self.users: dict[tuple[str, str], str] = {}  # the tokens' users, by the same keys
        self.clients: dict[str, Client] = {}
        for tenant in self.tenants:
            for protocol, port in VIRTUAL_PORTS.items():
                address = (dovecot.host, getattr(dovecot, protocol))
                connectivity.expose(VIRTUAL_HOST, port, address, tenant)
            # The Destination service fetches tokens through the provider's Cloud Connector.
            host = urlsplit(oauth.url_of(tenant) if self._shared else oauth.url).hostname
            connectivity.expose(host, oauth.port, ("127.0.0.1", oauth.port))

    def add(self, name: str, kind: Kind, user: str = "", **options: object) -> dict:
        """Creates a destination for each tenant, each with a mailbox of its own, and returns the
        custom resource for all of them. The tokens open the mailbox of `user`, if given. `options`
        are those of the client that gets the tokens."""
        for tenant in self.tenants:
            message = f"Subject: {name}, {tenant}\r\n\r\n".encode()
            mail = self.mails[name, tenant] = self.dovecot.mailbox([message])
            self.users[name, tenant] = user or mail.user
        users = {tenant: self.users[name, tenant] for tenant in self.tenants}
        client = self.clients[name] = self.oauth.mail_client("nobody", users, **options)
        for tenant in self.tenants:
            mail = self.mails[name, tenant]
            properties = kind.properties(self.dovecot) | {"mail.user": mail.user}
            if kind.login == "basic":
                properties["mail.password"] = mail.password
            else:
                del properties["mail.password"]
                tokens = self.oauth.properties(client, kind.authentication, common=self._shared)
                properties |= tokens
            self.installation.service.tenant(tenant).destinations[name] = properties
        cr = destination_cr(name, self.namespace, name)
        if self._shared:
            cr["metadata"]["annotations"] = {TENANTS: json.dumps(self.tenants)}
        return cr

    def port(self, name: str, tenant: str) -> int:
        self.installation.wait_condition(self.namespace, name, "ConfigurationSuccessful")
        return self.installation.target_port(f"{name}-{tenant}" if self._shared else name)

    def token(self, name: str, kind: Kind, tenant: str, **options: object) -> str:
        """Returns the token that a user of the tenant sends; "" if the kind needs none."""
        if kind.login in TECHNICAL:
            return ""
        issue = self.oauth.refresh_token if kind.login == "refresh" else self.oauth.code
        return issue(self.clients[name], self.users[name, tenant], tenant=tenant, **options)

    def fetch(self, name: str, tenant: str, token: str) -> list[bytes]:
        """Fetches the mails as the documentation describes it."""
        port = self.port(name, tenant)
        return fetch(port, self.mails[name, tenant].user, token) if token else list_and_fetch(port)

    def answer(self, name: str, tenant: str, token: str) -> bytes:
        """Returns the answer to the first thing that a client says."""
        port = self.port(name, tenant)
        if token:
            return log_in(port, self.mails[name, tenant].user, token)
        with RawClient(port) as client:
            return client.command(b"LIST")


@pytest.fixture(scope="module", params=MODES)
def site(request, program, kube, certificates, oauth_provider, oauth_dovecot) -> Iterator[Site]:
    """An installation with a destination and a custom resource of each kind."""
    mode, secrets = request.param, Secrets()
    with (
        work_directory("destinations") as directory,
        OAuthServer(oauth_provider, secrets, certificates=certificates) as oauth,
        DestinationService(oauth, secrets, certificates=certificates) as service,
        ConnectivityProxy(oauth, tenant_mode=mode) as connectivity,
    ):
        kube.reset()
        installation = Installation(kube, service)
        installation.key = service.service_key(by_name=True)
        service.route = connectivity.route
        site = Site(installation, oauth, connectivity, oauth_dovecot, mode)
        kube.apply(*(site.add(str(kind), kind) for kind in KINDS))
        installation.configure(connectivity=connectivity, tenantMode=mode)
        flags = installation.mode(directory) | {
            "--ca-file": str(certificates.ca_file),
            "--hosts": str(hosts_file(directory, *oauth.host_names("nobody"), *CONNECTIVITY_HOSTS)),
        }
        with ClusterTproxy(program, directory, flags) as proxy:
            yield site
        secrets.add(PASSWORD_MARK)
        assert not secrets.shown_in(proxy.everything_said())


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_mail(site, kind):
    """Each tenant gets its own mail, in whatever order the tenants come."""
    name = str(kind)
    for tenant in (*site.tenants, *reversed(site.tenants)):
        begun = len(site.connectivity.tunnels)
        found = site.fetch(name, tenant, site.token(name, kind, tenant))
        assert found == site.mails[name, tenant].files()
        tunnels = {tunnel.tenant for tunnel in site.connectivity.tunnels.all()[begun:]}
        assert tunnels == ({tenant} if kind.proxy_type == "OnPremise" else set())
    login = ("PLAIN" if kind.login == "basic" else "XOAUTH2", kind.transport != "pop3")
    for tenant in site.tenants:
        assert site.dovecot.logins(site.mails[name, tenant].user, 2) == [login] * 2


# --- failures ---

OAUTH = ("credentials", *USERS)


# For tests in which the mode makes no difference, and for tests of tenants.
dedicated = pytest.mark.parametrize("site", ["dedicated"], indirect=True)
shared = pytest.mark.parametrize("site", ["shared"], indirect=True)


def kinds(*logins: str):
    found = [Kind(login, proxy_type) for login in logins for proxy_type in PROXY_TYPES]
    return pytest.mark.parametrize("kind", found, ids=str)


def apply(site: Site, name: str, kind: Kind, **options: object) -> str:
    """Applies a destination and its CR, see Site.add. Returns the first tenant."""
    site.installation.kube.apply(site.add(name, kind, **options))
    tenant = site.tenants[0]
    site.port(name, tenant)
    return tenant


def check_one_try(site: Site, name: str, tenant: str, token: str) -> None:
    """Checks that the mail server refuses a new token once and is then not asked again."""
    assert site.answer(name, tenant, token) == b"-ERR [AUTH] Authentication failed."
    for _ in range(3):
        answer = site.answer(name, tenant, token)
        assert answer.startswith(
            b'-ERR [AUTH] destination "%b": the mail server refused the login: ' % name.encode()
        )
        assert b"not asked again for" in answer
    assert site.dovecot.refusals(site.mails[name, tenant].user) == 1


def check_no_try(
    site: Site, name: str, tenant: str, token: str, reason: bytes, response: bytes = b"AUTH"
) -> None:
    """Checks that no token reaches the mail server, and that the token service is not asked again
    for each client."""
    for _ in range(5):
        answer = site.answer(name, tenant, token)
        assert answer.startswith(b'-ERR [%b] destination "%b": ' % (response, name.encode()))
        assert reason in answer
    assert len(site.oauth.requests_of(site.clients[name].id)) < 5
    assert site.dovecot.refusals(site.mails[name, tenant].user) == 0


@pytest.mark.one_build
@dedicated
@kinds(*OAUTH)
def test_tokens_that_have_expired(site, kind):
    """The tokens have expired when they reach the mail server."""
    name = f"expired-{kind}"
    tenant = apply(site, name, kind, age=7200)
    check_one_try(site, name, tenant, site.token(name, kind, tenant))


@pytest.mark.one_build
@dedicated
@kinds(*OAUTH)
def test_tokens_for_another_mailbox(site, kind):
    name = f"another-{kind}"
    tenant = apply(site, name, kind, user="somebody-else")
    check_one_try(site, name, tenant, site.token(name, kind, tenant))


@pytest.mark.one_build
@dedicated
@pytest.mark.parametrize("login", ["credentials", "refresh"])
def test_tokens_that_get_too_old(site, login):
    """A token is used until the mail server refuses it; another one then replaces it in the same
    login."""
    name, kind = f"old-{login}", Kind(login, "Internet")
    tenant = apply(site, name, kind, lifetime=3600, age=3598)
    token, mail = site.token(name, kind, tenant), site.mails[name, tenant]
    while not site.dovecot.refusals(mail.user):
        assert site.fetch(name, tenant, token) == mail.files()
    assert site.dovecot.refusals(mail.user) == 1
    assert len(site.oauth.requests_of(site.clients[name].id)) == 2


@pytest.mark.one_build
@dedicated
@pytest.mark.parametrize("login", ["credentials", "refresh"])
def test_tokens_that_cannot_be_renewed(site, login):
    """The mail server sees the old token only once more."""
    name, kind = f"last-{login}", Kind(login, "Internet")
    tenant = apply(site, name, kind, lifetime=3600, age=3598)
    token, mail = site.token(name, kind, tenant), site.mails[name, tenant]
    assert site.fetch(name, tenant, token) == mail.files()
    site.oauth.revoke(site.clients[name])
    until(lambda: site.answer(name, tenant, token).startswith(b"-ERR"), "the refusal")
    for _ in range(3):
        answer = site.answer(name, tenant, token)
        assert answer.startswith(b'-ERR [AUTH] destination "%b": ' % name.encode())
        assert b"invalid_client" in answer
    assert site.dovecot.refusals(mail.user) == 1


@pytest.mark.one_build
@dedicated
@kinds(*OAUTH)
def test_clients_that_are_revoked(site, kind):
    name = f"revoked-{kind}"
    tenant = apply(site, name, kind)
    token = site.token(name, kind, tenant)
    site.oauth.revoke(site.clients[name])
    check_no_try(site, name, tenant, token, b"invalid_client")


@pytest.mark.one_build
@dedicated
@kinds(*USERS)
def test_wrong_tokens(site, kind):
    name = f"wrong-{kind}"
    tenant = apply(site, name, kind)
    check_no_try(site, name, tenant, "4/no-such-thing-0123456789-abcdef", b"invalid_grant")
    outdated = site.token(name, kind, tenant, lifetime=-1)
    check_no_try(site, name, tenant, outdated, b"invalid_grant")
    good = site.token(name, kind, tenant)
    assert site.fetch(name, tenant, good) == site.mails[name, tenant].files()


@pytest.mark.one_build
@shared
def test_unknown_tenants(site):
    """The known tenants are served."""
    name = "half"
    cr = site.add(name, Kind("credentials", "Internet"))
    cr["metadata"]["annotations"][TENANTS] = json.dumps(["nobody", site.tenants[0]])
    site.installation.kube.apply(cr)
    seen = site.installation.wait_condition(site.namespace, name, "FailedToApplyConfiguration")
    assert seen["message"].startswith('Configuration failed for tenants: ["nobody"]')
    assert "could not be determined as valid tenant" in seen["message"]
    assert site.installation.service_of(site.namespace, f"{name}-nobody") is None
    port = site.installation.target_port(f"{name}-{site.tenants[0]}")
    assert list_and_fetch(port) == site.mails[name, site.tenants[0]].files()


@pytest.mark.one_build
@shared
@pytest.mark.parametrize(
    "login, code, response, reason",
    [
        ("credentials", 401, b"AUTH", b"refuses the client (401)"),
        ("credentials", 404, b"SYS/PERM", b"knows no such tenant (404)"),
        ("refresh", 401, b"AUTH", b"Response was: 401"),
        ("refresh", 404, b"AUTH", b"Response was: 404"),
    ],
)
def test_tenants_that_have_gone(site, login, code, response, reason):
    """Tenants that no longer exist get no tokens for the mail server; the others do."""
    name, kind = f"gone-{login}-{code}", Kind(login, "Internet")
    gone, other = apply(site, name, kind), site.tenants[1]
    host = f"{gone}.{COMMON_HOST}:{site.oauth.port}"
    refusal = where(lambda request: request.headers["Host"] == host, status(code, UNKNOWN_TENANT))
    site.oauth.behaviour = refusal
    check_no_try(site, name, gone, site.token(name, kind, gone), reason, response)
    token = site.token(name, kind, other)
    assert site.fetch(name, other, token) == site.mails[name, other].files()
    site.oauth.behaviour = proper
