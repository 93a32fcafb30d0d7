"""The objects that there must be, computed from the facts alone, by SPEC section 1. Where two of
several CRs may win, or a Service may be there or not, the model says so."""

import enum
from collections import defaultdict
from dataclasses import dataclass, field

from chaos.facts import Facts, Key, Kind, Resource, Target, is_service_name, places
from chaos.past import Past
from harness.samples import HOME

ERROR = "ConfigurationError-"
REFERENCED = f"{ERROR}ReferencedDestination-"
SUCCESS = "ConfigurationSuccessful"
DUPLICATE = f"{ERROR}DuplicateDestinationCustomResource"
TAKEN = f"{ERROR}K8sResourceWithNameAlreadyPresent"
ANNOTATION = f"{ERROR}MultitenancyAnnotation-Invalid"
NAME = "ServiceCreationFailed"
TENANTS = "FailedToApplyConfiguration"

REASONS = {
    Kind.MISSING: f"{REFERENCED}NotFound",
    Kind.NO_HOST: f"{REFERENCED}UrlNotSupported",
    Kind.PROXY_TYPE: f"{REFERENCED}ProxyTypeNotSupported",
    Kind.AUTHENTICATION: f"{REFERENCED}AuthenticationNotSupported",
    Kind.WEB: f"{REFERENCED}TypeNotSupported",  # where another tenant's is a mailbox
}

PORTS = {Kind.POP3: 110, Kind.POP3S: 995}

WIDE = "tproxy-clusterwide"


class Stand(enum.Enum):
    """What becomes of a target."""

    SERVED = "served"
    HELD = "held"  # its destination is of no use: a Service that was there stays
    BLOCKED = "blocked"  # a foreign Service has its name
    REFUSED = "refused"
    LEFT = "left alone"


@dataclass
class Condition:
    status: str
    reasons: set[str]  # any of them
    tenants: list[str]  # that are served


@dataclass
class Service:
    target: Target
    ports: set[int] | None  # of the clients, any of them; None: any at all
    certain: bool  # it must be there; otherwise it may


@dataclass
class Expected:
    conditions: dict[Key, Condition | None] = field(default_factory=dict)
    services: dict[Key, Service] = field(default_factory=dict)
    policies: dict[Target, str] = field(default_factory=dict)  # the name of each target's policy


def policy_name(namespace: str) -> str:
    return f"tproxy-namespace-{namespace}"


