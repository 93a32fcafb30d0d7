"""tproxy with SAP's own CustomResourceDefinitions in place of ours, as after a migration that keeps
them: it needs nothing that only ours have."""

import json

import pytest

from harness.installation import CRS, INSTANCE, PROXIES, destination_cr, list_and_fetch
from harness.kube import ApiError
from harness.sap_definitions import DESTINATION, TRANSPARENT_PROXY
from harness.samples import HOME
from harness.util import until

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
DESTINATIONS = f"{DEFINITIONS}/destinations.destination.connectivity.api.sap"
TRANSPARENT_PROXIES = f"{DEFINITIONS}/transparentproxies.operator.kyma-project.io"

pytestmark = pytest.mark.one_build


@pytest.fixture
def define(installation, namespace):
    """Replaces the versions of both definitions until the end of the test, and waits until the API
    server uses them."""
    kube, both = installation.kube, (DESTINATIONS, TRANSPARENT_PROXIES)
    ours = {path: kube.get(path)["spec"]["versions"] for path in both}

    def replace(versions: dict[str, list[dict]]) -> None:
        for path, each in versions.items():
            kube.patch(path, {"spec": {"versions": each}})
        until(installation.served, "the custom resources to be served")

    def define(destination: list[dict]) -> None:
        replace({DESTINATIONS: destination, TRANSPARENT_PROXIES: TRANSPARENT_PROXY})
        until(lambda: refuses_unknown(f"{CRS}/namespaces/{namespace}/destinations"), "SAP's CRD")
        until(lambda: refuses_unknown(PROXIES), "SAP's other CRD")

    def refuses_unknown(path: str) -> bool:
        """Tells whether the API server drops a part that only our definitions accept."""
        kind = "Destination" if path.endswith("destinations") else "TransparentProxy"
        version = path.removeprefix("/apis/").split("/namespaces")[0]
        spec = {"config": {"unheard": 1}}
        if kind == "Destination":
            action = {"name": "OAuth2TechnicalUserPropagation"}
            spec = {"destinationRef": {"name": "x"}, "actions": [action]}
        probe = {"apiVersion": version, "kind": kind, "metadata": {"name": "probe"}, "spec": spec}
        try:
            made = kube.create(f"{path}?dryRun=All", probe)
        except ApiError as error:
            return error.code == 422
        return kind != "Destination" and "unheard" not in made["spec"].get("config", {})

    yield define
    replace(ours)


def proxy_status(installation) -> dict:
    return installation.kube.get(f"{PROXIES}/transparent-proxy").get("status", {})


def test_published(installation, define, make_cluster_tproxy, add_destination, namespace):
    """The status of both kinds fits SAP's schemas, and what SAP's operator wrote there stays."""
    kube, mail = installation.kube, add_destination("mail")
    define(DESTINATION)
    installation.configure(manager={"executionIntervalMinutes": 3})
    theirs = {"state": "Ready", "defaultServiceInstanceInitialized": True}
    kube.patch(f"{PROXIES}/transparent-proxy/status", {"status": theirs})
    tproxy = make_cluster_tproxy(installation).ready()
    spec = {"service": {"port": 1110}, "accessControl": {"scope": "clusterWide"}}
    spec["destinationServiceInstanceName"] = INSTANCE
    kube.apply(
        destination_cr("mail-a", namespace, "mail", **spec),
        destination_cr("mail-b", namespace, "no-such"),
    )
    assert list_and_fetch(installation.available(namespace, "mail-a")) == mail.files()
    installation.wait_condition(namespace, "mail-b", "ReferencedDestination-NotFound")
    until(lambda: "conditions" in proxy_status(installation), "the status of the configuration")
    shown = proxy_status(installation)
    assert (shown["state"], shown["defaultServiceInstanceInitialized"]) == ("Ready", True)
    table = kube.kubectl("get", "dst", "--namespace", namespace).stdout
    row = next(line.split() for line in table.splitlines() if line.startswith("mail-a "))
    assert row[2:] == ["mail", INSTANCE, "1110", "clusterWide", "ConfigurationSuccessful"]
    installation.configure(manager={"executionIntervalMinutes": 0})
    until(lambda: proxy_status(installation)["state"] == "Warning", "the complaint")
    assert proxy_status(installation)["defaultServiceInstanceInitialized"] is True
    assert json.loads(tproxy.http("/destinationCRs")[1])["Status"] == "ok"


def without_status(versions: list[dict]) -> list[dict]:
    """Returns the versions as SAP's older definition had them."""
    return [{key: v for key, v in each.items() if key != "subresources"} for each in versions]


def test_older(installation, define, make_cluster_tproxy, add_destination, namespace):
    """The older definition of Destination has no subresource `status`: mailboxes are served, and
    tproxy says what is missing."""
    kube, mail = installation.kube, add_destination("mail")
    define(without_status(DESTINATION))
    kube.apply(destination_cr("mail-a", namespace, "mail"))
    installation.configure()
    tproxy = make_cluster_tproxy(installation).ready()
    until(lambda: installation.service_of(namespace, "mail-a"), "the Service")
    assert list_and_fetch(installation.target_port("mail-a")) == mail.files()

    def told() -> list[dict]:
        events = installation.events(HOME)
        return [event for event in events if event["reason"] == "StatusSubresourceMissing"]

    (event,) = until(told, "the Event")
    assert "subresource status" in event["note"]
    assert "subresource status" in tproxy.http("/status")[1]
    assert "status" not in installation.cr(namespace, "mail-a")
