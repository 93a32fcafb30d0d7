"""The stand-in for the Connectivity Proxy speaks SOCKS5 as SAP's own mail client does, and fails as
it is told."""

import base64
import json
import socket
import struct

import pytest

from harness.btp_client import ask_token, in_environment, run_sap
from harness.connectivity_proxy import (
    AUDIENCE,
    FAILURE,
    IPV4,
    NAME,
    NO_CLOUD_CONNECTOR,
    NO_SUCH_ADDRESS_TYPE,
    NO_SUCH_COMMAND,
    NOT_EXPOSED,
    OPEN,
    SOME_IPV4,
    SOME_IPV6,
    SOME_NAME,
    TOKEN,
    TRUSTED,
    UNAUTHENTICATED,
    UNREACHABLE,
    ConnectivityProxy,
    close,
    reply,
    silent,
)
from harness.destination_service import key_secret
from harness.oauth import PROVIDER, TOKEN_PATH
from harness.tproxy import destination
from harness.util import PATIENCE, free_port

GREETING = b"+OK scripted server ready\r\n"


class Client:
    """A client whose messages a test can change; by default they are correct."""

    def __init__(self, proxy: ConnectivityProxy):
        self.sock = socket.create_connection(("127.0.0.1", proxy.port), PATIENCE)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exception) -> None:
        self.sock.close()

    def read(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            more = self.sock.recv(length - len(data))
            if not more:
                raise EOFError(data)
            data += more
        return data

    def segments(self) -> int:
        """Returns the number of segments with data that have arrived: tcpi_data_segs_in of
        Linux."""
        info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
        return struct.unpack_from("I", info, 152)[0]

    def method(self, *offered: int) -> bytes:
        self.sock.sendall(bytes([5, len(offered), *offered]))
        return self.read(2)

    def authenticate(self, token: str, location: str = "") -> bytes:
        encoded = base64.b64encode(location.encode())
        head = struct.pack(">BI", 1, len(token))
        self.sock.sendall(head + token.encode() + bytes([len(encoded)]) + encoded)
        return self.read(2)

    def connect(self, host: str, port: int, command: int = 1) -> int:
        """Asks for a connection. Returns the code of the reply."""
        address = bytes([NAME, len(host)]) + host.encode()
        return self.request(bytes([5, command, 0]) + address + struct.pack(">H", port))

    def request(self, request: bytes) -> int:
        self.sock.sendall(request)
        version, code, reserved, kind = self.read(4)
        assert (version, reserved) == (5, 0)
        self.read((self.read(1)[0] if kind == NAME else 4 if kind == IPV4 else 16) + 2)
        return code


def token(proxy: ConnectivityProxy, tenant: str = PROVIDER) -> str:
    client = proxy.oauth.clients[proxy.service_key()["clientid"]]
    return ask_token(proxy.oauth.url_of(tenant), client).json()["access_token"]


@pytest.fixture
def proxy(connectivity_proxy, backend):
    """A proxy with one virtual host, for clients that have a token."""
    connectivity_proxy.expose("virtual.sap", 110, (backend.host, backend.port))
    return connectivity_proxy


@pytest.fixture
def make_proxy(oauth, backend, request):
    def start(**options) -> ConnectivityProxy:
        proxy = ConnectivityProxy(oauth, **options)
        proxy.expose("virtual.sap", 110, (backend.host, backend.port))
        proxy.__enter__()
        request.addfinalizer(lambda: proxy.__exit__(None, None, None))
        return proxy

    return start


# --- SAP's own client ---


@pytest.fixture
def greeting_by_sap(proxy, destination_service):
    """Returns the line that SAP's mail client gets from the backend of a destination, or its
    error."""

    def run(**properties: object) -> str:
        mail = destination("mail", "virtual.sap", 110, ProxyType="OnPremise", **properties)
        destination_service.destinations["mail"] = mail
        keys = in_environment(
            destination=destination_service.service_key(), connectivity=proxy.service_key()
        )
        done = run_sap("sap_mail_client.mjs", keys, "mail")
        return json.loads(done.stdout) if done.returncode == 0 else done.stderr

    return run


@pytest.mark.parametrize("location", ["", "Walldorf 1"])
def test_sap_client_reaches_the_backend(proxy, backend, greeting_by_sap, location):
    proxy.expose("virtual.sap", 110, (backend.host, backend.port), location=location)
    assert greeting_by_sap(CloudConnectorLocationId=location or None) == GREETING.decode()
    (tunnel,) = proxy.tunnels.all()
    assert (tunnel.tenant, tunnel.location) == (PROVIDER, location)
    assert (tunnel.host, tunnel.port, tunnel.kind) == ("virtual.sap", 110, NAME)
    assert TOKEN in tunnel.offered


def test_sap_client_hears_a_greeting_that_comes_along(proxy, greeting_by_sap):
    proxy.with_greeting = True
    assert greeting_by_sap() == GREETING.decode()


@pytest.mark.parametrize(
    "replies, properties, error",
    [
        ({}, {"CloudConnectorLocationId": "nowhere"}, "NetworkUnreachable"),
        ({}, {"mail.pop3.host": "other.sap"}, "NotAllowed"),
        ({"connect": reply(UNREACHABLE)}, {}, "HostUnreachable"),
        ({"authentication": b"\1\1"}, {}, "Socks5 Authentication failed"),
        ({"method": b"\5\xff"}, {}, "no accepted authentication type"),
    ],
)
def test_sap_client_understands_refusals(proxy, greeting_by_sap, replies, properties, error):
    proxy.replies = replies
    assert error in greeting_by_sap(**properties)


# --- proper behaviour ---


def test_token_and_location(proxy, backend):
    proxy.expose("virtual.sap", 110, (backend.host, backend.port), location="Sofia")
    for location in ("", "Sofia"):
        with Client(proxy) as client:
            assert client.method(TOKEN) == b"\5\x80"
            assert client.authenticate(token(proxy), location) == b"\1\0"
            assert client.connect("Virtual.SAP", 110) == OPEN
            assert client.read(len(GREETING)) == GREETING
            client.sock.sendall(b"QUIT\r\n")
            assert client.read(9) == b"+OK bye\r\n"
            assert client.sock.recv(1) == b""
    assert [tunnel.location for tunnel in proxy.tunnels.all()] == ["", "Sofia"]


def test_tokens_that_are_no_good(proxy, oauth, destination_service):
    oauth.tenant("acme")
    other = oauth.clients[destination_service.service_key()["clientid"]]
    for bad in (
        "",
        "no-token",
        ask_token(oauth.url, other).json()["access_token"],  # a token for another service
        ask_token(oauth.url, oauth.client(AUDIENCE, age=7200)).json()["access_token"],
        token(proxy, "acme"),
    ):
        with Client(proxy) as client:
            client.method(TOKEN)
            assert client.authenticate(bad) == b"\1\1"
            assert client.sock.recv(1) == b""
    assert not any(tunnel.tenant for tunnel in proxy.tunnels.all())


def test_no_method_in_common(proxy):
    with Client(proxy) as client:
        assert client.method(TRUSTED, 2) == b"\5\xff"
        assert client.sock.recv(1) == b""
    assert proxy.tunnels.wait(lambda tunnel: True, "the tunnel").offered == [TRUSTED, 2]


def test_trusted(make_proxy):
    proxy = make_proxy(authorization=False)
    with Client(proxy) as client:
        assert client.method(TRUSTED) == b"\5\0"
        assert client.connect("virtual.sap", 110) == OPEN
        assert client.read(len(GREETING)) == GREETING
    with Client(proxy) as client:
        assert client.method(TOKEN) == b"\5\xff"


@pytest.mark.parametrize("authorization", [True, False])
def test_tenants(make_proxy, oauth, backend, authorization):
    """The token determines whose Cloud Connector is used."""
    proxy = make_proxy(tenant_mode="shared", authorization=authorization)
    oauth.tenant("acme")
    oauth.tenant("umbrella")
    proxy.expose("virtual.sap", 110, (backend.host, backend.port), tenant="acme")
    proxy.expose("other.sap", 110, (backend.host, backend.port), tenant="acme")
    for tenant, host, code in (
        ("acme", "virtual.sap", OPEN),
        ("acme", "other.sap", OPEN),
        (PROVIDER, "virtual.sap", OPEN),
        (PROVIDER, "other.sap", NOT_EXPOSED),
        ("umbrella", "virtual.sap", NO_CLOUD_CONNECTOR),
    ):
        with Client(proxy) as client:
            assert client.method(TOKEN) == b"\5\x80"
            assert client.authenticate(token(proxy, tenant)) == b"\1\0"
            assert client.connect(host, 110) == code
        tunnel = proxy.tunnels.all()[-1]
        assert (tunnel.tenant, tunnel.host, tunnel.reply) == (tenant, host, code)


@pytest.fixture
def ready(make_proxy):
    """A client that may now name a host, and the proxy."""
    proxy = make_proxy(authorization=False)
    with Client(proxy) as client:
        client.method(TRUSTED)
        yield client, proxy


@pytest.mark.parametrize(
    "request_, code",
    [
        (b"\5\1\0\3\x09other.sap\0\x6e", NOT_EXPOSED),
        (b"\5\1\0\3\x0bvirtual.sap\0\x6f", NOT_EXPOSED),
        (b"\5\1\0\1\x0a\0\0\1\0\x6e", NOT_EXPOSED),
        (b"\5\1\0\1\x0a\0\0\2\0\x6e", OPEN),
        (b"\5\2\0\3\x0bvirtual.sap\0\x6e", NO_SUCH_COMMAND),
        (b"\5\1\0\4" + bytes(16) + b"\0\x6e", NO_SUCH_ADDRESS_TYPE),
    ],
)
def test_requests(ready, backend, request_, code):
    client, proxy = ready
    proxy.expose("10.0.0.2", 110, (backend.host, backend.port))
    assert client.request(request_) == code
    assert (client.sock.recv(1) == b"") == (code != OPEN)


def test_backend_that_is_down(ready):
    client, proxy = ready
    proxy.expose("virtual.sap", 110, ("127.0.0.1", free_port()))
    assert client.connect("virtual.sap", 110) == UNREACHABLE


def test_end_of_either_side(ready, backend):
    backend.script = lambda session: session.wait_for_eof()
    client, _ = ready
    assert client.connect("virtual.sap", 110) == OPEN
    client.sock.shutdown(socket.SHUT_WR)
    assert client.sock.recv(1) == b""
    assert backend.session(0).ended.wait(PATIENCE)


# --- failures ---


@pytest.mark.parametrize("code", [FAILURE, UNAUTHENTICATED, 6, 99])
def test_refusals_on_demand(ready, backend, code):
    client, proxy = ready
    proxy.replies["connect"] = reply(code)
    assert client.connect("virtual.sap", 110) == code
    assert client.sock.recv(1) == b""
    assert backend.connections() == 0


def test_success_and_then_nothing(ready):
    client, proxy = ready
    proxy.replies["connect"] = reply(OPEN)
    assert client.connect("virtual.sap", 110) == OPEN
    assert client.sock.recv(1) == b""


STEPS = ["method", "authentication", "connect"]


def reach(client: Client, proxy: ConnectivityProxy, step: str) -> None:
    """Sends everything that is due up to this step."""
    client.sock.sendall(bytes([5, 1, TOKEN]))
    if step != "method":
        assert client.read(2) == b"\5\x80"
        good = token(proxy).encode()
        client.sock.sendall(b"\1" + struct.pack(">I", len(good)) + good + b"\0")
    if step == "connect":
        assert client.read(2) == b"\1\0"
        client.sock.sendall(b"\5\1\0\3\x0bvirtual.sap\0\x6e")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "said",
    [b"", b"\x04\x00", b"HTTP/1.1 400 Bad Request\r\n\r\n", close],
    ids=["nothing", "another version", "HTTP", "close"],
)
def test_anything_on_demand(proxy, step, said):
    proxy.replies[step] = said
    heard = said if isinstance(said, bytes) else b""
    with Client(proxy) as client:
        reach(client, proxy, step)
        assert client.read(len(heard)) == heard
        assert client.sock.recv(1) == b""


