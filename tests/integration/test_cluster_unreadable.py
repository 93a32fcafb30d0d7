"""Destination CRs that the CRD accepts and the program refuses: a condition says what to do, their
listeners are closed, and they are served again after a correction."""

import pytest

from harness.clients import is_closed
from harness.installation import CRS, Installation, destination_cr, list_and_fetch
from harness.samples import HOME
from harness.util import until

UNREADABLE = "ConfigurationFailed"
INVALID = "ConfigurationError-MultitenancyAnnotation-Invalid"
TENANTS = "transparent-proxy.connectivity.api.sap/tenant-subdomains"
WIDE = "tproxy-clusterwide"
CUT = "tproxy_kube_objects_cut_total"


def variables(n: int) -> dict:
    """Returns n variables of a chain; the program accepts 64."""
    return {"name": "chain", "variables": [{"name": f"v{i}", "value": "x"} for i in range(n)]}


# Specs that the program does not accept, each with a part of the condition's message.
MISTAKES = {
    "variables": (
        {"chainRef": variables(65)},
        "spec.chainRef.variables has more than 64 entries; remove some",
    ),
    "control character": (
        {"destinationServiceInstanceName": "a\tb"},
        "spec.destinationServiceInstanceName contains a control character; remove it",
    ),
    "long name": (
        {"destinationRef": {"name": "d" * 254}},
        "spec.destinationRef.name is longer than 253 octets; shorten it",
    ),
}


def path(namespace: str, name: str) -> str:
    return f"{CRS}/namespaces/{namespace}/destinations/{name}"


def refused(installation: Installation, namespace: str, name: str, words: str) -> None:
    """Waits until the condition reports the mistake and all objects of the CR are gone."""
    condition = installation.wait_condition(namespace, name, UNREADABLE)
    assert condition["status"] == "False" and words in condition["message"]
    until(lambda: not installation.service_of(HOME, name), "the Service to be withdrawn")
    until(lambda: not installation.service_of(namespace, name), "the alias to be withdrawn")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake(installation, cluster_tproxy, add_destination, namespace, mistake):
    """A mistake from the beginning: the CR is served after a correction."""
    mail = add_destination("mail")
    spec, words = MISTAKES[mistake]
    cr = destination_cr("mail-a", namespace, "mail")
    installation.kube.apply({**cr, "spec": {**cr["spec"], **spec}})
    refused(installation, namespace, "mail-a", words)
    assert {event["reason"] for event in installation.events(namespace)} == {UNREADABLE}
    installation.kube.apply(cr)
    assert list_and_fetch(installation.available(namespace, "mail-a")) == mail.files()


def test_change(installation, cluster_tproxy, add_destination, namespace):
    """A CR that is open to all namespaces is changed and becomes invalid: it is closed even for
    clients that were admitted before."""
    mail = add_destination("mail")
    wide = {"accessControl": {"scope": "clusterWide"}}
    narrow = {"accessControl": {"scope": "namespaced"}, "chainRef": variables(65)}
    installation.kube.apply(destination_cr("mail-a", namespace, "mail", **wide))
    port = installation.available(namespace, "mail-a")
    until(lambda: WIDE in installation.policies(), "the policy")

    installation.kube.apply(destination_cr("mail-a", namespace, "other", **narrow))
    until(lambda: is_closed(port), "the port to be closed")
    refused(installation, namespace, "mail-a", "spec.chainRef.variables")
    until(lambda: WIDE not in installation.policies(), "nobody to be admitted")
    assert not installation.ours()

    installation.kube.apply(destination_cr("mail-a", namespace, "mail"))
    assert list_and_fetch(installation.available(namespace, "mail-a")) == mail.files()
    until(lambda: WIDE not in installation.policies(), "the policy to be that of its namespace")


def test_restart(installation, make_cluster_tproxy, add_destination, namespace):
    """The CR changes while the program is down: its Services exist and its condition says True."""
    installation.configure()
    add_destination("mail")
    installation.kube.apply(destination_cr("mail-a", namespace, "mail"))
    first = make_cluster_tproxy(installation).ready()
    installation.available(namespace, "mail-a")
    first.kill()
    spec, words = MISTAKES["variables"]
    installation.kube.patch(path(namespace, "mail-a"), {"spec": spec})
    make_cluster_tproxy(installation).ready()
    refused(installation, namespace, "mail-a", words)
    assert not installation.ours()


