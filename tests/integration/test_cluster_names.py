"""Each name and each port belongs to one CR."""

import signal
import time

import pytest

from harness.clients import is_closed
from harness.destination_service import DestinationService
from harness.fault_proxy import is_write, refuse
from harness.http_server import Request, proper, where
from harness.installation import (
    CRS,
    MANIFESTS,
    TARGET_PORTS,
    Installation,
    destination_cr,
    list_and_fetch,
)
from harness.samples import HOME, TENANTS
from harness.tproxy import destination
from harness.util import until

DUPLICATE = "ConfigurationError-DuplicateDestinationCustomResource"
TAKEN = "ConfigurationError-K8sResourceWithNameAlreadyPresent"

# The label of a namespace that names its installation.
MANAGED_BY = "transparent-proxy.connectivity.api.sap/namespace"


def next_second() -> None:
    """Waits for the next second, because the API gives the age of objects in whole seconds."""
    now = int(time.time())
    until(lambda: int(time.time()) > now, "the next second")


def told(installation: Installation, namespace: str) -> set[str]:
    """Returns the reasons of all Events."""
    return {event["reason"] for event in installation.events(namespace)}


# --- one name in two namespaces ---


@pytest.fixture
def rivals(installation, add_destination):
    """Creates two CRs "mail-a", the older one first. Returns their namespaces and mailboxes. The
    older one's namespace is the last in the alphabet."""
    mails = {name: add_destination(name) for name in ("older", "younger")}
    younger, older = sorted(installation.kube.namespace() for _ in mails)

    def make() -> tuple[str, str, dict]:
        installation.kube.apply(destination_cr("mail-a", older, "older"))
        next_second()
        installation.kube.apply(destination_cr("mail-a", younger, "younger"))
        return older, younger, mails

    return make


def test_older_one_keeps_the_name(installation, cluster_tproxy, rivals):
    older, younger, mails = rivals()
    port = installation.available(older, "mail-a")
    condition = installation.wait_condition(younger, "mail-a", DUPLICATE)
    assert condition["status"] == "False"
    assert f'"{older}"' in condition["message"]
    assert installation.service_of(younger, "mail-a") is None
    assert list_and_fetch(port) == mails["older"].files()

    installation.kube.delete(f"{CRS}/namespaces/{older}/destinations/mail-a")
    port = installation.available(younger, "mail-a")
    assert list_and_fetch(port) == mails["younger"].files()
    assert installation.service_of(older, "mail-a") is None
    assert told(installation, younger) == {DUPLICATE, "ConfigurationSuccessful"}


def test_older_one_was_there_before_the_program(installation, make_cluster_tproxy, rivals):
    installation.configure()
    older, younger, mails = rivals()
    make_cluster_tproxy(installation).ready()
    assert list_and_fetch(installation.available(older, "mail-a")) == mails["older"].files()
    installation.wait_condition(younger, "mail-a", DUPLICATE)


def test_older_one_is_not_for_us(installation, cluster_tproxy, rivals):
    """An older CR that is not for mail belongs to another proxy and does not get the name."""
    installation.service.destinations["older"] = {"Type": "HTTP", "URL": "http://localhost"}
    older, younger, mails = rivals()
    assert list_and_fetch(installation.available(younger, "mail-a")) == mails["younger"].files()
    assert not installation.condition(older, "mail-a")


def test_namespace_that_is_labelled_later(installation, make_cluster_tproxy, rivals):
    """An older CR becomes ours when its namespace is labelled: the younger one keeps the name until
    it is deleted."""
    installation.configure(managedNamespacesMode="labelSelector")
    make_cluster_tproxy(installation).ready()
    older, younger, mails = rivals()

    def set_label(namespace: str, value: str | None) -> None:
        path = f"/api/v1/namespaces/{namespace}"
        installation.kube.patch(path, {"metadata": {"labels": {MANAGED_BY: value}}})

    set_label(younger, HOME)
    assert list_and_fetch(installation.available(younger, "mail-a")) == mails["younger"].files()
    set_label(older, HOME)
    installation.wait_condition(older, "mail-a", DUPLICATE)
    assert list_and_fetch(installation.available(younger, "mail-a")) == mails["younger"].files()
    set_label(younger, None)
    assert list_and_fetch(installation.available(older, "mail-a")) == mails["older"].files()
    until(lambda: not installation.condition(younger, "mail-a"), "the condition to be withdrawn")
    assert told(installation, older) == {DUPLICATE, "ConfigurationSuccessful"}
    assert told(installation, younger) == {"ConfigurationSuccessful"}


