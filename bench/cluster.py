#!/usr/bin/env python3
"""Measures tproxy in a cluster with many Destination CRs and prints the tables of
docs/performance.md.

    bench/cluster.py [--resources N] [--namespaces N] [--replicas N] [--config-maps N] [--secrets N]
                     [--binary FILE] [--build DIR] [--document]

The API server, etcd and the servers that stand in for BTP are those of the tests, and run on this
machine too.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from cluster_world import (  # first: it says where the modules of the tests are
    BARE_WRITERS,
    PATIENCE,
    SERVICES,
    TOP,
    WRITERS,
    Changes,
    Connection,
    Replica,
    World,
    write_all,
)
from harness.backend import Backend, Pop3
from harness.clients import RawClient
from harness.destination_service import DestinationService
from harness.kube import JSON, Kube
from harness.oauth import OAuthServer, Provider
from harness.samples import HOME
from harness.secret_registry import Secrets
from harness.util import until, work_directory
from run import Report, document, this_machine

NEW_ONES = 20  # CRs that are applied one after the other
REST = 60  # seconds at rest
SETTLE = 10  # seconds that follow a change before the next measurement
OCTETS = 1 << 20  # of a foreign Secret


class Bench:
    """The measurements, in the order of their methods; each adds rows to the table."""

    def __init__(self, world: World, binary: Path, args: argparse.Namespace):
        self.world = world
        self.kube = world.kube
        self.binary = binary
        self.args = args
        self.report = Report()
        self.names = [f"mail-{number:05d}" for number in range(args.resources)]
        self.namespaces = [self.kube.namespace() for _ in range(args.namespaces)]
        self.rows: list[list[str]] = []
        self.sentences: list[str] = []
        self.rss: list[float] = []
        self.groups: list[float] = []
        self.turns: list[float] = []
        self.changes: list[float] = []
        self.figures: dict[str, float] = {}

    # --- rows ---

    def note(
        self,
        what: str,
        replicas: list[Replica],
        seconds: float | None = None,
        changes: Changes | None = None,
    ) -> None:
        """Adds a row with the state of all replicas, and with the changes since the last row."""
        rss = [replica.rss() for replica in replicas]
        groups = [mib for replica in replicas if (mib := replica.group_mib()) is not None]
        turns = [replica.turn() for replica in replicas]
        times = changes.take() if changes else []
        self.rss += rss
        self.groups += groups
        self.turns += turns
        self.changes += times
        self._add_row(
            what,
            f"{seconds:.1f}" if seconds is not None else "–",
            " / ".join(f"{mib:.1f}" for mib in rss),
            " / ".join(f"{mib:.1f}" for mib in groups) or "–",
            " / ".join(f"{replica.cpu():.2f}" for replica in replicas),
            " / ".join(f"{turn:.2f}" for turn in turns),
            f"{max(times) * 1e3:.0f} of {len(times)}" if times else "–",
        )

    def note_end(self, what: str, replicas: list[Replica]) -> None:
        turns = [replica.last_turn() for replica in replicas]
        self.turns += turns
        self._add_row(what, *4 * ["–"], " / ".join(f"{turn:.2f}" for turn in turns), "–")

    def _add_row(self, *row: str) -> None:
        print(" | ".join(row), flush=True)
        self.rows.append(list(row))

    def say(self, sentence: str) -> None:
        print(sentence, flush=True)
        self.sentences.append(sentence)

    # --- waits ---

    def wait_available(self, leader: Replica) -> None:
        """Waits until all resources are available."""

        def available() -> bool:
            return leader.metric("tp_destination_crs", Available="True") >= self.args.resources

        until(available, "all CRs to be available", PATIENCE, every=0.5)

    def wait_listeners(self, replicas: list[Replica]) -> None:
        def complete() -> bool:
            return all(replica.listeners() >= self.args.resources for replica in replicas)

        until(complete, "all listeners", PATIENCE, every=0.2)

    # --- the measurements ---

    def without_resources(self) -> None:
        with self.world.replicas(self.binary, 1) as replicas:
            until(replicas[0].is_ready, "it to be ready")
            self.note("no CR", replicas, time.monotonic() - replicas[0].began)

    def all_new(self) -> None:
        """All resources are there before the program starts, and are new to it. What comes then is
        measured with the same programs."""
        self.world.create(self.names, self.namespaces)
        with self.world.replicas(self.binary, self.args.replicas) as replicas, self._changes() as ch:
            self.wait_available(replicas[0])
            seconds = time.monotonic() - replicas[0].began
            self.figures["new"] = seconds
            self.note("all of them new", replicas, seconds, ch)
            self.writes = replicas[0].metric("tproxy_cluster_writes_total")
            self.wait_listeners(replicas)
            time.sleep(SETTLE)
            self.at_rest(replicas, ch)
            self.other_configuration(replicas, ch)
            self.relist(replicas, ch)
            self.foreign(replicas, ch)
        self.note_end("and their end", replicas)

    @contextlib.contextmanager
    def _changes(self) -> Iterator[Changes]:
        """One more resource, in a namespace of its own, is changed all the time."""
        name, namespace = "changed", self.kube.namespace()
        self.world.create([name], [namespace])
        with Changes(self.world, name, namespace) as changes:
            yield changes

    def at_rest(self, replicas: list[Replica], changes: Changes) -> None:
        changes.take()
        before = [replica.cpu() for replica in replicas]
        time.sleep(REST)
        spent = [replica.cpu() - begin for replica, begin in zip(replicas, before, strict=True)]
        self.note(f"{REST} s at rest, but for the changes", replicas, REST, changes)
        self.figures["rest"] = max(spent) / REST * 100

    def other_configuration(self, replicas: list[Replica], changes: Changes) -> None:
        """Every pod may reach every mailbox: all NetworkPolicies but one are no longer wanted."""
        begin = time.monotonic()
        scope = {"accessControl": {"destinations": {"defaultScope": "clusterWide"}}}
        self.world.configure(security=scope)
        installation = self.world.installation
        until(lambda: len(installation.policies()) == 1, "one policy", PATIENCE, every=0.2)
        self.note("another default scope", replicas, time.monotonic() - begin, changes)

    def relist(self, replicas: list[Replica], changes: Changes) -> None:
        """The API server starts again, and knows no version that a watch could continue from."""
        resting = max(replica.rss() for replica in replicas)
        for replica in replicas:
            replica.begin_peak()
        lists = [self._lists(replica) for replica in replicas]
        with changes.paused():
            self.kube.kill()
            self.kube.restart()
        begin = time.monotonic()
        for replica, before in zip(replicas, lists, strict=True):
            until(lambda r=replica, b=before: self._lists(r) > b, "a full relist", PATIENCE)
        time.sleep(SETTLE)
        self.note(f"{SETTLE} s after a relist", replicas, time.monotonic() - begin, changes)
        peak = max(replica.peak() for replica in replicas)
        self.figures["peak"] = peak / resting
        self.say(f"Resident memory was at most {peak:.1f} MiB during the relist.")

    @staticmethod
    def _lists(replica: Replica) -> float:
        """Returns how many lists have been answered, pages counted."""
        return replica.metric("tproxy_kube_requests_total", verb="list", result="ok")

    def foreign(self, replicas: list[Replica], changes: Changes) -> None:
        """Objects of others come: in the home namespace, where tproxy has objects of these kinds to
        follow, and elsewhere."""
        before = [(replica.rss(), replica.cpu()) for replica in replicas]
        begin = time.monotonic()
        spaces = [HOME, self.namespaces[0]]
        text = base64.b64encode(secrets.token_bytes(OCTETS * 3 // 4)).decode()
        for plural, count, data in (
            ("configmaps", self.args.config_maps, {"some": "text"}),
            ("secrets", self.args.secrets, {"some": text}),
        ):
            requests = []
            for number in range(count):
                path = f"/api/v1/namespaces/{spaces[number % len(spaces)]}/{plural}"
                thing = {"metadata": {"name": f"foreign-{number}"}, "data": data}
                requests.append(("POST", path, json.dumps(thing), JSON))
            write_all(self.kube, requests, WRITERS)
        time.sleep(SETTLE)
        seconds = time.monotonic() - begin
        grown = max(r.rss() - rss for r, (rss, _) in zip(replicas, before, strict=True))
        spent = max(r.cpu() - cpu for r, (_, cpu) in zip(replicas, before, strict=True))
        what = f"{self.args.config_maps} foreign ConfigMaps, {self.args.secrets} Secrets of 1 MiB"
        self.note(what, replicas, seconds, changes)
        self.figures["foreign MiB"] = grown
        self.figures["foreign CPU"] = spent / seconds * 100

    def started_again(self) -> None:
        versions = self.world.installation.versions()
        with self.world.replicas(self.binary, self.args.replicas) as replicas:
            self.wait_listeners(replicas)
            seconds = time.monotonic() - replicas[0].began
            self.figures["listeners"] = seconds
            self.note("started again: all listeners", replicas, seconds)
            for replica in replicas:
                until(replica.is_ready, "it to be ready", PATIENCE, every=0.1)
            self.note("and all ready", replicas, time.monotonic() - replicas[0].began)
            self.figures["writes"] = sum(r.metric("tproxy_cluster_writes_total") for r in replicas)
            assert self.world.installation.versions() == versions, "a restart wrote something"
            self.times = [self._first_ok(number) * 1e3 for number in range(NEW_ONES)]
            self.note(f"and {NEW_ONES} more, one after the other", replicas)
        self.note_end("and their end", replicas)

    def _first_ok(self, number: int) -> float:
        """Returns the seconds from the request that creates a CR to the first message list of its
        mailbox."""
        name, namespace = f"new-{number}", self.namespaces[number % len(self.namespaces)]
        with contextlib.closing(Connection(self.kube)) as connection:
            service = f"{SERVICES}/{name}"
            assert connection.ask("GET", service) is None
            begin = time.monotonic()
            self.world.create([name], [namespace])
            found = until(lambda: connection.ask("GET", service), service, every=0.002)
        port = found["spec"]["ports"][0]["targetPort"]
        with RawClient(port, host="127.0.1.1") as client:
            assert client.command(b"LIST").startswith(b"+OK")
            return time.monotonic() - begin

    def bare_client(self) -> None:
        """Nothing but the writes: what the API server needs for them."""
        requests = self.world.writes_of(self.names)
        seconds = write_all(self.kube, requests, BARE_WRITERS)
        self.figures["bare"] = seconds
        self.say(
            f"A bare client with {BARE_WRITERS} connections needs {seconds:.1f} s for "
            f"{len(requests)} writes like those."
        )

    # --- the results ---

    def conclude(self) -> None:
        report, figures = self.report, self.figures
        head = ["what", "s", "Rss MiB", "cgroup MiB", "CPU s", "longest turn ms", "change ms"]
        report.table(head, self.rows)
        report.say(
            f"{self.args.resources} CRs in {self.args.namespaces} namespaces, "
            f"{self.args.replicas} replicas; figures of the leader come first. *change* is the "
            f"longest time from a change of a CR to that of its Service. {self.writes:.0f} writes "
            "to the API server made the new ones available. " + " ".join(self.sentences) + " From "
            "the request that makes one more CR to the list of messages through its target port: "
            f"median {statistics.median(self.times):.0f} ms, at most {max(self.times):.0f} ms of "
            f"{len(self.times)}."
        )
        most = max(self.rss)
        report.verdict("resident memory", "≤ 40 MiB", most, 40, f"{most:.1f} MiB")
        peak = figures["peak"]
        report.verdict("peak of a relist", "≤ 1.3 ×", peak, 1.3, f"{peak:.2f} ×")
        if self.groups:
            most = max(self.groups)
            report.verdict("memory of the cgroup", "≤ 80 MiB", most, 80, f"{most:.1f} MiB")
        ratio = figures["new"] / figures["bare"]
        report.verdict("new ÷ bare client", "≤ 1.3 ×", ratio, 1.3, f"{ratio:.2f} ×")
        for what, key, limit, unit in (
            ("started again, all listeners", "listeners", 5, "s"),
            ("CPU at rest", "rest", 1, "%"),
            ("memory for foreign objects", "foreign MiB", 1, "MiB"),
            ("CPU for foreign objects", "foreign CPU", 1, "%"),
        ):
            value = figures[key]
            report.verdict(what, f"≤ {limit} {unit}", value, limit, f"{value:.2f} {unit}")
        report.verdict(
            "longest loop turn", "≤ 5 ms", max(self.turns), 5, f"{max(self.turns):.2f} ms"
        )
        slowest = max(self.changes)
        report.verdict("a change", "≤ 1 s", slowest, 1, f"{slowest * 1e3:.0f} ms at most")
        slowest = max(self.times)
        report.verdict("CR to first +OK", "≤ 1 s", slowest, 1000, f"{slowest:.0f} ms at most")
        report.table(
            ["what", "target", "measured", "measured ÷ target", "verdict"], report.verdicts
        )


def measure(bench: Bench) -> None:
    bench.without_resources()
    bench.all_new()
    bench.started_again()
    bench.bare_client()
    bench.conclude()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resources", type=int, default=10000)
    parser.add_argument("--namespaces", type=int, default=200)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--config-maps", type=int, default=5000)
    parser.add_argument("--secrets", type=int, default=1000)
    parser.add_argument("--build", type=Path, default=Path(os.environ.get("B", TOP / "build")))
    parser.add_argument("--binary", type=Path, help="tproxy to measure (default: in the build)")
    parser.add_argument(
        "--document", action="store_true", help="put the tables into docs/performance.md"
    )
    args = parser.parse_args()
    programs = subprocess.run(
        [TOP / "scripts/build-cluster.sh"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    registry = Secrets()
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(work_directory("bench"))
        (directory / "kube").mkdir()
        kube = stack.enter_context(Kube(Path(programs), directory / "kube"))
        provider = stack.enter_context(Provider(directory))
        oauth = stack.enter_context(OAuthServer(provider, registry))
        service = stack.enter_context(DestinationService(oauth, registry))
        backend = stack.enter_context(Backend(Pop3()))
        world = World(kube, service, backend)
        bench = Bench(world, args.binary or args.build / "tproxy", args)
        bench.report.say(f"{this_machine()}; load average at the start {os.getloadavg()[0]:.1f}")
        measure(bench)
    if args.document:
        document(bench.report, "Results in a cluster")
    return 0


if __name__ == "__main__":
    sys.exit(main())