def test_another_proxy_has_spoken(installation, cluster_tproxy, add_destination, namespace):
    """An invalid CR may belong to the proxy that has written its status."""
    add_destination("mail")
    cr = destination_cr("web", namespace, "web")
    refusal = {"type": "Available", "status": "True", "reason": "Theirs"}
    installation.service.destinations["web"] = {"Type": "HTTP", "URL": "http://localhost"}
    installation.kube.apply(cr)
    status = {"status": {"conditions": [refusal]}}
    installation.kube.patch(path(namespace, "web") + "/status", status)
    installation.kube.patch(path(namespace, "web"), {"spec": {"chainRef": variables(65)}})
    installation.kube.apply(destination_cr("mail-a", namespace, "mail"))
    installation.available(namespace, "mail-a")
    assert installation.condition(namespace, "web") == refusal


def test_too_many_tenants(installation, make_cluster_tproxy, add_destination, namespace):
    """The annotation has 10,000 names."""
    installation.configure(tenantMode="shared")
    make_cluster_tproxy(installation).ready()
    add_destination("mail")
    cr = destination_cr("mail-a", namespace, "mail")
    names = ",".join(f'"tenant-{i}"' for i in range(10000))
    cr["metadata"]["annotations"] = {TENANTS: f"[{names}]"}
    installation.kube.create(f"{CRS}/namespaces/{namespace}/destinations", cr)
    condition = installation.wait_condition(namespace, "mail-a", INVALID)
    assert "it names more than 1000 tenants" in condition["message"]


def test_conditions_of_others(installation, cluster_tproxy, add_destination, namespace):
    """There are more conditions than the program keeps: none is lost, and an Event says what the
    status cannot."""
    mail = add_destination("mail")
    cr = installation.kube.create(
        f"{CRS}/namespaces/{namespace}/destinations",
        destination_cr("mail-a", namespace, "unknown"),
    )
    installation.wait_condition(namespace, "mail-a", "NotFound")
    others = [{"type": f"Other{i}", "status": "True", "message": "x" * 1000} for i in range(20)]
    available = installation.condition(namespace, "mail-a")
    status = {"status": {"conditions": [*others, available]}}
    installation.kube.patch(path(namespace, "mail-a") + "/status", status)
    spec = {"destinationRef": {"name": "mail"}}
    installation.kube.patch(path(namespace, "mail-a"), {"spec": spec})

    def event() -> dict | None:
        reason = "ConfigurationSuccessful"
        events = installation.events(namespace)
        return next((event for event in events if event["reason"] == reason), None)

    until(event, "the Event")
    assert "conditions of other controllers take more than 16384 octets" in event()["note"]
    assert installation.cr(namespace, "mail-a")["status"] == status["status"]
    assert list_and_fetch(installation.target_port("mail-a")) == mail.files()

    status["status"]["conditions"] = [*others[:5], available]
    installation.kube.patch(path(namespace, "mail-a") + "/status", status)
    installation.wait_condition(namespace, "mail-a", "ConfigurationSuccessful")
    assert installation.cr(namespace, "mail-a")["status"]["conditions"][:5] == others[:5]
    assert installation.cr(namespace, "mail-a")["metadata"]["uid"] == cr["metadata"]["uid"]


# --- depth and size ---


def nested(depth: int) -> dict:
    value: dict = {}
    for _ in range(depth):
        value = {"a": value}
    return value


# Values of spec.actions, which has no meaning for mail and no bound.
ACTIONS = {
    "deep": [nested(150)],
    "large": [{"x": "<" * 200_000}],
    "many": [{"x": [0] * 600_000}],
}


@pytest.mark.parametrize("actions", ACTIONS)
def test_actions(installation, cluster_tproxy, add_destination, namespace, actions):
    """A change and a deletion are seen, whatever else the object contains."""
    mail = add_destination("mail")
    wide = {"accessControl": {"scope": "clusterWide"}}
    installation.kube.apply(destination_cr("mail-a", namespace, "mail", **wide))
    port = installation.available(namespace, "mail-a")
    until(lambda: WIDE in installation.policies(), "the policy")

    narrow = {"accessControl": {"scope": "namespaced"}, "actions": ACTIONS[actions]}
    installation.kube.patch(path(namespace, "mail-a"), {"spec": narrow})
    until(lambda: WIDE not in installation.policies(), "the policy to be that of its namespace")
    assert list_and_fetch(port) == mail.files()

    installation.kube.delete(path(namespace, "mail-a"))
    until(lambda: is_closed(port), "the port to be closed")
    until(lambda: not installation.ours(), "everything to be withdrawn")


