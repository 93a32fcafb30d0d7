"""Users who may write Destinations and Services in their own namespaces and nothing else; one of
them is hostile."""

import http.client
import random
from collections.abc import Callable

from harness.installation import CRS, destination_cr
from harness.kube import APPLY, JSON, MERGE, ApiError, Client, Kube
from harness.samples import HOME, TENANTS
from harness.util import until

GROUP = "destination.connectivity.api.sap"
VERBS = ["create", "get", "list", "watch", "update", "patch", "delete"]
RULES = [
    {"apiGroups": [GROUP], "resources": ["destinations"], "verbs": VERBS},
    {"apiGroups": [""], "resources": ["services"], "verbs": VERBS},
]


class NamespaceUser(Client):
    """A user whom the API server identifies by a token. RULES are granted in one namespace: they
    exclude the status of a Destination, other objects, and other namespaces. The API server
    authorizes each request. Without `namespace` the user gets a new one."""

    def __init__(self, kube: Kube, name: str, namespace: str = ""):
        self.name = name
        self.namespace = namespace or kube.namespace()
        self.programs = kube.programs
        self._kube = kube
        directory = kube.directory / f"{self.namespace}-{name}"
        files = kube.credentials(directory, self.namespace, name)
        self.token = (files / "token").read_text()
        self.kubeconfig = files / "kubeconfig"
        kube.write_kubeconfig(self.kubeconfig, self.token)
        self.destinations = f"{CRS}/namespaces/{self.namespace}/destinations"
        self.services = f"/api/v1/namespaces/{self.namespace}/services"
        self._grant()

    @property
    def starts(self) -> int:
        return self._kube.starts

    def connect(self) -> http.client.HTTPSConnection:
        return self._kube.connect()

    def _grant(self) -> None:
        group = "rbac.authorization.k8s.io"
        path = f"/apis/{group}/v1/namespaces/{self.namespace}"
        about = {"metadata": {"name": self.name}}
        account = {"kind": "ServiceAccount", "name": self.name, "namespace": self.namespace}
        role = {"apiGroup": group, "kind": "Role", "name": self.name}
        self._kube.create(f"{path}/roles", {**about, "rules": RULES})
        self._kube.create(f"{path}/rolebindings", {**about, "roleRef": role, "subjects": [account]})
        until(self._granted, f"the rights of {self.name}", every=0.05)

    def _granted(self) -> bool:
        try:
            self.items(self.destinations)
            self.items(self.services)
        except ApiError as error:
            assert error.code in (403, 404), error
            return False
        return True


def forged_service(
    name: str, of_namespace: str, of_name: str, home: str = HOME, **metadata: object
) -> dict:
    """Returns a Service with the labels of one that tproxy created for a Destination."""
    labels = {
        "app.kubernetes.io/managed-by": "tproxy",
        "tproxy/home": home,
        "tproxy/destination-namespace": of_namespace,
        "tproxy/destination-name": of_name,
    }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": labels, **metadata},
        "spec": {"type": "ExternalName", "externalName": f"{name}.{home}.svc.cluster.local"},
    }


def nested(depth: int) -> dict:
    value: dict = {}
    for _ in range(depth):
        value = {"a": value}
    return value


