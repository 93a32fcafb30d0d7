"""What people see with kubectl: the tables, `explain`, and `describe`."""

import json

import pytest

from harness.installation import CRS, PROXIES, Installation, destination_cr
from harness.samples import HOME
from harness.util import until

ROLE = "/apis/rbac.authorization.k8s.io/v1/clusterroles/tproxy"

WIDE = ["AVAILABLE", "LASTCHANGE", "TENANTS", "MESSAGE"]
CREATED = (
    "Technical connectivity is configured. Kubernetes service with name mail-a is created."
)


def table(installation: Installation, *arguments: str) -> list[dict[str, str]]:
    """Returns the rows that `kubectl get` prints, by the headings of their columns."""
    head, *rows = installation.kube.kubectl("get", *arguments).stdout.splitlines()
    starts = [i for i in range(len(head)) if head[i] != " " and (i == 0 or head[i - 1] == " ")]
    edges = list(zip(starts, [*starts[1:], None]))
    return [{head[a:b].strip(): row[a:b].strip() for a, b in edges} for row in rows]


def explained(installation: Installation, field: str) -> str:
    """Returns what `kubectl explain` prints, as one line."""
    return " ".join(installation.kube.kubectl("explain", field).stdout.split())


# --- kubectl get ---


@pytest.mark.one_build
def test_wide_destinations(installation, cluster_tproxy, add_destination, namespace):
    add_destination("mail")
    installation.kube.apply(destination_cr("mail-a", namespace, "mail"))
    installation.available(namespace, "mail-a")
    installation.kube.apply(destination_cr("mail-b", namespace, "no-such"))
    installation.wait_condition(namespace, "mail-b", "ReferencedDestination-NotFound")
    served, wrong = table(installation, "dst", "-n", namespace, "-o", "wide")
    assert list(served)[:2] == ["NAME", "AGE"] and list(served)[-4:] == WIDE
    assert (served["AVAILABLE"], wrong["AVAILABLE"]) == ("True", "False")
    assert served["MESSAGE"] == CREATED
    assert "'no-such'" in wrong["MESSAGE"]
    for row in (served, wrong):
        assert row["LASTCHANGE"].endswith("s"), "an age of some seconds"
        assert row["TENANTS"] == ""
    assert not set(WIDE) & set(table(installation, "dst", "-n", namespace)[0])


@pytest.mark.one_build
def test_tenants(installation, namespace):
    """The column names all tenants that are served."""
    cr = destination_cr("mail-a", namespace, "mail")
    installation.kube.apply(cr)
    tenants = [{"tenantSubdomain": name} for name in ("acme", "umbrella")]
    path = f"{CRS}/namespaces/{namespace}/destinations/mail-a/status"
    installation.kube.patch(path, {"status": {"tenants": tenants}})
    (row,) = table(installation, "dst", "-n", namespace, "-o", "wide")
    assert json.loads(row["TENANTS"]) == tenants
    assert (row["AVAILABLE"], row["LASTCHANGE"], row["MESSAGE"]) == ("", "", "")


@pytest.mark.one_build
def test_wide_proxies(installation, cluster_tproxy):
    """Each message has a column. The status names the wrong value and the ignored key."""
    (good,) = table(installation, "tp", "-n", HOME, "-o", "wide")
    assert good["STATE"] == "Ready" and good["LASTCHANGE"].endswith("s")
    assert good["CONFIGURATION"] == "The configuration is in force."
    assert good["CREDENTIALS"] == "The service keys of all instances have been read."
    assert good["IGNOREDKEYS"] == "Every key that is set has its effect."
    assert good["CONNECTIVITYPROXY"] == ""
    installation.configure(tenantMode="nobody", metering={"enabled": True})

    def shown() -> dict[str, str]:
        (row,) = table(installation, "tp", "-n", HOME, "-o", "wide")
        return row

    until(lambda: shown()["STATE"] == "Warning", "the state Warning")
    wrong = shown()
    assert "tenantMode" in wrong["CONFIGURATION"] and "nobody" in wrong["CONFIGURATION"]
    (short,) = table(installation, "tp", "-n", HOME)
    assert list(short) == ["NAME", "STATE", "AGE"]


# --- kubectl describe ---


