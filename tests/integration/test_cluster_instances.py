"""Instances of the Destination service that are not just a Secret with a client secret:
certificates whose private key is in another Secret, and instances that SAP's BTP service operator
manages. Also certificates of other CAs, of the configuration and of a destination."""

import pytest

from harness.clients import RawClient
from harness.destination_service import key_secret, private_key_secret
from harness.dns import hosts_file
from harness.installation import (
    INSTANCE,
    PROXIES,
    destination_cr,
    list_and_fetch,
    transparent_proxy,
)
from harness.samples import HOME
from harness.util import until

GROUP = "services.cloud.sap.com"
DEFAULT = "sap-transp-proxy-default"


def definition(kind: str) -> dict:
    """Returns a minimal definition of a kind of the operator."""
    plural = f"{kind.lower()}s"
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {"type": "object", "properties": {"spec": anything}}
                    },
                }
            ],
        },
    }


@pytest.fixture
def operator(installation):
    """The kinds of SAP's BTP service operator."""
    kube, kinds = installation.kube, ("ServiceInstance", "ServiceBinding")
    kube.apply(*(definition(kind) for kind in kinds))
    crds = [f"crd/{kind.lower()}s.{GROUP}" for kind in kinds]
    kube.kubectl("wait", "--for=condition=Established", "--timeout=30s", *crds)
    yield
    kube.kubectl("delete", *crds)


def service_instance(name: str, offering: str = "destination") -> dict:
    spec = {"serviceOfferingName": offering, "servicePlanName": "lite"}
    return of_operator("ServiceInstance", name, spec)


def service_binding(name: str, instance: str, **spec: object) -> dict:
    return of_operator("ServiceBinding", name, {"serviceInstanceName": instance, **spec})


def of_operator(kind: str, name: str, spec: dict) -> dict:
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": HOME},
        "spec": spec,
    }


def said(installation, condition: str) -> str:
    """Returns what a condition of the TransparentProxy object says."""
    found = installation.kube.get(f"{PROXIES}/transparent-proxy").get("status", {})
    return next((c["message"] for c in found.get("conditions", []) if c["type"] == condition), "")


def wait_said(installation, condition: str, part: str) -> None:
    until(lambda: part in said(installation, condition), f"{condition} to say {part!r}", every=0.05)


@pytest.mark.parametrize("key", ["key", None], ids=["whole", "fields"])
def test_private_key_apart(
    installation, make_cluster_tproxy, add_destination, oauth, directory, namespace, key
):
    """A key with a certificate waits for its private key, which is in a second Secret."""
    installation.key = installation.service.service_key("x509")
    private_key = installation.key.pop("key")
    add_destination("inbox", [b"Subject: x\r\n\r\n"])
    installation.configure(key)
    hosts = hosts_file(directory, *oauth.host_names())
    make_cluster_tproxy(installation, "--hosts", str(hosts)).ready()
    missing = f'Secret with name "x509-svc-key-private-key" not found in namespace: "{HOME}".'
    wait_said(installation, "CredentialsAvailable", missing)
    installation.kube.apply(destination_cr("mail-a", namespace, "inbox"))
    installation.wait_condition(namespace, "mail-a", "DestinationServiceInstance-NotConfigured")
    installation.kube.apply(private_key_secret("x509-svc-key-private-key", HOME, private_key))
    assert list_and_fetch(installation.available(namespace, "mail-a")) == [b"Subject: x\r\n\r\n"]
    wait_said(installation, "CredentialsAvailable", "have been read")


def test_discovery(installation, operator, make_cluster_tproxy, add_destination, namespace):
    """Instances are bound, bound differently and unbound while the program runs."""
    kube = installation.kube
    add_destination("inbox", [b"Subject: x\r\n\r\n"])
    kube.apply(
        transparent_proxy(),
        service_instance(DEFAULT),
        service_instance("rooted"),
        service_instance("other", "xsuaa"),
        service_binding("other", "other"),
        service_binding("rooted-binding", "rooted", secretName="elsewhere", secretRootKey="root"),
        key_secret("elsewhere", HOME, installation.key, root_key="root"),
        destination_cr("mail-a", namespace, "inbox"),
        destination_cr("mail-r", namespace, "inbox", destinationServiceInstanceName="rooted"),
    )
    make_cluster_tproxy(installation).ready()
    list_and_fetch(installation.available(namespace, "mail-r"))
    installation.wait_condition(namespace, "mail-a", "DestinationServiceInstance-NotConfigured")
    kube.apply(service_binding("binding", DEFAULT))
    missing = f'Secret with name "binding" not found in namespace: "{HOME}".'
    wait_said(installation, "CredentialsAvailable", missing)
    kube.apply(key_secret("binding", HOME, installation.key))
    assert list_and_fetch(installation.available(namespace, "mail-a")) == [b"Subject: x\r\n\r\n"]
    wait_said(installation, "CredentialsAvailable", "have been read")
    kube.kubectl("delete", f"servicebindings.{GROUP}", "-n", HOME, "rooted-binding")
    installation.wait_condition(namespace, "mail-r", "DestinationServiceInstance-NotConfigured")


