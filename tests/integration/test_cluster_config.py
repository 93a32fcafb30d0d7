"""Changes of the TransparentProxy object take effect while the program runs."""

import json
import signal
import threading

import pytest

from harness.backend import BlackHole
from harness.destination_service import DestinationService, key_secret
from harness.http_server import after
from harness.installation import (
    INSTANCE,
    PROXIES,
    Installation,
    destination_cr,
    list_and_fetch,
    transparent_proxy,
)
from harness.samples import HOME
from harness.tproxy import destination
from harness.util import until

LABEL = "transparent-proxy.connectivity.api.sap/namespace"
OBJECT = f"{PROXIES}/transparent-proxy"


def status(installation: Installation, name: str = "transparent-proxy") -> dict:
    return installation.kube.get(f"{PROXIES}/{name}").get("status", {})


def condition(installation: Installation, kind: str, name: str = "transparent-proxy") -> dict:
    conditions = status(installation, name).get("conditions", [])
    return next((c for c in conditions if c["type"] == kind), {})


def wait_state(installation: Installation, state: str, name: str = "transparent-proxy") -> None:
    until(lambda: status(installation, name).get("state") == state, f"the state {state}")


@pytest.fixture
def port(installation, cluster_tproxy, add_destination, namespace) -> int:
    """The target port of a CR "mail-a"."""
    add_destination("mail")
    installation.kube.apply(destination_cr("mail-a", namespace, "mail"))
    return installation.available(namespace, "mail-a")


# --- Processing ---


def written(api) -> list[str]:
    """Returns the states that have been written to the object, one for each write."""
    return [
        json.loads(request.body)["status"]["state"]
        for request in api.writes()
        if request.path.endswith("/transparentproxies/transparent-proxy/status")
        and request.status == 200
    ]


def test_processing(installation, make_cluster_tproxy, add_destination, namespace, api):
    """From a change of the spec until the last CR has been brought to it. What becomes of CRs later,
    and a restart, have nothing to do with it."""

    def start():
        return make_cluster_tproxy(installation, url=api.url).ready()

    def observed() -> bool:
        generation = installation.kube.get(OBJECT)["metadata"]["generation"]
        return condition(installation, "Configured")["observedGeneration"] == generation

    add_destination("mail")
    installation.configure()
    proxy = start()
    installation.kube.apply(destination_cr("mail-a", namespace, "mail"))
    port = installation.available(namespace, "mail-a")
    wait_state(installation, "Ready")
    before = len(written(api))
    release = threading.Event()
    installation.service.behaviour = after(release)
    installation.key = installation.service.service_key()  # so that destinations are read anew
    installation.configure(manager={"executionIntervalMinutes": 10})
    wait_state(installation, "Processing")
    assert condition(installation, "Configured")["status"] == "True"
    assert not observed()
    release.set()
    wait_state(installation, "Ready")
    assert observed()
    assert installation.available(namespace, "mail-a") == port

    installation.kube.apply(destination_cr("mail-b", namespace, "mail"))
    installation.available(namespace, "mail-b")
    proxy.signal(signal.SIGTERM)
    proxy.wait()
    start()
    installation.kube.apply(destination_cr("mail-c", namespace, "mail"))
    installation.available(namespace, "mail-c")
    assert written(api)[before:] == ["Processing", "Ready"]


# --- single keys ---


@pytest.mark.one_build
def test_log_level(installation, make_cluster_tproxy):
    installation.configure(logging={"level": "DEBUG"})
    proxy = make_cluster_tproxy(installation, "--log-level", None).ready()

    def level(*wanted: str) -> str:
        return proxy.program.run("log-level", *wanted, "--control", proxy.control).stdout.strip()

    assert level() == "debug"
    installation.configure(logging={"level": "warn"})
    until(lambda: level() == "warn", "the new level")
    level("trace")
    installation.configure(logging={"level": "warn"}, metrics={"prometheus": {"enabled": True}})
    until(lambda: proxy.http("/metrics")[0] == 200, "the next configuration")
    assert level() == "trace", "what a person has set stays until the level itself changes"
    installation.configure()
    until(lambda: level() == "info", "the default")


@pytest.mark.one_build
def test_connection_timeout(installation, cluster_tproxy, namespace):
    """The Destination service does not answer a connection."""
    proxy = transparent_proxy(INSTANCE)
    proxy["spec"]["config"]["integration"]["destinationService"]["connectionTimeoutSeconds"] = 2
    with BlackHole() as hole:
        key = {**installation.service.service_key(), "uri": f"http://{hole.host}:{hole.port}"}
        installation.kube.apply(key_secret(INSTANCE, HOME, key, "key"), proxy)
        installation.kube.apply(destination_cr("mail-a", namespace, "mail"))
        shown = installation.wait_condition(namespace, "mail-a", "ConfigurationFailed")
        assert f"no answer from {hole.host}:{hole.port} within 2 s" in shown["message"]


