"""Who may reach what: the NetworkPolicies of an installation, judged by the rules of the standard,
for the pods that are there."""

import pytest

from harness.installation import CRS, destination_cr
from harness.samples import HOME
from harness.util import until
from node.policies import Place, Policies

OURS = {"app.kubernetes.io/name": "tproxy", "app.kubernetes.io/instance": "tproxy"}
ADMIN = 9494


class Matrix:
    """A pod of an application in each of two namespaces and in the home namespace, a pod there that
    borrows our labels, and an address outside of the cluster; and mailboxes of the two
    namespaces."""

    def __init__(self, cluster, installation):
        self._cluster = cluster
        self._kube = installation.kube
        one, two = self._kube.namespace(), self._kube.namespace()
        self.spaces = {"one": one, "two": two}
        pods = {
            "one": cluster.client(one, "app"),
            "two": cluster.client(two, "app"),
            "home": cluster.client(HOME, "app-at-home"),
            "borrower": cluster.client(HOME, "borrower", **OURS),
        }
        self._sources = {name: Place.of(self._kube.get(pod.path)) for name, pod in pods.items()}
        self.borrower = self._sources["borrower"].address
        self._sources["outside"] = Place("203.0.113.7")
        self._ports = {"admin": ADMIN}

    def add_mailbox(self, installation, name: str, where: str, **spec) -> None:
        installation.kube.apply(destination_cr(name, self.spaces[where], "reach", **spec))
        self._ports[name] = installation.available(self.spaces[where], name)

    def seen(self, target: str) -> set[str]:
        """Returns who may reach the mailbox, or the admin port, in every pod with our labels."""
        judge = Policies(
            self._kube.items("/apis/networking.k8s.io/v1/networkpolicies"),
            self._kube.items("/api/v1/namespaces"),
        )
        targets = [Place.of(pod) for pod in self._cluster.pods(HOME, **OURS)]
        assert len(targets) > 1
        port = self._ports[target]
        found = [
            {name for name, source in self._sources.items() if judge.allow(source, to, port)}
            for to in targets
        ]
        assert all(each == found[0] for each in found)
        return found[0]


@pytest.fixture(scope="module")
def matrix(cluster, installation):
    matrix = Matrix(cluster, installation)
    yield matrix
    for path in (f"{HOME}/pods/app-at-home", f"{HOME}/pods/borrower"):
        installation.kube.delete(f"/api/v1/namespaces/{path}")


def test_who_may_reach_what(matrix, installation, add_destination):
    add_destination("reach")
    matrix.add_mailbox(installation, "mine", "one")
    matrix.add_mailbox(installation, "theirs", "two", accessControl={"scope": "namespaced"})
    matrix.add_mailbox(installation, "public", "one", accessControl={"scope": "clusterWide"})
    expected = {
        "mine": {"one"},
        "theirs": {"two"},
        "public": {"one", "two", "home", "borrower"},
        "admin": {"one", "two", "home", "borrower", "outside"},
    }
    assert {target: matrix.seen(target) for target in expected} == expected
    path = f"{CRS}/namespaces/{matrix.spaces['one']}/destinations/public"
    narrower = {"spec": {"accessControl": {"scope": "namespaced"}}}
    installation.kube.patch(path, narrower)
    until(lambda: matrix.seen("public") == {"one"}, "the narrower scope to be in force", every=0.1)


def test_borrowed_labels(matrix, installation, add_destination):
    """docs/security.md warns of such pods: they reach nothing that others do not reach, but clients
    are sent to them."""
    add_destination("reach")
    matrix.add_mailbox(installation, "lent", "one")
    service = "labelSelector=kubernetes.io/service-name=lent"
    path = f"/apis/discovery.k8s.io/v1/namespaces/{HOME}/endpointslices?{service}"

    def addresses() -> set[str]:
        slices = installation.kube.items(path)
        return {a for one in slices for e in one["endpoints"] or [] for a in e["addresses"]}

    until(lambda: matrix.borrower in addresses(), "the Service to lead to the pod", every=0.1)
    assert matrix.seen("lent") == {"one"}
