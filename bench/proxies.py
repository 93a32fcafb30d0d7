"""The proxies that are measured: how each is configured, started and stopped.

Every proxy is one process, or as few as its design allows for one worker. It listens on 127.0.0.1
and forwards to the bench backend. All of them share the CPUs given by `Machine.proxy_cpus`.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

NOBODY = 65534
START_SECONDS = 20


class Missing(Exception):
    """A program or permission that a measurement needs is missing."""


class Machine:
    """The CPUs, the user and the directories of one run."""

    def __init__(self, build: Path, work: Path, pin: bool) -> None:
        cpus = sorted(os.sched_getaffinity(0))
        self.pinned = pin and len(cpus) > 1
        self.proxy_cpus = {cpus[-1]} if self.pinned else set(cpus)
        self.load_cpus = set(cpus[:-1]) if self.pinned else set(cpus)
        self.root = os.geteuid() == 0
        self.build = build
        self.work = work
        self.count = 0

    def directory(self, name: str) -> Path:
        """Creates a directory below the work directory that the unprivileged user can write."""
        self.count += 1
        path = self.work / f"{self.count}-{name}"
        path.mkdir()
        path.chmod(0o755)
        if self.root:
            os.chown(path, NOBODY, NOBODY)
        return path

    def spawn(
        self, argv: list[str], proxy: bool, log: Path | None, unprivileged: bool = False, **more
    ) -> subprocess.Popen:
        """Starts a program in a session of its own, on its CPU, with many descriptors."""

        def prepare() -> None:
            os.sched_setaffinity(0, self.proxy_cpus if proxy else self.load_cpus)
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

        if unprivileged and self.root:
            more.update(user=NOBODY, group=NOBODY, extra_groups=[])
        stderr = log.open("ab") if log else subprocess.DEVNULL
        more.setdefault("stdout", stderr)
        process = subprocess.Popen(
            argv,
            stdin=more.pop("stdin", subprocess.DEVNULL),
            stderr=stderr,
            start_new_session=True,
            preexec_fn=prepare,
            **more,
        )
        if log:
            stderr.close()
        return process


def stop_process(process: subprocess.Popen, seconds: float = 10) -> None:
    """Ends a process and the rest of the session that it leads."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait(seconds)


def free_ports(count: int = 1) -> int:
    """Returns the first of `count` consecutive free ports below the ephemeral range."""
    while True:
        first = random.randrange(12000, 32000 - count)
        sockets = []
        try:
            for port in range(first, first + count):
                sockets.append(socket.socket())
                sockets[-1].bind(("127.0.0.1", port))
        except OSError:
            continue
        finally:
            for s in sockets:
                s.close()
        return first


def find(program: str) -> str:
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise Missing(f"{program} is not installed")
    return path


class Backend:
    """Runs bench/backend.c."""

    def __init__(self, machine: Machine) -> None:
        self.process = machine.spawn(
            [str(machine.work / "backend")],
            proxy=False,
            log=None,
            stdout=subprocess.PIPE,
            text=True,
        )
        words = self.process.stdout.readline().split()
        self.port, self.auth_port = int(words[1]), int(words[3])

    def stop(self) -> dict:
        """Ends the backend and returns what it has served."""
        self.process.terminate()
        answer = json.loads(self.process.stdout.read())
        stop_process(self.process)
        return answer


