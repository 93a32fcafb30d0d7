"""The annotation tproxy/adopt has an effect only on a Service that SAP's proxy has left beside the
resource. test_cluster_errors.py tests that effect."""

import pytest

from harness.installation import CRS, destination_cr
from harness.samples import HOME

TAKEN = "ConfigurationError-K8sResourceWithNameAlreadyPresent"
OF_ANOTHER = {"app.kubernetes.io/managed-by": "tproxy", "tproxy/home": "second"}

# Names of Services and their targets that other software in the home namespace may have.
AT_HOME = {
    "administrator": ("connectivity-proxy", "connectivity-proxy.cp-ns.svc.cluster.local"),
    "SAP": ("mail-a", f"mail-a-x7k2p.{HOME}.svc.cluster.local"),
}


def leading(namespace: str, name: str, host: str, **labels: str) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"type": "ExternalName", "externalName": host},
    }


def adopting(namespace: str, name: str) -> dict:
    cr = destination_cr(name, namespace, "mail")
    cr["metadata"]["annotations"] = {"tproxy/adopt": "true"}
    return cr


def stays(installation, service: dict, namespace: str) -> None:
    """Checks that a CR with the Service's name reports the conflict, and that its deletion leaves
    the Service unchanged."""
    kube = installation.kube
    name, place = service["metadata"]["name"], service["metadata"]["namespace"]
    kube.apply(service)
    before = installation.service_of(place, name)
    kube.apply(adopting(namespace, name))
    message = installation.wait_condition(namespace, name, TAKEN)["message"]
    assert f'"{place}"' in message and "adopt" not in message
    kube.delete(f"{CRS}/namespaces/{namespace}/destinations/{name}")
    kube.apply(adopting(namespace, "other"))
    installation.available(namespace, "other")
    assert installation.service_of(place, name) == before


@pytest.mark.parametrize("case", AT_HOME)
def test_service_of_the_home_namespace(
    installation, cluster_tproxy, add_destination, namespace, case
):
    add_destination("mail")
    stays(installation, leading(HOME, *AT_HOME[case]), namespace)


def test_resource_in_the_home_namespace(installation, cluster_tproxy, add_destination):
    add_destination("mail")
    stays(installation, leading(HOME, *AT_HOME["administrator"]), HOME)


def test_service_of_another_installation(
    installation, cluster_tproxy, add_destination, namespace
):
    add_destination("mail")
    host = "mail-a.second.svc.cluster.local"
    stays(installation, leading(namespace, "mail-a", host, **OF_ANOTHER), namespace)
