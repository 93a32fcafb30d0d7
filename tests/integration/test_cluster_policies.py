"""NetworkPolicies on a real API server: a resource is available once the clients that it names are
admitted, no namespace waits for another one's policy, and no port is allocated while a policy lists
it."""

import time

import pytest

from harness.fault_proxy import is_write, refuse
from harness.http_server import where
from harness.installation import CRS, TARGET_PORTS, destination_cr, list_and_fetch
from harness.kube import ApiError
from harness.samples import HOME
from harness.util import until

POLICIES = f"/apis/networking.k8s.io/v1/namespaces/{HOME}/networkpolicies"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
FINALIZER = "example.com/mine"


def policy_of(namespace: str) -> str:
    return f"tproxy-namespace-{namespace}"


def policy(name: str, *ports: dict, **metadata: object) -> dict:
    """Returns a policy with the labels of ours."""
    labels = {"app.kubernetes.io/managed-by": "tproxy", "tproxy/home": HOME}
    spec = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": list(ports)}]}
    return {"metadata": {"name": name, "labels": labels, **metadata}, "spec": spec}


def admits(installation, name: str, port: int) -> bool:
    found = installation.policies().get(name)
    entries = [e for rule in (found or {}).get("spec", {}).get("ingress", []) for e in rule["ports"]]
    return any(e["port"] <= port <= e.get("endPort", e["port"]) for e in entries)


def delete_cr(installation, namespace: str, name: str) -> None:
    installation.kube.delete(f"{CRS}/namespaces/{namespace}/destinations/{name}")


@pytest.fixture
def release(kube):
    """Removes the finalizers of policies, at the latest when the test ends."""
    named = []

    def now() -> None:
        while named:
            path = f"{POLICIES}/{named.pop()}"
            try:
                kube.patch(path, {"metadata": {"finalizers": None}})
            except ApiError as error:
                assert error.reason == "NotFound", error

    now.later = named.append
    yield now
    now()


def test_available_means_admitted(installation, make_cluster_tproxy, add_destination, api):
    """The condition waits for the policy and follows it without a pause."""
    mail = add_destination("mail")
    installation.configure()
    make_cluster_tproxy(installation, *TARGET_PORTS, url=api.url).ready()
    namespace, other = installation.kube.namespace(), installation.kube.namespace()
    own = policy_of(namespace)
    with api.stalled(lambda r: is_write(r) and own.encode() in r.body):
        installation.kube.apply(destination_cr("mail", namespace, "mail"))
        until(lambda: installation.service_of(namespace, "mail"), "the Services")
        installation.kube.apply(destination_cr("more", other, "mail"))
        port = installation.available(other, "more")
        assert admits(installation, policy_of(other), port)
        assert installation.condition(namespace, "mail") == {}
    port = installation.available(namespace, "mail")
    assert admits(installation, own, port)
    assert list_and_fetch(port) == mail.files()


def test_policy_in_the_way(installation, make_cluster_tproxy, add_destination):
    """A foreign policy has the name of ours: its namespace is told, and others are not delayed."""
    add_destination("mail")
    kube = installation.kube
    installation.configure()
    hindered = kube.namespace()
    kube.create(
        POLICIES,
        {
            "metadata": {"name": policy_of(hindered)},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
        },
    )
    make_cluster_tproxy(installation, *TARGET_PORTS).ready()
    kube.apply(destination_cr("mail", hindered, "mail"))
    said = installation.wait_condition(
        hindered, "mail", "ConfigurationError-K8sResourceWithNameAlreadyPresent"
    )
    assert said["status"] == "False"
    assert "No pod is admitted to the mailbox" in said["message"]
    assert f"(kubectl delete networkpolicy -n {HOME} {policy_of(hindered)})" in said["message"]
    for name in ("one", "two"):
        namespace = kube.namespace()
        began = time.monotonic()
        kube.apply(destination_cr(name, namespace, "mail"))
        port = installation.available(namespace, name)
        assert admits(installation, policy_of(namespace), port)
        assert time.monotonic() - began < 5
    kube.kubectl("delete", "networkpolicy", "-n", HOME, policy_of(hindered))
    until(
        lambda: installation.condition(hindered, "mail")["status"] == "True",
        "the condition",
        patience=90,
    )
    assert admits(installation, policy_of(hindered), installation.target_port("mail"))


def test_refused_policy(installation, make_cluster_tproxy, add_destination, api):
    """The condition contains the words of the API server."""
    add_destination("mail")
    installation.configure()
    make_cluster_tproxy(installation, *TARGET_PORTS, url=api.url).ready()
    namespace, other = installation.kube.namespace(), installation.kube.namespace()
    usual = api.behaviour
    api.behaviour = where(
        lambda r: (
            is_write(r)
            and r.path.endswith("/networkpolicies")
            and policy_of(namespace).encode() in r.body
        ),
        refuse(403, "Forbidden", "exceeded quota: policies"),
    )
    installation.kube.apply(destination_cr("mail", namespace, "mail"))
    said = installation.wait_condition(namespace, "mail", "ConfigurationFailed")
    assert "exceeded quota: policies" in said["message"]
    installation.kube.apply(destination_cr("more", other, "mail"))
    installation.available(other, "more")
    api.behaviour = usual
    until(
        lambda: installation.condition(namespace, "mail")["status"] == "True",
        "the condition",
        patience=90,
    )


