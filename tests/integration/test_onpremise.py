"""On-premise mail servers, reached through the Connectivity Proxy in local mode: a real Dovecot
behind it, and scripted servers."""

import json
import re
import threading
import time

import pytest
from test_probe import details, names, probed, text_of_step

from harness.backend import Pop3
from harness.clients import RawClient
from harness.connectivity_proxy import (
    FAILURE,
    NO_CLOUD_CONNECTOR,
    NO_SUCH_ADDRESS_TYPE,
    NO_SUCH_COMMAND,
    NOT_EXPOSED,
    OPEN,
    TOKEN,
    TRUSTED,
    UNAUTHENTICATED,
    UNREACHABLE,
    ConnectivityProxy,
    close,
    reply,
)
from harness.destination_service import key_secret
from harness.dns import hosts_file
from harness.installation import list_and_fetch
from harness.oauth import PROVIDER
from harness.tproxy import ROOT, destination
from harness.util import free_port, until

HOME = "sap-transp-proxy-system"
SECRET = "connectivity-key"
HOST = "mail.corp"  # a virtual host, whose address only the Cloud Connector knows
MAILS = [b"Subject: one\r\n\r\nfirst\r\n", b"Subject: two\r\n\r\nsecond\r\n"]
PROXY_TOKEN = "access token for the Connectivity Proxy"  # a detail of a probe
REFUSED = b"\1\1"  # the proxy's reply to a token that it refuses


def transparent_proxy(port: int, **more: object) -> dict:
    proxy = {"serviceName": "localhost", "tcpPort": port, **more}
    return {
        "apiVersion": "operator.kyma-project.io/v1alpha1",
        "kind": "TransparentProxy",
        "metadata": {"name": "transparent-proxy", "namespace": HOME},
        "spec": {"config": {"integration": {"connectivityProxy": proxy}}},
    }


@pytest.fixture
def tproxy(make_tproxy, oauth, directory):
    return make_tproxy("--hosts", str(hosts_file(directory, "localhost", *oauth.host_names())))


@pytest.fixture
def configure(tproxy):
    """Configures the Connectivity Proxy. With a service key, tproxy sends it tokens."""

    def configure(port: int, key: dict[str, object] | None = None) -> None:
        more = {}
        if key:
            tproxy.write(key_secret(SECRET, HOME, key, "key"), "secret.json")
            more["serviceCredentials"] = {"secretName": SECRET, "secretKey": "key"}
        tproxy.write(transparent_proxy(port, **more), "proxy.json")

    return configure


@pytest.fixture
def trusted(oauth, configure):
    """A configured proxy that needs no tokens."""
    with ConnectivityProxy(oauth, authorization=False) as proxy:
        configure(proxy.port)
        yield proxy


@pytest.fixture
def key(connectivity_proxy):
    return connectivity_proxy.service_key(by_name=True)


@pytest.fixture
def untrusting(connectivity_proxy, configure, key):
    """A configured proxy that needs tokens."""
    configure(connectivity_proxy.port, key)
    return connectivity_proxy


@pytest.fixture
def mail(dovecot):
    return dovecot.mailbox(MAILS)


def add(tproxy, host: str = HOST, port: int = 110, **properties: object) -> int:
    return tproxy.add("mail", host, port, ProxyType="OnPremise", **properties)


def add_mailbox(tproxy, mail, **properties: object) -> int:
    return add(tproxy, mail__user=mail.user, mail__password=mail.password, **properties)


def stat(port: int) -> str:
    with RawClient(port) as client:
        return client.command(b"STAT").decode()


def refusal(port: int) -> str:
    line = stat(port)
    assert line.startswith("-ERR "), line
    return line


# --- mail ---


def test_mail_without_a_token(tproxy, trusted, dovecot, mail):
    trusted.expose(HOST, 110, (dovecot.host, dovecot.pop3))
    port = add_mailbox(tproxy, mail)
    for _ in range(2):
        assert list_and_fetch(port) == MAILS
    tunnel, _ = trusted.tunnels.all()
    assert (tunnel.offered, tunnel.host, tunnel.port) == ([TRUSTED], HOST, 110)