def test_name_that_is_in_use(installation, make_cluster_tproxy, add_destination):
    """The destination of the older CR does not exist, so the younger one is served. It keeps the
    name after the older one's destination is created, and after a restart."""
    mails = {name: add_destination(name) for name in ("older", "younger")}
    older, younger = sorted(installation.kube.namespace() for _ in mails)
    installation.configure()
    proxy = make_cluster_tproxy(installation).ready()
    installation.kube.apply(destination_cr("mail-a", older, "nothing"))
    installation.wait_condition(older, "mail-a", "ReferencedDestination-NotFound")
    next_second()
    installation.kube.apply(destination_cr("mail-a", younger, "younger"))
    port = installation.available(younger, "mail-a")
    installation.wait_condition(older, "mail-a", DUPLICATE)
    installation.kube.apply(destination_cr("mail-a", older, "older"))
    proxy.signal(signal.SIGTERM)
    assert proxy.wait() == 0
    make_cluster_tproxy(installation).ready()
    assert installation.available(younger, "mail-a") == port
    assert installation.condition(older, "mail-a")["reason"] == DUPLICATE
    assert list_and_fetch(port) == mails["younger"].files()

    installation.kube.delete(f"{CRS}/namespaces/{younger}/destinations/mail-a")
    assert list_and_fetch(installation.available(older, "mail-a")) == mails["older"].files()


# --- names of Services ---


@pytest.mark.parametrize(
    "name, objection",
    [
        ("mail.a", "it contains a dot"),
        ("a" * 64, "it is longer than 63 characters"),
        (
            "sap-transp-proxy-manager",
            'begin with "sap-transp-proxy-" are reserved for Services of the installation',
        ),
    ],
)
@pytest.mark.one_build
def test_name_that_no_service_can_have(
    installation, cluster_tproxy, add_destination, namespace, name, objection
):
    add_destination("mail")
    installation.kube.apply(destination_cr(name, namespace, "mail"))
    condition = installation.wait_condition(namespace, name, "ServiceCreationFailed")
    assert condition["status"] == "False"
    assert f'"{name}"' in condition["message"]
    assert condition["message"].endswith(f"{objection}; rename the Destination CR")
    assert not installation.ours()


@pytest.mark.one_build
def test_longest_name(installation, cluster_tproxy, add_destination, namespace):
    mail = add_destination("mail")
    name = "a" * 63
    installation.kube.apply(destination_cr(name, namespace, "mail"))
    assert list_and_fetch(installation.available(namespace, name)) == mail.files()


@pytest.mark.one_build
def test_name_that_begins_with_a_digit(installation, cluster_tproxy, add_destination, namespace):
    """The API server decides whether the name is valid; that of Kubernetes 1.36 accepts it
    (KEP-5311)."""
    mail = add_destination("mail")
    installation.kube.apply(destination_cr("123-abc", namespace, "mail"))
    assert list_and_fetch(installation.available(namespace, "123-abc")) == mail.files()
    service = installation.service_of(namespace, "123-abc")
    assert service["spec"]["externalName"] == f"123-abc.{HOME}.svc.cluster.local"


def test_api_server_that_wants_a_letter_first(
    installation, api, make_cluster_tproxy, add_destination, namespace
):
    """The API server's words become the condition. When it accepts the name, the mailbox is
    served."""
    words = 'Service "123-abc" is invalid: metadata.name: a DNS-1035 label must start with a letter'

    def creation(request: Request) -> bool:
        return request.method == "POST" and request.path.endswith("/services")

    mail = add_destination("mail")
    installation.configure()
    api.behaviour = where(creation, refuse(422, "Invalid", words))
    make_cluster_tproxy(installation, url=api.url).ready()
    installation.kube.apply(destination_cr("123-abc", namespace, "mail"))
    condition = installation.wait_condition(namespace, "123-abc", "ServiceCreationFailed")
    assert words in condition["message"]
    assert condition["message"].endswith("rename the Destination CR")
    api.behaviour = proper
    assert list_and_fetch(installation.available(namespace, "123-abc")) == mail.files()


def test_names_of_the_installation(installation, cluster_tproxy, add_destination, namespace):
    """No CR gets a reserved name, even if the Service is missing or the name comes from a
    tenant."""
    add_destination("mail")
    name = "sap-transp-proxy-int-healthcheck"
    path = f"/api/v1/namespaces/{HOME}/services/{name}"
    installation.kube.delete(path)
    installation.kube.apply(destination_cr(name, namespace, "mail"))
    condition = installation.wait_condition(namespace, name, "ServiceCreationFailed")
    assert "reserved" in condition["message"]
    assert condition["message"].endswith("rename the Destination CR")

    installation.configure(tenantMode="shared")
    cr = destination_cr("sap-transp", namespace, "mail")
    cr["metadata"]["annotations"] = {TENANTS: '["proxy-int-healthcheck"]'}
    installation.kube.apply(cr)
    condition = installation.wait_condition(namespace, "sap-transp", "FailedToApplyConfiguration")
    assert "reserved" in condition["message"]
    assert installation.service_of(HOME, name) is None
    assert installation.service_of(namespace, name) is None
    installation.kube.kubectl("apply", "-k", str(MANIFESTS))
    (port,) = installation.service_of(HOME, name)["spec"]["ports"]
    assert port["port"] == 80