@pytest.mark.parametrize("step", STEPS)
def test_silence(make_proxy, step):
    """The silence lasts until the proxy stops."""
    proxy = make_proxy()
    proxy.replies[step] = silent
    with Client(proxy) as client:
        reach(client, proxy, step)
        proxy.tunnels.wait(lambda tunnel: True, "the end of the tunnel")
        client.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.sock.recv(1)
        client.sock.settimeout(PATIENCE)
        proxy.stop()
        assert client.sock.recv(1) == b""


@pytest.mark.parametrize("bound", [SOME_IPV4, SOME_NAME, SOME_IPV6])
def test_replies_in_pieces(ready, bound):
    client, proxy = ready
    proxy.in_pieces, proxy.bound = True, bound
    before = client.segments()
    assert client.connect("virtual.sap", 110) == OPEN
    assert client.segments() - before > 2  # including the backend's greeting
    assert client.read(len(GREETING)) == GREETING


def test_greeting_comes_with_the_reply(ready):
    client, proxy = ready
    proxy.with_greeting = True
    client.sock.sendall(b"\5\1\0\3\x0bvirtual.sap\0\x6e")
    assert client.sock.recv(1000) == reply(OPEN) + GREETING


def test_clients_that_break_the_rules_are_told_on(oauth, backend):
    with pytest.raises(AssertionError, match="SOCKS version 4"):
        with ConnectivityProxy(oauth) as proxy, Client(proxy) as client:
            client.sock.sendall(b"\4\1")
            assert client.sock.recv(1) == b""


