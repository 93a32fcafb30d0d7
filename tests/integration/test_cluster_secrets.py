"""Nothing that tproxy says, writes or shows contains a secret, whatever the servers around it
say."""

import base64
import contextlib
import json
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.backend import Pop3, Session
from harness.clients import RawClient, plain, xoauth2
from harness.destination_service import FIND, key_secret
from harness.fault_proxy import FaultProxy
from harness.http_server import Exchange, Request, Response, proper
from harness.installation import (
    INSTANCE,
    ClusterTproxy,
    Installation,
    destination_cr,
    list_and_fetch,
    transparent_proxy,
)
from harness.samples import HOME
from harness.tproxy import destination
from harness.util import until

# --- servers that repeat requests ---

# Blanks in place of SASL's separators.
BLANKS = bytes.maketrans(b"\0\1", b"  ")


def heard(request: Request) -> str:
    """Returns everything that is secret in a request, as it was sent and decoded."""
    form = request.form()
    body = request.body.decode() if form else ""
    return " ".join([request.headers.get("Authorization", ""), *form.values(), body])


def as_json(status: int) -> Callable[[Exchange], None]:
    """Returns a refusal with the request's secrets in every place where a server may give a
    reason."""

    def reply(exchange: Exchange) -> None:
        said = heard(exchange.request)
        body = {
            "ErrorMessage": said,
            "error": said if status == 400 else "invalid_client",
            "error_description": said,
            "kind": "Status",
            "status": "Failure",
            "reason": "Forbidden",
            "message": said,
            "code": status,
        }
        exchange.reply(Response.json(status, body))

    return reply


def as_text(status: int) -> Callable[[Exchange], None]:
    def reply(exchange: Exchange) -> None:
        said = heard(exchange.request)
        headers = {"WWW-Authenticate": f'Bearer error="{said}"', "Retry-After": said}
        exchange.reply(Response(status, said.encode(), headers))

    return reply


def as_destination(exchange: Exchange) -> None:
    """Returns a destination full of the request's secrets."""
    said = heard(exchange.request)
    properties = {"Name": said, "Type": "MAIL", "mail.pop3.host": said, said: said}
    exchange.reply(Response.json(200, {"destinationConfiguration": properties, said: said}))


def as_status_line(exchange: Exchange) -> None:
    said = heard(exchange.request)
    exchange.send(f"HTTP/1.1 200 {said}\r\n{said.replace(' ', '-')}: {said}\r\n\r\n".encode())
    exchange.close()


ECHOES = {
    "400": as_json(400),
    "401": as_json(401),
    "403": as_json(403),
    "404": as_json(404),
    "500": as_json(500),
    "text-401": as_text(401),
    "text-500": as_text(500),
    "destination": as_destination,
    "status-line": as_status_line,
}


def last_line(session: Session) -> None:
    """A mail server that repeats the end of a line, and of its decoded content."""
    line = session.commands[-1]
    meant = b""
    with contextlib.suppress(ValueError):
        meant = base64.b64decode(line.split()[-1], validate=True).translate(BLANKS)
    session.send(b"-ERR [AUTH] %b, %b\r\n" % (line[-200:], meant[-200:]))


def challenge(session: Session) -> None:
    """A mail server that asks for the token and gives the reason for its refusal in a challenge."""
    session.send(b"+ \r\n")
    token = base64.b64decode(session.read_line())
    why = json.dumps({"status": token.decode()[:100]}).encode()
    session.send(b"+ %b\r\n" % base64.b64encode(why))
    session.read_line()
    session.send(b"-ERR [AUTH] %b\r\n" % token.translate(BLANKS)[:400])


# --- what others can see ---


def shown(proxy) -> bytes:
    """Returns what the program shows to everybody with access."""
    pages = ("/", "/healthz", "/readyz", "/status", "/destinationCRs", "/metrics")
    texts = [proxy.everything_said(), *(proxy.http(page)[1].encode() for page in pages)]
    about = Path(f"/proc/{proxy.pid}")
    return b"\n".join([*texts, *((about / name).read_bytes() for name in ("cmdline", "environ"))])


def stored(kube) -> bytes:
    """Returns all objects of the cluster except Secrets."""
    kinds = kube.kubectl("api-resources", "--verbs=list", "-o", "name").stdout.split()
    kinds.remove("secrets")
    found = kube.kubectl("get", ",".join(kinds), "-A", "-o", "json", "--show-managed-fields")
    return found.stdout.encode()


