#!/usr/bin/env python3
"""Measures tproxy in a cluster with many Destination CRs and prints the tables of
docs/performance.md.

    bench/cluster.py [--resources N] [--namespaces N] [--binary FILE] [--build DIR] [--document]

The API server, etcd and the servers that stand in for BTP are those of the tests, and run on this
machine too.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TOP / "tests/integration"), str(TOP / "bench")]
from harness.backend import Backend, Pop3  # noqa: E402
from harness.clients import RawClient  # noqa: E402
from harness.destination_service import DestinationService  # noqa: E402
from harness.installation import (  # noqa: E402
    CRS,
    TARGET_PORTS,
    ClusterTproxy,
    Installation,
    destination_cr,
)
from harness.kube import Kube  # noqa: E402
from harness.oauth import OAuthServer, Provider  # noqa: E402
from harness.samples import HOME  # noqa: E402
from harness.secret_registry import Secrets  # noqa: E402
from harness.tproxy import Program, destination  # noqa: E402
from harness.util import NOBODY, is_root, until, work_directory  # noqa: E402
from run import Report, cpu_seconds, document, memory_kib, this_machine  # noqa: E402

WRITERS = 4  # connections by which CRs are made
PATIENCE = 1800
NEW_ONES = 20  # CRs that are applied one after the other
LAST_WORDS = re.compile(r"the longest turn of the loop took ([\d.]+) ms")
CGROUPS = Path("/sys/fs/cgroup/memory")

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


class Measured(ClusterTproxy):
    def __enter__(self) -> Measured:
        self.began = time.monotonic()
        return super().__enter__()

    def seconds(self) -> float:
        """Returns the time since the program's start."""
        return time.monotonic() - self.began

    def rss(self) -> float:
        return memory_kib(self.pid, "Rss") / 1024

    def longest_turn(self) -> float:
        """Returns the longest turn of a program that has ended, in milliseconds, including the
        shutdown."""
        line = next(line for line in reversed(self.logs.all()) if LAST_WORDS.match(line["msg"]))
        return float(LAST_WORDS.match(line["msg"]).group(1))