@pytest.mark.one_build
def test_scope_narrowed(installation, cluster_tproxy, add_destination, namespace):
    """The scope is narrowed: everybody else is excluded, even if the policy cannot be deleted."""
    add_destination("mail")
    kube = installation.kube
    kube.apply(destination_cr("mail", namespace, "mail", accessControl={"scope": "clusterWide"}))
    port = installation.available(namespace, "mail")
    assert admits(installation, "tproxy-clusterwide", port)
    path = f"{POLICIES}/tproxy-clusterwide"
    kube.patch(path, {"metadata": {"finalizers": [FINALIZER]}})
    try:
        change = {"spec": {"accessControl": {"scope": "namespaced"}}}
        kube.patch(f"{CRS}/namespaces/{namespace}/destinations/mail", change)
        until(lambda: admits(installation, policy_of(namespace), port), "the narrower policy")
        until(lambda: not admits(installation, "tproxy-clusterwide", port), "the opening to go")
        assert "deletionTimestamp" in kube.get(path)["metadata"]
    finally:
        kube.patch(path, {"metadata": {"finalizers": None}})
    installation.available(namespace, "mail")


def test_policy_removed_while_others_wait(installation, make_cluster_tproxy, add_destination, api):
    """A policy is removed while a resource of another namespace cannot be settled."""
    add_destination("mail")
    installation.configure()
    make_cluster_tproxy(installation, *TARGET_PORTS, url=api.url).ready()
    namespace, other = installation.kube.namespace(), installation.kube.namespace()
    installation.kube.apply(destination_cr("mail", namespace, "mail"))
    installation.available(namespace, "mail")
    with api.stalled(lambda r: is_write(r) and f"/{other}/services" in r.path):
        installation.kube.apply(destination_cr("more", other, "mail"))
        until(lambda: installation.service_of(HOME, "more"), "the first Service")
        delete_cr(installation, namespace, "mail")
        until(lambda: policy_of(namespace) not in installation.policies(), "the policy to go")
        assert installation.condition(other, "more") == {}


def test_stale_policy(installation, make_cluster_tproxy, add_destination, release, reserve_ports):
    """The ports are not used again, even after a restart, until the policy no longer lists them."""
    add_destination("mail")
    kube = installation.kube
    installation.configure()
    low = reserve_ports(5)
    ports = ("--target-ports", f"{low}-{low + 4}")
    gone = policy_of("gone")
    kube.create(
        POLICIES,
        policy(
            gone,
            {"protocol": "TCP", "port": low, "endPort": low + 2},
            {"protocol": "TCP", "port": low + 4},
            finalizers=[FINALIZER],
        ),
    )
    release.later(gone)
    # The policy can neither be deleted nor emptied.
    kube.create(f"{ADMISSION}/validatingadmissionpolicies", frozen(gone))
    kube.create(f"{ADMISSION}/validatingadmissionpolicybindings", binding())
    try:
        until(lambda: is_frozen(kube, gone), "the policy to be frozen")
        first = make_cluster_tproxy(installation, *ports).ready()
        namespace = kube.namespace()
        kube.apply(destination_cr("one", namespace, "mail"))
        assert installation.available(namespace, "one") == low + 3
        first.kill()
        make_cluster_tproxy(installation, *ports).ready()
        kube.apply(destination_cr("two", namespace, "mail"))
        said = installation.wait_condition(namespace, "two", "ServiceCreationFailed")
        assert "1 are in use, 4 are still listed by NetworkPolicies" in said["message"]
    finally:
        kube.delete(f"{ADMISSION}/validatingadmissionpolicybindings/frozen")
        kube.delete(f"{ADMISSION}/validatingadmissionpolicies/frozen")
    # A minute after the policy was emptied.
    until(
        lambda: installation.condition(namespace, "two")["status"] == "True",
        "the condition",
        patience=240,
    )
    assert installation.target_port("two") != low + 3


def frozen(name: str) -> dict:
    rule = {
        "apiGroups": ["networking.k8s.io"],
        "apiVersions": ["v1"],
        "operations": ["UPDATE", "DELETE"],
        "resources": ["networkpolicies"],
        "resourceNames": [name],
    }
    return {
        "metadata": {"name": "frozen"},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "false", "message": "it is frozen"}],
        },
    }


def binding() -> dict:
    return {
        "metadata": {"name": "frozen"},
        "spec": {"policyName": "frozen", "validationActions": ["Deny"]},
    }


def is_frozen(kube, name: str) -> bool:
    try:
        kube.patch(f"{POLICIES}/{name}", {"metadata": {"annotations": {"a": "b"}}})
    except ApiError as error:
        return "it is frozen" in str(error)
    return False
