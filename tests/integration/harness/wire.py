"""A route to a server that can be cut so that packets vanish without a notice: it leads through a
network namespace of its own. It needs root."""

import contextlib
import os
import random
import socket
import socketserver
import subprocess
import sys
import threading

from harness.util import PATIENCE

# Runs in the namespace and forwards each connection to (ADDRESS, PORT) to (TO, PORT).
RELAY = """
import socket, sys, threading
address, to, port = sys.argv[1], sys.argv[2], int(sys.argv[3])

def carry(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()
        sink.close()

with socket.create_server((address, port)) as server:
    print("ready", flush=True)
    while True:
        client = server.accept()[0]
        upstream = socket.create_connection((to, port))
        for ends in ((client, upstream), (upstream, client)):
            threading.Thread(target=carry, args=ends, daemon=True).start()
"""


class _Carrier(socketserver.BaseRequestHandler):
    """Forwards from the address that the namespace reaches to the server on loopback."""

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.target)) as upstream:
            threading.Thread(target=_carry, args=(upstream, self.request), daemon=True).start()
            _carry(self.request, upstream)


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: str, target: int):
        self.target = target
        super().__init__((address, 0), _Carrier)


class Wire:
    """A route to an HTTP server on this port of 127.0.0.1. `url` is its address at the other
    end."""

    def __init__(self, port: int):
        self._target = port
        net = f"10.213.{random.randrange(256)}.{4 * random.randrange(64)}"
        base, last = net.rsplit(".", 1)
        self._ours, self._theirs = (f"{base}.{int(last) + n}" for n in (1, 2))
        self._name = f"wire{os.getpid()}"

    def __enter__(self) -> "Wire":
        with contextlib.ExitStack() as stack:
            holder = subprocess.Popen(
                ["unshare", "--net", "sh", "-c", "echo ready; exec sleep 1000"],
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.callback(holder.wait)
            stack.callback(holder.kill)
            assert holder.stdout.readline() == "ready\n", "network namespaces cannot be made here"
            self._inside = ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
            self._connect(holder.pid)
            server = stack.enter_context(_Server(self._ours, self._target))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            port = server.server_address[1]
            command = [sys.executable, "-c", RELAY, self._theirs, self._ours, str(port)]
            inside = [*self._inside, *command]
            relay = subprocess.Popen(inside, stdout=subprocess.PIPE, text=True)
            stack.callback(relay.wait)
            stack.callback(relay.kill)
            assert relay.stdout.readline() == "ready\n"
            self.url = f"http://{self._theirs}:{port}"
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *failure) -> None:
        self._stack.close()  # this removes the namespace with its interface, and thereby ours

    def _connect(self, pid: int) -> None:
        name, peer = self._name, f"{self._name}p"
        _run("ip", "link", "add", name, "type", "veth", "peer", "name", peer, "netns", str(pid))
        _run("ip", "address", "add", f"{self._ours}/30", "dev", name)
        _run("ip", "link", "set", name, "up")
        _run(*self._inside, "ip", "address", "add", f"{self._theirs}/30", "dev", peer)
        self.mend()

    def cut(self) -> None:
        """Lets packets vanish from now on."""
        _run(*self._inside, "ip", "link", "set", f"{self._name}p", "down")

    def mend(self) -> None:
        _run(*self._inside, "ip", "link", "set", f"{self._name}p", "up")


def _run(*command: str) -> None:
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert run.returncode == 0, f"{' '.join(command)}: {run.stderr}"
