"""A stand-in for the Destination service of SAP BTP. SAP's own client tests it, in
test_standins.py."""

import base64
import hashlib
import json
import ssl
import urllib.parse
import uuid
from dataclasses import dataclass, field

import jwt

from harness.certs import Certificates
from harness.http_server import HttpServer, Request, Response
from harness.oauth import PROVIDER, OAuthServer
from harness.secret_registry import Secrets
from harness.token_retrieval import GRANTS, Properties, Retriever, Route, failure

FIND = "/destination-configuration/v1/destinations/"
CONSUME = "/destination-configuration/v2/destinations/"
HOST = "destination.services.test"  # the host for clients that show a certificate
AUDIENCE = "urn:destination-configuration"
SECRET_PROPERTIES = ("mail.password", "Password", "clientSecret", "tokenServicePassword")


@dataclass
class Level:
    """The objects of a subaccount or instance, by their names. They may change at any time."""

    subaccount_id: str
    instance_id: str | None = None
    destinations: dict[str, Properties] = field(default_factory=dict)
    fragments: dict[str, Properties] = field(default_factory=dict)
    certificates: dict[str, bytes] = field(default_factory=dict)  # the files

    def owner(self) -> dict[str, str | None]:
        return {"SubaccountId": self.subaccount_id, "InstanceId": self.instance_id}


class Subaccount:
    """A tenant's objects in the service: in its subaccount and in the instance."""

    def __init__(self, id: str, instance: str):
        self.subaccount = Level(id)
        self.instance = Level(id, instance)

    @property
    def destinations(self) -> dict[str, Properties]:
        return self.subaccount.destinations

    @property
    def fragments(self) -> dict[str, Properties]:
        return self.subaccount.fragments

    @property
    def certificates(self) -> dict[str, bytes]:
        return self.subaccount.certificates


