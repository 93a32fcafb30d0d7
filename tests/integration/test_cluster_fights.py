"""Another writer changes what tproxy has written, or the API server does not store it: there are
few requests and one Event, and nothing of others is lost."""

import contextlib
import itertools
import json
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from harness.dns import hosts_file
from harness.fault_proxy import FaultProxy, list_of, refuse, watch_of
from harness.http_server import Exchange, Request, Response, once, status, where
from harness.installation import CRS, TARGET_PORTS, destination_cr, list_and_fetch
from harness.kube import ApiError, Kube
from harness.samples import TENANTS
from harness.tproxy import Tproxy, destination
from harness.util import PATIENCE, until

MAIL = "mail"
CRD = (
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"
    "destinations.destination.connectivity.api.sap"
)
# The seconds before each repair: the first one is made at once.
PAUSES = [0, 1, 2, 4]


@pytest.fixture
def tproxy(installation, api, make_cluster_tproxy) -> Tproxy:
    installation.configure()
    return make_cluster_tproxy(installation, url=api.url).ready()


@pytest.fixture
def served(installation, tproxy, namespace, add_destination) -> str:
    """The path of a CR that is served."""
    add_destination(MAIL)
    installation.kube.apply(destination_cr(MAIL, namespace, MAIL))
    installation.available(namespace, MAIL)
    until(lambda: len(installation.events(namespace)) == 1, "the Event about it")
    return f"{CRS}/namespaces/{namespace}/destinations/{MAIL}"


def writes(api: FaultProxy, plural: str, method: str = "PATCH") -> list[Request]:
    return [r for r in api.writes() if r.method == method and f"/{plural}" in r.path]


def does_not_stay(line: dict) -> bool:
    return "does not stay as it is written" in line["msg"]


@contextlib.contextmanager
def opponent(undo: Callable[[], None]) -> Iterator[None]:
    """Undoes a change again and again."""
    end = threading.Event()

    def go_on() -> None:
        while not end.wait(0.02):
            with contextlib.suppress(ApiError):  # there may be nothing to undo
                undo()

    thread = threading.Thread(target=go_on)
    thread.start()
    yield
    end.set()
    thread.join()


def fight(undo: Callable[[], None], repairs: Callable[[], list[Request]]) -> None:
    """Undoes until some repairs have been made, and checks that the pauses between them grow."""
    before = len(repairs())
    with opponent(undo):
        until(lambda: len(repairs()) >= before + len(PAUSES), "repairs")
    times = [request.time for request in repairs()[before:]][: len(PAUSES)]
    for pause, (first, second) in zip(PAUSES[1:], itertools.pairwise(times), strict=True):
        assert second - first > 0.9 * pause


def leads_home(service: dict | None, port: int) -> bool:
    spec = (service or {}).get("spec", {"externalName": "", "ports": [{}]})
    return spec["externalName"].startswith(MAIL) and spec["ports"][0]["port"] == port


@pytest.mark.parametrize("how", ["change", "delete"])
def test_alias(installation, api, namespace, served, how):
    kube = installation.kube
    path = f"/api/v1/namespaces/{namespace}/services/{MAIL}"

    def change() -> None:
        if kube.get(path)["spec"]["externalName"] != "theirs.example.com":
            kube.patch(path, {"spec": {"externalName": "theirs.example.com"}})

    def delete() -> None:
        kube.delete(path)

    undo, method = {"change": (change, "PATCH"), "delete": (delete, "POST")}[how]
    fight(undo, lambda: writes(api, f"{namespace}/services", method))
    condition = installation.wait_condition(namespace, MAIL, "ServiceCreationFailed")
    assert f'"{MAIL}" in the namespace "{namespace}" does not stay' in condition["message"]
    until(lambda: len(installation.events(namespace)) == 2, "the Event about it")
    assert list_and_fetch(installation.target_port(MAIL))

    # A changed spec does not wait.
    kube.patch(served, {"spec": {"service": {"port": 2110}}})
    until(lambda: leads_home(installation.service_of(namespace, MAIL), 2110), "the other port")
    installation.available(namespace, MAIL)


def test_owner_of_others(installation, namespace, served):
    """A foreign owner stays beside the CR when the alias is repaired."""
    kube = installation.kube
    path = f"/api/v1/namespaces/{namespace}/services/{MAIL}"
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    kube.create(maps, {"metadata": {"name": "theirs"}})
    uid = kube.get(f"{maps}/theirs")["metadata"]["uid"]
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "name": "theirs", "uid": uid}
    ours = kube.get(path)["metadata"]["ownerReferences"]
    kube.patch(
        path,
        {
            "metadata": {"ownerReferences": [theirs, *ours]},
            "spec": {"externalName": "theirs.example.com"},
        },
    )
    until(lambda: leads_home(installation.service_of(namespace, MAIL), 110), "the repair")
    assert kube.get(path)["metadata"]["ownerReferences"] == [*ours, theirs]


