"""Mistakes of users and conflicts with others: the condition reports them, clients are told, no
foreign object is changed, and a correction is enough."""

import pytest

from harness.clients import RawClient
from harness.destination_service import key_secret
from harness.installation import (
    CRS,
    INSTANCE,
    PROXIES,
    Installation,
    destination_cr,
    list_and_fetch,
    transparent_proxy,
)
from harness.oauth import PROVIDER
from harness.samples import HOME
from harness.util import until

NOT_CONFIGURED = "Technical connectivity is not configured. "
ERROR = "ConfigurationError-"
REFERENCED = f"{ERROR}ReferencedDestination-"

MAIL = "mail"


@pytest.fixture
def good(installation, add_destination, messages) -> dict[str, str]:
    """The properties of the destination MAIL, which works."""
    add_destination(MAIL, messages)
    return installation.service.destinations[MAIL]


def changed(properties: dict[str, str], change: dict[str, str | None]) -> dict[str, str]:
    """Returns the properties with a change; None removes a property."""
    return {name: value for name, value in {**properties, **change}.items() if value is not None}


def answer(port: int, command: bytes = b"LIST") -> str:
    """Returns the answer to a client's command."""
    with RawClient(port) as client:
        return client.command(command).decode()


def wait_event(installation: Installation, namespace: str, name: str, condition: dict) -> None:
    """Waits for the Event that reports the condition."""

    def tells(event: dict) -> bool:
        kind = "Normal" if condition["status"] == "True" else "Warning"
        return (
            (event["regarding"]["kind"], event["regarding"]["name"]) == ("Destination", name)
            and (event["type"], event["reason"]) == (kind, condition["reason"])
            and event["note"] == condition["message"]
        )

    until(
        lambda: any(tells(event) for event in installation.events(namespace)),
        f"the Event of {namespace}/{name} that tells of {condition}",
    )


def refused(installation: Installation, namespace: str, name: str, reason: str) -> str:
    """Waits for the condition and its Event. Returns the message without the words that all
    messages share."""
    condition = installation.wait_condition(namespace, name, reason)
    assert condition["status"] == "False"
    wait_event(installation, namespace, name, condition)
    return condition["message"].removeprefix(NOT_CONFIGURED)


def services(installation: Installation, *places: tuple[str, str]) -> list[dict | None]:
    return [installation.service_of(namespace, name) for namespace, name in places]


# --- the destination ---

# Each mistake (None: the destination does not exist), the reason, and a part of the message.
DESTINATIONS = {
    "missing": (None, f"{REFERENCED}NotFound", "does not have it"),
    "proxy-type": (
        {"ProxyType": "PrivateLink"},
        f"{REFERENCED}ProxyTypeNotSupported",
        'ProxyType: is "PrivateLink"; set it to Internet or OnPremise',
    ),
    "on-premise": (
        {"ProxyType": "OnPremise"},
        f"{ERROR}ConnectivityProxy-NotConfigured",
        "ProxyType OnPremise needs a Connectivity Proxy",
    ),
    "assertion": (
        {"Authentication": "SAMLAssertion"},
        f"{REFERENCED}AuthenticationNotSupported",
        'Authentication: is "SAMLAssertion"',
    ),
    "no-host": (
        {"mail.pop3.host": None},
        f"{REFERENCED}UrlNotSupported",
        "mail.pop3.host: is missing; give the name of the mail server",
    ),
    "port": ({"mail.pop3.port": "0"}, f"{REFERENCED}UrlNotSupported", "mail.pop3.port: "),
    "key-store": (
        {
            "Authentication": "OAuth2ClientCredentials",
            "tokenServiceURL": "https://login.example.com/oauth/token",
            "clientId": "mail",
            "tokenService.KeyStoreLocation": "mail.p12",
        },
        f"{REFERENCED}KeyStoreInvalid",
        "tokenService.KeyStoreLocation: is not supported; use clientSecret",
    ),
    "trust-store-away": (
        {"TrustStoreLocation": "mail.pem", "mail.pop3.starttls.required": "true"},
        f"{REFERENCED}TrustStoreInvalid",
        'TrustStoreLocation: "mail.pem" is not among the certificates that came with the '
        "destination; upload a file of that name beside it",
    ),
    "trust-store-jks": (
        {"TrustStoreLocation": "mail.jks", "mail.pop3.starttls.required": "true"},
        f"{REFERENCED}TrustStoreInvalid",
        'TrustStoreLocation: "mail.jks" is a key store, which is not read; upload its certificates '
        "as a PEM file, and name that",
    ),
    "no-password": ({"mail.password": None}, "ConfigurationFailed", "mail.password: is missing"),
}


