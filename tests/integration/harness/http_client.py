"""HTTP requests that the tests make themselves."""

import http.client
import json
import socket
import ssl
import urllib.parse

from harness.util import PATIENCE

STAND_INS = (".test", ".accounts.ondemand.com")


class Answer:
    def __init__(self, answer: http.client.HTTPResponse, limit: int | None = None):
        """Reads the answer, and at most `limit` octets of its body."""
        self.status = answer.status
        self.headers = answer.headers
        self.body = answer.read(limit)

    def json(self) -> dict:
        return json.loads(self.body)


def fetch(
    url: str,
    method: str = "GET",
    body: bytes | str | None = None,
    headers: dict[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    limit: int | None = None,
    address: tuple[str, int] | None = None,
) -> Answer:
    """Makes a request without any proxy of this machine. Names of stand-ins lead to this machine.
    `address` is the host's real address, `tls` replaces the certificates that this machine
    trusts."""
    url = urllib.parse.urlsplit(url)
    port = url.port or {"http": 80, "https": 443}[url.scheme]
    connection = http.client.HTTPConnection(url.hostname, port)
    host = "127.0.0.1" if url.hostname.endswith(STAND_INS) else url.hostname
    connection.sock = socket.create_connection(address or (host, port), PATIENCE)
    try:
        if url.scheme == "https":
            tls = tls or ssl.create_default_context()
            connection.sock = tls.wrap_socket(connection.sock, server_hostname=url.hostname)
        path = urllib.parse.urlunsplit(("", "", url.path or "/", url.query, ""))
        connection.request(method, path, body, headers or {})
        return Answer(connection.getresponse(), limit)
    finally:
        connection.close()
