"""The harness for the cluster tests: it starts a real API server, and the fault proxy in front of
it behaves as it is told."""

import contextlib
import http.client
import json
import threading

import pytest

from harness.fault_proxy import (
    FaultProxy,
    is_watch,
    is_write,
    list_of,
    refuse,
    refuse_in_watch,
    too_many,
    watch_of,
)
from harness.http_server import once, where
from harness.kube import APPLY, ApiError
from harness.util import PATIENCE, Feed, until

GROUP = "test.example.com"
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"boxes.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"plural": "boxes", "singular": "box", "kind": "Box"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}


def config_map(name: str, **data: str) -> dict:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


@pytest.fixture
def space(kube) -> str:
    """The path of a new namespace."""
    kube.reset()
    return f"/api/v1/namespaces/{kube.namespace()}"


@pytest.fixture
def proxy(kube):
    with FaultProxy(kube) as proxy:
        yield proxy


# --- the control plane ---


def test_version(kube):
    """kubectl and the API server have the same version."""
    versions = json.loads(kube.kubectl("version", "-o", "json").stdout)
    server = versions["serverVersion"]["gitVersion"]
    assert server == versions["clientVersion"]["gitVersion"]
    assert server.startswith("v1.")


def test_custom_resource(kube, space):
    kube.apply(CRD)
    kube.kubectl("wait", "--for=condition=Established", f"crd/{CRD['metadata']['name']}")
    box = {"apiVersion": f"{GROUP}/v1", "kind": "Box", "metadata": {"name": "one"}}
    namespace = space.rpartition("/")[2]
    kube.kubectl("apply", "-n", namespace, "-f", "-", input=json.dumps(box))
    path = f"/apis/{GROUP}/v1/namespaces/{namespace}/boxes"
    assert [item["metadata"]["name"] for item in kube.items(path)] == ["one"]
    kube.patch(f"{path}/one/status", {"status": {"full": True}})
    assert kube.get(f"{path}/one")["status"] == {"full": True}


def test_apply(kube, space):
    path = f"{space}/configmaps/one?fieldManager=test&force=true"
    first = kube.patch(path, config_map("one", a="1"), APPLY)
    again = kube.patch(path, config_map("one", a="1"), APPLY)
    assert first["metadata"]["resourceVersion"] == again["metadata"]["resourceVersion"]


def test_refusals(kube, space):
    kube.create(f"{space}/configmaps", config_map("one"))
    with pytest.raises(ApiError) as exists:
        kube.create(f"{space}/configmaps", config_map("one"))
    assert (exists.value.code, exists.value.reason) == (409, "AlreadyExists")
    with pytest.raises(ApiError) as unknown:
        kube.get("/apis/nothing.example.com/v1/things")
    assert (unknown.value.code, unknown.value.status) == (404, {})
    assert kube.kubectl("get", "things", check=False).returncode != 0


def test_account_may_what_is_granted(kube, space, directory):
    namespace = space.rpartition("/")[2]
    files = kube.credentials(directory / "account", namespace, "reader")
    assert {file.name for file in files.iterdir()} == {"ca.crt", "namespace", "token"}
    assert (files / "namespace").read_text() == namespace
    token = (files / "token").read_text()

    def read(path: str) -> dict:
        return kube.request("GET", path, token=token)

    with pytest.raises(ApiError) as denied:
        read(f"{space}/configmaps")
    assert (denied.value.code, denied.value.reason) == (403, "Forbidden")
    account = f"--serviceaccount={namespace}:reader"
    kube.kubectl("create", "role", "r", "-n", namespace, "--verb=list", "--resource=configmaps")
    kube.kubectl("create", "rolebinding", "r", "-n", namespace, "--role=r", account)

    def granted() -> dict:
        with contextlib.suppress(ApiError):
            return read(f"{space}/configmaps")

    assert until(granted, "the grant")["items"] == []
    with pytest.raises(ApiError, match="secrets"):
        read(f"{space}/secrets")
    with pytest.raises(ApiError) as stranger:
        kube.request("GET", f"{space}/configmaps", token="wrong")
    assert stranger.value.code == 401


def test_watch(kube, space):
    version = kube.get(f"{space}/configmaps")["metadata"]["resourceVersion"]
    kube.create(f"{space}/configmaps", config_map("one", a="1"))
    kube.patch(f"{space}/configmaps/one", {"data": {"a": "2"}})
    kube.delete(f"{space}/configmaps/one")
    events = kube.watch(f"{space}/configmaps?watch=1&resourceVersion={version}")
    seen = [next(events) for _ in range(3)]
    assert [event["type"] for event in seen] == ["ADDED", "MODIFIED", "DELETED"]
    assert [event["object"]["data"]["a"] for event in seen] == ["1", "2", "2"]


