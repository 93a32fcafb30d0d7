"""The cluster, the replicas in it, and everything around them. Each method makes one change, and
notes it among the facts."""

import time
from collections import deque
from dataclasses import replace

from chaos.facts import Content, Facts, Key, Kind, Resource, Target
from chaos.fleet import Fleet, Place
from chaos.model import Model
from chaos.past import Past
from chaos.sessions import Mailboxes, Sessions
from chaos.snapshot import LABEL_HOME, LABEL_NAME, LABEL_NAMESPACE, MANAGER, Snapshot
from harness.installation import CRS, Installation, destination_cr
from harness.kube import ApiError
from harness.oauth import OAuthServer
from harness.samples import HOME, TENANTS

NAMESPACES = ("app-a", "app-b", "app-c")
DESTINATIONS = ("alpha", "beta", "gamma")
SUBDOMAINS = ("acme", "globex", "initech")

# The label of a namespace that names its installation.
MANAGED_BY = "transparent-proxy.connectivity.api.sap/namespace"

# An object that others change more often within this time is contested, and repaired late.
PEACE = 600
CHANGES_IN_PEACE = 2


def service_path(key: Key) -> str:
    return f"/api/v1/namespaces/{key[0]}/services/{key[1]}"


def resource_path(key: Key) -> str:
    return f"{CRS}/namespaces/{key[0]}/destinations/{key[1]}"


