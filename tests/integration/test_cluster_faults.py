"""Faults around tproxy: the API server, the Destination service, the token server, rights. Sessions
continue, targets stay, nothing is deleted, and afterwards everything is as it should be."""

import contextlib
import itertools
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.clients import RawClient, is_closed
from harness.destination_service import key_secret
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
from harness.http_server import (
    Behaviour,
    Exchange,
    Request,
    close,
    cut_json,
    cut_off,
    endless,
    garbage,
    html,
    once,
    proper,
    silent,
    status,
    success,
    where,
)
from harness.installation import (
    CRS,
    INSTANCE,
    MANIFESTS,
    Installation,
    destination_cr,
    list_and_fetch,
    transparent_proxy,
)
from harness.kube import ApiError
from harness.samples import HOME
from harness.tproxy import Tproxy
from harness.util import PATIENCE, until

MAIL = "mail"


class World:
    """Two targets, "stays" and "goes", each with a client in the middle of its session, and a proxy
    between tproxy and the API server."""

    def __init__(self, installation: Installation, proxy: FaultProxy, namespace: str):
        self.installation = installation
        self.kube = installation.kube
        self.proxy = proxy
        self.namespace = namespace
        self.ports: dict[str, int] = {}
        self.clients: list[RawClient] = []

    def begin(self) -> None:
        self.add("stays", "goes")
        for name in ("stays", "goes"):
            self.ports[name] = self.installation.available(self.namespace, name)
            client = RawClient(self.ports[name])
            assert client.command(b"STAT").startswith(b"+OK")
            self.clients.append(client)
        self.service = self.installation.service_of(HOME, "stays")

    def leave(self) -> None:
        """Lets the clients leave."""
        for client in self.clients:
            client.sock.close()
        self.clients.clear()

    def add(self, *names: str) -> None:
        for name in names:
            path = f"{CRS}/namespaces/{self.namespace}/destinations"
            self.kube.create(path, destination_cr(name, self.namespace, MAIL))

    def remove(self, name: str) -> None:
        self.kube.delete(f"{CRS}/namespaces/{self.namespace}/destinations/{name}")

    def deleted(self) -> list[str]:
        """Returns the objects that tproxy wanted to delete."""
        return [
            request.path.rsplit("/", 1)[1]
            for request in self.proxy.writes()
            if request.method == "DELETE"
        ]

    def goes_on(self) -> None:
        """Checks that the open sessions continue and that new ones work."""
        for client in self.clients:
            assert client.command(b"NOOP").startswith(b"+OK")
        for port in self.ports.values():
            assert list_and_fetch(port)

    def change(self) -> None:
        """Makes the changes that users make during a fault."""
        self.add("comes")
        self.remove("goes")

    def converges(self) -> None:
        assert list_and_fetch(self.installation.available(self.namespace, "comes"))
        for namespace in (HOME, self.namespace):
            until(
                lambda namespace=namespace: self.installation.service_of(namespace, "goes") is None,
                "the Service that nobody needs to go",
                patience=2 * PATIENCE,  # delays of 25 s are possible if one list meets every fault
            )
        until(lambda: is_closed(self.ports["goes"]), "its listener to close")
        assert set(self.deleted()) <= {"goes"}
        assert self.installation.service_of(HOME, "stays") == self.service
        assert list_and_fetch(self.ports["stays"])
        for client in self.clients:
            assert client.command(b"NOOP").startswith(b"+OK")


@pytest.fixture
def proxy(kube):
    with FaultProxy(kube) as between:
        yield between


@pytest.fixture
def tproxy(installation, proxy, make_cluster_tproxy) -> Tproxy:
    installation.configure()
    return make_cluster_tproxy(installation, url=proxy.url).ready()


@pytest.fixture
def world(installation, proxy, tproxy, namespace, add_destination) -> World:
    add_destination(MAIL)
    world = World(installation, proxy, namespace)
    world.begin()
    yield world
    world.leave()


# --- the API server ---


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """Each request meets the next behaviour."""
    turn = itertools.cycle(behaviours)
    return lambda exchange: next(turn)(exchange)


