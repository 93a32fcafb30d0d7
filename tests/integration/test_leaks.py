"""A thousand sessions of every kind under valgrind: no memory is lost or misused."""

import pytest

from harness import backend as peer
from harness.backend import Pop3
from harness.clients import RawClient, plain, tls_client_hello
from harness.util import until

SESSIONS = 1000


@pytest.mark.slow
@pytest.mark.valgrind
@pytest.mark.timeout(400)
def test_thousand_sessions_leave_nothing(tproxy, backends, certificates):
    """The fixture stops the proxy. valgrind then looks for leaks, and its complaints or its exit
    code fail the test."""
    context = certificates.server_context(certificates.good)
    servers = {
        "good": (backends(Pop3()), {}),
        "tls": (backends(Pop3(tls=context)), {"mail.transport.protocol": "pop3s"}),
        "stls": (backends(Pop3(stls=context)), {"mail.pop3.starttls.required": "true"}),
        "refusing": (backends(Pop3(password="another")), {}),
        "gone": (backends(Pop3(replies={"AUTH": peer.reset})), {}),
        "noise": (backends(Pop3(greeting=b"x" * 5000)), {}),
        "stranger": (
            backends(Pop3(tls=certificates.server_context(certificates.untrusted))),
            {"mail.transport.protocol": "pop3s"},
        ),
        "relay": (backends(Pop3()), {"Authentication": "NoAuthentication"}),
    }
    ports = {
        name: tproxy.add(name, server.host, server.port, **properties)
        for name, (server, properties) in servers.items()
    }
    whole = b"USER robot\r\nPASS Scripted-Pa55word\r\nSTAT\r\nRETR 1\r\nQUIT\r\n"
    scripts = [
        whole,
        b"STAT\r\nLIST\r\nRETR 1\r\nQUIT\r\n",
        b"AUTH PLAIN " + plain() + b"\r\nDELE 1\r\n",
        b"CAPA\r\nQUIT\r\n",
        b"",
        b"AUTH LOGIN\r\nYQ==\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        tls_client_hello(),
        b"A" * 20000,
    ]
    # The good ones come most often; those with TLS and those that fail take turns.
    order = ["good"] * 12 + [
        "tls",
        "stls",
        "relay",
        "refusing",
        "gone",
        "noise",
        "stranger",
        "relay",
    ]
    for number in range(SESSIONS):
        name = order[number % len(order)]
        script = whole if name == "relay" else scripts[number // len(order) % len(scripts)]
        with RawClient(ports[name]) as client:
            try:
                client.send(script)
                if number % 3 == 0:
                    client.half_close()
                if script.endswith(b"QUIT\r\n"):
                    client.rest()
            except (ConnectionResetError, BrokenPipeError):
                pass
    until(lambda: tproxy.metric("tp_open_tcp_connections") == 0, "the end of all sessions")
    assert tproxy.metric("tp_tcp_connections_total") == SESSIONS
    assert tproxy.metric("tproxy_logins_total", result="ok") > SESSIONS / 10
    assert tproxy.metric("tproxy_tls_handshakes_total", resumed="yes") > 5
