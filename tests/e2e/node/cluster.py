"""The cluster: a control plane with controllers, two nodes, each with a kube-proxy, and the
cluster's DNS server."""

import json
import shutil
import subprocess
from pathlib import Path

from harness.image import FileTree
from harness.kube import ApiError, Kube
from harness.util import until
from node.kubelet import API_SERVER, DNS, DOMAIN, Kubelet, Pod, Tools
from node.network import OUTSIDE, POD_RANGE, Node
from node.scheduler import Scheduler

# Nodes send no heartbeats, so the controller that misses them does not run.
CONTROLLERS = (
    "deployment", "replicaset", "endpointslice", "garbage-collector", "namespace", "disruption",
    "serviceaccount", "root-ca-certificate-publisher",
)

PROXY_CONFIG = {
    "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
    "kind": "KubeProxyConfiguration",
    "mode": "iptables",
    "clusterCIDR": POD_RANGE,
    "detectLocalMode": "ClusterCIDR",
    # The size of the table is a matter of the machine, not of a namespace.
    "conntrack": {"maxPerCore": 0, "min": 0},
}

# As kubeadm's, but for what is outside of the cluster: all names below test are this machine.
COREFILE = """
.:1053 {
    errors
    health
    ready
    kubernetes %(domain)s in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    template IN A test {
        answer "{{ .Name }} 5 IN A %(outside)s"
    }
    template ANY ANY test {
        rcode NOERROR
    }
    template ANY ANY . {
        rcode NXDOMAIN
    }
    cache 30 {
        disable success %(domain)s
        disable denial %(domain)s
    }
    loadbalance
}
"""


# What the home namespace asks of a pod.
RESTRICTED_POD = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
RESTRICTED_CONTAINER = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


class ControlPlane(Kube):
    host = OUTSIDE
    names = ("localhost", "kubernetes.default.svc", API_SERVER)
    admission = ()


