"""SAP's own samples, applied as they are printed."""

import copy
import json

import pytest

from harness.connectivity_proxy import ConnectivityProxy
from harness.destination_service import key_secret, private_key_secret
from harness.dns import hosts_file
from harness.dovecot import Mailbox
from harness.installation import (
    CONNECTIVITY,
    CONNECTIVITY_HOSTS,
    CRS,
    INSTANCE,
    PROXIES,
    Installation,
    list_and_fetch,
)
from harness.kube import DISCOVERY
from harness.oauth import PROVIDER
from harness.samples import DESTINATIONS, HOME, MISPRINT, TRANSPARENT_PROXIES, mailbox
from harness.tproxy import destination
from harness.util import until

NAME = "example-dest-pop3"
VIRTUAL_HOST = "pop.test"

# The samples for HTTP applications, by the destination that each names.
OTHERS = {
    "gateway": "*",
    "chain for SAML": "samlAssertionConsumerDest",
    "action": "http",
    "new action": "onpremise-http",
}

# The Secret that SAP's TransparentProxy objects name, and its entry.
SECRETS = {
    "published": (INSTANCE, "defaultKey"),
    "documented": (INSTANCE, "defaultKey"),
    "BTP service operator": ("sap-transp-proxy-default", None),
}


def configure(installation: Installation, sample: str = "published", **config: object) -> None:
    """Applies a sample. `config` are keys that are not in it."""
    name, key = SECRETS[sample]
    secret = key_secret(name, HOME, installation.key, key)
    proxy = copy.deepcopy(TRANSPARENT_PROXIES[sample])
    proxy["spec"]["config"] |= config
    installation.kube.apply(secret, proxy)


def apply(installation: Installation, namespace: str, *crs: dict) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": crs})
    installation.kube.kubectl("apply", "--namespace", namespace, "-f", "-", input=text)


def name_of(sample: str) -> str:
    return DESTINATIONS[sample]["metadata"]["name"]


@pytest.fixture
def mail(add_destination):
    return add_destination(NAME)


@pytest.fixture
def start(installation, make_cluster_tproxy, oauth, directory):
    """Starts the program with everything that the samples name."""

    def start():
        hosts = hosts_file(directory, *oauth.host_names(), *CONNECTIVITY_HOSTS)
        return make_cluster_tproxy(installation, "--hosts", str(hosts)).ready()

    return start


def status_of(installation: Installation) -> dict[str, dict]:
    """Returns the conditions of the TransparentProxy object after it is Ready."""

    def ready() -> dict | None:
        status = installation.kube.get(f"{PROXIES}/transparent-proxy").get("status", {})
        return status if status.get("state") == "Ready" else None

    return {c["type"]: c for c in until(ready, "the state Ready")["conditions"]}


@pytest.mark.parametrize("sample", SECRETS)
def test_configuration(installation, make_cluster_tproxy, mail, namespace, sample):
    configure(installation, sample)
    proxy = make_cluster_tproxy(installation).ready()
    apply(installation, namespace, DESTINATIONS["default instance, for all"])
    assert list_and_fetch(installation.available(namespace, "mail-b")) == mail.files()
    conditions = status_of(installation)
    assert conditions["Configured"]["status"] == "True"
    ignored = conditions["SomeKeysIgnored"]["message"]
    assert "spec.config.security.communication.internal.encryptionEnabled: true" in ignored
    if "deployment" in TRANSPARENT_PROXIES[sample]["spec"]:
        assert "spec.deployment.resources" in ignored
    metrics = "metrics" in TRANSPARENT_PROXIES[sample]["spec"]["config"]
    assert proxy.http("/metrics")[0] == (200 if metrics else 404)


# --- an instance that SAP's BTP service operator has bound ---

GROUP = "services.cloud.sap.com"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
BOUND = "sap-transp-proxy-default"