class Proxy:
    """One proxy under test; subclasses define how it is started."""

    name = "?"
    note = ""
    logs_in = True
    idle_sessions = 4000  # the number of sessions in the measurement of memory

    def __init__(self, machine: Machine, to: int, auth_port: int = 0) -> None:
        self.machine = machine
        self.to = to
        self.auth_port = auth_port
        self.dir = machine.directory(type(self).__name__.lower())
        self.log = self.dir / "log"
        self.port = free_ports()
        self.process: subprocess.Popen | None = None

    def start(self) -> "Proxy":
        try:
            self.process = self.launch()
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def launch(self) -> subprocess.Popen:
        raise NotImplementedError

    def wait_ready(self) -> None:
        """Waits until a client gets a greeting."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as s:
                    s.settimeout(2)
                    if s.recv(512).startswith(b"+OK"):
                        s.sendall(b"QUIT\r\n")
                        return
            except OSError:
                pass
            time.sleep(0.05)
        tail = self.log.read_text(errors="replace")[-600:] if self.log.exists() else ""
        raise Missing(f"{self.name} did not start: {tail.strip()}")

    def stop(self) -> None:
        if self.process:
            stop_process(self.process)
            self.process = None

    def write(self, name: str, text: str) -> Path:
        path = self.dir / name
        path.write_text(text)
        return path


class Relay(Proxy):
    name = "bare relay, copy 64 KiB"
    logs_in = False
    options: list[str] = []

    def launch(self) -> subprocess.Popen:
        program = str(self.machine.work / "relay")
        return self.machine.spawn(
            [program, "--to", str(self.to), "--port", str(self.port), *self.options],
            proxy=True,
            log=self.log,
            unprivileged=True,
        )


class Relay16(Relay):
    name = "bare relay, copy 16 KiB"
    options = ["--buffer", "16384"]


class RelaySplice(Relay):
    name = "bare relay, splice 64 KiB"
    options = ["--splice", "65536"]


class RelaySplice128(Relay):
    name = "bare relay, splice 128 KiB"
    options = ["--splice", "131072"]


class HAProxy(Proxy):
    name = "HAProxy tcp"
    logs_in = False
    option = ""
    server = ""

    def launch(self) -> subprocess.Popen:
        config = self.write(
            "haproxy.cfg",
            f"""global
    nbthread 1
    maxconn 6000
defaults
    mode tcp
    {self.option}
    timeout connect 5s
    timeout client 10m
    timeout server 10m
listen mail
    bind 127.0.0.1:{self.port}
    server backend 127.0.0.1:{self.to} {self.server}
""",
        )
        return self.machine.spawn(
            [find("haproxy"), "-db", "-f", str(config)], proxy=True, log=self.log, unprivileged=True
        )


class HAProxySplice(HAProxy):
    name = "HAProxy tcp, splice-auto"
    option = "option splice-auto"


class Nginx(Proxy):
    name = "nginx mail"

    def launch(self) -> subprocess.Popen:
        module = Path("/usr/lib/nginx/modules/ngx_mail_module.so")
        if not module.exists():
            raise Missing("libnginx-mod-mail is not installed")
        config = self.write(
            "nginx.conf",
            f"""load_module {module};
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {self.dir}/pid;
error_log {self.log} error;
events {{ worker_connections 10000; }}
mail {{
    auth_http 127.0.0.1:{self.auth_port}/;
    server {{
        listen 127.0.0.1:{self.port};
        protocol pop3;
        proxy on;
    }}
}}
""",
        )
        return self.machine.spawn(
            [find("nginx"), "-c", str(config), "-p", str(self.dir), "-e", str(self.log)],
            proxy=True,
            log=self.log,
        )


class Dovecot(Proxy):
    name = "Dovecot proxy"
    note = "one pop3-login process, `service_count=0`"

    def launch(self) -> subprocess.Popen:
        if not self.machine.root:
            raise Missing("Dovecot is started only by root")
        config = self.write(
            "dovecot.conf",
            f"""protocols = pop3
