"""Attacks of a user of one namespace on other users. docs/security.md names these tests."""

import contextlib
import json
import random
import re
import time

import pytest

from conftest import seed
from harness.backend import Pop3
from harness.clients import RawClient
from harness.dns import hosts_file
from harness.http_server import HttpServer
from harness.installation import INSTANCE, destination_cr, list_and_fetch
from harness.samples import HOME, TENANTS
from harness.tproxy import destination
from harness.users import HostileUser
from harness.util import until

# The label of a namespace that names its installation.
MANAGED_BY = "transparent-proxy.connectivity.api.sap/namespace"

NOT_CONFIGURED = "DestinationServiceInstance-NotConfigured"


def stat(port: int) -> bytes:
    """Returns the answer to the first mailbox command."""
    with RawClient(port) as client:
        return client.command(b"STAT")


def next_second() -> None:
    """Waits for the next second, because the API gives the age of objects in whole seconds."""
    now = int(time.time())
    until(lambda: int(time.time()) > now, "the next second")


@pytest.fixture
def served(installation, alice, add_destination):
    """Returns a function that applies alice's Destination and returns the target port and the
    messages."""

    def serve(name: str = "mail-v") -> tuple[int, list[bytes]]:
        mail = add_destination(name)
        alice.apply(destination_cr(name, alice.namespace, name))
        return installation.available(alice.namespace, name), mail.files()

    return serve


# --- the references of a Destination ---


def test_instance_of_another_namespace(installation, api, make_cluster_tproxy, mallory):
    """The name of an instance is only looked up in the configuration: no Secret is read except
    those that the configuration names."""
    installation.configure()
    make_cluster_tproxy(installation, url=api.url).ready()
    names = ["other", f"{HOME}/{INSTANCE}", f"{INSTANCE}.{HOME}", f"../{HOME}/{INSTANCE}", "*"]
    for i, name in enumerate(names):
        cr = destination_cr(f"m{i}", mallory.namespace, "x", destinationServiceInstanceName=name)
        mallory.apply(cr)
        condition = installation.wait_condition(mallory.namespace, f"m{i}", NOT_CONFIGURED)
        assert f'"{name}" is not configured' in condition["message"]
        assert f'"{INSTANCE}"' not in condition["message"], "the names of others are not told"
    asked = {
        (request.path, request.query.get("fieldSelector"))
        for request in api.requests.all()
        if "/secrets" in request.path
    }
    assert asked == {(f"/api/v1/namespaces/{HOME}/secrets", f"metadata.name={INSTANCE}")}


HOSTILE_REFERENCES = {
    "variable's name": {"chainRef": {"name": "c", "variables": [{"name": "v: x", "value": "y"}]}},
    "variable's value": {"chainRef": {"name": "c", "variables": [{"name": "v", "value": "é"}]}},
    "blanks": {"chainRef": {"name": "c", "variables": [{"name": "v", "value": " y "}]}},
    "chain": {"chainRef": {"name": "ché"}},
    "fragment": {"fragmentRef": {"name": "fragmént"}},
    "empty variable": {"chainRef": {"name": "c", "variables": [{"name": "v v", "value": ""}]}},
}


def test_text_that_would_reach_a_header(installation, cluster_tproxy, mallory):
    """The text is refused, and the Destination service never sees it."""
    for i, spec in enumerate(HOSTILE_REFERENCES.values()):
        mallory.apply(destination_cr(f"m{i}", mallory.namespace, f"hostile-{i}", **spec))
    for i, what in enumerate(HOSTILE_REFERENCES):
        condition = installation.wait_condition(mallory.namespace, f"m{i}", "ConfigurationFailed")
        assert "spec." in condition["message"], what
    assert not [r for r in installation.service.requests.all() if "hostile" in r.path]


