"""Several replicas: one leads, by a Lease, and writes; another takes over when it ends, in whatever
way. The API server's audit log tells who has written when."""

import base64
import datetime
import json
import os
import signal

import pytest

from harness.clients import RawClient
from harness.installation import TARGET_PORTS, ClusterTproxy, Installation, destination_cr
from harness.kube import ApiError, Kube
from harness.rights import audit_events
from harness.samples import HOME
from harness.util import until

LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases/tproxy"

# How often the leader is terminated; HANDOVERS repeats it more often for a better figure.
HANDOVERS = int(os.environ.get("HANDOVERS", "4"))

# Resources that are made before each end of a leader, so that it is in the middle of something.
BUSY = 5

# The shortest periods, for tests that wait for the end of a term.
DURATION = 3
SHORT = (
    *("--leader-elect-lease-duration", str(DURATION)),
    *("--leader-elect-renew-deadline", "2"),
    *("--leader-elect-retry-period", "1"),
)

# What the others may need beyond the duration of the Lease.
MARGIN = 2

LEADS = "this replica leads: "

WRITES = ("create", "update", "patch", "delete")


def moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


class Replica:
    """One of several programs with the same ServiceAccount. The addresses differ, because the
    target ports are the same; the tokens differ, so that the audit log can tell them apart."""

    def __init__(self, proxy: ClusterTproxy, address: str):
        self.proxy = proxy
        self.address = address
        payload = (proxy.credentials / "token").read_text().split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        self.token_id = f"JTI={claims['jti']}"

    def lease_line(self, words: str, start: int = 0) -> dict:
        """Waits for a line of the election with these words."""
        return self.proxy.logs.wait(
            lambda line: line["module"] == "lease" and words in line["msg"], words, start=start
        )

    def term(self, start: int = 0) -> tuple[datetime.datetime, str]:
        """Waits until it leads. Returns since when and who it is, for the audit log."""
        line = self.lease_line(LEADS, start)["msg"]
        return moment(line.rsplit(" ", 1)[1]), self.token_id

    def identity(self) -> str:
        """Returns its name in the Lease, once it has led."""
        return self.lease_line(LEADS)["msg"].removeprefix(LEADS).split(",")[0]

    def follows(self) -> "Replica":
        """Waits until it knows of a leader."""
        self.lease_line(" leads, since ")
        return self

    def status(self) -> str:
        components = json.loads(self.proxy.http("/status")[1])["Components"]
        return components["sap-transp-proxy-manager"]["Message"]

    def answers(self, port: int) -> bool:
        with RawClient(port, host=self.address) as client:
            return client.command(b"STAT").startswith(b"+OK 1 ")


class Audit:
    """The writes of all replicas since it was made."""

    def __init__(self, kube: Kube):
        self._directory = kube.directory
        self._begin = now()

    def writes(self) -> list[tuple[datetime.datetime, str, str]]:
        """Returns when each write was received, whose it is, and what it is."""
        found = []
        for event in audit_events(self._directory):
            what, verb = event["objectRef"], event["verb"]
            received = moment(event["requestReceivedTimestamp"])
            if received >= self._begin and verb in WRITES and what["resource"] != "leases":
                (token,) = event["user"]["extra"]["authentication.kubernetes.io/credential-id"]
                found.append((received, token, f"{verb} {what['resource']} {what.get('name', '')}"))
        return sorted(found)

    def check(self, terms: list[tuple[datetime.datetime, str]]) -> None:
        """Checks that within each term its leader, and nobody else, has written."""
        writes = self.writes()
        ends = [*(begin for begin, _ in terms[1:]), now()]
        for (begin, leader), end in zip(terms, ends, strict=True):
            there = [write for write in writes if begin <= write[0] < end]
            assert there, "a term without a write proves nothing"
            assert not [write for write in there if write[1] != leader]


class World:
    """The replicas, and resources for them."""

    def __init__(self, installation: Installation, namespace: str, start):
        self.installation = installation
        self.audit = Audit(installation.kube)
        self._namespace = namespace
        self._start = start
        self._replicas = 0
        self._resources: list[str] = []

    def replica(self, *flags: str) -> Replica:
        """Starts a replica, which is ready when it follows."""
        self._replicas += 1
        address = f"127.0.1.{self._replicas}"
        more = ("--leader-elect", "", "--listen", address, *TARGET_PORTS, *flags)
        return Replica(self._start(self.installation, *more).ready(), address)

    def pair(self, *flags: str) -> tuple[Replica, Replica]:
        """Starts a leader and a follower."""
        leader = self.replica(*flags)
        leader.term()
        return leader, self.replica(*flags).follows()

    def add(self, count: int = 1) -> None:
        """Creates resources, and does not wait for them."""
        for _ in range(count):
            name = f"mail-{len(self._resources)}"
            self.installation.kube.apply(destination_cr(name, self._namespace, "mail"))
            self._resources.append(name)

    def settle(self) -> int:
        """Waits until all resources are available. Returns the port of the last one."""
        return [self.installation.available(self._namespace, name) for name in self._resources][-1]

    def lease(self) -> dict:
        try:
            return self.installation.kube.get(LEASE)["spec"]
        except ApiError as error:
            assert error.reason == "NotFound"
            return {}

    def spoil(self, **spec: object) -> None:
        self.installation.kube.patch(LEASE, {"spec": spec})