def test_destinations(installation, cluster_tproxy, namespace, good, messages):
    """Each mistake is reported for a CR that has worked before and for a new one. Correcting the
    destination is enough."""
    found = installation.service.destinations
    found.update(dict.fromkeys(DESTINATIONS, good))
    installation.kube.apply(
        *[destination_cr(f"old-{name}", namespace, name) for name in DESTINATIONS]
    )
    ports = {name: installation.available(namespace, f"old-{name}") for name in DESTINATIONS}
    before = {name: installation.service_of(HOME, f"old-{name}") for name in DESTINATIONS}

    for name, (change, _, _) in DESTINATIONS.items():
        del found[name]
        if change is not None:
            found[name] = changed(good, change)
    installation.key = installation.service.service_key()
    installation.configure()  # with another key everything is read anew
    installation.kube.apply(
        *[destination_cr(f"new-{name}", namespace, name) for name in DESTINATIONS]
    )

    for name, (change, reason, words) in DESTINATIONS.items():
        wrong = "is not found." if change is None else f"cannot be used: {words}"
        for cr in (f"old-{name}", f"new-{name}"):
            message = refused(installation, namespace, cr, reason)
            assert message.startswith(
                f"Destination '{name}' referred in Destination CR '{cr}' {wrong}"
            )
        told = answer(ports[name])
        assert told.startswith(f'-ERR [SYS/PERM] destination "{name}": ')
        assert words in told
        assert installation.service_of(HOME, f"old-{name}") == before[name]
        new = f"new-{name}"
        assert services(installation, (HOME, new), (namespace, new)) == [None, None]

    found.update(dict.fromkeys(DESTINATIONS, good))
    for name in DESTINATIONS:
        assert installation.available(namespace, f"old-{name}") == ports[name]
        assert installation.service_of(HOME, f"old-{name}") == before[name]
        assert list_and_fetch(ports[name]) == messages
        assert list_and_fetch(installation.available(namespace, f"new-{name}")) == messages


TYPES = {
    "http": ({"Type": "HTTP"}, 'Type: is "HTTP"'),
    "imap": ({"mail.transport.protocol": "imap"}, 'mail.transport.protocol: is "imap"'),
}


def break_types(installation: Installation, good: dict[str, str]) -> None:
    for name, (change, _) in TYPES.items():
        installation.service.destinations[name] = changed(good, change)
    installation.key = installation.service.service_key()
    installation.configure()


def test_types_are_left_alone(installation, cluster_tproxy, namespace, good, messages):
    """No condition is written, because another proxy may serve these types."""
    found = installation.service.destinations
    found.update(dict.fromkeys(TYPES, good))
    installation.kube.apply(*[destination_cr(name, namespace, name) for name in TYPES])
    ports = {name: installation.available(namespace, name) for name in TYPES}
    break_types(installation, good)
    for name in TYPES:
        until(lambda name=name: not installation.condition(namespace, name), "no condition")
        with pytest.raises(ConnectionRefusedError):
            RawClient(ports[name])
    until(lambda: installation.ours() == [], "nothing of ours")
    found.update(dict.fromkeys(TYPES, good))
    for name in TYPES:
        assert list_and_fetch(installation.available(namespace, name)) == messages