@pytest.mark.parametrize("name", ["a/../../b", "..", "a?b=c#d", "%2e%2e/x", "a@subaccount", "ä b"])
@pytest.mark.one_build
def test_name_of_a_destination_is_one_segment(installation, cluster_tproxy, mallory, name):
    """No name leads to another page of the Destination service."""
    mallory.apply(destination_cr("mail", mallory.namespace, name))
    installation.wait_condition(mallory.namespace, "mail", "NotFound")
    for request in installation.service.requests.all():
        assert re.fullmatch(r"/destination-configuration/v1/destinations/[^/?#]+", request.path)


# --- the address in a destination ---


def test_own_target_of_another_user(installation, cluster_tproxy, served, mallory):
    """A destination may lead to a target port, which the pod itself can always reach. That is a
    loop, and nothing of the other mailbox is shown."""
    victim, messages = served()
    installation.service.destinations["loop"] = destination("loop", "127.0.0.1", victim)
    mallory.apply(destination_cr("loop", mallory.namespace, "loop"))
    port = installation.available(mallory.namespace, "loop")
    answer = stat(port)
    assert re.match(rb"-ERR \[SYS/PERM\] .*loop", answer), answer
    assert list_and_fetch(victim) == messages


def test_peer_that_does_not_speak_pop3(installation, cluster_tproxy, mallory, backends):
    """If a destination leads to the API server, another Service or a port of the node, nothing is
    sent before the greeting of a POP3 server, and the peer's words reach a client as one short
    line."""
    words = b"HTTP/1.1 400 Bad Request\r\n" + b"Secret: x\x07\r\n" * 1000 + b"\r\n"
    peers = {"http": words, "ssh": b"SSH-2.0-OpenSSH_9\r\n" + b"y" * 3000}
    for name, greeting in peers.items():
        peer = backends(Pop3(greeting=greeting))
        installation.service.destinations[name] = destination(name, peer.host, peer.port)
        mallory.apply(destination_cr(name, mallory.namespace, name))
        answer = stat(installation.available(mallory.namespace, name))
        assert answer.startswith(b"-ERR [SYS/TEMP] ") and len(answer) <= 510, answer
        assert b"Secret" not in answer and not re.search(rb"[^ -~]", answer)
        assert not [line for line in peer.heard() if line]


@pytest.fixture
def start_strict(make_cluster_tproxy, installation):
    """Starts the program without --allow-loopback, as in a pod."""

    def start(*arguments: str):
        installation.configure()
        return make_cluster_tproxy(installation, "--allow-loopback", None, *arguments).ready()

    return start


LOCAL = ["127.0.0.1", "localhost", "127.1", "[::1]", "::ffff:127.0.0.1", "0.0.0.0"]


@pytest.mark.one_build
def test_loopback_as_mail_server(installation, start_strict, mallory):
    start_strict()
    for i, host in enumerate(LOCAL):
        installation.service.destinations[f"d{i}"] = destination(f"d{i}", host, 110)
        mallory.apply(destination_cr(f"m{i}", mallory.namespace, f"d{i}"))
    for i, _ in enumerate(LOCAL):
        installation.wait_condition(mallory.namespace, f"m{i}", "LoopbackUrlNotSupported")


METADATA = ["169.254.169.254", "::ffff:169.254.169.254", "metadata.test", "loop.test"]


