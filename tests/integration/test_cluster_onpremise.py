"""The Connectivity Proxy of a cluster is found and followed, and compared with the
configuration."""

import pytest

from harness.backend import BlackHole
from harness.clients import RawClient
from harness.connectivity_proxy import TOKEN, TRUSTED, ConnectivityProxy
from harness.destination_service import key_secret
from harness.dns import hosts_file
from harness.installation import (
    CONNECTIVITY,
    CONNECTIVITY_HOSTS,
    INSTANCE,
    PROXIES,
    destination_cr,
    list_and_fetch,
    transparent_proxy,
)
from harness.samples import HOME
from harness.util import until

pytestmark = pytest.mark.one_build

HOST = "mail.corp"
CR = "mail-a"
NOT_CONFIGURED = "ConnectivityProxy-NotConfigured"
KYMA_HOST = "connectivity-proxy.kyma-system.svc.cluster.local"
CREDENTIALS = {"serviceCredentials": {"secretName": "connectivity", "secretKey": "key"}}


@pytest.fixture
def proxy(oauth):
    """A proxy that needs no tokens."""
    with ConnectivityProxy(oauth, authorization=False) as proxy:
        yield proxy


@pytest.fixture
def configure(installation):
    """Configures these keys for the Connectivity Proxy; None: the configuration does not mention
    it."""

    def configure(connectivity: dict | None, **config: object) -> None:
        fields = transparent_proxy(INSTANCE, **config)
        if connectivity is not None:
            namespace, service = CONNECTIVITY
            proxy = {"serviceName": f"{service}.{namespace}", **connectivity}
            fields["spec"]["config"]["integration"]["connectivityProxy"] = proxy
        installation.kube.apply(key_secret(INSTANCE, HOME, installation.key, "key"), fields)

    return configure


def in_namespace(name: str, *objects: dict) -> list[dict]:
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, *objects]


@pytest.fixture
def mail(installation, proxy, add_destination, oauth_dovecot, namespace):
    """The mailbox of a CR whose mail server can be reached only through the Cloud Connector."""
    virtual = {"mail__pop3__host": HOST, "mail__pop3__port": "110"}
    mail = add_destination("mail", ProxyType="OnPremise", **virtual)
    proxy.expose(HOST, 110, (oauth_dovecot.host, oauth_dovecot.pop3))
    installation.kube.apply(destination_cr(CR, namespace, "mail"))
    return mail


@pytest.fixture
def start(make_cluster_tproxy, installation, directory, oauth):
    hosts = hosts_file(directory, *oauth.host_names(), *CONNECTIVITY_HOSTS, KYMA_HOST)
    return lambda: make_cluster_tproxy(installation, "--hosts", str(hosts)).ready()


def usable(installation) -> dict:
    """Returns the condition that reports a problem; {} if there is none."""
    status = installation.kube.get(f"{PROXIES}/transparent-proxy").get("status", {})
    found = [c for c in status.get("conditions", []) if c["type"] == "ConnectivityProxyUsable"]
    return found[0] if found else {}


def test_helm_and_what_changes_later(
    installation, proxy, configure, mail, start, namespace, oauth, directory
):
    """The proxy first trusts everybody, then needs authorization, then has credentials, then
    another tenant mode."""
    kube, cp = installation.kube, CONNECTIVITY[0]
    kube.apply(*in_namespace(cp, proxy.config_map(cp)))
    configure({})
    start()
    port = installation.available(namespace, CR)
    assert list_and_fetch(port) == mail.files()
    assert proxy.tunnels.all()[-1].offered == [TRUSTED]

    proxy.authorization = True
    kube.apply(proxy.config_map(cp, by_operator=True))
    shown = installation.wait_condition(namespace, CR, NOT_CONFIGURED)
    assert "config.integration.connectivityProxy.serviceCredentials" in shown["message"]
    until(lambda: usable(installation), "the condition of the configuration")
    assert "serviceCredentials" in usable(installation)["message"]
    with RawClient(port) as client:
        line = client.command(b"STAT")
    assert line.startswith(b"-ERR [SYS/PERM] ") and b"serviceCredentials" in line

    configure(CREDENTIALS)
    key = proxy.service_key(by_name=True)
    kube.apply(key_secret("connectivity", HOME, key, "key"))
    assert list_and_fetch(installation.available(namespace, CR)) == mail.files()
    assert proxy.tunnels.all()[-1].offered == [TOKEN]
    until(lambda: not usable(installation), "the condition to go")

    proxy.tenant_mode = "shared"
    kube.apply(proxy.config_map(cp))
    shown = installation.wait_condition(namespace, CR, "ProxyTenantModeMismatch")
    assert "tenantMode of the Connectivity Proxy is shared" in shown["message"]
    proxy.tenant_mode = "dedicated"
    kube.apply(proxy.config_map(cp))
    installation.available(namespace, CR)