base_dir = {self.dir}/run
state_dir = {self.dir}/state
log_path = {self.log}
ssl = no
listen = 127.0.0.1
disable_plaintext_auth = no
default_client_limit = 20000
default_process_limit = 10
mail_max_userip_connections = 20000
passdb {{
  driver = static
  args = nopassword=y proxy=y host=127.0.0.1 port={self.to} pass=something
}}
service pop3-login {{
  service_count = 0
  process_min_avail = 1
  process_limit = 1
  client_limit = 10000
  vsz_limit = 2G
  inet_listener pop3 {{
    address = 127.0.0.1
    port = {self.port}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service anvil {{
  client_limit = 20000
}}
service auth {{
  client_limit = 20000
}}
""",
        )
        return self.machine.spawn(
            [find("dovecot"), "-F", "-c", str(config)], proxy=True, log=self.log
        )


class Perdition(Proxy):
    name = "Perdition"
    note = "one process per session"
    idle_sessions = 200

    def launch(self) -> subprocess.Popen:
        argv = [find("perdition"), "--no_daemon", "--no_lookup", "--protocol", "POP3"]
        argv += ["--bind_address", "127.0.0.1", "--listen_port", str(self.port)]
        argv += ["--outgoing_server", "127.0.0.1", "--outgoing_port", str(self.to)]
        argv += ["--map_library", "", "--config_file", "/dev/null", "--quiet"]
        argv += ["--log_facility", str(self.log), "--pid_file", ""]
        argv += ["--username", "nobody", "--group", "nogroup", "--ssl_mode", "none"]
        return self.machine.spawn(argv, proxy=True, log=self.log)


def destination(name: str, port: int, protocol: str = "pop3", **more: str) -> dict[str, str]:
    """Returns a mail destination as the cockpit exports it."""
    return {
        "Name": name,
        "Type": "MAIL",
        "ProxyType": "Internet",
        "Authentication": "BasicAuthentication",
        "mail.user": "someone",
        "mail.password": "something",
        "mail.transport.protocol": protocol,
        f"mail.{protocol}.host": "127.0.0.1",
        f"mail.{protocol}.port": str(port),
        **more,
    }


class Tproxy(Proxy):
    name = "tproxy"
    binary = Path("build/tproxy")
    args: list[str] = []

    def __init__(
        self,
        machine: Machine,
        to: int,
        auth_port: int = 0,
        destinations: list[dict[str, str]] | None = None,
        ca_file: Path | None = None,
    ) -> None:
        super().__init__(machine, to, auth_port)
        self.destinations = [destination("mail", to)] if destinations is None else destinations
        self.ca_file = ca_file
        self.admin = 0
        self.ports: dict[str, int] = {}

    def launch(self) -> subprocess.Popen:
        if not self.binary.exists():
            raise Missing(f"{self.binary} is not built")
        program = self.machine.work / "tproxy"
        if not program.exists():
            shutil.copy(self.binary, program)
            program.chmod(0o755)
        directory = self.dir / "destinations"
        directory.mkdir()
        for entry in self.destinations:
            (directory / f"{entry['Name']}.json").write_text(json.dumps(entry))
        count = len(self.destinations) + 1
        first = free_ports(count + 1)
        self.admin = first + count
        argv = [str(program), "--local", str(directory), "--listen", "127.0.0.1"]
        argv += ["--target-ports", f"{first}-{first + count - 1}", "--log-level", "warn"]
        argv += ["--admin", f"127.0.0.1:{self.admin}", "--max-sessions", "9000"]
        argv += ["--control", f"tproxy-bench-{os.getpid()}-{first}", *self.args]
        if self.ca_file:
            argv += ["--ca-file", str(self.ca_file)]
        self.out = self.dir / "out"
        with self.out.open("wb") as out:
            return self.machine.spawn(argv, proxy=True, log=self.log, unprivileged=True, stdout=out)

    def wait_ready(self) -> None:
        """Waits for one line per destination: name, address, "ready"."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            lines = [line.split() for line in self.out.read_text().splitlines()]
            ready = [line for line in lines if len(line) >= 3 and line[2] == "ready"]
            self.ports = {line[0]: int(line[1].rsplit(":", 1)[1]) for line in ready}
            if len(self.ports) == len(self.destinations):
                self.port = next(iter(self.ports.values()), 0)
                self.wait_admin(end)
                return
            time.sleep(0.02)
        text = self.out.read_text()[-400:] + self.log.read_text()[-600:]
        raise Missing(f"{self.name} did not start: {text.strip()}")

    def wait_admin(self, end: float) -> None:
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.admin), 1).close()
                return
            except OSError:
                time.sleep(0.02)

    def metric(self, name: str) -> float | None:
        """Returns the value of a metric without labels from the admin port."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=5)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        for line in text.splitlines():
            words = line.split()
            if len(words) >= 2 and words[0].split("{")[0] == name:
                return float(words[1])
        return None


# What HAProxy as a TLS server offers at each port. `resume12` issues session tickets, `full12` does
# not (and there is no session cache, so that every handshake is a full one).
HANDSHAKES = {
    "resume12": "force-tlsv12",
    "full12": "force-tlsv12 no-tls-tickets",
    "resume13": "force-tlsv13",
}
CIPHERS = {
    "aes128-12": "force-tlsv12 ciphers ECDHE-RSA-AES128-GCM-SHA256",
    "aes256-12": "force-tlsv12 ciphers ECDHE-RSA-AES256-GCM-SHA384",
    "chacha-12": "force-tlsv12 ciphers ECDHE-RSA-CHACHA20-POLY1305",
    "aes128-13": "force-tlsv13 ciphersuites TLS_AES_128_GCM_SHA256",
    "aes256-13": "force-tlsv13 ciphersuites TLS_AES_256_GCM_SHA384",
    "chacha-13": "force-tlsv13 ciphersuites TLS_CHACHA20_POLY1305_SHA256",
}


class Tls:
    """A certificate, and HAProxy in front of the backend as a TLS server, with a port for each of
    `binds`. HAProxy counts the resumed sessions."""

    def __init__(self, machine: Machine, to: int, binds: dict[str, str]) -> None:
        self.dir = machine.directory("tls")
        self.ca = self.dir / "ca.pem"
        self.make_certificate()
        self.ports = {name: free_ports() for name in binds}
        self.protocols = {
            name: "TLSv1.2" if "force-tlsv12" in options else "TLSv1.2 TLSv1.3"
            for name, options in binds.items()
        }
        text = f"""global
    nbthread 1
    maxconn 8000
    tune.ssl.cachesize 0
    tune.ssl.default-dh-param 2048
    stats socket {self.dir}/stats mode 600 level admin
defaults
    mode tcp
    timeout connect 5s
    timeout client 10m
    timeout server 10m
"""
        for name, options in binds.items():
            text += f"""frontend {name}
    bind 127.0.0.1:{self.ports[name]} ssl crt {self.dir}/server.pem {options}
    use_backend {name}-resumed if {{ ssl_fc_is_resumed }}
    default_backend {name}-full
"""
            for kind in ("resumed", "full"):
                text += f"backend {name}-{kind}\n    server mail 127.0.0.1:{to}\n"
        (self.dir / "haproxy.cfg").write_text(text)
        self.process = machine.spawn(
            [find("haproxy"), "-db", "-f", str(self.dir / "haproxy.cfg")],
            proxy=False,
            log=self.dir / "log",
        )
        end = time.monotonic() + START_SECONDS
        while not (self.dir / "stats").exists():
            if self.process.poll() is not None or time.monotonic() > end:
                raise Missing("the TLS server did not start: " + (self.dir / "log").read_text())
            time.sleep(0.05)

    def openssl(self, *args: str) -> None:
        done = subprocess.run(
            [find("openssl"), *args], cwd=self.dir, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise Missing(f"openssl {args[0]}: {done.stderr}")

    def make_certificate(self) -> None:
        key = ["-newkey", "rsa:2048", "-nodes", "-days", "2"]
        self.openssl(
            "req",
            "-x509",
            *key,
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
            "-subj",
            "/CN=bench CA",
            "-addext",
            "keyUsage=critical,keyCertSign",
        )
        self.openssl(
            "req",
            *key[:-2],
            "-keyout",
            "server.key",
            "-out",
            "server.csr",
            "-subj",
            "/CN=localhost",
        )
        (self.dir / "ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        self.openssl(
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "ext",
            "-out",
            "server.crt",
        )
        (self.dir / "server.pem").write_text(
            (self.dir / "server.crt").read_text() + (self.dir / "server.key").read_text()
        )
        self.ca.chmod(0o644)

    def counts(self) -> dict[str, int]:
        """Returns the numbers of sessions so far: {"resume12-resumed": n, "resume12-full": n,
        ...}"""
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(self.dir / "stats"))
            s.sendall(b"show stat\n")
            text = b"".join(iter(lambda: s.recv(65536), b"")).decode()
        rows = [line.split(",") for line in text.splitlines() if line.count(",") > 10]
        column = rows[0].index("stot")
        return {row[0]: int(row[column]) for row in rows[1:] if row[1] == "BACKEND"}

    def stop(self) -> None:
        stop_process(self.process)