class HostileUser(NamespaceUser):
    """A user who uses these rights against all others, with one random action at a time.

    Tests of chaos use it like this: they create a HostileUser with their own seed and call act()
    among other disturbances. At the end they call leave(), which takes everything back, so that the
    rest can be compared with what the other Destinations need. Each action is complete, may come in
    any order and any number of times, and accepts a refusal as an answer, even from an API server
    that is down. `done` records the actions and the API server's answers.

    `victims` are the namespaces and names of Destinations of others. `destination` is one that
    works.
    """

    MARK = "example.com/hold"  # a finalizer that nobody removes

    def __init__(
        self,
        kube: Kube,
        name: str,
        rng: random.Random,
        victims: list[tuple[str, str]],
        destination: str,
        home: str = HOME,
    ):
        super().__init__(kube, name)
        self.done: list[str] = []
        self._rng = rng
        self._victims = victims
        self._destination = destination
        self._home = home
        self._names = [victim for _, victim in victims] + [
            "sap-transp-proxy-int-healthcheck",
            "sap-transp-proxy-tcp-metrics",
            "own-a",
            "own-b",
            "own-a-tenant",
        ]

    def act(self) -> str:
        """Carries out one action and returns its name."""
        action = self._rng.choice(self.ACTIONS)
        self.done.append(f"-- {action.__name__}")
        action(self)
        return action.__name__

    def leave(self) -> None:
        """Removes everything in the namespace."""
        for path in (self.destinations, self.services):
            for item in self.items(path):
                one = f"{path}/{item['metadata']['name']}"
                self._try("PATCH", one, {"metadata": {"finalizers": None}})
                self._try("DELETE", one)

    # --- actions ---

    def claim_a_name(self) -> None:
        self._write(self._cr())

    def adopt(self) -> None:
        self._write(self._cr(annotations={"tproxy/adopt": "true"}))

    def vary(self) -> None:
        """Writes a spec with random values, valid or not."""
        some = self._rng.choice
        variable = {"name": some(["v", "v: x\r\nHost"]), "value": some(["", "\r\n\r\n"])}
        spec = {
            "accessControl": {"scope": some(["namespaced", "clusterWide"])},
            "service": {"port": some([1, 80, 110, 9494, 65535])},
            "destinationServiceInstanceName": some([None, "other", "kube-system/secret", "a\nb"]),
            "fragmentRef": some([None, {"name": "f\r\nX-tenant: other"}, {"name": "é" * 100}]),
            "chainRef": {"name": "chain", "variables": [variable]},
        }
        self._write(self._cr(**spec))

    def be_unreadable(self) -> None:
        many = [{"name": f"v{i}", "value": "x"} for i in range(70)]
        spec = self._rng.choice(
            [
                {"chainRef": {"name": "chain", "variables": many}},
                {"actions": [nested(80)]},
                {"actions": [{"big": "<" * 200_000}]},
                {"destinationRef": {"name": "tab\there"}},
            ]
        )
        self._write(self._cr(**spec))

    def annotate(self) -> None:
        text = self._rng.choice(['["a", "a"]', "[", '["../x"]', "x" * 100_000])
        self._write(self._cr(annotations={TENANTS: text, "example.com/much": "x" * 100_000}))

    def come_in_crowds(self) -> None:
        for i in range(10):
            self._write(destination_cr(f"crowd-{i}", self.namespace, self._destination))

    def hold(self) -> None:
        """Adds a finalizer to an object."""
        path = self._rng.choice([self.destinations, self.services])
        self._try("PATCH", self._one_of(path), {"metadata": {"finalizers": [self.MARK]}})

    def release(self) -> None:
        path = self._rng.choice([self.destinations, self.services])
        self._try("PATCH", self._one_of(path), {"metadata": {"finalizers": None}})

    def remove(self) -> None:
        path = self._rng.choice([self.destinations, self.services])
        self._try("DELETE", self._one_of(path))

    def forge(self) -> None:
        """Creates a Service that claims to be tproxy's, for a Destination of this namespace, of
        another one, or of none. It is written as tproxy would write it."""
        namespace, name = self._rng.choice([*self._victims, (self.namespace, "own-a"), ("x", "y")])
        service = forged_service(self._name(), namespace, name, self._home)
        if self._rng.random() < 0.5:
            service["metadata"]["finalizers"] = [self.MARK]
        path = f"{self.services}/{service['metadata']['name']}"
        self._try("PATCH", f"{path}?fieldManager=tproxy-{self._home}&force=true", service, APPLY)

    def mislead(self) -> None:
        """Changes a Service, perhaps one of tproxy's."""
        namespace, name = self._rng.choice(self._victims)
        change = self._rng.choice(
            [
                {"spec": {"type": "ExternalName", "externalName": "elsewhere.example.com"}},
                {"metadata": {"labels": {"tproxy/destination-namespace": namespace}}},
                {"metadata": {"labels": {"tproxy/destination-name": name}}},
                {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}},
                {"metadata": {"ownerReferences": None}},
            ]
        )
        self._try("PATCH", self._one_of(self.services), change)

    ACTIONS: tuple[Callable[["HostileUser"], None], ...] = (
        claim_a_name,
        adopt,
        vary,
        be_unreadable,
        annotate,
        come_in_crowds,
        hold,
        release,
        remove,
        forge,
        mislead,
    )

    # --- inside ---

    def _name(self) -> str:
        return self._rng.choice(self._names)

    def _one_of(self, path: str) -> str:
        """Returns the path of an object that may exist."""
        return f"{path}/{self._name()}"

    def _cr(self, annotations: dict | None = None, **spec: object) -> dict:
        cr = destination_cr(self._name(), self.namespace, self._destination, **spec)
        cr["metadata"]["annotations"] = annotations or {}
        return cr

    def _write(self, cr: dict) -> None:
        """Creates a Destination, or changes the one with that name."""
        if not self._try("POST", self.destinations, cr):
            self._try("PATCH", f"{self.destinations}/{cr['metadata']['name']}", cr)

    def _try(
        self, method: str, path: str, body: dict | None = None, content_type: str = MERGE
    ) -> bool:
        said = "done"
        try:
            self.request(method, path, body, content_type if method == "PATCH" else JSON)
        except ApiError as error:
            said = f"{error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            said = repr(error)
        self.done.append(f"{method} {path}: {said}")
        return said == "done"
