"""NetworkPolicies, judged by the rules of networking.k8s.io/v1: which connections does a network
plugin that enforces them let through?

Pods and namespaces are objects of the API server. An address outside of the cluster has no pod.
"""

import ipaddress
from dataclasses import dataclass, field


@dataclass
class Place:
    """An end of a connection: a pod, or only an address."""

    address: str
    namespace: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)  # the container's ports with a name

    @classmethod
    def of(cls, pod: dict) -> "Place":
        about = pod["metadata"]
        ports = [port for c in pod["spec"]["containers"] for port in c.get("ports", [])]
        return cls(
            pod["status"]["podIP"],
            about["namespace"],
            about.get("labels", {}),
            {port["name"]: port["containerPort"] for port in ports if "name" in port},
        )


class Policies:
    """All policies of a cluster, and its namespaces' labels."""

    def __init__(self, policies: list[dict], namespaces: list[dict]):
        self._policies = policies
        self._labels = {
            item["metadata"]["name"]: item["metadata"].get("labels", {}) for item in namespaces
        }

    def allow(self, source: Place, target: Place, port: int, protocol: str = "TCP") -> bool:
        """Returns whether source may connect to a port of target. Both ends have a say."""
        return self._passes("Egress", source, target, target, port, protocol) and self._passes(
            "Ingress", target, source, target, port, protocol
        )

    def _passes(self, direction, judged, peer, target, port, protocol) -> bool:
        """Asks the policies that select one end. A pod that none selects is open; otherwise one
        rule has to match."""
        rules, peers = {"Ingress": ("ingress", "from"), "Egress": ("egress", "to")}[direction]
        selecting = [
            policy
            for policy in self._policies
            if judged.namespace
            and policy["metadata"]["namespace"] == judged.namespace
            and direction in types(policy["spec"])
            and matches(policy["spec"].get("podSelector"), judged.labels)
        ]
        return not selecting or any(
            self._peer_matches(rule.get(peers), peer, policy["metadata"]["namespace"])
            and ports_match(rule.get("ports"), target, port, protocol)
            for policy in selecting
            for rule in policy["spec"].get(rules) or []
        )

    def _peer_matches(self, peers: list[dict] | None, peer: Place, home: str) -> bool:
        """An absent or empty list matches everybody."""
        return not peers or any(self._is_peer(each, peer, home) for each in peers)

    def _is_peer(self, wanted: dict, peer: Place, home: str) -> bool:
        if block := wanted.get("ipBlock"):
            address = ipaddress.ip_address(peer.address)
            return within(address, block["cidr"]) and not any(
                within(address, part) for part in block.get("except", [])
            )
        if not peer.namespace:
            return False
        if "namespaceSelector" in wanted:
            if not matches(wanted["namespaceSelector"], self._labels[peer.namespace]):
                return False
        elif peer.namespace != home:
            return False
        return matches(wanted.get("podSelector"), peer.labels)


def types(spec: dict) -> list[str]:
    """Returns the directions that a policy is about. Without a list every policy is about ingress,
    and about egress if it has rules for that."""
    return spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]


def ports_match(ports: list[dict] | None, target: Place, port: int, protocol: str) -> bool:
    """The ports are those of the pod, not of a Service. An absent or empty list matches all."""
    return not ports or any(is_port(each, target, port, protocol) for each in ports)


def is_port(wanted: dict, target: Place, port: int, protocol: str) -> bool:
    if wanted.get("protocol", "TCP") != protocol:
        return False
    first = wanted.get("port")
    if first is None:
        return True
    if isinstance(first, str):
        return target.ports.get(first) == port
    return first <= port <= wanted.get("endPort", first)


def matches(selector: dict | None, labels: dict[str, str]) -> bool:
    """An empty selector matches everything."""
    selector = selector or {}
    return (selector.get("matchLabels") or {}).items() <= labels.items() and all(
        expression_holds(expression, labels)
        for expression in selector.get("matchExpressions") or []
    )


def expression_holds(expression: dict, labels: dict[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or []
    return {
        "In": key in labels and labels[key] in values,
        "NotIn": key not in labels or labels[key] not in values,
        "Exists": key in labels,
        "DoesNotExist": key not in labels,
    }[expression["operator"]]


def within(address, network: str) -> bool:
    return address in ipaddress.ip_network(network)
