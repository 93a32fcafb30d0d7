"""Kubernetes objects in the directory of local mode: CRs, a TransparentProxy object, Secrets."""

import base64
import json
from pathlib import Path

import pytest

from harness.clients import RawClient
from harness.destination_service import key_secret
from harness.installation import INSTANCE, destination_cr, list_and_fetch, transparent_proxy
from harness.samples import HOME
from harness.tproxy import ROOT, TARGET_LINE, Tproxy, destination
from harness.util import until

NAME = "example-dest-pop3"


class Objects:
    """The objects in one directory, each in a file of its own."""

    def __init__(self, proxy: Tproxy):
        self.proxy = proxy

    def apply(self, *objects: dict) -> None:
        for item in objects:
            self.proxy.write_text(json.dumps(item, indent=2), self._file(item))

    def remove(self, item: dict) -> None:
        (self.proxy.directory / self._file(item)).unlink()

    def path(self, item: dict) -> Path:
        return self.proxy.directory / self._file(item)

    def _file(self, item: dict) -> str:
        return f"{item['kind'].lower()}-{item['metadata']['name']}.json"


@pytest.fixture
def objects(tproxy) -> Objects:
    return Objects(tproxy)


@pytest.fixture
def key(destination_service) -> dict:
    return destination_service.service_key()


@pytest.fixture
def mail(destination_service, oauth_dovecot):
    """A mailbox whose destination exists only in the Destination service."""
    box = oauth_dovecot.mailbox([b"Subject: from the service\r\n\r\nhello\r\n"])
    own = {"mail__user": box.user, "mail__password": box.password}
    destination_service.destinations[NAME] = destination(
        NAME, oauth_dovecot.host, oauth_dovecot.pop3, **own
    )
    return box


def said(proxy: Tproxy, text: str, start: int = 0) -> str:
    """Waits for a line on the terminal with this text."""
    return proxy.printed.wait(lambda line: text in line, f"the line {text!r}", start=start)


def string_data(secret: dict, key: dict) -> dict:
    """Returns the same Secret as a person would type it."""
    return {**{name: secret[name] for name in secret if name != "data"}, "stringData": key}


def in_lines(secret: dict) -> dict:
    """Returns the same Secret with base64 in several lines, as the base64 command prints it."""
    wrapped = {
        name: base64.encodebytes(base64.b64decode(value)).decode()
        for name, value in secret["data"].items()
    }
    return {**secret, "data": wrapped}


def apart(key: dict) -> dict:
    """Returns the same service key as some services write it, with the client and the authorization
    server in different objects."""
    server = {name: value for name, value in key.items() if name != "uri"}
    return {"uaa": server, "uri": key["uri"], "url": "https://service.example.test"}


