"""The conversation of SAP's page on POP3, from a pod, by name: through the cluster's DNS and
kube-proxy and the image's tproxy to the mail server."""

import pytest

from harness.clients import xoauth2
from harness.installation import destination_cr
from harness.samples import TENANTS
from node.clients import Knocker, telnet

COMMANDS = ("list", "retr 1", "retr 2", "quit")


def converse(pod, host: str, mailbox: str, *login: str, port: int = 110) -> None:
    """Types what the page shows; `login` is for a user with a token."""
    with Knocker(pod, port) as client:
        client.knock(host)
    session = telnet(pod, host, *login, *COMMANDS, port=port)
    shown = session.stdout
    assert session.returncode == 0, f"{host}: {shown}{session.stderr}"
    assert f"Connected to {host}" in shown
    for number in (1, 2):
        assert f"\n{number} " in shown and f"\nSubject: {number}\n" in shown
    assert shown.count(f"\n{mailbox}\n") == 2
    assert "closed by foreign host" in shown


def test_home_namespace(cluster, installation, add_destination):
    add_destination("at-home")
    home = installation.home
    installation.kube.apply(destination_cr("at-home", home, "at-home"))
    installation.available(home, "at-home")
    pod = cluster.client(home, "client")
    for host in ("at-home", f"at-home.{home}", f"at-home.{home}.svc.cluster.local"):
        converse(pod, host, "at-home")


def test_another_namespace(cluster, installation, namespace, add_destination):
    """An ExternalName Service leads to the home namespace."""
    add_destination("elsewhere")
    installation.kube.apply(destination_cr("elsewhere", namespace, "elsewhere"))
    installation.available(namespace, "elsewhere")
    alias = installation.service_of(namespace, "elsewhere")
    assert alias["spec"]["externalName"] == f"elsewhere.{installation.home}.svc.cluster.local"
    near = cluster.client(namespace, "near")
    far = cluster.client(installation.kube.namespace(), "far")
    converse(near, "elsewhere", "elsewhere")
    for pod in (near, far):
        converse(pod, f"elsewhere.{namespace}", "elsewhere")


def test_another_port(cluster, installation, namespace, add_destination):
    add_destination("ported")
    cr = destination_cr("ported", namespace, "ported", service={"port": 1110})
    installation.kube.apply(cr)
    installation.available(namespace, "ported")
    converse(cluster.client(namespace, "client"), "ported", "ported", port=1110)


@pytest.mark.parametrize(
    "authentication",
    ["OAuth2ClientCredentials", "OAuth2RefreshToken", "OAuth2AuthorizationCode"],
)
def test_tokens(cluster, installation, namespace, add_destination, oauth, authentication):
    """The other kinds of destination on the page. The user of the last two sends a token."""
    name = authentication.lower()
    mail = add_destination(name, mail__password=None)
    client = oauth.mail_client(mail.user)
    installation.service.destinations[name] |= oauth.properties(client, authentication)
    login = []
    if authentication != "OAuth2ClientCredentials":
        issue = oauth.code if "Code" in authentication else oauth.refresh_token
        login.append(f"AUTH XOAUTH2 {xoauth2(mail.user, issue(client, mail.user)).decode()}")
    installation.kube.apply(destination_cr(name, namespace, name))
    installation.available(namespace, name)
    converse(cluster.client(namespace, "client"), f"{name}.{namespace}", name, *login)


def test_tenants(cluster, installation, namespace, destination_service, dovecot, add_destination):
    """In shared mode each tenant has a Service of its own, <cr>-<tenant>."""
    tenants = ("tenant-subdomain", "another-tenant-subdomain")
    for tenant in tenants:
        add_destination(tenant)
        own = destination_service.destinations.pop(tenant)
        destination_service.tenant(tenant).destinations["mail"] = {**own, "Name": "mail"}
    installation.configure(tenantMode="shared")
    try:
        cr = destination_cr("shared", namespace, "mail")
        quoted = ", ".join(f'"{tenant}"' for tenant in tenants)
        cr["metadata"]["annotations"] = {TENANTS: f"[{quoted}]"}
        installation.kube.apply(cr)
        installation.wait_condition(namespace, "shared", "ConfigurationSuccessful")
        pod = cluster.client(namespace, "client")
        for tenant in tenants:
            converse(pod, f"shared-{tenant}.{namespace}", tenant)
    finally:
        installation.configure()