class Cluster:
    """The cluster. `images` are the file trees of further images."""

    def __init__(
        self, programs: Path, node_programs: Path, directory: Path, images: dict[str, FileTree]
    ):
        self.kube = ControlPlane(programs, directory)
        self.kubelets: list[Kubelet] = []
        self._programs = node_programs
        self._directory = directory
        dns = FileTree(directory / "coredns", {"Entrypoint": ["/coredns"], "User": "65532:65532"})
        self._images = {"tools": Tools(), "coredns": dns, **images}
        self._processes: list[subprocess.Popen] = []

    def __enter__(self) -> "Cluster":
        self.kube.__enter__()
        pem = self.kube.directory / "server.pem"
        self._spawn(
            "controller-manager",
            str(self._programs / "kube-controller-manager"),
            f"--kubeconfig={self.kube.kubeconfig}",
            f"--service-account-private-key-file={pem}",
            f"--root-ca-file={self.kube.ca_file}",
            "--leader-elect=false",
            f"--controllers={','.join(f'{name}-controller' for name in CONTROLLERS)}",
        )
        for number in (1, 2):
            self._add_node(Node(number))
        Scheduler(self.kube)
        self._start_dns()
        return self

    def __exit__(self, *exception) -> None:
        """Ends the control plane. What it started ends with this process's namespaces."""
        for process in self._processes:
            process.kill()
            process.wait()
        self.kube.__exit__()

    # --- its pods ---

    def pods(self, namespace: str, **labels: str) -> list[dict]:
        wanted = ",".join(f"{name}={value}" for name, value in labels.items())
        return self.kube.items(f"/api/v1/namespaces/{namespace}/pods?labelSelector={wanted}")

    def running(self, pod: dict) -> Pod:
        """Returns the pod on its node."""
        uid = pod["metadata"]["uid"]
        return next(each.pods[uid] for each in self.kubelets if uid in each.pods)

    def client(self, namespace: str, name: str, **labels: str) -> Pod:
        """Starts a pod that has the programs of this machine, and waits for it."""
        path = f"/api/v1/namespaces/{namespace}/pods"
        pod = {
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 0,
                "securityContext": RESTRICTED_POD,
                "containers": [
                    {"name": "tools", "image": "tools", "securityContext": RESTRICTED_CONTAINER}
                ],
            },
        }
        # A new namespace has no ServiceAccount yet.
        until(lambda: self._create(path, pod), f"the namespace {namespace} to take pods")
        ready = until(lambda: self._ready(f"{path}/{name}"), f"the pod {name}", every=0.05)
        return self.running(ready)

    def state(self) -> str:
        """Returns what there is to say after a failure."""
        kinds = "pods,endpointslices,services,deployments,replicasets"
        listed = self.kube.kubectl("get", kinds, "-A", "-o", "wide", check=False)
        failures = [failure for kubelet in self.kubelets for failure in kubelet.failures]
        pods = [pod for kubelet in self.kubelets for pod in list(kubelet.pods.values())]
        logs = {f"{p.about['namespace']}/{p.about['name']}": p.log() for p in pods}
        for file in self._directory.glob("*.log"):
            logs[file.name] = file.read_text(errors="replace")
        tails = [f"--- {name}\n{text[-3000:]}" for name, text in logs.items()]
        return "\n".join([listed.stdout, *failures, *tails])

    # --- inside ---

    def _create(self, path: str, fields: dict) -> bool:
        try:
            self.kube.create(path, fields)
        except ApiError as error:
            if "serviceaccount" not in str(error):
                raise
            return False
        return True

    def _ready(self, path: str) -> dict | None:
        pod = self.kube.get(path)
        conditions = {c["type"]: c["status"] for c in pod["status"].get("conditions", [])}
        return pod if conditions.get("Ready") == "True" else None

    def _add_node(self, node: Node) -> None:
        self.kubelets.append(Kubelet(self.kube, node, self._directory, self._images))
        config = {
            **PROXY_CONFIG,
            "hostnameOverride": node.name,
            "clientConnection": {"kubeconfig": str(self.kube.kubeconfig)},
        }
        file = self._directory / f"{node.name}.json"
        file.write_text(json.dumps(config))
        proxy = str(self._programs / "kube-proxy")
        self._spawn(f"proxy-{node.name}", *node.within(), proxy, f"--config={file}")

    def _start_dns(self) -> None:
        root = self._images["coredns"].root
        root.mkdir()
        shutil.copy(self._programs / "coredns", root)
        self.kube.apply(*dns_objects())
        path = "/apis/apps/v1/namespaces/kube-system/deployments/coredns"

        def ready() -> bool:
            assert all(process.poll() is None for process in self._processes), "a program has ended"
            return bool(self.kube.get(path).get("status", {}).get("readyReplicas"))

        try:
            until(ready, "CoreDNS", every=0.1)
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n{self.state()}") from None

    def _spawn(self, name: str, *words: str) -> None:
        with (self._directory / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._processes.append(process)


def dns_objects() -> list[dict]:
    """Returns what kubeadm installs for DNS, without what only matters on real nodes."""
    about = {"name": "coredns", "namespace": "kube-system"}
    labels = {"k8s-app": "kube-dns"}
    reads = [
        {"apiGroups": [group], "resources": resources, "verbs": ["list", "watch"]}
        for group, resources in (
            ("", ["services", "pods", "namespaces"]),
            ("discovery.k8s.io", ["endpointslices"]),
        )
    ]
    rbac = "rbac.authorization.k8s.io"
    container = {
        "name": "coredns",
        "image": "coredns",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "livenessProbe": {"httpGet": {"path": "/health", "port": 8080}, "timeoutSeconds": 5},
    }
    spec = {
        "serviceAccountName": "coredns",
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
    }
    ports = [
        {"name": name, "protocol": protocol, "port": 53, "targetPort": 1053}
        for name, protocol in (("dns", "UDP"), ("dns-tcp", "TCP"))
    ]
    corefile = COREFILE % {"domain": DOMAIN, "outside": OUTSIDE}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": about},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "coredns"},
            "rules": reads,
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "coredns"},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "coredns"},
            "subjects": [{"kind": "ServiceAccount", **about}],
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": about,
            "data": {"Corefile": corefile},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": about,
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {**about, "name": "kube-dns"},
            "spec": {"clusterIP": DNS, "selector": labels, "ports": ports},
        },
    ]