@pytest.fixture
def world(installation, namespace, add_destination, make_cluster_tproxy) -> World:
    add_destination("mail")
    installation.configure(metrics={"prometheus": {"enabled": True}})
    return World(installation, namespace, make_cluster_tproxy)


# --- two replicas ---


def test_one_leads_and_both_serve(world):
    leader, other = world.pair()
    world.add()
    port = world.settle()
    assert leader.answers(port) and other.answers(port)
    assert leader.proxy.metric("tproxy_leader") == 1
    assert other.proxy.metric("tproxy_leader") == 0
    assert leader.status().endswith(" This replica leads.")
    assert other.status().endswith(f" {leader.identity()} leads.")
    assert world.lease()["holderIdentity"] == leader.identity()
    asked = "tproxy_destination_service_requests_total"
    before = other.proxy.metric(asked)
    world.add(BUSY)
    world.settle()
    assert other.proxy.metric(asked) == before, "only the leader reads new destinations"
    world.audit.check([leader.term()])


# --- a leader that ends ---


@pytest.mark.slow
@pytest.mark.timeout(180 + 20 * HANDOVERS)
def test_leader_that_is_terminated(world, capsys):
    """The Lease is released: the follower need not wait for its end."""
    leader, other = world.pair()
    terms, seconds = [leader.term()], []
    for _ in range(HANDOVERS):
        world.add(BUSY)
        end = now()
        leader.proxy.signal(signal.SIGTERM)
        terms.append(other.term())
        seconds.append((terms[-1][0] - end).total_seconds())
        assert leader.proxy.wait() == 0
        leader, other = other, world.replica().follows()
    world.add()
    world.settle()
    world.audit.check(terms)
    p99 = sorted(seconds)[-1 - HANDOVERS // 100]
    with capsys.disabled():
        print(f"\n{HANDOVERS} hand-overs on SIGTERM: p99 {p99:.3f} s, at most {max(seconds):.3f} s")
    assert p99 <= 1


def test_leader_that_is_killed(world):
    leader, other = world.pair(*SHORT)
    terms = [leader.term()]
    world.add(BUSY)
    world.settle()
    world.add(BUSY)
    end = now()
    leader.proxy.kill()
    terms.append(other.term())
    assert (terms[-1][0] - end).total_seconds() <= DURATION + MARGIN
    world.settle()
    world.audit.check(terms)


def test_leader_that_is_stopped(world):
    """It wakes up when another one leads, in the middle of its work, and writes nothing."""
    leader, other = world.pair(*SHORT)
    terms = [leader.term()]
    world.add(BUSY)
    world.settle()
    world.add(BUSY)
    leader.proxy.signal(signal.SIGSTOP)
    try:
        terms.append(other.term())
        world.add(BUSY)
        world.settle()
    finally:
        leader.proxy.signal(signal.SIGCONT)
    leader.lease_line("this replica does not lead any more: ")
    world.add(BUSY)
    port = world.settle()
    until(lambda: other.identity() in leader.status(), "it to know of the leader")
    assert leader.answers(port) and other.answers(port)
    known = len(leader.proxy.logs)
    other.proxy.signal(signal.SIGTERM)
    terms.append(leader.term(known))
    world.add()
    world.settle()
    world.audit.check(terms)


# --- a Lease that others change ---


@pytest.mark.parametrize(
    "change",
    [
        {"holderIdentity": None},
        {"holderIdentity": ""},
        {"leaseDurationSeconds": 1},
        {"leaseDurationSeconds": None, "acquireTime": None, "renewTime": None},
        None,
    ],
    ids=["no holder", "empty holder", "duration", "no times", "deleted"],
)
def test_lease_that_is_spoilt(world, change):
    """The leader, which goes on, writes it again; nobody else takes it."""
    leader, other = world.pair()
    said = world.lease()
    if change:
        world.spoil(**change)
    else:
        world.installation.kube.delete(LEASE)
    mended = ("holderIdentity", "leaseDurationSeconds", "acquireTime")
    until(
        lambda: all(world.lease().get(field) == said[field] for field in mended),
        "the Lease as it was",
    )
    world.add()
    world.settle()
    assert leader.proxy.metric("tproxy_leader") == 1
    assert leader.proxy.metric("tproxy_leader_terms_total") == 1
    assert other.proxy.metric("tproxy_leader_terms_total") == 0
    world.audit.check([leader.term()])


def test_lease_that_is_taken(world):
    """While somebody else holds it, nobody writes; then one of the replicas leads again."""
    leader, other = world.pair(*SHORT)
    world.add()
    world.settle()
    known = {replica: len(replica.proxy.logs) for replica in (leader, other)}
    world.spoil(holderIdentity="somebody", renewTime=now().isoformat().replace("+00:00", "Z"))
    lost = leader.lease_line("does not lead any more: somebody has taken the Lease", known[leader])
    world.add(BUSY)
    port = world.settle()
    holder = world.lease()["holderIdentity"]
    again = leader if holder == leader.identity() else other
    begin, _ = again.term(known[again])
    seconds = (begin - moment(lost["time"])).total_seconds()
    assert DURATION - 1 < seconds <= DURATION + MARGIN
    assert not [write for write in world.audit.writes() if moment(lost["time"]) < write[0] < begin]
    world.audit.check([(begin, again.token_id)])
    assert leader.answers(port) and other.answers(port)
