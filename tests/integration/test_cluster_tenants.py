"""config.tenantMode: shared. A custom resource has a Service for each of its tenants, and no tenant
disturbs another: they are added, removed, fail and work again while the program runs."""

import json
import signal

import pytest

from harness.clients import is_closed
from harness.dns import hosts_file
from harness.fault_proxy import list_of, refuse
from harness.http_server import once, proper, silent, where
from harness.installation import CRS, PROXIES, TARGET_PORTS, destination_cr, list_and_fetch
from harness.samples import DESTINATIONS, HOME, TENANTS
from harness.tproxy import destination
from harness.util import until

NAME = "example-dest-pop3"
FAILED = "FailedToApplyConfiguration"
INVALID = "MultitenancyAnnotation-Invalid"


def shared_cr(namespace: str, *tenants: str, name: str = "mail-h") -> dict:
    cr = destination_cr(name, namespace, NAME)
    cr["metadata"]["annotations"] = {TENANTS: json.dumps(tenants)}
    return cr


class Shared:
    """An installation in shared mode, and tenants with a mailbox each."""

    def __init__(self, installation, dovecot, namespace: str):
        self.installation = installation
        self.namespace = namespace
        self._dovecot = dovecot

    def give(self, *tenants: str, name: str = NAME) -> None:
        """Gives each tenant a destination with this name and a mail that names the tenant."""
        for tenant in tenants:
            mail = self._dovecot.mailbox([mail_of(tenant)])
            host, port = self._dovecot.host, self._dovecot.pop3
            login = {"mail__user": mail.user, "mail__password": mail.password}
            there = self.installation.service.tenant(tenant).destinations
            there[name] = destination(name, host, port, **login)

    def apply(self, *tenants: str, name: str = "mail-h") -> None:
        self.installation.kube.apply(shared_cr(self.namespace, *tenants, name=name))

    def serves(self, *tenants: str, name: str = "mail-h") -> dict[str, int]:
        """Waits until these tenants and no others are served. Returns their ports."""
        wanted = [{"tenantSubdomain": tenant} for tenant in sorted(tenants)]
        until(lambda: self.shown(name) == wanted, f"{wanted} to be served", every=0.05)
        services = sorted(f"{name}-{tenant}" for tenant in tenants)
        for where in {HOME, self.namespace}:
            assert [s for s in self.services(where) if s.startswith(f"{name}-")] == services
        ports = {t: self.installation.target_port(f"{name}-{t}") for t in tenants}
        for tenant, port in ports.items():
            assert list_and_fetch(port) == [mail_of(tenant)]
        return ports

    def shown(self, name: str = "mail-h") -> list[dict]:
        cr = self.installation.cr(self.namespace, name)
        return cr.get("status", {}).get("tenants", [])

    def services(self, namespace: str) -> list[str]:
        # A policy may be created or deleted between two of these questions.
        policies = set(self.installation.policies())
        names = [n.split("/") for n in self.installation.ours()]
        policies |= set(self.installation.policies())
        return sorted(n for where, n in names if where == namespace and n not in policies)


def mail_of(tenant: str) -> bytes:
    return f"Subject: {tenant}\r\n\r\n".encode()


@pytest.fixture
def shared(installation, oauth_dovecot, namespace) -> Shared:
    installation.key = installation.service.service_key(by_name=True)
    installation.configure(tenantMode="shared")
    found = Shared(installation, oauth_dovecot, namespace)
    found.give("acme", "umbrella", "globex")
    return found


@pytest.fixture
def start(shared, make_cluster_tproxy, installation, oauth, directory):
    """Starts the program, for which the hosts of all tenants have addresses."""

    def start_one(url: str = ""):
        hosts = ("--hosts", str(hosts_file(directory, *oauth.host_names("nobody"))))
        return make_cluster_tproxy(installation, *hosts, *TARGET_PORTS, url=url).ready()

    return start_one


