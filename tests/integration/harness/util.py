"""Small functions that every part of the harness uses."""

import contextlib
import os
import random
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path

# The time that anything may take before the test fails. It is generous because the sanitized build,
# valgrind and a busy machine are slow; only a failing test waits this long.
PATIENCE = 60.0

NOBODY = 65534

PORTS_IN_A_ROW = 8


def is_root() -> bool:
    return os.geteuid() == 0


@contextlib.contextmanager
def work_directory(name: str):
    """Creates a directory that an unprivileged process can read; pytest's own are for their owner
    only."""
    path = Path(tempfile.mkdtemp(prefix=f"tproxy-{name}-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def free_port(udp: bool = False) -> int:
    """Returns a free port of 127.0.0.1. Another program may take it before the caller does."""
    with socket.socket() as tcp:
        tcp.bind(("127.0.0.1", 0))
        port = tcp.getsockname()[1]
        if udp:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind(("127.0.0.1", port))
        return port


@contextlib.contextmanager
def reserved_ports(count: int):
    """Reserves consecutive ports of 127.0.0.1 until the end, and yields the first. They are neither
    among TARGET_PORTS nor in the system's range for connections."""
    assert count <= PORTS_IN_A_ROW
    while True:
        first = random.choice(range(10000, 16384 - PORTS_IN_A_ROW, PORTS_IN_A_ROW))
        with contextlib.ExitStack() as stack:
            try:
                lock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                stack.enter_context(lock).bind(("127.0.0.1", first))
                for port in range(first, first + count):
                    socket.create_server(("127.0.0.1", port)).close()
            except OSError:
                continue
            yield first
            return


def until(condition, what: str, patience: float = PATIENCE, every: float = 0.01):
    """Waits for the first true value of condition() and returns it, for states that no event
    reports."""
    deadline = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:.0f} s in vain for {what}")
        time.sleep(every)


class Feed:
    """Items that arrive one after another in a background thread."""

    def __init__(self):
        self._items: list = []
        self._changed = threading.Condition()
        self._ended = False

    def add(self, item) -> None:
        with self._changed:
            self._items.append(item)
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def all(self) -> list:
        with self._changed:
            return list(self._items)

    def wait(self, matches, what: str, patience: float = PATIENCE, count: int = 1, start: int = 0):
        """Waits for the count-th item from position `start` on for which matches(item) is true."""

        def found():
            hits = [item for item in self._items[start:] if matches(item)]
            return hits[count - 1] if len(hits) >= count else None

        with self._changed:
            self._changed.wait_for(lambda: found() is not None or self._ended, patience)
            hit = found()
        if hit is None:
            tail = "\n".join(str(item) for item in self.all()[-25:])
            raise AssertionError(f"{what} did not come; the last that came:\n{tail}")
        return hit

    def __len__(self) -> int:
        with self._changed:
            return len(self._items)
