"""Runs in a virtual machine (harness/virtual_machine.py): tproxy in a control group with the limit
of its pod, and clients that make it hold as much as they can. Prints the result as one line of JSON
behind "RESULT".

    memory_limit.py clear|tls
"""

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

LIMIT = 64_000_000  # the pod's limit in manifests/base
CLIENTS = 720
FAST = 16  # clients that read at first, so that the kernel's buffers grow
FAST_OCTETS = 500_000
TLS = sys.argv[1] == "tls"
TPROXY = "/guest/tproxy"
GROUPS = Path("/sys/fs/cgroup")
GROUP = GROUPS / "tproxy"
CLONE_NEWNS, CLONE_NEWCGROUP = 0x00020000, 0x02000000
BIG = b"+OK\r\n" + (b"x" * 76 + b"\r\n") * 100_000 + b".\r\n"
SMALL = b"+OK\r\n" + b"Subject: small\r\n\r\nIt is here.\r\n.\r\n"

STATS: dict[str, str] = {}  # the kinds of memory at the time of the highest usage

libc = ctypes.CDLL(None, use_errno=True)


def loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        request = struct.pack("16sh14x", b"lo", 1 | 64)  # IFF_UP, IFF_RUNNING
        fcntl.ioctl(s, 0x8914, request)  # SIOCSIFFLAGS


# ---- the mail server ----


def serve(client: socket.socket, context: ssl.SSLContext | None) -> None:
    with contextlib.suppress(OSError):
        if context:
            client = context.wrap_socket(client, server_side=True)
        client.sendall(b"+OK\r\n")
        for line in client.makefile("rb", buffering=4096):
            command = line.strip().upper()
            if command == b"CAPA":
                client.sendall(b"+OK\r\nUSER\r\nUIDL\r\n.\r\n")
            elif command == b"RETR 1":
                client.sendall(BIG)
            elif command == b"RETR 2":
                client.sendall(SMALL)
            else:
                client.sendall(b"+OK\r\n")
            if command == b"QUIT":
                break
    client.close()


def start_server(context: ssl.SSLContext | None) -> int:
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)

    def accept() -> None:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=serve, args=(client, context), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


# ---- tproxy ----


def enter_group() -> None:
    """Makes the child see its own group as the root, as in a container."""
    (GROUP / "cgroup.procs").write_text("0")
    if libc.unshare(CLONE_NEWCGROUP | CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    # The kernel would refuse to mount the same file system on itself.
    libc.umount2(str(GROUPS).encode(), 2)
    if libc.mount(b"none", str(GROUPS).encode(), b"cgroup2", 0, None) != 0:
        raise OSError(ctypes.get_errno(), "mount")
    if (GROUPS / "memory.max").read_text().strip() == "max":
        raise OSError("the limit is not to be seen")
    os.setgid(65532)
    os.setuid(65532)


def start_tproxy(port: int) -> tuple[subprocess.Popen, dict[str, int]]:
    (GROUPS / "cgroup.subtree_control").write_text("+memory")
    GROUP.mkdir()
    (GROUP / "memory.max").write_text(str(LIMIT))
    directory = Path("/tmp/destinations")
    directory.mkdir()
    protocol = "pop3s" if TLS else "pop3"
    for name in ("crowded", "also-crowded", "quiet"):
        (directory / f"{name}.json").write_text(json.dumps({
            "Name": name, "Type": "MAIL", "ProxyType": "Internet", "mail.user": "robot",
            "mail.password": "secret", "mail.transport.protocol": protocol,
            f"mail.{protocol}.host": "127.0.0.1", f"mail.{protocol}.port": str(port)}))
    arguments = [TPROXY, "--local", directory, "--target-ports", "0", "--admin", "127.0.0.1:0",
                 "--control", "off", "--log-level", "info", "--log-format", "text"]
    if TLS:
        arguments += ["--ca-file", "/guest/ca.pem"]
    with open("/tmp/tproxy.log", "wb") as log:
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=log, text=True,
                                   preexec_fn=enter_group)
    ports = {}
    while len(ports) < 3:
        words = process.stdout.readline().split()
        if not words:
            raise SystemExit("tproxy ended: " + Path("/tmp/tproxy.log").read_text())
        if words[-1] == "ready":
            ports[words[0]] = int(words[1].rsplit(":", 1)[1])
    return process, ports


def figure(name: str) -> int:
    return int((GROUP / name).read_text())