def outage(world: World, behaviour: Behaviour) -> None:
    """Every request meets this behaviour, until a watch has met it once and a list twice."""
    before = len(world.proxy.requests)
    world.proxy.behaviour = behaviour
    world.proxy.drop()
    world.change()

    def asked() -> list[Request]:
        later = world.proxy.requests.all()[before:]
        return [request for request in later if request.path.endswith("/destinations")]

    until(lambda: len(asked()) >= 3, "tproxy to meet the outage")
    world.goes_on()
    assert world.deleted() == []
    world.proxy.behaviour = proper
    world.converges()


OUTAGES = {
    "busy": in_turn(refuse(503, "ServiceUnavailable"), status(503), too_many),
    "broken": in_turn(refuse(500, "InternalError", "etcdserver: leader changed"), status(502)),
    "forbidden": refuse(403, "Forbidden", "no"),
    "unknown": in_turn(refuse(404, "NotFound"), status(404, b"404 page not found\n")),
    "unauthorized": refuse(401, "Unauthorized"),
}


@pytest.mark.one_build
@pytest.mark.parametrize("behaviour", OUTAGES.values(), ids=OUTAGES)
def test_outage(world, behaviour):
    outage(world, behaviour)


def of_lists(behaviour: Behaviour) -> Behaviour:
    """Applies the behaviour to lists only, because a watch has no body that could be halved."""
    return lambda exchange: (garbage if is_watch(exchange.request) else behaviour)(exchange)


def test_nonsense(world):
    outage(
        world,
        in_turn(
            *[html, of_lists(cut_json), of_lists(cut_off), endless, garbage, close, status(204)],
            *[success({}), success([]), success({"kind": "List", "items": []})],
        ),
    )


def said(words: str) -> Callable[[dict], bool]:
    """Matches a line of the log with these words."""
    return lambda line: words in line["msg"]


@pytest.mark.one_build
def test_unreachable(world, tproxy):
    world.proxy.stop()
    world.change()
    tproxy.logs.wait(said("the API server cannot be reached"), "the word of the outage")
    world.goes_on()
    world.proxy.start()
    tproxy.logs.wait(said("answers again"), "the word of its end")
    world.converges()


@pytest.mark.one_build
def test_silence(world):
    """For a while no request is answered and no watch reports anything."""
    with world.proxy.stalled():
        world.change()
        world.goes_on()
    world.converges()


@pytest.mark.one_build
class TestKilled:
    """The API server itself is killed; there is no proxy."""

    @pytest.fixture
    def kube(self, make_kube):
        return make_kube()

    @pytest.fixture
    def tproxy(self, installation, make_cluster_tproxy) -> Tproxy:
        installation.configure()
        return make_cluster_tproxy(installation).ready()

    def test_killed(self, world, kube, tproxy):
        kube.kill()
        tproxy.logs.wait(said("the API server cannot be reached"), "the word of the outage")
        world.goes_on()
        kube.restart()
        world.change()
        world.converges()


@pytest.mark.one_build
class TestCompaction:
    """etcd has forgotten the versions of the watches."""

    @pytest.fixture
    def kube(self, make_kube):
        return make_kube("--watch-cache=false", "--etcd-compaction-interval=100ms")

    def test_compaction(self, world, kube):
        maps = "/api/v1/namespaces/default/configmaps"
        old = kube.get(maps)["metadata"]["resourceVersion"]
        world.proxy.stop()
        world.change()

        def expired() -> bool:
            kube.create(maps, {"metadata": {"generateName": "filler-"}})
            watch = kube.watch(f"{maps}?watch=1&timeoutSeconds=1&resourceVersion={old}")
            with contextlib.closing(watch) as events:
                return next(events)["type"] == "ERROR"

        until(expired, "the compaction")
        before = len(world.proxy.requests)
        world.proxy.start()
        world.converges()
        later = world.proxy.requests.all()[before:]
        assert any(list_of("destinations")(request) for request in later)


@pytest.mark.one_build
@pytest.mark.parametrize("refusal", [refuse, refuse_in_watch])
def test_expired(world, refusal):
    """All watches expire again and again: only lists bring changes."""
    world.proxy.behaviour = where(is_watch, refusal(410, "Expired", "too old resource version"))
    world.proxy.drop()
    world.change()
    world.converges()


