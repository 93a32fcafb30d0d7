"""SAP's own samples, applied as they are printed."""

import json

import pytest

from harness.destination_service import key_secret
from harness.installation import CRS, INSTANCE, PROXIES, Installation, list_and_fetch
from harness.samples import DESTINATIONS, HOME, MISPRINT, TRANSPARENT_PROXIES
from harness.util import until

# Of HTTP applications, by the destination that each of them names.
OTHERS = {
    "gateway": "*",
    "chain for SAML": "samlAssertionConsumerDest",
    "action": "http",
    "new action": "onpremise-http",
}

# How a TransparentProxy object of SAP's names the Secret, and the entry in it.
SECRETS = {
    "published": (INSTANCE, "defaultKey"),
    "documented": (INSTANCE, "defaultKey"),
    "BTP service operator": ("sap-transp-proxy-default", None),
}


def configure(installation: Installation, sample: str = "published") -> None:
    name, key = SECRETS[sample]
    secret = key_secret(name, HOME, installation.key, key)
    installation.kube.apply(secret, TRANSPARENT_PROXIES[sample])


def apply(installation: Installation, namespace: str, *crs: dict) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": crs})
    installation.kube.kubectl("apply", "--namespace", namespace, "-f", "-", input=text)


def name_of(sample: str) -> str:
    return DESTINATIONS[sample]["metadata"]["name"]


@pytest.fixture
def mail(add_destination):
    return add_destination("example-dest-pop3")


@pytest.mark.parametrize("sample", SECRETS)
def test_configuration(installation, make_cluster_tproxy, mail, namespace, sample):
    configure(installation, sample)
    proxy = make_cluster_tproxy(installation).ready()
    apply(installation, namespace, DESTINATIONS["default instance, for all"])
    assert list_and_fetch(installation.available(namespace, "mail-b")) == mail.files()
    status = until(
        lambda: installation.kube.get(f"{PROXIES}/transparent-proxy").get("status"), "the status"
    )
    assert status["state"] == "Ready"
    conditions = {c["type"]: c for c in status["conditions"]}
    assert conditions["Configured"]["status"] == "True"
    ignored = conditions["SomeKeysIgnored"]["message"]
    assert "spec.config.security.communication.internal.encryptionEnabled: true" in ignored
    if "deployment" in TRANSPARENT_PROXIES[sample]["spec"]:
        assert "spec.deployment.resources" in ignored
    metrics = "metrics" in TRANSPARENT_PROXIES[sample]["spec"]["config"]
    assert proxy.http("/metrics")[0] == (200 if metrics else 404)


def test_destinations(installation, make_cluster_tproxy, mail, namespace):
    configure(installation)
    make_cluster_tproxy(installation).ready()
    samples = ["usual", "default instance, for all", "port"]
    apply(installation, namespace, *[DESTINATIONS[sample] for sample in samples])
    for sample, port in zip(samples, (110, 110, 1110), strict=True):
        target = installation.available(namespace, name_of(sample))
        service = installation.service_of(HOME, name_of(sample))
        assert service["spec"]["ports"][0]["port"] == port
        assert list_and_fetch(target) == mail.files()
    own, everybody = f"tproxy-namespace-{namespace}", "tproxy-clusterwide"
    until(lambda: installation.policies().keys() == {own, everybody}, "both policies")
    apply(installation, namespace, DESTINATIONS["default instance, for its namespace"])
    until(lambda: installation.policies().keys() == {own}, "the policy of the namespace alone")


def test_misprint(installation, namespace):
    """Refused by kubectl, and by the API server alone."""
    arguments = ["apply", "--namespace", namespace, "-f", "-"]
    for more, words in (
        ([], "unknown field"),
        (["--validate=false"], "spec: Required value"),
    ):
        done = installation.kube.kubectl(*arguments, *more, input=json.dumps(MISPRINT), check=False)
        assert done.returncode and words in done.stderr


# --- not for us ---


def add_others(installation: Installation, namespace: str) -> None:
    for destination in OTHERS.values():
        installation.service.destinations[destination] = {
            "Type": "HTTP",
            "URL": "https://app.example.com",
            "ProxyType": "Internet",
            "Authentication": "NoAuthentication",
        }
    apply(installation, namespace, *[DESTINATIONS[sample] for sample in OTHERS])


def test_left_alone(installation, make_cluster_tproxy, mail, namespace):
    """No status, no Service, no Event; and who has written a status keeps it."""
    configure(installation)
    proxy = make_cluster_tproxy(installation).ready()
    add_others(installation, namespace)
    theirs = {"type": "Available", "status": "False", "reason": "Broken", "message": "It is ours."}
    path = f"{CRS}/namespaces/{namespace}/destinations/{name_of('action')}"
    installation.kube.patch(
        f"{path}/status?fieldManager=another", {"status": {"conditions": [theirs]}}
    )
    written = installation.kube.get(path)

    # Every one has been looked at when the last one of all is served.
    for destination in OTHERS.values():
        if destination != "*":
            until(lambda name=destination: installation.service.finds(name, False), destination)
    apply(installation, namespace, DESTINATIONS["usual"])
    installation.available(namespace, "mail-a")
    until(lambda: installation.events(namespace), "the Event of mail-a")
    proxy.ready()
    for sample in OTHERS:
        if sample != "action":
            assert "status" not in installation.cr(namespace, name_of(sample))
        for space in (HOME, namespace):
            assert installation.service_of(space, name_of(sample)) is None
    assert installation.kube.get(path) == written
    told = {event["regarding"]["name"] for event in installation.events(namespace)}
    assert told == {"mail-a"}
    (shown,) = json.loads(proxy.http("/destinationCRs")[1])["CustomResources"]
    assert shown["Name"] == "mail-a"


def test_claimed(installation, make_cluster_tproxy, namespace):
    """Where there is no other proxy everything gets its condition."""
    configure(installation)
    make_cluster_tproxy(installation, "--claim", "all").ready()
    add_others(installation, namespace)
    for sample in OTHERS:
        reason = "TypeNotSupported" if sample != "gateway" else "DynamicDestination-NotSupported"
        condition = installation.wait_condition(namespace, name_of(sample), reason)
        assert condition["status"] == "False"
        assert installation.service_of(HOME, name_of(sample)) is None
    until(lambda: len(installation.events(namespace)) == len(OTHERS), "an Event for each")
