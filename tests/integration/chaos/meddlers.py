"""Others who change or delete what tproxy has made."""

import itertools
import random

from chaos.model import Stand
from chaos.world import World, resource_path, service_path
from harness.replicas import LEASE
from harness.samples import HOME

POLICIES = f"/apis/networking.k8s.io/v1/namespaces/{HOME}/networkpolicies"

# Target ports that nobody else has.
_ports = itertools.count(10000)


def home_changes(port: int, target_port: int) -> dict[str, dict]:
    """Changes of a home Service with this port."""
    own = {"name": "tcp-pop3", "protocol": "TCP", "appProtocol": "tcp"}
    usual = {**own, "port": port, "targetPort": target_port}
    more = {"name": "more", "protocol": "TCP", "port": 4110, "targetPort": 4110}
    return {
        "port": {"ports": [{**usual, "port": 4242}]},
        "more ports": {"ports": [usual, more]},
        "selector": {"selector": {"app.kubernetes.io/name": "theirs"}},
        "type": {"type": "NodePort"},
        "address": {"externalIPs": ["203.0.113.7"]},
        "target port": {"ports": [{**usual, "targetPort": next(_ports)}]},
    }


ALIAS_CHANGES = {
    "host": {"spec": {"externalName": "theirs.example.com"}},
    "labels": {"metadata": {"labels": None}},
    "label": {"metadata": {"labels": {"tproxy/destination-name": "theirs"}}},
}


def change_service(world: World, rng: random.Random) -> str | None:
    services = world.snapshot().services
    keys = sorted(world.model().expected().services.keys() & services.keys())
    if not keys:
        return None
    key = rng.choice(keys)
    if not world.in_peace(service_path(key)):
        return None
    if key[0] == HOME:
        port = services[key]["spec"]["ports"][0]
        changes = home_changes(port["port"], port["targetPort"])
        what = rng.choice(sorted(changes))
        change = {"spec": changes[what]}
    else:
        what = rng.choice(sorted(ALIAS_CHANGES))
        change = ALIAS_CHANGES[what]
    if not world.meddle(service_path(key), change):
        return None
    if what == "target port":
        world.home_service_spoilt(key[1])
    return f"changes the Service {'/'.join(key)}: {what}"


def delete_service(world: World, rng: random.Random) -> str | None:
    keys = sorted(world.model().expected().services)
    key = rng.choice(keys) if keys else None
    if not key or not world.in_peace(service_path(key)):
        return None
    if not world.meddle(service_path(key), None):
        return None
    if key[0] == HOME:
        world.home_service_deleted(key[1])
    return f"deletes the Service {'/'.join(key)}"


def policy_changes(rule: dict) -> dict[str, dict | None]:
    """Changes of a policy with this rule. None of them lists all ports, which nobody would get for
    a while then."""
    return {
        "ports": {"spec": {"ingress": [{**rule, "ports": [{"protocol": "TCP", "port": 1}]}]}},
        "origin": {"spec": {"ingress": [{**rule, "from": [{"podSelector": {}}]}]}},
        "pods": {"spec": {"podSelector": {"matchLabels": {"some": "other"}}}},
        "deleted": None,
    }


def change_policy(world: World, rng: random.Random) -> str | None:
    policies = world.installation.policies()
    if not policies:
        return None
    name = rng.choice(sorted(policies))
    (rule,) = policies[name]["spec"]["ingress"]
    what, change = rng.choice(list(policy_changes(rule).items()))
    path = f"{POLICIES}/{name}"
    if not world.in_peace(path) or not world.meddle(path, change):
        return None
    return f"changes the NetworkPolicy {name}: {what}"


def change_status(world: World, rng: random.Random) -> str | None:
    """Only that of a CR whose destination shows that it is ours."""
    served = sorted(t for t, stand in world.model().stands.items() if stand is Stand.SERVED)
    if not served:
        return None
    path = f"{resource_path(rng.choice(served).key)}/status"
    theirs = {"type": "Available", "status": "False", "reason": "Theirs", "message": "no"}
    conditions = [{**theirs, "lastUpdateTime": "2026-01-01T00:00:00Z"}]
    if not world.in_peace(path):
        return None
    world.meddle(path, {"status": {"conditions": rng.choice((conditions, []))}})
    return f"changes {path}"


def delete_lease(world: World, rng: random.Random) -> str | None:
    return "deletes the Lease" if world.meddle(LEASE, None) else None
