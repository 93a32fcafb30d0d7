"""A stand-in for the scheduler: a pod goes to the node that has the fewest of its kind."""

import collections
import contextlib
import threading

from harness.kube import ApiError, Client
from node import follow


class Scheduler:
    def __init__(self, kube: Client):
        self._kube = kube
        self._nodes: dict[str, dict] = {}
        self._bound: dict[str, tuple[str, str]] = {}  # a node and a kind, by the pod's uid
        self._waiting: dict[str, dict] = {}
        self._lock = threading.Lock()
        for path, *handlers in (
            ("/api/v1/nodes", self._node_changed, self._node_gone),
            ("/api/v1/pods", self._pod_changed, self._pod_gone),
        ):
            follow.start(kube, path, *map(self._one_at_a_time, handlers))

    def _one_at_a_time(self, handler):
        def locked(item: dict) -> None:
            with self._lock:
                handler(item)

        return locked

    def _node_changed(self, node: dict) -> None:
        self._nodes[node["metadata"]["name"]] = node
        for pod in list(self._waiting.values()):
            self._place(pod)

    def _node_gone(self, node: dict) -> None:
        self._nodes.pop(node["metadata"]["name"], None)

    def _pod_changed(self, pod: dict) -> None:
        uid = pod["metadata"]["uid"]
        if "nodeName" in pod["spec"]:
            self._waiting.pop(uid, None)
            self._bound[uid] = (pod["spec"]["nodeName"], _kind(pod))
        elif "deletionTimestamp" not in pod["metadata"]:
            self._place(pod)

    def _pod_gone(self, pod: dict) -> None:
        self._waiting.pop(pod["metadata"]["uid"], None)
        self._bound.pop(pod["metadata"]["uid"], None)

    def _place(self, pod: dict) -> None:
        """Binds the pod, or keeps it until a node may take it."""
        about = pod["metadata"]
        self._waiting[about["uid"]] = pod
        count = collections.Counter(self._bound.values())
        able = [
            name
            for name, node in self._nodes.items()
            if not node["spec"].get("unschedulable") and not node["spec"].get("taints")
        ]
        if not able:
            return
        node = min(able, key=lambda name: (count[name, _kind(pod)], name))
        binding = {"metadata": {"name": about["name"]}, "target": {"kind": "Node", "name": node}}
        path = f"/api/v1/namespaces/{about['namespace']}/pods/{about['name']}/binding"
        with contextlib.suppress(ApiError):  # it is bound, or has gone: the next event tells
            self._kube.create(path, binding)
            self._bound[about["uid"]] = (node, _kind(pod))
            self._waiting.pop(about["uid"], None)


def _kind(pod: dict) -> str:
    """Returns what pods of one Deployment share."""
    for owner in pod["metadata"].get("ownerReferences", []):
        return owner["uid"]
    return ""
