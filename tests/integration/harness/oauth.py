"""A real OAuth server (oidc-provider) behind a front that counts its requests and can fail."""

import base64
import http.client
import json
import os
import shutil
import ssl
import subprocess
import urllib.parse
import uuid
from dataclasses import dataclass
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from harness.http_server import HttpServer, Request, Response
from harness.secret_registry import Secrets
from harness.tproxy import ROOT
from harness.util import PATIENCE

TOKEN_PATH = "/oauth/token"
STANDINS = Path(os.environ.get("TPROXY_STANDINS", ROOT / "build/standins"))


def node_command(script: str, *arguments: str) -> list[str]:
    """Runs one of tests/standins."""
    program = shutil.which("node")
    assert program, "node is not installed (make deps)"
    path = STANDINS / script
    assert path.exists(), f"{path} is not there: run make integration"
    return [program, str(path), *arguments]


class SigningKey:
    """An RSA key and the name by which tokens refer to it."""

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
        """key_id: that of a key which the token pretends to be signed with."""
        return jwt.encode(claims, self._key, "RS256", headers={"kid": key_id or self.id})

    def verify(self, token: str, audience: str) -> dict:
        """The claims. jwt.InvalidTokenError if it is not of this key, not for them, or too old."""
        return jwt.decode(token, self._key.public_key(), ["RS256"], audience=audience)


class Provider:
    """The process, which serves the fronts of all tests."""

    issuer = "http://oauth.test"

    def __init__(self, directory: Path):
        self.key = SigningKey()
        self.port = 0
        self._config = directory / "oauth.json"
        self._clients: list[dict] = []
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> "Provider":
        self._write()
        self._process = subprocess.Popen(
            node_command("oauth_server.mjs", str(self._config)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        line = self._process.stdout.readline()
        assert line, "the OAuth server does not start"
        self.port = int(line)
        return self

    def __exit__(self, *exception) -> None:
        self._process.communicate(timeout=PATIENCE)

    def add(self, client: dict) -> None:
        """See tests/standins/oauth_server.mjs."""
        self._clients.append(client)
        self._write()

    def _write(self) -> None:
        config = {
            "issuer": self.issuer,
            "jwks": {"keys": [self.key.private_jwk()]},
            "clients": self._clients,
        }
        new = self._config.with_suffix(".new")
        new.write_text(json.dumps(config))
        new.rename(self._config)


@dataclass
class Client:
    """Who may ask for tokens."""

    id: str
    secret: str


class OAuthServer(HttpServer):
    def __init__(self, provider: Provider, secrets: Secrets, tls: ssl.SSLContext | None = None):
        super().__init__(tls)
        self.key = provider.key
        self._provider = provider
        self._secrets = secrets

    def client(
        self, audience: str, claims: dict, lifetime: int = 3600, in_body: bool = True
    ) -> Client:
        """A new one. in_body: where it has to put its secret, which else is for Basic."""
        client = Client(f"sb-clone{uuid.uuid4()}!b21283|tests!b404", self._secrets.new())
        method = "client_secret_post" if in_body else "client_secret_basic"
        self._provider.add(
            {
                "client_id": client.id,
                "client_secret": client.secret,
                "token_endpoint_auth_method": method,
                "audience": audience,
                "lifetime": lifetime,
                "claims": claims,
            }
        )
        return client

    def mail_client(self, user: str, **options) -> Client:
        """One whose tokens open the mailbox of this user."""
        return self.client("urn:mail", {"email": user}, **options)

    def properties(self, client: Client) -> dict[str, str]:
        """Those of a destination that gets its tokens here."""
        return {
            "Authentication": "OAuth2ClientCredentials",
            "tokenServiceURL": self.url + TOKEN_PATH,
            "tokenServiceURLType": "Dedicated",
            "clientId": client.id,
            "clientSecret": client.secret,
        }

    def requests_of(self, client_id: str) -> list[Request]:
        """The requests for tokens that a client has made until now."""
        return [request for request in self.requests.all() if _client_id(request) == client_id]

    def answer(self, request: Request) -> Response:
        connection = http.client.HTTPConnection("127.0.0.1", self._provider.port, timeout=PATIENCE)
        try:
            connection.request(
                request.method, request.path, request.body or None, dict(request.headers)
            )
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status == 200 and request.path == TOKEN_PATH:
            self._secrets.add(json.loads(body)["access_token"])
        kept = ("Content-Type", "Cache-Control", "WWW-Authenticate")
        headers = {name: answer.headers[name] for name in kept if name in answer.headers}
        return Response(answer.status, body, headers)


def _client_id(request: Request) -> str:
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        return urllib.parse.unquote_plus(base64.b64decode(credentials).decode().split(":")[0])
    return request.form().get("client_id", "")
