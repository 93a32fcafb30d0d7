"""Clients of the OAuth server and of the Destination service: plain ones, and SAP's own."""

import base64
import json
import os
import ssl
import subprocess
import urllib.parse
from pathlib import Path

from harness.destination_service import CONSUME, FIND, DestinationService, key_secret
from harness.http_client import Answer, fetch
from harness.oauth import TOKEN_PATH, Client, OAuthServer, node_command
from harness.util import PATIENCE


def post(url: str, form: dict[str, str], tls: ssl.SSLContext | None = None, **headers) -> Answer:
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    return fetch(url, "POST", urllib.parse.urlencode(form), headers, tls)


def ask_token(url: str, client: Client, tls: ssl.SSLContext | None = None, **form: str) -> Answer:
    """Requests a token of a server. `form` differs from the form of client_credentials."""
    whole = {"grant_type": "client_credentials", "client_id": client.id}
    if client.secret:
        whole["client_secret"] = client.secret
    return post(url + TOKEN_PATH, whole | form, tls)


def access_token(oauth: OAuthServer, service: DestinationService, tenant: str = "") -> str:
    """Returns an access token for the Destination service, of the provider or of another tenant."""
    client = oauth.clients[service.service_key()["clientid"]]
    url = oauth.url_of(tenant) if tenant else oauth.url
    return ask_token(url, client).json()["access_token"]


def find(
    service: DestinationService, token: str, name: str = "mail", query: str = "", **headers: str
) -> Answer:
    """Finds a destination. The names of `headers` have _ in place of -."""
    return _get(service, FIND + urllib.parse.quote(name, safe="") + query, token, headers)


def consume(
    service: DestinationService, token: str, level: str, query: str = "", **headers: str
) -> Answer:
    """Reads the destination "mail" at a level."""
    return _get(service, f"{CONSUME}mail@{level}{query}", token, headers)


def _get(service: DestinationService, path: str, token: str, headers: dict[str, str]) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return fetch(service.url + path, headers={"Authorization": f"Bearer {token}", **named})


# --- SAP's own ---


def in_environment(**keys: dict[str, str]) -> dict[str, str]:
    """Returns the environment with service keys as Cloud Foundry provides them, by the service's
    name."""
    services = {
        label: [{"name": label, "label": label, "tags": [], "credentials": key}]
        for label, key in keys.items()
    }
    return {"VCAP_SERVICES": json.dumps(services)}


def mounted(directory: Path, key: dict[str, str], secret_key: str | None) -> dict[str, str]:
    """Returns the environment of a Pod in which a volume shows the Secret with the service key."""
    secret = key_secret("dest", "default", key, secret_key)
    volume = directory / "dest"
    volume.mkdir()
    for name, value in secret["data"].items():
        (volume / name).write_bytes(base64.b64decode(value))
    return {"SERVICE_BINDING_ROOT": str(directory)}


def run_sap(
    script: str, keys: dict[str, str], name: str, **options: object
) -> subprocess.CompletedProcess:
    """Runs a script of tests/standins for the destination `name`. `keys` is the result of one of
    the two functions above."""
    return subprocess.run(
        node_command(script, name, json.dumps(options)),
        env={"PATH": os.environ.get("PATH", ""), **keys},
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
    )


def found_by_sap(keys: dict[str, str], name: str, **options: object) -> dict | None:
    done = run_sap("sap_client.mjs", keys, name, **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