@pytest.mark.parametrize("location", ["", "Walldorf 1"])
def test_mail_with_a_token(tproxy, untrusting, oauth, key, dovecot, mail, location):
    untrusting.expose(HOST, 110, (dovecot.host, dovecot.pop3), location=location)
    port = add_mailbox(tproxy, mail, CloudConnectorLocationId=location or None)
    for _ in range(2):
        assert list_and_fetch(port) == MAILS
    for tunnel in untrusting.tunnels.all():
        assert (tunnel.offered, tunnel.tenant, tunnel.location) == ([TOKEN], PROVIDER, location)
    (request,) = oauth.requests_of(key["clientid"])
    assert request.form()["grant_type"] == "client_credentials"


@pytest.mark.one_build
def test_token_with_a_certificate(tproxy, connectivity_proxy, configure, oauth, dovecot, mail):
    key = connectivity_proxy.service_key("x509")
    configure(connectivity_proxy.port, key)
    connectivity_proxy.expose(HOST, 110, (dovecot.host, dovecot.pop3))
    assert list_and_fetch(add_mailbox(tproxy, mail)) == MAILS
    (request,) = oauth.requests_of(key["clientid"])
    assert "client_secret" not in request.form()


@pytest.mark.parametrize("way", ["at once", "in pieces"])
def test_greeting_behind_the_reply(tproxy, trusted, dovecot, mail, way):
    trusted.expose(HOST, 110, (dovecot.host, dovecot.pop3))
    trusted.with_greeting = True
    trusted.in_pieces = way == "in pieces"
    assert list_and_fetch(add_mailbox(tproxy, mail)) == MAILS


def test_virtual_host_may_have_any_name(tproxy, trusted, dovecot, mail):
    """A virtual host may even have the name of this machine, which it does not refer to."""
    trusted.expose("127.0.0.1", 110, (dovecot.host, dovecot.pop3))
    port = add_mailbox(tproxy, mail, mail__pop3__host="127.0.0.1")
    assert list_and_fetch(port) == MAILS


# --- TLS, from end to end ---


@pytest.mark.parametrize("kind", ["pop3s", "stls"])
@pytest.mark.parametrize("host", ["pop.test", "other.test"])
def test_tls_verifies_the_virtual_host(tproxy, trusted, backend, certificates, kind, host):
    context = certificates.server_context(certificates.good)
    backend.script = Pop3(tls=context) if kind == "pop3s" else Pop3(stls=context)
    trusted.expose(host, 995, (backend.host, backend.port))
    how = {
        "pop3s": {"mail__transport__protocol": "pop3s"},
        "stls": {"mail__pop3__starttls__required": "true"},
    }
    port = add(tproxy, host, 995, **how[kind])
    if host == "pop.test":
        for _ in range(2):
            assert list_and_fetch(port) == [b"Subject: one\r\n\r\nfirst\r\n"]
        assert [session.tls_resumed for session in backend.sessions] == [False, True]
    else:
        line = refusal(port)
        assert line.startswith('-ERR [SYS/PERM] destination "mail": ')
        assert "other.test" in line


# --- possible replies of the proxy ---

REPLIES = {
    FAILURE: ("TEMP", "general failure, or the server closed the connection"),
    NOT_EXPOSED: ("PERM", "the Cloud Connector does not expose this host and port"),
    NO_CLOUD_CONNECTOR: (
        "TEMP",
        "the Cloud Connector is not connected, or its location ID is unknown",
    ),
    UNREACHABLE: ("TEMP", "the Cloud Connector cannot reach the host"),
    UNAUTHENTICATED: ("TEMP", "authentication failure"),
    6: ("TEMP", "the proxy refuses for a reason that is not known"),
    NO_SUCH_COMMAND: ("PERM", "the proxy does not support CONNECT"),
    NO_SUCH_ADDRESS_TYPE: ("PERM", "the proxy does not support this kind of address"),
}


