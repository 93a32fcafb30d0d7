"""Probes decide whether the process lives, so clients must not keep them from the admin port."""

import contextlib
import http.client
import subprocess
import sys
import time

import pytest

from harness import crowd
from harness.clients import RawClient
from harness.tproxy import Tproxy
from harness.util import PATIENCE

PROBES = 40


@contextlib.contextmanager
def crowd_of(count: int, port: int, behaviour: str):
    command = [sys.executable, crowd.__file__, str(port), behaviour, str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            yield process
            assert process.poll() is None, "the crowd has gone"
        finally:
            process.kill()


def probe(port: int) -> float:
    """Probes like the kubelet, over a connection of its own. Returns the seconds that it took."""
    start = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    connection.close()
    return time.monotonic() - start


@pytest.mark.parametrize("behaviour", crowd.BEHAVIOURS)
def test_probes_are_answered_in_a_crowd(make_tproxy, build, behaviour):
    """Probes are answered while 1,000 clients connect again whenever they are closed. On a busy
    machine one probe in twenty may take longer than a second."""
    tproxy = make_tproxy("--log-level", "info")
    port = tproxy.admin_port()
    memory = tproxy.metric("tp_memory_bytes")
    with crowd_of(1000, port, behaviour):
        times = []
        for _ in range(PROBES):
            times.append(probe(port))
            time.sleep(0.05)
        print("probes took at most", sorted(times)[-3:], "s")
        assert sorted(times)[PROBES * 19 // 20 - 1] < 1, sorted(times)
        if build == "release":  # the sanitizer keeps freed memory
            assert tproxy.metric("tp_memory_bytes") < memory + (24 << 20)

    def is_crowded(line: dict) -> bool:
        return "admin port: more than" in line["msg"]

    tproxy.logs.wait(is_crowded, "the line about the crowd")
    assert len([line for line in tproxy.logs.all() if is_crowded(line)]) == 1


def test_probes_are_answered_without_descriptors(program, directory, backend):
    """Probes are answered while sessions use all descriptors."""
    limited = type(program).__new__(type(program))
    limited.path = program.path
    limited.wrapper = (*program.wrapper, "prlimit", "--nofile=40:40")
    with Tproxy(limited, directory, "--max-sessions", "1000") as tproxy:
        mail = tproxy.add("mail", backend.host, backend.port)
        port = tproxy.admin_port()
        with contextlib.ExitStack() as stack:
            for _ in range(40):
                client = stack.enter_context(RawClient(mail))
                with contextlib.suppress(EOFError, OSError):
                    client.command(b"USER a")
            for _ in range(10):
                assert probe(port) < PATIENCE