@pytest.mark.one_build
def test_metrics(installation, cluster_tproxy):
    def served() -> bool:
        return cluster_tproxy.http("/metrics")[0] == 200

    assert not served()
    installation.configure(metrics={"prometheus": {"enabled": True}})
    until(served, "metrics")
    assert cluster_tproxy.metric("tp_destination_crs") == 0
    installation.configure(metrics={"prometheus": {"enabled": False}})
    until(lambda: not served(), "no metrics")


def test_default_instance(
    installation, make_cluster_tproxy, oauth, secrets, oauth_dovecot, namespace
):
    """Both instances have a destination of this name."""
    mails = {name: oauth_dovecot.mailbox([f"Subject: {name}\r\n".encode()]) for name in "ab"}
    with DestinationService(oauth, secrets) as another:
        for service, (name, mail) in zip(
            (installation.service, another), mails.items(), strict=True
        ):
            own = {"mail__user": mail.user, "mail__password": mail.password}
            properties = destination("mail", oauth_dovecot.host, oauth_dovecot.pop3, **own)
            service.destinations["mail"] = properties
            installation.kube.apply(key_secret(name, HOME, service.service_key(), "key"))
        installation.kube.apply(transparent_proxy("a", "b"))
        make_cluster_tproxy(installation).ready()
        installation.kube.apply(destination_cr("mail-a", namespace, "mail"))
        port = installation.available(namespace, "mail-a")
        assert list_and_fetch(port) == mails["a"].files()
        installation.kube.apply(transparent_proxy("b", "a"))
        until(lambda: list_and_fetch(port) == mails["b"].files(), "the other instance's mailbox")


@pytest.mark.one_build
def test_default_scope(installation, port, namespace):
    def policies() -> set[str]:
        return set(installation.policies())

    until(lambda: policies() == {f"tproxy-namespace-{namespace}"}, "the policy of the namespace")
    scope = {"accessControl": {"destinations": {"defaultScope": "clusterWide"}}}
    installation.configure(security=scope)
    until(lambda: policies() == {"tproxy-clusterwide"}, "the policy for everybody")


def test_labelled_namespaces(installation, cluster_tproxy, port, namespace):
    """Objects that belong to a namespace without the label are removed, and so is the status of its
    CRs."""
    path = f"/api/v1/namespaces/{namespace}"

    def withdrawn() -> bool:
        return not installation.ours() and not installation.condition(namespace, "mail-a")

    installation.configure(managedNamespacesMode="labelSelector")
    until(withdrawn, "everything to be withdrawn")
    installation.kube.patch(path, {"metadata": {"labels": {LABEL: "somebody-else"}}})
    installation.kube.patch(path, {"metadata": {"labels": {LABEL: HOME}}})
    list_and_fetch(installation.available(namespace, "mail-a"))
    installation.kube.patch(path, {"metadata": {"labels": {LABEL: None}}})
    until(withdrawn, "everything to be withdrawn")
    assert json.loads(cluster_tproxy.http("/destinationCRs")[1])["CustomResources"] == []
    installation.configure(managedNamespacesMode="all")
    list_and_fetch(installation.available(namespace, "mail-a"))


# --- the object as a whole ---


@pytest.mark.one_build
def test_ready(installation, cluster_tproxy):
    wait_state(installation, "Ready")
    shown = {c["type"]: (c["status"], c["reason"]) for c in status(installation)["conditions"]}
    assert shown == {
        "Configured": ("True", "ConfigurationApplied"),
        "CredentialsAvailable": ("True", "SecretsRead"),
        "SomeKeysIgnored": ("False", "AllHonoured"),
    }


@pytest.mark.one_build
def test_second_object(installation, cluster_tproxy):
    """The older object counts. When it is deleted the other one takes its place."""
    wait_state(installation, "Ready")
    metrics = {"metrics": {"prometheus": {"enabled": True}}}
    installation.kube.apply(transparent_proxy(INSTANCE, name="z-second", **metrics))
    wait_state(installation, "Error", "z-second")
    message = 'Custom Resource with name "transparent-proxy" already exists in this namespace.'
    assert condition(installation, "Configured", "z-second")["message"] == message
    assert status(installation)["state"] == "Ready"
    assert cluster_tproxy.http("/metrics")[0] == 404
    installation.kube.delete(f"{PROXIES}/transparent-proxy")
    wait_state(installation, "Ready", "z-second")
    assert cluster_tproxy.http("/metrics")[0] == 200


