"""Many sessions that start at the same time ask only once for what they need."""

import contextlib
import json
import signal
import threading
import time

import pytest

from harness.clients import RawClient, xoauth2
from harness.dns import hosts_file
from harness.http_server import after, where
from harness.installation import ClusterTproxy, destination_cr
from harness.oauth import PROVIDER
from harness.samples import TENANTS
from harness.tproxy import destination
from harness.util import until

SESSIONS = 200

# Tokens with a shorter remaining life are not kept for the next session.
TOKEN_MARGIN = 10

# The time for which answers of the Destination service are kept.
CACHED = 120


class Storm:
    """Sessions with several targets that all start before any of them can go on."""

    def __init__(self, proxy: ClusterTproxy, server, holds):
        """`server` holds back the requests that `holds` matches until all sessions wait."""
        self._proxy = proxy
        self._server = server
        self._release = threading.Event()
        server.behaviour = where(holds, after(self._release))

    def run(self, *ports: int, login: bytes = b"", questions: int = 1) -> None:
        """Runs the sessions: each has to list the mailbox and quit. `login` is the first thing that
        each sends. `questions` is the number of questions that each session causes; at the last one
        it waits."""
        with contextlib.ExitStack() as stack:
            before = self._questions()
            clients = []
            for number in range(SESSIONS):
                client = RawClient(ports[number % len(ports)])
                clients.append(stack.enter_context(client))
                client.send(login + b"LIST\r\nQUIT\r\n")
            expected = before + SESSIONS * questions
            until(lambda: self._questions() >= expected, "all sessions to wait")
            self._release.set()
            for client in clients:
                if login:
                    assert client.line().startswith(b"+OK")
                assert client.line().startswith(b"+OK")
                assert len(client.lines()) > 0
                assert client.line().startswith(b"+OK")

    def _questions(self) -> int:
        return self._proxy.metric("tproxy_destination_cache_total")


@pytest.fixture
def mailbox(oauth, oauth_dovecot, messages):
    """Returns a function that makes destinations of OAuth2ClientCredentials for one mailbox."""
    mail = oauth_dovecot.mailbox(messages)

    def make(name: str, **options) -> tuple[dict, str]:
        """Returns the destination and the id of the client whose tokens it needs."""
        client = oauth.mail_client(mail.user, **options)
        properties = oauth.properties(client) | {"mail.user": mail.user, "mail.password": None}
        return destination(name, oauth_dovecot.host, oauth_dovecot.pop3, **properties), client.id

    return make


def is_listening(port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError, ConnectionResetError), RawClient(port):
        return True
    return False


@pytest.mark.parametrize("tenants", [[], ["acme", "umbrella"]], ids=["dedicated", "shared"])
def test_cold_start(
    installation, make_cluster_tproxy, oauth, mailbox, namespace, directory, tenants
):
    """Clients come back after a restart: their listeners exist, and nothing else is known. In
    shared mode there is a client for each tenant."""
    properties, mail_client = mailbox("mail")
    service, targets = installation.service, tenants or [PROVIDER]
    for tenant in targets:
        service.tenant(tenant).destinations["mail"] = properties
    installation.key = service.service_key(by_name=True)
    mode = "shared" if tenants else "dedicated"
    installation.configure(metrics={"prometheus": {"enabled": True}}, tenantMode=mode)
    cr = destination_cr("mail-a", namespace, "mail")
    cr["metadata"]["annotations"] = {TENANTS: json.dumps(tenants)} if tenants else {}
    installation.kube.apply(cr)
    hosts = ("--hosts", str(hosts_file(directory, *oauth.host_names())))
    first = make_cluster_tproxy(installation, *hosts)
    installation.wait_condition(namespace, "mail-a", "ConfigurationSuccessful")
    names = [f"mail-a-{tenant}" for tenant in tenants] or ["mail-a"]
    ports = [installation.target_port(name) for name in names]
    first.signal(signal.SIGTERM)
    assert first.wait() == 0

    access_client, n = installation.key["clientid"], len(targets)
    assert len(oauth.requests_of(access_client)) == len(service.finds("mail", False)) == n
    assert not service.finds("mail", True)
    second = make_cluster_tproxy(installation, *hosts)
    storm = Storm(second, oauth, lambda request: True)
    until(lambda: all(map(is_listening, ports)), "the listeners")
    storm.run(*ports)
    assert len(service.finds("mail", True)) == n
    assert len(oauth.requests_of(mail_client)) == n, "tproxy has not asked for a mail token itself"
    second.ready()
    # The controller and the sessions share one access token for each tenant.
    assert len(oauth.requests_of(access_client)) == 2 * n
    assert len(service.finds("mail", False)) == 2 * n


