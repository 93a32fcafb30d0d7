"""tproxy installed in a cluster: the manifests on a real API server, the program with the
credentials of its ServiceAccount, and the objects that users apply."""

import json
import os
from pathlib import Path

from harness.clients import RawClient
from harness.connectivity_proxy import ConnectivityProxy
from harness.destination_service import DestinationService, key_secret
from harness.kube import ApiError, Kube
from harness.samples import HOME
from harness.tproxy import ROOT, Program, Tproxy
from harness.util import until

MANIFESTS = ROOT / "manifests"
CRS = "/apis/destination.connectivity.api.sap/v1"
PROXIES = f"/apis/operator.kyma-project.io/v1alpha1/namespaces/{HOME}/transparentproxies"

INSTANCE = "dest-service-instance"

# The Connectivity Proxy's namespace, its Service there, and the host names by which the program may
# reach it.
CONNECTIVITY = ("cp-ns", "connectivity-proxy")
CONNECTIVITY_HOSTS = [
    f"connectivity-proxy.cp-ns{domain}" for domain in ("", ".svc", ".svc.cluster.local")
]

# Ports outside the system's range for connections, as in production. Tests use them if a port has
# to stay free for a while.
TARGET_PORTS = ("--target-ports", "16384-32767")


def destination_cr(name: str, namespace: str, destination: str, **spec: object) -> dict:
    return {
        "apiVersion": "destination.connectivity.api.sap/v1",
        "kind": "Destination",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"destinationRef": {"name": destination}, **spec},
    }


def transparent_proxy(
    *instances: str,
    name: str = "transparent-proxy",
    home: str = HOME,
    key: str | None = "key",
    **config: object,
) -> dict:
    """Returns a TransparentProxy object with instances, each with a Secret of the same name; the
    first is the default. `key` is the Secrets' entry; None: each field has an entry."""
    service = {
        "defaultInstanceName": instances[0] if instances else None,
        "instances": [
            {"name": instance, "serviceCredentials": {"secretName": instance, "secretKey": key}}
            for instance in instances
        ],
    }
    return {
        "apiVersion": "operator.kyma-project.io/v1alpha1",
        "kind": "TransparentProxy",
        "metadata": {"name": name, "namespace": home},
        "spec": {"config": {"integration": {"destinationService": service}, **config}},
    }


# The manifests that kubectl has rendered, by the home namespace.
_rendered: dict[str, list[dict]] = {}


class ClusterTproxy(Tproxy):
    """The program in cluster mode."""

    def __init__(self, program: Program, directory: Path, mode: dict[str, str], *arguments: str):
        super().__init__(program, directory, *arguments)
        self._mode = mode

    @property
    def credentials(self) -> Path:
        """The directory with the files of its ServiceAccount."""
        return Path(self._mode["--kube-credentials"])

    def mode(self) -> dict[str, str]:
        return self._mode

    def ready(self) -> "ClusterTproxy":
        until(lambda: self.http("/readyz")[0] == 200, "the proxy to be ready")
        return self


