"""Two tenants have destinations, custom resources and users with the same names, and many sessions
at once. No tenant ever sees the other's mail, password, token or tunnel."""

import asyncio
import base64
import itertools
import json
import random
import socket
from collections import Counter
from dataclasses import dataclass

import pytest

from harness.clients import xoauth2
from harness.connectivity_proxy import ConnectivityProxy
from harness.dns import hosts_file
from harness.installation import CONNECTIVITY_HOSTS, destination_cr
from harness.messages import on_the_wire
from harness.oauth import Client, SigningKey
from harness.samples import TENANTS as ANNOTATION
from harness.tproxy import destination

SESSIONS = 10_000
AT_A_TIME = 200
TENANTS = ("acme", "umbrella")
ROBOT, USERS = "robot", ("alice", "bob", "carol")

# Tokens with this lifetime are used for a few seconds only.
LIFETIME = 13

KINDS = {"people": "OAuth2RefreshToken", "robots": "OAuth2ClientCredentials"}

# Destinations whose names end with -far are on premise; their token services are not.
VIRTUAL_HOST = "pop.test"
FAR = {"ProxyType": "OnPremise", "tokenServiceURL.ProxyType": "Internet"}

Mailbox = tuple[str, str]  # tenant and user


def mail(mailbox: Mailbox) -> bytes:
    return "Subject: {1} of {0}\r\n\r\n".format(*mailbox).encode()


class MailServer:
    """A fast mail server with the mailboxes of both tenants. It has a port for the tunnels of each
    tenant, and one for clients without a tunnel."""

    def __init__(self, key: SigningKey, passwords: dict[str, Mailbox]):
        self.failures: list[BaseException] = []
        self.opened: Counter[Mailbox] = Counter()  # the number of logins
        self.owners: dict[str, Mailbox] = {}  # the owners of the tokens that were shown
        self._key = key
        self.passwords = passwords
        self._listeners = {
            tenant: socket.create_server(("127.0.0.1", 0), backlog=512)
            for tenant in ("", *TENANTS)
        }
        self.ports = {tenant: s.getsockname()[1] for tenant, s in self._listeners.items()}

    async def start(self) -> None:
        for tenant, listener in self._listeners.items():
            await asyncio.start_server(self._handler(tenant), sock=listener)

    def _handler(self, tunnel: str):
        async def handle(reader, writer) -> None:
            try:
                await self._serve(reader, writer, tunnel)
            except ConnectionError:
                pass
            except Exception as failure:
                self.failures.append(failure)
            finally:
                writer.close()

        return handle

    async def _serve(self, reader, writer, tunnel: str) -> None:
        writer.write(b"+OK ready\r\n")
        mailbox = None
        while line := await reader.readline():
            match line.split():
                case [b"CAPA"]:
                    writer.write(b"+OK\r\nUSER\r\nSASL PLAIN XOAUTH2\r\n.\r\n")
                case [b"AUTH", mechanism, *given]:
                    if not given:
                        writer.write(b"+ \r\n")
                        given = [await reader.readline()]
                    mailbox = self._mailbox(mechanism, base64.b64decode(given[0]).decode())
                    assert tunnel in ("", mailbox[0]), (tunnel, mailbox)
                    self.opened[mailbox] += 1
                    writer.write(b"+OK\r\n")
                case [b"LIST"]:
                    writer.write(b"+OK\r\n1 %d\r\n.\r\n" % len(mail(mailbox)))
                case [b"RETR", b"1"]:
                    writer.write(b"+OK\r\n" + on_the_wire(mail(mailbox)))
                case [b"QUIT"]:
                    writer.write(b"+OK\r\n")
                    return
                case _:
                    raise AssertionError(line)

    def _mailbox(self, mechanism: bytes, response: str) -> Mailbox:
        """Returns the mailbox of the user who logs in, and checks that the credentials are for
        it."""
        if mechanism == b"PLAIN":
            _, user, password = response.split("\0")
            mailbox = self.passwords[password]
        else:
            user, token = response.removeprefix("user=").rstrip("\1").split("\1auth=Bearer ")
            mailbox = self._owner(token)
        assert mailbox[1] == user, (mailbox, user)
        return mailbox

    def _owner(self, token: str) -> Mailbox:
        if token not in self.owners:
            claims = self._key.verify(token, "urn:mail")
            self.owners[token] = (claims["ext_attr"]["zdn"], claims["email"])
        return self.owners[token]


@dataclass(frozen=True)
class Visit:
    """One session and its expected result: the mail in this mailbox, or (None) a refusal."""

    port: int
    login: bytes
    mailbox: Mailbox | None


    def is_satisfied(self, seen: bytes) -> bool:
        if not self.mailbox:
            return seen.startswith(b"-ERR [AUTH] ")
        text = mail(self.mailbox)
        return seen == b"+OK\r\n1 %d\r\n.\r\n+OK\r\n%b+OK\r\n" % (len(text), on_the_wire(text))


