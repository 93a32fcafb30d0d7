"""The parts of a CR's reference besides the name, and the kinds of service keys, in local mode. The
stand-in for the Destination service judges each request, and mail comes from a real Dovecot."""

import json

import pytest

from harness.clients import RawClient
from harness.destination_service import CONSUME, FIND, key_secret
from harness.dns import hosts_file
from harness.installation import INSTANCE, destination_cr, list_and_fetch, transparent_proxy
from harness.oauth import IAS_TOKEN_PATH, PROVIDER
from harness.samples import HOME
from harness.tproxy import destination

NAME = "example-dest-pop3"
HOSTS_OF_SERVICES = ("destination.services.test",)


@pytest.fixture
def proxy(make_tproxy, directory, oauth):
    """A proxy that knows the names of the services."""
    hosts = hosts_file(directory, *oauth.host_names(), *HOSTS_OF_SERVICES)
    return make_tproxy("--hosts", str(hosts))


@pytest.fixture
def apply(proxy):
    def apply(*objects: dict) -> None:
        for item in objects:
            name = f"{item['kind'].lower()}-{item['metadata']['name']}.json"
            proxy.write_text(json.dumps(item), name)

    return apply


@pytest.fixture
def configured(apply, destination_service):
    """A configured instance whose key has a secret."""
    key = destination_service.service_key()
    apply(transparent_proxy(INSTANCE), key_secret(INSTANCE, HOME, key, "key"))


@pytest.fixture
def mailbox(oauth_dovecot):
    """Creates a mailbox with one message. Returns the properties of a destination for it, and the
    message."""

    def make(subject: str) -> tuple[dict[str, str], list[bytes]]:
        mail = oauth_dovecot.mailbox([f"Subject: {subject}\r\n\r\n".encode()])
        own = {"mail__user": mail.user, "mail__password": mail.password}
        return destination(NAME, oauth_dovecot.host, oauth_dovecot.pop3, **own), mail.files()

    return make


@pytest.fixture
def not_served(proxy):
    """Waits for the line on the terminal about a CR that is not served, with this text."""

    def not_served(name: str, text: str, start: int = 0) -> None:
        proxy.printed.wait(
            lambda line: line.startswith(f"{name} ") and text in line,
            f"a line of {name} with {text!r}",
            start=start,
        )

    return not_served


def reference(name: str, level: str = "", **spec: object) -> dict:
    cr = destination_cr(name, "apps", NAME, **spec)
    if level:
        cr["spec"]["destinationRef"]["level"] = level
    return cr


def login(properties: dict[str, str]) -> dict[str, str]:
    return {name: properties[name] for name in ("mail.user", "mail.password")}


def test_levels(proxy, apply, configured, destination_service, mailbox, not_served):
    """Two destinations have one name; a level never leads to the other."""
    below, mail_below = mailbox("instance")
    above, mail_above = mailbox("subaccount")
    destination_service.destinations[NAME] = above
    apply(reference("low", "instance"))
    not_served("low", f"'{NAME}' referred in Destination CR 'low' is not found")
    destination_service.instance_destinations[NAME] = below
    apply(
        reference("any"),
        reference("high", "subaccount"),
        reference("provider", "provider_subaccount"),
    )
    assert list_and_fetch(proxy.port("any")) == mail_below
    assert list_and_fetch(proxy.port("low")) == mail_below
    assert list_and_fetch(proxy.port("high")) == mail_above
    assert list_and_fetch(proxy.port("provider")) == mail_above
    paths = {request.path for request in destination_service.requests.all()}
    assert f"{FIND}{NAME}" in paths and f"{CONSUME}{NAME}@provider_subaccount" in paths


def test_fragments(proxy, apply, configured, destination_service, mailbox, not_served):
    plain, mail = mailbox("of the destination")
    other, other_mail = mailbox("of the fragment")
    destination_service.destinations[NAME] = plain
    destination_service.fragments["other"] = login(other)
    missing, optional = {"name": "missing"}, {"name": "missing", "optional": True}
    apply(
        reference("with", fragmentRef={"name": "other"}),
        reference("without", fragmentRef=optional),
        reference("broken", fragmentRef=missing),
    )
    assert list_and_fetch(proxy.port("with")) == other_mail
    assert list_and_fetch(proxy.port("without")) == mail
    not_served("broken", "with fragment 'missing' referred in Destination CR 'broken' is not found")

    # The fragment now exists, and a CR for which it is optional gets it as well.
    destination_service.fragments["missing"] = login(other)
    assert list_and_fetch(proxy.port("broken")) == other_mail


