"""A stand-in for SAP's Connectivity Proxy with its Cloud Connectors: SOCKS5 in the form that it
uses. SAP's own mail client tests the stand-in, in test_standins_connectivity.py."""

import base64
import contextlib
import ipaddress
import socket
import socketserver
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import jwt

from harness.oauth import PROVIDER, TOKEN_PATH, OAuthServer
from harness.server import Server
from harness.util import PATIENCE, Feed

AUDIENCE = "urn:connectivity"
TRUSTED, TOKEN = 0x00, 0x80  # authentication methods
CONNECT = 1
IPV4, NAME, IPV6 = 1, 3, 4  # types of addresses
# The codes of replies.
OPEN, FAILURE, NOT_EXPOSED, NO_CLOUD_CONNECTOR, UNREACHABLE, UNAUTHENTICATED = range(6)
NO_SUCH_COMMAND, NO_SUCH_ADDRESS_TYPE = 7, 8

# Addresses that a reply may contain.
SOME_IPV4 = b"\1\0\0\0\0\0\0"
SOME_NAME = b"\3\x0bvirtual.sap\x01\xbb"
SOME_IPV6 = b"\4" + bytes(18)

Address = tuple[str, int]


@dataclass
class Tunnel:
    """A client's request, as far as it got, and the code of the proper reply, if it was sent."""

    offered: list[int] = field(default_factory=list)  # the methods that the client offered
    tenant: str = ""  # the tenant's subdomain
    location: str = ""
    host: str = ""  # the virtual host
    port: int = 0
    kind: int = 0  # the type of the address
    reply: int | None = None


# --- possible answers to a step ---

Reply = bytes | Callable[["_Dialogue"], None]


def reply(code: int, address: bytes = SOME_IPV4) -> bytes:
    return bytes([5, code, 0]) + address


def silent(dialogue: "_Dialogue") -> None:
    """Never replies."""
    while dialogue.request.recv(65536):
        pass


def close(dialogue: "_Dialogue") -> None:
    pass


# --- the proxy ---


class ConnectivityProxy(Server):
    """The proxy. `replies` replaces the proper reply to the steps "method", "authentication" and
    "connect", after which the connection ends. Proper replies can be changed in three ways:
    `in_pieces` sends each byte separately, `with_greeting` sends the backend's greeting with the
    reply, and `bound` is the address in the last reply."""

    def __init__(
        self, oauth: OAuthServer, tenant_mode: str = "dedicated", authorization: bool = True
    ):
        super().__init__(_Dialogue, None)
        self.port = self.ports[0]
        self.tunnels = Feed()  # tunnels that were replied to or have ended
        self.replies: dict[str, Reply] = {}
        self.in_pieces = False
        self.with_greeting = False
        self.bound = SOME_IPV4
        self.tenant_mode = tenant_mode
        self.authorization = authorization
        self.oauth = oauth
        self._exposed: dict[tuple[str, str], dict[Address, Address]] = {}

    @property
    def method(self) -> int:
        """The authentication method that the proxy accepts. A proxy for many tenants needs a token
        to know the tenant."""
        return TOKEN if self.authorization or self.tenant_mode == "shared" else TRUSTED

    def expose(
        self, host: str, port: int, address: Address, tenant: str = PROVIDER, location: str = ""
    ) -> None:
        """Exposes a server as a virtual host of the tenant's Cloud Connector at this location."""
        self._exposed.setdefault((tenant, location), {})[host.lower(), port] = address

    def where(self, tenant: str, location: str, host: str, port: int) -> Address | int:
        """Returns the real address of the host, or the code of the reply that gives the reason why
        there is none."""
        exposed = self._exposed.get((tenant, location))
        if exposed is None:
            return NO_CLOUD_CONNECTOR
        return exposed.get((host.lower(), port), NOT_EXPOSED)

    def route(self, host: str, port: int) -> Address | None:
        """Returns the address of a token service, which the Destination service reaches for the
        provider."""
        address = self.where(PROVIDER, "", host, port)
        return None if isinstance(address, int) else address

    def service_key(self, kind: str = "binding-secret", by_name: bool = False) -> dict[str, object]:
        """Returns a new service key of the plan lite. `kind` may be "x509". For `by_name` see
        OAuthServer.credentials."""
        if kind == "binding-secret":
            client = self.oauth.client(AUDIENCE)
        else:
            client = self.oauth.certified_client(AUDIENCE)
        fields = self.oauth.credentials(client, by_name or kind == "x509")
        return {
            **fields,
            "token_service_url": fields["url"],
            "token_service_domain": fields["uaadomain"],
            "token-type": ["xsuaa"],
            **_addresses("connectivityproxy.internal.test", self.port),
        }

    def own_service_key(self) -> dict[str, object]:
        """Returns a new service key of the plan connectivity_proxy, which is for the proxy itself.
        The URL in it belongs to no tenant."""
        client = self.oauth.client(AUDIENCE)
        fields = self.oauth.credentials(client)
        url = self.oauth.common_url + TOKEN_PATH
        return {
            "clientid": client.id,
            "clientsecret": client.secret,
            "connectivity_service": {
                "CAs_path": "/api/v1/CAs",
                "CAs_signing_path": "/api/v1/CAs/signing",
                "api_path": "/api/v1",
                "tunnel_path": "/api/v1/tunnel",
                "url": "https://connectivity.services.test",
            },
            "credential-type": "binding-secret",
            "subaccount_id": fields["tenantid"],
            "subaccount_subdomain": fields["identityzone"],
            "token_service_domain": fields["uaadomain"],
            "token_service_url": url,
            "token_service_url_pattern": url.replace("://", "://{tenant}.", 1),
            "token_service_url_pattern_tenant_key": "subaccount_subdomain",
            "xsappname": fields["xsappname"],
        }

    # --- objects in its namespace ---

    def config_map(self, namespace: str, by_operator: bool = False) -> dict:
        """Returns the proxy's ConfigMap in the form of Helm, or with `by_operator` in that of SAP's
        operator."""
        text = OPERATORS_CONFIG if by_operator else HELMS_CONFIG
        return _config_map(
            "connectivity-proxy",
            namespace,
            {
                "connectivity-proxy-config.yml": text.format(
                    authorization=str(self.authorization).lower(),
                    port=self.port,
                    subaccount=self.oauth.tenant(PROVIDER).id,
                    subdomain=PROVIDER,
                    tenant_mode=self.tenant_mode,
                )
            },
        )

    def kyma_info(self, host: str = "connectivity-proxy.kyma-system.svc.cluster.local") -> dict:
        """Returns the ConfigMap in which Kyma describes the proxy."""
        addresses = _addresses(host, self.port)
        return _config_map("connectivity-proxy-info", "kyma-system", addresses)


