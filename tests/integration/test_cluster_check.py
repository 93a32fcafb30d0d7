"""`tproxy check --cluster` says what tproxy would make of objects in a cluster. Its verdict is
compared with what the running program writes about the same objects, and with what the API server
refuses."""

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
from test_check import BAD_SECRETS

from harness.connectivity_proxy import ConnectivityProxy
from harness.destination_service import key_secret
from harness.dns import hosts_file
from harness.installation import (
    CONNECTIVITY,
    INSTANCE,
    PROXIES,
    Installation,
    destination_cr,
    transparent_proxy,
)
from harness.kube import ApiError
from harness.samples import (
    DESTINATIONS,
    HOME,
    MAIL_DESTINATIONS,
    MAIL_WITHOUT_AUTHENTICATION,
    MISPRINT,
    TENANTS,
    TRANSPARENT_PROXIES,
)
from harness.tproxy import Program, destination
from harness.util import until

NAME = "example-dest-pop3"
HOST = "pop.example.com"


class Judged:
    """The same objects for both: in files, and in a cluster with its Destination service."""

    def __init__(self, installation: Installation, program: Program, start, directory: Path):
        self.installation = installation
        self._program = program
        self._start = start
        self._path = directory / "files"
        self._path.mkdir()
        self._path.chmod(0o755)
        self.arguments: tuple[str, ...] = ()  # for the running program
        self._objects: dict[str, dict] = {}  # by the name of their file
        installation.allows_loopback = False

    def add_destinations(self, *destinations: dict) -> None:
        for properties in destinations:
            self.installation.service.destinations[properties["Name"]] = properties
            self._write(properties)

    def add(self, *objects: dict) -> None:
        for item in objects:
            self._objects[self._write(item)] = item

    def _write(self, content: dict) -> str:
        path = self._path / f"{len(list(self._path.iterdir())):03}.json"
        path.write_text(json.dumps(content))
        path.chmod(0o644)
        return str(path)

    def agreed(self) -> list[dict]:
        """Compares both. Returns what check says about each object, in the order of `add`."""
        judged = self.judge()
        accepted = [file for file in judged if self.accepts(file)]
        self._start(self.installation, *self.arguments)
        for file in accepted:
            if file["kind"] == "TransparentProxy":
                self._compare_configuration(file)
            elif file["kind"] == "Destination":
                self._compare_resource(file)
        return judged

    def judge(self) -> list[dict]:
        done = self._program.run("check", "--cluster", "--json", str(self._path))
        assert done.stderr == "" and "Pa55word" not in done.stdout
        files = {file["file"]: file for file in json.loads(done.stdout)["files"]}
        return [files[path] for path in self._objects]

    def accepts(self, file: dict) -> bool:
        """Applies the object of a file. If the API server refuses it, check does, too."""
        if self._apply(self._objects[file["file"]]):
            assert "kind" in file, file
            return True
        assert file["verdict"] == "wrong", file
        return False

    def _apply(self, item: dict) -> bool:
        """Returns False when the API server refuses the object."""
        try:
            self.installation.kube.apply(item)
        except ApiError as error:
            assert error.code in (400, 422) or "typed patch object" in str(error)
            return False
        return True

    def _compare_resource(self, file: dict) -> None:
        namespace, name = file["namespace"], file["name"]
        target = file["targets"][0] if file["targets"] else None

        def shown() -> dict:
            return self.installation.condition(namespace, name)

        def agrees() -> bool:
            if not target:
                return shown() == {}
            if target["verdict"] == "unknown":  # only the Destination service knows
                return shown() != {}
            if target["name"] != name:  # the condition sums the tenants up
                bad = [t["message"] for t in file["targets"] if t["verdict"] == "wrong"]
                said = shown().get("message", "")
                return said != "" and all(message in said for message in bad)
            return all(shown().get(key) == target[key] for key in ("reason", "message"))

        try:
            until(agrees, f"the condition of {namespace}/{name}", patience=20, every=0.05)
        except AssertionError as failure:
            raise AssertionError(f"{failure}; it is {shown()}, judged {file}") from None
        verdict = file["verdict"]
        assert verdict == target["verdict"] if target else verdict in ("ignored", "unknown")
        assert verdict == "unknown" or (verdict == "ok") == (shown().get("status") == "True")

    def _compare_configuration(self, file: dict) -> None:
        def shown() -> set[str]:
            status = self.installation.kube.get(f"{PROXIES}/{file['name']}").get("status", {})
            conditions = status.get("conditions", [])
            return {
                c["message"]
                for c in conditions
                if c["status"] == ("True" if c["type"] == "SomeKeysIgnored" else "False")
            }

        wanted = {*file.get("problems", []), *file.get("ignored", [])}
        try:
            until(lambda: shown() == wanted, f"the status of {file['name']}", 20, 0.05)
        except AssertionError as failure:
            raise AssertionError(f"{failure}; it is {shown()}, judged {file}") from None
        assert file["verdict"] == ("wrong" if file.get("problems") else "ok")


