"""Several replicas: one leads, by a Lease, and writes; another takes over when it ends, in whatever
way. The API server's audit log tells who has written when."""

import os
import signal

import pytest

from harness.installation import TARGET_PORTS, Installation, destination_cr
from harness.kube import ApiError
from harness.replicas import DURATION, LEASE, SHORT, Audit, Replica, moment, now
from harness.util import until

# How often the leader is terminated; HANDOVERS repeats it more often for a better figure.
HANDOVERS = int(os.environ.get("HANDOVERS", "4"))

# Resources that are made before each end of a leader, so that it is in the middle of something.
BUSY = 5

# What the others may need beyond the duration of the Lease.
MARGIN = 2


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