class _Over(Exception):
    """Ends the dialogue before there is a tunnel."""


class _Dialogue(socketserver.BaseRequestHandler):
    """The dialogue with one client. A client that breaks the rules fails the test."""

    def setup(self) -> None:
        self.owner: ConnectivityProxy = self.server.owner
        self.tunnel = Tunnel()
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def handle(self) -> None:
        try:
            self._agree_on_method()
            if self.owner.method == TOKEN:
                self._authenticate()
            else:
                self.tunnel.tenant = PROVIDER
            backend = self._connect()
        except _Over:
            self._finish()
            return
        with backend:
            _relay(self.request, backend)

    def _agree_on_method(self) -> None:
        version, count = self._read(2)
        assert version == 5, f"SOCKS version {version}"
        self.tunnel.offered = list(self._read(count))
        accepted = self.owner.method in self.tunnel.offered
        self._say("method", bytes([5, self.owner.method if accepted else 0xFF]), accepted)

    def _authenticate(self) -> None:
        version, length = struct.unpack(">BI", self._read(5))
        assert version == 1, f"version {version} of the authentication"
        assert length <= 1 << 16, f"a token of {length} bytes"
        token = self._read(length).decode()
        location = base64.b64decode(self._read(self._read(1)[0]), validate=True)
        self.tunnel.location = location.decode()
        self.tunnel.tenant = self._tenant_of(token)
        accepted = bool(self.tunnel.tenant)
        self._say("authentication", bytes([1, 0 if accepted else 1]), accepted)

    def _tenant_of(self, token: str) -> str:
        """Returns the tenant's subdomain; "" if the token is not valid."""
        try:
            claims = self.owner.oauth.key.verify(token, AUDIENCE)
        except jwt.InvalidTokenError:
            return ""
        tenant = self.owner.oauth.tenant_with(claims["zid"]).subdomain
        return tenant if self.owner.tenant_mode == "shared" or tenant == PROVIDER else ""

    def _connect(self) -> socket.socket:
        tunnel = self.tunnel
        version, command, reserved, tunnel.kind = self._read(4)
        assert (version, reserved) == (5, 0), "no request of SOCKS5"
        tunnel.host = self._read_host(tunnel.kind)
        (tunnel.port,) = struct.unpack(">H", self._read(2))
        if "connect" in self.owner.replies:
            self._say("connect", b"", False)
        if command != CONNECT:
            self._refuse(NO_SUCH_COMMAND)
        if tunnel.kind == IPV6:
            self._refuse(NO_SUCH_ADDRESS_TYPE)
        address = self.owner.where(tunnel.tenant, tunnel.location, tunnel.host, tunnel.port)
        if isinstance(address, int):
            self._refuse(address)
        try:
            backend = socket.create_connection(address, PATIENCE)
        except OSError:
            self._refuse(UNREACHABLE)
        tunnel.reply = OPEN
        greeting = backend.recv(65536) if self.owner.with_greeting else b""
        self._say("connect", reply(OPEN, self.owner.bound) + greeting, True)
        return backend

    def _refuse(self, code: int) -> None:
        self.tunnel.reply = code
        self._say("connect", reply(code), False)

    def _read_host(self, kind: int) -> str:
        if kind == NAME:
            return self._read(self._read(1)[0]).decode("ascii")
        assert kind in (IPV4, IPV6), f"an address of type {kind}"
        return str(ipaddress.ip_address(self._read(4 if kind == IPV4 else 16)))

    def _read(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            more = self.request.recv(length - len(data))
            if not more:
                self.owner.tunnels.add(self.tunnel)
                raise _Over
            data += more
        return data

    def _say(self, step: str, proper: bytes, goes_on: bool) -> None:
        said = self.owner.replies.get(step, proper)
        goes_on = goes_on and step not in self.owner.replies
        if step == "connect" or not goes_on:
            self.owner.tunnels.add(self.tunnel)
        if callable(said):
            said(self)
        elif self.owner.in_pieces:
            for byte in said:
                self.request.sendall(bytes([byte]))
        else:
            self.request.sendall(said)
        if not goes_on:
            raise _Over

    def _finish(self) -> None:
        with contextlib.suppress(OSError):
            self.request.shutdown(socket.SHUT_WR)
            silent(self)


def _relay(client: socket.socket, backend: socket.socket) -> None:
    """Relays until both sides have ended their streams."""
    backend.settimeout(None)
    back = threading.Thread(target=_copy, args=(backend, client), daemon=True)
    back.start()
    _copy(client, backend)
    back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


# --- its objects in the cluster ---


def _addresses(host: str, port: int) -> dict[str, str]:
    return {
        "onpremise_proxy_host": host,
        "onpremise_proxy_http_port": "20003",
        "onpremise_proxy_ldap_port": "20001",
        "onpremise_proxy_port": "20003",
        "onpremise_proxy_rfc_port": "20001",
        "onpremise_socks5_proxy_port": str(port),
    }


def _config_map(name: str, namespace: str, data: dict[str, str]) -> dict:
    labels = {"connectivityproxy.sap.com/restart": f"connectivity-proxy.{namespace}"}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "data": data,
    }