@pytest.fixture
def operators_kinds(kube):
    """The kinds of the operator. They are removed afterwards, because most tests need a cluster
    without them."""
    for kind in ("ServiceInstance", "ServiceBinding"):
        names = {"kind": kind, "plural": f"{kind.lower()}s"}
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        version = {"name": "v1", "served": True, "storage": True}
        version["schema"] = {"openAPIV3Schema": schema}
        spec = {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]}
        kube.create(DEFINITIONS, {"metadata": {"name": f"{names['plural']}.{GROUP}"}, "spec": spec})
    yield
    for plural in ("serviceinstances", "servicebindings"):
        kube.delete(f"{DEFINITIONS}/{plural}.{GROUP}")
    until(
        lambda: GROUP not in json.dumps(kube.request("GET", "/apis", accept=DISCOVERY)),
        "the kinds to be forgotten",
    )


def bound(kind: str, **spec: str) -> dict:
    metadata = {"name": BOUND, "namespace": HOME}
    return {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": metadata, "spec": spec}


@pytest.mark.one_build
def test_kyma(installation, start, mail, namespace, operators_kinds):
    """The object names no instance. Custom resources do not either, and wait for one."""
    kube = installation.kube
    kube.apply(TRANSPARENT_PROXIES["Kyma"])
    start()
    apply(installation, namespace, DESTINATIONS["default instance, for its namespace"])
    installation.wait_condition(namespace, "mail-b", "Instance-NotConfigured")
    status = kube.get(f"{PROXIES}/transparent-proxy")["status"]
    assert status["state"] == "Warning"
    (missing,) = [c["message"] for c in status["conditions"] if c["type"] == "CredentialsAvailable"]
    assert missing.startswith("Provide at least one Destination service instance in ")
    kube.apply(
        key_secret(BOUND, HOME, installation.key),
        bound("ServiceInstance", serviceOfferingName="destination", servicePlanName="lite"),
        bound("ServiceBinding", serviceInstanceName=BOUND, secretName=BOUND),
    )
    assert list_and_fetch(installation.available(namespace, "mail-b")) == mail.files()
    status_of(installation)


# Parts of such objects, each with the instance that it makes the default, and the text about keys
# without an effect.
PARTS = {
    "timeouts": (INSTANCE, ""),
    "private key": ("two", ""),
    "Connectivity Proxy": ("one", "associateWith.connectivityProxy.locallyConfiguredRegionId"),
    "certificates": (INSTANCE, "communication.internal.certManager"),
    "mesh": (INSTANCE, "serviceMesh.istio"),
    "metrics": (INSTANCE, "serviceMesh.istio"),
}


def whole(part: str) -> dict:
    """Returns a TransparentProxy object with the part."""
    sample = copy.deepcopy(TRANSPARENT_PROXIES[part])
    config = sample["spec"]["config"]
    if "destinationService" not in config.get("integration", {}):
        usual = TRANSPARENT_PROXIES["documented"]["spec"]["config"]["integration"]
        config["integration"] = {**usual, **config.get("integration", {})}
    return sample


@pytest.fixture
def keys(installation):
    """Creates Secrets with the service keys of all instances that the samples name."""
    service = installation.service
    certified = service.service_key("x509")
    installation.kube.apply(
        key_secret(INSTANCE, HOME, installation.key, "defaultKey"),
        key_secret("one", HOME, installation.key, "k"),
        private_key_secret("x509-svc-key-secret-name", HOME, certified.pop("key"), "key"),
        key_secret("two", HOME, certified, "k"),
    )


@pytest.fixture
def far_mail(installation, oauth, oauth_dovecot, add_destination):
    """A mailbox on premise, behind a Connectivity Proxy that needs no tokens."""
    with ConnectivityProxy(oauth, authorization=False) as proxy:
        proxy.expose(VIRTUAL_HOST, 110, (oauth_dovecot.host, oauth_dovecot.pop3))
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": CONNECTIVITY[0]}}
        installation.kube.apply(space, proxy.config_map(CONNECTIVITY[0]))
        virtual = {"mail.pop3.host": VIRTUAL_HOST, "mail.pop3.port": "110"}
        yield add_destination("far", ProxyType="OnPremise", **virtual)


@pytest.mark.one_build
@pytest.mark.parametrize("part", PARTS)
def test_parts(installation, start, keys, mail, far_mail, namespace, part):
    instance, ignored = PARTS[part]
    proxy = whole(part)
    if part == "timeouts":
        key = key_secret(INSTANCE, HOME, installation.key, "k")
        installation.kube.apply(key)
    installation.kube.apply(proxy)
    tproxy = start()
    mails = {NAME: mail, "far": far_mail} if part == "Connectivity Proxy" else {NAME: mail}
    for name, found in mails.items():
        cr = mailbox(f"mail-{name}", name, destinationServiceInstanceName=instance)
        apply(installation, namespace, cr)
        assert list_and_fetch(installation.available(namespace, f"mail-{name}")) == found.files()
    condition = status_of(installation)["SomeKeysIgnored"]
    assert ignored in condition["message"] if ignored else condition["status"] == "False"
    assert tproxy.http("/metrics")[0] == (200 if part == "metrics" else 404)


def test_destinations(installation, make_cluster_tproxy, mail, namespace):
    configure(installation)
    make_cluster_tproxy(installation).ready()
    samples = ["usual", "default instance, for all", "port"]
    apply(installation, namespace, *[DESTINATIONS[sample] for sample in samples])
    for sample, port in zip(samples, (110, 110, 1110), strict=True):
        target = installation.available(namespace, name_of(sample))
        service = installation.service_of(HOME, name_of(sample))
        assert service["spec"]["ports"][0]["port"] == port
        assert list_and_fetch(target) == mail.files()
    own, everybody = f"tproxy-namespace-{namespace}", "tproxy-clusterwide"
    until(lambda: installation.policies().keys() == {own, everybody}, "both policies")
    apply(installation, namespace, DESTINATIONS["default instance, for its namespace"])
    until(lambda: installation.policies().keys() == {own}, "the policy of the namespace alone")


def login(mail: Mailbox) -> dict[str, str]:
    return {"mail.user": mail.user, "mail.password": mail.password}


def test_fragments(installation, start, mail, add_destination, namespace):
    """The properties in fragments take precedence over the destination's."""
    provider = installation.service.tenant(PROVIDER)
    mails = {}
    for place in ("subaccount", "instance"):
        mails[place] = add_destination(place)
        getattr(provider, place).fragments["example-fragment"] = login(mails[place])
    configure(installation)
    start()
    samples = {"fragment": "subaccount", "optional fragment": "subaccount", "levels": "instance"}
    apply(installation, namespace, *(DESTINATIONS[sample] for sample in samples))
    for sample, place in samples.items():
        port = installation.available(namespace, name_of(sample))
        assert list_and_fetch(port) == mails[place].files()


def test_without_the_fragment(installation, start, mail, namespace):
    configure(installation)
    start()
    for sample in ("fragment", "optional fragment", "levels"):
        apply(installation, namespace, DESTINATIONS[sample])
    for sample in ("fragment", "levels"):
        installation.wait_condition(namespace, name_of(sample), "ReferencedFragment-NotFound")
    port = installation.available(namespace, name_of("optional fragment"))
    assert list_and_fetch(port) == mail.files()


def test_chain(installation, start, mail, namespace):
    service = installation.service
    service.chains["chain-name"] = ("key1", "key2")
    configure(installation)
    start()
    apply(installation, namespace, DESTINATIONS["chain"])
    port = installation.available(namespace, name_of("chain"))
    assert list_and_fetch(port) == mail.files()
    for with_tokens in (False, True):
        (find,) = service.finds(NAME, with_tokens)
        assert find.headers["X-chain-name"] == "chain-name"
        assert find.headers["X-chain-var-key1"] == "value1"
        assert find.headers["X-chain-var-key2"] == "value2"


def test_tenants(installation, start, oauth_dovecot, namespace):
    service, mails = installation.service, {}
    for tenant in ("tenant-subdomain", "another-tenant-subdomain"):
        mails[tenant] = oauth_dovecot.mailbox([f"Subject: {tenant}\r\n\r\n".encode()])
        own = destination(NAME, oauth_dovecot.host, oauth_dovecot.pop3, **login(mails[tenant]))
        service.tenant(tenant).destinations[NAME] = own
    installation.key = service.service_key(by_name=True)
    configure(installation, tenantMode="shared")
    start()
    apply(installation, namespace, DESTINATIONS["tenants"])
    name = name_of("tenants")
    installation.wait_condition(namespace, name, "ConfigurationSuccessful")
    for tenant, mail in mails.items():
        service = installation.service_of(namespace, f"{name}-{tenant}")
        assert service["spec"]["ports"][0]["port"] == 110
        assert list_and_fetch(installation.target_port(f"{name}-{tenant}")) == mail.files()


def test_misprint(installation, namespace):
    """kubectl refuses the misprint, and so does the API server alone."""
    arguments = ["apply", "--namespace", namespace, "-f", "-"]
    for more, words in (
        ([], "unknown field"),
        (["--validate=false"], "spec: Required value"),
    ):
        done = installation.kube.kubectl(*arguments, *more, input=json.dumps(MISPRINT), check=False)
        assert done.returncode and words in done.stderr


# --- samples for other proxies ---


def add_others(installation: Installation, namespace: str) -> None:
    chain = DESTINATIONS["chain for SAML"]["spec"]["chainRef"]
    variables = tuple(variable["name"] for variable in chain["variables"])
    installation.service.chains[chain["name"]] = variables
    for destination in OTHERS.values():
        installation.service.destinations[destination] = {
            "Type": "HTTP",
            "URL": "https://app.example.com",
            "ProxyType": "Internet",
            "Authentication": "NoAuthentication",
        }
    apply(installation, namespace, *[DESTINATIONS[sample] for sample in OTHERS])


def test_resources_of_another_proxy(installation, make_cluster_tproxy, mail, namespace):
    """Resources for other proxies get no status, no Service and no Event; a status that another
    manager has written stays."""
    configure(installation)
    proxy = make_cluster_tproxy(installation).ready()
    add_others(installation, namespace)
    theirs = {"type": "Available", "status": "False", "reason": "Broken", "message": "It is ours."}
    path = f"{CRS}/namespaces/{namespace}/destinations/{name_of('action')}"
    installation.kube.patch(
        f"{path}/status?fieldManager=another", {"status": {"conditions": [theirs]}}
    )
    written = installation.kube.get(path)

    # All of them have been read when the last of all is served.
    for destination in OTHERS.values():
        if destination != "*":
            until(lambda name=destination: installation.service.finds(name, False), destination)
    apply(installation, namespace, DESTINATIONS["usual"])
    installation.available(namespace, "mail-a")
    until(lambda: installation.events(namespace), "the Event of mail-a")
    proxy.ready()
    for sample in OTHERS:
        if sample != "action":
            assert "status" not in installation.cr(namespace, name_of(sample))
        for space in (HOME, namespace):
            assert installation.service_of(space, name_of(sample)) is None
    assert installation.kube.get(path) == written
    told = {event["regarding"]["name"] for event in installation.events(namespace)}
    assert told == {"mail-a"}
    (shown,) = json.loads(proxy.http("/destinationCRs")[1])["CustomResources"]
    assert shown["Name"] == "mail-a"


def test_resources_without_another_proxy(installation, make_cluster_tproxy, namespace):
    """Where there is no other proxy, every resource gets its condition."""
    configure(installation)
    make_cluster_tproxy(installation, "--claim", "all").ready()
    add_others(installation, namespace)
    for sample in OTHERS:
        reason = "TypeNotSupported" if sample != "gateway" else "DynamicDestination-NotSupported"
        condition = installation.wait_condition(namespace, name_of(sample), reason)
        assert condition["status"] == "False"
        assert installation.service_of(HOME, name_of(sample)) is None
    until(lambda: len(installation.events(namespace)) == len(OTHERS), "an Event for each")
