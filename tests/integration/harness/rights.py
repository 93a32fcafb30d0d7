"""The rights that the program uses: its requests in the audit log of a control plane, compared with
the roles of the manifests."""

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ],
}
LOG = "audit.jsonl"

# The program's ServiceAccount, with the home namespace as group 1; see docs/install.md for the
# suffix. Tests use its tokens, too, but not the program's name.
ACCOUNT = re.compile(r"system:serviceaccount:([^:]+):tproxy(?:-\1)?")
USER_AGENT = "tproxy"


class Right(NamedTuple):
    """One verb for one resource that a role grants."""

    kind: str  # of the role; a Role is one in the home namespace
    role: str
    verb: str
    group: str
    resource: str  # with its subresource
    name: str  # "": all objects

    def __str__(self) -> str:
        return f"{self.kind} {self.role}: {_words(self)}"


class Request(NamedTuple):
    """What is alike in many requests: two of them with the same fields need the same right."""

    at_home: bool
    verb: str
    group: str
    resource: str  # with its subresource; the path if it is not a resource
    name: str  # "": none, and for every "create"
    allowed: bool

    def __str__(self) -> str:
        return f"{_words(self)}, {'in the home namespace' if self.at_home else 'elsewhere'}"


class Tally:
    """The rights that are granted and used, and the requests for which there is no right, of one
    control plane or of several; all as text."""

    def __init__(self, granted=(), used=(), missing=()):
        self._sets = set(granted), set(used), set(missing)

    def add(self, other: "Tally") -> None:
        for mine, theirs in zip(self._sets, other._sets, strict=True):
            mine |= theirs

    def plain(self) -> list[list[str]]:
        """Returns the arguments that make the same Tally."""
        return [sorted(each) for each in self._sets]

    def complaints(self, complete: bool) -> list[str]:
        """Returns what is wrong with the roles. Only a complete run shows that a right is
        superfluous."""
        granted, used, missing = self._sets
        unused = granted - used if complete else ()
        return [f"missing: {each}" for each in sorted(missing)] + [
            f"superfluous: {each}" for each in sorted(unused)
        ]


def audit_flags(directory: Path) -> list[str]:
    """Returns the flags of an API server that writes an audit log into the directory."""
    policy = directory / "audit-policy.json"
    policy.write_text(json.dumps(POLICY))
    return [f"--audit-policy-file={policy}", f"--audit-log-path={directory / LOG}"]


def audit_events(directory: Path) -> Iterator[dict]:
    """Yields the events of the program's requests from the audit log in the directory."""
    for file in sorted(directory.glob(LOG.replace(".", "*."))):  # the server renames a large one
        for line in file.read_text().splitlines():
            event = json.loads(line)
            if event.get("userAgent") == USER_AGENT and _home_of(event):
                yield event


def granted_rights(objects: Iterable[dict]) -> list[Right]:
    """Returns the rights of all roles among the objects, those of the smallest reach first."""
    rights = [
        Right(role["kind"], role["metadata"]["name"], verb, group, resource, name)
        for role in objects
        if role["kind"] in ("Role", "ClusterRole")
        for rule in role["rules"]
        for verb, group, resource, name in itertools.product(
            rule["verbs"], rule["apiGroups"], rule["resources"], rule.get("resourceNames", [""])
        )
    ]
    return sorted(rights, key=lambda right: right.kind != "Role")


def request_of(event: dict) -> Request:
    what, verb = event.get("objectRef", {"resource": event["requestURI"]}), event["verb"]
    decision = event.get("annotations", {}).get("authorization.k8s.io/decision")
    return Request(
        at_home=what.get("namespace") == _home_of(event),
        verb=verb,
        group=what.get("apiGroup", ""),
        resource="/".join(filter(None, (what["resource"], what.get("subresource")))),
        name="" if verb == "create" else what.get("name", ""),
        allowed=decision == "allow",
    )


def judge(rights: list[Right], requests: Iterable[Request]) -> Tally:
    """Says which rights the requests have used. A request that a role covers needs no other right,
    although a test may have taken this one away: then it is not used. A request that no role covers
    needs one, although a test may have granted it."""
    used, missing = set(), set()
    for request in set(requests):
        right = next((right for right in rights if _covers(right, request)), None)
        if not right:
            missing.add(str(request))
        elif request.allowed:
            used.add(str(right))
    return Tally(map(str, rights), used, missing)


# --- inside ---


def _home_of(event: dict) -> str:
    found = ACCOUNT.fullmatch(event["user"].get("username", ""))
    return found.group(1) if found else ""


def _covers(right: Right, request: Request) -> bool:
    return (
        (right.verb, right.group, right.resource) == (request.verb, request.group, request.resource)
        and right.name in ("", request.name)
        and (right.kind == "ClusterRole" or request.at_home)
    )


def _words(what: Right | Request) -> str:
    resource = ".".join(filter(None, (what.resource, what.group)))
    return " ".join(filter(None, (what.verb, resource, what.name)))