def test_down_and_up_again(proxy):
    proxy.stop()
    with pytest.raises(ConnectionRefusedError):
        Client(proxy)
    proxy.start()
    with Client(proxy) as client:
        assert client.method(TOKEN) == b"\5\x80"


# --- its objects in the cluster ---


def test_its_own_service_key(proxy, oauth):
    """The URL in the key belongs to no tenant; the pattern in the key makes a tenant's URL of
    it."""
    key = proxy.own_service_key()
    client = oauth.clients[key["clientid"]]
    pattern = key["token_service_url_pattern"].removesuffix(TOKEN_PATH)
    tenant = key[key["token_service_url_pattern_tenant_key"]]
    answer = ask_token(pattern.replace("{tenant}", tenant), client)
    assert oauth.key.verify(answer.json()["access_token"], AUDIENCE)["zid"] == key["subaccount_id"]
    assert ask_token(key["token_service_url"].removesuffix(TOKEN_PATH), client).status == 404
    fields = key_secret("cp", "default", key)["data"]
    nested = json.loads(base64.b64decode(fields["connectivity_service"]))
    assert nested == key["connectivity_service"]


def test_service_key_with_a_certificate(proxy, oauth, certificates):
    key = proxy.service_key("x509")
    assert "clientsecret" not in key
    client = oauth.clients[key["clientid"]]
    answer = ask_token(key["certurl"], client, certificates.client_context(client.certificate))
    oauth.key.verify(answer.json()["access_token"], AUDIENCE)


@pytest.mark.parametrize("by_operator", [False, True])
def test_config_map(make_proxy, by_operator):
    proxy = make_proxy(tenant_mode="shared", authorization=False)
    found = proxy.config_map("cp-ns", by_operator)
    assert (found["metadata"]["name"], found["metadata"]["namespace"]) == (
        "connectivity-proxy",
        "cp-ns",
    )
    lines = found["data"]["connectivity-proxy-config.yml"].replace('"', "").splitlines()
    assert "tenantMode: shared" in lines
    socks5 = lines[lines.index("    socks5:") :]
    assert "      enableProxyAuthorization: false" in socks5
    assert f"      port: {proxy.port}" in socks5


def test_kyma_info(proxy):
    found = proxy.kyma_info()
    assert found["metadata"]["namespace"] == "kyma-system"
    assert found["data"]["onpremise_socks5_proxy_port"] == str(proxy.port)