@pytest.mark.one_build
def test_deletion_that_waits(installation, cluster_tproxy, port, namespace):
    """A finalizer of somebody else, such as SAP's operator, keeps the object: it stays in force and
    says what holds it."""
    kube, path = installation.kube, f"{PROXIES}/transparent-proxy"
    wait_state(installation, "Ready")
    kube.patch(path, {"metadata": {"finalizers": ["example.com/hold"]}})
    kube.delete(path)
    wait_state(installation, "Deleting")
    said = condition(installation, "Configured")
    assert said["status"] == "True"
    assert said["message"].endswith("a finalizer holds it; see its metadata.finalizers.")
    list_and_fetch(port)
    kube.patch(path, {"metadata": {"finalizers": None}})
    until(lambda: "was deleted" in cluster_tproxy.http("/status")[1], "the deletion to be seen")
    installation.configure()
    wait_state(installation, "Ready")
    list_and_fetch(port)


@pytest.mark.one_build
def test_complaint_about_a_deleted_object(installation, cluster_tproxy):
    """The complaint ends when the object is deleted, even if another object takes its place."""
    installation.configure(tenantMode="some")
    wait_state(installation, "Warning")
    assert "tenantMode" in cluster_tproxy.http("/status")[1]
    installation.kube.delete(f"{PROXIES}/transparent-proxy")
    until(lambda: "tenantMode" not in cluster_tproxy.http("/status")[1], "the complaint to go")
    installation.kube.apply(transparent_proxy(INSTANCE, name="another"))
    wait_state(installation, "Ready", "another")
    assert "was deleted" not in cluster_tproxy.http("/status")[1]


def test_misconfiguration(installation, cluster_tproxy, port, namespace):
    """The last good configuration stays in force."""
    wait_state(installation, "Ready")
    wrong = {
        "metrics": {"prometheus": {"enabled": True}},
        "manager": {"executionIntervalMinutes": 0},
    }
    installation.configure(**wrong, logging={"level": "loud"})
    wait_state(installation, "Warning")
    said = condition(installation, "Configured")
    assert (said["status"], said["reason"]) == ("False", "InvalidConfiguration")
    assert "spec.config.manager.executionIntervalMinutes is 0;" in said["message"]
    assert 'spec.config.logging.level is "loud";' in said["message"]
    assert cluster_tproxy.http("/metrics")[0] == 404, "nothing of it is taken over"
    list_and_fetch(port)
    installation.kube.apply(destination_cr("mail-b", namespace, "mail"))
    list_and_fetch(installation.available(namespace, "mail-b"))
    installation.configure()
    wait_state(installation, "Ready")
    assert condition(installation, "Configured")["status"] == "True"


@pytest.mark.one_build
def test_names_to_be_filled_in(installation, cluster_tproxy):
    """The status has SAP's sentences about them."""
    proxy = transparent_proxy(INSTANCE, "second", tenantMode="shared")
    integration = proxy["spec"]["config"]["integration"]
    first, second = integration["destinationService"]["instances"]
    first["serviceCredentials"]["secretName"] = ""
    second["name"] = ""
    integration["connectivityProxy"] = {"serviceName": "connectivity-proxy.cp"}
    installation.kube.apply(proxy)
    wait_state(installation, "Warning")
    message = condition(installation, "Configured")["message"]
    for sentence in (
        f'secretName should be provided for destination service instance: "{INSTANCE}".',
        "Destination service instance name should be provided.",
        "secretName should be provided for Connectivity Proxy service instance in shared mode.",
    ):
        assert sentence in message


@pytest.mark.one_build
def test_ignored_keys(installation, cluster_tproxy):
    proxy = transparent_proxy(INSTANCE, metering={"enabled": True}, unheard={"of": "it"})
    proxy["spec"]["deployment"] = {"replicas": {"tcp": 3}}
    installation.kube.apply(proxy)

    def ignored() -> dict | None:
        said = condition(installation, "SomeKeysIgnored")
        return said if said.get("status") == "True" else None

    said = until(ignored, "the condition")
    assert "spec.config.metering.enabled: true has no effect here." in said["message"]
    assert "spec.deployment.replicas.tcp: 3 has no effect here." in said["message"]
    assert status(installation)["state"] == "Ready"
    proxy["spec"]["compliance"] = {"fipsModeEnabled": True}
    installation.kube.apply(proxy)
    wait_state(installation, "Warning")
    assert (
        "spec.compliance.fipsModeEnabled: true"
        in (condition(installation, "SomeKeysIgnored")["message"])
    )
