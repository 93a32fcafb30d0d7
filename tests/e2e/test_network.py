"""The namespaces of a test run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from harness.util import until
from node import network

# Enters namespaces as pytest does, starts a process there that outlives its parent, and waits.
RUN = """
import sys
sys.path.insert(0, sys.argv[1])
from node import network
here = "mount -t tmpfs tmpfs /run; ip netns add left; (exec -a %s sleep 1000) & echo up; wait"
network.enter(["bash", "-c", here])
"""


def running(name: str) -> bool:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if file.read_bytes().startswith(name.encode() + b"\0"):
                return True
        except OSError:
            pass
    return False


def test_nothing_is_left(outside):
    """A run is killed: its processes and its namespaces are gone."""
    name = f"left-by-{os.getpid()}"
    place = str(Path(network.__file__).parents[1])
    run = subprocess.Popen(
        [sys.executable, "-c", RUN % name, place], stdout=subprocess.PIPE, text=True
    )
    assert run.stdout.readline() == "up\n"
    until(lambda: running(name), "the process", every=0.05)
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()
    until(lambda: not running(name), "the process to end", every=0.05)
    assert not Path("/run/netns/left").exists()