def test_every_reply_is_told_apart(tproxy, trusted):
    port = add(tproxy)
    for code, (kind, words) in REPLIES.items():
        trusted.replies["connect"] = reply(code)
        told = f"no tunnel to {HOST}:110 through localhost:{trusted.port}: {words}"
        told += f" (SOCKS5 reply {code})"
        assert refusal(port) == f'-ERR [SYS/{kind}] destination "mail": {told}'
        logged = re.compile(rf"login failed \(\w+\): {re.escape(told)}")
        tproxy.logs.wait(lambda line, what=logged: what.fullmatch(line["msg"]), told)
    assert len(trusted.tunnels.all()) == len(REPLIES)


def test_refusals_of_a_cloud_connector(tproxy, untrusting, backend):
    port = add(tproxy)
    assert "the Cloud Connector is not connected" in refusal(port)
    untrusting.expose(HOST, 111, (backend.host, backend.port))
    assert "does not expose this host and port (SOCKS5 reply 2)" in refusal(port)
    untrusting.expose(HOST, 110, (backend.host, free_port()))
    assert "cannot reach the host (SOCKS5 reply 4)" in refusal(port)


@pytest.mark.parametrize(
    "step, said, expected",
    [
        ("method", b"\5\xff", "PERM.*wants an access token .it refuses method 0x00."),
        ("method", b"HTTP/1.1 400\r\n", "TEMP.*is not a SOCKS5 proxy .0x48 for the choice"),
        ("method", close, "TEMP.*the proxy closed the connection"),
        ("connect", close, "TEMP.*the proxy closed the connection"),
        ("connect", reply(OPEN)[:5], "TEMP.*the proxy closed the connection"),
    ],
)
def test_proxy_that_does_not_do_its_part(tproxy, trusted, step, said, expected):
    trusted.replies[step] = said
    assert re.search(rf"^-ERR \[SYS/{expected[:4]}\].*{expected[4:]}", refusal(add(tproxy)))


def test_proxy_away(tproxy, configure):
    configure(free_port())
    line = refusal(add(tproxy))
    assert line.startswith(f'-ERR [SYS/TEMP] destination "mail": no tunnel to {HOST}:110 through ')
    assert "refused" in line


def test_location_without_a_token(tproxy, trusted):
    line = refusal(add(tproxy, CloudConnectorLocationId="Walldorf"))
    assert line.startswith("-ERR [SYS/PERM] ")
    assert "a location ID can only be sent with an access token" in line
    assert trusted.tunnels.all() == []


# --- tokens ---


def refuse_once(dialogue) -> None:
    dialogue.request.sendall(REFUSED)
    del dialogue.owner.replies["authentication"]


def test_refused_token_is_renewed(tproxy, untrusting, oauth, key, dovecot, mail):
    untrusting.expose(HOST, 110, (dovecot.host, dovecot.pop3))
    port = add_mailbox(tproxy, mail)
    assert list_and_fetch(port) == MAILS
    untrusting.replies["authentication"] = refuse_once
    assert list_and_fetch(port) == MAILS
    assert len(oauth.requests_of(key["clientid"])) == 2
    assert len(untrusting.tunnels.all()) == 3


def test_refused_token_is_renewed_once(tproxy, untrusting, oauth, key, dovecot, mail):
    untrusting.expose(HOST, 110, (dovecot.host, dovecot.pop3))
    port = add_mailbox(tproxy, mail)
    assert list_and_fetch(port) == MAILS
    untrusting.replies["authentication"] = REFUSED
    line = refusal(port)
    assert line.startswith("-ERR [SYS/TEMP] ")
    assert "the proxy refuses the access token (status 1)" in line
    assert len(oauth.requests_of(key["clientid"])) == 2
    assert len(untrusting.tunnels.all()) == 3