def flip(installation: Installation, namespace: str, times: int) -> None:
    """Makes the CR unavailable and available again, each time for the same reason."""
    path = f"{CRS}/namespaces/{namespace}/destinations/mail-a"
    for _ in range(times):
        for name, reason in (("no-such", "NotFound"), ("mail", "ConfigurationSuccessful")):
            installation.kube.patch(path, {"spec": {"destinationRef": {"name": name}}})
            installation.wait_condition(namespace, "mail-a", reason)


def counts(installation: Installation, namespace: str) -> dict[str, list[int]]:
    """Returns how often each Event has been repeated, by its reason."""
    found: dict[str, list[int]] = {}
    for event in installation.events(namespace):
        count = event.get("series", {}).get("count", 1)
        found.setdefault(event["reason"].split("-")[-1], []).append(count)
    return found


@pytest.mark.one_build
def test_describe(installation, cluster_tproxy, add_destination, namespace):
    """A repeat is counted in the Event that says the same, and `describe` shows the number."""
    add_destination("mail")
    installation.kube.apply(destination_cr("mail-a", namespace, "mail"))
    installation.available(namespace, "mail-a")
    flip(installation, namespace, 2)
    wanted = {"NotFound": [2], "ConfigurationSuccessful": [3]}
    until(lambda: counts(installation, namespace) == wanted, f"the Events {wanted}")
    text = installation.kube.kubectl("describe", "dst", "mail-a", "-n", namespace).stdout
    events = text[text.index("\nEvents:") :].splitlines()
    (success,) = [line for line in events if "ConfigurationSuccessful" in line]
    (failure,) = [line for line in events if "NotFound" in line]
    assert "Normal" in success and "(x3 over" in success and CREATED in success
    assert "Warning" in failure and "(x2 over" in failure and "'no-such'" in failure


@pytest.mark.one_build
def test_describe_configuration(installation, cluster_tproxy):
    """The same for the TransparentProxy object, whose status somebody else changes."""
    path = f"{PROXIES}/transparent-proxy"

    def contest(count: int) -> None:
        def contested() -> bool:
            if installation.kube.get(path)["status"]["state"] == "Ready":
                installation.kube.patch(f"{path}/status", {"status": {"state": "Error"}})
            return counts(installation, HOME).get("StatusContested") == [count]

        until(contested, f"the Event, {count} times")

    def wait_state(state: str) -> None:
        until(lambda: installation.kube.get(path).get("status", {}).get("state") == state, state)

    wait_state("Ready")
    contest(1)
    installation.configure(tenantMode="both")
    wait_state("Warning")
    installation.configure()
    wait_state("Ready")
    contest(2)
    text = installation.kube.kubectl("describe", "tp", "transparent-proxy", "-n", HOME).stdout
    (event,) = [line for line in text.splitlines() if "StatusContested" in line]
    assert "Warning" in event and "(x2 over" in event


@pytest.mark.one_build
def test_describe_with_an_older_role(installation, cluster_tproxy, add_destination, namespace):
    """Without the right to patch Events a repeat is a new Event."""
    role = installation.kube.get(ROLE)
    (rule,) = [rule for rule in role["rules"] if rule["resources"] == ["events"]]
    rule["verbs"].remove("patch")
    installation.kube.patch(ROLE, {"rules": role["rules"]})
    add_destination("mail")
    installation.kube.apply(destination_cr("mail-a", namespace, "mail"))
    installation.available(namespace, "mail-a")
    flip(installation, namespace, 2)
    wanted = {"NotFound": [1, 1], "ConfigurationSuccessful": [1, 1, 1]}
    until(lambda: counts(installation, namespace) == wanted, f"the Events {wanted}")


# --- kubectl explain ---


@pytest.mark.one_build
@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("destination", "a POP3 mailbox, reachable as a Service of the same name"),
        ("destination.spec.destinationRef", "as it is called in the Destination service"),
        ("destination.spec.service.port", "110 for pop3, 995 for pop3s"),
        ("destination.spec.accessControl.scope", "namespaced: the pods of the namespace"),
        ("destination.status.conditions.message", "the object and the field to correct"),
        ("transparentproxy.spec.config.tenantMode", "dedicated (the default)"),
        ("transparentproxy.spec.config.integration.destinationService.instances", "at most 256"),
        ("transparentproxy.spec.additionalCAs.secretKey", "one certificate or more, PEM"),
        ("transparentproxy.status.state", "Warning: a condition says what to correct"),
    ],
)
def test_explain(installation, field, words):
    text = explained(installation, field)
    assert words in text
    assert "<no description>" not in text and "<empty>" not in text
