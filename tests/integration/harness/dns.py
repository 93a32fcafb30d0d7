"""Name servers: a real one (dnsmasq) and a scripted one that misbehaves."""

import contextlib
import os
import shutil
import socketserver
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import dnslib

from harness.util import PATIENCE, Feed, free_port, is_root, until


class Dnsmasq:
    """Serves the given addresses; other names below .test do not exist."""

    def __init__(self, records: dict[str, list[str]], aliases: dict[str, str] | None = None):
        self._records = records
        self._aliases = aliases or {}
        self._process: subprocess.Popen | None = None
        self.port = 0

    def __enter__(self) -> "Dnsmasq":
        for attempt in range(5):
            self.port = free_port(udp=True)
            self._process = subprocess.Popen(
                self._command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            if until(self._state, "dnsmasq") == "up":
                return self
            self.__exit__()
        raise AssertionError("dnsmasq does not start")

    def __exit__(self, *exception) -> None:
        self._process.terminate()
        self._process.wait(10)

    def _command(self) -> list[str]:
        program = shutil.which("dnsmasq", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        assert program, "dnsmasq is not installed (make deps)"
        options = ["--keep-in-foreground", "--conf-file=/dev/null", "--no-hosts", "--no-resolv"]
        options += ["--listen-address=127.0.0.1", "--bind-interfaces", f"--port={self.port}"]
        options += ["--local=/test/", "--pid-file="]
        options += ["--user=nobody", "--group=nogroup"] if is_root() else ["--user="]
        for name, addresses in self._records.items():
            options += [f"--host-record={name},{address}" for address in addresses]
        options += [f"--cname={alias},{name}" for alias, name in self._aliases.items()]
        return [program, *options]

    def _state(self) -> str:
        if self._process.poll() is not None:
            return "gone"
        query = dnslib.DNSRecord.question("nobody.test")
        with contextlib.suppress(OSError):
            query.send("127.0.0.1", self.port, timeout=1)
            return "up"
        return ""


# A scripted server's answer to one query; None: it stays silent.
Answer = Callable[[dnslib.DNSRecord, str], bytes | None]


def addresses(*found: str) -> Answer:
    """Answers each question with the addresses of its type."""

    def answer(query: dnslib.DNSRecord, transport: str) -> bytes:
        reply = query.reply()
        for address in found:
            kind = "AAAA" if ":" in address else "A"
            if dnslib.QTYPE[query.q.qtype] == kind:
                reply.add_answer(*dnslib.RR.fromZone(f"{query.q.qname} 60 {kind} {address}"))
        return reply.pack()

    return answer


def rcode(name: str) -> Answer:
    def answer(query: dnslib.DNSRecord, transport: str) -> bytes:
        reply = query.reply()
        reply.header.rcode = getattr(dnslib.RCODE, name)
        return reply.pack()

    return answer


def silent(query: dnslib.DNSRecord, transport: str) -> None:
    return None


def garbage(query: dnslib.DNSRecord, transport: str) -> bytes:
    """Returns an answer whose rest is a name that points at itself for ever."""
    head = struct.pack(">HHHHHH", query.header.id, 0x8180, 1, 40, 0, 0)
    return head + b"\xc0\x0c" * 100


def truncated(full: Answer) -> Answer:
    """Answers over UDP only that there is more, and completely over TCP."""

    def answer(query: dnslib.DNSRecord, transport: str) -> bytes | None:
        if transport == "tcp":
            return full(query, transport)
        reply = query.reply()
        reply.header.tc = 1
        return reply.pack()

    return answer


def lost_first(full: Answer) -> Answer:
    """Loses the first packet of each question."""
    seen = set()

    def answer(query: dnslib.DNSRecord, transport: str) -> bytes | None:
        question = (str(query.q.qname), query.q.qtype)
        if question in seen:
            return full(query, transport)
        seen.add(question)
        return None

    return answer


def spoofed(full: Answer, lie: Answer) -> Answer:
    """Sends false answers, with another id and for another name, before the true one."""

    def answer(query: dnslib.DNSRecord, transport: str) -> bytes | None:
        return full(query, transport)

    def false_answers(query: dnslib.DNSRecord) -> list[bytes]:
        wrong_id = dnslib.DNSRecord.parse(lie(query, "udp"))
        wrong_id.header.id ^= 0x5555
        other = dnslib.DNSRecord.question("other.test", dnslib.QTYPE[query.q.qtype])
        other.header.id = query.header.id
        return [wrong_id.pack(), lie(other, "udp")]

    answer.before = false_answers
    return answer


class ScriptedDns:
    """A server for UDP and TCP on one port. `queries` records (transport, name, type) of each
    question."""

    def __init__(self, answer: Answer):
        self.answer = answer
        self.queries = Feed()
        outer = self

        class Udp(socketserver.BaseRequestHandler):
            def handle(self):
                data, sock = self.request
                query = outer._note(data, "udp")
                for lie in getattr(outer.answer, "before", lambda query: [])(query):
                    sock.sendto(lie, self.client_address)
                reply = outer.answer(query, "udp")
                if reply is not None:
                    sock.sendto(reply, self.client_address)

        class Tcp(socketserver.StreamRequestHandler):
            timeout = PATIENCE

            def handle(self):
                with contextlib.suppress(OSError, struct.error):
                    while True:
                        (size,) = struct.unpack(">H", self.rfile.read(2))
                        reply = outer.answer(outer._note(self.rfile.read(size), "tcp"), "tcp")
                        if reply is not None:
                            self.wfile.write(struct.pack(">H", len(reply)) + reply)

        for _ in range(20):
            try:
                self.port = free_port(udp=True)
                self._udp = socketserver.ThreadingUDPServer(("127.0.0.1", self.port), Udp)
                self._tcp = socketserver.ThreadingTCPServer(("127.0.0.1", self.port), Tcp)
                break
            except OSError:
                continue
        for server in (self._udp, self._tcp):
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> "ScriptedDns":
        return self

    def __exit__(self, *exception) -> None:
        for server in (self._udp, self._tcp):
            server.shutdown()
            server.server_close()

    def _note(self, data: bytes, transport: str) -> dnslib.DNSRecord:
        query = dnslib.DNSRecord.parse(data)
        name = str(query.q.qname).rstrip(".")
        self.queries.add((transport, name, dnslib.QTYPE[query.q.qtype]))
        return query


def resolv_conf(directory: Path, *ports: int, extra: str = "") -> Path:
    """Writes a resolv.conf for these servers on 127.0.0.1, with short timeouts unless `extra`
    changes them."""
    lines = [f"nameserver 127.0.0.1#{port}" for port in ports]
    path = directory / "resolv.conf"
    path.write_text("\n".join([*lines, extra or "options timeout:1 attempts:2"]) + "\n")
    return path


def hosts_file(directory: Path, *names: str) -> Path:
    """Writes an /etc/hosts in which these names belong to this machine."""
    path = directory / "hosts"
    path.write_text("".join(f"127.0.0.1 {name}\n" for name in names))
    path.chmod(0o644)
    return path
