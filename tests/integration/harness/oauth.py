"""A real OAuth server (oidc-provider) behind a front that counts its requests and can fail.

Each tenant has a host of its own, as with SAP's XSUAA: http://TENANT.authentication.test and, for
clients that show a certificate, https://TENANT.authentication.cert.test. Under any other name the
server is the provider's; at IAS_HOST it is one of SAP's Cloud Identity Services (IAS).
"""

import base64
import hashlib
import json
import os
import secrets as random
import shutil
import ssl
import subprocess
import threading
import urllib.parse
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from harness.certs import Certificates, ClientCertificate
from harness.http_client import Answer, fetch
from harness.http_server import HttpServer, Request, Response
from harness.secret_registry import Secrets
from harness.tproxy import ROOT
from harness.util import PATIENCE

TOKEN_PATH = "/oauth/token"
IAS_TOKEN_PATH = "/oauth2/token"
IAS_HOST = "tproxy-tests.accounts.ondemand.com"
COMMON_HOST = "authentication.test"  # each tenant's host is a name below it
CERTIFICATE_HOST = "authentication.cert.test"
PROVIDER = "provider-subdomain"
UNKNOWN_TENANT = b"<!doctype html><html><title>HTTP Status 404</title><h1>Not Found</h1></html>"
NOT_SUBSCRIBED = {"error": "unauthorized", "error_description": "Bad credentials"}
STANDINS = Path(os.environ.get("TPROXY_STANDINS", ROOT / "build/standins"))


def node_command(script: str, *arguments: str) -> list[str]:
    """Returns the command that runs a script of tests/standins."""
    program = shutil.which("node")
    assert program, "node is not installed (make deps)"
    path = STANDINS / script
    assert path.exists(), f"{path} is not there: run make integration"
    return [program, str(path), *arguments]


class SigningKey:
    """An RSA key, and the name by which tokens refer to it."""

    def __init__(self):
        self.id = uuid.uuid4().hex
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def public_pem(self) -> str:
        public = self._key.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def private_jwk(self) -> dict:
        jwk = RSAAlgorithm.to_jwk(self._key, as_dict=True)
        del jwk["key_ops"]
        return jwk | {"kid": self.id, "alg": "RS256", "use": "sig"}

    def sign(self, claims: dict, key_id: str | None = None) -> str:
        """Signs a token. `key_id` is the name of another key, with which it is said to be
        signed."""
        return jwt.encode(claims, self._key, "RS256", headers={"kid": key_id or self.id})

    def verify(self, token: str, audience: str) -> dict:
        """Returns the claims. Raises jwt.InvalidTokenError if the token is not signed with this
        key, is for another audience, or is too old."""
        return jwt.decode(token, self._key.public_key(), ["RS256"], audience=audience)


