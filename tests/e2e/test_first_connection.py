"""How soon can a resource be used that is Available?"""

import contextlib

from harness.installation import CRS, destination_cr
from node.clients import Knocker

COUNT = 20

PATIENCE = 15.0


def wait_available(kube, namespace: str, name: str) -> None:
    """Waits as `kubectl wait --for=condition=Available` does, but is quicker to start."""
    path = f"{CRS}/namespaces/{namespace}/destinations?fieldSelector=metadata.name={name}"
    with contextlib.closing(kube.watch(f"{path}&watch=1")) as events:
        for event in events:
            conditions = event["object"].get("status", {}).get("conditions", [])
            if ("Available", "True") in {(c["type"], c["status"]) for c in conditions}:
                return
    raise AssertionError("the watch has ended")


def test_available_means_reachable(cluster, installation, namespace, add_destination, capsys):
    """The first connection by name comes as soon as the condition is seen. DNS and kube-proxy hear
    of a new Service a moment later: then the client is greeted."""
    add_destination("first")
    kube = installation.kube
    seen = {}
    with Knocker(cluster.client(namespace, "client")) as client:
        for number in range(COUNT):
            name = f"first-{number}"
            kube.apply(destination_cr(name, namespace, "first"))
            wait_available(kube, namespace, name)
            seen[name] = client.knock(name)
    late = {name: knock for name, knock in seen.items() if knock["failures"]}
    longest = max(knock["seconds"] for knock in seen.values())
    with capsys.disabled():
        print(f"\n{COUNT - len(late)} of {COUNT} new resources answered at once", end="")
        print(f", the last one after {longest} s; a lookup took at most", end="")
        print(f" {max(knock['lookup'] for knock in seen.values())} s")
        for name, knock in late.items():
            print(f"  {name}: {knock['seconds']} s: {sorted(set(knock['failures']))}")
    assert longest < PATIENCE