def kills() -> int:
    events = dict(line.split() for line in (GROUP / "memory.events").read_text().splitlines())
    return int(events["oom_kill"])


# ---- clients ----


def connect(port: int, receive: int | None = None) -> socket.socket:
    s = socket.socket()
    if receive:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    s.settimeout(60)
    s.connect(("127.0.0.1", port))
    return s


class Crowd:
    """Clients that request more and more and, after `first` octets, read nothing."""

    def __init__(self, port: int, count: int, first: int) -> None:
        self.sockets: dict[socket.socket, int] = {}
        self.port, self.count, self.first = port, count, first

    def come(self) -> None:
        for _ in range(self.count):
            with contextlib.suppress(ConnectionError):  # tproxy may be dead, which the result shows
                s = connect(self.port, None if self.first else 4096)
                s.setblocking(False)
                self.sockets[s] = self.first

    def push(self) -> None:
        """Sends what the sockets take, and reads the octets that are to be read."""
        for s, left in list(self.sockets.items()):
            with contextlib.suppress(BlockingIOError):
                try:
                    s.send(b"RETR 1\r\n" * 512)
                except ConnectionError:
                    pass
            with contextlib.suppress(BlockingIOError, ConnectionError):
                while left > 0:
                    got = len(s.recv(min(left, 1 << 20)))
                    left = left - got if got else 0
            self.sockets[s] = left

    def leave(self) -> None:
        for s in self.sockets:
            s.close()


def ask(port: int) -> bool:
    """Returns whether one honest session is served."""
    with connect(port) as s, s.makefile("rb") as answers:
        s.sendall(b"RETR 2\r\nQUIT\r\n")
        return SMALL[5:] in answers.read()


def is_served(port: int) -> bool:
    """Tries for five minutes, because an emulated processor is slow at many handshakes."""
    until = time.monotonic() + 300
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            if ask(port):
                return True
        time.sleep(0.1)
    return False


class Honest(threading.Thread):
    """Sessions at a target without hostile clients, one after the other."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port, self.served, self.failed, self.slowest = port, 0, [], 0.0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            begun = time.monotonic()
            try:
                good = ask(self.port)
            except OSError as err:
                good = False
                self.failed.append(repr(err))
            else:
                if not good:
                    self.failed.append("another answer")
            self.served += good
            self.slowest = max(self.slowest, time.monotonic() - begun)
            self.over.wait(0.1)


def settle(crowds: list[Crowd], process: subprocess.Popen) -> int:
    """Pushes until the group's memory has stopped growing. Returns its highest value."""
    highest, still = 0, 0
    while still < 8 and process.poll() is None:
        for crowd in crowds:
            crowd.push()
        now = figure("memory.current")
        if now > highest:
            STATS.clear()
            STATS.update(line.split() for line in (GROUP / "memory.stat").read_text().splitlines())
        still = 0 if now > highest + 200_000 else still + 1
        highest = max(highest, now)
        time.sleep(0.25)
    return highest


def main() -> None:
    loopback_up()
    resource.setrlimit(resource.RLIMIT_NOFILE, (65536, 65536))
    threading.stack_size(128 * 1024)
    context = None
    if TLS:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain("/guest/server.pem")
    process, ports = start_tproxy(start_server(context))
    result = {"empty": figure("memory.current")}
    honest = Honest(ports["quiet"])
    honest.start()

    first = [Crowd(ports["crowded"], FAST, FAST_OCTETS), Crowd(ports["crowded"], CLIENTS - FAST, 0)]
    for crowd in first:
        crowd.come()
    result["one target"] = settle(first, process)
    honest.over.set()
    honest.join(60)
    result |= {"served": honest.served, "failed": honest.failed[:3], "slowest": honest.slowest}

    second = [Crowd(ports["also-crowded"], FAST, FAST_OCTETS), Crowd(ports["also-crowded"], CLIENTS, 0)]
    for crowd in second:
        crowd.come()
    result["two targets"] = settle(first + second, process)
    for crowd in first + second:
        crowd.leave()

    alive = process.poll() is None
    crowded = [ports["crowded"], ports["also-crowded"]]
    result |= {
        "afterwards": alive and all(is_served(port) for port in crowded),
        "peak": figure("memory.peak"),
        "killed": kills(),
        "alive": process.poll() is None,
        "stat": {name: int(STATS[name]) // 1024 for name in ("anon", "sock", "kernel")},
        "log": Path("/tmp/tproxy.log").read_text()[-1000:],
    }
    print("RESULT " + json.dumps(result))


main()
