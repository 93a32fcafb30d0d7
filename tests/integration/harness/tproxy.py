"""The binary under test."""

import http.client
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from harness.util import NOBODY, PATIENCE, Feed, is_root, until

ROOT = Path(__file__).resolve().parents[3]

TARGET_LINE = re.compile(r"^(\S+)\s+([\d.]+):(\d+)\s+ready\b")

SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:exitcode=98:check_initialization_order=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=97",
}

_numbers = itertools.count(1)


def destination(name: str, host: str, port: int, **properties: object) -> dict:
    """Returns a plain destination as the cockpit exports it. Two underscores in a name stand for a
    dot: mail__user="x" is "mail.user". None removes a property."""
    given = {key.replace("__", "."): value for key, value in properties.items()}
    protocol = given.get("mail.transport.protocol", "pop3")
    fields = {
        "Name": name,
        "Type": "MAIL",
        "ProxyType": "Internet",
        "Authentication": "BasicAuthentication",
        "mail.user": "robot",
        "mail.password": "Scripted-Pa55word",
        "mail.transport.protocol": protocol,
        f"mail.{protocol}.host": host,
        f"mail.{protocol}.port": str(port),
        **given,
    }
    return {key: value for key, value in fields.items() if value is not None}


class Program:
    """A binary with its wrapper. It is copied to a place that everybody can read, because it runs
    as an unprivileged user even when root runs the tests."""

    def __init__(self, binary: Path, directory: Path, wrapper: tuple[str, ...] = ()):
        assert binary.exists(), f"{binary} is not there: run make, make dev"
        self.path = directory / f"{binary.name}-{next(_numbers)}"
        shutil.copy(binary, self.path)
        self.path.chmod(0o755)
        self.wrapper = wrapper

    def spawn(self, *arguments: str, uid: int | None = None, **options) -> subprocess.Popen:
        environment = {"PATH": os.environ.get("PATH", ""), **SANITIZERS}
        environment.update(options.pop("env", {}))
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
        if is_root():
            uid = NOBODY if uid is None else uid
            options.update(user=uid, group=uid, extra_groups=[])
        return subprocess.Popen(
            [*self.wrapper, str(self.path), *arguments],
            stderr=subprocess.PIPE,
            env=environment,
            cwd="/",
            **streams | options,
        )

    def run(
        self, *arguments: str, uid: int | None = None, stdin: str = ""
    ) -> subprocess.CompletedProcess:
        """Runs the program to its end."""
        process = self.spawn(*arguments, uid=uid, stdin=subprocess.PIPE)
        out, err = process.communicate(stdin.encode(), timeout=PATIENCE)
        return subprocess.CompletedProcess(
            arguments, process.returncode, out.decode(), err.decode()
        )