def test_additional_cas(
    installation, make_cluster_tproxy, oauth_dovecot, add_destination, certificates, namespace
):
    """A mail server with an unknown CA is trusted after a Secret has the CA's certificate. The
    server may then leave it out of its chain."""
    kube = installation.kube
    tls = {"mail__transport__protocol": "pop3s", "mail__pop3s__host": "localhost"}
    add_destination(
        "inbox", [b"Subject: x\r\n\r\n"], **tls, mail__pop3s__port=str(oauth_dovecot.pop3s)
    )
    proxy = transparent_proxy(INSTANCE)
    proxy["spec"]["additionalCAs"] = {"secretName": "cas", "secretKey": "ca.crt"}
    kube.apply(
        key_secret(INSTANCE, HOME, installation.key, "key"),
        proxy,
        destination_cr("mail-a", namespace, "inbox"),
    )
    make_cluster_tproxy(installation, "--ca-file", str(certificates.untrusted)).ready()
    wait_said(installation, "CredentialsAvailable", 'Secret with name "cas" not found')
    port = installation.available(namespace, "mail-a")
    with RawClient(port) as client:
        assert b"certificate" in client.command(b"STAT")
    kube.apply(private_key_secret("cas", HOME, certificates.ca_file.read_text(), "ca.crt"))
    wait_said(installation, "CredentialsAvailable", "have been read")
    assert list_and_fetch(port) == [b"Subject: x\r\n\r\n"]
    kube.kubectl("delete", "secret", "-n", HOME, "cas")
    wait_said(installation, "CredentialsAvailable", 'Secret with name "cas" not found')
    assert list_and_fetch(port) == [b"Subject: x\r\n\r\n"]


def test_trust_store(
    installation, make_cluster_tproxy, oauth_dovecot, add_destination, certificates, namespace
):
    """The Destination service delivers the certificates that TrustStoreLocation names. Another
    file, and a missing one, take effect."""
    tls = {"mail__transport__protocol": "pop3s", "mail__pop3s__host": "localhost"}
    files = installation.service.certificates
    files["mail.pem"] = certificates.ca_file.read_bytes()
    add_destination(
        "inbox",
        [b"Subject: x\r\n\r\n"],
        **tls,
        mail__pop3s__port=str(oauth_dovecot.pop3s),
        TrustStoreLocation="mail.pem",
    )
    installation.kube.apply(destination_cr("mail-a", namespace, "inbox"))
    installation.configure()
    make_cluster_tproxy(installation, "--ca-file", str(certificates.stranger_file)).ready()
    port = installation.available(namespace, "mail-a")
    assert list_and_fetch(port) == [b"Subject: x\r\n\r\n"]

    def answer() -> bytes:
        with RawClient(port) as client:
            return client.command(b"STAT")

    def change() -> None:
        installation.key = installation.service.service_key()
        installation.configure()  # with another key everything is read anew

    files["mail.pem"] = certificates.stranger_file.read_bytes()
    change()
    until(lambda: b"TrustStoreLocation" in answer(), "the other certificates")
    del files["mail.pem"]
    change()
    condition = installation.wait_condition(
        namespace, "mail-a", "ReferencedDestination-TrustStoreInvalid"
    )
    assert '"mail.pem" is not among the certificates' in condition["message"]
    assert b'"mail.pem" is not among the certificates' in answer()
    files["mail.pem"] = certificates.ca_file.read_bytes()
    assert installation.available(namespace, "mail-a") == port
    assert list_and_fetch(port) == [b"Subject: x\r\n\r\n"]