def test_rotated_key(installation, proxy, configure, mail, start, namespace, oauth):
    kube, cp = installation.kube, CONNECTIVITY[0]
    proxy.authorization = True
    kube.apply(*in_namespace(cp, proxy.config_map(cp)))
    configure(CREDENTIALS)
    for _ in range(2):
        key = proxy.service_key(by_name=True)
        kube.apply(key_secret("connectivity", HOME, key, "key"))
        if not proxy.tunnels.all():
            start()
        port = installation.available(namespace, CR)

        def with_new_key(port=port, client=key["clientid"]) -> bool:
            assert list_and_fetch(port) == mail.files()
            return len(oauth.requests_of(client)) == 1

        until(with_new_key, "the new key to be used")


def test_kyma(installation, proxy, configure, mail, start, namespace):
    """Kyma's proxy is found without a configuration, even if it is installed later."""
    configure(None)
    start()
    shown = installation.wait_condition(namespace, CR, NOT_CONFIGURED)
    assert "config.integration.connectivityProxy.serviceName" in shown["message"]
    assert not usable(installation)
    installation.kube.apply(*in_namespace("kyma-system", proxy.kyma_info()))
    assert list_and_fetch(installation.available(namespace, CR)) == mail.files()
    assert proxy.tunnels.all()[-1].offered == [TRUSTED]

    proxy.authorization = True
    installation.kube.apply(proxy.config_map("kyma-system", by_operator=True))
    installation.wait_condition(namespace, CR, NOT_CONFIGURED)


def test_configuration_that_makes_no_sense(
    installation, proxy, configure, mail, start, namespace
):
    kube, cp = installation.kube, CONNECTIVITY[0]
    configure({})
    start()
    shown = installation.wait_condition(namespace, CR, NOT_CONFIGURED)
    name = CONNECTIVITY[1]
    assert f'ConfigMap with name "{name}" not found in namespace: "{cp}".' in shown["message"]
    good = proxy.config_map(cp)
    text = good["data"]["connectivity-proxy-config.yml"]
    bad = text.replace("tenantMode: dedicated", "tenantMode: [dedicated]")
    kube.apply(*in_namespace(cp, {**good, "data": {"connectivity-proxy-config.yml": bad}}))
    until(
        lambda: "tenantMode has a form that" in installation.condition(namespace, CR)["message"],
        "the condition that names the key",
    )
    kube.apply(good)
    assert list_and_fetch(installation.available(namespace, CR)) == mail.files()
    kube.delete(f"/api/v1/namespaces/{cp}/configmaps/{name}")
    installation.wait_condition(namespace, CR, NOT_CONFIGURED)


def test_proxy_away(installation, proxy, configure, mail, start, namespace, oauth):
    """A missing proxy is not an error of the CR; clients are told."""
    cp = CONNECTIVITY[0]
    installation.kube.apply(*in_namespace(cp, proxy.config_map(cp)))
    configure({})
    start()
    port = installation.available(namespace, CR)
    proxy.__exit__(None, None, None)
    with RawClient(port) as client:
        line = client.command(b"STAT")
    assert line.startswith(b"-ERR [SYS/TEMP] ")
    assert f"no tunnel to {HOST}:110 through {CONNECTIVITY_HOSTS[-1]}".encode() in line
    assert installation.condition(namespace, CR)["reason"] == "ConfigurationSuccessful"


def test_connection_timeout(installation, proxy, configure, mail, start, namespace):
    """The port is given as SAP's Helm chart spells it."""
    cp = CONNECTIVITY[0]
    installation.kube.apply(*in_namespace(cp, proxy.config_map(cp)))
    with BlackHole() as hole:
        configure({"tcp": {"port": hole.port}, "connectionTimeoutSeconds": 2})
        start()
        with RawClient(installation.available(namespace, CR)) as client:
            line = client.command(b"STAT").decode()
    assert line.startswith("-ERR [SYS/TEMP] ")
    assert f"no answer from {hole.host}:{hole.port} within 2 s" in line