class Refusal(Exception):
    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class DestinationService(HttpServer):
    """The service. `destinations`, `instance_destinations`, `fragments` and `certificates` are the
    provider's; tenant() returns those of others. `chains` contains the variables that each chain needs. If
    `token_error` is set, the service reports it instead of requesting tokens. `route` leads to
    token services on premise."""

    def __init__(
        self,
        oauth: OAuthServer,
        secrets: Secrets,
        tls: ssl.SSLContext | None = None,
        trust: ssl.SSLContext | None = None,
        certificates: Certificates | None = None,
    ):
        """`trust` is for token services with https, `certificates` for clients of IAS."""
        super().__init__(tls, certificates.mutual_context() if certificates else None)
        self.instance = str(uuid.uuid4())
        self.chains: dict[str, tuple[str, ...]] = {}
        self.token_error = ""
        self.route: Route = lambda host, port: None
        self._oauth = oauth
        self._secrets = secrets
        self._trust = trust
        self._subaccounts: dict[str, Subaccount] = {}  # by subdomain
        provider = self.tenant(PROVIDER)
        self.subaccount = provider.subaccount.subaccount_id
        self.destinations = provider.destinations
        self.fragments = provider.fragments
        self.certificates = provider.certificates
        self.instance_destinations = provider.instance.destinations

    def tenant(self, subdomain: str) -> Subaccount:
        """Returns the tenant's objects, which are empty at first."""
        id = self._oauth.tenant(subdomain).id
        return self._subaccounts.setdefault(subdomain, Subaccount(id, self.instance))

    # --- service keys ---

    def service_key(
        self, kind: str = "binding-secret", by_name: bool = False, **options
    ) -> dict[str, str]:
        """Returns a new service key, as the service broker issues it. `kind` may be "x509" or
        "ias". For `by_name`, which holds for all keys with certificates, see
        OAuthServer.credentials. `options` are those of the client."""
        if kind == "binding-secret":
            client = self._oauth.client(AUDIENCE, **options)
        else:
            client = self._oauth.certified_client(AUDIENCE, bound=kind == "ias", **options)
        fields = self._oauth.credentials(client, by_name or kind != "binding-secret")
        if kind != "ias":
            return {**fields, "uri": self.url, "instanceid": self.instance}
        return {
            **{name: fields[name] for name in ("clientid", "certificate", "key")},
            "url": self._oauth.ias_url,
            "app_tid": fields["tenantid"],
            "credential-type": "X509_GENERATED",
            "uri": f"https://{HOST}:{self.mutual_port}",
            "instanceid": self.instance,
        }

    def renewed(self, key: dict[str, str]) -> dict[str, str]:
        """Returns the key with another secret or certificate. The old one is refused from now
        on."""
        client = self._oauth.renew(self._oauth.clients[key["clientid"]])
        fields = self._oauth.credentials(client)
        return {**key, **{name: fields[name] for name in ROTATED if name in key}}

    # --- what was asked ---

    def finds(self, name: str, with_tokens: bool) -> list[Request]:
        """Returns the requests for this destination so far: those in which the service may get
        tokens for it, or the others."""
        return [
            request
            for request in self.requests.all()
            if _asked_for(request)[0] == name and _wants_tokens(request) == with_tokens
        ]

    # --- answers ---

    def answer(self, request: Request) -> Response:
        if request.method != "GET" or not request.path.startswith((FIND, CONSUME)):
            return Response(404)
        try:
            claims = self._oauth.key.verify(_bearer(request), AUDIENCE)
            _check_binding(claims, request)
        except jwt.InvalidTokenError as error:
            return Response(401, str(error).encode(), {"WWW-Authenticate": "Bearer"})
        tenant = self._tenant_of(claims)
        try:
            if request.path.startswith(CONSUME):
                if _is_ias(claims):
                    raise Refusal(403, "Tokens of IAS are not supported")
                return self._consume(request, tenant)
            return self._find(request, tenant)
        except Refusal as refusal:
            return Response.json(refusal.status, {"ErrorMessage": str(refusal)})

    def _tenant_of(self, claims: dict) -> str:
        """Returns the subdomain of the token's tenant; the provider's if the token has none."""
        id = claims.get("zid", claims.get("app_tid", self.subaccount))
        subdomain = self._oauth.tenant_with(id).subdomain
        self.tenant(subdomain)
        return subdomain

    def _find(self, request: Request, tenant: str) -> Response:
        """Finds a destination. One of the instance hides one of the subaccount."""
        name, _ = _asked_for(request)
        own = self._subaccounts[tenant]
        place = own.instance if name in own.instance.destinations else own.subaccount
        fragments = [(fragment, place) for fragment in _fragment_names(request)]
        found = self._found(request, tenant, name, place, fragments)
        return Response.json(200, {"owner": place.owner(), **found})

    def _consume(self, request: Request, tenant: str) -> Response:
        name, level = _asked_for(request)
        place = self._place(tenant, level)
        fragments = []
        for each in _fragment_names(request):
            fragment, other = _at_level(each)
            other = other or level
            if tenant != PROVIDER and level != other and "subaccount" in (level, other):
                raise Refusal(403, f"A subscriber must not mix {level} and {other}")
            fragments.append((fragment, self._place(tenant, other)))
        found = self._found(request, tenant, name, place, fragments)
        if request.query.get("includeMetadata") == "owner":
            found["destinationConfiguration"]["$metadata"] = {
                "owner": {
                    "destinations": [{"Name": name, **place.owner()}],
                    "certificates": [],
                    "fragments": [{"FragmentName": f, **at.owner()} for f, at in fragments],
                }
            }
        return Response.json(200, found)

    def _place(self, tenant: str, level: str) -> Level:
        places = {"": self._subaccounts[tenant], "provider_": self._subaccounts[PROVIDER]}
        for prefix, of in places.items():
            if level == f"{prefix}subaccount":
                return of.subaccount
            if level == f"{prefix}instance":
                return of.instance
        raise Refusal(400, f'"{level}" is no level')

    def _found(
        self,
        request: Request,
        tenant: str,
        name: str,
        place: Level,
        fragments: list[tuple[str, Level]],
    ) -> dict:
        if name not in place.destinations:
            raise Refusal(404, "Configuration with the specified name was not found")
        properties = {"Name": name, **place.destinations[name]}
        applied = []
        for fragment, at in fragments:
            if fragment in at.fragments:
                properties |= at.fragments[fragment]
                applied.append(fragment)
            elif len(fragments) > 1 or request.headers.get("X-Fragment-Optional") != "true":
                raise Refusal(404, "Destination fragment with the specified name was not found")
        if applied:
            properties["FragmentName"] = ",".join(applied)
        for secret in SECRET_PROPERTIES:
            if properties.get(secret):
                self._secrets.add(properties[secret])
        self._check_chain(request)
        found = {"destinationConfiguration": properties}
        stores = [properties.get(name) for name in ("KeyStoreLocation", "TrustStoreLocation")]
        files = {name: place.certificates[name] for name in stores if name in place.certificates}
        if files:
            found["certificates"] = certificates_of(files)
        if properties.get("Authentication") in GRANTS and _wants_tokens(request):
            found["authTokens"] = [self._token(request, tenant, properties)]
        return found

    def _check_chain(self, request: Request) -> None:
        chain = request.headers.get("X-chain-name")
        if chain is None:
            return
        if chain not in self.chains:
            raise Refusal(400, f'There is no chain "{chain}"')
        for variable in self.chains[chain]:
            if f"X-chain-var-{variable}" not in request.headers:
                raise Refusal(400, f"X-chain-var-{variable} is missing")

    def _token(self, request: Request, tenant: str, properties: Properties) -> dict[str, object]:
        required = GRANTS[properties["Authentication"]].required
        if required and required not in request.headers:
            raise Refusal(400, f"{required} is missing")
        if self.token_error:
            return failure(self.token_error)
        tenant = request.headers.get("X-tenant", tenant)
        return Retriever(request, tenant, self._trust, self.route).retrieve(properties)


