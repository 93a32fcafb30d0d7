"""Destinations that lead to other tproxies: a chain works, a ring is recognised."""

import re

import pytest

from harness.backend import Pop3
from harness.clients import RawClient
from harness.tproxy import Tproxy, destination
from harness.util import free_port, until

OTHER = b"00c7ff26d6f4e3a1"


def ring(make_tproxy, size: int) -> tuple[list[Tproxy], list[int]]:
    """Starts proxies, each with a destination for the next one's port. Returns them and their
    ports."""
    proxies = [make_tproxy("--max-sessions", "60", "--log-level", "info") for _ in range(size)]
    ports = [proxy.add("mail", "127.0.0.1", free_port()) for proxy in proxies]
    for proxy, port in zip(proxies, ports[1:] + ports[:1], strict=True):
        start = len(proxy.logs)
        proxy.write(destination("mail", "127.0.0.1", port))
        proxy.logs.wait(lambda line: line["msg"].endswith("mail: changed"), "change", start=start)
    return proxies, ports


def used(proxy: Tproxy) -> int:
    return int(proxy.metric("tp_tcp_connections_total"))


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("login", [[b"STAT"], [b"USER a", b"PASS b"]])
def test_ring(make_tproxy, size, login):
    """The first proxy has two sessions of the loop, the others have one. The client gets the
    reason."""
    proxies, ports = ring(make_tproxy, size)
    with RawClient(ports[0]) as client:
        for line in login[:-1]:
            assert client.command(line).startswith(b"+OK")
        answer = client.command(login[-1])
    assert re.match(rb'-ERR \[SYS/PERM\] destination "mail": .*: a loop$', answer), answer
    assert b"on the way: %d)" % (size - 1) in answer
    for proxy in proxies:
        until(lambda: proxy.metric("tp_open_tcp_connections") == 0, "the end of all sessions")
    assert [used(proxy) for proxy in proxies] == [2] + [1] * (size - 1)
    proxies[0].logs.wait(lambda line: "a loop" in line["msg"], "the loop in the log")


def test_chain(make_tproxy, backend):
    """A chain of up to six tproxies works."""
    port = backend.port
    for _ in range(6):
        proxy = make_tproxy()
        port = proxy.add("mail", "127.0.0.1", port)
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"+OK 1 ")
        assert client.command(b"QUIT").startswith(b"+OK")
    assert not any(line.startswith(b"XTPROXY") for line in backend.heard())
    last = make_tproxy()
    with RawClient(last.add("mail", "127.0.0.1", port)) as client:
        assert re.match(rb"-ERR \[SYS/PERM\] .*too many tproxies", client.command(b"STAT"))


@pytest.mark.parametrize(
    "greeting",
    [
        b"+OK ready\r\n",
        b"+OK tproxy ready\r\n",
        b"+OK Dovecot tproxy " + OTHER + b" ready\r\n",
        b"+OK tproxy " + OTHER.upper() + b" ready\r\n",
    ],
)
def test_mail_server_never_sees_the_command(tproxy, backend, greeting):
    backend.script = Pop3(greeting=greeting)
    port = tproxy.add("mail", backend.host, backend.port)
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"+OK 1 ")
    assert not any(line.startswith(b"XTPROXY") for line in backend.heard())


def test_tproxy_without_the_command(tproxy, backend):
    """An older tproxy does not know XTPROXY, nor does another server with the same greeting: the
    login continues."""
    backend.script = Pop3(greeting=b"+OK tproxy " + OTHER + b" ready\r\n")
    port = tproxy.add("mail", backend.host, backend.port)
    with RawClient(port) as client:
        own = client.greeting.split()[2]
        assert client.command(b"STAT").startswith(b"+OK 1 ")
    assert backend.heard()[0] == b"XTPROXY " + own


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"x",
        OTHER.upper(),
        OTHER + b"," + OTHER,
        b" ".join([OTHER] * 6),
        OTHER + b" ",
        b"\0" * 16,
    ],
)
def test_forged_line_is_an_unknown_command(tproxy, backend, text):
    port = tproxy.add("mail", backend.host, backend.port)
    with RawClient(port) as client:
        assert client.command(b"XTPROXY " + text) == b"-ERR unknown command"
        assert client.command(b"STAT").startswith(b"+OK 1 ")
    assert not any(line.startswith(b"XTPROXY") for line in backend.heard())


def test_forged_list_never_logs_in(tproxy, backend):
    """A forged list does not help its sender and does not affect the logins of others."""
    port = tproxy.add("mail", backend.host, backend.port)
    with RawClient(port) as client:
        own = client.greeting.split()[2]
        assert client.command(b"XTPROXY " + OTHER) == b"+OK"
        assert client.command(b"XTPROXY " + OTHER) == b"-ERR unknown command"
    with RawClient(port) as client:
        assert re.match(rb"-ERR \[SYS/PERM\] .*: a loop$", client.command(b"XTPROXY " + own))
        assert client.rest() == b""
    assert backend.connections() == 0
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"+OK 1 ")
