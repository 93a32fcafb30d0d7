"""The objects that there are."""

from chaos.facts import Key
from harness.installation import CRS, Installation
from harness.samples import HOME

MANAGER = "app.kubernetes.io/managed-by"
LABEL_HOME = "tproxy/home"
LABEL_NAMESPACE = "tproxy/destination-namespace"
LABEL_NAME = "tproxy/destination-name"

# The Services of the manifests and of the API server.
OWN = ("sap-transp-proxy-", "kubernetes")


def by_key(items: list[dict]) -> dict[Key, dict]:
    return {(i["metadata"]["namespace"], i["metadata"]["name"]): i for i in items}


class Snapshot:
    def __init__(self, installation: Installation, foreign: set[Key]):
        kube = installation.kube
        self.resources = by_key(kube.items(f"{CRS}/destinations"))
        services = by_key(kube.items("/api/v1/services"))
        self.services = {
            key: service
            for key, service in services.items()
            if key not in foreign and not key[1].startswith(OWN)
        }
        self.foreign = {key: service for key, service in services.items() if key in foreign}
        self.policies = installation.policies()

    def owners(self) -> dict[str, Key]:
        """Returns the CRs of the home Services by the name of the Service."""
        found = {}
        for (place, name), service in self.services.items():
            labels = service["metadata"].get("labels", {})
            if place == HOME and labels.get(LABEL_HOME) == HOME:
                found[name] = (labels.get(LABEL_NAMESPACE, ""), labels.get(LABEL_NAME, ""))
        return found

    def target_port(self, name: str) -> int | None:
        """Returns the target port of a home Service."""
        spec = self.services.get((HOME, name), {}).get("spec", {})
        return next((port["targetPort"] for port in spec.get("ports", [])), None)