class Run:
    """One program, among servers that a test makes misbehave."""

    def __init__(self, installation: Installation, proxy: ClusterTproxy):
        self.installation = installation
        self.proxy = proxy
        self.kube = installation.kube
        self.service = installation.service
        self.namespace = self.kube.namespace()
        self.answers: list[bytes] = []  # those that clients got

    def add(self, name: str, properties: dict | None = None, **spec: object) -> None:
        """Adds a CR, and a destination with its name if properties are given."""
        if properties:
            self.service.destinations[name] = properties
        self.kube.apply(destination_cr(name, self.namespace, name, **spec))

    def wait_refused(self, name: str) -> None:
        """Waits until the condition says that the CR is not available."""

        def refused() -> bool:
            return self.installation.condition(self.namespace, name).get("status") == "False"

        until(refused, f"{name} to be refused", every=0.05)

    def available(self, name: str) -> int:
        return self.installation.available(self.namespace, name)

    def say(self, name: str, *commands: bytes) -> bytes:
        """Returns the last line that a client gets."""
        with RawClient(self.available(name)) as client:
            lines = [client.command(command) for command in commands]
        self.answers += lines
        return lines[-1]


@pytest.fixture
def api(installation):
    """A proxy between the program and the API server; it sees the ServiceAccount's token."""
    with FaultProxy(installation.kube) as proxy:
        yield proxy


@pytest.fixture
def run(installation, make_cluster_tproxy, api, secrets) -> Run:
    installation.configure(metrics={"prometheus": {"enabled": True}})
    proxy = make_cluster_tproxy(installation, url=api.url).ready()
    secrets.add((Path(proxy.mode()["--kube-credentials"]) / "token").read_text())
    return Run(installation, proxy)


@pytest.fixture
def nothing_shown(run, secrets):
    """Checks at the end of the test that nothing secret was shown."""
    yield
    assert len(secrets.values()) > 2
    assert secrets.shown_in(shown(run.proxy)) == []
    assert secrets.shown_in(stored(run.kube)) == []
    assert secrets.shown_in(b"\n".join(run.answers)) == []


def test_success(run, nothing_shown, oauth, oauth_dovecot, messages, secrets):
    mail = oauth_dovecot.mailbox(messages)
    secrets.add(mail.password)
    server = (oauth_dovecot.host, oauth_dovecot.pop3)
    client = oauth.mail_client(mail.user)
    own = {"mail.user": mail.user, "mail.password": mail.password}
    run.add("basic", destination("basic", *server, **own))
    run.add("token", destination("token", *server, **own) | oauth.properties(client))
    for name in ("basic", "token"):
        assert list_and_fetch(run.available(name)) == messages
        # tproxy discards the credentials that clients send.
        user, theirs = "somebody", secrets.new()
        run.say(name, b"USER somebody", b"PASS " + theirs.encode(), b"QUIT")
        run.say(name, b"AUTH PLAIN " + plain(user, theirs), b"QUIT")
        run.say(name, b"AUTH XOAUTH2 " + xoauth2(user, theirs), b"QUIT")
    assert len(oauth.requests_of(client.id)) == 1


def test_destination_service_repeats(run, nothing_shown, secrets, backend):
    """The Destination service repeats requests of the controller and of sessions. A refused access
    token delays all others for a while, so answers with 401 come last, each until it has been
    read."""
    echoed, asked = [], set()

    def behave(exchange: Exchange) -> None:
        name = urllib.parse.unquote(exchange.request.path).removeprefix(FIND)
        when, _, how = name.partition("-")
        checking = "$skipTokenRetrieval" in exchange.request.query
        if how not in ECHOES or (when == "later" and checking):
            proper(exchange)
        else:
            asked.add(name)
            echoed.append(heard(exchange.request))
            ECHOES[how](exchange)

    def repeats_to_session(name: str) -> bool:
        assert run.say(name, b"LIST").startswith(b"-ERR")
        return name in asked

    run.service.behaviour = behave
    last = [how for how in ECHOES if "401" in how]
    first = [how for how in ECHOES if how not in last]
    for how in ECHOES:
        run.add(f"later-{how}", destination(f"later-{how}", backend.host, backend.port))
        run.available(f"later-{how}")
    for how in first + last:
        until(lambda name=f"later-{how}": repeats_to_session(name), f"{how} to be heard", every=0.2)
    for how in first + last:
        run.add(f"now-{how}")
        run.wait_refused(f"now-{how}")
    assert secrets.shown_in("\n".join(echoed).encode())