def test_probe(tproxy, untrusting, dovecot, mail):
    """A probe has a step of its own for the tunnel, and tells a token that is refused."""
    untrusting.expose(HOST, 110, (dovecot.host, dovecot.pop3))
    add_mailbox(tproxy, mail)
    tunnel = ["the destination", "the addresses", "the connection", "the tunnel"]
    result = probed(tproxy, "mail")
    assert result["result"] == "ok" and names(result)[:5] == [*tunnel, "the greeting"]
    assert details(result, "the destination")[PROXY_TOKEN] == "asked for"
    assert text_of_step(result, "the connection").endswith(f":{untrusting.port}")
    assert text_of_step(result, "the tunnel") == f"to {HOST}, port 110"

    untrusting.replies["authentication"] = refuse_once
    result = probed(tproxy, "mail")
    assert result["result"] == "ok" and names(result)[:9] == [*tunnel, *tunnel, "the greeting"]
    cached, asked = (s["details"][PROXY_TOKEN] for s in result["steps"] if s["step"] == tunnel[0])
    assert re.fullmatch(r"cached for \d+\.\d s", cached) and asked == "asked for"
    refused, accepted = (s["text"] for s in result["steps"] if s["step"] == "the tunnel")
    assert refused == "the access token was refused: once more"
    assert accepted == f"to {HOST}, port 110"

    untrusting.replies["connect"] = reply(NOT_EXPOSED)
    result = probed(tproxy, "mail")
    assert (result["result"], names(result)) == ("config", tunnel)


