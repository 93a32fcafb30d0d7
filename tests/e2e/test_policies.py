"""The judge of NetworkPolicies, by the examples of the Kubernetes documentation."""

import pytest

from node.policies import Place, Policies

LABELS = {
    "shop": {"kubernetes.io/metadata.name": "shop", "project": "myproject"},
    "other": {"kubernetes.io/metadata.name": "other"},
}
NAMESPACES = [{"metadata": {"name": name, "labels": labels}} for name, labels in LABELS.items()]

DB = Place("10.0.0.1", "shop", {"role": "db"}, {"sql": 5432})
FRONT = Place("10.0.0.2", "shop", {"role": "frontend"})
BACK = Place("10.0.0.3", "shop", {"role": "backend"})
STRANGER = Place("10.0.0.4", "other", {"role": "frontend"})
OUTSIDE = Place("172.17.0.9")
EVERYBODY = {"front": FRONT, "back": BACK, "stranger": STRANGER, "outside": OUTSIDE}


def policy(name: str = "p", namespace: str = "shop", **spec: object) -> dict:
    spec.setdefault("podSelector", {"matchLabels": {"role": "db"}})
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def may_reach(*policies: dict, port: int = 6379, protocol: str = "TCP") -> set[str]:
    judge = Policies(list(policies), NAMESPACES)
    return {name for name, one in EVERYBODY.items() if judge.allow(one, DB, port, protocol)}


ALL = set(EVERYBODY)
FROM_FRONT = {"from": [{"podSelector": {"matchLabels": {"role": "frontend"}}}]}


@pytest.mark.parametrize(
    "spec, expected",
    [
        # Nothing is selected, or nothing is said about ingress.
        ({"podSelector": {"matchLabels": {"role": "x"}}, "ingress": []}, ALL),
        ({"policyTypes": ["Egress"]}, ALL),
        # Nobody, everybody.
        ({"policyTypes": ["Ingress"]}, set()),
        ({"podSelector": {}, "ingress": []}, set()),
        ({"ingress": [{}]}, ALL),
        ({"ingress": [{"from": []}]}, ALL),
        # A pod selector alone is about the policy's own namespace.
        ({"ingress": [FROM_FRONT]}, {"front"}),
        ({"ingress": [{"from": [{"podSelector": {}}]}]}, {"front", "back"}),
        # A namespace selector is about all pods there; an empty one about all namespaces.
        (
            {"ingress": [{"from": [
                {"namespaceSelector": {"matchLabels": {"project": "myproject"}}}
            ]}]},
            {"front", "back"},
        ),
        ({"ingress": [{"from": [{"namespaceSelector": {}}]}]}, {"front", "back", "stranger"}),
        # In one element both have to hold, in two one is enough.
        (
            {"ingress": [{"from": [{"namespaceSelector": {}, **FROM_FRONT["from"][0]}]}]},
            {"front", "stranger"},
        ),
        (
            {"ingress": [{"from": [{"namespaceSelector": {}}, FROM_FRONT["from"][0]]}]},
            {"front", "back", "stranger"},
        ),
        # Addresses.
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "172.17.0.0/16"}}]}]}, {"outside"}),
        (
            {"ingress": [{"from": [
                {"ipBlock": {"cidr": "172.17.0.0/16", "except": ["172.17.0.0/24"]}}
            ]}]},
            set(),
        ),
        # Rules add up.
        (
            {"ingress": [FROM_FRONT, {"from": [{"ipBlock": {"cidr": "172.17.0.0/16"}}]}]},
            {"front", "outside"},
        ),
        # Expressions.
        (
            {"ingress": [{"from": [{"podSelector": {"matchExpressions": [
                {"key": "role", "operator": "NotIn", "values": ["frontend"]},
                {"key": "role", "operator": "Exists"},
                {"key": "tier", "operator": "DoesNotExist"},
            ]}}]}]},
            {"back"},
        ),
        (
            {"ingress": [{"from": [{"podSelector": {"matchExpressions": [
                {"key": "role", "operator": "In", "values": ["frontend", "x"]}
            ]}}]}]},
            {"front"},
        ),
    ],
    ids=str,
)
def test_who(spec, expected):
    assert may_reach(policy(**spec)) == expected


@pytest.mark.parametrize(
    "ports, port, protocol, expected",
    [
        ([], 1, "TCP", True),
        ([{"port": 6379}], 6379, "TCP", True),
        ([{"port": 6379}], 6380, "TCP", False),
        ([{"port": 6379}], 6379, "UDP", False),
        ([{"protocol": "UDP"}], 6379, "UDP", True),
        ([{"protocol": "TCP"}], 6379, "UDP", False),
        ([{"port": 100, "endPort": 200}], 200, "TCP", True),
        ([{"port": 100, "endPort": 200}], 201, "TCP", False),
        ([{"port": 1}, {"port": 2}], 2, "TCP", True),
        ([{"port": "sql"}], 5432, "TCP", True),
        ([{"port": "sql"}], 5433, "TCP", False),
        ([{"port": "http"}], 5432, "TCP", False),
    ],
    ids=str,
)
def test_ports(ports, port, protocol, expected):
    found = may_reach(policy(ingress=[{"ports": ports}]), port=port, protocol=protocol)
    assert found == (ALL if expected else set())


def test_peer_and_port_both_count():
    one = policy(ingress=[{**FROM_FRONT, "ports": [{"port": 6379}]}])
    assert may_reach(one) == {"front"}
    assert may_reach(one, port=1) == set()


def test_policies_add_up_and_stay_in_their_namespace():
    closed = policy("closed", policyTypes=["Ingress"])
    assert may_reach(closed, policy("front", ingress=[FROM_FRONT])) == {"front"}
    assert may_reach(policy(namespace="other", podSelector={}, policyTypes=["Ingress"])) == ALL


def test_egress_has_a_say():
    quiet = policy(podSelector={"matchLabels": {"role": "frontend"}}, policyTypes=["Egress"])
    assert may_reach(quiet) == ALL - {"front"}
    dns_only = policy(podSelector={}, egress=[{"ports": [{"port": 53, "protocol": "UDP"}]}])
    # Such a policy is about ingress, too, for it does not say what it is about.
    assert may_reach(dns_only) == set()
    only_egress = policy(
        podSelector={}, policyTypes=["Egress"], egress=[{"to": [{"podSelector": {}}]}]
    )
    assert may_reach(only_egress) == ALL
    assert not Policies([only_egress], NAMESPACES).allow(FRONT, STRANGER, 1)