def test_tenants_added_and_removed(installation, shared, start):
    """Tenants that stay keep their ports, and their objects are not written."""
    start()
    shared.apply("acme", "umbrella")
    first = shared.serves("acme", "umbrella")
    condition = installation.condition(shared.namespace, "mail-h")
    assert condition["message"] == (
        "Technical connectivity is configured. Kubernetes services with names mail-h-acme, "
        "mail-h-umbrella are created."
    )
    before = installation.service_of(HOME, "mail-h-umbrella")
    shared.apply("umbrella", "globex")
    second = shared.serves("umbrella", "globex")
    assert second["umbrella"] == first["umbrella"]
    assert installation.service_of(HOME, "mail-h-umbrella") == before
    assert is_closed(first["acme"])
    assert second["globex"] != first["acme"]
    installation.kube.delete(f"{CRS}/namespaces/{shared.namespace}/destinations/mail-h")
    until(lambda: not installation.ours(), "all to be withdrawn", every=0.05)
    assert all(is_closed(port) for port in second.values())


def test_sample(installation, shared, start):
    """The sample D9 of SAP's documentation."""
    cr = DESTINATIONS["tenants"]
    metadata = {**cr["metadata"], "namespace": shared.namespace}
    shared.give("tenant-subdomain", "another-tenant-subdomain")
    start()
    installation.kube.apply({**cr, "metadata": metadata})
    shared.serves("tenant-subdomain", "another-tenant-subdomain")


def test_lower_case(installation, shared, start):
    start()
    shared.apply("ACME")
    shared.serves("acme")


def test_restart(installation, shared, start):
    """The ports stay, and nothing is written."""
    proxy = start()
    shared.apply("acme", "umbrella")
    ports = shared.serves("acme", "umbrella")
    until(installation.policies, "the policy", every=0.05)
    before = installation.versions()
    proxy.kill()
    start()
    assert shared.serves("acme", "umbrella") == ports
    assert installation.versions() == before


@pytest.mark.parametrize(
    "annotation, wrong",
    [
        (None, "it is missing"),
        ("acme, umbrella", "it is not JSON"),
        ("[]", "it is empty"),
        ('["acme", "evil.example.com/"]', '"evil.example.com/" in it is not a tenant'),
        ('["acme", "Acme"]', '"acme" is in it twice'),
    ],
)
def test_invalid(installation, shared, start, annotation, wrong):
    start()
    shared.apply("acme")
    shared.serves("acme")
    cr = shared_cr(shared.namespace)
    cr["metadata"]["annotations"] = {TENANTS: annotation} if annotation else {}
    installation.kube.apply(cr)
    message = installation.wait_condition(shared.namespace, "mail-h", INVALID)["message"]
    assert message.startswith(
        f'Technical connectivity is not configured. "{TENANTS}" annotation is invalid: {wrong}'
    )
    assert not shared.shown()
    assert not shared.services(HOME) and not shared.services(shared.namespace)
    shared.apply("acme")
    shared.serves("acme")


def test_one_tenant_hangs(installation, shared, start, oauth):
    """The authorization server of the first tenant does not answer. The others get their mail."""
    patient = {"destinationService": {"readTimeoutSeconds": 60}}
    path = f"{PROXIES}/transparent-proxy"
    installation.kube.patch(path, {"spec": {"config": {"integration": patient}}})
    oauth.behaviour = where(lambda r: r.headers.get("Host", "").startswith("acme."), silent)
    start()
    shared.apply("acme", "globex", "umbrella")
    for tenant in ("globex", "umbrella"):
        name = f"mail-h-{tenant}"
        until(lambda name=name: installation.service_of(shared.namespace, name), f"Service {name}")
        assert list_and_fetch(installation.target_port(name)) == [mail_of(tenant)]
    assert not installation.condition(shared.namespace, "mail-h")
    oauth.behaviour = proper
    shared.apply("globex", "umbrella")
    shared.serves("globex", "umbrella")


def test_some_fail(installation, shared, start):
    """One tenant has no such destination, another one does not exist; the third is served."""
    shared.give("initech", name="another")
    start()
    shared.apply("acme", "initech", "nobody")
    condition = installation.wait_condition(shared.namespace, "mail-h", FAILED)
    begin = 'Configuration failed for tenants: ["initech", "nobody"]. initech: Destination '
    assert condition["message"].startswith(begin + f"'{NAME}' referred in ")
    assert "is not found in tenant 'initech'. " in condition["message"]
    assert " nobody: " in condition["message"]
    acme = shared.serves("acme")
    shared.give("initech")
    shared.apply("acme", "initech")
    assert shared.serves("acme", "initech")["acme"] == acme["acme"]
    installation.wait_condition(shared.namespace, "mail-h", "ConfigurationSuccessful")