@pytest.mark.one_build
def test_link_local_as_mail_server(installation, start_strict, mallory, directory):
    """The metadata address of a cloud is refused, as a number and behind a name; so are names of
    this machine."""
    hosts = hosts_file(directory, "loop.test")
    hosts.write_text(hosts.read_text() + "169.254.169.254 metadata.test\n")
    start_strict("--hosts", str(hosts))
    for i, host in enumerate(METADATA):
        installation.service.destinations[f"d{i}"] = destination(f"d{i}", host, 110)
        mallory.apply(destination_cr(f"m{i}", mallory.namespace, f"d{i}"))
    for i, host in enumerate(METADATA):
        answer = stat(installation.available(mallory.namespace, f"m{i}"))
        assert answer.startswith(b"-ERR [SYS/PERM] "), (host, answer)
        assert b"which is not allowed" in answer, (host, answer)


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "loop.test"])
@pytest.mark.one_build
def test_token_service_on_the_node(installation, start_strict, mallory, directory, host):
    """If the Destination service has no token, tproxy asks the token service itself. It would send
    the texts in the destination and pass the answer's token on to the mail server, so a metadata
    service must not be reachable."""
    installation.service.token_error = "no token today"
    start_strict("--hosts", str(hosts_file(directory, "loop.test")))
    with HttpServer() as metadata:
        port = metadata.url.rpartition(":")[2]
        installation.service.destinations["d"] = destination(
            "d",
            "mail.example.com",
            110,
            Authentication="OAuth2ClientCredentials",
            tokenServiceURL=f"http://{host}:{port}/computeMetadata/v1/token",
            clientId="c",
            clientSecret="Client-5ecret",
        )
        mallory.apply(destination_cr("m", mallory.namespace, "d"))
        answer = stat(installation.available(mallory.namespace, "m"))
        assert answer.startswith(b"-ERR [SYS/PERM] "), answer
        assert b"which is not allowed" in answer, answer
        assert not metadata.requests.all()


# --- sessions ---


def test_sessions_of_one_namespace(
    installation, make_cluster_tproxy, alice, mallory, add_destination
):
    """Clients that have logged in keep their places. All mailboxes of a namespace together have at
    most three quarters of the places, so that others get one."""
    installation.configure()
    proxy = make_cluster_tproxy(installation, "--max-sessions", "8").ready()
    ports = {}
    for user, name in ((alice, "mail-v"), (mallory, "own-a"), (mallory, "own-b")):
        add_destination(name)
        user.apply(destination_cr(name, user.namespace, name))
        ports[name] = installation.available(user.namespace, name)
    with contextlib.ExitStack() as stack:

        def come(name: str) -> bytes:
            client = stack.enter_context(RawClient(ports[name]))
            if client.greeting.startswith(b"+OK"):
                assert client.command(b"STAT").startswith(b"+OK")
            return client.greeting

        for name in ("own-a", "own-b") * 3:
            assert come(name).startswith(b"+OK")
        for name in ("own-a", "own-b"):
            assert come(name).startswith(b"-ERR [SYS/TEMP] too many connections")
        for _ in range(2):
            assert come("mail-v").startswith(b"+OK")
    proxy.logs.wait(lambda line: "for one namespace" in line["msg"], "the bound in the log")


# --- names ---


def test_names_that_collide_with_a_tenants(
    installation, make_cluster_tproxy, oauth, oauth_dovecot, directory, alice, mallory
):
    """In shared mode, the Destination a-b of one user needs the same Service for the tenant c as
    the Destination a of another user for the tenant b-c. The Destination that has the Service keeps
    it, although the other one is older."""
    service = installation.service
    for tenant in ("acme", "b-c", "c"):
        mail = oauth_dovecot.mailbox([f"Subject: {tenant}\r\n\r\n".encode()])
        login = {"mail__user": mail.user, "mail__password": mail.password}
        service.tenant(tenant).destinations["mail"] = destination(
            "mail", oauth_dovecot.host, oauth_dovecot.pop3, **login
        )
    installation.key = service.service_key(by_name=True)
    installation.configure(tenantMode="shared")
    make_cluster_tproxy(installation, "--hosts", str(hosts_file(directory, *oauth.host_names())))

    def apply(user, name: str, *tenants: str) -> None:
        made = destination_cr(name, user.namespace, "mail")
        made["metadata"]["annotations"] = {TENANTS: json.dumps(tenants)}
        user.apply(made)

    apply(mallory, "a-b", "acme")
    installation.wait_condition(mallory.namespace, "a-b", "ConfigurationSuccessful")
    next_second()
    apply(alice, "a", "b-c")
    installation.wait_condition(alice.namespace, "a", "ConfigurationSuccessful")
    port = installation.target_port("a-b-c")
    apply(mallory, "a-b", "acme", "c")
    said = installation.wait_condition(mallory.namespace, "a-b", "FailedToApplyConfiguration")
    assert f'"a" in the namespace "{alice.namespace}"' in said["message"]
    assert installation.target_port("a-b-c") == port
    assert list_and_fetch(port) == [b"Subject: b-c\r\n\r\n"]