async def visit(port: int, login: bytes) -> bytes:
    """Returns everything that the client receives after the login, or the refusal."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.readline()
    if login:
        writer.write(b"AUTH XOAUTH2 %b\r\n" % login)
        answer = await reader.readline()
    if not login or answer.startswith(b"+OK"):
        writer.write(b"LIST\r\nRETR 1\r\nQUIT\r\n")
        answer = await reader.read()
    writer.close()
    return answer


async def visit_all(server: MailServer, visits: list[Visit]) -> list[bytes]:
    """Returns what each visit receives."""
    await server.start()
    places = asyncio.Semaphore(AT_A_TIME)

    async def one(which: Visit) -> bytes:
        async with places:
            return await visit(which.port, which.login)

    return await asyncio.gather(*map(one, visits))


@pytest.fixture
def server(oauth, secrets) -> MailServer:
    return MailServer(oauth.key, {secrets.new(): (tenant, ROBOT) for tenant in TENANTS})


@pytest.fixture
def connectivity(oauth, server):
    """The Cloud Connector of each tenant exposes the port for the tenant's tunnels."""
    with ConnectivityProxy(oauth, tenant_mode="shared") as proxy:
        for tenant in TENANTS:
            proxy.expose(VIRTUAL_HOST, 110, ("127.0.0.1", server.ports[tenant]), tenant)
        yield proxy


@pytest.fixture
def clients(oauth) -> dict[str, Client]:
    """The clients of destinations, by name. The tokens of "robots" are for the robot of each
    tenant."""
    robots = dict.fromkeys(TENANTS, ROBOT)
    return {
        "people": oauth.mail_client("nobody", lifetime=LIFETIME),
        "robots": oauth.mail_client("nobody", robots, lifetime=LIFETIME),
    }


@pytest.fixture
def ports(
    installation, make_cluster_tproxy, oauth, connectivity, server, clients, namespace, directory
) -> dict[tuple[str, str], int]:
    """The target ports, by destination and tenant."""
    service, kube = installation.service, installation.kube
    passwords = {tenant: password for password, (tenant, _) in server.passwords.items()}
    for tenant in TENANTS:
        basic = {"mail.password": passwords[tenant]}
        tokens = {
            name: oauth.properties(client, KINDS[name], common=True) | {"mail.password": None}
            for name, client in clients.items()
        }
        found = service.tenant(tenant).destinations
        for name, properties in {"passwords": basic, **tokens}.items():
            own = {"mail.user": ROBOT, **properties}
            found |= {
                name: destination(name, "127.0.0.1", server.ports[""], **own),
                f"{name}-far": destination(name, VIRTUAL_HOST, 110, **own, **FAR),
            }
    annotations = {ANNOTATION: json.dumps(TENANTS)}
    names = list(service.tenant(TENANTS[0]).destinations)
    for name in names:
        cr = destination_cr(name, namespace, name)
        kube.apply({**cr, "metadata": {**cr["metadata"], "annotations": annotations}})
    installation.key = service.service_key(by_name=True)
    installation.configure(connectivity=connectivity, tenantMode="shared")
    hosts = hosts_file(directory, *oauth.host_names(), *CONNECTIVITY_HOSTS)
    make_cluster_tproxy(installation, "--hosts", str(hosts), "--log-level", "info")
    for name in names:
        installation.wait_condition(namespace, name, "ConfigurationSuccessful")
    return {
        (name, tenant): installation.target_port(f"{name}-{tenant}")
        for name in names
        for tenant in TENANTS
    }


def plan(oauth, clients, ports, tenant: str, other: str) -> list[Visit]:
    """Returns one visit of each sort."""
    robots = [
        Visit(port, b"", (tenant, ROBOT))
        for (name, whose), port in ports.items()
        if whose == tenant and not name.startswith("people")
    ]

    def log_in(user: str, of: str) -> bytes:
        return xoauth2(user, oauth.refresh_token(clients["people"], user, of))

    doors = [ports[name, tenant] for name in ("people", "people-far")]
    people = [Visit(port, log_in(user, tenant), (tenant, user)) for user in USERS for port in doors]
    strangers = [Visit(port, log_in(user, other), None) for user in USERS for port in doors]
    return robots + people + strangers


@pytest.mark.slow
@pytest.mark.one_build
def test_tenants(oauth, clients, ports, server):
    sorts = [
        visit
        for tenant, other in itertools.permutations(TENANTS)
        for visit in plan(oauth, clients, ports, tenant, other)
    ]
    visits = list(itertools.islice(itertools.cycle(sorts), SESSIONS))
    random.Random(SESSIONS).shuffle(visits)
    seen = asyncio.run(visit_all(server, visits))
    assert not server.failures
    wrong = [(v, what) for v, what in zip(visits, seen, strict=True) if not v.is_satisfied(what)]
    assert not wrong, wrong[:10]
    assert server.opened == Counter(visit.mailbox for visit in visits if visit.mailbox)
    assert set(server.owners.values()) == {(t, user) for t in TENANTS for user in (ROBOT, *USERS)}