@pytest.mark.one_build
def test_types_claimed(installation, make_cluster_tproxy, namespace, good, messages):
    installation.configure()
    make_cluster_tproxy(installation, "--claim", "all").ready()
    found = installation.service.destinations
    found.update(dict.fromkeys(TYPES, good))
    installation.kube.apply(*[destination_cr(name, namespace, name) for name in TYPES])
    ports = {name: installation.available(namespace, name) for name in TYPES}
    break_types(installation, good)
    for name, (_, words) in TYPES.items():
        message = refused(installation, namespace, name, f"{REFERENCED}TypeNotSupported")
        assert f"cannot be used: {words}" in message
        told = answer(ports[name])
        assert told.startswith(f'-ERR [SYS/PERM] destination "{name}": {words}')
    found.update(dict.fromkeys(TYPES, good))
    for name in TYPES:
        assert installation.available(namespace, name) == ports[name]
        assert list_and_fetch(ports[name]) == messages


# The property of each fragment, and the reason that is shown for it.
FRAGMENTS = {
    "proxy-type": ({"ProxyType": "PrivateLink"}, "ProxyTypeNotSupported"),
    "port": ({"mail.pop3.port": "0"}, "UrlNotSupported"),
    "loopback": ({"mail.pop3.host": "127.0.0.1"}, "LoopbackUrlNotSupported"),
}


@pytest.mark.one_build
def test_fragments(installation, make_cluster_tproxy, namespace, good):
    """A mistake that may come from a fragment has a reason of its own, and the message names both.
    A correction of the fragment is enough."""
    installation.configure()
    make_cluster_tproxy(installation, "--claim", "all", "--allow-loopback", None).ready()
    installation.service.destinations[MAIL] = {**good, "mail.pop3.host": "mail.example.com"}
    fragments = installation.service.tenant(PROVIDER).subaccount.fragments
    for name, (change, _) in FRAGMENTS.items():
        fragments[name] = change
        cr = destination_cr(name, namespace, MAIL, fragmentRef={"name": name})
        installation.kube.apply(cr)
    for name, (change, reason) in FRAGMENTS.items():
        full = f"{ERROR}ReferencedDestinationWithFragment-{reason}"
        message = refused(installation, namespace, name, full)
        said = f"Destination '{MAIL}' with fragment '{name}' referred in Destination CR '{name}' "
        assert message.startswith(f"{said}cannot be used: {next(iter(change))}: ")
    fragments.update({name: {"Description": "corrected"} for name in FRAGMENTS})
    for name in FRAGMENTS:
        installation.available(namespace, name)


LOOPBACK = ["127.0.0.1", "127.1", "localhost", "[::1]", "::ffff:127.0.0.1"]


@pytest.mark.one_build
def test_loopback(installation, make_cluster_tproxy, namespace, good, directory):
    """Without --allow-loopback an address is refused at once. A name is refused when a client
    connects."""
    hosts = directory / "hosts"
    hosts.write_text("127.0.0.1 here.test\n")
    hosts.chmod(0o644)
    installation.configure()
    tproxy = make_cluster_tproxy(installation, "--allow-loopback", None, "--hosts", str(hosts))
    tproxy.ready()
    found = installation.service.destinations
    names = {f"loopback-{number}": host for number, host in enumerate(LOOPBACK)}
    for name, host in {**names, "named": "here.test"}.items():
        found[name] = {**good, "mail.pop3.host": host}
        installation.kube.apply(destination_cr(name, namespace, name))
    for name in names:
        message = refused(installation, namespace, name, f"{REFERENCED}LoopbackUrlNotSupported")
        assert "mail.pop3.host: is an address of the machine that the proxy runs on" in message
    assert answer(installation.available(namespace, "named")) == (
        '-ERR [SYS/PERM] destination "named": host "here.test" is 127.0.0.1, a loopback address, '
        "which is not allowed"
    )
    found.update({name: {**good, "mail.pop3.host": "there.test"} for name in names})
    for name in names:
        installation.available(namespace, name)


