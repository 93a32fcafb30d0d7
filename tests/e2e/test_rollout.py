"""Clients come all the time, at least fifty a second, while pods of tproxy are replaced."""

import collections
import contextlib
import threading
import time

import pytest

from harness.installation import CRS, destination_cr
from harness.kube import ApiError
from harness.samples import HOME
from node.clients import Load

RATE = 60


class Conditions:
    """Collects what a resource's condition Available says while the context lasts."""

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
    """Returns a client's pod, and the name of a mailbox."""
    name = f"busy-{namespace}"
    add_destination(name)
    installation.kube.apply(destination_cr(name, namespace, name))
    installation.available(namespace, name)
    return cluster.client(namespace, "client"), f"{name}.{namespace}"


@contextlib.contextmanager
def busy(installation, mailbox, capsys, what: str):
    """Holds sessions all the time, and yields the load. Prints figures."""
    pod, host = mailbox
    name, _, namespace = host.partition(".")
    conditions = Conditions(installation.kube, namespace, name)
    with Load(pod, host, RATE) as load:
        time.sleep(2)
        yield load
        time.sleep(2)
    report = load.report
    steps = collections.Counter(f"{f['step']}: {f['what']}" for f in load.failures)
    with capsys.disabled():
        rate = (report["good"] + len(load.failures)) / report["seconds"]
        print(
            f"\n{what}: {report['seconds']} s, {rate:.0f} sessions a second, at most"
            f" {report['peak']} at a time: {report['good']} good, {len(load.failures)} failed;"
            f" the longest wait for a greeting {report['longest']} s"
        )
        for step, count in steps.most_common(8):
            print(f"  {count} {step}")
        if load.failures:
            began = [f["began"] for f in load.failures]
            print(f"  from {min(began)} s to {max(began)} s")
    assert set(conditions.seen) == {"True"}


def test_restart(installation, mailbox, capsys):
    """kubectl rollout restart: the pod ends its sessions before it ends. With one replica nobody is
    there for new ones in between."""
    with busy(installation, mailbox, capsys, "rollout restart") as load:
        for words in (["restart"], ["status", "--timeout=100s"]):
            installation.kube.kubectl("rollout", *words, "deployment/tproxy", "-n", HOME)
    assert {failure["step"] for failure in load.failures} <= {"connect"}