def test_fragments_at_levels(proxy, apply, configured, destination_service, mailbox, not_served):
    plain, _ = mailbox("of the destination")
    low, low_mail = mailbox("of the instance's fragment")
    high, high_mail = mailbox("of the subaccount's fragment")
    destination_service.destinations[NAME] = plain
    destination_service.fragments["extra"] = login(high)
    destination_service.tenant(PROVIDER).instance.fragments["extra"] = login(low)
    apply(
        reference("same", "subaccount", fragmentRef={"name": "extra"}),
        reference("lower", "subaccount", fragmentRef={"name": "extra", "level": "instance"}),
        reference("alone", fragmentRef={"name": "extra", "level": "instance"}),
    )
    assert list_and_fetch(proxy.port("same")) == high_mail
    assert list_and_fetch(proxy.port("lower")) == low_mail
    not_served("alone", "spec.fragmentRef.level needs spec.destinationRef.level")


def test_chains(proxy, apply, configured, destination_service, mailbox, not_served):
    properties, mail = mailbox("chained")
    destination_service.destinations[NAME] = properties
    destination_service.chains["com.sap.chain"] = ("key1", "key2")
    variables = [{"name": "key1", "value": "value 1"}, {"name": "key2", "value": "value2"}]
    apply(
        reference("whole", chainRef={"name": "com.sap.chain", "variables": variables}),
        reference("half", chainRef={"name": "com.sap.chain", "variables": variables[:1]}),
    )
    assert list_and_fetch(proxy.port("whole")) == mail
    not_served("half", "does not take spec.chainRef (400: X-chain-var-key2 is missing)")
    sent = [
        request.headers
        for request in destination_service.requests.all()
        if "X-chain-var-key2" in request.headers
    ]
    assert {headers["X-chain-var-key1"] for headers in sent} == {"value 1"}


def test_tokens_of_the_tenant(proxy, apply, configured, destination_service, oauth, mailbox):
    """A token service of type Common is the provider's own."""
    properties, mail = mailbox("by token")
    client = oauth.mail_client(properties["mail.user"])
    destination_service.destinations[NAME] = properties | oauth.properties(client, common=True)
    apply(reference("mail", "subaccount"))
    assert list_and_fetch(proxy.port("mail")) == mail
    assert {r.headers["X-tenant"] for r in destination_service.finds(NAME, True)} == {PROVIDER}


@pytest.mark.parametrize("kind", ["x509", "ias"])
def test_keys_with_certificates(
    proxy, apply, destination_service, oauth, mailbox, not_served, secrets, kind
):
    properties, mail = mailbox("by certificate")
    destination_service.destinations[NAME] = properties
    key = destination_service.service_key(kind)
    apply(transparent_proxy(INSTANCE), key_secret(INSTANCE, HOME, key, "key"))
    apply(reference("mail"), reference("level", "subaccount"))
    port = proxy.port("mail")
    assert list_and_fetch(port) == mail
    asked = oauth.requests_of(key["clientid"])
    assert asked and all(r.certificate and "client_secret" not in r.form() for r in asked)
    assert (asked[0].path == IAS_TOKEN_PATH) == (kind == "ias")
    finds = destination_service.finds(NAME, with_tokens=True)
    assert all(bool(find.certificate) == (kind == "ias") for find in finds)
    if kind == "x509":
        assert list_and_fetch(proxy.port("level")) == mail
    else:
        not_served("level", "is of Cloud Identity Services")

    # Another certificate takes effect, and sessions are not disturbed.
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"+OK")
        renewed = destination_service.renewed(key)
        apply(key_secret(INSTANCE, HOME, renewed, "key"))
        before = len(destination_service.requests.all())
        apply(reference("another"))
        assert list_and_fetch(proxy.port("another")) == mail
        assert len(destination_service.requests.all()) > before
        assert client.command(b"STAT").startswith(b"+OK")
    assert not secrets.shown_in(proxy.everything_said())