# --- the instance and its service key ---


def on_instance(name: str, namespace: str, instance: str) -> dict:
    """Returns a CR for MAIL of this instance."""
    return destination_cr(name, namespace, MAIL, destinationServiceInstanceName=instance)


def without_default(proxy: dict) -> dict:
    proxy["spec"]["config"]["integration"]["destinationService"]["defaultInstanceName"] = None
    return proxy


def secret(name: str, **entries: str) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": HOME},
        "stringData": entries,
    }


def delete_secret(installation: Installation, name: str) -> None:
    installation.kube.delete(f"/api/v1/namespaces/{HOME}/secrets/{name}")


def wait_credentials(installation: Installation, *problems: str) -> None:
    """Waits until the TransparentProxy object reports these problems with Secrets and no others."""

    def told() -> bool:
        status = installation.kube.get(f"{PROXIES}/transparent-proxy").get("status", {})
        conditions = {item["type"]: item for item in status.get("conditions", [])}
        credentials = conditions.get("CredentialsAvailable", {})
        if not problems:
            return (status.get("state"), credentials.get("status")) == ("Ready", "True")
        return (status.get("state"), credentials.get("status")) == ("Warning", "False") and all(
            problem in credentials["message"] for problem in problems
        )

    until(told, f"the TransparentProxy's word on {problems}", every=0.05)


