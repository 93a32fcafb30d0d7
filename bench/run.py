#!/usr/bin/env python3
"""Measures tproxy beside other proxies and prints the tables of docs/performance.md.

    bench/run.py [SECTION...] [--rounds N] [--binary FILE] [--build DIR] [--no-pin] [--document]

Sections: short bulk idle syscalls turn targets tls (all by default, about 7 minutes). All proxies
run at the same time and take turns: in each round every one gets the same load; the tables show
the median of the rounds, and as ratio the median of the ratios to HAProxy in the same round.
Everything stays on the loopback interface. Proxies that are not installed are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import proxies as p  # noqa: E402

TOP = Path(__file__).resolve().parent.parent
TICK = os.sysconf("SC_CLK_TCK")
CFLAGS = "-std=c17 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror".split()
GB = 1e9


# --- what the kernel knows about a process --------------------------------------------------------


def tree(pid: int) -> list[int]:
    """Returns a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def cpu_seconds(pid: int) -> float:
    """Returns the user and system time of a process tree, including the children that have
    ended."""
    ticks = 0
    for one in tree(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICK


def memory_kib(pid: int, field: str = "Pss") -> int:
    total = 0
    for one in tree(pid):
        text = Path(f"/proc/{one}/smaps_rollup").read_text()
        total += int(re.search(rf"^{field}:\s+(\d+) kB", text, re.M).group(1))
    return total


# --- tables ---------------------------------------------------------------------------------------


class Report:
    """Collects Markdown, the raw numbers, and the verdicts on the targets."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.verdicts: list[list[str]] = []
        self.raw: dict[str, object] = {}

    def say(self, text: str) -> None:
        self.parts.append(text)
        print(text + "\n", flush=True)

    def table(self, head: list[str], rows: list[list[str]]) -> None:
        lines = ["| " + " | ".join(head) + " |"]
        lines.append("| --- |" + " ---: |" * (len(head) - 1))
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        self.say("\n".join(lines))

    def verdict(self, what: str, target: str, value: float, limit: float, shown: str) -> None:
        held = "held" if value <= limit else "**missed**"
        self.verdicts.append([what, target, shown, f"{value / limit:.2f}", held])


def spread(values: list[float]) -> str:
    return f"{min(values):.3g} – {max(values):.3g}"


# --- the bench ------------------------------------------------------------------------------------


class Bench:
    def __init__(self, machine: p.Machine, report: Report, rounds: int) -> None:
        self.machine = machine
        self.report = report
        self.rounds = rounds
        self.backend = p.Backend(machine)
        self.missing: dict[str, str] = {}

    def make(self, kind: type[p.Proxy], **more) -> p.Proxy | None:
        """Starts a proxy. If it is not installed, the report says so."""
        try:
            return kind(self.machine, self.backend.port, self.backend.auth_port, **more).start()
        except p.Missing as why:
            if kind.name not in self.missing:
                self.missing[kind.name] = str(why)
                print(f"left out: {kind.name}: {why}", file=sys.stderr)
            return None

    @contextmanager
    def running(self, *kinds: type[p.Proxy]):
        with ExitStack() as stack:
            started = []
            for kind in kinds:
                proxy = self.make(kind)
                if proxy:
                    stack.callback(proxy.stop)
                    started.append(proxy)
            yield started

    def spawn_load(self, port: int, *args: object) -> subprocess.Popen:
        argv = [str(self.machine.work / "load"), "--port", str(port), *map(str, args)]
        return self.machine.spawn(
            argv,
            proxy=False,
            log=self.machine.work / "load.log",
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def load(self, port: int, *args: object) -> dict:
        """Runs the load generator to its end; a failed session is an error."""
        return self.finish_load(self.spawn_load(port, *args), args)

    def finish_load(self, process: subprocess.Popen, args: object) -> dict:
        out = process.communicate(timeout=300)[0]
        if process.returncode != 0:
            log = (self.machine.work / "load.log").read_text()[-500:]
            raise RuntimeError(f"load {args} failed: {out}{log}")
        return json.loads(out.splitlines()[-1])

    @contextmanager
    def idle(self, port: int, count: int, *args: object):
        """Holds idle sessions that have logged in."""
        process = self.spawn_load(port, "--idle", count, "--hold", *args)
        try:
            line = process.stdout.readline()
            process.stdout.readline()
            if line.split() != ["idle", str(count)]:
                log = (self.machine.work / "load.log").read_text()[-500:]
                raise RuntimeError(f"{count} idle sessions: {line}{log}")
            yield
        finally:
            process.stdin.close()
            p.stop_process(process, 30)

    def measured(self, proxy: p.Proxy, port: int, *args: object) -> dict:
        """Puts a load on one proxy. Returns the load's figures and the CPU time that the proxy
        used."""
        before = cpu_seconds(proxy.process.pid)
        result = self.load(port, *args)
        result["cpu"] = cpu_seconds(proxy.process.pid) - before
        return result

    def interleaved(self, started: list[p.Proxy], *args: object) -> dict[str, list[dict]]:
        """Yields rounds in which every proxy has its turn, each time in another order."""
        results: dict[str, list[dict]] = {proxy.name: [] for proxy in started}
        for number in range(self.rounds):
            shift = number % len(started)
            for proxy in started[shift:] + started[:shift]:
                results[proxy.name].append(self.measured(proxy, proxy.port, *args))
        return results


def ratios(values: dict[str, list[float]], name: str, base: str) -> float | None:
    if base not in values:
        return None
    return statistics.median(a / b for a, b in zip(values[name], values[base], strict=True))


def ratio_text(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


# --- sections -------------------------------------------------------------------------------------

ALL = [p.Relay, p.HAProxy, p.HAProxySplice, p.Nginx, p.Dovecot, p.Perdition, p.Tproxy]


def section_short(bench: Bench) -> None:
    report = bench.report
    report.say("## CPU per short session")
    report.say(
        "Greeting, USER, PASS, STAT, RETR of 2 kB, QUIT, end of stream. CPU is that of the proxy, "
        "user and system, all its processes."
    )
    with bench.running(*[kind for kind in ALL if kind is not p.HAProxySplice]) as started:
        for proxy in started:
            bench.load(proxy.port, "--short", 8, "--sessions", 400)
        for clients, title in ((1, "one client (serial)"), (8, "8 clients at once")):
            results = bench.interleaved(started, "--short", clients, "--seconds", 1)
            report.raw[f"short {clients}"] = results
            cpu = {
                name: [r["cpu"] * 1e6 / r["sessions"] for r in rounds]
                for name, rounds in results.items()
            }
            rows = []
            for name, rounds in results.items():
                rate = statistics.median(r["sessions"] / r["seconds"] for r in rounds)
                ratio = ratios(cpu, name, p.HAProxy.name)
                rows.append(
                    [
                        name,
                        f"{statistics.median(cpu[name]):.0f}",
                        spread(cpu[name]),
                        ratio_text(ratio),
                        f"{rate:.0f}",
                        *(
                            f"{statistics.median(r[k] for r in rounds) / 1000:.2f}"
                            for k in ("p50_us", "p99_us")
                        ),
                    ]
                )
                if name == p.Tproxy.name and ratio is not None:
                    report.verdict(
                        f"CPU per short session, {title}",
                        "≤ 1.0 × HAProxy",
                        ratio,
                        1.0,
                        f"{ratio:.2f} × HAProxy ({statistics.median(cpu[name]):.0f} µs)",
                    )
            report.say(f"**{title}**, {bench.rounds} rounds")
            report.table(
                ["proxy", "CPU µs/session", "range", "× HAProxy", "sessions/s", "p50 ms", "p99 ms"],
                rows,
            )


def section_bulk(bench: Bench) -> None:
    report = bench.report
    report.say("## CPU per GB of RETR")
    report.say("One client, RETR of 256 MiB again and again for a second, every octet compared.")
    kinds = [p.Relay16, p.Relay, p.RelaySplice, p.RelaySplice128, *ALL[1:]]
    with bench.running(*kinds) as started:
        for proxy in started:
            bench.load(proxy.port, "--bulk", 1, "--seconds", 1)
        results = bench.interleaved(started, "--bulk", 1, "--seconds", 1)
    report.raw["bulk"] = results
    cpu = {
        name: [r["cpu"] * GB / r["bulk_octets"] for r in rounds] for name, rounds in results.items()
    }
    rows = []
    for name, rounds in results.items():
        speed = statistics.median(r["bulk_octets"] / r["seconds"] / GB for r in rounds)
        ratio = ratios(cpu, name, p.HAProxy.name)
        rows.append(
            [
                name,
                f"{statistics.median(cpu[name]):.2f}",
                spread(cpu[name]),
                ratio_text(ratio),
                f"{speed:.2f}",
            ]
        )
        if name == p.Tproxy.name and ratio is not None:
            report.verdict(
                "CPU per GB of RETR",
                "≤ 0.4 × HAProxy",
                ratio,
                0.4,
                f"{ratio:.2f} × HAProxy ({statistics.median(cpu[name]):.2f} s)",
            )
    report.table(["proxy", "CPU s/GB", "range", "× HAProxy", "GB/s"], rows)


def section_idle(bench: Bench) -> None:
    report = bench.report
    report.say("## Memory per idle session")
    report.say(
        "Growth of the proportional set size of the proxy's processes from 50 idle sessions to all "
        "of them. Each has logged in, asked STAT, fetched a message of 2 kB and then fallen silent."
    )
    rows = []
    for kind in [kind for kind in ALL if kind is not p.HAProxySplice]:
        proxy = bench.make(kind)
        if not proxy:
            continue
        try:
            bench.load(proxy.port, "--short", 8, "--sessions", 200)
            with bench.idle(proxy.port, 50):
                before = memory_kib(proxy.process.pid)
                with bench.idle(proxy.port, kind.idle_sessions):
                    grown = memory_kib(proxy.process.pid) - before
        finally:
            proxy.stop()
        each = grown / kind.idle_sessions
        report.raw.setdefault("idle", {})[kind.name] = [before, grown, kind.idle_sessions]
        rows.append([kind.name, str(kind.idle_sessions), str(before), str(grown), f"{each:.2f}"])
        if kind is p.Tproxy:
            report.verdict("memory per idle session", "≤ 1 KiB", each, 1.0, f"{each:.2f} KiB")
    report.table(["proxy", "sessions", "KiB with 50", "KiB more", "KiB per session"], rows)


def trace(proxy: p.Proxy, work: Path):
    """Attaches strace to all processes of a proxy. Returns a function that ends it."""
    output = work / "strace.out"
    output.unlink(missing_ok=True)
    pids = tree(proxy.process.pid)
    argv = [p.find("strace"), "-c", "-f", "-U", "calls,name", "-o", str(output)]
    for pid in pids:
        argv += ["-p", str(pid)]
    process = subprocess.Popen(argv, stderr=subprocess.DEVNULL, start_new_session=True)
    for pid in pids:
        end = time.monotonic() + 10
        while "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text():
            if process.poll() is not None or time.monotonic() > end:
                raise p.Missing("strace may not attach to the proxies")
            time.sleep(0.02)

    def finish() -> dict[str, int]:
        process.send_signal(signal.SIGINT)
        process.wait(20)
        calls = re.findall(r"^\s*(\d+)\s+(\w+)$", output.read_text(), re.M)
        return {name: int(count) for count, name in calls if name != "total"}

    return finish


def section_syscalls(bench: Bench) -> None:
    report = bench.report
    count = 200
    report.say("## System calls per serial session")
    report.say(f"`strace -c -f` on the running proxy during {count} sessions, one after the other.")
    table: dict[str, dict[str, float]] = {}
    kinds = [p.Relay, p.HAProxy, p.Nginx, p.Dovecot, p.Tproxy]
    try:
        with bench.running(*kinds) as started:
            for proxy in started:
                bench.load(proxy.port, "--short", 4, "--sessions", 400)
                finish = trace(proxy, bench.machine.work)
                bench.load(proxy.port, "--short", 1, "--sessions", count)
                table[proxy.name] = {name: n / count for name, n in finish().items()}
    except p.Missing as why:
        report.say(f"Not measured: {why}.")
        return
    report.raw["syscalls"] = table
    names = sorted(
        {n for calls in table.values() for n in calls},
        key=lambda n: -max(calls.get(n, 0) for calls in table.values()),
    )
    names = [n for n in names if any(calls.get(n, 0) >= 0.05 for calls in table.values())]
    rows = [["**all**", *(f"**{sum(calls.values()):.1f}**" for calls in table.values())]]
    for name in names:
        rows.append(
            [
                f"`{name}`",
                *(f"{c[name]:.1f}" if c.get(name, 0) >= 0.05 else "" for c in table.values()),
            ]
        )
    report.table(["call", *table], rows)
    if p.Tproxy.name in table:
        total = sum(table[p.Tproxy.name].values())
        report.verdict("system calls per serial session", "≤ 46", total, 46, f"{total:.1f}")


def mixed_load(bench: Bench, proxy: p.Proxy, idle: int) -> tuple[dict, dict, dict[str, float]]:
    """Measures short sessions beside idle ones, without and with a bulk transfer. Returns their
    figures and the longest turn of each phase."""
    turns: dict[str, float] = {}

    def note_turn(phase: str) -> None:
        if isinstance(proxy, p.Tproxy):
            value = proxy.metric("tproxy_loop_turn_longest_seconds")
            if value is not None:
                turns[phase] = value * 1000

    if bench.machine.root:
        for pid in tree(proxy.process.pid):
            os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))
    note_turn("at the start")
    bench.load(proxy.port, "--short", 4, "--sessions", 200)
    with bench.idle(proxy.port, idle):
        note_turn("with the idle sessions open")
        quiet = bench.load(proxy.port, "--short", 4, "--seconds", 2)
        note_turn("after the short sessions")
        bulk_args = ("--bulk", 1, "--seconds", 4)
        bulk = bench.spawn_load(proxy.port, *bulk_args)
        busy = bench.load(proxy.port, "--short", 4, "--seconds", 4)
        busy["bulk"] = bench.finish_load(bulk, bulk_args)
    note_turn("after the bulk transfer")
    return quiet, busy, turns


def section_turn(bench: Bench) -> None:
    report = bench.report
    idle = 4000
    report.say("## Fairness: idle sessions, short sessions and a bulk transfer together")
    report.say(
        f"{idle} idle sessions, 4 clients with short sessions; the same again while another client "
        "fetches messages of 256 MiB. Times are of whole short sessions. Backend and load share a "
        "CPU, so part of the rise is theirs: compare with the bare relay. The proxies run with "
        "real-time priority here (if the bench is root), so that the longest turn is their own "
        "and not that of another program on the same CPU."
    )
    rows = []
    turns: dict[str, float] = {}
    for kind in (p.RelaySplice128, p.HAProxySplice, p.Nginx, p.Tproxy):
        proxy = bench.make(kind)
        if not proxy:
            continue
        try:
            quiet, busy, turns = mixed_load(bench, proxy, idle)
        finally:
            proxy.stop()
        report.raw.setdefault("turn", {})[kind.name] = [quiet, busy, turns]
        speed = busy["bulk"]["bulk_octets"] / busy["bulk"]["seconds"] / GB
        times = [run[key] / 1000 for run in (quiet, busy) for key in ("p50_us", "p99_us")]
        rows.append([kind.name, *(f"{ms:.2f}" for ms in times), f"{speed:.2f}"])
        if turns:
            longest = max(turns.values())
            report.verdict("longest loop turn", "≤ 5 ms", longest, 5.0, f"{longest:.2f} ms")
    report.table(
        ["proxy", "p50 ms", "p99 ms", "p50 ms with bulk", "p99 ms with bulk", "bulk GB/s"], rows
    )
    if turns:
        phases = ", ".join(f"{ms:.2f} ms {phase}" for phase, ms in turns.items())
        report.say(f"Longest loop turn of tproxy since its start: {phases}.")


def section_targets(bench: Bench) -> None:
    report = bench.report
    report.say("## Memory of targets")
    report.say("Resident memory (`Rss`) of tproxy with so many destinations in local mode.")
    rows = []
    for count, limit in ((0, 4.0), (1000, 8.0)):
        entries = [p.destination(f"mail-{i:04d}", bench.backend.port) for i in range(count)]
        begin = time.monotonic()
        proxy = bench.make(p.Tproxy, destinations=entries)
        if not proxy:
            report.say("Not measured: tproxy did not start.")
            return
        ready = time.monotonic() - begin
        used = cpu_seconds(proxy.process.pid)
        try:
            for port in list(proxy.ports.values())[:20]:
                bench.load(port, "--short", 1, "--sessions", 5)
            mib = memory_kib(proxy.process.pid, "Rss") / 1024
            pss = memory_kib(proxy.process.pid, "Pss") / 1024
        finally:
            proxy.stop()
        report.raw.setdefault("targets", {})[str(count)] = mib
        rows.append([str(count), f"{mib:.2f}", f"{pss:.2f}", f"{ready:.2f}", f"{used:.2f}"])
        what = f"{count} targets" if count else "no target"
        report.verdict(
            f"resident memory, {what}", f"≤ {limit:.0f} MiB", mib, limit, f"{mib:.2f} MiB"
        )
    report.table(["targets", "Rss MiB", "Pss MiB", "s until all are ready", "CPU s"], rows)


def tls_proxies(bench: Bench, tls: p.Tls, stack: ExitStack) -> list[tuple[p.Proxy, dict]]:
    """Starts HAProxy and tproxy as TLS clients. Returns pairs (proxy, {variant: port}); there is
    one HAProxy for each variant."""
    found: list[tuple[p.Proxy, dict]] = []
    entries = [
        p.destination(name, tls.ports[name], "pop3s", **{"mail.pop3s.ssl.protocols": text})
        for name, text in tls.protocols.items()
    ]
    entries.append(p.destination("clear", bench.backend.port))
    tproxy = bench.make(p.Tproxy, destinations=entries, ca_file=tls.ca)
    if tproxy:
        stack.callback(tproxy.stop)
        found.append((tproxy, {name: tproxy.ports[name] for name in tproxy.ports}))
    for name, port in {**tls.ports, "clear": bench.backend.port}.items():

        class Client(p.HAProxy):
            server = f"ssl verify required verifyhost localhost ca-file {tls.ca}"

        if name == "clear":
            Client.server = ""
        proxy = Client(bench.machine, port)
        try:
            proxy.start()
        except p.Missing as why:
            bench.missing[p.HAProxy.name] = str(why)
            continue
        stack.callback(proxy.stop)
        found.append((proxy, {name: proxy.port}))
    return found


def section_tls(bench: Bench) -> None:
    report = bench.report
    report.say("## TLS to the backend")
    report.say(
        "The backend behind a TLS server (HAProxy, RSA 2048): with session tickets, and without "
        "any resumption. 4 clients, sessions of greeting, USER, PASS, QUIT. *Resumed* is what the "
        "server counted; *handshake* is the session less a session in clear text. HAProxy "
        "(OpenSSL) as TLS client for comparison; it does not log in."
    )
    with ExitStack() as stack:
        try:
            tls = p.Tls(bench.machine, bench.backend.port, p.HANDSHAKES)
        except p.Missing as why:
            report.say(f"Not measured: {why}.")
            return
        stack.callback(tls.stop)
        found = tls_proxies(bench, tls, stack)
        cpu: dict[tuple[str, str], list[float]] = {}
        resumed: dict[tuple[str, str], float] = {}
        for number in range(bench.rounds + 1):
            for proxy, ports in found:
                for variant, port in ports.items():
                    before = tls.counts()
                    amount = ("--seconds", 1) if number else ("--sessions", 20)
                    args = ("--short", 4, "--login-only", *amount)
                    result = bench.measured(proxy, port, *args)
                    after = tls.counts()
                    if number == 0:
                        continue
                    key = (proxy.name, variant)
                    cpu.setdefault(key, []).append(result["cpu"] * 1e6 / result["sessions"])
                    if variant != "clear":
                        new = {k: after[k] - before[k] for k in after if k.startswith(variant)}
                        resumed[key] = new[f"{variant}-resumed"] / max(1, sum(new.values()))
        tls_login_table(report, cpu, resumed)
        tls_idle_table(bench, found)


def tls_login_table(report: Report, cpu: dict, resumed: dict) -> None:
    titles = {
        "clear": "clear text",
        "full12": "TLS 1.2, full",
        "resume12": "TLS 1.2, resumed",
        "resume13": "TLS 1.3, resumed",
    }
    report.raw["tls"] = {" ".join(key): values for key, values in cpu.items()}
    rows = []
    for (name, variant), values in cpu.items():
        full = cpu[name, "full12"]
        ratio = statistics.median(a / b for a, b in zip(values, full, strict=True))
        share = resumed.get((name, variant))
        handshake = statistics.median(
            a - b for a, b in zip(values, cpu[name, "clear"], strict=True)
        )
        rows.append(
            [
                f"{name}, {titles[variant]}",
                f"{statistics.median(values):.0f}",
                spread(values),
                f"{ratio:.2f}",
                *(["–", "–"] if share is None else [f"{handshake:.0f}", f"{share * 100:.0f} %"]),
            ]
        )
        if name == p.Tproxy.name and variant == "resume12":
            clear = cpu[name, "clear"]
            alone = [(a - c) / (b - c) for a, b, c in zip(values, full, clear, strict=True)]
            shown = f"{ratio:.2f} (handshakes alone {statistics.median(alone):.2f})"
            report.verdict("resumed TLS 1.2 login", "≤ 0.25 × a full one", ratio, 0.25, shown)
        if name == p.Tproxy.name and variant == "resume13":
            report.verdict(
                "TLS 1.3 logins the backend did not see resumed",
                "≤ 1 %",
                100 * (1 - share),
                1.0,
                f"{100 * (1 - share):.0f} %",
            )
    report.table(
        ["proxy, connection", "CPU µs/session", "range", "× full", "handshake µs", "resumed"], rows
    )


def tls_idle_table(bench: Bench, found: list[tuple[p.Proxy, dict]]) -> None:
    report = bench.report
    count = 500
    rows = []
    for proxy, ports in found:
        for variant in ("resume12", "resume13"):
            if variant not in ports:
                continue
            with bench.idle(ports[variant], 20):
                before = memory_kib(proxy.process.pid)
                with bench.idle(ports[variant], count):
                    grown = memory_kib(proxy.process.pid) - before
            each = grown / count
            version = "1.2" if variant == "resume12" else "1.3"
            rows.append([proxy.name, version, str(count), str(grown), f"{each:.1f}"])
            if isinstance(proxy, p.Tproxy):
                report.verdict(
                    f"memory per idle session, TLS {version}",
                    "≤ 40 KiB",
                    each,
                    40,
                    f"{each:.1f} KiB",
                )
    report.table(["proxy", "TLS", "sessions", "KiB more", "KiB per session"], rows)


def section_tls_bulk(bench: Bench) -> None:
    report = bench.report
    report.say("## CPU per GB of RETR over TLS")
    report.say(
        "As above, from a TLS server (HAProxy) that takes one cipher suite only. HAProxy (OpenSSL) "
        "as TLS client for comparison. The TLS server shares a CPU with the load, so GB/s are low."
    )
    cpu: dict[str, dict[str, list[float]]] = {name: {} for name in p.CIPHERS}
    with ExitStack() as stack:
        try:
            tls = p.Tls(bench.machine, bench.backend.port, p.CIPHERS)
        except p.Missing as why:
            report.say(f"Not measured: {why}.")
            return
        stack.callback(tls.stop)
        found = tls_proxies(bench, tls, stack)
        for number in range(bench.rounds + 1):
            for variant, values in cpu.items():
                for proxy, ports in found[:: 1 if number % 2 else -1]:
                    if variant in ports:
                        args = ("--bulk", 1, "--seconds", 1)
                        result = bench.measured(proxy, ports[variant], *args)
                        each = result["cpu"] * GB / result["bulk_octets"]
                        values.setdefault(proxy.name, []).extend([each] if number else [])
    report.raw["tls bulk"] = cpu
    rows = []
    for variant, values in cpu.items():
        cipher, version = variant.rsplit("-", 1)
        for name, readings in values.items():
            ratio = ratios(values, name, p.HAProxy.name)
            rows.append(
                [
                    f"{name}, TLS {version[0]}.{version[1]}, {CIPHER_TITLES[cipher]}",
                    f"{statistics.median(readings):.2f}",
                    spread(readings),
                    ratio_text(ratio),
                ]
            )
            if name == p.Tproxy.name and ratio is not None and cipher == "aes128":
                report.verdict(
                    f"CPU per GB of RETR, TLS {version[0]}.{version[1]}",
                    "≤ 0.8 × HAProxy",
                    ratio,
                    0.8,
                    f"{ratio:.2f} × HAProxy ({statistics.median(readings):.2f} s)",
                )
    report.table(["proxy, cipher suite", "CPU s/GB", "range", "× HAProxy"], rows)


CIPHER_TITLES = {"aes128": "AES-128-GCM", "aes256": "AES-256-GCM", "chacha": "ChaCha20-Poly1305"}

SECTIONS = {
    "short": section_short,
    "bulk": section_bulk,
    "idle": section_idle,
    "syscalls": section_syscalls,
    "turn": section_turn,
    "targets": section_targets,
    "tls": section_tls,
    "tls-bulk": section_tls_bulk,
}


# --- one run --------------------------------------------------------------------------------------


def compile_tools(build: Path) -> None:
    out = build / "bench"
    out.mkdir(parents=True, exist_ok=True)
    for name in ("backend", "load", "relay"):
        sources = [f"bench/{name}.c", "bench/wire.c"]
        target = out / name
        newest = max((TOP / s).stat().st_mtime for s in [*sources, "bench/wire.h"])
        if not target.exists() or target.stat().st_mtime < newest:
            subprocess.run(
                [os.environ.get("CC", "cc"), *CFLAGS, "-I.", "-o", str(target.resolve()), *sources],
                cwd=TOP,
                check=True,
            )


def version_of(argv: list[str], pattern: str) -> str:
    try:
        done = subprocess.run([p.find(argv[0]), *argv[1:]], capture_output=True, text=True)
    except p.Missing:
        return ""
    match = re.search(pattern, done.stdout + done.stderr)
    return match.group(0) if match else ""


def this_machine() -> str:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return (
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} × {model.group(1) if model else '?'}, "
        f"Linux {platform.release().split('-')[0]}"
    )


def environment(machine: p.Machine) -> str:
    versions = [
        version_of(["haproxy", "-v"], r"HAProxy version [\d.]+"),
        version_of(["nginx", "-v"], r"nginx/[\d.]+"),
        version_of(["dovecot", "--version"], r"^[\d.]+"),
        version_of(["perdition", "--version"], r"perdition version [\d.]+"),
    ]
    if versions[2]:
        versions[2] = "Dovecot " + versions[2]
    pinned = "proxies on one CPU, load and backend on the other" if machine.pinned else "not pinned"
    return (
        f"{this_machine()}, {pinned}; load average at the start {os.getloadavg()[0]:.1f}; "
        f"{', '.join(v for v in versions if v)}"
    )


def document(report: Report, heading: str) -> None:
    """Replaces the text below this heading, up to the next heading of its rank, with the tables of
    this run."""
    path = TOP / "docs" / "performance.md"
    before, found, rest = path.read_text().partition(f"\n# {heading}\n")
    if not found:
        raise RuntimeError(f"{path} has no heading '{heading}'")
    _, next_one, behind = rest.partition("\n# ")
    path.write_text(before + found + "\n" + "\n\n".join(report.parts) + "\n" + next_one + behind)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=" ".join(SECTIONS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--build", type=Path, default=Path(os.environ.get("B", TOP / "build")))
    parser.add_argument("--binary", type=Path, help="tproxy to measure (default: in the build)")
    parser.add_argument(
        "--document", action="store_true", help="put the tables into docs/performance.md"
    )
    parser.add_argument("--no-pin", action="store_true", help="leave placement to the scheduler")
    args = parser.parse_args()
    unknown = [name for name in args.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"unknown section {unknown[0]}; there are: {' '.join(SECTIONS)}")

    compile_tools(args.build)
    p.Tproxy.binary = args.binary or args.build / "tproxy"
    report = Report()
    begin = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="tproxy-bench-"))
    work.chmod(0o755)
    try:
        for name in ("backend", "load", "relay"):
            shutil.copy(args.build / "bench" / name, work / name)
        machine = p.Machine(args.build, work, not args.no_pin)
        bench = Bench(machine, report, args.rounds)
        report.say(environment(machine))
        try:
            for name in args.sections or SECTIONS:
                SECTIONS[name](bench)
        finally:
            served = bench.backend.stop()
            report.raw["backend"] = served
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if report.verdicts:
        report.say("## Targets")
        report.table(
            ["what", "target", "measured", "measured ÷ target", "verdict"], report.verdicts
        )
    for name, why in bench.missing.items():
        report.say(f"Left out: {name} ({' '.join(why.split())[:200]}).")
    report.say(
        f"The backend counted {served['connections']} connections and {served['logins']} logins, "
        f"and sent {served['small']} short and {served['bulk']} bulk messages; the clients found "
        "every octet right."
    )
    report.say(f"The run took {time.monotonic() - begin:.0f} s.")
    (args.build / "bench.md").write_text("\n\n".join(report.parts) + "\n")
    if args.document:
        document(report, "Results")
    (args.build / "bench.json").write_text(json.dumps(report.raw, indent=1) + "\n")
    print(f"written: {args.build}/bench.md, {args.build}/bench.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