def test_one_name_for_two(installation, shared, start):
    """CR a with the tenant b-c and CR a-b with the tenant c need one Service. The older CR has it;
    if both were created in the same second, the first in the alphabet."""
    shared.give("c", "b-c")
    start()
    shared.apply("b-c", name="a")
    port = shared.serves("b-c", name="a")["b-c"]
    shared.apply("c", "acme", name="a-b")
    message = installation.wait_condition(shared.namespace, "a-b", FAILED)["message"]
    assert 'tenants: ["c"]. c: A Destination CR named "a" in the namespace' in message
    assert shared.shown("a-b") == [{"tenantSubdomain": "acme"}]
    assert list_and_fetch(port) == [mail_of("b-c")]


def test_modes(installation, shared, start):
    """The mode is switched there and back. In dedicated mode an Event reports the annotation."""
    service = installation.service
    service.destinations[NAME] = dict(service.tenant("acme").destinations[NAME])
    start()
    shared.apply("acme", "umbrella")
    shared.serves("acme", "umbrella")
    installation.configure(tenantMode="dedicated")
    until(lambda: shared.services(HOME) == ["mail-h"], "the Service", every=0.05)
    port = installation.available(shared.namespace, "mail-h")
    assert list_and_fetch(port) == [mail_of("acme")]
    until(lambda: not shared.shown(), "no tenants to be shown", every=0.05)
    assert shared.services(shared.namespace) == ["mail-h"]

    def told() -> list[str]:
        return [e["type"] for e in installation.events(shared.namespace) if "Ignored" in e["reason"]]

    until(told, "an Event about the annotation", every=0.05)
    assert told() == ["Warning"]
    installation.configure(tenantMode="shared")
    shared.serves("acme", "umbrella")
    assert is_closed(port)
    assert shared.services(HOME) == ["mail-h-acme", "mail-h-umbrella"]


# --- the configuration with tenants cannot be read for a while ---


def not_listed(installation, api, code: int, reason: str) -> None:
    api.behaviour = where(list_of("transparentproxies"), once(refuse(code, reason)))


def wrong(installation, api) -> None:
    mistake = {"spec": {"config": {"manager": {"executionIntervalMinutes": 0}}}}
    installation.kube.patch(f"{PROXIES}/transparent-proxy", mistake)


def away(installation, api) -> None:
    installation.kube.delete(f"{PROXIES}/transparent-proxy")


UNSEEN = {
    "forbidden": lambda *world: not_listed(*world, 403, "Forbidden"),
    "not found": lambda *world: not_listed(*world, 404, "NotFound"),
    "wrong": wrong,
    "deleted": away,
}


@pytest.mark.parametrize("how", UNSEEN)
def test_restart_without_the_configuration(installation, api, shared, start, how):
    """The Services and ports of all tenants stay as they are, although the defaults know no
    tenants."""
    first = start()
    shared.apply("acme", "umbrella")
    ports = shared.serves("acme", "umbrella")
    before = [installation.service_of(HOME, f"mail-h-{tenant}") for tenant in ports]
    first.signal(signal.SIGTERM)
    first.wait()
    UNSEEN[how](installation, api)
    start(api.url)
    installation.configure(tenantMode="shared", manager={"executionIntervalMinutes": 3})
    shared.apply("acme", "umbrella", "globex")
    later = shared.serves("acme", "umbrella", "globex")
    assert {**later, **ports} == later
    assert [installation.service_of(HOME, f"mail-h-{tenant}") for tenant in ports] == before
    assert not [request for request in api.writes() if request.method == "DELETE"]


def test_configuration_that_is_replaced(installation, api, shared, start):
    """kubectl replace --force while the program runs."""
    start(api.url)
    shared.apply("acme", "umbrella")
    ports = shared.serves("acme", "umbrella")
    away(installation, api)
    api.requests.wait(
        lambda request: request.path.endswith("/events") and b"onfiguration" in request.body,
        "the Event about the configuration",
    )
    installation.configure(tenantMode="shared")
    shared.apply("acme", "umbrella", "globex")
    later = shared.serves("acme", "umbrella", "globex")
    assert {**later, **ports} == later
    assert not [request for request in api.writes() if request.method == "DELETE"]