def certificates_of(files: dict[str, bytes]) -> list[dict[str, str]]:
    """Returns the files as the service's answer has them."""
    return [
        {"Name": name, "Content": base64.b64encode(file).decode(), "Type": "CERTIFICATE"}
        for name, file in files.items()
    ]


ROTATED = ("clientsecret", "certificate", "key")


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


def _wants_tokens(request: Request) -> bool:
    return request.query.get("$skipTokenRetrieval", "false") != "true"


def _is_ias(claims: dict) -> bool:
    return "app_tid" in claims


def _check_binding(claims: dict, request: Request) -> None:
    """Checks that the client shows the certificate to which a token of IAS was issued."""
    if _is_ias(claims):
        digest = hashlib.sha256(request.certificate or b"").digest()
        if claims["cnf"]["x5t#S256"] != base64.urlsafe_b64encode(digest).decode().rstrip("="):
            raise jwt.InvalidTokenError("this is not the certificate of the token")


def _asked_for(request: Request) -> tuple[str, str]:
    """Returns the name of the destination, and its level if the request contains one."""
    path = urllib.parse.unquote(request.path)
    if path.startswith(CONSUME):
        return _at_level(path.removeprefix(CONSUME))
    return path.removeprefix(FIND), ""


def _fragment_names(request: Request) -> list[str]:
    names = request.headers.get("X-Fragment-Name", "")
    return [name.strip() for name in names.split(",") if name.strip()]


def _at_level(text: str) -> tuple[str, str]:
    """Splits NAME@LEVEL. The level is "" if there is none."""
    name, _, level = text.rpartition("@")
    return (name, level) if name else (text, "")


# --- the Secret that holds a service key ---

# The values that SAP's BTP service operator adds to the key.
INSTANCE_INFO = {
    "instance_name": "dest-service-instance",
    "instance_guid": "6f8c6d1e-4c55-4c4b-9c76-6f7a4ff5b5b1",
    "plan": "lite",
    "label": "destination",
    "type": "destination",
}


def key_secret(
    name: str,
    namespace: str,
    key: dict[str, object],
    secret_key: str | None = None,
    root_key: str | None = None,
) -> dict:
    """Returns a Secret as SAP's BTP service operator writes it: an entry for each field of the
    service key; with secret_key the whole key as JSON in that entry; with root_key the whole key
    and the operator's additions in that entry, with strings for all values."""
    fields = {field: _text(value) for field, value in key.items()}
    if root_key:
        return _secret(name, namespace, {root_key: json.dumps({**fields, **INSTANCE_INFO})})
    if secret_key:
        entries = {secret_key: json.dumps(key)}
        credentials = [{"name": secret_key, "format": "json", "container": True}]
    else:
        entries = fields
        credentials = [
            {"name": field, "format": "text" if isinstance(value, str) else "json"}
            for field, value in key.items()
        ]
    metadata = {
        "metaDataProperties": [{"name": field, "format": "text"} for field in INSTANCE_INFO],
        "credentialProperties": credentials,
    }
    return _secret(name, namespace, {**entries, **INSTANCE_INFO, ".metadata": json.dumps(metadata)})


def private_key_secret(name: str, namespace: str, private_key: str, entry: str = "pk.pem") -> dict:
    """Returns a Secret with only the private key of a certificate."""
    return _secret(name, namespace, {entry: private_key})


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _secret(name: str, namespace: str, entries: dict[str, str]) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"services.cloud.sap.com/managed-by-sap-btp-operator": "true"},
        },
        "data": {
            entry: base64.b64encode(value.encode()).decode() for entry, value in entries.items()
        },
    }