def test_reset_leaves_only_what_the_server_made(kube, space):
    def there() -> set[str]:
        found = {item["metadata"]["name"] for item in kube.items("/api/v1/namespaces")}
        found |= {item["metadata"]["name"] for item in kube.items("/api/v1/services")}
        return found | {item["metadata"]["name"] for item in kube.items("/api/v1/configmaps")}

    kube.reset()
    before = there()
    assert {"default", "kube-system", "kubernetes"} <= before
    again = f"/api/v1/namespaces/{kube.namespace()}"
    held = config_map("held")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    kube.create(f"{again}/configmaps", held)
    for namespace in (again, "/api/v1/namespaces/default"):
        service = {"metadata": {"name": "pop3"}, "spec": {"ports": [{"port": 110}]}}
        kube.create(f"{namespace}/services", service)
    assert {"held", "pop3"} <= there()
    kube.reset()
    assert there() == before


def test_restart_keeps_data_and_tokens(make_kube, directory):
    kube = make_kube()
    files = kube.credentials(directory / "account", "default", "someone")
    kube.create("/api/v1/namespaces/default/configmaps", config_map("kept", a="1"))
    url = kube.url
    kube.kill()
    with pytest.raises(OSError):
        kube.get("/readyz")
    kube.restart()
    assert kube.url == url
    assert kube.get("/api/v1/namespaces/default/configmaps/kept")["data"] == {"a": "1"}
    review = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    who = kube.request("POST", review, {}, token=(files / "token").read_text())
    assert who["status"]["userInfo"]["username"] == "system:serviceaccount:default:someone"


def test_flags(make_kube):
    """A resource version that etcd has compacted expires."""
    kube = make_kube("--watch-cache=false", "--etcd-compaction-interval=100ms")
    maps = "/api/v1/namespaces/default/configmaps"
    old = kube.get(maps)["metadata"]["resourceVersion"]

    def expired() -> dict | None:
        kube.create(maps, {"metadata": {"generateName": "filler-"}})
        with contextlib.closing(
            kube.watch(f"{maps}?watch=1&timeoutSeconds=1&resourceVersion={old}")
        ) as events:
            first = next(events)
        return first if first["type"] == "ERROR" else None

    event = until(expired, "the compaction")
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")


# --- the proxy ---


@contextlib.contextmanager
def ask(proxy: FaultProxy, method: str, path: str, fields: dict | None = None, **headers: str):
    """Returns the answer to one request through the proxy."""
    address = proxy.url.removeprefix("http://")
    with contextlib.closing(http.client.HTTPConnection(address, timeout=PATIENCE)) as connection:
        body = None if fields is None else json.dumps(fields)
        connection.request(method, path, body, {"Content-Type": "application/json", **headers})
        yield connection.getresponse()


def code(proxy: FaultProxy, method: str, path: str, fields: dict | None = None, **headers) -> int:
    with ask(proxy, method, path, fields, **headers) as answer:
        return answer.status


class Watcher:
    """Follows a watch through the proxy in a thread. `lines` are its lines; `rest` is the text
    behind the last complete line; `cut` is true if the watch ended without its last chunk."""

    def __init__(self, proxy: FaultProxy, path: str):
        self.lines = Feed()
        self.rest = b""
        self.cut = False
        self._proxy, self._path = proxy, path
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the watch goes on"

    def names(self) -> list[str]:
        return [json.loads(line)["object"]["metadata"]["name"] for line in self.lines.all()]

    def wait_for(self, name: str) -> None:
        self.lines.wait(lambda line: name.encode() in line, f"the event of {name}")

    def _follow(self) -> None:
        with ask(self._proxy, "GET", self._path) as answer:
            try:
                while data := answer.read1():
                    *whole, self.rest = (self.rest + data).split(b"\n")
                    for line in whole:
                        self.lines.add(line)
                self.cut = not answer.isclosed()
            except (OSError, http.client.HTTPException):
                self.cut = True
        self.lines.end()


@pytest.fixture
def maps(kube, space) -> str:
    return f"{space}/configmaps"


@pytest.fixture
def watch(kube, proxy, maps):
    """Starts a watch of the namespace."""

    def start() -> Watcher:
        version = kube.get(maps)["metadata"]["resourceVersion"]
        return Watcher(proxy, f"{maps}?watch=1&resourceVersion={version}")

    return start


