"""Small things that every part of the harness uses."""

import contextlib
import os
import random
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path

# How long anything may take before the test gives up. Generous: the sanitized build, valgrind and
# a loaded machine are slow, and only a failing test ever waits this long.
PATIENCE = 60.0

NOBODY = 65534

PORTS_IN_A_ROW = 8


def is_root() -> bool:
    return os.geteuid() == 0


@contextlib.contextmanager
def work_directory(name: str):
    """A directory that an unprivileged process can read (pytest's own are for their owner only)."""
    path = Path(tempfile.mkdtemp(prefix=f"tproxy-{name}-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def free_port(udp: bool = False) -> int:
    """A port of 127.0.0.1 that nobody uses now. Whoever takes it must be ready to lose the race."""
    with socket.socket() as tcp:
        tcp.bind(("127.0.0.1", 0))
        port = tcp.getsockname()[1]
        if udp:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind(("127.0.0.1", port))
        return port


@contextlib.contextmanager
def reserved_ports(count: int):
    """The first of some ports of 127.0.0.1 in a row that no other test has until the end. They are
    neither among TARGET_PORTS nor among those that the system chooses."""
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
    """The first true value of condition(); for states that nobody announces."""
    deadline = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:.0f} s in vain for {what}")
        time.sleep(every)


class Feed:
    """Things that arrive one after the other in a background thread, to be waited for."""

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
        """The count-th item from position start on for which matches(item) is true."""

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