class Model:
    """`owners` are the CRs of the home Services that there are, by name. They decide only between
    those who may win."""

    def __init__(self, facts: Facts, past: Past, owners: dict[str, Key]):
        self._facts = facts
        self._past = past
        self._owners = owners
        self.stands: dict[Target, Stand] = {}
        self._reasons: dict[Target, set[str]] = {}
        self._refused: dict[Key, set[str]] = {}  # CRs as a whole, and why
        self.possible: set[Target] = set()  # may have had a Service since the last settling
        contenders: dict[str, list[Target]] = defaultdict(list)
        for resource in facts.resources.values():
            for target in self._judge(resource):
                contenders[target.service].append(target)
        for name, targets in contenders.items():
            self._decide(name, targets)

    def usable(self, target: Target) -> bool:
        return self._kind(target) in PORTS

    def stays(self, target: Target) -> bool:
        """Returns whether a Service that the target has stays."""
        return self.stands[target] in (Stand.SERVED, Stand.HELD)

    def expected(self) -> Expected:
        expected = Expected()
        for key, resource in self._facts.resources.items():
            expected.conditions[key] = self._condition(resource)
        for target, stand in self.stands.items():
            if stand in (Stand.SERVED, Stand.HELD, Stand.BLOCKED):
                self._expect_services(expected, target, stand)
        return expected

    # --- CRs ---

    def _judge(self, resource: Resource) -> list[Target]:
        """Returns the targets that need the names of their Services."""
        facts, targets = self._facts, self._facts.targets(resource)
        kinds = {self._kind(target) for target in targets}
        ours = facts.managed(resource.namespace) and resource.destination != "*"
        if not ours or kinds == {Kind.WEB}:
            self.stands.update(dict.fromkeys(targets, Stand.LEFT))
            return []
        refused = set()
        if not targets:
            refused.add(ANNOTATION)
        if not is_service_name(resource.name):
            refused.add(NAME)
        if refused:
            self._refused[resource.key] = refused
            self.stands.update(dict.fromkeys(targets, Stand.REFUSED))
            return []
        return targets

    def _kind(self, target: Target) -> Kind:
        resource = self._facts.resources[target.key]
        return self._facts.content(target.tenant, resource.destination).kind

    def _age(self, target: Target) -> tuple:
        return self._facts.resources[target.key].age

    # --- names ---

    def _decide(self, name: str, targets: list[Target]) -> None:
        """The one that has the Service keeps the name; otherwise the oldest that can use it gets
        it."""
        first = self._first(name, targets)
        for target in targets:
            own = set() if self.usable(target) else {REASONS[self._kind(target)]}
            self._reasons[target] = own
            if (HOME, name) in self._facts.foreign:
                self._block(target, {TAKEN} if len(targets) == 1 else {TAKEN, DUPLICATE})
            elif first and target != first:
                self.stands[target] = Stand.REFUSED
                own.add(DUPLICATE)
            elif (target.namespace, name) in self._facts.foreign:
                self._block(target, {TAKEN})
            else:
                self.stands[target] = Stand.SERVED if self.usable(target) else Stand.HELD

    def _block(self, target: Target, reasons: set[str]) -> None:
        self.stands[target] = Stand.BLOCKED
        self._reasons[target] |= reasons

    def _first(self, name: str, targets: list[Target]) -> Target | None:
        """Returns who has the name or gets it; None: nobody can use it."""
        kept = next((target for target in targets if self._past.keeps(target)), None)
        if kept:
            self.possible.add(kept)
            return kept
        able = sorted(filter(self.usable, targets), key=self._age)
        # Who came later than one that could have had the name all the time cannot get it.
        surest = next((i for i, target in enumerate(able) if self._past.able(target)), len(able))
        winners = able[: surest + 1]
        winners += filter(self._past.may_have, targets)
        self.possible.update(winners, filter(self._facts.boxes, targets))
        owner = self._owners.get(name)
        seen = next((target for target in winners if target.key == owner), None)
        return seen or (able[0] if able else None)

    # --- objects ---

    def _condition(self, resource: Resource) -> Condition | None:
        if resource.key in self._refused:
            return Condition("False", self._refused[resource.key], [])
        targets = self._facts.targets(resource)
        stands = [self.stands[target] for target in targets]
        if not stands or Stand.LEFT in stands:
            return None
        served = [t.tenant for t in targets if self.stands[t] is Stand.SERVED]
        if len(served) == len(targets):
            return Condition("True", {SUCCESS}, [tenant for tenant in served if tenant])
        if self._facts.shared:
            return Condition("False", {TENANTS}, served)
        return Condition("False", self._reasons[targets[0]], [])

    def _expect_services(self, expected: Expected, target: Target, stand: Stand) -> None:
        if stand is Stand.HELD and self._past.never_had(target):
            return
        resource = self._facts.resources[target.key]
        kind = self._kind(target)
        # While the destination is of no use, the port in the Service counts.
        ports = {resource.port} if resource.port else {PORTS[kind]} if kind in PORTS else None
        certain = stand is Stand.SERVED or (stand is Stand.HELD and self._past.keeps(target))
        for place in places(target.namespace):
            key = place, target.service
            if key not in self._facts.foreign:
                expected.services[key] = Service(target, ports, certain)
        wide = self._facts.scope(resource) == "clusterWide"
        expected.policies[target] = WIDE if wide else policy_name(target.namespace)
