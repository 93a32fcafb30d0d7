"""Compares the objects that there are with those that there must be."""

from collections.abc import Iterator

from chaos.facts import Facts, Key
from chaos.model import Condition, Expected, Service
from chaos.snapshot import LABEL_HOME, LABEL_NAME, LABEL_NAMESPACE, MANAGER, Snapshot
from harness.samples import HOME

PODS = {"app.kubernetes.io/instance": "tproxy", "app.kubernetes.io/name": "tproxy"}

# What the network policies say of the origin of connections.
EVERYWHERE = [{"namespaceSelector": {}}]


def differences(facts: Facts, expected: Expected, seen: Snapshot) -> list[str]:
    """Returns one line for each difference."""
    return [
        *_conditions(expected, seen),
        *_services(facts, expected, seen),
        *_policies(expected, seen),
    ]


# --- conditions ---


def _conditions(expected: Expected, seen: Snapshot) -> Iterator[str]:
    if expected.conditions.keys() != seen.resources.keys():
        yield f"CRs: {sorted(seen.resources)} instead of {sorted(expected.conditions)}"
    for key, wanted in expected.conditions.items():
        status = seen.resources.get(key, {}).get("status", {})
        conditions = status.get("conditions", [])
        shown = next((c for c in conditions if c["type"] == "Available"), None)
        tenants = [tenant["tenantSubdomain"] for tenant in status.get("tenants", [])]
        if complaint := _condition(wanted, shown, tenants):
            yield f"condition of {'/'.join(key)}: {complaint}"


def _condition(wanted: Condition | None, shown: dict | None, tenants: list[str]) -> str:
    if not wanted or not shown:
        return "" if bool(wanted) == bool(shown) else f"{shown} instead of {wanted}"
    if shown["status"] != wanted.status or shown["reason"] not in wanted.reasons:
        return f"{shown['status']} {shown['reason']}: {shown['message']}, instead of {wanted}"
    return "" if tenants == wanted.tenants else f"tenants {tenants} instead of {wanted.tenants}"


# --- Services ---


def _services(facts: Facts, expected: Expected, seen: Snapshot) -> Iterator[str]:
    for key in seen.services.keys() - expected.services.keys():
        yield f"Service {'/'.join(key)}: nobody needs it"
    for key, wanted in expected.services.items():
        service = seen.services.get(key)
        if service:
            for what, value, right in _parts(facts, key, wanted, service):
                if value != right:
                    yield f"Service {'/'.join(key)}: {what} {value} instead of {right}"
        elif wanted.certain:
            yield f"Service {'/'.join(key)}: it is missing"
    ports: dict[int, str] = {}
    for place, name in seen.services:
        port = seen.target_port(name) if place == HOME else None
        if port in ports:
            yield f"Services {ports[port]} and {name}: they share the port {port}"
        if port:
            ports[port] = name


def _parts(facts: Facts, key: Key, wanted: Service, service: dict) -> Iterator[tuple]:
    """Yields the parts that tproxy writes: what it is, what is there, what must be."""
    place, name = key
    target, about, spec = wanted.target, service["metadata"], service["spec"]
    labels = about.get("labels", {})
    ours = (MANAGER, LABEL_HOME, LABEL_NAMESPACE, LABEL_NAME)
    yield "labels", [labels.get(label) for label in ours], ["tproxy", HOME, *target.key]
    ports = [{**port, "nodePort": None} for port in spec.get("ports", [])]
    port = ports[0]["port"] if ports else None
    port = port if wanted.ports is None or port in wanted.ports else wanted.ports
    right = {"name": "tcp-pop3", "protocol": "TCP", "appProtocol": "tcp", "port": port}
    if place == HOME:
        inner = ports[0].get("targetPort") if ports else None
        right |= {"targetPort": inner, "nodePort": None}
        yield "ports", ports, [right]
        yield "type", spec["type"], "ClusterIP"
        yield "selector", spec.get("selector"), PODS
        yield "externalIPs", spec.get("externalIPs"), None
        return
    yield "port", [p["port"] for p in ports], [port]
    yield "type", spec["type"], "ExternalName"
    yield "externalName", spec.get("externalName"), f"{name}.{HOME}.svc.cluster.local"
    owners = [owner["uid"] for owner in about.get("ownerReferences", [])]
    yield "owners", owners, [facts.resources[target.key].uid]


# --- NetworkPolicies ---


def _policies(expected: Expected, seen: Snapshot) -> Iterator[str]:
    """Each policy lists the ports of its targets that have a home Service, and no others."""
    needed: dict[str, dict[int, bool]] = {}  # by policy and port; whether it must be listed
    for (place, _), wanted in expected.services.items():
        port = seen.target_port(wanted.target.service)
        if place == HOME and port:
            name = expected.policies[wanted.target]
            needed.setdefault(name, {})[port] = wanted.certain
    for name in needed.keys() | seen.policies.keys():
        ports = needed.get(name, {})
        must = {port for port, certain in ports.items() if certain}
        policy = seen.policies.get(name)
        if not policy:
            if must:
                yield f"NetworkPolicy {name}: it is missing, and should list {sorted(must)}"
            continue
        if not ports:
            yield f"NetworkPolicy {name}: nobody needs it"
        elif complaint := _policy(name, policy["spec"], must, set(ports)):
            yield f"NetworkPolicy {name}: {complaint}"


def _policy(name: str, spec: dict, must: set[int], may: set[int]) -> str:
    rules = spec.get("ingress", [])
    entries = [entry for rule in rules for entry in rule.get("ports", [])]
    if any(entry.get("protocol") != "TCP" or "port" not in entry for entry in entries):
        return f"ports {entries}"
    listed = {p for e in entries for p in range(e["port"], e.get("endPort", e["port"]) + 1)}
    if not must <= listed <= may:
        return f"ports {sorted(listed)} instead of {sorted(must)}"
    namespace = name.removeprefix("tproxy-namespace-")
    label = {"kubernetes.io/metadata.name": namespace}
    own = [{"namespaceSelector": {"matchLabels": label}}]
    right = own if namespace != name else EVERYWHERE
    if any(rule.get("from") != right for rule in rules):
        return f"rules {rules}, which should be from {right}"
    selected = spec["podSelector"].get("matchLabels")
    return "" if selected == PODS and spec["policyTypes"] == ["Ingress"] else f"{spec}"
