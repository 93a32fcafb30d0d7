"""The judgement of the roles in the manifests by the audit log."""

import json

import pytest

from harness.rights import LOG, Right, audit_events, granted_rights, judge, request_of

HOME = "home"
SECRETS = "secrets"


def role(kind: str, *verbs: str, names: tuple = (), group: str = "") -> dict:
    rule = {"apiGroups": [group], "resources": [SECRETS], "verbs": list(verbs)}
    rule |= {"resourceNames": list(names)} if names else {}
    return {"kind": kind, "metadata": {"name": "r"}, "rules": [rule]}


def event(verb: str, namespace: str = HOME, allowed: bool = True, **fields: object) -> dict:
    return {
        "verb": verb,
        "userAgent": "tproxy",
        "requestURI": "/",
        "user": {"username": f"system:serviceaccount:{HOME}:tproxy"},
        "objectRef": {"resource": SECRETS, "namespace": namespace, **fields},
        "annotations": {"authorization.k8s.io/decision": "allow" if allowed else "forbid"},
    }


def complaints(roles: list[dict], *events: dict, complete: bool = True) -> list[str]:
    tally = judge(granted_rights(roles), map(request_of, events))
    return tally.complaints(complete)


def test_exactly_what_is_granted():
    assert complaints([role("Role", "get", "list")], event("get", name="x"), event("list")) == []


def test_superfluous():
    roles = [role("Role", "get", "list")]
    assert complaints(roles, event("list")) == ["superfluous: Role r: get secrets"]
    assert complaints(roles, event("list"), complete=False) == []


@pytest.mark.parametrize(
    "granted, asked, words",
    [
        (role("Role", "list"), event("get", name="x"), "get secrets x, in the home namespace"),
        (role("Role", "list"), event("list", "other"), "list secrets, elsewhere"),
        (
            role("Role", "get", names=("a",)),
            event("get", name="b"),
            "get secrets b, in the home namespace",
        ),
        (role("Role", "list", names=("a",)), event("list"), "list secrets, in the home namespace"),
        (
            role("Role", "create", names=("a",)),
            event("create", name="a"),
            "create secrets, in the home namespace",
        ),
        (
            role("Role", "list", group="g"),
            event("list", apiGroup="h"),
            "list secrets.h, in the home namespace",
        ),
        (
            role("ClusterRole", "patch"),
            event("patch", name="x", subresource="status"),
            "patch secrets/status x, in the home namespace",
        ),
    ],
    ids=["verb", "namespace", "name", "all names", "create", "group", "subresource"],
)
@pytest.mark.parametrize("allowed", [True, False])
def test_missing(granted, asked, words, allowed):
    """It does not matter whether another role grants it."""
    decision = {"authorization.k8s.io/decision": "allow" if allowed else "forbid"}
    found = complaints([granted], {**asked, "annotations": decision}, complete=False)
    assert found == [f"missing: {words}"]


def test_path_that_is_not_a_resource():
    asked = {**event("get"), "requestURI": "/version"}
    del asked["objectRef"]
    assert complaints([], asked) == ["missing: get /version, elsewhere"]


def test_refused_request_uses_nothing():
    found = complaints([role("Role", "list")], event("list", allowed=False))
    assert found == ["superfluous: Role r: list secrets"]


def test_each_name_is_a_right():
    roles = [role("Role", "get", names=("a", "b"))]
    assert complaints(roles, event("get", name="a")) == ["superfluous: Role r: get secrets b"]


def test_narrow_role_is_used_first():
    """A ClusterRole is superfluous if the Role of the home namespace suffices."""
    roles = [role("ClusterRole", "list"), role("Role", "list")]
    assert complaints(roles, event("list")) == ["superfluous: ClusterRole r: list secrets"]
    assert complaints(roles, event("list"), event("list", "other")) == []


def test_tallies_are_added():
    """Each control plane shows a part."""
    rights = granted_rights([role("Role", "get", "list")])
    one, two = (judge(rights, [request_of(event(verb))]) for verb in ("get", "list"))
    one.add(type(two)(*two.plain()))
    assert one.complaints(complete=True) == []


def test_only_the_programs_events(tmp_path):
    """Others use its token, and other accounts its name."""
    own, harness, other = event("get"), event("list"), event("watch")
    harness["userAgent"] = "Python"
    other["user"]["username"] = "system:serviceaccount:home:tproxy-other"
    second = event("patch")
    second["user"]["username"] = "system:serviceaccount:two:tproxy-two"
    (tmp_path / LOG).write_text("".join(json.dumps(each) + "\n" for each in (own, harness, other)))
    (tmp_path / LOG.replace(".", "-2026.")).write_text(json.dumps(second) + "\n")
    assert sorted(each["verb"] for each in audit_events(tmp_path)) == ["get", "patch"]


def test_rights_of_a_rule():
    (right,) = granted_rights([{"kind": "Service"}, role("Role", "get", names=("a",))])
    assert right == Right("Role", "r", "get", "", SECRETS, "a")