def test_status(installation, api, namespace, served, tproxy):
    kube = installation.kube

    def undo() -> None:
        conditions = kube.get(served)["status"]["conditions"]
        if conditions[-1]["reason"] != "Theirs":
            conditions[-1] |= {"status": "False", "reason": "Theirs", "message": "no"}
            kube.patch(f"{served}/status", {"status": {"conditions": conditions}})

    fight(undo, lambda: writes(api, "destinations"))
    until(lambda: len(installation.events(namespace)) == 2, "the Event about it")
    reasons = [event["reason"] for event in installation.events(namespace)]
    assert sorted(reasons) == ["ConfigurationSuccessful", "StatusContested"]
    tproxy.logs.wait(does_not_stay, "the line about it")
    assert len([line for line in tproxy.logs.all() if does_not_stay(line)]) == 1

    # A changed spec does not wait.
    kube.patch(served, {"spec": {"destinationRef": {"name": "other"}}})
    installation.wait_condition(namespace, MAIL, "NotFound")


def conditions_of(kube: Kube, path: str) -> list[str]:
    return [condition["type"] for condition in kube.get(path)["status"]["conditions"]]


def add_condition(kube: Kube, path: str, place: int) -> None:
    cr = kube.get(path)
    audited = {"type": "Audited", "status": "True", "reason": "Fine", "message": "by another one"}
    cr["status"]["conditions"].insert(place, audited)
    kube.request("PUT", f"{path}/status", cr)


def test_lost_update(installation, api, namespace, tproxy, add_destination):
    """A condition of another controller that the watch has not reported is kept."""
    kube = installation.kube
    kube.apply(destination_cr(MAIL, namespace, MAIL))
    installation.wait_condition(namespace, MAIL, "NotFound")
    path = f"{CRS}/namespaces/{namespace}/destinations/{MAIL}"
    with api.stalled(watch_of("destinations")):
        add_condition(kube, path, 0)
        add_destination(MAIL)
        installation.wait_condition(namespace, MAIL, "ConfigurationSuccessful")
        assert conditions_of(kube, path) == ["Audited", "Available"]
    assert not [line for line in tproxy.logs.all() if "Conflict" in line["msg"]]


def test_condition_behind_ours(installation, api, namespace, served):
    """Available is the last condition, because `kubectl get` shows that one in its column."""
    kube = installation.kube
    before = len(writes(api, "destinations"))
    add_condition(kube, served, 1)
    until(lambda: conditions_of(kube, served) == ["Audited", "Available"], "ours to be the last")
    assert len(writes(api, "destinations")) == before + 1
    assert len(installation.events(namespace)) == 1


@pytest.fixture
def change_crd(installation) -> Iterator[Callable]:
    """Replaces the CRD with an older one until the end of the test."""
    kube = installation.kube
    versions = kube.get(CRD)["spec"]["versions"]

    def change(change_version: Callable[[dict], None]) -> None:
        older = json.loads(json.dumps(versions))
        change_version(older[0])
        kube.patch(CRD, {"spec": {"versions": older}})

    yield change
    change(lambda version: None)
    until(installation.served, "the resources to be served again")


def test_pruned_field(
    installation, api, namespace, oauth, oauth_dovecot, make_cluster_tproxy, change_crd, directory
):
    kube, path = installation.kube, f"{CRS}/namespaces/{namespace}/destinations"

    def drop_tenants(version: dict) -> None:
        del version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["tenants"]

    change_crd(drop_tenants)
    installation.key = installation.service.service_key(by_name=True)
    installation.configure(tenantMode="shared")
    mail = oauth_dovecot.mailbox([b"Subject: one\r\n\r\n"])
    installation.service.tenant("acme").destinations[MAIL] = destination(
        *(MAIL, oauth_dovecot.host, oauth_dovecot.pop3),
        mail__user=mail.user,
        mail__password=mail.password,
    )
    probe = {**destination_cr("probe", namespace, MAIL), "status": {"tenants": []}}
    kube.create(path, probe)
    until(
        lambda: (
            "tenants"
            not in kube.patch(
                f"{path}/probe/status", {"status": {"tenants": [{"tenantSubdomain": "x"}]}}
            ).get("status", {})
        ),
        "the definition to be in force",
    )
    kube.delete(f"{path}/probe")
    hosts = hosts_file(directory, *oauth.host_names("nobody"))
    tproxy = make_cluster_tproxy(
        installation, "--hosts", str(hosts), *TARGET_PORTS, url=api.url
    ).ready()
    for name in ("first", "second", "third"):
        cr = destination_cr(name, namespace, MAIL)
        cr["metadata"]["annotations"] = {TENANTS: '["acme"]'}
        kube.apply(cr)
        installation.wait_condition(namespace, name, "ConfigurationSuccessful")
    for name in ("first", "second"):
        assert len(writes(api, f"destinations/{name}/status")) == 1
    until(lambda: "status.tenants" in tproxy.http("/status")[1], "the page to say so")
    tproxy.logs.wait(lambda line: "status.tenants" in line["msg"], "the line about it")
    assert len([line for line in tproxy.logs.all() if "status.tenants" in line["msg"]]) == 1


