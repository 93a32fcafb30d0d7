"""Resting target ports on a real API server: for a while a port is not given to another mailbox,
even if the program is killed and started again in between."""

import json
from datetime import datetime, timedelta

import pytest

from harness.fault_proxy import is_write, refuse
from harness.http_server import where
from harness.installation import CRS, destination_cr, list_and_fetch
from harness.samples import HOME
from harness.util import until

RECORD = f"/api/v1/namespaces/{HOME}/configmaps/tproxy-resting-ports"


def delete(installation, namespace: str, name: str) -> None:
    """Waits until the Services are gone."""
    installation.kube.delete(f"{CRS}/namespaces/{namespace}/destinations/{name}")
    until(lambda: not installation.service_of(HOME, name), "the Service to go")
    until(lambda: not installation.service_of(namespace, name), "the alias to go")


def minute_of(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%MZ")


@pytest.fixture
def two_ports(reserve_ports) -> tuple[str, str]:
    low = reserve_ports(2)
    return "--target-ports", f"{low}-{low + 1}"


@pytest.fixture
def forget(kube):
    """Deletes the record, because other tests have other ports."""
    yield
    kube.kubectl("delete", "configmap", "-n", HOME, "tproxy-resting-ports", "--ignore-not-found")


def test_rest_survives_a_crash(
    installation, make_cluster_tproxy, add_destination, two_ports, forget
):
    mail = add_destination("mail")
    installation.configure()
    namespace = installation.kube.namespace()
    first = make_cluster_tproxy(installation, *two_ports).ready()
    installation.kube.apply(destination_cr("one", namespace, "mail"))
    port = installation.available(namespace, "one")
    delete(installation, namespace, "one")
    first.kill()
    make_cluster_tproxy(installation, *two_ports).ready()
    installation.kube.apply(destination_cr("two", namespace, "mail"))
    other = installation.available(namespace, "two")
    low, high = map(int, two_ports[1].split("-"))
    assert {port, other} == {low, high}
    assert list_and_fetch(other) == mail.files()
    installation.kube.apply(destination_cr("three", namespace, "mail"))
    said = installation.wait_condition(namespace, "three", "ServiceCreationFailed")["message"]
    assert "1 are in use, 1 rest after their mailboxes have gone, the first of them until " in said
    (record,) = installation.kube.get(RECORD)["data"].values()
    (recorded,) = json.loads(record)
    late = minute_of(said.rsplit(" ", 1)[1]) - minute_of(recorded)
    assert abs(late) <= timedelta(minutes=3)


def test_record_that_cannot_be_written(
    installation, make_cluster_tproxy, add_destination, api, two_ports, forget
):
    """A record that cannot be written does not prevent the deletion of a Service. It is written
    later."""
    add_destination("mail")
    installation.configure()
    namespace = installation.kube.namespace()
    proxy = make_cluster_tproxy(installation, *two_ports, url=api.url).ready()
    installation.kube.apply(destination_cr("one", namespace, "mail"))
    installation.available(namespace, "one")
    usual = api.behaviour
    api.behaviour = where(
        lambda r: is_write(r) and b"tproxy-resting-ports" in r.body,
        refuse(403, "Forbidden", "no ConfigMaps today"),
    )
    delete(installation, namespace, "one")
    proxy.logs.wait(
        lambda line: "The target ports that rest cannot be kept" in line["msg"], "the log line"
    )
    assert "no ConfigMaps today" in proxy.http("/status")[1]
    api.behaviour = usual
    maps = f"/api/v1/namespaces/{HOME}/configmaps"
    until(
        lambda: any(
            m["metadata"]["name"] == "tproxy-resting-ports" for m in installation.kube.items(maps)
        ),
        "the record",
        patience=90,
    )


@pytest.mark.one_build
def test_record_that_cannot_be_read(
    installation, make_cluster_tproxy, add_destination, api, two_ports, forget
):
    """Existing mailboxes are served; new ones get no port before every port has rested."""
    mail = add_destination("mail")
    installation.configure()
    namespace = installation.kube.namespace()
    first = make_cluster_tproxy(installation, *two_ports, url=api.url).ready()
    installation.kube.apply(destination_cr("one", namespace, "mail"))
    port = installation.available(namespace, "one")
    first.kill()
    usual = api.behaviour
    api.behaviour = where(
        lambda r: (
            not is_write(r)
            and r.path.endswith("/configmaps")
            and "tproxy-resting-ports" in str(r.query)
        ),
        refuse(403, "Forbidden", "no ConfigMaps today"),
    )
    make_cluster_tproxy(installation, *two_ports, url=api.url).ready()
    assert list_and_fetch(port) == mail.files()
    installation.kube.apply(destination_cr("two", namespace, "mail"))
    said = installation.wait_condition(namespace, "two", "ServiceCreationFailed")["message"]
    assert "it is not known which ones rest: the ConfigMap tproxy-resting-ports" in said
    assert installation.condition(namespace, "one")["status"] == "True"
    api.behaviour = usual
    until(
        lambda: installation.condition(namespace, "two")["status"] == "True",
        "the condition",
        patience=150,
    )