def test_cuts(world, oauth):
    """Watches are cut in the middle of an object."""
    for number, after in enumerate((1, 300)):
        world.proxy.cut(watch_of("destinations"), after)
        world.add(f"cut-{number}")
        assert list_and_fetch(world.installation.available(world.namespace, f"cut-{number}"))

    world.proxy.cut(watch_of("services"), 40)
    world.kube.delete(f"/api/v1/namespaces/{HOME}/services/stays")
    until(lambda: world.installation.service_of(HOME, "stays"), "the Service to be there again")
    assert world.installation.target_port("stays") == world.ports["stays"]

    world.proxy.cut(watch_of("secrets"), 40)
    key = world.installation.service.service_key()
    world.kube.apply(key_secret(INSTANCE, HOME, key, "key"))
    until(lambda: oauth.requests_of(key["clientid"]), "the new service key to be used")
    world.goes_on()


def in_pages(behaviour: Behaviour) -> Behaviour:
    """Lists have one object in each page. All pages after the first meet this behaviour."""

    def page(exchange: Exchange) -> None:
        query = exchange.request.query
        if "limit" not in query:
            proper(exchange)
            return
        query["limit"] = "1"
        (behaviour if "continue" in query else proper)(exchange)

    return page


BREAKS = [cut_off, close, cut_json, status(500), refuse(410, "Expired")]


def test_lists_break_off(world):
    """Lists break off after the first page. Objects that were not in it do not count as deleted."""
    world.add("third")
    world.installation.available(world.namespace, "third")
    pages = in_pages(in_turn(*[once(behaviour) for behaviour in BREAKS]))
    expired = once(refuse_in_watch(410, "Expired"), times=6)
    world.proxy.behaviour = lambda exchange: (expired if is_watch(exchange.request) else pages)(
        exchange
    )
    world.proxy.drop()
    world.change()
    world.converges()
    assert list_and_fetch(world.installation.target_port("third"))


def test_start_with_broken_lists(world, tproxy, make_cluster_tproxy):
    world.leave()
    tproxy.signal(signal.SIGTERM)
    tproxy.wait()
    world.change()
    world.proxy.behaviour = in_pages(in_turn(*[once(behaviour) for behaviour in BREAKS]))
    make_cluster_tproxy(world.installation, url=world.proxy.url).ready()
    world.converges()


@pytest.mark.one_build
def test_throttled(world, tproxy, make_cluster_tproxy):
    """Lists and then writes are not repeated sooner than the API server wants."""
    world.leave()
    tproxy.signal(signal.SIGTERM)
    tproxy.wait()
    before = len(world.proxy.requests)
    world.proxy.behaviour = where(lambda request: not is_watch(request), once(too_many, times=8))
    make_cluster_tproxy(world.installation, url=world.proxy.url).ready()
    world.proxy.behaviour = where(is_write, once(too_many, times=4))
    world.change()
    world.converges()
    turned_away: dict[tuple[str, str, str], float] = {}
    for request in world.proxy.requests.all()[before:]:
        what = request.method, request.path, request.query.get("fieldSelector", "")
        assert request.time - turned_away.pop(what, 0) >= 1
        if request.status == 429:
            turned_away[what] = request.time
    assert not turned_away, "none was given up"


# --- the definition of the CRs ---

CRD = "destinations.destination.connectivity.api.sap"


def test_crd_deleted(world):
    """The CRD is deleted, and with it every CR, which nobody intended."""
    world.kube.kubectl("delete", "crd", CRD)
    world.goes_on()
    assert world.deleted() == []
    assert world.installation.service_of(HOME, "stays") == world.service
    world.kube.kubectl("apply", "-k", str(MANIFESTS / "crds"))
    world.kube.kubectl("wait", "--for=condition=Established", f"crd/{CRD}")
    world.goes_on()
    world.add("stays", "comes")
    for name in ("stays", "comes"):
        world.installation.available(world.namespace, name)
    assert world.installation.target_port("stays") == world.ports["stays"]
    world.goes_on()
    assert world.deleted() == []


# --- rights and credentials ---

ROLE = "/apis/rbac.authorization.k8s.io/v1/clusterroles/tproxy"
BINDING = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/tproxy"


def restore(world: World) -> None:
    world.kube.kubectl("apply", "-k", str(MANIFESTS))