class Tproxy:
    """A running proxy, here with a directory of destinations. An argument "" is left out, for a
    flag without a value; None leaves out the flag too. When the context ends, the proxy has to stop
    with exit code 0 and without a complaint of a sanitizer."""

    def __init__(self, program: Program, directory: Path, *arguments: str | None):
        self.program = program
        self.directory = directory / "destinations"
        self.directory.mkdir()
        self.directory.chmod(0o755)
        self._control = f"tproxy-test-{os.getpid()}-{next(_numbers)}"
        self.printed = Feed()  # lines on stdout
        self.logs = Feed()  # the parsed lines of stderr
        self.stderr: list[bytes] = []
        self.unparsed: list[str] = []
        self._format = "json"
        self._arguments = arguments
        self._process: subprocess.Popen | None = None
        self._expected_code = 0
        self._readers: list[threading.Thread] = []
        self._reading = threading.Event()
        self._reading.set()

    # --- life ---

    def mode(self) -> dict[str, str]:
        """Returns the flags that select what it serves."""
        return {"--local": str(self.directory)}

    def start(self) -> "Tproxy":
        defaults = {
            **self.mode(),
            "--target-ports": "0",
            "--admin": "127.0.0.1:0",
            "--control": self._control,
            "--log-level": "trace",
            "--log-format": "json",
            "--drain-delay": "0",
            "--grace": "10",
        }
        given = dict(zip(self._arguments[::2], self._arguments[1::2], strict=True))
        options = {**defaults, **given}
        self._format = options["--log-format"] or "json"
        kept = [option for option in options.items() if option[1] is not None]
        words = [word for option in kept for word in option if word]
        self._process = self.program.spawn(*words)
        for stream, take, feed in (
            (self._process.stdout, self._take_printed, self.printed),
            (self._process.stderr, self._take_logged, self.logs),
        ):
            reader = threading.Thread(target=self._read, args=(stream, take, feed), daemon=True)
            reader.start()
            self._readers.append(reader)
        return self

    def __enter__(self) -> "Tproxy":
        return self.start() if self._process is None else self

    def __exit__(self, kind, *rest) -> None:
        self.go_on_reading()
        if self.running():
            self.signal(signal.SIGTERM)
        try:
            code = self._process.wait(PATIENCE * 2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            code = "none: it did not end"
        for reader in self._readers:
            reader.join(PATIENCE)
        self._process.stdout.close()
        self._process.stderr.close()
        complaints = "\n".join(self.unparsed)
        if kind is None:
            assert code == self._expected_code, f"exit code {code}\n{complaints}\n{self.tail()}"
            assert not complaints, f"not JSON on stderr:\n{complaints}"
        elif code != self._expected_code or complaints:
            print(f"tproxy: exit code {code}\n{complaints}")

    @property
    def control(self) -> str:
        """Returns the name of the control socket, once the program has it."""
        until(lambda: not self.running() or self._has_control(), "the control socket")
        return self._control

    def _has_control(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(f"\0{self._control}") == 0

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait(self, patience: float = PATIENCE) -> int:
        return self._process.wait(patience)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kills the program, as in a crash."""
        self.signal(signal.SIGKILL)
        self._expected_code = -signal.SIGKILL
        self._process.wait(PATIENCE)

    @property
    def pid(self) -> int:
        return self._process.pid

    def memory_peak(self) -> int:
        """Returns the highest resident memory so far, in octets."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE).group(1))

    # --- what it serves ---

    def write(self, destination: dict, file: str = "") -> Path:
        """Puts a destination into the directory in one step, replacing an older one."""
        return self.write_text(
            json.dumps(destination, indent=2), file or destination["Name"] + ".json"
        )

    def write_text(self, text: str, file: str) -> Path:
        return self.write_bytes(text.encode(), file)

    def write_bytes(self, content: bytes, file: str) -> Path:
        path = self.directory / file
        aside = self.directory.parent / f"{file}.new"
        aside.write_bytes(content)
        aside.chmod(0o644)
        aside.rename(path)
        return path

    def port(self, name: str, start: int = 0) -> int:
        """Waits for this target's line on the terminal and returns its port. Only lines from
        position `start` of `printed` on count."""

        def matches(line: str) -> bool:
            found = TARGET_LINE.match(line)
            return bool(found) and found.group(1) == name

        try:
            line = self.printed.wait(matches, f"the line of target {name}", start=start)
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n{self.tail()}") from None
        return int(TARGET_LINE.match(line).group(3))

    def add(self, name: str, host: str, port: int, **properties: object) -> int:
        """Writes a destination and waits until it is served. Returns the port."""
        start = len(self.printed)
        self.write(destination(name, host, port, **properties))
        return self.port(name, start)

    # --- what it reports ---

    def admin_port(self) -> int:
        line = self.logs.wait(
            lambda line: line["msg"].startswith("admin port "), "the log line with the admin port"
        )
        return int(line["msg"].split()[2])

    def http(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port(), timeout=PATIENCE)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def metrics(self) -> dict[str, list]:
        """Returns the samples by name, read with Prometheus' own parser."""
        status, text = self.http("/metrics")
        assert status == 200, text
        samples: dict[str, list] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples.setdefault(sample.name, []).append(sample)
        return samples

    def metric(self, name: str, **labels: str) -> float:
        """Returns the sum of the samples with these labels."""
        samples = self.metrics()
        assert name in samples, f"no metric {name}; there are {sorted(samples)}"
        return sum(
            sample.value
            for sample in samples[name]
            if all(sample.labels.get(key) == value for key, value in labels.items())
        )

    def wait_log(self, message: str, count: int = 1, start: int = 0, **fields) -> dict:
        """Waits for the count-th log line with this msg and these fields."""
        return self.logs.wait(
            lambda line: (
                line.get("msg") == message
                and all(line.get(key) == value for key, value in fields.items())
            ),
            f"the log line {message!r} with {fields}",
            count=count,
            start=start,
        )

    def summary(self, target: str, count: int = 1) -> dict:
        """Waits for the line that ends the count-th session of this target."""
        return self.wait_log("session ended", count=count, target=target)

    def tail(self) -> str:
        return "\n".join(json.dumps(line) for line in self.logs.all()[-40:])

    def stop_reading(self) -> None:
        """Stops reading the log, so that the pipe fills up."""
        self._reading.clear()

    def go_on_reading(self) -> None:
        self._reading.set()

    def everything_said(self) -> bytes:
        return b"".join(self.stderr) + "\n".join(self.printed.all()).encode()

    # --- reading its output ---

    def _read(self, stream, take, feed: Feed) -> None:
        for line in stream:
            take(line)
        feed.end()

    def _take_printed(self, line: bytes) -> None:
        self.printed.add(line.decode(errors="replace").rstrip("\n"))

    def _take_logged(self, line: bytes) -> None:
        self._reading.wait()
        self.stderr.append(line)
        if self._format != "json":
            self.logs.add({"msg": line.decode(errors="replace").rstrip("\n")})
            return
        try:
            self.logs.add(json.loads(line))
        except ValueError:
            self.unparsed.append(line.decode(errors="replace").rstrip("\n"))
