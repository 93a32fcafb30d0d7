"""The life of a cluster under valgrind: objects come, change, fail and are deleted, and no memory
is lost or misused."""

import signal
import threading

import pytest

from harness.clients import RawClient
from harness.destination_service import key_secret
from harness.fault_proxy import (
    FaultProxy,
    list_of,
    refuse,
    refuse_in_watch,
    too_many,
    watch_of,
)
from harness.http_server import after, cut_json, garbage, once, proper, status, where
from harness.installation import (
    CRS,
    INSTANCE,
    PROXIES,
    Installation,
    destination_cr,
    list_and_fetch,
)
from harness.samples import HOME
from harness.util import until

pytestmark = [pytest.mark.slow, pytest.mark.valgrind, pytest.mark.timeout(400)]

NAMES = [f"mail-{number}" for number in range(8)]


@pytest.fixture
def api(installation):
    with FaultProxy(installation.kube) as proxy:
        yield proxy


@pytest.fixture
def many(installation, add_destination, oauth, namespace):
    """Creates a CR for each name, every second one with tokens."""
    for number, name in enumerate(NAMES):
        mail = add_destination(name)
        if number % 2:
            client = oauth.mail_client(mail.user)
            installation.service.destinations[name] |= oauth.properties(client)
    installation.kube.apply(*(destination_cr(name, namespace, name) for name in NAMES))


def path_of(namespace: str, name: str) -> str:
    return f"{CRS}/namespaces/{namespace}/destinations/{name}"


def use(installation: Installation, namespace: str) -> None:
    """Opens sessions with each mailbox, and one that nobody ends."""
    for name in NAMES:
        port = installation.available(namespace, name)
        assert len(list_and_fetch(port)) == 1
        with RawClient(port) as client:
            assert client.command(b"LIST").startswith(b"+OK")


def wait_nothing_left(installation: Installation) -> None:
    until(lambda: not installation.ours(), "nothing of ours to be left", every=0.1)


def delete_all(installation: Installation) -> None:
    for cr in installation.kube.items(f"{CRS}/destinations"):
        about = cr["metadata"]
        installation.kube.delete(path_of(about["namespace"], about["name"]))
    wait_nothing_left(installation)


def test_come_change_and_go(installation, make_cluster_tproxy, many, namespace, secrets):
    """The program talks TLS to the API server. A question is under way at the end."""
    kube, service = installation.kube, installation.service
    first, second, third = (path_of(namespace, name) for name in NAMES[:3])
    installation.configure(metrics={"prometheus": {"enabled": True}})
    proxy = make_cluster_tproxy(installation)
    use(installation, namespace)

    kube.patch(first, {"spec": {"service": {"port": 1110}}})
    kube.patch(second, {"spec": {"destinationRef": {"name": "another"}}})
    kube.patch(third, {"spec": {"accessControl": {"scope": "clusterWide"}}})
    other = kube.namespace()
    kube.apply(destination_cr(NAMES[0], other, NAMES[0]), destination_cr("x" * 64, other, "y"))
    installation.wait_condition(namespace, NAMES[1], "NotFound")
    installation.wait_condition(other, NAMES[0], "DuplicateDestinationCustomResource")
    installation.wait_condition(other, "x" * 64, "ServiceCreationFailed")

    wrong = {**installation.key, "clientsecret": secrets.new()}
    kube.apply(key_secret(INSTANCE, HOME, wrong, "key"))
    installation.wait_condition(namespace, NAMES[3], "DestinationServiceInstance-NotConfigured")
    kube.delete(f"/api/v1/namespaces/{HOME}/secrets/{INSTANCE}")
    kube.delete(f"{PROXIES}/transparent-proxy")
    installation.key = service.service_key()
    installation.configure(tenantMode="nonsense")
    installation.configure(managedNamespacesMode="labelSelector")
    wait_nothing_left(installation)
    installation.configure(metrics={"prometheus": {"enabled": True}})
    kube.patch(first, {"spec": {"service": None}})
    kube.patch(second, {"spec": {"destinationRef": {"name": NAMES[1]}}})
    use(installation, namespace)
    delete_all(installation)

    held = threading.Event()
    service.behaviour = after(held)
    before = proxy.metric("tproxy_destination_cache_total", result="misses")
    kube.apply(destination_cr("last", namespace, "last"))
    until(
        lambda: proxy.metric("tproxy_destination_cache_total", result="misses") > before,
        "the question",
    )
    proxy.signal(signal.SIGTERM)
    proxy.wait()
    held.set()


def test_servers_fail(installation, make_cluster_tproxy, many, namespace, api, oauth):
    kube, service = installation.kube, installation.service
    installation.configure()
    make_cluster_tproxy(installation, url=api.url)
    use(installation, namespace)

    for plural in ("destinations", "services", "secrets"):
        api.drop(watch_of(plural))
    api.cut(watch_of("destinations"), after=700)
    api.behaviour = once(too_many, times=5)
    kube.patch(path_of(namespace, NAMES[0]), {"spec": {"service": {"port": 1110}}})
    lists = number_of_lists(api)
    expired = once(refuse_in_watch(410, "Expired"), times=3)
    api.behaviour = where(watch_of("destinations"), expired)
    api.drop(watch_of("destinations"))
    until(lambda: number_of_lists(api) > lists, "another list")
    api.behaviour = once(refuse(500, "InternalError"), times=3)
    api.drop()

    # With another key everything is asked again at once.
    for behaviour in (garbage, cut_json, status(503), proper):
        service.behaviour, oauth.behaviour = once(behaviour), once(behaviour)
        installation.key = service.service_key()
        installation.configure()
        asked = installation.key["clientid"]
        until(lambda: oauth.requests_of(asked), "a request for a token")
    use(installation, namespace)
    delete_all(installation)


def number_of_lists(api: FaultProxy) -> int:
    return sum(list_of("destinations")(request) for request in api.requests.all())