@pytest.mark.one_build
def test_rights_taken_away(world):
    """The rights for all other namespaces are taken away: the program reports it for the lists, and
    existing objects stay."""
    before = len(world.proxy.requests)
    world.kube.delete(BINDING)
    world.proxy.drop()
    world.change()

    def refused() -> list[Request]:
        later = world.proxy.requests.all()[before:]
        return [request for request in later if request.status == 403]

    until(lambda: len(list(filter(list_of("services"), refused()))) >= 2, "lists to be refused")
    world.goes_on()
    assert world.deleted() == []
    restore(world)
    world.converges()


@pytest.mark.one_build
def test_services_forbidden(world):
    """No object can be created, changed or deleted; the conditions report it."""
    rules = world.kube.get(ROLE)["rules"]
    reduced = [
        {**rule, "verbs": ["get", "list", "watch"]} if "services" in rule["resources"] else rule
        for rule in rules
    ]
    world.kube.patch(ROLE, {"rules": reduced})
    world.change()
    condition = world.installation.wait_condition(world.namespace, "comes", "ServiceCreationFailed")
    assert condition["status"] == "False"
    assert f"POST services {HOME}/comes: Forbidden" in condition["message"]
    assert world.installation.service_of(HOME, "goes")
    restore(world)
    world.converges()


@pytest.mark.one_build
def test_token_replaced(world, tproxy):
    """The old token becomes invalid, and the file contains a new one."""
    path = f"/api/v1/namespaces/{HOME}/serviceaccounts/tproxy"
    files = Path(tproxy.mode()["--kube-credentials"])
    old = (files / "token").read_text()
    world.kube.delete(path)
    world.kube.credentials(files, HOME, "tproxy")

    def invalid() -> bool:
        """The API server remembers for some seconds that the token was valid."""
        try:
            world.kube.request("GET", "/api/v1/services", token=old)
        except ApiError as error:
            return error.code == 401
        return False

    until(invalid, "the old token to be refused", every=0.5)
    world.proxy.drop()
    world.change()
    world.converges()
    assert any(request.status == 401 for request in world.proxy.requests.all())


# --- the deletion of a namespace ---


def test_namespace_ends(world):
    """The objects of a namespace are deleted one after another: first the alias, which cannot be
    created again, and then the CRs."""
    kube, namespace = world.kube, world.namespace
    kube.delete(f"/api/v1/namespaces/{namespace}")
    kube.delete(f"/api/v1/namespaces/{namespace}/services/stays")
    condition = world.installation.wait_condition(namespace, "stays", "ServiceCreationFailed")
    assert "being terminated" in condition["message"]
    world.goes_on()
    assert world.deleted() == []
    for name in ("stays", "goes"):
        world.remove(name)
    until(lambda: world.installation.ours() == [], "nothing of ours")
    ending = kube.get(f"/api/v1/namespaces/{namespace}")
    kube.request("PUT", f"/api/v1/namespaces/{namespace}/finalize", {**ending, "spec": {}})


# --- the Destination service and the token server ---

NONSENSE = {
    "error": status(500, b"Internal Server Error"),
    "unavailable": status(503, Retry_After="1"),
    "throttled": status(429, Retry_After="1"),
    "elsewhere": status(404, b"<html>404 Not Found"),
    "redirect": status(302, Location="/login"),
    "html": html,
    "cut-json": cut_json,
    "cut-off": cut_off,
    "endless": endless,
    "garbage": garbage,
    "silent": silent,
    "closed": close,
    "object": success({}),
    "array": success([]),
    "text": success("certainly"),
    "null": success({"destinationConfiguration": None, "access_token": None}),
}


def configure(installation: Installation, keys: dict[str, dict]) -> None:
    """Configures an instance for each key, with short timeouts."""
    proxy = transparent_proxy(*keys)
    service = proxy["spec"]["config"]["integration"]["destinationService"]
    service["readTimeoutSeconds"] = 1
    secrets = [key_secret(name, HOME, key, "key") for name, key in keys.items()]
    installation.kube.apply(proxy, *secrets)


def by(key: Callable[[Request], str], behaviours: dict[str, Behaviour]) -> Behaviour:
    return lambda exchange: behaviours.get(key(exchange.request), proper)(exchange)


