"""A Kubernetes control plane: etcd and kube-apiserver, with kubectl and plain requests to use them.

There are no controllers and no nodes: garbage is not collected, and no namespace ends, no
ServiceAccount is created and no EndpointSlice filled by itself.
"""

import contextlib
import http.client
import itertools
import json
import os
import secrets
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import trustme

from harness.util import PATIENCE, until

APPLY = "application/apply-patch+yaml"
JSON = "application/json"
MERGE = "application/merge-patch+json"

# The namespaces that the API server creates for itself.
SYSTEM_NAMESPACES = {"kube-system", "kube-public", "kube-node-lease"}
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

# How long a connection without a request is kept. The API server closes it later.
KEEP = 30

_numbers = itertools.count(1)

# The kinds as the API server describes them, by the path of their API and their name.
_resources: dict[tuple[str, str], dict] = {}


class ApiError(Exception):
    """An answer of 400 or above. `status` is its Status object, or {} if the body had none."""

    def __init__(self, code: int, body: bytes):
        super().__init__(f"{code} {body.decode(errors='replace')}")
        self.code = code
        self.status: dict = {}
        with contextlib.suppress(ValueError):
            self.status = json.loads(body)

    @property
    def reason(self) -> str:
        return self.status.get("reason", "")


class Client:
    """Requests to an API server in the name of one person."""

    programs: Path
    kubeconfig: Path
    token: str

    @property
    def starts(self) -> int:
        """How often the API server has been started."""
        raise NotImplementedError

    def connect(self) -> http.client.HTTPSConnection:
        """Returns an HTTP connection, which the caller closes."""
        raise NotImplementedError

    # --- kubectl ---

    def kubectl(
        self, *arguments: str, input: str = "", check: bool = True
    ) -> subprocess.CompletedProcess:
        """Runs kubectl. With `check` it must succeed."""
        done = subprocess.run(
            [self.programs / "kubectl", *arguments],
            input=input,
            capture_output=True,
            text=True,
            timeout=PATIENCE * 2,
            check=False,
            env={
                "HOME": str(self.kubeconfig.parent),
                "KUBECONFIG": str(self.kubeconfig),
                "PATH": os.environ.get("PATH", ""),
            },
        )
        if check:
            assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done

    def rendered(self, directory: Path) -> list[dict]:
        """Returns the objects of a kustomization, in the order in which they are applied."""
        show = ("--dry-run=client", "--validate=false", "-o", "json")
        rest, things = self.kubectl("create", "-k", str(directory), *show).stdout, []
        while rest := rest.lstrip():
            thing, end = json.JSONDecoder().raw_decode(rest)
            things += thing.get("items", [thing])
            rest = rest[end:]
        return things

    # --- plain requests; paths are paths of the API ---

    def request(
        self,
        method: str,
        path: str,
        body: dict | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        token: str = "",
    ) -> dict:
        """Makes a request with this person's token or another one. If the API server asks for a
        pause, the request is repeated, as every client of Kubernetes does. It asks for one after a
        change of a definition."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return json.loads(self._ask(method, path, body, content_type, accept, token))
            except ApiError as error:
                if error.code != 429 or time.monotonic() > deadline:
                    raise
                time.sleep(error.status.get("details", {}).get("retryAfterSeconds", 1))

    def get(self, path: str) -> dict:
        return self.request("GET", path)

    def items(self, path: str) -> list[dict]:
        return self.get(path)["items"] or []

    def create(self, path: str, fields: dict) -> dict:
        return self.request("POST", path, fields)

    def patch(self, path: str, change: dict, content_type: str = MERGE) -> dict:
        return self.request("PATCH", path, change, content_type)

    def apply(self, *objects: dict) -> None:
        """Applies an object like `kubectl apply --server-side --force-conflicts`, which costs far
        more. A field that is None is left out."""
        how = "?fieldManager=kubectl&force=true&fieldValidation=Strict"
        for thing in objects:
            self.patch(self._path_of(thing) + how, _without_nulls(thing), APPLY)

    def delete(self, path: str) -> dict:
        return self.request("DELETE", path)

    def watch(self, path: str) -> Iterator[dict]:
        """Yields the events of a watch until it ends. The path has the parameters, including
        `watch=1`."""
        with contextlib.closing(self.connect()) as connection:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
            answer = connection.getresponse()
            if answer.status >= 400:
                raise ApiError(answer.status, answer.read())
            for line in answer:
                yield json.loads(line)

    # --- inside ---

    def _path_of(self, thing: dict) -> str:
        about, version, kind = thing["metadata"], thing["apiVersion"], thing["kind"]
        api = "/api/v1" if version == "v1" else f"/apis/{version}"
        if (api, kind) not in _resources:
            listed = self.get(api)["resources"]
            _resources.update({(api, r["kind"]): r for r in listed if "/" not in r["name"]})
        resource = _resources[api, kind]
        space = f"/namespaces/{about.get('namespace', 'default')}" if resource["namespaced"] else ""
        return f"{api}{space}/{resource['name']}/{about['name']}"

    def _ask(self, method, path, body, content_type, accept, token) -> bytes:
        headers = {"Authorization": f"Bearer {token or self.token}", "Accept": accept}
        if body is not None:
            headers["Content-Type"] = content_type
        connection = self._kept_connection()
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, headers)
            answer = connection.getresponse()
            text = answer.read()
        except BaseException:
            connection.close()  # the next request opens it again
            raise
        if answer.status >= 400:
            raise ApiError(answer.status, text)
        return text

    def _kept_connection(self) -> http.client.HTTPSConnection:
        """Returns the connection of this thread. A handshake costs more than most requests."""
        kept = self.__dict__.setdefault("_kept", threading.local())
        now, starts = time.monotonic(), self.starts
        connection = getattr(kept, "connection", None)
        if connection and (kept.starts != starts or now - kept.used > KEEP):
            connection.close()
            connection = None
        kept.connection, kept.starts, kept.used = connection or self.connect(), starts, now
        return kept.connection


class Kube(Client):
    """A control plane in a directory, and its administrator. Extra arguments are flags of
    kube-apiserver."""

    host = "127.0.0.1"  # the address of the API server
    names = ("localhost", "kubernetes.default.svc")  # what its certificate names besides
    # Without controllers no namespace has the ServiceAccount that pods need.
    admission = ("--disable-admission-plugins=ServiceAccount",)

    def __init__(self, programs: Path, directory: Path, *flags: str):
        self.directory = directory
        self.token = secrets.token_urlsafe(16)  # the administrator's
        self.ca_file = directory / "ca.crt"
        self.kubeconfig = directory / "kubeconfig"
        self.programs = programs
        self._flags = flags
        self._trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._etcd_port, self._port = _reserve_port("127.0.0.1"), _reserve_port(self.host)
        self._etcd: subprocess.Popen | None = None
        self._server: subprocess.Popen | None = None
        self._starts = 0

    # --- life ---

    def __enter__(self) -> "Kube":
        self._write_files()
        etcd = f"http://127.0.0.1:{_port_of(self._etcd_port)}"
        self._etcd = self._spawn(
            "etcd",
            f"--data-dir={self.directory / 'data'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            "--listen-peer-urls=http://127.0.0.1:0",
            "--socket-reuse-port",
            "--unsafe-no-fsync",
        )
        try:
            self.restart()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception) -> None:
        for process in (self._server, self._etcd):
            if process:
                process.kill()
                process.wait()
        self._port.close()
        self._etcd_port.close()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Ends the API server. etcd continues with all stored objects."""
        self._server.send_signal(number)
        self._server.wait(PATIENCE)

    def restart(self) -> None:
        """Starts the API server on the same port with the same data."""
        pem = self.directory / "server.pem"
        self._server = self._spawn(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{_port_of(self._etcd_port)}",
            f"--bind-address={self.host}",
            f"--advertise-address={self.host}",
            f"--secure-port={_port_of(self._port)}",
            "--permit-port-sharing",
            f"--tls-cert-file={pem}",
            f"--tls-private-key-file={pem}",
            f"--cert-dir={self.directory}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={pem}",
            f"--service-account-signing-key-file={pem}",
            f"--token-auth-file={self.directory / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            *self.admission,
            *self._flags,
        )
        self._starts += 1
        until(self._ready, "the API server", every=0.05)

    def compact(self) -> None:
        """Has etcd forget all versions of objects except the present ones."""
        revision = self.get("/api/v1/namespaces")["metadata"]["resourceVersion"]
        etcd = http.client.HTTPConnection("127.0.0.1", _port_of(self._etcd_port), timeout=PATIENCE)
        with contextlib.closing(etcd):
            etcd.request("POST", "/v3/kv/compaction", json.dumps({"revision": revision}))
            answer = etcd.getresponse()
            assert answer.status == 200, answer.read()

    @property
    def starts(self) -> int:
        return self._starts

    @property
    def url(self) -> str:
        return f"https://{self.host}:{_port_of(self._port)}"

    def log(self) -> str:
        """Returns the output of etcd and the API server."""
        files = sorted(self.directory.glob("*.log"))
        return "\n".join(f"{file.name}:\n{file.read_text(errors='replace')}" for file in files)

    # --- credentials ---

    def credentials(self, directory: Path, namespace: str, account: str) -> Path:
        """Writes the files that a pod of this ServiceAccount finds in its credentials directory,
        with a new token. Creates the account if it does not exist."""
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        try:
            self.create(accounts, {"metadata": {"name": account}})
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        token = self.create(f"{accounts}/{account}/token", {"spec": {}})["status"]["token"]
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)
        files = {"ca.crt": self.ca_file.read_text(), "namespace": namespace, "token": token}
        for name, text in files.items():
            aside = directory / f"{name}.new"
            aside.write_text(text)
            aside.chmod(0o644)
            aside.rename(directory / name)
        return directory

    def write_kubeconfig(self, file: Path, token: str) -> None:
        cluster = {"server": self.url, "certificate-authority": str(self.ca_file)}
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token}}],
        }
        file.write_text(json.dumps(kubeconfig))

    def connect(self) -> http.client.HTTPSConnection:
        """Returns an HTTP connection, which the caller closes."""
        return http.client.HTTPSConnection(
            self.host, _port_of(self._port), timeout=PATIENCE, context=self._trust
        )

    def namespace(self, **labels: str) -> str:
        """Creates a namespace and returns its name."""
        name = f"test-{next(_numbers)}"
        self.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        return name

    def versions(self) -> dict[str, str]:
        """Returns the resource versions of all objects in namespaces, by their paths, except those
        that the API server keeps for itself."""
        found = {}
        for kind in self._namespaced_kinds():
            for item in self.items("/".join(kind)):
                about = item["metadata"]
                space, name = about["namespace"], about["name"]
                own = space in SYSTEM_NAMESPACES or (space, name) == ("default", "kubernetes")
                if not own:
                    path = _in_namespace(kind, space) + f"/{name}"
                    found[path] = about["resourceVersion"]
        return found

    def reset(self) -> None:
        """Removes all objects in namespaces, and the namespaces, except those that the API server
        needs. Objects outside namespaces stay, such as the definitions of custom resources."""
        for kind in self._namespaced_kinds():
            spaces = set()
            for item in self.items("/".join(kind)):
                about = item["metadata"]
                if about["namespace"] in SYSTEM_NAMESPACES:
                    continue
                spaces.add(about["namespace"])
                if about.get("finalizers"):
                    path = _in_namespace(kind, about["namespace"]) + f"/{about['name']}"
                    self.patch(path, {"metadata": {"finalizers": None}})
            for space in spaces:
                others = "?fieldSelector=metadata.name!=kubernetes"
                self.delete(_in_namespace(kind, space) + others)
        for item in self.items("/api/v1/namespaces"):
            name = item["metadata"]["name"]
            if name not in SYSTEM_NAMESPACES | {"default"}:
                path = f"/api/v1/namespaces/{name}"
                ending = self.delete(path)
                self.request("PUT", f"{path}/finalize", {**ending, "spec": {"finalizers": []}})

    # --- inside ---

    def _namespaced_kinds(self) -> list[tuple[str, str]]:
        """Returns the kinds whose objects can be listed and deleted: the path of their API and the
        plural."""
        kinds = {}
        for root in ("/api", "/apis"):
            for group in self.request("GET", root, accept=DISCOVERY)["items"]:
                name = group["metadata"].get("name", "")
                for version in group["versions"]:
                    api = "/".join(filter(None, (root, name, version["version"])))
                    for kind in version.get("resources", []):
                        able = {"list", "deletecollection"} <= set(kind["verbs"])
                        if able and kind["scope"] == "Namespaced":
                            kinds.setdefault((name, kind["resource"]), (api, kind["resource"]))
        return list(kinds.values())

    def _ready(self) -> bool:
        assert self._server.poll() is None, f"the API server does not start:\n{self.log()[-4000:]}"
        with contextlib.suppress(OSError), contextlib.closing(self.connect()) as connection:
            connection.request("GET", "/readyz", headers={"Authorization": f"Bearer {self.token}"})
            return connection.getresponse().status == 200
        return False

    def _spawn(self, program: str, *arguments: str) -> subprocess.Popen:
        with (self.directory / f"{program}.log").open("ab") as log:
            return subprocess.Popen(
                [self.programs / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
            )

    def _write_files(self) -> None:
        authority = trustme.CA(organization_name="cluster")
        authority.configure_trust(self._trust)
        # One key is used wherever the API server needs a key.
        server = authority.issue_cert(self.host, *self.names)
        server.private_key_and_cert_chain_pem.write_to_path(self.directory / "server.pem")
        authority.cert_pem.write_to_path(self.ca_file)
        tokens = self.directory / "tokens.csv"
        tokens.write_text(f'{self.token},admin,admin,"system:masters"\n')
        self.write_kubeconfig(self.kubeconfig, self.token)


def _without_nulls(value):
    if isinstance(value, dict):
        return {name: _without_nulls(field) for name, field in value.items() if field is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _in_namespace(kind: tuple[str, str], namespace: str) -> str:
    api, plural = kind
    return f"{api}/namespaces/{namespace}/{plural}"


def _reserve_port(host: str) -> socket.socket:
    """Reserves a port of this address for programs that share it with SO_REUSEPORT."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((host, 0))
    return sock


def _port_of(sock: socket.socket) -> int:
    return sock.getsockname()[1]