class World:
    def __init__(
        self, installation: Installation, oauth: OAuthServer, mailboxes: Mailboxes, fleet: Fleet
    ):
        self.installation = installation
        self.kube = installation.kube
        self.oauth = oauth
        self.mailboxes = mailboxes
        self.fleet = fleet
        self.facts = Facts()
        self.past = Past()
        self.sessions = Sessions()
        self.owners: dict[str, Key] = {}  # of the home Services at the last settling
        self.foreign: dict[str, dict] = {}  # the objects of others as they were made, by path
        self.unread = False  # the Destination service has changed
        self.down: set = set()  # of the Destination service and the token server
        self._round = 3  # config.manager.executionIntervalMinutes
        self._led = True  # one replica has led all the time since the last settling
        self._fragile: set[Target] = set()  # whose home Service was deleted since then
        self._changes: dict[str, deque] = {}  # when others have changed an object, by path
        for name in NAMESPACES:
            self.kube.create("/api/v1/namespaces", {"metadata": {"name": name}})
        for tenant in ("", *SUBDOMAINS):
            for box, name in enumerate(DESTINATIONS):
                if tenant != SUBDOMAINS[-1] or box == 0:
                    self.set_content(tenant, name, Content(Kind.POP3, box))
        self.facts.former.clear()
        self.configure()

    # --- the model ---

    def model(self, owners: dict[str, Key] | None = None) -> Model:
        return Model(self.facts, self.past, self.owners if owners is None else owners)

    def snapshot(self) -> Snapshot:
        return Snapshot(self.installation, self.facts.foreign)

    def note(self) -> None:
        """Notes that the facts have changed."""
        model = self.model()
        self.past.note(model)
        gone = {t for t in self.sessions.targets() if t not in model.stands or not model.stays(t)}
        self.sessions.leave(lambda target, replica: target in gone)

    def lose(self, target: Target) -> None:
        """The target has lost its port, perhaps."""
        self.past.lose(target)
        self.sessions.leave(lambda other, replica: other == target)

    def interrupt(self) -> None:
        """The leader may change. Another one does not know the ports of deleted Services."""
        self._led = False
        for target in self._fragile:
            self.lose(target)

    def settled(self, model: Model, owners: dict[str, Key]) -> None:
        self.owners = owners
        self.past.settle(model, owners)
        self._led = True
        self._fragile.clear()

    # --- CRs ---

    def create(self, resource: Resource) -> None:
        """Creates a CR, of which uid and time are still open."""
        spec: dict = {}
        if resource.port:
            spec["service"] = {"port": resource.port}
        if resource.scope:
            spec["accessControl"] = {"scope": resource.scope}
        body = destination_cr(resource.name, resource.namespace, resource.destination, **spec)
        if resource.tenants is not None:
            body["metadata"]["annotations"] = {TENANTS: resource.tenants}
        path = f"{CRS}/namespaces/{resource.namespace}/destinations"
        about = self.kube.create(path, body)["metadata"]
        self.facts.resources[resource.key] = replace(
            resource, uid=about["uid"], created=about["creationTimestamp"]
        )
        self.note()

    def change(self, key: Key, **changes: object) -> None:
        """Changes fields of a CR, named as in Resource."""
        resource = replace(self.facts.resources[key], **changes)
        spec = {
            "destinationRef": {"name": resource.destination},
            "service": {"port": resource.port} if resource.port else None,
            "accessControl": {"scope": resource.scope} if resource.scope else None,
        }
        metadata = {"annotations": {TENANTS: resource.tenants}}
        self.kube.patch(resource_path(key), {"metadata": metadata, "spec": spec})
        self.facts.resources[key] = resource
        self.note()

    def delete(self, key: Key) -> None:
        self.kube.delete(resource_path(key))
        del self.facts.resources[key]
        self.note()

    # --- namespaces ---

    def end_namespace(self, name: str, services_first: bool) -> None:
        """Deletes a namespace with all that is in it, as the namespace controller does, and creates
        it again."""
        path = f"/api/v1/namespaces/{name}"
        ending = self.kube.delete(path)
        plurals = [f"{path}/services", f"{CRS}/namespaces/{name}/destinations"]
        for collection in plurals if services_first else reversed(plurals):
            self.kube.delete(collection)
        self.kube.request("PUT", f"{path}/finalize", {**ending, "spec": {}})
        for key in [key for key in self.facts.resources if key[0] == name]:
            del self.facts.resources[key]
        for key in [key for key in self.facts.foreign if key[0] == name]:
            self._forget_foreign(key)
        self.facts.labelled.discard(name)
        self.kube.create("/api/v1/namespaces", {"metadata": {"name": name}})
        self.note()

    def label(self, namespace: str, labelled: bool) -> None:
        value = HOME if labelled else None
        change = {"metadata": {"labels": {MANAGED_BY: value}}}
        self.kube.patch(f"/api/v1/namespaces/{namespace}", change)
        (self.facts.labelled.add if labelled else self.facts.labelled.discard)(namespace)
        self.note()

    # --- others ---

    def in_peace(self, path: str) -> bool:
        """Returns whether one more change of the object by others is undone at once, and counts
        it."""
        times = self._changes.setdefault(path, deque())
        while times and times[0] < time.monotonic() - PEACE:
            times.popleft()
        if len(times) >= CHANGES_IN_PEACE:
            return False
        times.append(time.monotonic())
        return True

    def meddle(self, path: str, change: dict | None) -> bool:
        """Changes an object, or deletes it. Returns whether it was there."""
        try:
            if change is None:
                self.kube.delete(path)
            else:
                self.kube.patch(path, change)
        except ApiError as error:
            assert error.reason == "NotFound", error
            return False
        return True

    def home_service_deleted(self, name: str) -> None:
        """Notes that others have deleted a home Service. The leader writes it again, with the same
        port."""
        for target in self.model().stands:
            if target.service == name:
                self._fragile.add(target)
                if not self._led:
                    self.lose(target)

    def home_service_spoilt(self, name: str) -> None:
        """Notes that others have changed the port of a home Service."""
        for target in self.model().stands:
            if target.service == name:
                self.lose(target)

    def add_foreign(self, key: Key, forged: bool) -> bool:
        """Creates a foreign Service, with labels like ours if it is `forged`. Returns whether the
        name was free."""
        labels = {MANAGER: "tproxy", LABEL_HOME: HOME, LABEL_NAMESPACE: key[0], LABEL_NAME: key[1]}
        metadata = {"name": key[1], "labels": labels if forged else {"made-by": "others"}}
        body = {"metadata": metadata, "spec": {"ports": [{"port": 80}]}}
        try:
            made = self.kube.create(f"/api/v1/namespaces/{key[0]}/services", body)
        except ApiError as error:
            assert error.reason == "AlreadyExists", error
            return False
        self.foreign[service_path(key)] = made
        self.facts.foreign.add(key)
        self.note()
        return True

    def remove_foreign(self, key: Key) -> None:
        self.kube.delete(service_path(key))
        self._forget_foreign(key)
        self.note()

    def _forget_foreign(self, key: Key) -> None:
        del self.foreign[service_path(key)]
        self.facts.foreign.discard(key)

    # --- configuration and destinations ---

    def configure(self) -> None:
        """Writes the TransparentProxy object, in other words each time: so all destinations are
        read again."""
        facts = self.facts
        self._round = 3 + (self._round - 2) % 50
        self.installation.configure(
            tenantMode="shared" if facts.shared else "dedicated",
            managedNamespacesMode="labelSelector" if facts.selects else "all",
            manager={"executionIntervalMinutes": self._round},
            security={
                "accessControl": {
                    "destinations": {
                        "defaultScope": "clusterWide" if facts.wide else "namespaced"
                    }
                }
            },
            metrics={"prometheus": {"enabled": True}},
        )
        self.note()

    def set_content(self, tenant: str, name: str, content: Content) -> None:
        service = self.installation.service
        there = service.tenant(tenant).destinations if tenant else service.destinations
        if content.kind is Kind.MISSING:
            there.pop(name, None)
        else:
            there[name] = self._properties(name, content)
        self.facts.set_content(tenant, name, content)
        self.unread = True
        self.note()

    def _properties(self, name: str, content: Content) -> dict[str, str]:
        if content.kind is Kind.WEB:
            return {"Name": name, "Type": "HTTP", "URL": "http://web.example.com"}
        good = self.mailboxes.properties(name, content.box)
        change = {
            Kind.NO_HOST: {"mail.pop3.host": None},
            Kind.PROXY_TYPE: {"ProxyType": "PrivateLink"},
            Kind.AUTHENTICATION: {"Authentication": "SAMLAssertion"},
        }.get(content.kind, {})
        return {key: value for key, value in {**good, **change}.items() if value is not None}

    # --- the landscape ---

    def switch_off(self, server) -> None:
        if server not in self.down:
            self.down.add(server)
            server.stop()

    def switch_on(self, server) -> None:
        if server in self.down:
            self.down.remove(server)
            server.start()
            self.unread = True

    def leave_replica(self, place: Place) -> None:
        """Its clients leave."""
        self.sessions.leave(lambda target, replica: replica is place.replica)
