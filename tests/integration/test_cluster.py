"""The main job: a Destination custom resource becomes a Service behind which a mailbox answers."""

import contextlib
import datetime
import itertools
import json
import time

import pytest

from harness.backend import Pop3
from harness.clients import RawClient, is_closed, with_poplib
from harness.fault_proxy import list_of
from harness.installation import (
    CRS,
    INSTANCE,
    TARGET_PORTS,
    Installation,
    destination_cr,
    list_and_fetch,
)
from harness.samples import HOME
from harness.tproxy import destination
from harness.util import until

NAME = "example-dest-pop3"

# The pods of the installation, as its Deployment labels them.
PODS = {"app.kubernetes.io/instance": "tproxy", "app.kubernetes.io/name": "tproxy"}


def mail_a(namespace: str, **spec: object) -> dict:
    return destination_cr("mail-a", namespace, NAME, **spec)


@pytest.fixture
def mail(add_destination):
    """The mailbox of the destination NAME."""
    return add_destination(NAME)


@pytest.fixture
def port(installation, cluster_tproxy, mail, namespace) -> int:
    """The target port of a CR "mail-a" for NAME."""
    installation.kube.apply(mail_a(namespace))
    return installation.available(namespace, "mail-a")


# --- mail ---


def test_basic(installation, cluster_tproxy, add_destination, namespace, messages):
    add_destination(NAME, messages)
    installation.kube.apply(mail_a(namespace))
    assert list_and_fetch(installation.available(namespace, "mail-a")) == messages


def test_pop3s(installation, cluster_tproxy, oauth_dovecot, add_destination, namespace, messages):
    """Only the connection to the mail server uses TLS."""
    tls = {"mail__transport__protocol": "pop3s", "mail__pop3s__host": "localhost"}
    add_destination(NAME, messages, **tls, mail__pop3s__port=str(oauth_dovecot.pop3s))
    installation.kube.apply(mail_a(namespace))
    assert list_and_fetch(installation.available(namespace, "mail-a")) == messages


def test_client_credentials(
    installation, cluster_tproxy, oauth, add_destination, namespace, messages
):
    """The OAuth server issues a token, and Dovecot verifies it."""
    mail = add_destination(NAME, messages, mail__password=None)
    client = oauth.mail_client(mail.user)
    installation.service.destinations[NAME] |= oauth.properties(client)
    installation.kube.apply(mail_a(namespace))
    port = installation.available(namespace, "mail-a")
    assert not oauth.requests_of(client.id), "to check a destination takes no token"
    assert list_and_fetch(port) == messages
    assert len(oauth.requests_of(client.id)) == 1


def test_no_authentication(installation, cluster_tproxy, add_destination, namespace):
    """The client logs in itself."""
    nobody = {"mail__user": None, "mail__password": None}
    mail = add_destination(NAME, Authentication="NoAuthentication", **nobody)
    installation.kube.apply(mail_a(namespace))
    port = installation.available(namespace, "mail-a")
    with RawClient(port) as client:
        assert client.command(b"USER " + mail.user.encode()).startswith(b"+OK")
        assert client.command(b"PASS wrong").startswith(b"-ERR [AUTH]")
    with contextlib.closing(with_poplib(port, mail.user, mail.password)) as client:
        assert client.stat()[0] == 1


@pytest.mark.one_build
def test_service_key_of_one_entry_per_field(installation, make_cluster_tproxy, mail, namespace):
    installation.configure(key=None)
    make_cluster_tproxy(installation).ready()
    installation.kube.apply(mail_a(namespace))
    assert list_and_fetch(installation.available(namespace, "mail-a")) == mail.files()


@pytest.mark.one_build
def test_time_to_the_first_answer(installation, cluster_tproxy, mail, namespace):
    begun = time.monotonic()
    installation.kube.create(f"{CRS}/namespaces/{namespace}/destinations", mail_a(namespace))
    until(lambda: installation.service_of(HOME, "mail-a"), "the Service")
    with RawClient(installation.target_port("mail-a")) as client:
        assert client.command(b"STAT").startswith(b"+OK 1 ")
    took = time.monotonic() - begun
    print(f"from the custom resource to the first answer: {took * 1000:.0f} ms")
    assert took < 10