# --- one port of two Services ---


def test_shared_port(installation, api, make_cluster_tproxy, add_destination, namespace):
    """Two Services have one target port when the program starts. The older one keeps it, and until
    the other has a new port nobody is connected there."""
    kube = installation.kube
    mails = {name: add_destination(name) for name in ("older", "another")}
    installation.configure()
    first = make_cluster_tproxy(installation, *TARGET_PORTS).ready()
    for name in mails:
        kube.apply(destination_cr(name, namespace, name))
        port = installation.available(namespace, name)
        next_second()
    first.kill()
    older = f"/api/v1/namespaces/{HOME}/services/older"
    ports = kube.get(older)["spec"]["ports"]
    kube.patch(older, {"spec": {"ports": [{**ports[0], "targetPort": port}]}})

    def changes(request: Request) -> bool:
        return is_write(request) and request.path.endswith("/services/another")

    with api.stalled(changes):
        make_cluster_tproxy(installation, *TARGET_PORTS, url=api.url)
        api.requests.wait(changes, "the change of the younger Service")
        assert is_closed(port)
    for name, mail in mails.items():
        until(lambda: installation.target_port("another") != port, "another port")
        until(lambda name=name: not is_closed(installation.target_port(name)), "the listener")
        assert list_and_fetch(installation.target_port(name)) == mail.files()
    assert installation.target_port("older") == port


# --- several installations ---


def labels(home: str, namespace: str, name: str) -> dict:
    return {
        "app.kubernetes.io/managed-by": "tproxy",
        "tproxy/home": home,
        "tproxy/destination-namespace": namespace,
        "tproxy/destination-name": name,
    }


def test_objects_of_another_installation(
    installation, make_cluster_tproxy, add_destination, namespace
):
    """Objects of another installation count neither as leftovers of a deleted CR nor as Services of
    an existing one."""
    kube = installation.kube
    spec = {"type": "ExternalName", "externalName": "mail.second.svc.cluster.local"}
    for name in ("gone", "mail-a"):
        metadata = {"name": name, "labels": labels("second", namespace, name)}
        kube.create(
            f"/api/v1/namespaces/{namespace}/services", {"metadata": metadata, "spec": spec}
        )
    policies = f"/apis/networking.k8s.io/v1/namespaces/{HOME}/networkpolicies"
    metadata = {"name": "theirs", "labels": labels("second", namespace, "gone")}
    kube.create(policies, {"metadata": metadata, "spec": {"podSelector": {}}})
    theirs = installation.versions()

    mail = add_destination("mail")
    installation.configure()
    make_cluster_tproxy(installation).ready()
    kube.apply(destination_cr("mail-a", namespace, "mail"))
    installation.wait_condition(namespace, "mail-a", TAKEN)
    kube.apply(destination_cr("mail-b", namespace, "mail"))
    assert list_and_fetch(installation.available(namespace, "mail-b")) == mail.files()
    for name in ("mail-a", "mail-b"):
        kube.delete(f"{CRS}/namespaces/{namespace}/destinations/{name}")
    until(lambda: not installation.ours(), "ours to be gone")
    assert theirs.items() <= installation.versions().items()


def test_two_installations(
    installation, make_cluster_tproxy, add_destination, oauth, secrets, oauth_dovecot
):
    """Two installations each manage the namespaces that are labelled for them. The same name may be
    in use in both."""
    kube = installation.kube
    with DestinationService(oauth, secrets) as service:
        second = Installation(kube, service, "second")
        mail = add_destination("mail")
        other = oauth_dovecot.mailbox([b"Subject: second\r\n"])
        own = {"mail__user": other.user, "mail__password": other.password}
        service.destinations["mail"] = destination(
            "mail", oauth_dovecot.host, oauth_dovecot.pop3, **own
        )
        spaces = {
            each.home: kube.namespace(**{MANAGED_BY: each.home}) for each in (installation, second)
        }
        for each in (installation, second):
            each.configure(managedNamespacesMode="labelSelector")
            make_cluster_tproxy(each).ready()
        for each in (installation, second):
            kube.apply(destination_cr("mail-a", spaces[each.home], "mail"))
        for each, box in ((installation, mail), (second, other)):
            port = each.available(spaces[each.home], "mail-a")
            assert list_and_fetch(port) == box.files()
            assert told(each, spaces[each.home]) == {"ConfigurationSuccessful"}

        kube.delete(f"{CRS}/namespaces/{spaces[HOME]}/destinations/mail-a")
        until(lambda: not installation.ours(), "those of the first to be gone")
        until(lambda: len(second.ours()) == 3, "both Services and the policy of the second")
        assert list_and_fetch(port) == other.files()
