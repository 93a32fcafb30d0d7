"""What bench/cluster.py measures: replicas of tproxy in a cluster, the clients that change resources
meanwhile, and a bare client that makes the same writes."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TOP / "tests/integration"), str(TOP / "bench")]
from harness.backend import Backend  # noqa: E402
from harness.destination_service import DestinationService  # noqa: E402
from harness.installation import (  # noqa: E402
    CRS,
    TARGET_PORTS,
    ClusterTproxy,
    Installation,
    destination_cr,
)
from harness.kube import JSON, MERGE, Kube  # noqa: E402
from harness.samples import HOME  # noqa: E402
from harness.tproxy import Program, destination  # noqa: E402
from harness.util import NOBODY, is_root, until, work_directory  # noqa: E402
from run import cpu_seconds, memory_kib  # noqa: E402

WRITERS = 4  # connections by which CRs are made
BARE_WRITERS = 16  # connections of the bare client
PATIENCE = 1800
LEAST_PORT = 16384  # the lower bound of TARGET_PORTS
LAST_WORDS = re.compile(r"the longest turn of the loop took ([\d.]+) ms")
CGROUPS = Path("/sys/fs/cgroup/memory")
LISTENING = "0A"

SERVICES = f"/api/v1/namespaces/{HOME}/services"

# Runs as root: enters the control group $1, if one is given, and continues without rights but with
# real-time priority, so that no other program lengthens a turn of tproxy's loop.
START = f"""
test -z "$1" || echo $$ >"$1/cgroup.procs"
shift
exec chrt --fifo 1 setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups "$@"
"""


class Realtime(Program):
    """The program, in a control group of its own and with real-time priority."""

    def __init__(self, binary: Path, directory: Path):
        super().__init__(binary, directory)
        self._group = CGROUPS / directory.name
        with contextlib.suppress(OSError):
            self._group.mkdir()
        counted = str(self._group) if self._group.exists() else ""
        if is_root():
            self.wrapper = ("sh", "-c", START, "sh", counted)

    def spawn(self, *arguments: str, uid: int | None = None, **options) -> subprocess.Popen:
        return super().spawn(*arguments, uid=0, **options)

    def group_mib(self) -> float | None:
        """Returns the memory that the group's processes use, including the kernel's for them,
        without the page cache. None: there is no such group."""
        if not self._group.exists():
            return None
        used = int((self._group / "memory.usage_in_bytes").read_text())
        lines = (self._group / "memory.stat").read_text().splitlines()
        cache = next(int(line.split()[1]) for line in lines if line.startswith("cache "))
        return (used - cache) / 2**20

    def remove_group(self) -> None:
        with contextlib.suppress(OSError):
            self._group.rmdir()


class Replica(ClusterTproxy):
    """One of the replicas, which listens on an address of its own."""

    def __init__(self, program: Realtime, directory: Path, mode: dict[str, str], address: str):
        flags = ("--log-level", "info", "--namespace-targets", "0", "--leader-elect", "")
        super().__init__(program, directory, mode, *flags, "--listen", address, *TARGET_PORTS)
        self.address = address
        self.began = time.monotonic()

    def is_ready(self) -> bool:
        return self.http("/readyz")[0] == 200

    def leads(self) -> bool:
        return self.metric("tproxy_leader") == 1

    def rss(self) -> float:
        return memory_kib(self.pid, "Rss") / 1024

    def begin_peak(self) -> None:
        """Forgets the highest resident memory so far."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def peak(self) -> float:
        """Returns the highest resident memory since begin_peak()."""
        return self.memory_peak() / 2**20

    def group_mib(self) -> float | None:
        return self.program.group_mib()

    def cpu(self) -> float:
        return cpu_seconds(self.pid)

    def turn(self) -> float:
        """Returns the longest turn so far, in milliseconds."""
        return self.metric("tproxy_loop_turn_longest_seconds") * 1e3

    def last_turn(self) -> float:
        """Returns the longest turn of a program that has ended, in milliseconds, including the
        shutdown."""
        line = next(line for line in reversed(self.logs.all()) if LAST_WORDS.match(line["msg"]))
        return float(LAST_WORDS.match(line["msg"]).group(1))

    def listeners(self) -> int:
        """Returns the number of target ports on which it listens."""
        address = "".join(f"{int(part):02X}" for part in reversed(self.address.split(".")))
        count = 0
        with open("/proc/net/tcp", encoding="ascii") as table:
            for line in table:
                fields = line.split()
                local, _, port = fields[1].partition(":")
                if fields[3] == LISTENING and local == address and int(port, 16) >= LEAST_PORT:
                    count += 1
        return count