# --- Services ---


def labels(namespace: str, name: str) -> dict:
    return {
        "app.kubernetes.io/managed-by": "tproxy",
        "tproxy/home": HOME,
        "tproxy/destination-namespace": namespace,
        "tproxy/destination-name": name,
    }


def test_services(installation, cluster_tproxy, port, namespace):
    home = installation.service_of(HOME, "mail-a")
    assert home["metadata"]["labels"] == labels(namespace, "mail-a")
    assert "ownerReferences" not in home["metadata"], "it would have to be in the same namespace"
    spec = home["spec"]
    assert spec["type"] == "ClusterIP" and spec["clusterIP"] not in ("", "None")
    assert spec["selector"] == PODS
    assert spec["ipFamilyPolicy"] == "PreferDualStack"
    common = {"name": "tcp-pop3", "protocol": "TCP", "appProtocol": "tcp", "port": 110}
    assert spec["ports"] == [{**common, "targetPort": port}]

    alias = installation.service_of(namespace, "mail-a")
    assert alias["metadata"]["labels"] == labels(namespace, "mail-a")
    (owner,) = alias["metadata"]["ownerReferences"]
    cr = installation.cr(namespace, "mail-a")
    assert owner == {
        "apiVersion": "destination.connectivity.api.sap/v1",
        "kind": "Destination",
        "name": "mail-a",
        "uid": cr["metadata"]["uid"],
        "controller": True,
    }
    spec = alias["spec"]
    assert spec["type"] == "ExternalName"
    assert spec["externalName"] == f"mail-a.{HOME}.svc.cluster.local"
    assert spec["ports"] == [{**common, "targetPort": 110}]


@pytest.mark.parametrize("protocol, asked, port", [("pop3", 1110, 1110), ("pop3s", None, 995)])
@pytest.mark.one_build
def test_port(installation, cluster_tproxy, add_destination, namespace, protocol, asked, port):
    """The protocol determines the port unless the CR gives one; the mail server's port does not
    matter."""
    server = {f"mail__{protocol}__port": "4711", f"mail__{protocol}__host": "localhost"}
    add_destination(NAME, mail__transport__protocol=protocol, **server)
    installation.kube.apply(mail_a(namespace, **({"service": {"port": asked}} if asked else {})))
    installation.available(namespace, "mail-a")
    for space in (HOME, namespace):
        assert installation.service_of(space, "mail-a")["spec"]["ports"][0]["port"] == port


@pytest.mark.one_build
def test_in_the_home_namespace(installation, cluster_tproxy, mail):
    """A CR in the home namespace needs only one Service."""
    installation.kube.apply(mail_a(HOME))
    port = installation.available(HOME, "mail-a")
    assert installation.service_of(HOME, "mail-a")["spec"]["type"] == "ClusterIP"
    both = [f"{HOME}/mail-a", f"{HOME}/tproxy-namespace-{HOME}"]
    until(lambda: installation.ours() == both, "one Service and one policy")
    assert list_and_fetch(port) == mail.files()


@pytest.mark.one_build
def test_domain_of_the_cluster(installation, make_cluster_tproxy, directory, mail, namespace):
    """The cluster's domain is found in the pod's search list."""
    conf = directory / "resolv.conf"
    conf.write_text(f"nameserver 127.0.0.1\nsearch {HOME}.svc.corp.test svc.corp.test corp.test\n")
    conf.chmod(0o644)
    installation.configure()
    make_cluster_tproxy(installation, "--resolv-conf", str(conf))
    installation.kube.apply(mail_a(namespace))
    installation.available(namespace, "mail-a")
    alias = installation.service_of(namespace, "mail-a")
    assert alias["spec"]["externalName"] == f"mail-a.{HOME}.svc.corp.test"


# --- NetworkPolicies ---