def test_large_annotations(installation, make_cluster_tproxy, alice, mallory):
    """Annotations as large as the API server accepts are refused as lists of tenants, and other
    users are served."""
    installation.configure(tenantMode="shared")
    proxy = make_cluster_tproxy(installation).ready()
    for i, text in enumerate(("x" * 250_000, json.dumps([f"t{i}" for i in range(20_000)]))):
        cr = destination_cr(f"m{i}", mallory.namespace, "nothing")
        cr["metadata"]["annotations"] = {TENANTS: text}
        mallory.create(mallory.destinations, cr)
        said = installation.wait_condition(mallory.namespace, f"m{i}", "Annotation-Invalid")
        assert len(said["message"]) < 1024
    cr = destination_cr("a", alice.namespace, "nothing")
    cr["metadata"]["annotations"] = {TENANTS: '["t"]'}
    alice.apply(cr)
    installation.wait_condition(alice.namespace, "a", "FailedToApplyConfiguration")
    assert proxy.http("/readyz")[0] == 200


# --- a user's own objects ---


def test_alias_that_its_user_changes(
    installation, cluster_tproxy, served, mallory, add_destination
):
    """Users may change the Services in their own namespaces. That affects only their own clients,
    and the Services are repaired."""
    victim, messages = served()
    before = installation.service_of(HOME, "mail-v")
    add_destination("own")
    mallory.apply(destination_cr("own", mallory.namespace, "own"))
    installation.available(mallory.namespace, "own")
    alias = f"{mallory.services}/own"
    right = mallory.get(alias)["spec"]["externalName"]
    elsewhere = {"spec": {"externalName": f"mail-v.{HOME}.svc.cluster.local"}}
    claim = {"metadata": {"labels": {"tproxy/destination-name": "mail-v"}}}
    for change in (elsewhere, claim):
        mallory.patch(alias, change)

        def is_right() -> bool:
            service = installation.service_of(mallory.namespace, "own") or {"metadata": {}}
            labels = service["metadata"].get("labels", {})
            same = labels.get("tproxy/destination-name") == "own"
            return same and service["spec"]["externalName"] == right

        until(is_right, "the alias to come back", every=0.05)
    assert installation.service_of(HOME, "mail-v") == before
    assert list_and_fetch(victim) == messages


def time_series(proxy) -> set:
    """Returns the time series of the metrics. A request to the API server that fails in a new way
    adds one, and there are few ways, so those do not count."""
    return {
        (sample.name, *sorted(sample.labels.items()))
        for samples in proxy.metrics().values()
        for sample in samples
        if not (sample.name == "tproxy_kube_requests_total" and sample.labels["result"] != "ok")
    }


@pytest.mark.one_build
def test_pages_and_figures(installation, make_cluster_tproxy, alice, mallory, add_destination):
    """The metrics do not name Destinations, so that users cannot increase their number. The status
    page names the Destinations of all namespaces; docs/security.md says who may reach it."""
    installation.configure(metrics={"prometheus": {"enabled": True}})
    proxy = make_cluster_tproxy(installation).ready()
    add_destination("own")
    before = time_series(proxy)
    users = (alice, mallory)
    for i, user in enumerate(users):
        user.apply(destination_cr(f"mail-{i}", user.namespace, "own"))
        installation.available(user.namespace, f"mail-{i}")
    assert time_series(proxy) == before
    text = proxy.http("/metrics")[1]
    assert not [user for user in users if user.namespace in text] and "mail-0" not in text
    page = json.loads(proxy.http("/destinationCRs")[1])
    assert {cr["Namespace"] for cr in page["CustomResources"]} == {u.namespace for u in users}