class Provider:
    """The server's process, which serves the fronts of all tests."""

    def __init__(self, directory: Path):
        self.key = SigningKey()
        self.port = 0
        self._config = directory / "oauth.json"
        self._clients: dict[str, dict] = {}
        self._process: subprocess.Popen | None = None
        self._talking = threading.Lock()

    def __enter__(self) -> "Provider":
        self._write()
        self._process = subprocess.Popen(
            node_command("oauth_server.mjs", str(self._config)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._line())
        return self

    def __exit__(self, *exception) -> None:
        self._process.communicate(timeout=PATIENCE)

    def add(self, client: dict) -> None:
        """Adds or replaces a client, see tests/standins/oauth_server.mjs."""
        self._clients[client["client_id"]] = client
        self._write()

    def remove(self, client_id: str) -> None:
        del self._clients[client_id]
        self._write()

    def issue(self, what: dict) -> None:
        """Issues what a person gets, see tests/standins/oauth_server.mjs."""
        with self._talking:
            self._process.stdin.write(json.dumps(what) + "\n")
            self._process.stdin.flush()
            assert self._line() == what["value"]

    def _line(self) -> str:
        line = self._process.stdout.readline()
        assert line, "the OAuth server has died"
        return line.strip()

    def _write(self) -> None:
        config = {
            "issuer": "http://oauth.test",
            "jwks": {"keys": [self.key.private_jwk()]},
            "clients": list(self._clients.values()),
        }
        new = self._config.with_suffix(".new")
        new.write_text(json.dumps(config))
        new.rename(self._config)


@dataclass
class Tenant:
    subdomain: str
    id: str
    subscribed: bool = True  # to the provider's application; otherwise it knows no client


@dataclass
class Client:
    """A client that may ask for tokens, with a secret or a certificate."""

    id: str
    secret: str = ""
    certificate: ClientCertificate | None = None
    claims: dict = field(default_factory=dict)  # more claims of its tokens
    # More claims of the tokens in each tenant.
    in_tenant: dict[str, dict] = field(default_factory=dict)
    metadata: dict = field(default_factory=dict)  # see Provider.add


class OAuthServer(HttpServer):
    def __init__(
        self,
        provider: Provider,
        secrets: Secrets,
        tls: ssl.SSLContext | None = None,
        certificates: Certificates | None = None,
    ):
        """`certificates` is for the hosts that ask clients for certificates."""
        super().__init__(tls, certificates.mutual_context() if certificates else None)
        self.key = provider.key
        self._provider = provider
        self._secrets = secrets
        self._certificates = certificates
        self.clients: dict[str, Client] = {}  # by id
        self._tenants: dict[str, Tenant] = {}
        self.tenant(PROVIDER)

    # --- tenants ---

    def tenant(self, subdomain: str) -> Tenant:
        """Returns the tenant of this name, a new one if there is none."""
        return self._tenants.setdefault(subdomain, Tenant(subdomain, str(uuid.uuid4())))

    def tenant_with(self, id: str | None) -> Tenant | None:
        return next((tenant for tenant in self._tenants.values() if tenant.id == id), None)

    def url_of(self, tenant: str, certificate: bool = False) -> str:
        """Returns the tenant's URL; with `certificate` that of the host to which clients show
        certificates."""
        if certificate:
            return f"https://{tenant}.{CERTIFICATE_HOST}:{self.mutual_port}"
        return f"{self._scheme()}://{tenant}.{COMMON_HOST}:{self.port}"

    @property
    def common_url(self) -> str:
        """Returns the URL to which a tenant's name is added in front of the host. It belongs to no
        tenant."""
        return f"{self._scheme()}://{COMMON_HOST}:{self.port}"

    @property
    def ias_url(self) -> str:
        return f"https://{IAS_HOST}:{self.mutual_port}"

    def host_names(self, *more: str) -> list[str]:
        """Returns all hosts in the URLs. `more` are tenants that do not exist."""
        tenants = [*self._tenants, *more]
        hosts = (COMMON_HOST, CERTIFICATE_HOST)
        return [IAS_HOST, *(f"{tenant}.{host}" for tenant in tenants for host in hosts)]

    # --- clients ---

    def client(
        self,
        audience: str,
        claims: dict | None = None,
        lifetime: int = 3600,
        in_body: bool = True,
        age: int = 1,
        rotates: bool = False,
        in_tenant: dict[str, dict] | None = None,
    ) -> Client:
        """Creates a client. With `in_body` it sends its secret in the form, otherwise with Basic.
        `age` is the tokens' age at their issue, in seconds: time(2) may lag some milliseconds
        behind the clock of the issuer, and a server refuses tokens from the future. With `rotates`
        a refresh token works only once. For the others see Client."""
        client = self._new_client(audience, lifetime, claims, in_tenant)
        method = "client_secret_post" if in_body else "client_secret_basic"
        client.metadata |= {"token_endpoint_auth_method": method, "age": age, "rotates": rotates}
        return self.renew(client)

    def certified_client(
        self, audience: str, claims: dict | None = None, lifetime: int = 3600, bound: bool = False
    ) -> Client:
        """Creates a client that shows a certificate. With `bound` every user of its tokens has to
        show it."""
        client = self._new_client(audience, lifetime, claims)
        client.metadata |= {
            "token_endpoint_auth_method": "tls_client_auth",
            "tls_client_certificate_bound_access_tokens": bound,
        }
        return self.renew(client)

    def renew(self, client: Client) -> Client:
        """Gives the client another secret or certificate. The old one is refused from now on."""
        if client.metadata["token_endpoint_auth_method"] == "tls_client_auth":
            client.certificate = self._certificates.client()
            self._secrets.add(client.certificate.key.splitlines()[1])
            client.metadata["tls_client_auth_subject_dn"] = client.certificate.name
        else:
            client.secret = self._secrets.new()
            client.metadata["client_secret"] = client.secret
        self._provider.add(client.metadata)
        return client

    def revoke(self, client: Client) -> None:
        """Removes the client from the server."""
        self._provider.remove(client.id)

    def credentials(self, client: Client, by_name: bool = False) -> dict[str, str]:
        """Returns a service key's fields for the client and this server. With `by_name` the URL is
        that of the provider's tenant."""
        fields = {
            "clientid": client.id,
            "url": self.url_of(PROVIDER) if by_name else self.url,
            "uaadomain": f"{COMMON_HOST}:{self.port}",
            "identityzone": PROVIDER,
            "tenantid": self.tenant(PROVIDER).id,
            "tenantmode": "dedicated",
            "xsappname": client.id.removeprefix("sb-"),
            "verificationkey": self.key.public_pem(),
        }
        if not client.certificate:
            return fields | {"clientsecret": client.secret, "credential-type": "binding-secret"}
        return fields | {
            "certurl": self.url_of(PROVIDER, certificate=True),
            "certificate": client.certificate.chain,
            "key": client.certificate.key,
            "credential-type": "x509",
        }

    def mail_client(self, user: str, in_tenant: dict[str, str] | None = None, **options) -> Client:
        """Creates a client whose tokens open the mailbox of this user. `in_tenant` has other users
        for some tenants; `options` are those of client()."""
        users = {tenant: {"email": other} for tenant, other in (in_tenant or {}).items()}
        return self.client("urn:mail", {"email": user}, in_tenant=users, **options)

    def properties(
        self, client: Client, authentication: str = "OAuth2ClientCredentials", common: bool = False
    ) -> dict[str, str]:
        """Returns the properties of a destination that gets its tokens here. With `common` it gets
        them from the tenant's host."""
        return {
            "Authentication": authentication,
            "tokenServiceURL": (self.common_url if common else self.url) + TOKEN_PATH,
            "tokenServiceURLType": "Common" if common else "Dedicated",
            "clientId": client.id,
            "clientSecret": client.secret,
        }

    # --- what people get after they have logged in ---

    def refresh_token(
        self,
        client: Client,
        user: str,
        tenant: str = PROVIDER,
        lifetime: int = 86400,
        scope: str = "",
        size: int = 48,
    ) -> str:
        """Issues a refresh token with which the client gets tokens that open the mailbox of this
        user."""
        value = f"1//{random.token_urlsafe(size)}"
        return self._issue("RefreshToken", value, client, user, tenant, lifetime, scope)

    def code(
        self,
        client: Client,
        user: str,
        redirect_uri: str | None = None,
        verifier: str | None = None,
        tenant: str = PROVIDER,
        lifetime: int = 600,
        scope: str = "",
    ) -> str:
        """Issues a code, which works once. The client has to send redirect_uri and verifier with
        it, if given."""
        bound = {}
        if redirect_uri:
            bound["redirectUri"] = redirect_uri
        if verifier:
            digest = hashlib.sha256(verifier.encode()).digest()
            bound["codeChallenge"] = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        value = f"4/{random.token_urlsafe(48)}"
        return self._issue(
            "AuthorizationCode", value, client, user, tenant, lifetime, scope, **bound
        )

    def requests_of(self, client_id: str) -> list[Request]:
        """Returns the token requests that a client has made so far."""
        return [request for request in self.requests.all() if _client_id(request) == client_id]

    # --- inside ---

    def answer(self, request: Request) -> Response:
        tenant = self._tenant_asked(request)
        if not tenant:
            return Response(404, UNKNOWN_TENANT, {"Content-Type": "text/html;charset=utf-8"})
        client = self.clients.get(_client_id(request))
        if client and not tenant.subscribed:
            return Response.json(401, NOT_SUBSCRIBED)
        answer = self._ask_provider(request, tenant, client)
        if answer.status == 200 and request.method == "POST":
            for name, value in answer.json().items():
                if name in ("access_token", "refresh_token"):
                    self._secrets.add(value)
        kept = ("Content-Type", "Cache-Control", "WWW-Authenticate")
        headers = {name: answer.headers[name] for name in kept if name in answer.headers}
        return Response(answer.status, answer.body, headers)

    def _ask_provider(self, request: Request, tenant: Tenant, client: Client | None) -> Answer:
        """Passes the request on, see tests/standins/oauth_server.mjs."""
        ias = _host(request) == IAS_HOST
        path = TOKEN_PATH if ias and request.path == IAS_TOKEN_PATH else request.path
        url = f"http://127.0.0.1:{self._provider.port}{path}"
        passed_on = ("accept", "authorization", "content-type")
        headers = {
            **{name: value for name, value in request.headers.items() if name.lower() in passed_on},
            "x-tenant": tenant.subdomain,
            "x-issuer": f"https://{IAS_HOST}" if ias else self.url_of(tenant.subdomain),
            "x-claims": json.dumps(_claims(tenant, client, ias)),
        }
        if request.certificate:
            headers["x-client-certificate"] = base64.b64encode(request.certificate).decode()
        return fetch(url, request.method, request.body or None, headers)

    def _tenant_asked(self, request: Request) -> Tenant | None:
        host = _host(request)
        tenant, _, domain = host.partition(".")
        if domain in (COMMON_HOST, CERTIFICATE_HOST):
            return self._tenants.get(tenant)
        zone = None if host in (COMMON_HOST, CERTIFICATE_HOST) else self.tenant(PROVIDER).id
        return self.tenant_with(request.headers.get("X-zid", zone))

    def _scheme(self) -> str:
        return "https" if self._tls else "http"

    def _new_client(
        self, audience: str, lifetime: int, claims: dict | None, in_tenant: dict | None = None
    ) -> Client:
        client = Client(f"sb-clone{uuid.uuid4()}!b21283|tests!b404")
        client.claims, client.in_tenant = claims or {}, in_tenant or {}
        client.metadata |= {"client_id": client.id, "audience": audience, "lifetime": lifetime}
        self.clients[client.id] = client
        return client

    def _issue(self, model, value, client, user, tenant, lifetime, scope, **bound) -> str:
        self._provider.issue(
            {
                "model": model,
                "value": value,
                "client_id": client.id,
                "tenant": tenant,
                "user": user,
                "lifetime": lifetime,
                "scope": scope,
                **bound,
            }
        )
        return self._secrets.add(value)


def _claims(tenant: Tenant, client: Client | None, ias: bool) -> dict:
    if ias:
        claims = {"app_tid": tenant.id}
    else:
        attributes = {"zdn": tenant.subdomain, "subaccountid": tenant.id}
        claims = {"zid": tenant.id, "ext_attr": attributes}
    if client:
        claims |= {**client.claims, **client.in_tenant.get(tenant.subdomain, {})}
    return claims


def _host(request: Request) -> str:
    return request.headers.get("Host", "").partition(":")[0].lower()


def _client_id(request: Request) -> str:
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        return urllib.parse.unquote_plus(base64.b64decode(credentials).decode().split(":")[0])
    return request.form().get("client_id", "")