def test_proxy_passes_on_and_remembers(kube, proxy, maps):
    assert code(proxy, "POST", maps, config_map("one")) == 201
    assert code(proxy, "PUT", f"{maps}/one", config_map("one", a="1")) == 200
    apply = f"{maps}/two?fieldManager=test&force=true"
    assert code(proxy, "PATCH", apply, config_map("two"), **{"Content-Type": APPLY}) == 201
    with ask(proxy, "GET", maps) as answer:
        found = json.loads(answer.read())["items"]
    assert [item["metadata"]["name"] for item in found] == ["one", "two"]
    assert code(proxy, "DELETE", f"{maps}/one") == 200
    assert code(proxy, "GET", f"{maps}/one") == 404
    assert [request.method for request in proxy.writes()] == ["POST", "PUT", "PATCH", "DELETE"]
    assert proxy.writes()[2].headers["Content-Type"] == APPLY
    assert json.loads(proxy.writes()[0].body) == config_map("one")
    assert len(proxy.requests) == 6


def test_proxy_has_its_own_token(kube, maps, directory):
    files = kube.credentials(directory / "account", maps.split("/")[4], "nobody")
    with FaultProxy(kube, (files / "token").read_text()) as proxy:
        assert code(proxy, "GET", maps) == 403
        assert code(proxy, "GET", maps, Authorization=f"Bearer {kube.token}") == 200
        assert code(proxy, "GET", maps, Authorization="Bearer wrong") == 401


def test_proxy_answers_as_told(proxy, maps):
    proxy.behaviour = where(list_of("configmaps"), once(too_many, times=2))
    for _ in range(2):
        assert code(proxy, "POST", maps, {"metadata": {"generateName": "x-"}}) == 201
        with ask(proxy, "GET", maps) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
            assert answer.headers["Content-Type"].startswith("text/plain")
    assert code(proxy, "GET", maps) == 200
    proxy.behaviour = where(is_write, refuse(410, "Expired"))
    with ask(proxy, "DELETE", maps) as answer:
        assert answer.status == 410
        assert json.loads(answer.read())["reason"] == "Expired"
    assert code(proxy, "GET", maps) == 200


def test_proxy_refuses_in_watch(proxy, watch):
    proxy.behaviour = where(is_watch, once(refuse_in_watch(410, "Expired")))
    watcher = watch()
    watcher.join()
    (line,) = watcher.lines.all()
    event = json.loads(line)
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
    assert not watcher.cut


def test_proxy_passes_watches_on(kube, proxy, maps, watch):
    watcher = watch()
    kube.create(maps, config_map("one"))
    watcher.wait_for("one")
    kube.create(maps, config_map("two"))
    watcher.wait_for("two")
    assert watcher.names() == ["one", "two"]


def test_proxy_ends_watches_properly(proxy, maps):
    watcher = Watcher(proxy, f"{maps}?watch=1&timeoutSeconds=1")
    watcher.join()
    assert not watcher.cut


@pytest.mark.parametrize("after", [0, 1, 40])
def test_proxy_cuts_an_event(kube, proxy, maps, watch, after):
    watcher = watch()
    kube.create(maps, config_map("one"))
    watcher.wait_for("one")
    proxy.cut(watch_of("configmaps"), after)
    kube.create(maps, config_map("two"))
    watcher.join()
    assert watcher.cut
    assert watcher.names() == ["one"]
    assert len(watcher.rest) == after
    assert code(proxy, "GET", maps) == 200


def test_proxy_stalls(kube, proxy, maps, watch):
    watcher = watch()
    kube.create(maps, config_map("one"))
    watcher.wait_for("one")
    free = Watcher(proxy, "/api/v1/configmaps?watch=1")
    free.wait_for("one")
    with proxy.stalled(lambda request: is_watch(request) and request.path == maps):
        late = Watcher(proxy, f"{maps}?watch=1")
        kube.create(maps, config_map("two"))
        free.wait_for("two")
        assert code(proxy, "GET", maps) == 200
        assert watcher.names() == ["one"]
        assert late.lines.all() == []
    watcher.wait_for("two")
    late.wait_for("two")


def test_proxy_drops(kube, proxy, watch, maps):
    watcher, other = watch(), Watcher(proxy, "/api/v1/services?watch=1")
    other.wait_for("kubernetes")
    proxy.drop(watch_of("configmaps"))
    watcher.join()
    assert watcher.cut
    assert watcher.names() == []
    assert not other.cut
    proxy.drop()
    other.join()


def test_proxy_goes_down_with_its_server(make_kube):
    kube = make_kube()
    with FaultProxy(kube) as proxy:
        watcher = Watcher(proxy, "/api/v1/services?watch=1")
        watcher.wait_for("kubernetes")
        kube.kill()
        watcher.join()
        assert watcher.cut
        with pytest.raises((OSError, http.client.HTTPException)):
            code(proxy, "GET", "/api/v1/services")
        kube.restart()
        assert code(proxy, "GET", "/api/v1/services") == 200
