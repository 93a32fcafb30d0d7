"""What users and administrators have made, as far as it decides what tproxy makes of it."""

import enum
import json
import re
import time
from dataclasses import dataclass, field
from typing import NamedTuple

from harness.samples import HOME

# A follower may show a session an answer of the Destination service that is so old.
ANSWER_AGE = 120 + 10

LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1035

Key = tuple[str, str]  # namespace and name


class Kind(enum.Enum):
    """Kinds of destinations."""

    POP3 = "pop3"
    POP3S = "pop3s"
    WEB = "web"
    NO_HOST = "no host"
    PROXY_TYPE = "wrong ProxyType"
    AUTHENTICATION = "wrong Authentication"
    MISSING = "missing"


class Content(NamedTuple):
    """What the Destination service says of a name."""

    kind: Kind
    box: int = 0  # the number of the mailbox

    def __str__(self) -> str:
        return f"{self.kind.value} of box {self.box}"


MISSING = Content(Kind.MISSING)


@dataclass(frozen=True)
class Resource:
    """A Destination CR."""

    namespace: str
    name: str
    destination: str
    port: int | None = None  # spec.service.port
    scope: str | None = None
    tenants: str | None = None  # the annotation
    uid: str = ""
    created: str = ""

    def __str__(self) -> str:
        port, scope = self.port or "", self.scope or ""
        tenants = self.tenants and "for " + self.tenants
        words = (f"{self.namespace}/{self.name} of {self.destination}", port, scope, tenants)
        return " ".join(str(word) for word in words if word)

    @property
    def key(self) -> Key:
        return self.namespace, self.name

    @property
    def age(self) -> tuple[str, str, str]:
        """Sorts the oldest first."""
        return self.created, self.namespace, self.name

    def tenant_names(self) -> list[str]:
        """Returns the tenants in the annotation; [] if it is not valid."""
        try:
            given = json.loads(self.tenants or "")
            names = [name.lower() for name in given]
        except (ValueError, AttributeError, TypeError):
            return []
        good = all(LABEL.fullmatch(name) for name in names) and len(set(names)) == len(names)
        return sorted(names) if good else []


class Target(NamedTuple):
    """One mailbox of a CR: the unit that has a Service and a port. A CR that is created again has
    other targets."""

    namespace: str
    resource: str
    uid: str
    tenant: str  # "" in dedicated mode

    @property
    def key(self) -> Key:
        """That of its CR."""
        return self.namespace, self.resource

    @property
    def service(self) -> str:
        return f"{self.resource}-{self.tenant}" if self.tenant else self.resource

    def __str__(self) -> str:
        return f"{self.namespace}/{self.service}"


@dataclass
class Facts:
    shared: bool = False  # config.tenantMode
    wide: bool = False  # defaultScope is clusterWide
    selects: bool = False  # managedNamespacesMode is labelSelector
    labelled: set[str] = field(default_factory=set)  # the namespaces with our label
    resources: dict[Key, Resource] = field(default_factory=dict)
    foreign: set[Key] = field(default_factory=set)  # Services of others
    contents: dict[Key, Content] = field(default_factory=dict)  # by tenant and name
    # The former contents, and until when a session or a new resource may see them.
    former: list[tuple[Key, Content, float]] = field(default_factory=list)

    def content(self, tenant: str, name: str) -> Content:
        return self.contents.get((tenant, name), MISSING)

    def set_content(self, tenant: str, name: str, content: Content) -> None:
        self.former.append(
            ((tenant, name), self.content(tenant, name), time.monotonic() + ANSWER_AGE)
        )
        self.contents[tenant, name] = content

    def boxes(self, target: Target) -> set[int]:
        """Returns the mailboxes that may be seen through this target: answers of the Destination
        service are kept for a while."""
        key = target.tenant, self.resources[target.key].destination
        now = time.monotonic()
        former = {c for k, c, until in self.former if k == key and until > now}
        return {c.box for c in {self.content(*key), *former} if c.kind in (Kind.POP3, Kind.POP3S)}

    def managed(self, namespace: str) -> bool:
        return not self.selects or namespace in self.labelled

    def scope(self, resource: Resource) -> str:
        return resource.scope or ("clusterWide" if self.wide else "namespaced")

    def targets(self, resource: Resource) -> list[Target]:
        tenants = resource.tenant_names() if self.shared else [""]
        return [Target(*resource.key, resource.uid, tenant) for tenant in tenants]


def is_service_name(name: str) -> bool:
    return bool(LABEL.fullmatch(name))


def places(namespace: str) -> list[str]:
    """Returns the namespaces in which a CR of this one has Services."""
    return [HOME] if namespace == HOME else [HOME, namespace]