def test_nothing_is_kept(installation, make_cluster_tproxy, oauth, mailbox):
    """All tokens and answers have expired when the sessions start, and again when more sessions
    start. Two destinations need two requests, and one access token is enough for both."""
    service = installation.service
    installation.key = service.service_key(lifetime=TOKEN_MARGIN)
    access_client = installation.key["clientid"]
    for name in ("one", "two"):
        service.destinations[name], _ = mailbox(name, lifetime=TOKEN_MARGIN)
    installation.configure(metrics={"prometheus": {"enabled": True}})
    namespace = installation.kube.namespace()
    proxy = make_cluster_tproxy(installation)
    ports = []
    for name in ("one", "two"):
        installation.kube.apply(destination_cr(name, namespace, name))
        ports.append(installation.available(namespace, name))
    for _ in range(2):
        tokens = len(oauth.requests_of(access_client))
        finds = [len(service.finds(name, True)) for name in ("one", "two")]
        storm = Storm(proxy, oauth, lambda request: request.form()["client_id"] == access_client)
        storm.run(*ports)
        assert len(oauth.requests_of(access_client)) == tokens + 1
        for name, before in zip(("one", "two"), finds, strict=True):
            assert len(service.finds(name, True)) == before + 1


def test_tokens_of_one_user(installation, make_cluster_tproxy, oauth, oauth_dovecot, messages):
    """A user's programs log in at the same time, with a new refresh token and again after its token
    has expired: each time there is one request."""
    service, mail = installation.service, oauth_dovecot.mailbox(messages)
    client = oauth.mail_client("nobody", lifetime=TOKEN_MARGIN)
    properties = oauth.properties(client, "OAuth2RefreshToken") | {"mail.password": None}
    service.destinations["mail"] = destination(
        "mail", oauth_dovecot.host, oauth_dovecot.pop3, **properties
    )
    installation.configure(metrics={"prometheus": {"enabled": True}})
    namespace = installation.kube.namespace()
    installation.kube.apply(destination_cr("mail-a", namespace, "mail"))
    proxy = make_cluster_tproxy(installation)
    port = installation.available(namespace, "mail-a")
    login = xoauth2(mail.user, oauth.refresh_token(client, mail.user))
    for finds in (1, 2):
        storm = Storm(proxy, service, lambda request: "X-refresh-token" in request.headers)
        # The first request reads the destination.
        storm.run(port, login=b"AUTH XOAUTH2 %b\r\n" % login, questions=2)
        assert len(service.finds("mail", True)) == finds
        assert len(oauth.requests_of(client.id)) == finds
    assert len(oauth.requests_of(installation.key["clientid"])) == 1
    assert len(service.finds("mail", False)) == 2, "the controller's, and one for all sessions"


@pytest.mark.slow
@pytest.mark.one_build
@pytest.mark.timeout(CACHED + 120)
def test_the_service_away_for_longer_than_its_cache(
    installation, make_cluster_tproxy, oauth, oauth_dovecot, mailbox, namespace
):
    """While the service is away, sessions work as long as their token is valid or the password is
    known."""
    service, mail = installation.service, oauth_dovecot.mailbox([b"Subject: one\r\n\r\n"])
    basic = {"mail.user": mail.user, "mail.password": mail.password}
    service.destinations |= {
        "basic": destination("basic", oauth_dovecot.host, oauth_dovecot.pop3, **basic),
        "long": mailbox("long")[0],
        "short": mailbox("short", lifetime=CACHED // 2)[0],
    }
    user = oauth.mail_client("nobody")
    service.destinations["user"] = service.destinations["basic"] | oauth.properties(
        user, "OAuth2RefreshToken"
    )
    login = xoauth2(mail.user, oauth.refresh_token(user, mail.user))
    installation.configure()
    crs = [destination_cr(name, namespace, name) for name in service.destinations]
    installation.kube.apply(*crs)
    make_cluster_tproxy(installation)
    ports = {name: installation.available(namespace, name) for name in service.destinations}

    def answer(name: str) -> bytes:
        with RawClient(ports[name]) as client:
            if name == "user":
                assert client.command(b"AUTH XOAUTH2 " + login).startswith(b"+OK")
            return client.command(b"STAT")

    for name in ports:
        assert answer(name).startswith(b"+OK")
    service.stop()
    end = time.monotonic() + CACHED + 5

    def is_over() -> bool:
        for name in ("basic", "long", "user"):
            assert answer(name).startswith(b"+OK")
        return time.monotonic() > end

    until(is_over, "the end of the cache", CACHED * 2, every=1)
    assert answer("short").startswith(b'-ERR [SYS/TEMP] destination "short": ')
    service.start()
    until(lambda: answer("short").startswith(b"+OK"), "the service to be asked again", 60, every=1)
