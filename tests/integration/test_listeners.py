"""tproxy listens in the same way on systems with other defaults."""

import re
import subprocess
import sys

import pytest

from harness.tproxy import Program, Tproxy, destination
from harness.util import NOBODY, PATIENCE, is_root

# In this network namespace "::" excludes IPv4 unless a program says otherwise.
BIND_V6_ONLY = "ip link set lo up && sysctl -qw net.ipv6.bindv6only=1"
AS_NOBODY = f"setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups"

# Prints the first words of a server at ADDRESS PORT, or its answer to GET.
DIAL = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])) as s:
    s.sendall(b"GET /healthz HTTP/1.0\\r\\n\\r\\n")
    print(s.recv(512))
"""


class Isolated(Program):
    """The same binary in a network namespace of its own."""

    def __init__(self, program: Program):
        self.path = program.path
        script = f'{BIND_V6_ONLY} && exec {AS_NOBODY} "$@"'
        self.wrapper = ("unshare", "--net", "sh", "-c", script, "sh", *program.wrapper)

    def spawn(self, *arguments: str, uid: int | None = None, **options) -> subprocess.Popen:
        return super().spawn(*arguments, uid=0, **options)


def possible() -> bool:
    command = ["unshare", "--net", "sh", "-c", BIND_V6_ONLY]
    return is_root() and subprocess.run(command, capture_output=True).returncode == 0


def dial(tproxy: Tproxy, address: str, port: int) -> str:
    inside = ["nsenter", f"--net=/proc/{tproxy.pid}/ns/net", sys.executable, "-c", DIAL]
    command = [*inside, address, str(port), str(PATIENCE)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE * 2)
    return run.stdout + run.stderr


@pytest.mark.skipif(not possible(), reason="makes network namespaces")
def test_all_listeners_take_ipv4_whatever_the_default(program, directory):
    isolated = Isolated(program)
    with Tproxy(isolated, directory, "--listen", "::", "--admin", "[::]:0") as tproxy:
        tproxy.write(destination("mail", "127.0.0.1", 1))
        line = tproxy.printed.wait(lambda line: re.match(r"mail .* ready$", line), "the target")
        target = int(line.split()[1].rsplit(":", 1)[1])
        for address in ("127.0.0.1", "::1"):
            assert "+OK" in dial(tproxy, address, target)
            assert "200 OK" in dial(tproxy, address, tproxy.admin_port())