def test_namespace_that_is_labelled_and_unlabelled(
    installation, make_cluster_tproxy, alice, mallory, add_destination
):
    """A namespace that is labelled and unlabelled again and again leaves nothing behind, and others
    are not affected."""
    installation.configure(managedNamespacesMode="labelSelector")
    make_cluster_tproxy(installation).ready()
    mails = {user: add_destination(user.name) for user in (alice, mallory)}

    def label(user, value: str | None) -> None:
        change = {"metadata": {"labels": {MANAGED_BY: value}}}
        installation.kube.patch(f"/api/v1/namespaces/{user.namespace}", change)

    label(alice, HOME)
    alice.apply(destination_cr("mail-a", alice.namespace, "alice"))
    mallory.apply(destination_cr("mail-m", mallory.namespace, "mallory"))
    port = installation.available(alice.namespace, "mail-a")
    before = installation.service_of(HOME, "mail-a")
    for i in range(30):
        label(mallory, HOME if i % 2 == 0 else None)
    label(mallory, HOME)

    def is_served() -> bool:
        """The condition may be one from before."""
        said = installation.condition(mallory.namespace, "mail-m")
        return said.get("status") == "True" and bool(installation.service_of(HOME, "mail-m"))

    until(is_served, "mallory's mailbox", every=0.05)
    assert list_and_fetch(installation.target_port("mail-m")) == mails[mallory].files()
    label(mallory, None)
    until(lambda: not installation.service_of(HOME, "mail-m"), "the Service to go", every=0.05)
    until(lambda: not installation.condition(mallory.namespace, "mail-m"), "no condition")
    assert installation.service_of(HOME, "mail-a") == before
    assert list_and_fetch(port) == mails[alice].files()


ACTIONS = 60


def test_everything_that_a_user_may_do(
    installation, make_cluster_tproxy, served, alice, add_destination
):
    """Random actions of a user against another one: the other's mailbox stays as it is, a new one
    is served, and nothing of the actions remains."""
    installation.configure()
    proxy = make_cluster_tproxy(installation).ready()
    victim, messages = served()
    before = installation.service_of(HOME, "mail-v")
    healthcheck = installation.service_of(HOME, "sap-transp-proxy-int-healthcheck")
    add_destination("own")
    rng = random.Random(seed())
    victims = [(alice.namespace, "mail-v")]
    next_second()  # otherwise the alphabet decides which CR has the name mail-v
    mallory = HostileUser(installation.kube, "mallory", rng, victims, "own")
    try:
        for i in range(ACTIONS):
            mallory.act()
            if i == ACTIONS // 2:
                assert list_and_fetch(served("mail-w")[0])
        assert list_and_fetch(victim) == messages
        assert installation.service_of(HOME, "mail-v") == before
        mallory.leave()
        until(lambda: not leftovers(installation, mallory.namespace), "nothing of it", every=0.1)
        assert installation.service_of(HOME, "mail-v") == before
        assert installation.service_of(HOME, healthcheck["metadata"]["name"]) == healthcheck
        assert installation.condition(alice.namespace, "mail-v")["status"] == "True"
        assert list_and_fetch(victim) == messages
        assert proxy.http("/readyz")[0] == 200
    except Exception:
        print("\n".join(mallory.done))
        raise


def leftovers(installation, namespace: str) -> list[str]:
    """Returns the Services and policies for the Destinations of a namespace."""
    services = installation.kube.items("/api/v1/services")
    label = "tproxy/destination-namespace"
    found = [s for s in services if s["metadata"].get("labels", {}).get(label) == namespace]
    names = [f"{s['metadata']['namespace']}/{s['metadata']['name']}" for s in found]
    return names + [name for name in installation.policies() if name.endswith(f"-{namespace}")]