def test_token_service_repeats(run, nothing_shown, secrets, oauth, backend):
    """Token services repeat client secrets, of instances and of destinations for mail."""
    echoed, keys = [], {how: run.service.service_key() for how in ECHOES}
    hows = {key["clientid"]: how for how, key in keys.items()}
    mail = {how: oauth.mail_client("robot") for how in ECHOES}
    hows |= {client.id: how for how, client in mail.items()}

    def behave(exchange: Exchange) -> None:
        how = hows.get(exchange.request.form().get("client_id"))
        if how:
            echoed.append(heard(exchange.request))
        ECHOES.get(how, proper)(exchange)

    oauth.behaviour = behave
    wrong = {**run.installation.key, "clientsecret": secrets.new()}
    instances = {"wrong": wrong, **{f"echo-{how}": key for how, key in keys.items()}}
    run.kube.apply(
        *(key_secret(name, HOME, key, "key") for name, key in instances.items()),
        transparent_proxy(INSTANCE, *instances, metrics={"prometheus": {"enabled": True}}),
    )
    for name in instances:
        run.add(name, destinationServiceInstanceName=name)
    for how, client in mail.items():
        properties = destination(how, backend.host, backend.port) | oauth.properties(client)
        run.add(f"mail-{how}", properties)
    for name in instances:
        run.wait_refused(name)
    for how in ECHOES:
        assert run.say(f"mail-{how}", b"LIST").startswith(b"-ERR")
    assert len(secrets.shown_in("\n".join(echoed).encode())) == len(keys) + len(mail)


def test_mail_server_repeats(run, nothing_shown, secrets, oauth, backends):
    dialogues = {
        "plain": (["SASL PLAIN"], {"AUTH": last_line}),
        "pass": (["USER"], {"PASS": last_line}),
        "token": (["SASL XOAUTH2"], {"AUTH": challenge}),
        "early": (["SASL XOAUTH2"], {"AUTH": last_line}),
    }
    client = oauth.mail_client("robot")
    for name, (capabilities, replies) in dialogues.items():
        server = backends(Pop3(capabilities=tuple(capabilities), replies=replies))
        properties = destination(name, server.host, server.port, mail__password=secrets.new())
        if "SASL XOAUTH2" in capabilities:
            properties |= oauth.properties(client)
            properties["mail.pop3.auth.xoauth2.two.line.authentication.format"] = "false"
        run.add(name, properties)
    for name in dialogues:
        assert run.say(name, b"LIST").startswith(b"-ERR [AUTH]"), name


def test_malformed(run, nothing_shown, secrets):
    """Service keys and destinations are malformed."""
    key = run.installation.key
    broken = json.dumps({**key, "clientsecret": secrets.new()})
    keys = {
        "cut": broken[:-10],
        "behind": f"{broken} {secrets.new()}",
        "list": json.dumps([secrets.new()]),
        "number": json.dumps({**key, "clientsecret": {"value": secrets.new()}}),
        "no-url": json.dumps({**key, "url": None, "clientsecret": secrets.new()}),
        "in-url": json.dumps({**key, "url": f"http://user:{secrets.new()}@127.0.0.1:1"}),
        "in-uri": json.dumps({**key, "uri": f"http://user:{secrets.new()}@127.0.0.1:1"}),
        "lines": json.dumps({**key, "clientsecret": f"{secrets.new()}\r\nX: y"}),
    }
    texts = {name: {"key": base64.b64encode(text.encode()).decode()} for name, text in keys.items()}
    run.kube.apply(
        *({**key_secret(name, HOME, key), "data": data} for name, data in texts.items()),
        transparent_proxy(INSTANCE, *keys, metrics={"prometheus": {"enabled": True}}),
    )
    passwords = {
        "password-lines": f"{secrets.new()}\r\nDELE 1",
        "password-zero": f"{secrets.new()}\0",
        "password-long": secrets.new() * 100,
    }
    for name, password in passwords.items():
        run.add(name, destination(name, "127.0.0.1", 110, mail__password=password))
    for name in keys:
        run.add(name, destinationServiceInstanceName=name)
    for name in [*keys, *passwords]:
        run.wait_refused(name)


def test_api_server_repeats(run, nothing_shown, secrets, api, backend):
    """The API server repeats the ServiceAccount's token."""
    statuses, echoed = {"refused": 403, "broken": 500}, []

    def behave(exchange: Exchange) -> None:
        request = exchange.request
        creates = request.method == "POST" and request.path.endswith("/services")
        name = json.loads(request.body)["metadata"]["name"] if creates else ""
        if name in statuses:
            echoed.append(heard(request))
            as_json(statuses[name])(exchange)
        else:
            proper(exchange)

    api.behaviour = behave
    for name in statuses:
        run.add(name, destination(name, backend.host, backend.port))
    run.wait_refused("refused")
    until(lambda: len(echoed) > len(statuses), "further requests")
    assert secrets.shown_in("\n".join(echoed).encode())