HELMS_CONFIG = """\
highAvailabilityMode: "off"
integration:
  auditlog:
    mode: console
  connectivityService:
    serviceCredentialsKey: service_key
multiRegionMode:
  enabled: false
servers:
  businessDataTunnel:
    externalHost: cc-proxy.services.test
    externalPort: 443
  proxy:
    http:
      enableProxyAuthorization: false
      enabled: true
      port: 20003
    rfcAndLdap:
      enableProxyAuthorization: true
      enabled: true
      port: 20001
    socks5:
      enableProxyAuthorization: {authorization}
      enabled: true
      port: {port}
serviceChannels:
  enabled: true
subaccountId: {subaccount}
subaccountSubdomain: {subdomain}
tenantMode: {tenant_mode}
"""

OPERATORS_CONFIG = """\
---
integration:
  auditlog:
    mode: "console"
  connectivityService:
    serviceCredentialsKey: "service_key"
tenantMode: "{tenant_mode}"
subaccountId: "{subaccount}"
subaccountSubdomain: "{subdomain}"
highAvailabilityMode: "off"
multiRegionMode:
  enabled: false
  configMapName: null
serviceChannels:
  enabled: true
servers:
  businessDataTunnel:
    externalHost: "cc-proxy.services.test"
    externalPort: 443
  proxy:
    authorization: null
    http:
      enabled: true
      allowRemoteConnections: null
      enableProxyAuthorization: false
      port: 20003
    rfcAndLdap:
      enabled: true
      allowRemoteConnections: null
      enableProxyAuthorization: true
      port: 20001
    socks5:
      enabled: true
      allowRemoteConnections: null
      enableProxyAuthorization: {authorization}
      port: {port}
"""
