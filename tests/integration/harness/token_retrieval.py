"""The Destination service's requests for a destination's token at the destination's own token
service."""

import base64
import http.client
import ssl
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass

from harness.http_client import fetch
from harness.http_server import Request

MAX_ANSWER = 1 << 16  # the largest answer of a token service

Properties = dict[str, str]
Route = Callable[[str, int], tuple[str, int] | None]


class RetrievalError(Exception):
    """The reason why there is no token, as it stands in the answer."""


@dataclass
class Retriever:
    """Gets tokens for one request to the service. `tenant` is its subdomain, `trust` is for token
    services with https, and `route` finds virtual hosts behind the Cloud Connector."""

    request: Request
    tenant: str
    trust: ssl.SSLContext | None
    route: Route

    def retrieve(self, properties: Properties) -> dict[str, object]:
        """Returns an element of authTokens. It also contains an error, because the answer as a
        whole is always a success."""
        try:
            answer = self._ask(properties)
            kind, token = answer["token_type"], answer["access_token"]
            optional = {key: answer[key] for key in ("scope", "refresh_token") if key in answer}
            return {
                "type": kind,
                "value": token,
                "http_header": {"key": "Authorization", "value": f"{kind} {token}"},
                "expires_in": str(answer["expires_in"]),
                **optional,
            }
        except RetrievalError as error:
            return failure(str(error))
        except KeyError as missing:
            return failure(f"{missing} is missing")

    def _ask(self, properties: Properties) -> dict:
        grant = GRANTS[properties["Authentication"]]
        form = {"grant_type": grant.type}
        for name, header in grant.parameters.items():
            if header in self.request.headers:
                form[name] = self.request.headers[header]
        if properties.get("scope"):
            form["scope"] = properties["scope"]
        form |= _below("tokenService.body.", properties)
        headers = _below("tokenServiceURL.headers.", properties)
        if properties.get("tokenServiceUser"):
            user, password = properties["tokenServiceUser"], properties["tokenServicePassword"]
            headers["Authorization"] = _basic(user, password)
        elif properties.get("tokenService.addClientCredentialsInBody", "true") == "true":
            form["client_id"] = properties["clientId"]
            if properties.get("clientSecret"):
                form["client_secret"] = properties["clientSecret"]
        else:
            headers["Authorization"] = _basic(properties["clientId"], properties["clientSecret"])
        return self._post(self._url(properties), form, headers, self._address(properties))

    def _url(self, properties: Properties) -> str:
        url = properties["tokenServiceURL"]
        if properties.get("tokenServiceURLType") == "Common":
            url = _for_tenant(url, self.tenant)
        queries = urllib.parse.urlencode(_below("tokenServiceURL.queries.", properties))
        return url + ("&" if "?" in url else "?") + queries if queries else url

    def _address(self, properties: Properties) -> tuple[str, int] | None:
        """Returns the token service's address if it is on-premise; otherwise its name is used."""
        way = properties.get("tokenServiceURL.ProxyType", properties.get("ProxyType"))
        if way != "OnPremise":
            return None
        url = urllib.parse.urlsplit(self._url(properties))
        address = self.route(url.hostname, url.port or {"http": 80, "https": 443}[url.scheme])
        if not address:
            raise RetrievalError(f"Cloud Connector does not expose {url.netloc}")
        return address

    def _post(self, url: str, form: dict, headers: dict, address: tuple[str, int] | None) -> dict:
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
            **headers,
        }
        body = urllib.parse.urlencode(form)
        try:
            answer = fetch(url, "POST", body, headers, self.trust, MAX_ANSWER, address)
            if answer.status != 200:
                raise RetrievalError(
                    f"Unable to fetch {form['grant_type']} token from the specified token service "
                    f"URL. Response was: {answer.status} {answer.body.decode(errors='replace')}"
                )
            found = answer.json()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise RetrievalError(str(error)) from error
        if not isinstance(found, dict):
            raise RetrievalError("the answer is not a JSON object")
        return found


@dataclass
class Grant:
    type: str
    # Parameters of the token request, with the headers that their values come from.
    parameters: dict[str, str]
    required: str | None = None  # a header without which no token is requested


# The grants by the Authentication of a destination.
GRANTS = {
    "OAuth2ClientCredentials": Grant("client_credentials", {}),
    "OAuth2RefreshToken": Grant(
        "refresh_token", {"refresh_token": "X-refresh-token"}, "X-refresh-token"
    ),
    "OAuth2AuthorizationCode": Grant(
        "authorization_code",
        {"code": "X-code", "redirect_uri": "X-redirect-uri", "code_verifier": "X-code-verifier"},
        "X-code",
    ),
}


def failure(reason: str) -> dict[str, object]:
    error = f"Retrieval of OAuthToken failed due to: {reason}"
    return {"type": "", "value": "", "expires_in": "0", "error": error}


def _below(prefix: str, properties: Properties) -> dict[str, str]:
    return {
        key.removeprefix(prefix): value
        for key, value in properties.items()
        if key.startswith(prefix)
    }


def _basic(user: str, password: str) -> str:
    pair = f"{urllib.parse.quote_plus(user)}:{urllib.parse.quote_plus(password)}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _for_tenant(url: str, tenant: str) -> str:
    if "{tenant}" in url:
        return url.replace("{tenant}", tenant)
    return url.replace("://", f"://{tenant}.", 1)
