"""A stand-in for the kubelet: it runs the pods of a node and reports about them.

A pod has one container. Its process has a network namespace with the pod's address, a process
namespace in which it is number 1, the image's file tree, read-only, as its root, the image's or the
pod's user, and no rights. Limits of memory and processor are not enforced, because control groups
may not be there.

What the stand-in does not know in a pod makes it fail, rather than be left out.
"""

import contextlib
import datetime
import http.client
import os
import queue
import signal
import subprocess
import threading
import time
import traceback
from pathlib import Path

from harness.image import FileTree
from harness.kube import ApiError, Client
from node import follow
from node.network import Node, PodNetwork

STRATEGIC = "application/strategic-merge-patch+json"

DNS = "10.96.0.10"
DOMAIN = "cluster.local"
API_SERVER = "10.96.0.1"

# As the kubelet's: the first restart comes at once, later ones after 10 s, 20 s, ...
RESTART_PAUSE, RESTART_PAUSE_MAX = 10.0, 300.0

# What a pod and its container may say. The API server adds the defaults of many of these fields.
POD_FIELDS = {
    "containers", "volumes", "serviceAccountName", "serviceAccount", "automountServiceAccountToken",
    "nodeName", "hostname", "restartPolicy", "terminationGracePeriodSeconds", "dnsPolicy",
    "securityContext", "schedulerName", "enableServiceLinks", "priority", "preemptionPolicy",
    "tolerations", "topologySpreadConstraints", "affinity",
}
CONTAINER_FIELDS = {
    "name", "image", "imagePullPolicy", "command", "args", "env", "ports", "resources",
    "volumeMounts", "livenessProbe", "readinessProbe", "securityContext",
    "terminationMessagePath", "terminationMessagePolicy",
}

# $1 is the host name; the rest is the command.
NAMED = 'echo "$1" >/proc/sys/kernel/hostname && shift && exec "$@"'


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Tools:
    """An image with everything that this machine has, for clients."""

    config = {"Entrypoint": ["sleep", "infinity"]}

    def command(self, mounts: dict[str, Path], user: str) -> list[str]:
        assert mounts.keys() == {"/etc/resolv.conf"}, f"client pods have no volumes: {mounts}"
        script = 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'
        uid, _, gid = user.partition(":")
        return [
            *("unshare", "--mount", "sh", "-c", script, "sh", str(mounts["/etc/resolv.conf"])),
            *("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs"),
        ]