def test_words_of_another_server(installation, api, namespace, tproxy, add_destination):
    """Failures that differ only in a number count as the same failure."""
    service, asked = installation.service, []
    proper = service.answer

    def answer(request: Request) -> Response:
        if f"/{MAIL}" not in request.path:
            return proper(request)
        asked.append(request)
        return Response.json(500, {"ErrorMessage": f"Internal error, request {len(asked)}"})

    service.answer = answer
    installation.kube.apply(destination_cr(MAIL, namespace, MAIL))
    condition = installation.wait_condition(namespace, MAIL, "ConfigurationFailed")
    assert "Internal error, request " in condition["message"]
    until(lambda: len(asked) >= 3, "more readings")
    assert len(writes(api, "destinations")) == 1
    assert len(installation.events(namespace)) == 1

    service.answer = proper
    add_destination(MAIL)
    installation.available(namespace, MAIL)
    until(lambda: len(installation.events(namespace)) == 2, "the second Event")


def test_no_subresource(
    installation, api, namespace, make_cluster_tproxy, change_crd, add_destination
):
    """Mailboxes are served although no condition can be written."""
    kube = installation.kube
    add_destination(MAIL)
    change_crd(lambda version: version.pop("subresources"))
    path = f"{CRS}/namespaces/{namespace}/destinations"
    kube.apply(destination_cr("first", namespace, MAIL), destination_cr("second", namespace, MAIL))

    def gone() -> bool:
        try:
            kube.patch(f"{path}/first/status", {"status": {}})
        except ApiError as error:
            return error.code == 404
        return False

    until(gone, "the definition to be in force")
    installation.configure()
    tproxy = make_cluster_tproxy(installation, url=api.url).ready()
    for name in ("first", "second"):
        until(lambda name=name: installation.service_of(namespace, name), "the Service")
        assert list_and_fetch(installation.target_port(name))
    until(lambda: told_missing(installation), "the Event")
    assert "subresource status" in tproxy.http("/status")[1]
    assert len(writes(api, "destinations")) <= 4
    change_crd(lambda version: None)
    for name in ("first", "second"):
        until(
            lambda name=name: installation.condition(namespace, name).get("status") == "True",
            "the condition",
            patience=3 * PATIENCE,
        )
    assert len(told_missing(installation)) == 1


def told_missing(installation) -> list[dict]:
    events = installation.events(installation.home)
    return [event for event in events if event["reason"] == "StatusSubresourceMissing"]


FORBIDDEN = refuse(403, "Forbidden", "no")
UNKNOWN = status(404, b"404 page not found\n")


def no_namespaces(exchange: Exchange) -> None:
    metadata = {"resourceVersion": "1"}
    body = {"kind": "NamespaceList", "apiVersion": "v1", "metadata": metadata, "items": []}
    exchange.reply(Response.json(200, body))


@pytest.mark.parametrize(
    ("kind", "answer", "code"),
    [
        ("secrets", FORBIDDEN, 403),
        ("namespaces", FORBIDDEN, 403),
        ("services", FORBIDDEN, 403),
        ("secrets", UNKNOWN, 404),
        ("transparentproxies", UNKNOWN, 404),
        ("namespaces", no_namespaces, 200),
    ],
)
def test_refused_at_the_start(
    installation, api, namespace, served, tproxy, make_cluster_tproxy, kind, answer, code
):
    """A first list that is refused or empty changes nothing: conditions and Services stay, and the
    kind is soon listed again."""
    tproxy.signal(signal.SIGTERM)
    tproxy.wait()
    port, before = installation.target_port(MAIL), len(api.requests)
    api.behaviour = where(list_of(kind), once(answer))
    make_cluster_tproxy(installation, url=api.url).ready()

    def lists() -> list[int]:
        later = api.requests.all()[before:]
        return [request.status for request in later if list_of(kind)(request)]

    until(lambda: lists()[:2] == [code, 200], "the list after the first one")
    later = api.requests.all()[before:]
    assert list_and_fetch(port)
    assert not [request for request in api.writes() if request in later]
    assert len(installation.events(namespace)) == 1


def test_definition_not_shown(installation, api, namespace, served):
    """The CRD cannot be read at the first attempt after a CR is deleted. It is read again, and then
    the mailbox is removed."""
    api.behaviour = where(lambda request: request.path == CRD, once(FORBIDDEN))
    installation.kube.delete(served)
    until(lambda: installation.service_of(namespace, MAIL) is None, "the Service to go")
    asked = [request.status for request in api.requests.all() if request.path == CRD]
    assert asked == [403, 200]