@pytest.mark.one_build
def test_memory(installation, cluster_tproxy, add_destination, namespace):
    """The unused members of a resource of 1.2 MB take no memory, not even for a moment."""
    add_destination("mail")
    installation.kube.apply(destination_cr("mail-a", namespace, "mail"))
    installation.available(namespace, "mail-a")
    before = cluster_tproxy.memory_peak()
    large = destination_cr("mail-b", namespace, "mail", actions=ACTIONS["many"])
    installation.kube.create(f"{CRS}/namespaces/{namespace}/destinations", large)
    installation.available(namespace, "mail-b")
    growth = cluster_tproxy.memory_peak() - before
    assert growth < 2**20, f"{growth} octets"


def test_too_large(installation, make_cluster_tproxy, add_destination, namespace):
    """A member that is read is larger than the program reads. The object's name and its deletion
    are still seen."""
    installation.configure()
    add_destination("mail")
    installation.kube.apply(destination_cr("mail-a", namespace, "mail"))
    first = make_cluster_tproxy(installation).ready()
    port = installation.available(namespace, "mail-a")
    chain = {"name": "chain", "variables": [{"name": "v", "value": "x" * 600_000}]}
    installation.kube.patch(path(namespace, "mail-a"), {"spec": {"chainRef": chain}})
    until(lambda: is_closed(port), "the port to be closed")
    words = "spec.chainRef is larger than 524288 octets, or nested too deeply; make it smaller"
    refused(installation, namespace, "mail-a", words)
    first.kill()
    make_cluster_tproxy(installation).ready()
    assert words in installation.condition(namespace, "mail-a")["message"]
    installation.kube.patch(path(namespace, "mail-a"), {"spec": {"chainRef": None}})
    port = installation.available(namespace, "mail-a")
    installation.kube.patch(path(namespace, "mail-a"), {"spec": {"chainRef": chain}})
    installation.kube.delete(path(namespace, "mail-a"))
    until(lambda: is_closed(port), "the port to be closed")
    until(lambda: not installation.ours(), "everything to be withdrawn")


def test_service_that_grows(installation, make_cluster_tproxy, add_destination, namespace):
    """A user puts 1.2 MB into a Service of ours, which become 7 MB on the way to the program. Other
    Services are followed, and this one stays as it is, even after a restart."""
    installation.configure(metrics={"prometheus": {"enabled": True}})
    mails = {name: add_destination(name) for name in ("mail-a", "mail-b", "mail-c")}
    first = make_cluster_tproxy(installation).ready()
    installation.kube.apply(destination_cr("mail-a", namespace, "mail-a"))
    installation.available(namespace, "mail-a")
    service = installation.service_of(namespace, "mail-a")
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "<" * 1_200_000, "uid": "u"}
    owners = [*service["metadata"]["ownerReferences"], owner]
    where = f"/api/v1/namespaces/{namespace}/services/mail-a"
    installation.kube.patch(where, {"metadata": {"ownerReferences": owners}})
    until(lambda: first.metrics().get(CUT), "the Service to be noticed")
    assert first.metric(CUT, kind="services")
    installation.kube.apply(destination_cr("mail-b", namespace, "mail-b"))
    installation.available(namespace, "mail-b")
    first.kill()

    second = make_cluster_tproxy(installation).ready()
    installation.kube.apply(destination_cr("mail-c", namespace, "mail-c"))
    installation.available(namespace, "mail-c")
    installation.wait_condition(namespace, "mail-a", "K8sResourceWithNameAlreadyPresent")
    for name, mail in mails.items():
        assert list_and_fetch(installation.target_port(name)) == mail.files()
    assert installation.service_of(namespace, "mail-a")["metadata"]["uid"] == (
        service["metadata"]["uid"]
    )
    second.logs.wait(lambda line: "not read as a whole" in line["msg"], "the line about it")
    lines = {line["msg"] for line in second.logs.all() if "not read as a whole" in line["msg"]}
    assert lines == {
        f"services: {namespace}/mail-a is not read as a whole: what is larger than 524288 octets "
        "or nested too deeply is left out"
    }