class Connection:
    """A connection to the API server that is kept, in the name of the administrator."""

    def __init__(self, kube: Kube):
        self._kube = kube
        self._connection = kube.connect()

    def close(self) -> None:
        self._connection.close()

    def ask(
        self, method: str, path: str, body: str | None = None, kind: str = JSON
    ) -> dict | None:
        """Makes a request. None: there is no such object."""
        headers = {"Authorization": f"Bearer {self._kube.token}", "Content-Type": kind}
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status == http.client.NOT_FOUND:
            return None
        assert answer.status < 300, text
        return json.loads(text)


def write_all(kube: Kube, requests: list[tuple[str, str, str, str]], writers: int) -> float:
    """Makes requests (method, path, body, content type) over several connections, each one as soon
    as a connection is free. Returns the seconds."""
    waiting, failures = iter(requests), []
    lock = threading.Lock()

    def write() -> None:
        with contextlib.closing(Connection(kube)) as connection:
            while True:
                with lock:
                    request = next(waiting, None)
                if not request or failures:
                    return
                try:
                    connection.ask(*request)
                except (AssertionError, OSError, http.client.HTTPException) as failure:
                    failures.append(failure)

    threads = [threading.Thread(target=write) for _ in range(writers)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    return time.monotonic() - begin


class Changes:
    """Changes the port of one resource's Service again and again, in the background, and measures
    how long tproxy needs each time."""

    PAUSE = 0.5  # seconds between two changes

    def __init__(self, world: World, name: str, namespace: str):
        self._kube = world.kube
        self._name = name
        self._path = f"{CRS}/namespaces/{namespace}/destinations/{name}"
        self._times: list[float] = []
        self._ending = threading.Event()
        self._changing = threading.Lock()
        self._thread = threading.Thread(target=self._run)
        self._failure: BaseException | None = None

    def __enter__(self) -> Changes:
        self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self._ending.set()
        self._thread.join()
        if self._failure and exception[0] is None:
            raise self._failure

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Makes no change while the block runs."""
        with self._changing:
            yield

    def take(self) -> list[float]:
        """Returns the seconds of each change since the last call."""
        times, self._times = self._times, []
        return times

    def _run(self) -> None:
        try:
            self._wait_for(None)
            number = 0
            while not self._ending.wait(self.PAUSE):
                number += 1
                with self._changing:
                    self._change(1100 + number % 2)
        except BaseException as failure:
            self._failure = failure

    def _change(self, port: int) -> None:
        change = {"spec": {"service": {"port": port}}}
        with contextlib.closing(Connection(self._kube)) as connection:
            begin = time.monotonic()
            connection.ask("PATCH", self._path, json.dumps(change), MERGE)
        self._wait_for(port)
        self._times.append(time.monotonic() - begin)

    def _wait_for(self, port: int | None) -> None:
        """Waits until the Service has the port; None: until it exists."""
        with contextlib.closing(Connection(self._kube)) as connection:

            def there() -> bool:
                service = connection.ask("GET", f"{SERVICES}/{self._name}")
                return bool(service) and port in (None, service["spec"]["ports"][0]["port"])

            until(there, f"the Service {self._name} with the port {port}", PATIENCE, every=0.005)


class World:
    """The cluster, the installation in it, and the resources."""

    # Destinations are read at the start and when a resource changes, and never again.
    CONFIGURATION = {
        "metrics": {"prometheus": {"enabled": True}},
        "manager": {"executionIntervalMinutes": 10080},
    }

    def __init__(self, kube: Kube, service: DestinationService, backend: Backend):
        self.kube = kube
        self.installation = Installation(kube, service)
        self._backend = backend
        self.configure()

    def configure(self, **more: object) -> None:
        self.installation.configure(**{**self.CONFIGURATION, **more})

    def add_destination(self, name: str) -> None:
        properties = destination(name, self._backend.host, self._backend.port)
        self.installation.service.destinations[name] = properties

    def create(self, names: list[str], namespaces: list[str]) -> None:
        """Creates a destination and a resource for each name, over the namespaces in turn."""
        requests = []
        for number, name in enumerate(names):
            self.add_destination(name)
            namespace = namespaces[number % len(namespaces)]
            path = f"{CRS}/namespaces/{namespace}/destinations"
            requests.append(("POST", path, json.dumps(destination_cr(name, namespace, name)), JSON))
        write_all(self.kube, requests, WRITERS)

    @contextlib.contextmanager
    def replicas(self, binary: Path, count: int) -> Iterator[list[Replica]]:
        """Starts replicas; the first one leads. They end when the block ends, the followers first,
        so that the leader's end is that of a leader."""
        with contextlib.ExitStack() as stack:
            started: list[Replica] = []
            for number in range(count):
                place = stack.enter_context(work_directory(f"bench{number}"))
                program = Realtime(binary, place)
                stack.callback(program.remove_group)
                mode = self.installation.mode(place)
                replica = Replica(program, place, mode, f"127.0.1.{number + 1}")
                started.append(stack.enter_context(replica))
                if number == 0:
                    until(lambda first=replica: first.http("/metrics")[0] == 200, "its metrics")
                    until(replica.leads, "the first replica to lead")
            yield started
            for replica in reversed(started):
                replica.signal(signal.SIGTERM)
                replica.wait(PATIENCE)

    def writes_of(self, names: list[str]) -> list[tuple[str, str, str, str]]:
        """Returns requests that create once more, under other names, what tproxy has written for
        these resources."""
        wanted, requests = set(names), []
        for item in self.kube.items("/api/v1/services"):
            if item["metadata"]["name"] in wanted:
                requests.append(("POST", *_copy("/api/v1", "services", item)))
        for item in self.kube.items("/apis/events.k8s.io/v1/events"):
            if item.get("regarding", {}).get("name") in wanted:
                requests.append(("POST", *_copy("/apis/events.k8s.io/v1", "events", item)))
        for item in self.kube.items(f"{CRS}/destinations"):
            about = item["metadata"]
            if about["name"] in wanted:
                conditions = [dict(c, message=c["message"] + " ") for c in _conditions(item)]
                path = f"{CRS}/namespaces/{about['namespace']}/destinations/{about['name']}/status"
                change = {"status": {"conditions": conditions}}
                requests.append(("PATCH", path, json.dumps(change), MERGE))
        return requests


def _conditions(item: dict) -> list[dict]:
    return item.get("status", {}).get("conditions", [])


def _copy(api: str, plural: str, item: dict) -> tuple[str, str, str]:
    """Returns path, body and type of a request that creates an object like this one. Without
    labels it does not count as tproxy's."""
    about = item["metadata"]
    body = {key: value for key, value in item.items() if key not in ("metadata", "status")}
    body["metadata"] = {
        "name": about["name"][:40] + "-copy" if plural == "services" else about["name"] + "c",
        "annotations": about.get("annotations", {}),
        "ownerReferences": about.get("ownerReferences", []),
    }
    if plural == "services":
        for field in ("clusterIP", "clusterIPs"):
            body["spec"].pop(field, None)
    return f"{api}/namespaces/{about['namespace']}/{plural}", json.dumps(body), JSON