def test_refused_again_and_again(tproxy, untrusting, oauth, key, dovecot, mail):
    """After refusals the Connectivity Proxy is not asked for a while, however many clients come;
    then one of them tries again."""
    untrusting.expose(HOST, 110, (dovecot.host, dovecot.pop3))
    port = add_mailbox(tproxy, mail)
    untrusting.replies["authentication"] = REFUSED
    assert "the proxy refuses the access token (status 1)" in refusal(port)
    asked, tunnels = len(oauth.requests_of(key["clientid"])), len(untrusting.tunnels.all())
    assert asked <= 2 and tunnels <= 2

    told, began = [], time.monotonic()
    threads = [threading.Thread(target=lambda: told.append(refusal(port))) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    paused = f"the Connectivity Proxy localhost:{untrusting.port} has refused the access token, "
    paused += "and a new one (it is not asked again for "
    assert len(told) == 100
    assert all(line.startswith("-ERR [SYS/TEMP] ") for line in told)
    # Each pause lasts at least 5 s and ends with one attempt.
    trials = int(time.monotonic() - began) // 5 + 1
    assert sum(paused not in line for line in told) <= trials
    assert len(oauth.requests_of(key["clientid"])) - asked <= trials
    assert len(untrusting.tunnels.all()) - tunnels <= 2 * trials

    del untrusting.replies["authentication"]
    until(lambda: stat(port).startswith("+OK"), "the end of the pause", every=0.3)
    assert list_and_fetch(port) == MAILS


def test_another_key_ends_the_pause(tproxy, untrusting, configure, oauth, dovecot, mail):
    untrusting.expose(HOST, 110, (dovecot.host, dovecot.pop3))
    port = add_mailbox(tproxy, mail)
    untrusting.replies["authentication"] = REFUSED
    assert "the proxy refuses the access token (status 1)" in refusal(port)
    assert "it is not asked again for" in refusal(port)
    del untrusting.replies["authentication"]
    start = len(tproxy.logs)
    configure(untrusting.port, untrusting.service_key(by_name=True))
    tproxy.logs.wait(
        lambda line: "its service key has changed" in line["msg"], "the new key", start=start
    )
    until(lambda: stat(port).startswith("+OK"), "the mailbox", every=0.1)


def test_key_that_is_refused(tproxy, configure, connectivity_proxy, key):
    configure(connectivity_proxy.port, {**key, "clientsecret": "not the secret"})
    line = refusal(add(tproxy))
    assert line.startswith('-ERR [AUTH] destination "mail": no access token for the Connectivity')
    assert connectivity_proxy.tunnels.all() == []


# --- token services behind it ---


@pytest.fixture
def add_with_tokens(tproxy, untrusting, oauth, oauth_dovecot):
    """Adds a destination whose token service is on-premise, too."""
    mail = oauth_dovecot.mailbox(MAILS)
    client = oauth.mail_client(mail.user)
    untrusting.expose(HOST, 110, (oauth_dovecot.host, oauth_dovecot.pop3), location="L1")
    untrusting.expose("auth.corp", 80, ("127.0.0.1", oauth.port), location="L1")

    def add_it(**more: object) -> int:
        properties = {
            **oauth.properties(client),
            "tokenServiceURL": "http://auth.corp/oauth/token",
            "CloudConnectorLocationId": "L1",
            "mail.user": mail.user,
            "mail.password": None,
            **more,
        }
        return add(tproxy, **properties)

    return add_it


def hosts(proxy) -> list[str]:
    return [tunnel.host for tunnel in proxy.tunnels.all()]


def test_token_service_behind_the_proxy(untrusting, add_with_tokens, oauth):
    port = add_with_tokens()
    for _ in range(2):
        assert list_and_fetch(port) == MAILS
    assert hosts(untrusting) == ["auth.corp", HOST, HOST]
    assert untrusting.tunnels.all()[0].location == "L1"


def test_token_service_on_the_internet(untrusting, add_with_tokens, oauth):
    more = {"tokenServiceURL": oauth.url + "/oauth/token"}
    assert list_and_fetch(add_with_tokens(**more, **{"tokenServiceURL.ProxyType": "Internet"}))
    assert hosts(untrusting) == [HOST]


def test_refused_on_the_way_to_the_token_service(untrusting, add_with_tokens, oauth, key):
    untrusting.replies["authentication"] = refuse_once
    assert list_and_fetch(add_with_tokens()) == MAILS
    assert len(oauth.requests_of(key["clientid"])) == 2


def test_refused_again_on_the_way_to_the_token_service(untrusting, add_with_tokens, oauth, key):
    untrusting.replies["authentication"] = REFUSED
    line = refusal(add_with_tokens())
    assert line.startswith('-ERR [SYS/TEMP] destination "mail": authorization server: no tunnel ')
    assert "the proxy refuses the access token" in line
    assert len(oauth.requests_of(key["clientid"])) == 2
    assert hosts(untrusting) == ["", ""]


def test_token_service_that_is_not_exposed(add_with_tokens):
    line = refusal(add_with_tokens(tokenServiceURL="http://other.corp/oauth/token"))
    assert line.startswith("-ERR [SYS/PERM] ")
    assert "no tunnel to other.corp:80" in line
    assert "does not expose this host and port" in line


# --- no route, and the example ---


def test_example(tproxy, oauth, dovecot, mail):
    """The delivered example works with another port and mailbox in it."""
    place = ROOT / "examples/onpremise"
    found = json.loads((place / "erp-mail.json").read_text())
    config = json.loads((place / "transparentproxy.json").read_text())
    with ConnectivityProxy(oauth, authorization=False) as proxy:
        proxy.expose(found["mail.pop3.host"], 110, (dovecot.host, dovecot.pop3))
        config["spec"]["config"]["integration"]["connectivityProxy"]["tcpPort"] = proxy.port
        tproxy.write(found | {"mail.user": mail.user, "mail.password": mail.password})
        tproxy.write(config, "transparentproxy.json")
        assert list_and_fetch(tproxy.port("erp-mail")) == MAILS
    assert not [line for line in tproxy.printed.all() if line.startswith("TransparentProxy")]


def test_without_a_connectivity_proxy(tproxy, oauth, configure, dovecot, mail):
    name, key = "mail", "config.integration.connectivityProxy.serviceName"
    properties = {"mail__user": mail.user, "mail__password": mail.password}
    tproxy.write(destination(name, HOST, 110, ProxyType="OnPremise", **properties))
    tproxy.printed.wait(lambda line: key in line, "what is missing")
    with ConnectivityProxy(oauth, authorization=False) as proxy:
        proxy.expose(HOST, 110, (dovecot.host, dovecot.pop3))
        configure(proxy.port)
        assert list_and_fetch(tproxy.port(name)) == MAILS
        (tproxy.directory / "proxy.json").unlink()
        start = len(tproxy.printed)
        tproxy.printed.wait(lambda line: key in line, "what is missing", start=start - 1)
