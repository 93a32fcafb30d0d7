"""Clients come all the time, at least fifty a second, while pods of tproxy are replaced."""

import collections
import contextlib
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

# With one replica nobody is there for new sessions in between.
ALONE = {"connect"}

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
        time.sleep(2)
        yield load
        time.sleep(2)
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


def failed_steps(load: Load) -> set[str]:
    return {failure["step"] for failure in load.failures}


def replicas(cluster) -> list[dict]:
    """Returns the pods of tproxy that are not ending."""
    pods = cluster.pods(HOME, **LABELS)
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def settle(kube) -> None:
    kube.kubectl("rollout", "status", "deployment/tproxy", "-n", HOME, "--timeout=100s")


def test_restart(cluster, installation, mailbox, capsys):
    """kubectl rollout restart: each pod ends its sessions before it ends."""
    alone = len(replicas(cluster)) == 1
    with busy(installation, mailbox, capsys, "rollout restart") as load:
        installation.kube.kubectl("rollout", "restart", "deployment/tproxy", "-n", HOME)
        settle(installation.kube)
    assert failed_steps(load) <= (ALONE if alone else set())


def test_drain(cluster, installation, mailbox, capsys):
    """kubectl drain: the pod is evicted, and another one starts on the other node."""
    kube = installation.kube
    before = replicas(cluster)
    node = before[0]["spec"]["nodeName"]
    selector = ",".join(f"{name}={value}" for name, value in LABELS.items())
    try:
        with busy(installation, mailbox, capsys, "drain") as load:
            kube.kubectl("drain", node, f"--pod-selector={selector}", "--timeout=100s")
            settle(kube)
        after = replicas(cluster)
        assert len(after) == len(before)
        assert node not in {pod["spec"]["nodeName"] for pod in after}
    finally:
        kube.kubectl("uncordon", node)
    assert failed_steps(load) <= (ALONE if len(before) == 1 else set())


def test_kill(cluster, installation, mailbox, capsys):
    """kill -9: sessions of that process end, and soon all is well again."""
    pod, *_ = replicas(cluster)
    with busy(installation, mailbox, capsys, "kill -9") as load:
        cluster.running(pod).container.signal(signal.SIGKILL)

        def back() -> bool:
            (status,) = installation.kube.get(pod_path(pod))["status"]["containerStatuses"]
            return status["restartCount"] == 1 and status["ready"]

        until(back, "the container to be ready again", every=0.1)
        time.sleep(RECOVERY - 10)
    began = [failure["began"] for failure in load.failures]
    assert max(began, default=0) - min(began, default=0) < RECOVERY


def pod_path(pod: dict) -> str:
    about = pod["metadata"]
    return f"/api/v1/namespaces/{about['namespace']}/pods/{about['name']}"