class Bench:
    def __init__(self, kube: Kube, service: DestinationService, backend: Backend, args):
        self.kube = kube
        self.backend = backend
        self.count = args.resources
        self.installation = Installation(kube, service)
        self.installation.configure(metrics={"prometheus": {"enabled": True}})
        self.namespaces = [kube.namespace() for _ in range(args.namespaces)]
        self.report = Report()

    @contextlib.contextmanager
    def tproxy(self, binary: Path):
        flags = ("--log-level", "info", "--namespace-targets", "0", *TARGET_PORTS)
        with work_directory("bench") as place:
            program = Realtime(binary, place)
            with Measured(program, place, self.installation.mode(place), *flags) as running:
                yield running
            program.remove_group()

    # --- objects in the cluster ---

    def add_destination(self, name: str) -> None:
        properties = destination(name, self.backend.host, self.backend.port)
        self.installation.service.destinations[name] = properties

    def create_all(self) -> None:
        names = [f"mail-{number:05d}" for number in range(self.count)]
        for name in names:
            self.add_destination(name)
        threads = [
            threading.Thread(target=self._create, args=(names, part)) for part in range(WRITERS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _create(self, names: list[str], part: int) -> None:
        with contextlib.closing(self.kube.connect()) as connection:
            for number in range(part, len(names), WRITERS):
                namespace = self.namespaces[number % len(self.namespaces)]
                cr = destination_cr(names[number], namespace, names[number])
                path = f"{CRS}/namespaces/{namespace}/destinations"
                self._ask(connection, "POST", path, cr)

    def _ask(self, connection, method: str, path: str, body: dict | None = None) -> dict | None:
        """Makes a request. None: there is no such object."""
        headers = {"Authorization": f"Bearer {self.kube.token}", "Content-Type": "application/json"}
        connection.request(method, path, body and json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status == http.client.NOT_FOUND:
            return None
        assert answer.status < 300, text
        return json.loads(text)

    # --- measurements ---

    def wait_available(self, proxy: Measured) -> None:
        """Waits until all CRs are available."""

        def available() -> bool:
            configured = proxy.http("/metrics")[0] == 200
            return configured and proxy.metric("tp_destination_crs", Available="True") >= self.count

        until(available, "all CRs to be available", patience=PATIENCE, every=0.5)

    def first_ok(self, number: int) -> float:
        """Returns the seconds from the request that creates a CR to the first message list of its
        mailbox."""
        name = f"new-{number}"
        namespace = self.namespaces[number % len(self.namespaces)]
        self.add_destination(name)
        with contextlib.closing(self.kube.connect()) as connection:
            service = f"/api/v1/namespaces/{HOME}/services/{name}"
            assert self._ask(connection, "GET", service) is None
            path = f"{CRS}/namespaces/{namespace}/destinations"
            begin = time.monotonic()
            self._ask(connection, "POST", path, destination_cr(name, namespace, name))
            found = until(lambda: self._ask(connection, "GET", service), service, every=0.002)
        with RawClient(found["spec"]["ports"][0]["targetPort"]) as client:
            assert client.command(b"LIST").startswith(b"+OK")
            return time.monotonic() - begin


def measure(bench: Bench, binary: Path) -> None:
    report, many = bench.report, f"{bench.count} CRs in {len(bench.namespaces)} namespaces"
    rows, rss, groups, turns = [], [], [], []

    def note(proxy: Measured, what: str, seconds: float | None = None) -> None:
        rss.append(proxy.rss())
        groups.append(proxy.program.group_mib())
        turns.append(proxy.metric("tproxy_loop_turn_longest_seconds") * 1e3)
        row = [
            what,
            f"{rss[-1]:.1f}",
            f"{groups[-1]:.1f}" if groups[-1] else "–",
            f"{seconds:.1f}" if seconds else "–",
            f"{cpu_seconds(proxy.pid):.2f}",
            f"{turns[-1]:.2f}",
        ]
        print(" | ".join(row), flush=True)
        rows.append(row)

    def note_end(proxy: Measured, what: str) -> None:
        turns.append(proxy.longest_turn())
        row = [what, "–", "–", "–", "–", f"{turns[-1]:.2f}"]
        print(" | ".join(row), flush=True)
        rows.append(row)

    with bench.tproxy(binary) as proxy:
        proxy.ready()
        note(proxy, "no CR", proxy.seconds())
    bench.create_all()
    with bench.tproxy(binary) as proxy:
        bench.wait_available(proxy)
        note(proxy, f"{many}, all of them new", proxy.seconds())
        writes = proxy.metric("tproxy_cluster_writes_total")
    note_end(proxy, "and its end")
    with bench.tproxy(binary) as proxy:
        until(lambda: proxy.http("/readyz")[0] == 200, "it to be ready", PATIENCE, every=0.1)
        note(proxy, f"{many}, started again", proxy.seconds())
        times = [bench.first_ok(number) * 1e3 for number in range(NEW_ONES)]
        note(proxy, f"and {NEW_ONES} more, one after the other")
    note_end(proxy, "and its end")
    report.table(["what", "Rss MiB", "cgroup MiB", "s", "CPU s", "longest turn ms"], rows)
    report.say(
        f"{writes:.0f} writes to the API server made the new ones available. From the request that "
        f"makes one more CR to the list of messages through its target port: median "
        f"{statistics.median(times):.0f} ms, at most {max(times):.0f} ms of {len(times)}."
    )
    most = max(rss)
    report.verdict(f"resident memory, {bench.count} CRs", "≤ 40 MiB", most, 40, f"{most:.1f} MiB")
    if all(groups):
        most = max(groups)
        report.verdict("memory of the cgroup", "≤ 100 MiB", most, 100, f"{most:.1f} MiB")
    report.verdict("longest loop turn", "≤ 5 ms", max(turns), 5, f"{max(turns):.2f} ms")
    report.verdict("CR to first +OK", "≤ 1 s", max(times), 1000, f"{max(times):.0f} ms at most")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resources", type=int, default=10000)
    parser.add_argument("--namespaces", type=int, default=50)
    parser.add_argument("--build", type=Path, default=Path(os.environ.get("B", TOP / "build")))
    parser.add_argument("--binary", type=Path, help="tproxy to measure (default: in the build)")
    parser.add_argument(
        "--document", action="store_true", help="put the tables into docs/performance.md"
    )
    args = parser.parse_args()
    programs = subprocess.run(
        [TOP / "scripts/build-cluster.sh"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    secrets = Secrets()
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(work_directory("bench"))
        (directory / "kube").mkdir()
        kube = stack.enter_context(Kube(Path(programs), directory / "kube"))
        provider = stack.enter_context(Provider(directory))
        oauth = stack.enter_context(OAuthServer(provider, secrets))
        service = stack.enter_context(DestinationService(oauth, secrets))
        backend = stack.enter_context(Backend(Pop3()))
        bench = Bench(kube, service, backend, args)
        bench.report.say(f"{this_machine()}; load average at the start {os.getloadavg()[0]:.1f}")
        measure(bench, args.binary or args.build / "tproxy")
    report = bench.report
    report.table(["what", "target", "measured", "measured ÷ target", "verdict"], report.verdicts)
    if args.document:
        document(report, "Results in a cluster")
    return 0


if __name__ == "__main__":
    sys.exit(main())