@pytest.fixture
def judged(installation, program, make_cluster_tproxy, directory) -> Judged:
    return Judged(installation, program, make_cluster_tproxy, directory)


@pytest.fixture
def configured(judged) -> Judged:
    """With one instance, which has no destinations yet."""
    key = judged.installation.key
    judged.add(transparent_proxy(INSTANCE), key_secret(INSTANCE, HOME, key, "key"))
    return judged


def now() -> str:
    """Returns the time as the API writes it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def mail(name: str = NAME, **properties: object) -> dict:
    return destination(name, HOST, 110, **properties)


def verdicts(judged: list[dict]) -> dict[str, str]:
    return {file["name"]: file["verdict"] for file in judged if file.get("kind") == "Destination"}


def test_resources_of_the_samples(configured, namespace):
    """Fragments, chains, and a destination that no file describes are for the Destination service
    to know. The samples with actions are for another proxy, but that shows only there."""
    encrypted = {"mail.transport.protocol": "pop3s"}
    configured.add_destinations(mail(), mail("example-dest-pop3s", **encrypted))
    for number, sample in enumerate(DESTINATIONS.values()):
        name = f"{sample['metadata']['name']}-{number}"
        metadata = {**sample["metadata"], "name": name, "namespace": namespace}
        configured.add({**sample, "metadata": metadata})
    configured.add({**MISPRINT, "metadata": {**MISPRINT["metadata"], "namespace": namespace}})
    said = verdicts(configured.agreed())
    expected = {
        "fragment": "unknown",
        "optional fragment": "unknown",
        "levels": "unknown",
        "chain": "unknown",
        "gateway": "ignored",
        "chain for SAML": "unknown",
        "action": "unknown",
        "new action": "unknown",
    }
    assert list(said.values()) == [expected.get(sample, "ok") for sample in DESTINATIONS]


def test_mail_destinations_of_the_samples(configured, namespace):
    """Nothing names a Connectivity Proxy for those on premise."""
    samples = [*MAIL_DESTINATIONS.values(), MAIL_WITHOUT_AUTHENTICATION]
    named = [{**sample, "Name": f"sample-{n}"} for n, sample in enumerate(samples)]
    configured.add_destinations(*named)
    configured.add(*(destination_cr(d["Name"], namespace, d["Name"]) for d in named))
    assert verdicts(configured.agreed()) == {
        d["Name"]: "ok" if d["ProxyType"] == "Internet" else "wrong" for d in named
    }


@pytest.mark.parametrize("sample", TRANSPARENT_PROXIES)
def test_configurations_of_the_samples(judged, installation, oauth, namespace, sample):
    """Alone, each lacks at least its Secrets. The objects of the Connectivity Proxy belong to
    another installation, and check takes them for granted."""
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": CONNECTIVITY[0]}}
    with ConnectivityProxy(oauth, authorization=False) as proxy:
        installation.kube.apply(space, proxy.config_map(CONNECTIVITY[0]))
    judged.add_destinations(mail())
    judged.add(TRANSPARENT_PROXIES[sample], destination_cr("mail", namespace, NAME))
    proxy, resource = judged.agreed()
    assert (proxy["verdict"], resource["verdict"]) == ("wrong", "wrong")


# Destinations that cannot be used.
BAD_DESTINATIONS = {
    "this-machine": mail(mail__pop3__host="127.0.0.1"),
    "localhost": mail(mail__pop3__host="localhost"),
    "no-host": mail(mail__pop3__host=None),
    "no-port": mail(mail__pop3__port="pop3"),
    "port-0": mail(mail__pop3__port="0"),
    "http": {"Type": "HTTP", "URL": "https://a.example.com", "ProxyType": "Internet"},
    "imap": mail(mail__transport__protocol="imap", mail__imap__host=HOST, mail__imap__port="143"),
    "proxy-type": mail(ProxyType="PrivateLink"),
    "authentication": mail(Authentication="SAMLAssertion"),
    "no-user": mail(mail__user=None),
    "no-password": mail(mail__password=None),
    "on-premise": mail(ProxyType="OnPremise"),
    "no-token-service": mail(Authentication="OAuth2ClientCredentials", clientId="a"),
}


def test_wrong_destinations(configured, namespace):
    for name, properties in BAD_DESTINATIONS.items():
        configured.add_destinations({**properties, "Name": name})
        configured.add(destination_cr(name, namespace, name))
    said = verdicts(configured.agreed())
    left = {"http", "imap"}
    assert said == {name: "ignored" if name in left else "wrong" for name in BAD_DESTINATIONS}


# What is wrong with Secrets that the API server accepts.
ACCEPTED_SECRETS = [bad for bad in BAD_SECRETS if bad not in ("not Base64", "no text")]

# What is wrong with the spec of a resource, and what the API server refuses.
BAD_SPECS: dict[str, dict] = {
    "instance": {"destinationServiceInstanceName": "another"},
    "comment": {"destinationServiceInstanceName": f"{INSTANCE} // can be omitted"},
    "level": {"fragmentRef": {"name": "fragment", "level": "provider_subaccount"}},
}
REFUSED_SPECS: dict[str, dict] = {
    "port-0": {"service": {"port": 0}},
    "port-text": {"service": {"port": "110"}},
    "port-65536": {"service": {"port": 65536}},
    "scope": {"accessControl": {"scope": "everybody"}},
    "no-name": {"destinationRef": {}},
    "another-level": {"destinationRef": {"name": NAME, "level": "instance-of-mine"}},
    "name-number": {"destinationRef": {"name": 7}},
    "no-spec": {"destinationRef": None},
    "fragment-without-name": {"fragmentRef": {}},
    "chain-without-name": {"chainRef": {"variables": []}},
    "variables": {"chainRef": {"name": "chain", "variables": {"key": "value"}}},
    "optional": {"fragmentRef": {"name": "fragment", "optional": "perhaps"}},
}


def test_wrong_resources(configured, namespace):
    configured.add_destinations(mail())
    for name, spec in {**BAD_SPECS, **REFUSED_SPECS}.items():
        cr = destination_cr(name, namespace, NAME)
        cr["spec"] |= spec
        configured.add(cr)
    said = verdicts(configured.agreed())
    assert said.items() >= dict.fromkeys(BAD_SPECS, "wrong").items()


def test_names(configured, installation):
    """The names of Services: which there may be, and who has one that two resources want. Neither
    kind of object says how old it is, so the first one by its namespace counts."""
    first, second = sorted(installation.kube.namespace() for _ in range(2))
    configured.add_destinations(mail(), {**mail("broken"), "mail.pop3.port": "pop3"})
    good = ["mail", "1mail", "a" * 63, "shared-name"]
    bad = ["a" * 64, "with.dot", "sap-transp-proxy-mail", "sap-transp-proxy-operator"]
    configured.add(*(destination_cr(name, first, NAME) for name in good + bad))
    configured.add(destination_cr("usable", first, "broken"))
    configured.add(destination_cr("shared-name", second, NAME))
    configured.add(destination_cr("usable", second, NAME))
    said = [file for file in configured.agreed() if file.get("kind") == "Destination"]
    assert {
        (file["namespace"], file["name"]) for file in said if file["verdict"] == "ok"
    } == {*((first, name) for name in good), (second, "usable")}


def aged(name: str, namespace: str, created: str) -> dict:
    cr = destination_cr(name, namespace, NAME)
    cr["metadata"]["creationTimestamp"] = created
    return cr


def test_age(configured, installation):
    """Files from `kubectl get -o json` tell how old the resources are: the older one counts."""
    first, second = sorted(installation.kube.namespace() for _ in range(2))
    configured.add_destinations(mail())
    ages = {}
    for namespace in (second, first):
        installation.kube.apply(destination_cr("mail", namespace, NAME))
        metadata = installation.cr(namespace, "mail")["metadata"]
        ages[namespace] = metadata["creationTimestamp"]
        until(lambda at=ages[namespace]: now() > at, "the next second")
    for namespace in (first, second):
        configured.add(aged("mail", namespace, ages[namespace]))
    said = [file for file in configured.agreed() if file.get("kind") == "Destination"]
    assert {file["namespace"]: file["verdict"] for file in said} == {first: "wrong", second: "ok"}


# What is wrong with the annotation that names the tenants.
BAD_TENANTS = {
    "none": None,
    "empty": "[]",
    "text": "tenant",
    "no-label": '["not a label"]',
    "underscore": '["my_tenant"]',
    "too-long": json.dumps(["t" * 64]),
    "number": "[7]",
    "n" * 60: '["long"]',  # the Service would be called after both
}


def test_tenants(judged, installation, oauth, directory, namespace):
    key = installation.service.service_key(by_name=True)
    judged.add(transparent_proxy(INSTANCE, tenantMode="shared"))
    judged.add(key_secret(INSTANCE, HOME, key, "key"))
    judged.add_destinations(mail())
    tenants = ["tenant-subdomain", "another-tenant-subdomain"]
    hosts = hosts_file(directory, *oauth.host_names(*tenants))
    judged.arguments = ("--hosts", str(hosts))
    for tenant in tenants:
        installation.service.tenant(tenant).destinations[NAME] = mail()
    annotations = {"good": json.dumps(tenants), "capitals": '["Tenant-SUBDOMAIN"]', **BAD_TENANTS}
    for name, annotation in annotations.items():
        cr = destination_cr(name, namespace, NAME)
        cr["metadata"]["annotations"] = {TENANTS: annotation} if annotation else {}
        judged.add(cr)
    said = verdicts(judged.agreed())
    assert said == {**dict.fromkeys(annotations, "ok"), **dict.fromkeys(BAD_TENANTS, "wrong")}


# Configurations with mistakes, and those that the API server refuses: it looks at types alone.
BAD_CONFIGURATIONS: dict[str, dict] = {
    "values": {
        "tenantMode": "both",
        "logging": {"level": "loud"},
        "managedNamespacesMode": "some",
        "integration": {
            "connectivityProxy": {"serviceName": "a b", "tcpPort": 0},
            "destinationService": {"readTimeoutSeconds": -1},
        },
    },
    "no instances": {"integration": {}},
}
REFUSED_CONFIGURATIONS: dict[str, dict] = {
    "tenant-mode": {"tenantMode": 7},
    "level": {"logging": "loud"},
    "metrics": {"metrics": {"prometheus": {"enabled": "perhaps"}}},
    "integration": {"integration": []},
}


@pytest.mark.parametrize("bad", BAD_CONFIGURATIONS)
def test_wrong_configurations(judged, namespace, bad):
    judged.add_destinations(mail())
    judged.add(transparent_proxy(INSTANCE, **BAD_CONFIGURATIONS[bad]))
    judged.add(destination_cr("mail", namespace, NAME))
    proxy, resource = (file["verdict"] for file in judged.agreed())
    assert (proxy, resource) == ("wrong", "wrong" if bad == "no instances" else "unknown")


def test_refused_configurations(judged):
    """Check sees mistakes only in the oldest one, and that the others are too many."""
    for name, config in REFUSED_CONFIGURATIONS.items():
        judged.add(transparent_proxy(INSTANCE, name=name, **config))
    for file in judged.judge():
        assert not judged.accepts(file)


def test_wrong_secrets(judged):
    """The status of the object that names them says what is wrong with each."""
    names = {f"secret-{number}": bad for number, bad in enumerate(ACCEPTED_SECRETS)}
    judged.add(transparent_proxy(*names))
    for name, bad in names.items():
        members, _ = BAD_SECRETS[bad]
        metadata = {"name": name, "namespace": HOME}
        judged.add({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, **members})
    proxy, *_ = judged.agreed()
    (problem,) = proxy["problems"]
    assert all(name in problem for name in names)


def test_other_objects(judged, installation, namespace):
    """A second configuration, and a Secret that nothing names."""
    key = installation.key
    judged.add_destinations(mail())
    judged.add(transparent_proxy(INSTANCE, name="a"), transparent_proxy(INSTANCE, name="b"))
    judged.add(key_secret(INSTANCE, HOME, key, "key"), key_secret("unused", HOME, key, "key"))
    judged.add(destination_cr("mail", namespace, NAME))
    said = {(file["kind"], file["name"]): file["verdict"] for file in judged.agreed()}
    assert said == {
        ("TransparentProxy", "a"): "ok",
        ("TransparentProxy", "b"): "wrong",
        ("Secret", INSTANCE): "ok",
        ("Secret", "unused"): "ignored",
        ("Destination", "mail"): "ok",
    }
