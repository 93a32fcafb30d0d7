"""Users who do not trust each other: each may write Destinations and Services in a namespace of
their own and nothing else. No user disturbs, delays or reaches another user's objects."""

import random

import pytest

from harness.installation import CRS, PROXIES, destination_cr
from harness.kube import MERGE, ApiError
from harness.samples import HOME
from harness.users import HostileUser

# --- the users themselves ---


def may(user, method: str, path: str, body: dict | None = None) -> bool:
    """Returns whether the API server allows the request; its other answers do not matter."""
    try:
        user.request(method, path, body, MERGE)
    except ApiError as error:
        return error.code != 403
    return True


def test_user_may_write_in_its_own_namespace(alice):
    cr = destination_cr("mail", alice.namespace, "nothing")
    service = {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}
    for path, new in ((alice.destinations, cr), (alice.services, service)):
        name = alice.create(path, new)["metadata"]["name"]
        assert [item["metadata"]["name"] for item in alice.items(path)] == [name]
        alice.patch(f"{path}/{name}", {"metadata": {"labels": {"a": "b"}}})
        alice.delete(f"{path}/{name}")
    alice.apply(cr)
    assert alice.kubectl("get", "destination", "-n", alice.namespace, "mail").stdout


def test_user_may_do_nothing_else(alice, mallory, installation):
    policies = "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies"
    alice.create(alice.destinations, destination_cr("mail", alice.namespace, "nothing"))
    closed = [
        f"{alice.destinations}/mail/status",
        f"/api/v1/namespaces/{alice.namespace}/secrets",
        f"/api/v1/namespaces/{alice.namespace}",
        policies.format(alice.namespace),
        policies.format(HOME),
        mallory.destinations,
        mallory.services,
        f"/api/v1/namespaces/{HOME}/services",
        f"/api/v1/namespaces/{HOME}/secrets",
        f"/api/v1/namespaces/{HOME}/configmaps",
        f"{CRS}/namespaces/{HOME}/destinations",
        f"{CRS}/destinations",
        PROXIES,
        "/api/v1/services",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    ]
    allowed = [
        (method, path)
        for path in closed
        for method, where in (("GET", path), ("POST", path), ("PATCH", f"{path}/x"))
        if may(alice, method, where, None if method == "GET" else {})
    ]
    assert not allowed
    assert may(mallory, "GET", mallory.destinations)


# --- a user who does everything ---


def test_hostile_user_can_be_repeated(installation):
    """Two users with one seed do the same, which tests of chaos need."""
    users = [
        HostileUser(installation.kube, "mallory", random.Random(1), [("a", "mail")], "nothing")
        for _ in range(2)
    ]
    acts = [[user.act() for _ in range(100)] for user in users]
    assert acts[0] == acts[1]
    assert {action.__name__ for action in HostileUser.ACTIONS} == set(acts[0])
    told = [[line.replace(user.namespace, "") for line in user.done] for user in users]
    assert told[0] == told[1]
    for user in users:
        user.leave()
        assert not user.items(user.destinations) and not user.items(user.services)
