"""The network: nodes and pods are network namespaces, joined by pairs of interfaces.

    pytest, the control plane and all that is outside of the cluster      OUTSIDE
        |                          |
      node-1  10.0.0.11          node-2  10.0.0.12      a kube-proxy in each
       |    |                     |    |
     pods 10.244.1.*            pods 10.244.2.*

Everything is routed, nothing bridged: an answer from one pod to another has to pass through its
node, which translates the Service's address back.
"""

import itertools
import os
import subprocess
import sys
from pathlib import Path

# Set in the process that runs the tests.
INSIDE = "TPROXY_E2E_INSIDE"
NAMESPACES = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")

OUTSIDE = "10.0.0.1"
POD_RANGE = "10.244.0.0/16"
SERVICE_RANGE = "10.96.0.0/16"

# Pods reach their node under this address. The node's end of each pair has the same one.
GATEWAY, GATEWAY_MAC = "169.254.1.1", "02:00:00:00:00:01"

SWITCHES = ("net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0")

_numbers = itertools.count(1)


def refusal() -> str:
    """Returns why this process may not have namespaces of its own; "" if it may."""
    tried = subprocess.run(
        ["unshare", *NAMESPACES, "ip", "link", "set", "lo", "up"],
        capture_output=True, text=True, check=False,
    )
    return "" if tried.returncode == 0 else tried.stderr.strip() or f"status {tried.returncode}"


def enter(words: list[str]) -> None:
    """Runs a program in place of this one, in namespaces of its own. When it ends, even if it is
    killed, the kernel ends all that it started and removes their interfaces and mounts. Nothing has
    a name outside."""
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", *NAMESPACES, *words])


def run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"


def ip(text: str, namespace: str = "") -> None:
    """Runs commands of ip(8), one a line, in a namespace or outside of the nodes."""
    where = ["-n", namespace] if namespace else []
    done = subprocess.run(
        ["ip", *where, "-batch", "-"], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{text}: {done.stderr}"


def set_up_outside() -> None:
    """Prepares the namespaces that enter() has made."""
    # Programs meet in /run: named namespaces, the lock of iptables.
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    # On some systems this is a link to a file below /run; pods get one of their own in its place.
    resolv_conf = Path(os.path.realpath("/etc/resolv.conf"))
    resolv_conf.parent.mkdir(parents=True, exist_ok=True)
    resolv_conf.touch()
    # What a node does not translate is lost on the way, as most networks do with it.
    ip(
        f"link set lo up\naddress add {OUTSIDE}/32 dev lo\n"
        f"route add blackhole {SERVICE_RANGE}"
    )
    run("sysctl", "-qw", *SWITCHES)


class Node:
    """The network of a node."""

    def __init__(self, number: int):
        self.name = f"node-{number}"
        self.address = f"10.0.0.{10 + number}"
        self.pods = f"10.244.{number}.0/24"
        self._addresses = (f"10.244.{number}.{host}" for host in range(1, 255))
        ip(
            f"netns add {self.name}\n"
            f"link add {self.name} type veth peer name uplink netns {self.name}"
        )
        ip(
            f"link set lo up\nlink set uplink up\naddress add {self.address}/32 dev uplink\n"
            f"route add {OUTSIDE} dev uplink\nroute add default via {OUTSIDE} dev uplink",
            self.name,
        )
        ip(
            f"link set {self.name} up\nroute add {self.address} dev {self.name}\n"
            f"route add {self.pods} via {self.address} dev {self.name}"
        )
        run(*self.within(), "sysctl", "-qw", *SWITCHES)

    def within(self) -> list[str]:
        """Returns the words to put before a command that runs on the node."""
        return ["ip", "netns", "exec", self.name]

    def pod(self) -> "PodNetwork":
        return PodNetwork(self.name, next(self._addresses))


class PodNetwork:
    """The network namespace of a pod."""

    def __init__(self, node: str, address: str):
        self.address = address
        self.name = f"pod-{next(_numbers)}"
        ip(
            f"netns add {self.name}\n"
            f"link add {self.name} netns {node} address {GATEWAY_MAC} type veth"
            f" peer name eth0 netns {self.name}"
        )
        ip(f"link set {self.name} up\nroute add {address} dev {self.name}", node)
        ip(
            f"link set lo up\nlink set eth0 up\naddress add {address}/32 dev eth0\n"
            f"neighbor add {GATEWAY} lladdr {GATEWAY_MAC} dev eth0 nud permanent\n"
            f"route add {GATEWAY} dev eth0\nroute add default via {GATEWAY} dev eth0",
            self.name,
        )

    @property
    def place(self) -> Path:
        return Path("/run/netns") / self.name

    def remove(self) -> None:
        """The interfaces go with the last process in it."""
        ip(f"netns delete {self.name}")
