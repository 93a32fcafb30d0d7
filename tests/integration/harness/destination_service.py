"""A stand-in for the Destination service of SAP BTP. That it is a good one is judged by SAP's own
client, in test_standins.py."""

import base64
import http.client
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
import uuid

import jwt

from harness.http_server import HttpServer, Request, Response
from harness.oauth import OAuthServer
from harness.secret_registry import Secrets
from harness.util import PATIENCE

FIND = "/destination-configuration/v1/destinations/"
AUDIENCE = "urn:destination-configuration"
SECRET_PROPERTIES = ("mail.password", "Password", "clientSecret", "tokenServicePassword")
MAX_ANSWER = 1 << 16  # of a token service


class DestinationService(HttpServer):
    """destinations (of the subaccount) and instance_destinations hold the properties of each one
    under its name, and may change at any time."""

    def __init__(
        self,
        oauth: OAuthServer,
        secrets: Secrets,
        tls: ssl.SSLContext | None = None,
        trust: ssl.SSLContext | None = None,
    ):
        """trust: for token services with https."""
        super().__init__(tls)
        self.destinations: dict[str, dict[str, str]] = {}
        self.instance_destinations: dict[str, dict[str, str]] = {}
        self.subaccount = str(uuid.uuid4())
        self.instance = str(uuid.uuid4())
        self._oauth = oauth
        self._secrets = secrets
        self._trust = trust

    def service_key(self, **options) -> dict[str, str]:
        """A new one, as the service broker hands it out. options: those of OAuthServer.client."""
        claims = {
            "zid": self.subaccount,
            "ext_attr": {"zdn": "provider-subdomain", "subaccountid": self.subaccount},
        }
        client = self._oauth.client(AUDIENCE, claims, **options)
        return {
            "clientid": client.id,
            "clientsecret": client.secret,
            "url": self._oauth.url,
            "uri": self.url,
            "uaadomain": "authentication.test",
            "identityzone": "provider-subdomain",
            "tenantid": self.subaccount,
            "tenantmode": "dedicated",
            "instanceid": self.instance,
            "xsappname": client.id.removeprefix("sb-"),
            "verificationkey": self._oauth.key.public_pem(),
            "credential-type": "binding-secret",
        }

    def finds(self, name: str, with_tokens: bool) -> list[Request]:
        """The requests for this destination until now: those that let the service get tokens for
        it, or the others."""
        return [
            request
            for request in self.requests.all()
            if urllib.parse.unquote(request.path) == FIND + name
            and _wants_tokens(request) == with_tokens
        ]

    def answer(self, request: Request) -> Response:
        if request.method != "GET" or not request.path.startswith(FIND):
            return Response(404)
        try:
            self._oauth.key.verify(_bearer(request), AUDIENCE)
        except jwt.InvalidTokenError as error:
            return Response(401, str(error).encode(), {"WWW-Authenticate": "Bearer"})
        return self._find(request, urllib.parse.unquote(request.path.removeprefix(FIND)))

    def _find(self, request: Request, name: str) -> Response:
        """The instance's own destination hides one of the subaccount."""
        if name in self.instance_destinations:
            instance, properties = self.instance, self.instance_destinations[name]
        elif name in self.destinations:
            instance, properties = None, self.destinations[name]
        else:
            message = "Configuration with the specified name was not found"
            return Response.json(404, {"ErrorMessage": message})
        for secret in SECRET_PROPERTIES:
            if properties.get(secret):
                self._secrets.add(properties[secret])
        found = {
            "owner": {"SubaccountId": self.subaccount, "InstanceId": instance},
            "destinationConfiguration": {"Name": name, **properties},
        }
        if properties.get("Authentication") in GRANTS and _wants_tokens(request):
            found["authTokens"] = [_ask(properties, self._trust)]
        return Response.json(200, found)


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


def _wants_tokens(request: Request) -> bool:
    return request.query.get("$skipTokenRetrieval", "false") != "true"


# --- tokens for the destination's own server ---


class RetrievalError(Exception):
    """Why there is no token, as the answer says it."""


def _client_credentials(properties: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The form and the headers of the request for a token."""
    client_id, client_secret = properties["clientId"], properties["clientSecret"]
    form = {"grant_type": "client_credentials"}
    if properties.get("scope"):
        form["scope"] = properties["scope"]
    if properties.get("tokenService.addClientCredentialsInBody", "true") == "true":
        return form | {"client_id": client_id, "client_secret": client_secret}, {}
    pair = f"{urllib.parse.quote_plus(client_id)}:{urllib.parse.quote_plus(client_secret)}"
    return form, {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


# How to ask for the token of a destination, by its Authentication.
GRANTS = {"OAuth2ClientCredentials": _client_credentials}


def _ask(properties: dict[str, str], trust: ssl.SSLContext | None) -> dict[str, object]:
    """An element of authTokens. What went wrong stands in it too: the answer as a whole is always
    a success."""
    try:
        form, headers = GRANTS[properties["Authentication"]](properties)
        answer = _post(properties["tokenServiceURL"], form, headers, trust)
        kind, token = answer["token_type"], answer["access_token"]
        return {
            "type": kind,
            "value": token,
            "http_header": {"key": "Authorization", "value": f"{kind} {token}"},
            "expires_in": str(answer["expires_in"]),
            **({"scope": answer["scope"]} if "scope" in answer else {}),
        }
    except RetrievalError as error:
        reason = str(error)
    except KeyError as missing:
        reason = f"{missing} is missing"
    failure = f"Retrieval of OAuthToken failed due to: {reason}"
    return {"type": "", "value": "", "expires_in": "0", "error": failure}


def _post(
    url: str, form: dict[str, str], headers: dict[str, str], trust: ssl.SSLContext | None
) -> dict:
    # Whatever proxy this machine has is not for this.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
    )
    body = urllib.parse.urlencode(form).encode()
    request = urllib.request.Request(url, body, {"Accept": "application/json", **headers})
    try:
        with opener.open(request, timeout=PATIENCE) as answer:
            found = json.loads(answer.read(MAX_ANSWER))
    except urllib.error.HTTPError as error:
        raise RetrievalError(
            "Unable to fetch token from the specified token service URL. Response was: "
            f"{error.code} {error.read().decode(errors='replace')}"
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise RetrievalError(str(error)) from error
    if not isinstance(found, dict):
        raise RetrievalError("the answer is not a JSON object")
    return found


# --- the Secret that holds a service key ---

# What SAP's BTP service operator adds to the key.
INSTANCE_INFO = {
    "instance_name": "dest-service-instance",
    "instance_guid": "6f8c6d1e-4c55-4c4b-9c76-6f7a4ff5b5b1",
    "plan": "lite",
    "label": "destination",
    "type": "destination",
}


def key_secret(
    name: str, namespace: str, key: dict[str, str], secret_key: str | None = None
) -> dict:
    """A Secret as SAP's BTP service operator writes it: an entry for each field of the service key,
    or the whole key as JSON under secret_key."""
    if secret_key:
        entries = {secret_key: json.dumps(key)}
        credentials = [{"name": secret_key, "format": "json", "container": True}]
    else:
        entries = key
        credentials = [{"name": field, "format": "text"} for field in key]
    metadata = {
        "metaDataProperties": [{"name": field, "format": "text"} for field in INSTANCE_INFO],
        "credentialProperties": credentials,
    }
    data = {**entries, **INSTANCE_INFO, ".metadata": json.dumps(metadata)}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"services.cloud.sap.com/managed-by-sap-btp-operator": "true"},
        },
        "data": {entry: base64.b64encode(value.encode()).decode() for entry, value in data.items()},
    }