def let_read(name: str, namespace: str) -> list[dict]:
    """Returns the Role and its binding with which tproxy may read this Secret in another
    namespace."""
    api = "rbac.authorization.k8s.io"
    common = {"apiVersion": f"{api}/v1", "metadata": {"name": name, "namespace": namespace}}
    verbs = ["list", "watch"]
    rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [name], "verbs": verbs}
    return [
        {**common, "kind": "Role", "rules": [rule]},
        {
            **common,
            "kind": "RoleBinding",
            "roleRef": {"apiGroup": api, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": "tproxy", "namespace": HOME}],
        },
    ]


def x509(key: dict[str, str]) -> dict[str, str]:
    """Returns the same service key with a certificate."""
    rest = {name: value for name, value in key.items() if name != "clientsecret"}
    return {**rest, "credential-type": "x509", "certificate": "a certificate", "key": "a key"}


def test_instances(installation, cluster_tproxy, namespace, good, messages):
    """None of these instances can be used before it is corrected."""
    kube, key = installation.kube, installation.key
    names = ["wrong-secret", "no-secret", "no-entry", "no-json", "x509", "elsewhere"]
    proxy = transparent_proxy(*names)
    service = proxy["spec"]["config"]["integration"]["destinationService"]
    service["defaultInstanceName"] = None
    service["instances"][-1]["serviceCredentials"]["secretNamespace"] = namespace
    kube.apply(
        proxy,
        key_secret("wrong-secret", HOME, {**key, "clientsecret": "wrong"}, "key"),
        secret("no-entry", other="x"),
        secret("no-json", key="{clientid"),
        key_secret("x509", HOME, x509(key), "key"),
        key_secret("elsewhere", namespace, key, "key"),
    )
    comment = f"{INSTANCE} // can be omitted"
    kube.apply(
        *[on_instance(name, namespace, name) for name in names],
        on_instance("unknown", namespace, INSTANCE),
        on_instance("comment", namespace, comment),
        destination_cr("none", namespace, MAIL),
    )

    of_secret = {
        "no-secret": f'Secret with name "no-secret" not found in namespace: "{HOME}".',
        "no-entry": f'Secret "no-entry" in namespace "{HOME}": the entry "key" is missing',
        "no-json": f'Secret "no-json" in namespace "{HOME}": the entry "key" is not a JSON object',
        "x509": f'Secret "x509" in namespace "{HOME}": the field "certificate" in the entry "key" '
        "is not PEM: it must have the lines",
        "elsewhere": f'Secret "elsewhere" in namespace "{namespace}" may not be read',
    }
    said = {
        **of_secret,
        "wrong-secret": 'the service key of Destination service instance "wrong-secret" does not '
        "work: authorization server 127.0.0.1 refuses the client (401: invalid_client",
        "unknown": f'Destination service instance "{INSTANCE}" is not configured',
        "comment": f'Destination service instance "{comment}" is not configured; YAML has no '
        'comments with "//"',
        "none": "Destination service instance name should be provided",
    }
    for name, words in said.items():
        reason = f"{ERROR}DestinationServiceInstance-NotConfigured"
        assert refused(installation, namespace, name, reason).startswith(
            f"The Destination service instance name in the Destination CR '{name}' is not "
            f"configured as expected. {words}"
        )
        assert services(installation, (HOME, name), (namespace, name)) == [None, None]
    wait_credentials(installation, *of_secret.values())

    service["defaultInstanceName"] = "no-secret"
    kube.apply(
        proxy,
        *[key_secret(name, HOME, key, "key") for name in names[:-1]],
        *let_read("elsewhere", namespace),
        on_instance("unknown", namespace, "no-secret"),
        on_instance("comment", namespace, "no-secret"),
    )
    for name in said:
        assert list_and_fetch(installation.available(namespace, name)) == messages
    wait_credentials(installation)


def test_service_key_goes_bad(installation, cluster_tproxy, namespace, good, messages):
    """A key that cannot be read does not replace one that could. A key that the token server
    refuses, and a deleted Secret, end the use."""
    kube, key = installation.kube, installation.key
    names = ["wrong-secret", "no-secret", "no-json", "x509"]
    secrets = [key_secret(name, HOME, key, "key") for name in names]
    kube.apply(transparent_proxy(*names), *secrets)
    kube.apply(*[on_instance(name, namespace, name) for name in names])
    ports = {name: installation.available(namespace, name) for name in names}
    before = services(installation, *[(HOME, name) for name in names])

    delete_secret(installation, "no-secret")
    kube.apply(
        key_secret("wrong-secret", HOME, {**key, "clientsecret": "wrong"}, "key"),
        secret("no-json", key="{clientid"),
        key_secret("x509", HOME, x509(key), "key"),
    )
    told = {
        "wrong-secret": 'the service key of Destination service instance "wrong-secret" does not '
        "work: authorization server 127.0.0.1 refuses the client (401: invalid_client",
        "no-secret": f'Secret with name "no-secret" not found in namespace: "{HOME}".',
    }
    for name, words in told.items():
        reason = f"{ERROR}DestinationServiceInstance-NotConfigured"
        assert words in refused(installation, namespace, name, reason)
        assert answer(ports[name]).startswith(f'-ERR [SYS/PERM] destination "{MAIL}": {words}')
    wait_credentials(installation, '"no-secret" not found', '"no-json" in', '"x509" in')
    for name in ("no-json", "x509"):
        assert list_and_fetch(ports[name]) == messages
        assert installation.condition(namespace, name)["status"] == "True"
    assert services(installation, *[(HOME, name) for name in names]) == before

    kube.apply(*secrets)
    for name in names:
        assert installation.available(namespace, name) == ports[name]
        assert list_and_fetch(ports[name]) == messages
    assert services(installation, *[(HOME, name) for name in names]) == before
    wait_credentials(installation)


# --- foreign Services ---

TAKEN = f"{ERROR}K8sResourceWithNameAlreadyPresent"


def foreign(namespace: str, name: str, **spec: object) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": "webmail"}},
        "spec": {"selector": {"app": "webmail"}, "ports": [{"port": 80}], **spec},
    }


def delete_service(installation: Installation, namespace: str, name: str) -> None:
    installation.kube.delete(f"/api/v1/namespaces/{namespace}/services/{name}")


def taken(namespace: str, name: str) -> str:
    return (
        f'The Service "{name}" in the namespace "{namespace}" is there already and is not '
        f"tproxy's. Delete it (kubectl delete service -n {namespace} {name})"
    )