def admitted(installation: Installation) -> dict[str, set[int]]:
    """Returns the ports that our policies open, by the policies' names."""
    found = {}
    for name, policy in installation.policies().items():
        (rule,) = policy["spec"]["ingress"]
        ranges = [range(p["port"], p.get("endPort", p["port"]) + 1) for p in rule["ports"]]
        found[name] = set(itertools.chain(*ranges))
    return found


def test_policies(installation, cluster_tproxy, mail, namespace):
    kube = installation.kube
    other = kube.namespace()
    crs = {
        "one": destination_cr("one", namespace, NAME),
        "two": destination_cr("two", namespace, NAME, accessControl={"scope": "namespaced"}),
        "three": destination_cr("three", other, NAME),
        "four": destination_cr("four", other, NAME, accessControl={"scope": "clusterWide"}),
    }
    kube.apply(*crs.values())
    ports = {
        name: installation.available(cr["metadata"]["namespace"], name) for name, cr in crs.items()
    }

    def shall_be(**policies: set[str]) -> None:
        names = {"everybody": "tproxy-clusterwide"}
        names |= {"own": f"tproxy-namespace-{namespace}", "other": f"tproxy-namespace-{other}"}
        wanted = {names[who]: {ports[cr] for cr in crs} for who, crs in policies.items()}
        until(lambda: admitted(installation) == wanted, f"policies {wanted}")

    shall_be(own={"one", "two"}, other={"three"}, everybody={"four"})
    policies = installation.policies()
    for name, peer in (
        (
            f"tproxy-namespace-{namespace}",
            {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        ),
        ("tproxy-clusterwide", {}),
    ):
        spec = policies[name]["spec"]
        assert spec["podSelector"] == {"matchLabels": PODS}
        assert spec["policyTypes"] == ["Ingress"]
        (rule,) = spec["ingress"]
        assert rule["from"] == [{"namespaceSelector": peer}]
        assert {port["protocol"] for port in rule["ports"]} == {"TCP"}

    wide = {"spec": {"accessControl": {"scope": "clusterWide"}}}
    kube.patch(f"{CRS}/namespaces/{namespace}/destinations/two", wide)
    shall_be(own={"one"}, other={"three"}, everybody={"two", "four"})
    for name in ("one", "two", "four"):
        kube.delete(f"{CRS}/namespaces/{crs[name]['metadata']['namespace']}/destinations/{name}")
    shall_be(other={"three"})


# --- the custom resource's columns and Events ---


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def test_condition_and_event(installation, cluster_tproxy, mail, namespace):
    begun = now()
    installation.kube.apply(mail_a(namespace))
    installation.kube.kubectl(
        *["wait", "--for=condition=Available", "destination/mail-a"],
        *["--namespace", namespace, "--timeout=60s"],
    )
    (condition,) = installation.cr(namespace, "mail-a")["status"]["conditions"]
    written = datetime.datetime.fromisoformat(condition.pop("lastUpdateTime"))
    assert begun <= written <= now()
    message = (
        "Technical connectivity is configured. Kubernetes service with name mail-a is created."
    )
    assert condition == {
        "type": "Available",
        "status": "True",
        "reason": "ConfigurationSuccessful",
        "message": message,
    }
    (event,) = until(lambda: installation.events(namespace), "the Event")
    assert (event["type"], event["reason"]) == ("Normal", "ConfigurationSuccessful")
    assert event["note"] == message
    assert event["reportingController"] == "tproxy/controller"
    about = event["regarding"]
    assert (about["kind"], about["namespace"], about["name"]) == (
        "Destination",
        namespace,
        "mail-a",
    )
    assert about["uid"] == installation.cr(namespace, "mail-a")["metadata"]["uid"]


@pytest.mark.one_build
def test_columns(installation, cluster_tproxy, mail, namespace):
    spec = {"service": {"port": 1110}, "accessControl": {"scope": "clusterWide"}}
    installation.kube.apply(mail_a(namespace, destinationServiceInstanceName=INSTANCE, **spec))
    installation.available(namespace, "mail-a")
    table = installation.kube.kubectl("get", "dst", "--namespace", namespace).stdout
    head, row = (line.split() for line in table.splitlines())
    assert head == [
        *["NAME", "AGE", "DESTINATIONREF", "FRAGMENTREF", "DESTINATIONSERVICEINSTANCENAME"],
        *["SERVICEPORT", "ACCESSCONTROLSCOPE", "CHAINREF", "STATUS"],
    ]
    assert row[0] == "mail-a"  # the age follows
    assert row[2:] == [NAME, INSTANCE, "1110", "clusterWide", "ConfigurationSuccessful"]


# --- deleted, killed, changed ---


def test_deleted(installation, cluster_tproxy, mail, namespace):
    before = installation.versions().keys()
    installation.kube.apply(mail_a(namespace))
    port = installation.available(namespace, "mail-a")
    until(installation.policies, "the policy")
    with RawClient(port) as running:
        assert running.command(b"STAT").startswith(b"+OK 1 ")
        installation.kube.kubectl("delete", "destination", "mail-a", "--namespace", namespace)
        until(lambda: installation.versions().keys() == before, "nothing to remain")
        assert is_closed(port)
        assert running.retr(1) == mail.files()[0], "sessions go on for a while"
        assert running.command(b"QUIT").startswith(b"+OK")


def test_deleted_meanwhile(installation, make_cluster_tproxy, mail, namespace):
    """A CR that is deleted while the program does not run is cleaned up at the next start."""
    installation.configure()
    first = make_cluster_tproxy(installation).ready()
    before = installation.versions().keys()
    installation.kube.apply(mail_a(namespace))
    installation.available(namespace, "mail-a")
    until(installation.policies, "the policy")
    first.kill()
    installation.kube.kubectl("delete", "destination", "mail-a", "--namespace", namespace)
    make_cluster_tproxy(installation)
    until(lambda: installation.versions().keys() == before, "nothing to remain")


def test_killed_and_restarted(installation, api, make_cluster_tproxy, add_destination, namespace):
    """The ports stay, and nothing is written again."""
    kube = installation.kube
    installation.configure()
    first = make_cluster_tproxy(installation, *TARGET_PORTS, url=api.url).ready()
    mails = {name: add_destination(name) for name in ("one", "two", "late")}
    ports = {}
    for name in ("one", "two"):
        kube.apply(destination_cr(name, namespace, name))
        ports[name] = installation.available(namespace, name)
    opened = {f"tproxy-namespace-{namespace}": set(ports.values())}
    until(lambda: admitted(installation) == opened, "the policy")
    until(lambda: len(installation.events(namespace)) == 2, "the Events")
    versions, writes = installation.versions(), len(api.writes())

    first.kill()
    make_cluster_tproxy(installation, *TARGET_PORTS, url=api.url).ready()
    for name, port in ports.items():
        assert list_and_fetch(port) == mails[name].files()
    # The program writes only what concerns another namespace.
    other = kube.namespace()
    kube.apply(destination_cr("late", other, "late"))
    installation.available(other, "late")
    until(lambda: f"tproxy-namespace-{other}" in installation.policies(), "the new policy")
    assert versions.items() <= installation.versions().items()
    for request in api.writes()[writes:]:
        assert other in request.path or other.encode() in request.body, request


@pytest.mark.one_build
def test_replaced_at_once(installation, cluster_tproxy, add_destination, namespace):
    """A CR is deleted, and another one of the same name created before the Services have gone."""
    kube, mails = installation.kube, {name: add_destination(name) for name in ("one", "two")}
    path = f"{CRS}/namespaces/{namespace}/destinations"
    kube.apply(destination_cr("mail-a", namespace, "one"))
    assert list_and_fetch(installation.available(namespace, "mail-a")) == mails["one"].files()
    for name in ("two", "one", "two"):
        kube.delete(f"{path}/mail-a")
        uid = kube.create(path, destination_cr("mail-a", namespace, name))["metadata"]["uid"]
    port = installation.available(namespace, "mail-a")
    (owner,) = installation.service_of(namespace, "mail-a")["metadata"]["ownerReferences"]
    assert owner["uid"] == uid
    assert list_and_fetch(port) == mails["two"].files()


@pytest.mark.one_build
def test_changed_while_it_is_taken_in(installation, cluster_tproxy, add_destination, namespace):
    """The CR changes again and again from its first moment on. The last change counts."""
    kube, mail = installation.kube, add_destination("mail")
    add_destination("other")
    path = f"{CRS}/namespaces/{namespace}/destinations/mail-a"
    kube.apply(destination_cr("mail-a", namespace, "other"))
    for number in range(10):
        changes = {"service": {"port": 1110 + number}, "accessControl": {"scope": "clusterWide"}}
        kube.patch(path, {"spec": changes})
    kube.patch(path, {"spec": {"destinationRef": {"name": "mail"}, "service": {"port": 2110}}})

    def settled() -> bool:
        both = [installation.service_of(space, "mail-a") for space in (HOME, namespace)]
        return all(service and service["spec"]["ports"][0]["port"] == 2110 for service in both)

    until(settled, "the last port")
    port = installation.available(namespace, "mail-a")
    assert list_and_fetch(port) == mail.files()
    until(lambda: admitted(installation) == {"tproxy-clusterwide": {port}}, "the last scope")


def test_changed_port(installation, port, namespace):
    with RawClient(port) as running:
        assert running.command(b"STAT").startswith(b"+OK")
        change = {"spec": {"service": {"port": 1110}}}
        installation.kube.patch(f"{CRS}/namespaces/{namespace}/destinations/mail-a", change)
        for space in (HOME, namespace):
            until(
                lambda space=space: (
                    installation.service_of(space, "mail-a")["spec"]["ports"][0]["port"] == 1110
                ),
                "the new port",
            )
        assert installation.target_port("mail-a") == port
        assert running.command(b"STAT").startswith(b"+OK")


@pytest.mark.slow
@pytest.mark.one_build
def test_changed_destination(installation, cluster_tproxy, backends, namespace):
    """Another mail server and another password take effect."""
    old, new = backends(Pop3()), backends(Pop3(password="Another-Pa55word"))
    service = installation.service
    service.destinations[NAME] = destination(NAME, old.host, old.port)
    installation.kube.apply(mail_a(namespace))
    port = installation.available(namespace, "mail-a")
    numbers = itertools.cycle((1110, 1111))

    def at_the_new_server() -> bool:
        # A changed CR has its destination read again, unless it has just been read.
        change = {"spec": {"service": {"port": next(numbers)}}}
        installation.kube.patch(f"{CRS}/namespaces/{namespace}/destinations/mail-a", change)
        with RawClient(port) as client:
            assert client.command(b"STAT").startswith(b"+OK")
        return new.connections() > 0

    with RawClient(port) as running:
        assert running.command(b"STAT").startswith(b"+OK")
        password = {"mail__password": "Another-Pa55word"}
        service.destinations[NAME] = destination(NAME, new.host, new.port, **password)
        until(at_the_new_server, "a session at the new server", every=1)
        assert running.command(b"STAT").startswith(b"+OK")


# --- changes by others ---


@pytest.mark.parametrize("where", ["home", "alias"])
def test_service_deleted_by_hand(installation, port, mail, namespace, where):
    space = HOME if where == "home" else namespace
    installation.kube.delete(f"/api/v1/namespaces/{space}/services/mail-a")
    service = until(lambda: installation.service_of(space, "mail-a"), "the Service")
    assert service["spec"]["type"] == ("ClusterIP" if where == "home" else "ExternalName")
    assert installation.target_port("mail-a") == port
    assert list_and_fetch(port) == mail.files()


OTHER_PORTS = [{"name": "pop", "port": 2110, "targetPort": 4711}]
EDITS = {
    "selector": ("home", {"spec": {"selector": {"app": "other"}}}),
    "ports": ("home", {"spec": {"ports": OTHER_PORTS}}),
    "type": ("home", {"spec": {"type": "NodePort"}}),
    "load balancer": (
        "home",
        {"spec": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["192.0.2.0/24"]}},
    ),
    "external addresses": ("home", {"spec": {"externalIPs": ["192.0.2.1"]}}),
    "pods that are not ready": ("home", {"spec": {"publishNotReadyAddresses": True}}),
    "external name": ("alias", {"spec": {"externalName": "mail.example.com"}}),
    "owner": ("alias", {"metadata": {"ownerReferences": None}}),
    "label": ("alias", {"metadata": {"labels": {"tproxy/destination-name": "mail-b"}}}),
    "labels": ("alias", {"metadata": {"labels": None}}),
    "namespace": ("alias", {"metadata": {"labels": {"tproxy/destination-namespace": "other"}}}),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.one_build
def test_service_edited_by_hand(installation, port, mail, namespace, edit):
    where, change = EDITS[edit]
    space = HOME if where == "home" else namespace

    def ours() -> dict | None:
        service = installation.service_of(space, "mail-a")
        about = service["metadata"] if service else {}
        return service and [about.get("labels"), about.get("ownerReferences"), service["spec"]]

    before = ours()
    installation.kube.patch(f"/api/v1/namespaces/{space}/services/mail-a", change)
    until(lambda: ours() == before, "the Service to be as before")
    assert list_and_fetch(port) == mail.files()


@pytest.mark.one_build
def test_fields_of_others(installation, port, namespace):
    """Fields that only say where a session goes are the administrator's: the next change of the
    Service, which is ours, keeps them."""
    theirs = {"sessionAffinity": "ClientIP", "internalTrafficPolicy": "Local"}
    installation.kube.patch(f"/api/v1/namespaces/{HOME}/services/mail-a", {"spec": theirs})
    change = {"spec": {"service": {"port": 1110}}}
    installation.kube.patch(f"{CRS}/namespaces/{namespace}/destinations/mail-a", change)

    def spec() -> dict:
        return installation.service_of(HOME, "mail-a")["spec"]

    until(lambda: spec()["ports"][0]["port"] == 1110, "the new port")
    assert theirs.items() <= spec().items()
    assert installation.condition(namespace, "mail-a")["status"] == "True"


@pytest.mark.one_build
def test_port_added_by_hand(installation, port, namespace):
    """A port that somebody adds to the Service is removed, because it would admit clients of the
    mailbox to the admin port."""
    path = f"/api/v1/namespaces/{HOME}/services/mail-a"
    before = installation.service_of(HOME, "mail-a")["spec"]["ports"]
    more = {"name": "more", "protocol": "TCP", "port": 111, "targetPort": 9494}
    installation.kube.patch(path, {"spec": {"ports": [*before, more]}})

    def now() -> list[dict]:
        return installation.service_of(HOME, "mail-a")["spec"]["ports"]

    until(lambda: now() == before, "the ports to be as before")


# Changes that somebody else makes to a policy's spec; None: the policy is deleted.
POLICY_EDITS = {
    "deleted": None,
    "without rules": {"ingress": None},
    "more labels": {"podSelector": {"matchLabels": {"some": "other"}}},
    "other pods": {
        "podSelector": {
            "matchExpressions": [{"key": "some", "operator": "NotIn", "values": ["other"]}]
        }
    },
    "all pods": {"podSelector": {"matchLabels": None}},
    "a rule for everybody": {"ingress": [{}]},
    "outgoing": {"policyTypes": ["Ingress", "Egress"], "egress": [{}]},
}


@pytest.mark.parametrize("edit", POLICY_EDITS)
@pytest.mark.one_build
def test_policy_edited_by_hand(installation, port, namespace, edit):
    name = f"tproxy-namespace-{namespace}"
    path = f"/apis/networking.k8s.io/v1/namespaces/{HOME}/networkpolicies/{name}"
    before = until(lambda: installation.policies().get(name), "the policy")["spec"]
    if POLICY_EDITS[edit] is None:
        installation.kube.delete(path)
    else:
        installation.kube.patch(path, {"spec": POLICY_EDITS[edit]})

    def now() -> dict | None:
        return installation.policies().get(name, {}).get("spec")

    until(lambda: now() == before, "the policy to be as before")


@pytest.mark.parametrize("edit", ["taken away", "another", "one more"])
@pytest.mark.one_build
def test_status_edited_by_hand(installation, port, namespace, edit):
    """Our condition is restored; conditions of other types stay."""
    (ours,) = installation.cr(namespace, "mail-a")["status"]["conditions"]
    other = {"type": "Checked", "status": "True", "reason": "Fine", "message": ""}
    edited = {
        "taken away": [],
        "another": [{**ours, "status": "False", "reason": "Broken"}],
        "one more": [other],
    }[edit]
    path = f"{CRS}/namespaces/{namespace}/destinations/mail-a/status"
    installation.kube.patch(path, {"status": {"conditions": edited}})

    def shown() -> list[dict]:
        conditions = installation.cr(namespace, "mail-a")["status"]["conditions"]
        return [{k: v for k, v in c.items() if k != "lastUpdateTime"} for c in conditions]

    del ours["lastUpdateTime"]
    wanted = [other, ours] if edit == "one more" else [ours]
    until(lambda: shown() == wanted, f"the conditions {wanted}")


# --- the admin port ---


def test_ready_when_everything_is_listed(installation, api, make_cluster_tproxy, mail, namespace):
    """The program is ready when everything is listed and all CRs have a listener or a condition."""
    installation.configure()
    installation.kube.apply(mail_a(namespace))
    with api.stalled(list_of("services")):
        proxy = make_cluster_tproxy(installation, url=api.url)
        until(
            lambda: proxy.http("/readyz") == (503, "waiting for Services\n"),
            "it to wait for the list of Services",
        )
        assert proxy.http("/healthz")[0] == 200
        assert not installation.condition(namespace, "mail-a")
    proxy.ready()
    assert list_and_fetch(installation.available(namespace, "mail-a")) == mail.files()


def test_status_pages(installation, make_cluster_tproxy, add_destination, namespace):
    installation.configure(metrics={"prometheus": {"enabled": True}})
    proxy = make_cluster_tproxy(installation).ready()
    manager, tcp = "sap-transp-proxy-manager", "sap-transp-proxy-tcp"

    def components() -> dict[str, str]:
        status, text = proxy.http("/status")
        assert status == 200
        page = json.loads(text)
        assert page.keys() == {"Status", "Components"}
        found = {"": page["Status"]}
        for name, component in page["Components"].items():
            assert component.keys() == {"Status", "Message"}
            found[name] = component["Status"]
        return found

    add_destination("one")
    installation.kube.apply(destination_cr("good", namespace, "one"))
    installation.available(namespace, "good")
    well = {"": "ok", manager: "ok", tcp: "ok"}
    until(lambda: components() == well, f"the status {well}")
    installation.kube.apply(destination_cr("bad", namespace, "not-there"))
    installation.wait_condition(namespace, "bad", "NotFound")
    so_so = {"": "warning", manager: "warning", tcp: "ok"}
    until(lambda: components() == so_so, f"the status {so_so}")

    status, text = proxy.http("/destinationCRs")
    assert status == 200
    page = json.loads(text)
    assert page["Status"] == "ok"
    crs = {cr["Name"]: cr for cr in page["CustomResources"]}
    assert crs.keys() == {"good", "bad"}
    for name, cr in crs.items():
        condition = installation.condition(namespace, name)
        assert cr == {
            "Name": name,
            "Namespace": namespace,
            "DestinationRef": {"name": "one" if name == "good" else "not-there"},
            "CreationTimestamp": installation.cr(namespace, name)["metadata"]["creationTimestamp"],
            "Available": condition["status"],
            "Message": condition["message"],
            "Reason": condition["reason"],
        }
    assert proxy.metric("tp_destination_crs", Available="True") == 1
    assert proxy.metric("tp_destination_crs", Available="False") == 1