def destination_of(request: Request) -> str:
    return request.path.rsplit("/", 1)[1]


def client_of(request: Request) -> str:
    return request.form().get("client_id", "")


def answer(port: int) -> str:
    with RawClient(port) as client:
        return client.command(b"LIST").decode()


def endure(
    installation: Installation,
    proxy: FaultProxy,
    namespace: str,
    crs: dict[str, dict],
    keys: Callable[[], dict[str, dict]],
    disturb: Callable[[dict[str, dict]], None],
    mend: Callable[[], None],
) -> None:
    """Has a CR for each kind of trouble. Known destinations stay in use; under new service keys
    nothing is known, and clients get the reason."""
    old, new = keys(), keys()
    configure(installation, old)
    installation.kube.apply(*crs.values())
    ports = {name: installation.available(namespace, name) for name in crs}
    services = {name: installation.service_of(HOME, name) for name in crs}
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(port)) for port in ports.values()]
        for client in clients:
            assert client.command(b"STAT").startswith(b"+OK")
        disturb({name: (old[name], new[name]) for name in new})
        for port in ports.values():
            assert list_and_fetch(port)

        configure(installation, new)
        for name, port in ports.items():
            condition = installation.wait_condition(namespace, name, "ConfigurationFailed")
            assert " cannot be read: " in condition["message"]
            told = answer(port)
            code = "PERM" if name == "redirect" else "TEMP"
            assert told.startswith(f'-ERR [SYS/{code}] destination "'), (name, told)
            assert len(told) <= 510
            assert installation.service_of(HOME, name) == services[name]
        assert not [request for request in proxy.writes() if request.method == "DELETE"]
        for client in clients:
            assert client.command(b"NOOP").startswith(b"+OK")

    mend()
    for name, port in ports.items():
        assert installation.available(namespace, name) == port
        assert list_and_fetch(port)
        assert installation.service_of(HOME, name) == services[name]


@pytest.fixture
def fresh(installation, proxy, make_cluster_tproxy, add_destination) -> Tproxy:
    """An installation without a configuration."""
    add_destination(MAIL)
    return make_cluster_tproxy(installation, url=proxy.url)


def test_destination_service(installation, proxy, fresh, namespace):
    service = installation.service
    service.destinations.update(dict.fromkeys(NONSENSE, service.destinations[MAIL]))

    def disturb(keys) -> None:
        service.behaviour = by(destination_of, NONSENSE)

    def mend() -> None:
        service.behaviour = proper

    endure(
        *(installation, proxy, namespace),
        crs={name: destination_cr(name, namespace, name) for name in NONSENSE},
        keys=lambda: {INSTANCE: service.service_key()},
        disturb=disturb,
        mend=mend,
    )


def test_token_server(installation, proxy, fresh, namespace, oauth):
    # These two blame the key.
    names = [name for name in NONSENSE if name not in ("elsewhere", "redirect")]

    def disturb(keys) -> None:
        oauth.behaviour = by(
            client_of,
            {key["clientid"]: NONSENSE[name] for name in keys for key in keys[name]},
        )

    def mend() -> None:
        oauth.behaviour = proper

    endure(
        *(installation, proxy, namespace),
        crs={
            name: destination_cr(name, namespace, MAIL, destinationServiceInstanceName=name)
            for name in names
        },
        keys=lambda: {name: installation.service.service_key() for name in names},
        disturb=disturb,
        mend=mend,
    )


def test_restart_without_destination_service(world, tproxy, make_cluster_tproxy):
    world.leave()
    tproxy.signal(signal.SIGTERM)
    tproxy.wait()
    world.installation.service.stop()
    again = make_cluster_tproxy(world.installation, url=world.proxy.url)
    for port in world.ports.values():
        until(lambda port=port: not is_closed(port), "the listener")
        assert answer(port).startswith(f'-ERR [SYS/TEMP] destination "{MAIL}": ')
    again.ready()
    world.installation.service.start()
    for name, port in world.ports.items():
        until(lambda port=port: answer(port).startswith("+OK"), "the mailbox", every=0.2)
        assert world.installation.available(world.namespace, name) == port
    assert world.deleted() == []
    assert world.installation.service_of(HOME, "stays") == world.service