LAYOUTS = {
    "an entry a field": lambda key: (None, key_secret(INSTANCE, HOME, key)),
    "whole": lambda key: ("key", key_secret(INSTANCE, HOME, key, "key")),
    "typed": lambda key: (None, string_data(key_secret(INSTANCE, HOME, key), key)),
    "typed whole": lambda key: (
        "all",
        string_data(key_secret(INSTANCE, HOME, key), {"all": json.dumps(key)}),
    ),
    "as cf prints it": lambda key: ("key", key_secret(INSTANCE, HOME, {"credentials": key}, "key")),
    "apart": lambda key: ("key", key_secret(INSTANCE, HOME, apart(key), "key")),
    "base64 in lines": lambda key: (None, in_lines(key_secret(INSTANCE, HOME, key))),
    "blanks": lambda key: (
        None,
        key_secret(INSTANCE, HOME, {name: f" {value}\n" for name, value in key.items()}),
    ),
    "byte order mark": lambda key: (
        "all",
        string_data(key_secret(INSTANCE, HOME, key), {"all": "\ufeff" + json.dumps(key)}),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_destination_of_the_service(objects, key, mail, backend, layout):
    """A destination of the service is served beside a plain one, with the same line on the
    terminal."""
    entry, secret = LAYOUTS[layout](key)
    objects.apply(transparent_proxy(INSTANCE, key=entry), secret)
    objects.apply(destination_cr("mail", "apps", NAME))
    plain = objects.proxy.add("plain", backend.host, backend.port)
    assert list_and_fetch(objects.proxy.port("mail")) == mail.files()
    assert list_and_fetch(plain) == list(backend.script.messages)


def test_key_in_utf_16(objects, key):
    """A Secret made of a file that Windows has saved as "Unicode" is read."""
    text = base64.b64encode(json.dumps(key).encode("utf-16")).decode()
    secret = {**key_secret(INSTANCE, HOME, key), "data": {"key": text}}
    objects.apply(transparent_proxy(INSTANCE, key="key"), secret)
    said(objects.proxy, 'the entry "key" is UTF-16; save it as UTF-8')


def test_token_for_the_mail_server(objects, key, mail, destination_service, oauth, secrets):
    """The Destination service gets a token, which goes only to the mail server."""
    client = oauth.mail_client(mail.user)
    destination_service.destinations[NAME] |= oauth.properties(client)
    objects.apply(transparent_proxy(INSTANCE), key_secret(INSTANCE, HOME, key, "key"))
    objects.apply(destination_cr("mail", "apps", NAME))
    assert list_and_fetch(objects.proxy.port("mail")) == mail.files()
    assert not secrets.shown_in(objects.proxy.everything_said())


def test_files_in_any_order(objects, key, mail):
    """Missing objects are reported until their files arrive, in any order. The directory needs no
    namespaces."""
    cr = destination_cr("mail", "apps", NAME)
    del cr["metadata"]["namespace"]
    objects.apply(cr)
    said(objects.proxy, "is not found")
    proxy = transparent_proxy(INSTANCE)
    del proxy["metadata"]["namespace"]
    start = len(objects.proxy.printed)
    objects.apply(proxy)
    problem = f'Secret with name "{INSTANCE}" not found in namespace: "{HOME}".'
    said(objects.proxy, f"TransparentProxy transparent-proxy: {problem}", start)
    assert problem in objects.proxy.printed.wait(
        lambda line: line.startswith("mail "), "the line of the CR", start=start
    )
    secret = key_secret(INSTANCE, HOME, key, "key")
    del secret["metadata"]["namespace"]
    objects.apply(secret)
    assert list_and_fetch(objects.proxy.port("mail", start)) == mail.files()


def test_files_come_first(objects, key, mail, backend):
    """A plain destination in the directory takes precedence over one of the service."""
    objects.apply(transparent_proxy(INSTANCE), key_secret(INSTANCE, HOME, key, "key"))
    objects.proxy.write(destination(NAME, backend.host, backend.port), file="plain.json")
    objects.apply(destination_cr("mail", "apps", NAME))
    port = objects.proxy.port("mail")
    assert list_and_fetch(port) == list(backend.script.messages)
    (objects.proxy.directory / "plain.json").unlink()
    until(lambda: list_and_fetch(port) == mail.files(), "the destination of the service")


def test_without_a_service(objects, backend):
    """A CR for a plain destination needs nothing else, and may have another name."""
    objects.proxy.add(NAME, backend.host, backend.port)
    objects.apply(destination_cr("mail", "apps", NAME))
    assert list_and_fetch(objects.proxy.port("mail")) == list(backend.script.messages)


def test_cr_takes_the_place_of_a_destination(objects, backend, backends):
    """A CR replaces the destination with its name, whatever its namespace, because the terminal
    shows names only."""
    proxy = objects.proxy
    proxy.add(NAME, backend.host, backend.port)
    other = backends(type(backend.script)(messages=(b"Subject: other\r\n\r\n",)))
    proxy.write(destination("other", other.host, other.port))
    proxy.port("other")
    start = len(proxy.printed)
    cr = destination_cr(NAME, "apps", "other")
    objects.apply(cr)
    assert list_and_fetch(proxy.port(NAME, start)) == list(other.script.messages)
    ready = [line for line in proxy.printed.all()[start:] if TARGET_LINE.match(line)]
    assert len(ready) == 1

    start = len(proxy.printed)
    objects.remove(cr)
    assert list_and_fetch(proxy.port(NAME, start)) == list(backend.script.messages)


def test_changes_are_followed(objects, key, mail, oauth_dovecot, destination_service):
    """Another destination, another key and another instance take effect; a removed file ends its
    target."""
    proxy, cr = objects.proxy, destination_cr("mail", "apps", NAME)
    secret = key_secret(INSTANCE, HOME, key, "key")
    objects.apply(transparent_proxy(INSTANCE), secret, cr)
    port = proxy.port("mail")
    assert list_and_fetch(port) == mail.files()

    second = oauth_dovecot.mailbox([b"Subject: second\r\n\r\n"])
    own = {"mail__user": second.user, "mail__password": second.password}
    destination_service.destinations["second"] = destination(
        "second", oauth_dovecot.host, oauth_dovecot.pop3, **own
    )
    objects.apply(destination_cr("mail", "apps", "second"))
    until(lambda: list_and_fetch(port) == second.files(), "the other destination")

    objects.apply(key_secret(INSTANCE, HOME, destination_service.renewed(key), "key"))
    objects.apply(destination_cr("mail", "apps", NAME))
    until(lambda: list_and_fetch(port) == mail.files(), "the destination, with the new key")

    start = len(proxy.printed)
    objects.apply(transparent_proxy("elsewhere"))
    line = proxy.printed.wait(lambda line: line.startswith("mail "), "the CR's line", start=start)
    assert 'Secret with name "elsewhere" not found' in line
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"-ERR [SYS/PERM]")

    start = len(proxy.printed)
    objects.apply(transparent_proxy(INSTANCE))
    assert proxy.port("mail", start) == port
    assert list_and_fetch(port) == mail.files()

    start = len(proxy.printed)
    objects.remove(cr)
    assert said(proxy, " gone", start).split() == ["mail", "-", "gone"]


def test_broken_files_keep_what_was_good(objects, key, mail):
    proxy = objects.proxy
    secret = key_secret(INSTANCE, HOME, key, "key")
    configuration = transparent_proxy(INSTANCE)
    objects.apply(configuration, secret, destination_cr("mail", "apps", NAME))
    port = proxy.port("mail")
    for item, text, message in (
        (secret, '{"kind": "Secret", ', "the last good version stays in force"),
        (configuration, '{"kind": ', "the last good version stays in force"),
    ):
        start = len(proxy.printed)
        objects.path(item).write_text(text)
        said(proxy, message, start)
        assert list_and_fetch(port) == mail.files()
        objects.apply(item)
        said(proxy, "in order again", start)

    start = len(proxy.printed)
    objects.apply(transparent_proxy(INSTANCE, tenantMode="both"))
    said(proxy, "TransparentProxy transparent-proxy: spec.config.tenantMode", start)
    assert list_and_fetch(port) == mail.files()

    start = len(proxy.printed)
    objects.apply(key_secret(INSTANCE, HOME, {**key, "clientsecret": ""}, "key"))
    said(proxy, f'Secret "{INSTANCE}" in namespace "{HOME}": ', start)
    assert list_and_fetch(port) == mail.files()


REFUSED = {
    "kind": (
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}},
        "kind: ConfigMap is not supported; put a Destination, a TransparentProxy or a Secret",
    ),
    "list": (
        {"apiVersion": "v1", "kind": "List", "items": [], "metadata": {"name": "x"}},
        "kind: List is not supported",
    ),
    "CR without a destination": (
        {**destination_cr("x", "apps", ""), "spec": {}},
        "Destination apps/x: spec.destinationRef.name is missing",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_objects_that_mean_nothing(objects, backend, case):
    item, message = REFUSED[case]
    objects.apply(item)
    assert message in said(objects.proxy, f"{objects.path(item).name}: ")
    list_and_fetch(objects.proxy.add("plain", backend.host, backend.port))


def test_second_configuration(objects, key, mail):
    """The first configuration by name counts, and the other one is reported."""
    objects.apply(transparent_proxy(INSTANCE, name="a"), transparent_proxy("other", name="b"))
    objects.apply(key_secret(INSTANCE, HOME, key, "key"), destination_cr("mail", "apps", NAME))
    said(
        objects.proxy,
        'TransparentProxy b: Custom Resource with name "a" already exists in this namespace.',
    )
    assert list_and_fetch(objects.proxy.port("mail")) == mail.files()


def test_configuration_of_another_namespace(objects, make_tproxy, key, mail):
    """A configuration of another namespace is reported, unless a flag gives that namespace."""
    for proxy, heard in ((objects.proxy, True), (make_tproxy("--namespace", "mail"), False)):
        place = Objects(proxy)
        place.apply(transparent_proxy(INSTANCE, home="mail"), destination_cr("mail", "apps", NAME))
        place.apply(key_secret(INSTANCE, "mail", key, "key"))
        if heard:
            said(proxy, 'TransparentProxy transparent-proxy: its namespace is "mail"')
        else:
            assert list_and_fetch(proxy.port("mail")) == mail.files()


def test_pages_of_the_admin_port(objects, key, mail):
    objects.apply(transparent_proxy(INSTANCE), key_secret(INSTANCE, HOME, key, "key"))
    objects.apply(destination_cr("mail", "apps", NAME), destination_cr("lost", "apps", "lost"))
    objects.proxy.port("mail")
    said(objects.proxy, "is not found")
    status, text = objects.proxy.http("/destinationCRs")
    assert status == 200
    shown = {
        (cr["Namespace"], cr["Name"]): (cr["Available"], cr["Reason"])
        for cr in json.loads(text)["CustomResources"]
    }
    assert shown == {
        ("apps", "mail"): ("True", "ConfigurationSuccessful"),
        ("apps", "lost"): ("False", "ConfigurationError-ReferencedDestination-NotFound"),
    }
    assert objects.proxy.metric("tp_destination_crs", Available="True") == 1


def test_example(objects, key, mail):
    """The delivered example works, both unchanged and filled in."""
    proxy, place = objects.proxy, ROOT / "examples/destination-service"
    files = {path.name: path.read_text() for path in place.glob("*.json")}
    for name, text in files.items():
        proxy.write_text(text, name)
    said(proxy, 'TransparentProxy transparent-proxy: Secret "destination-service-key" in namespace')
    secret = json.loads(files["service-key.json"])
    assert set(secret["stringData"]) <= set(key)
    secret["stringData"] = {field: key[field] for field in secret["stringData"]}
    start = len(proxy.printed)
    proxy.write_text(json.dumps(secret), "service-key.json")
    assert list_and_fetch(proxy.port("example-dest-pop3", start)) == mail.files()


def test_no_secret_gets_out(objects, key, mail, secrets):
    """No secret appears, neither from the Secret nor from what it opens, at any level of the
    log."""
    objects.apply(transparent_proxy(INSTANCE), key_secret(INSTANCE, HOME, key, "key"))
    objects.apply(destination_cr("mail", "apps", NAME))
    assert list_and_fetch(objects.proxy.port("mail")) == mail.files()
    paths = ("/metrics", "/status", "/destinationCRs")
    pages = "".join(objects.proxy.http(path)[1] for path in paths)
    assert not secrets.shown_in(objects.proxy.everything_said() + pages.encode())