class Probe:
    """A probe, repeated in a thread, and what it says of the container. `changed` is called in that
    thread."""

    def __init__(self, spec: dict, address: str, ports: dict[str, int], first: bool, changed):
        self.good = first
        self._get = spec["httpGet"]
        self._port = ports.get(self._get["port"], self._get["port"])
        self._address = address
        self._timeout = spec.get("timeoutSeconds", 1)
        self._period = spec.get("periodSeconds", 10)
        self._delay = spec.get("initialDelaySeconds", 0)
        self._thresholds = {
            True: spec.get("successThreshold", 1),
            False: spec.get("failureThreshold", 3),
        }
        self._changed = changed
        self._stopped = threading.Event()
        threading.Thread(target=self._repeat, daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _repeat(self) -> None:
        last, in_a_row = None, 0
        pause = self._delay
        while not self._stopped.wait(pause):
            begun = time.monotonic()
            result = self._ask()
            in_a_row = in_a_row + 1 if result == last else 1
            last = result
            if result != self.good and in_a_row >= self._thresholds[result]:
                self.good = result
                if not self._stopped.is_set():
                    self._changed()
            pause = max(0.0, self._period - (time.monotonic() - begun))

    def _ask(self) -> bool:
        connection = http.client.HTTPConnection(self._address, self._port, timeout=self._timeout)
        with contextlib.suppress(OSError, http.client.HTTPException):
            with contextlib.closing(connection):
                connection.request("GET", self._get.get("path", "/"))
                return 200 <= connection.getresponse().status < 400
        return False


class Container:
    """One run of a pod's container. `happened` is called, in other threads, when a probe has
    changed its mind and when the process has ended."""

    def __init__(self, words: list[str], environment: dict[str, str], log: Path, happened):
        self.started = now()
        self.code: int | None = None
        self.probes: dict[str, Probe] = {}
        self._happened = happened
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment
            )
        threading.Thread(target=self._wait, daemon=True).start()

    def add_probe(self, name: str, spec: dict, address: str, ports: dict, first: bool) -> None:
        self.probes[name] = Probe(spec, address, ports, first, self._happened)

    def good(self, probe: str) -> bool:
        """Returns what the probe says. A container without it is good while it runs."""
        return self.code is None and (probe not in self.probes or self.probes[probe].good)

    @property
    def pid(self) -> int:
        """The id of the process that is number 1 in the container. It comes right after the start
        and is the only child of unshare."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        while self._process.poll() is None:
            with contextlib.suppress(OSError):
                if found := children.read_text().split():
                    return int(found[0])
            time.sleep(0.001)
        return 0

    def signal(self, number: int) -> None:
        if pid := self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _wait(self) -> None:
        self.code = self._process.wait()
        for probe in self.probes.values():
            probe.stop()
        self._happened()


class Pod:
    """A pod on the node, in a thread of its own."""

    def __init__(self, kubelet: "Kubelet", pod: dict):
        self.about = pod["metadata"]
        self.network: PodNetwork | None = None
        self.container: Container | None = None
        self._kubelet = kubelet
        self._kube = kubelet.kube
        self._spec = pod["spec"]
        self._restarts = 0
        self._directory = kubelet.directory / self.about["uid"]
        self._news: queue.Queue = queue.Queue()
        self._shown: dict = {}
        self._ready_since = ("False", now())
        self._started = now()
        threading.Thread(target=self._live, daemon=True).start()

    @property
    def path(self) -> str:
        """The path of its object."""
        return f"/api/v1/namespaces/{self.about['namespace']}/pods/{self.about['name']}"

    def tell(self, pod: dict | None) -> None:
        """Tells of a new state of the object; None: it has gone."""
        self._news.put(("object", pod))

    def log(self) -> str:
        return "".join(
            file.read_text(errors="replace") for file in sorted(self._directory.glob("*.log"))
        )

    # --- life ---

    def _live(self) -> None:
        try:
            self._check()
            self._directory.mkdir()
            self.network = self._kubelet.node.pod()
            self._show("Pending", {"waiting": {"reason": "ContainerCreating"}})
            command = self._command()
            phase, grace = self._run(command)
            self._end(phase, grace)
        except Exception:
            self._kubelet.failures.append(f"{self.about['name']}: {traceback.format_exc()}")
        finally:
            if self.container:
                self.container.signal(signal.SIGKILL)
            if self.network:
                self.network.remove()

    def _run(self, command: list[str]) -> tuple[str, float | None]:
        """Runs the container, again and again, until the pod ends. Returns its phase, and the grace
        period if somebody has deleted it."""
        pause = 0.0
        while True:
            self._start(command)
            deleted = self._follow_container()
            if deleted is not None:
                return "Running", deleted
            if self._spec.get("restartPolicy", "Always") != "Always":
                return ("Failed" if self.container.code else "Succeeded"), None
            state = {"reason": "CrashLoopBackOff" if pause else "Restarting"}
            self._show("Running", {"waiting": state})
            deleted = self._deletion_within(pause)
            if deleted is not None:
                return "Running", deleted
            pause = min(pause * 2 or RESTART_PAUSE, RESTART_PAUSE_MAX)
            self._restarts += 1

    def _start(self, command: list[str]) -> None:
        (spec,) = self._spec["containers"]
        log = self._directory / f"{self._restarts:03}.log"
        self.container = Container(
            command, self._environment(), log, lambda: self._news.put(("container", None))
        )
        named = [port for port in spec.get("ports", []) if "name" in port]
        ports = {port["name"]: port["containerPort"] for port in named}
        for name, first in (("readinessProbe", False), ("livenessProbe", True)):
            if name in spec:
                self.container.add_probe(name, spec[name], self.network.address, ports, first)

    def _follow_container(self) -> float | None:
        """Reports until the container has ended or the pod is deleted. Returns the grace period in
        the latter case."""
        while self.container.code is None:
            if not self.container.good("livenessProbe"):
                self.container.signal(signal.SIGKILL)
            self._show("Running", {"running": {"startedAt": self.container.started}})
            deleted = self._next_news()
            if deleted is not None:
                return deleted
        return None

    def _end(self, phase: str, grace: float | None) -> None:
        """Ends the container, and the object when somebody wants it deleted."""
        if grace is not None:
            if liveness := self.container.probes.get("livenessProbe"):
                liveness.stop()
            self.container.signal(signal.SIGTERM)
            deadline = time.monotonic() + grace
            while self.container.code is None and time.monotonic() < deadline:
                # The readiness probe goes on, as the kubelet's does.
                self._show("Running", {"running": {"startedAt": self.container.started}})
                shorter = self._next_news(deadline - time.monotonic())
                if shorter is not None:
                    deadline = min(deadline, time.monotonic() + shorter)
            self.container.signal(signal.SIGKILL)
            while self.container.code is None:
                self._next_news(1)
            phase = "Failed" if self.container.code else "Succeeded"
        ended = {"exitCode": self.container.code, "finishedAt": now()}
        self._show(phase, {"terminated": ended})
        while grace is None:
            grace = self._next_news()
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.about["uid"]}}
        with contextlib.suppress(ApiError):  # it may have gone
            self._kube.request("DELETE", self.path, options)

    def _next_news(self, patience: float | None = None) -> float | None:
        """Waits for news. Returns the grace period if the pod is deleted."""
        try:
            kind, pod = self._news.get(timeout=None if patience is None else max(0.0, patience))
        except queue.Empty:
            return None
        if kind != "object":
            return None
        if pod is None:
            return 0.0
        about = pod["metadata"]
        return float(about["deletionGracePeriodSeconds"]) if "deletionTimestamp" in about else None

    def _deletion_within(self, patience: float) -> float | None:
        deadline = time.monotonic() + patience
        while (left := deadline - time.monotonic()) > 0:
            deleted = self._next_news(left)
            if deleted is not None:
                return deleted
        return None

    # --- what it tells ---

    def _show(self, phase: str, state: dict) -> None:
        """Writes the status, if it is another one."""
        (spec,) = self._spec["containers"]
        ready = "running" in state and self.container.good("readinessProbe")
        word = "True" if ready else "False"
        if self._ready_since[0] != word:
            self._ready_since = (word, now())
        container = {
            "name": spec["name"],
            "image": spec["image"],
            "imageID": spec["image"],
            "ready": ready,
            "restartCount": self._restarts,
            "state": state,
        }
        since = {"lastTransitionTime": self._ready_since[1]}
        status = {
            "phase": phase,
            "hostIP": self._kubelet.node.address,
            "podIP": self.network.address,
            "podIPs": [{"ip": self.network.address}],
            "startTime": self._started,
            "conditions": [
                {"type": "Initialized", "status": "True"},
                {"type": "ContainersReady", "status": word, **since},
                {"type": "Ready", "status": word, **since},
            ],
            "containerStatuses": [container],
        }
        if status == self._shown:
            return
        try:
            self._kube.patch(f"{self.path}/status", {"status": status}, STRATEGIC)
        except follow.FAILURES as failure:
            if not isinstance(failure, ApiError) or failure.code != 404:
                # The API server is away: again soon.
                threading.Timer(1, self._news.put, [("again", None)]).start()
                return
        self._shown = status

    # --- what the container gets ---

    def _check(self) -> None:
        (spec,) = self._spec["containers"]
        unknown = (self._spec.keys() - POD_FIELDS) | (spec.keys() - CONTAINER_FIELDS)
        assert not unknown, f"the stand-in for the kubelet does not know {sorted(unknown)}"
        for name in ("readinessProbe", "livenessProbe"):
            assert "httpGet" in spec.get(name, {"httpGet": {}}), f"{name} is not by httpGet"

    def _command(self) -> list[str]:
        (spec,) = self._spec["containers"]
        image = self._kubelet.image(spec["image"])
        mounts = {"/etc/resolv.conf": self._write("resolv.conf", self._resolv_conf())}
        volumes = {volume["name"]: volume for volume in self._spec.get("volumes", [])}
        for mount in spec.get("volumeMounts", []):
            mounts[mount["mountPath"]] = self._volume(volumes[mount["name"]])
        user = {**self._spec.get("securityContext", {}), **spec.get("securityContext", {})}
        wanted = f"{user['runAsUser']}:{user['runAsGroup']}" if "runAsUser" in user else ""
        words = spec.get("command") or image.config["Entrypoint"]
        return [
            *("nsenter", f"--net={self.network.place}"),
            *("unshare", "--uts", "--pid", "--fork", "--kill-child"),
            *("sh", "-c", NAMED, "sh", self.about["name"]),
            *image.command(mounts, wanted),
            *words,
            *spec.get("args", []),
        ]

    def _environment(self) -> dict[str, str]:
        (spec,) = self._spec["containers"]
        image = self._kubelet.image(spec["image"])
        given = dict(entry.split("=", 1) for entry in image.config.get("Env", []))
        for entry in spec.get("env", []):
            if "valueFrom" in entry:
                given[entry["name"]] = self._field(entry["valueFrom"]["fieldRef"]["fieldPath"])
            else:
                given[entry["name"]] = entry.get("value", "")
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOSTNAME": self.about["name"],
            "KUBERNETES_SERVICE_HOST": API_SERVER,
            "KUBERNETES_SERVICE_PORT": "443",
            "KUBERNETES_SERVICE_PORT_HTTPS": "443",
            **given,
        }

    def _resolv_conf(self) -> str:
        search = f"{self.about['namespace']}.svc.{DOMAIN} svc.{DOMAIN} {DOMAIN}"
        return f"search {search}\nnameserver {DNS}\noptions ndots:5\n"

    def _volume(self, volume: dict) -> Path:
        place = self._directory / volume["name"]
        place.mkdir()
        if "configMap" in volume:
            files = self._config_map(volume["configMap"])
        else:
            files = {}
            for source in volume["projected"]["sources"]:
                files |= self._projected(source)
        for name, text in files.items():
            self._write(f"{volume['name']}/{name}", text)
        return place

    def _projected(self, source: dict) -> dict[str, str]:
        if "configMap" in source:
            return self._config_map(source["configMap"])
        if "downwardAPI" in source:
            items = source["downwardAPI"]["items"]
            return {item["path"]: self._field(item["fieldRef"]["fieldPath"]) for item in items}
        wanted = source["serviceAccountToken"]
        account = f"{self._spec['serviceAccountName']}/token"
        path = f"/api/v1/namespaces/{self.about['namespace']}/serviceaccounts/{account}"
        bound = {"kind": "Pod", "apiVersion": "v1"}
        bound |= {field: self.about[field] for field in ("name", "uid")}
        request = {"expirationSeconds": wanted["expirationSeconds"], "boundObjectRef": bound}
        granted = self._kube.create(path, {"spec": request})
        return {wanted["path"]: granted["status"]["token"]}

    def _config_map(self, source: dict) -> dict[str, str]:
        """Waits for the ConfigMap, as the kubelet does."""
        path = f"/api/v1/namespaces/{self.about['namespace']}/configmaps/{source['name']}"
        while True:
            try:
                data = self._kube.get(path)["data"]
                break
            except ApiError as error:
                if error.code != 404:
                    raise
                time.sleep(0.2)
        items = source.get("items") or [{"key": key, "path": key} for key in data]
        return {item["path"]: data[item["key"]] for item in items}

    def _field(self, path: str) -> str:
        fields = {
            "metadata.name": self.about["name"],
            "metadata.namespace": self.about["namespace"],
            "metadata.uid": self.about["uid"],
            "spec.nodeName": self._spec["nodeName"],
            "status.podIP": self.network.address,
        }
        return fields[path]

    def _write(self, name: str, text: str) -> Path:
        path = self._directory / name
        path.write_text(text)
        path.chmod(0o644)
        return path


class Kubelet:
    """The pods of a node. `images` are the file trees by the images' names without a tag.
    `failures` says what it could not do."""

    def __init__(self, kube: Client, node: Node, directory: Path, images: dict[str, FileTree]):
        self.kube = kube
        self.node = node
        self.directory = directory
        self.images = images
        self.failures: list[str] = []
        self.pods: dict[str, Pod] = {}
        self._register()
        mine = f"/api/v1/pods?fieldSelector=spec.nodeName={node.name}"
        follow.start(kube, mine, self._changed, self._gone)

    def image(self, name: str) -> FileTree:
        return self.images[name.rpartition("/")[2].partition(":")[0]]

    def _register(self) -> None:
        nodes = "/api/v1/nodes"
        labels = {"kubernetes.io/hostname": self.node.name, "kubernetes.io/os": "linux"}
        spec = {"podCIDR": self.node.pods}
        about = {"name": self.node.name, "labels": labels}
        self.kube.create(nodes, {"metadata": about, "spec": spec})
        room = {"cpu": "64", "memory": "64Gi", "pods": "254"}
        ready = {
            "type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now(),
        }
        status = {
            "addresses": [{"type": "InternalIP", "address": self.node.address}],
            "capacity": room,
            "allocatable": room,
            "conditions": [ready],
        }
        path = f"{nodes}/{self.node.name}"
        self.kube.patch(f"{path}/status", {"status": status})
        # The API server marks each new node as not ready.
        self.kube.patch(path, {"spec": {"taints": None}})

    def _changed(self, pod: dict) -> None:
        uid = pod["metadata"]["uid"]
        if uid in self.pods:
            self.pods[uid].tell(pod)
        else:
            self.pods[uid] = Pod(self, pod)
            if "deletionTimestamp" in pod["metadata"]:
                self.pods[uid].tell(pod)

    def _gone(self, pod: dict) -> None:
        if known := self.pods.pop(pod["metadata"]["uid"], None):
            known.tell(None)