def test_foreign_services(installation, cluster_tproxy, namespace, good, messages):
    """A foreign Service is in the way in the home namespace, beside the CR, and in the place of one
    of ours."""
    kube = installation.kube
    kube.apply(destination_cr("late", namespace, MAIL))
    port = installation.available(namespace, "late")
    places = {"at-home": HOME, "beside": namespace, "late": HOME}
    kube.apply(foreign(HOME, "at-home"), foreign(namespace, "beside"))
    # Our Service is replaced in one request, so that it is never missing.
    ours = installation.service_of(HOME, "late")
    stranger = {**foreign(HOME, "late"), "metadata": ours["metadata"]}
    stranger["metadata"]["labels"] = {"app": "webmail"}
    kube.request("PUT", f"/api/v1/namespaces/{HOME}/services/late", stranger)
    before = services(installation, *[(place, name) for name, place in places.items()])

    kube.apply(*[destination_cr(name, namespace, MAIL) for name in ("at-home", "beside")])
    for name, place in places.items():
        message = refused(installation, namespace, name, TAKEN)
        assert message.startswith(taken(place, name)), message
    assert list_and_fetch(port) == messages
    assert services(installation, *[(place, name) for name, place in places.items()]) == before

    for name, place in places.items():
        delete_service(installation, place, name)
    for name in places:
        assert list_and_fetch(installation.available(namespace, name)) == messages
        assert services(installation, (HOME, name), (namespace, name)) != [None, None]
    assert installation.target_port("late") == port


def left_behind(namespace: str, name: str) -> dict:
    """A Service of SAP's proxy, beside a CR of this name."""
    target = {"type": "ExternalName", "externalName": f"{name}.sap-transp-proxy.svc.cluster.local"}
    return foreign(namespace, name, **target, selector=None, ports=None)


def left_behind_message(namespace: str, name: str) -> str:
    return (
        taken(namespace, name) + ", or annotate the Destination CR with "
        'tproxy/adopt: "true" to have it taken over'
    )


def test_adoption(installation, cluster_tproxy, namespace, good, messages):
    """A Service that SAP's proxy has left behind is adopted if the CR says so."""
    kube = installation.kube
    name = "mail-a"
    kube.apply(left_behind(namespace, name), destination_cr(name, namespace, MAIL))
    message = refused(installation, namespace, name, TAKEN)
    assert message == left_behind_message(namespace, name)
    kube.kubectl("annotate", "-n", namespace, "destination", name, "tproxy/adopt=true")
    assert list_and_fetch(installation.available(namespace, name)) == messages
    service = installation.service_of(namespace, name)
    assert service["spec"]["externalName"] == f"{name}.{HOME}.svc.cluster.local"


def test_resource_that_sap_serves(installation, make_cluster_tproxy, namespace, good):
    """Service and status are those of SAP's proxy, which runs: an Event says what is in the way,
    and both stay as they are."""
    kube = installation.kube
    name = "mail-a"
    theirs = {
        "type": "Available",
        "status": "True",
        "reason": "ConfigurationSuccessful",
        "message": "SAP's proxy serves it.",
        "lastUpdateTime": "2026-01-01T00:00:00Z",
    }
    installation.configure()
    kube.apply(left_behind(namespace, name), destination_cr(name, namespace, MAIL))
    path = f"{CRS}/namespaces/{namespace}/destinations/{name}/status?fieldManager=sap-operator"
    kube.patch(path, {"status": {"conditions": [theirs]}})
    before = installation.cr(namespace, name), installation.service_of(namespace, name)
    make_cluster_tproxy(installation).ready()
    message = NOT_CONFIGURED + left_behind_message(namespace, name)
    event = {"status": "False", "reason": TAKEN, "message": message}
    wait_event(installation, namespace, name, event)
    assert (installation.cr(namespace, name), installation.service_of(namespace, name)) == before
