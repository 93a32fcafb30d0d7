"""The last good configuration stays in force. If the TransparentProxy object is wrong, deleted
or unreadable, nothing is removed and nobody is admitted, whether the program is running or
starting."""

import json
import signal

import pytest

from harness.fault_proxy import list_of, refuse
from harness.http_server import where
from harness.installation import (
    PROXIES,
    TARGET_PORTS,
    Installation,
    destination_cr,
    list_and_fetch,
)
from harness.samples import HOME
from harness.util import until

LABEL = "transparent-proxy.connectivity.api.sap/namespace"
MAPS = f"/api/v1/namespaces/{HOME}/configmaps"
KEPT = f"{MAPS}/tproxy-last-configuration"
OBJECT = f"{PROXIES}/transparent-proxy"
MISTAKE = {"spec": {"config": {"manager": {"executionIntervalMinutes": 0}}}}
CORRECTION = {"spec": {"config": {"manager": None}}}


def configured(installation: Installation) -> dict:
    """Returns the condition of the object; {} while it has no condition."""
    conditions = installation.kube.get(OBJECT).get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == "Configured"), {})


class World:
    """Only labelled namespaces are managed. One has the label, and its mailbox is served; another
    one has a resource but no label."""

    def __init__(self, installation: Installation, start, api):
        self.installation = installation
        self.kube = installation.kube
        self.api = api
        self._start = start
        self.ours, self.theirs = self.kube.namespace(**{LABEL: HOME}), self.kube.namespace()
        installation.configure(managedNamespacesMode="labelSelector")
        self.kube.apply(destination_cr("mail", self.ours, "mail"))
        self.kube.apply(destination_cr("other", self.theirs, "mail"))
        self.proxy = self.start().ready()
        self.port = installation.available(self.ours, "mail")
        until(self._kept, "the configuration to be kept")
        self.before = installation.versions()

    def _kept(self) -> bool:
        return any(m["metadata"]["name"] in KEPT for m in self.kube.items(MAPS))

    def start(self):
        return self._start(self.installation, *TARGET_PORTS, url=self.api.url)

    def end(self) -> None:
        self.proxy.signal(signal.SIGTERM)
        self.proxy.wait()

    def still_serves(self, *more: str) -> None:
        """Checks that managed resources can be added and that nothing else has changed."""
        for name in more:
            self.kube.apply(destination_cr(name, self.ours, "mail"))
            list_and_fetch(self.installation.available(self.ours, name))
        assert self.installation.target_port("mail") == self.port
        list_and_fetch(self.port)
        assert self.installation.condition(self.theirs, "other") == {}
        assert not self.installation.service_of(self.theirs, "other")


@pytest.fixture
def world(installation, make_cluster_tproxy, add_destination, api) -> World:
    add_destination("mail")
    return World(installation, make_cluster_tproxy, api)


def test_restart_with_a_mistake(world):
    since = json.loads(world.kube.get(KEPT)["data"]["configuration.json"])["since"]
    world.end()
    world.kube.patch(OBJECT, MISTAKE)
    world.proxy = world.start().ready()
    world.still_serves("second")
    said = until(
        lambda: (found := configured(world.installation))["status"] == "False" and found,
        "the condition",
    )
    assert "executionIntervalMinutes is 0;" in said["message"]
    assert f"The last good configuration, of {since}, stays in force." in said["message"]
    assert since in json.loads(world.kube.get(KEPT)["data"]["configuration.json"])["since"]
    world.kube.patch(OBJECT, CORRECTION)
    world.installation.configure(managedNamespacesMode="all")
    list_and_fetch(world.installation.available(world.theirs, "other"))


@pytest.mark.parametrize("code, reason", [(403, "Forbidden"), (404, "NotFound")])
def test_restart_while_it_cannot_be_listed(world, code, reason):
    world.end()
    usual = world.api.behaviour
    world.api.behaviour = where(list_of("transparentproxies"), refuse(code, reason))
    world.proxy = world.start().ready()
    world.still_serves("second")
    assert "cannot be listed" in world.proxy.http("/status")[1]
    world.api.behaviour = usual
    world.proxy.wait_log("TransparentProxy objects: listed")
    world.still_serves("third")
    assert "cannot be listed" not in world.proxy.http("/status")[1]


def test_deleted_and_applied_again(world):
    """kubectl replace --force, with a restart in between."""
    world.kube.delete(OBJECT)
    until(lambda: "was deleted" in world.proxy.http("/status")[1], "the deletion to be seen")
    world.still_serves("second")
    until(
        lambda: [e for e in world.installation.events(HOME) if e["reason"] == "ConfigurationDeleted"],
        "the Event",
    )
    world.end()
    world.proxy = world.start().ready()
    world.still_serves("third")
    world.installation.configure(managedNamespacesMode="labelSelector")
    until(lambda: configured(world.installation).get("status") == "True", "the object to count")
    assert "was deleted" not in world.proxy.http("/status")[1]
    world.still_serves("fourth")


@pytest.mark.one_build
def test_restart_writes_nothing(world):
    kept = world.kube.get(KEPT)["metadata"]["resourceVersion"]
    until(lambda: configured(world.installation), "the status")
    world.before = world.installation.versions()
    world.end()
    start = len(world.api.writes())
    world.proxy = world.start().ready()
    world.still_serves()
    assert [r.path for r in world.api.writes()[start:]] == []
    assert world.installation.versions() == world.before
    assert world.kube.get(KEPT)["metadata"]["resourceVersion"] == kept


@pytest.mark.one_build
def test_mistake_without_a_record(world):
    """Nothing is decided, and no resource is changed. A ConfigMap with the same name in a foreign
    namespace does not count."""
    world.end()
    kept = world.kube.get(KEPT)
    theirs = f"/api/v1/namespaces/{world.theirs}/configmaps"
    name = kept["metadata"]["name"]
    world.kube.delete(KEPT)
    labels = kept["metadata"]["labels"]
    world.kube.create(theirs, {"metadata": {"name": name, "labels": labels}, "data": kept["data"]})
    world.kube.patch(OBJECT, MISTAKE)
    start = len(world.api.writes())
    world.proxy = world.start()
    said = until(
        lambda: (found := configured(world.installation))["status"] == "False" and found,
        "the condition",
    )
    assert "No configuration is in force, and nothing is decided" in said["message"]
    assert world.proxy.http("/readyz") == (503, "waiting for the configuration\n")
    assert {r.path for r in world.api.writes()[start:]} == {f"{OBJECT}/status"}
    world.kube.patch(OBJECT, CORRECTION)
    world.proxy.ready()
    world.still_serves()


@pytest.mark.one_build
def test_without_rights_to_keep_it(world):
    """An installation with the old roles works and reports the missing right."""
    world.end()
    world.kube.delete(KEPT)
    world.api.behaviour = where(
        lambda request: "tproxy-last-configuration" in f"{request.path} {request.query}"
        or (request.method == "POST" and b"tproxy-last-configuration" in request.body),
        refuse(403, "Forbidden", "no rights to this ConfigMap"),
    )
    world.proxy = world.start().ready()
    world.still_serves("second")
    until(lambda: configured(world.installation).get("reason") == "NotKept", "the condition")
    message = configured(world.installation)["message"]
    assert "It cannot be kept for the next start in the ConfigMap" in message