class Installation:
    """The home namespace and its objects. Another home makes another installation."""

    def __init__(self, kube: Kube, service: DestinationService, home: str = HOME):
        self.kube = kube
        self.service = service
        self.home = home
        self.allows_loopback = True
        self.key = service.service_key()
        self.connectivity_key: dict[str, object] = {}
        self._suffix = "" if home == HOME else f"-{home}"
        if home in _rendered:
            kube.apply(*_rendered[home])
        else:
            directory = MANIFESTS if home == HOME else self._kustomization()
            kube.kubectl("apply", "-k", str(directory))
            _rendered[home] = kube.rendered(directory)
        until(self.served, "the custom resources to be served")

    def configure(
        self,
        key: str | None = "key",
        connectivity: ConnectivityProxy | None = None,
        **config: object,
    ) -> None:
        """Configures one instance and its service key. For `key` see transparent_proxy.
        `connectivity` is the route to on-premise systems; its service key is created if it has
        none."""
        proxy = transparent_proxy(INSTANCE, home=self.home, key=key, **config)
        objects = [key_secret(INSTANCE, self.home, self.key, key), proxy]
        if connectivity:
            namespace, service = CONNECTIVITY
            self.connectivity_key = self.connectivity_key or connectivity.service_key(by_name=True)
            proxy["spec"]["config"]["integration"]["connectivityProxy"] = {
                "serviceName": f"{service}.{namespace}",
                "tcpPort": connectivity.port,
                "serviceCredentials": {"secretName": service, "secretKey": "key"},
            }
            objects += [
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
                connectivity.config_map(namespace),
                key_secret(service, self.home, self.connectivity_key, "key"),
            ]
        self.kube.apply(*objects)

    def mode(self, directory: Path, url: str = "") -> dict[str, str]:
        """Returns flags for the program. `url` replaces the API server's, for a proxy in
        between."""
        account = f"tproxy{self._suffix}"
        credentials = self.kube.credentials(directory / "credentials", self.home, account)
        return {
            "--kube-url": url or self.kube.url,
            "--kube-credentials": str(credentials),
            "--listen": "127.0.0.1",
            **({"--allow-loopback": ""} if self.allows_loopback else {}),
            "--service-delay": "0",  # clients come without kube-proxy and DNS
        }

    # --- objects in the cluster ---

    def served(self) -> bool:
        """Returns whether the API server knows the custom resources, which takes a moment after a
        change."""
        try:
            self.kube.items(f"{CRS}/destinations")
            self.kube.items(PROXIES)
        except ApiError as error:
            assert error.code == 404, error
            return False
        return True

    def cr(self, namespace: str, name: str) -> dict:
        return self.kube.get(f"{CRS}/namespaces/{namespace}/destinations/{name}")

    def condition(self, namespace: str, name: str) -> dict:
        """Returns the condition Available; {} if there is none."""
        conditions = self.cr(namespace, name).get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == "Available"), {})

    def wait_condition(self, namespace: str, name: str, reason: str) -> dict:
        """Waits until the condition's reason ends with `reason`."""
        seen = {}

        def shown() -> bool:
            nonlocal seen
            seen = self.condition(namespace, name)
            return seen.get("reason", "").endswith(reason)

        try:
            until(shown, f"the condition {reason} of {namespace}/{name}", every=0.05)
        except AssertionError as failure:
            raise AssertionError(f"{failure}; it is {seen}") from None
        return seen

    def available(self, namespace: str, name: str) -> int:
        """Waits until the CR is available. Returns the target port."""
        self.wait_condition(namespace, name, "ConfigurationSuccessful")
        return self.target_port(name)

    def service_of(self, namespace: str, name: str) -> dict | None:
        try:
            return self.kube.get(f"/api/v1/namespaces/{namespace}/services/{name}")
        except ApiError as error:
            assert error.reason == "NotFound", error
            return None

    def target_port(self, name: str) -> int:
        return self.service_of(self.home, name)["spec"]["ports"][0]["targetPort"]

    def policies(self) -> dict[str, dict]:
        """Returns our NetworkPolicies by name."""
        path = f"/apis/networking.k8s.io/v1/namespaces/{self.home}/networkpolicies"
        return {item["metadata"]["name"]: item for item in self._labelled(path)}

    def events(self, namespace: str) -> list[dict]:
        return self.kube.items(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")

    def ours(self) -> list[str]:
        """Returns the names of all objects that carry our labels."""
        found = self._labelled("/api/v1/services") + list(self.policies().values())
        return sorted(
            f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in found
        )

    def versions(self) -> dict[str, str]:
        """Returns the resource versions of everything that tproxy writes: Services, policies, CRs,
        configuration."""
        found = self.kube.items("/api/v1/services")
        found += self.kube.items("/apis/networking.k8s.io/v1/networkpolicies")
        found += self.kube.items(f"{CRS}/destinations") + self.kube.items(PROXIES)
        return {item["metadata"]["uid"]: item["metadata"]["resourceVersion"] for item in found}

    # --- inside ---

    def _labelled(self, path: str) -> list[dict]:
        labels = f"app.kubernetes.io/managed-by=tproxy,tproxy/home={self.home}"
        return self.kube.items(f"{path}?labelSelector={labels}")

    def _kustomization(self) -> Path:
        """Writes the kustomization of docs/install.md. The CRDs exist already."""
        directory = self.kube.directory / self.home
        directory.mkdir(exist_ok=True)
        base = {
            "namespace": self.home,
            "nameSuffix": self._suffix,
            "resources": [os.path.relpath(MANIFESTS / "base", directory)],
        }
        (directory / "kustomization.yaml").write_text(json.dumps(base))
        return directory


def list_and_fetch(port: int, host: str = "127.0.0.1") -> list[bytes]:
    """Returns all messages of the mailbox behind a target, byte for byte, without a login."""
    with RawClient(port, host=host) as client:
        numbers = [int(line.split()[0]) for line in client.multi(b"LIST")]
        messages = [client.retr(number) for number in numbers]
        assert client.command(b"QUIT").startswith(b"+OK")
    return messages
