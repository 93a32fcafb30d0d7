"""Clients come all the time, at least fifty a second, while pods of tproxy are replaced."""

import collections
import contextlib
import os
import signal
import threading
import time

import pytest

from harness.installation import CRS, destination_cr
from harness.kube import ApiError
from harness.samples import HOME
from harness.util import until
from node.clients import Knocker, Load

# Sessions a second: as many are begun, and so many have to be for a test to mean anything. A busy
# machine may begin fewer than it should; the figure is printed.
RATE = 60
RATE_MIN = 20

LABELS = {"app.kubernetes.io/name": "tproxy", "app.kubernetes.io/instance": "tproxy"}

# The least time for which clients come.
LOAD_SECONDS = float(os.environ.get("LOAD_SECONDS", "15"))

LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases/tproxy"

# So long after a kill -9 sessions may fail: until the process is back, or nobody is sent to it.
RECOVERY = 15.0


class Conditions:
    """Collects what a resource's condition Available says while the process lasts."""

    def __init__(self, kube, namespace: str, name: str):
        self.seen: list[str] = []
        path = f"{CRS}/namespaces/{namespace}/destinations"
        selector = f"fieldSelector=metadata.name={name}&watch=1&timeoutSeconds=300"
        threading.Thread(
            target=self._follow, args=(kube, f"{path}?{selector}"), daemon=True
        ).start()

    def _follow(self, kube, path: str) -> None:
        with contextlib.suppress(OSError, ApiError):
            for event in kube.watch(path):
                conditions = event["object"].get("status", {}).get("conditions", [])
                self.seen += [c["status"] for c in conditions if c["type"] == "Available"]


@pytest.fixture
def mailbox(cluster, installation, namespace, add_destination):
    """Returns a client's pod, and the name of a mailbox that it has reached once."""
    name = f"busy-{namespace}"
    add_destination(name)
    installation.kube.apply(destination_cr(name, namespace, name))
    installation.available(namespace, name)
    pod, host = cluster.client(namespace, "client"), f"{name}.{namespace}"
    with Knocker(pod) as client:
        client.knock(host)
    return pod, host


@contextlib.contextmanager
def busy(installation, mailbox, capsys, what: str):
    """Holds sessions all the time, and yields the load. Prints figures. The condition must not
    change."""
    pod, host = mailbox
    name, _, namespace = host.partition(".")
    conditions = Conditions(installation.kube, namespace, name)
    with Load(pod, host, RATE) as load:
        end = time.monotonic() + LOAD_SECONDS
        time.sleep(2)
        yield load
        time.sleep(max(2.0, end - time.monotonic()))
    report = load.report
    kinds = collections.Counter(f"{f['step']}: {f['what']}" for f in load.failures)
    with capsys.disabled():
        print(
            f"\n{what}: {report['rate']} sessions a second, at most {report['peak']} at a time:"
            f" {report['good']} good, {len(load.failures)} failed; the longest wait for a greeting"
            f" {report['longest']} s"
        )
        for kind, count in kinds.most_common(8):
            print(f"  {count} {kind}")
        if load.failures:
            began = [failure["began"] for failure in load.failures]
            print(f"  they began from {min(began)} s to {max(began)} s")
    assert report["rate"] > RATE_MIN
    assert set(conditions.seen) == {"True"}


def replicas(cluster) -> list[dict]:
    """Returns the pods of tproxy that are not ending."""
    pods = cluster.pods(HOME, **LABELS)
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def leader(kube, pods: list[dict]) -> dict | None:
    """Returns the pod that leads: the name in the Lease begins with its own."""
    holder = kube.get(LEASE)["spec"]["holderIdentity"] or ""
    leading = [pod for pod in pods if holder.startswith(f"{pod['metadata']['name']}_")]
    return leading[0] if leading else None


def settle(kube) -> None:
    kube.kubectl("rollout", "status", "deployment/tproxy", "-n", HOME, "--timeout=100s")


def test_restart(cluster, installation, mailbox, capsys):
    """kubectl rollout restart: each pod ends its sessions before it ends."""
    assert len(replicas(cluster)) == 2
    with busy(installation, mailbox, capsys, "rollout restart") as load:
        installation.kube.kubectl("rollout", "restart", "deployment/tproxy", "-n", HOME)
        settle(installation.kube)
    assert not load.failures


def test_drain(cluster, installation, mailbox, capsys):
    """kubectl drain: the leader is evicted, and another one starts on the other node."""
    kube = installation.kube
    before = replicas(cluster)
    node = leader(kube, before)["spec"]["nodeName"]
    selector = ",".join(f"{name}={value}" for name, value in LABELS.items())
    try:
        with busy(installation, mailbox, capsys, "drain") as load:
            kube.kubectl("drain", node, f"--pod-selector={selector}", "--timeout=100s")
            settle(kube)
        after = replicas(cluster)
        assert len(after) == len(before) == 2
        assert node not in {pod["spec"]["nodeName"] for pod in after}
    finally:
        kube.kubectl("uncordon", node)
    assert not load.failures


def test_kill(cluster, installation, mailbox, capsys):
    """kill -9 of the leader: sessions of that process end, and soon all is well again."""
    kube, pods = installation.kube, replicas(cluster)
    pod = leader(kube, pods)
    holder = kube.get(LEASE)["spec"]["holderIdentity"]
    with busy(installation, mailbox, capsys, "kill -9 of the leader") as load:
        cluster.running(pod).container.signal(signal.SIGKILL)

        def back() -> bool:
            (status,) = kube.get(pod_path(pod))["status"]["containerStatuses"]
            return status["restartCount"] == 1 and status["ready"]

        until(back, "the container to be ready again", every=0.1)

        def led() -> bool:
            return kube.get(LEASE)["spec"]["holderIdentity"] != holder and leader(kube, pods)

        until(led, "another process to lead", every=0.1)
    began = [failure["began"] for failure in load.failures]
    assert max(began, default=0) - min(began, default=0) < RECOVERY


def pod_path(pod: dict) -> str:
    about = pod["metadata"]
    return f"/api/v1/namespaces/{about['namespace']}/pods/{about['name']}"
