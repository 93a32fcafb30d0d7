"""Clients in pods."""

import json
import subprocess
import sys
from pathlib import Path

from harness.tproxy import ROOT
from harness.util import PATIENCE
from node.kubelet import Pod

LOAD = Path(__file__).with_name("load.py")
KNOCK = Path(__file__).with_name("knock.py")
TELNET = ROOT / "scripts/telnet.py"


def within(pod: Pod) -> list[str]:
    """Returns the words to put before a command that runs in a pod."""
    return ["nsenter", "--target", str(pod.container.pid), "--net", "--mount", "--"]


def telnet(pod: Pod, host: str, *commands: str, port: int = 110) -> subprocess.CompletedProcess:
    """Types commands into telnet, as a person does. `stdout` is what the terminal shows; the exit
    status is 0 if every answer was positive."""
    words = [*within(pod), sys.executable, str(TELNET), host, str(port), *commands]
    return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE * 2, check=False)


class Load:
    """Sessions from a pod while the context lasts, see load.py. `report` is what it says at the
    end."""

    def __init__(self, pod: Pod, host: str, rate: int, port: int = 110):
        self.report: dict = {}
        self._process = subprocess.Popen(
            [*within(pod), sys.executable, str(LOAD), host, str(port), str(rate)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, kind, *rest) -> None:
        if kind is not None:
            self._process.kill()
        out, _ = self._process.communicate(timeout=PATIENCE * 2)
        if kind is None:
            self.report = json.loads(out)

    @property
    def failures(self) -> list[dict]:
        return self.report["failures"]


class Knocker:
    """A client in a pod that comes when it is told, see knock.py."""

    def __init__(self, pod: Pod, port: int = 110):
        self._process = subprocess.Popen(
            [*within(pod), sys.executable, str(KNOCK), str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Knocker":
        return self

    def __exit__(self, *exception) -> None:
        self._process.communicate()

    def knock(self, host: str) -> dict:
        self._process.stdin.write(host + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())
