"""Destinations that are changed or removed while they have sessions."""

import contextlib
import shutil
import signal
import threading

import pytest

from harness.backend import Pop3
from harness.clients import RawClient
from harness.tproxy import destination
from harness.util import PATIENCE, until

# The line on the terminal for each of them.
OTHER_KINDS = {
    "no mailbox": ({"Type": "HTTP"}, "gone"),
    "on-premise": ({"ProxyType": "OnPremise"}, "OnPremise"),
}


def command_or_end(client: RawClient, command: bytes) -> bytes:
    with contextlib.suppress(EOFError, ConnectionError):
        return client.command(command)
    return b""


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_destination_that_is_not_served_any_more(tproxy, backend, kind):
    """A client that came before the change gets the new reason when it logs in."""
    backend.script = Pop3(capabilities=("TOP", "UIDL", "USER", "SASL PLAIN XOAUTH2"))
    port = tproxy.add("mail", backend.host, backend.port)
    other, said = OTHER_KINDS[kind]
    with RawClient(port) as client:
        start = len(tproxy.printed)
        tproxy.write(destination("mail", backend.host, backend.port, **other))
        tproxy.printed.wait(lambda line: said in line, "the refusal", start=start)
        assert command_or_end(client, b"STAT").startswith(b"-ERR [SYS/")
    assert tproxy.running()
    assert backend.connections() == 0


def test_trust_of_an_old_destination_does_not_outlive_it(tproxy, backend, certificates):
    """While a login waits for the answer to CAPA, the destination stops trusting all certificates.
    That login may still use TLS as it began, but the next one checks the certificate."""
    asked, go_on = threading.Event(), threading.Event()

    def slow_capa(session) -> None:
        asked.set()
        assert go_on.wait(PATIENCE)
        session.send(b"+OK\r\nSTLS\r\nUSER\r\n.\r\n")
        backend.script.replies.clear()

    context = certificates.server_context(certificates.untrusted)
    backend.script = Pop3(stls=context, replies={"CAPA": slow_capa})
    stls = {"mail__pop3__starttls__required": "true"}
    port = tproxy.add("mail", backend.host, backend.port, **stls, mail__pop3__ssl__trust="*")
    with RawClient(port) as trusting:
        trusting.send(b"STAT\r\n")
        assert asked.wait(PATIENCE)
        tproxy.write(destination("mail", backend.host, backend.port, **stls))
        tproxy.wait_log("default/mail: changed")
        go_on.set()
        assert trusting.line().startswith(b"+OK")
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"-ERR [SYS/PERM]")


def test_everything_goes_while_the_last_bytes_leave(make_tproxy, backend):
    """The program ends although it is told to stop twice, a client has still to take its last
    bytes, and the directory is removed."""
    tproxy = make_tproxy("--grace", "600")
    port = tproxy.add("mail", backend.host, backend.port)
    with RawClient(port) as running:
        assert running.command(b"STAT").startswith(b"+OK")
        tproxy.signal(signal.SIGTERM)
        until(lambda: tproxy.http("/readyz")[0] == 503, "the drain")
        tproxy.signal(signal.SIGTERM)
        assert running.rest() == b""
        shutil.rmtree(tproxy.directory)
        assert tproxy.wait() == 0


def test_nobody_is_served_anew_while_draining(make_tproxy, backend):
    tproxy = make_tproxy("--grace", "600")
    port = tproxy.add("mail", backend.host, backend.port)
    with RawClient(port) as running:
        assert running.command(b"STAT").startswith(b"+OK")
        tproxy.signal(signal.SIGTERM)
        tproxy.wait_log("draining: 1 sessions are left")
        start = len(tproxy.printed)
        tproxy.write(destination("late", backend.host, backend.port))
        tproxy.write_text("not JSON", "marker.json")
        tproxy.printed.wait(lambda line: "marker.json" in line, "the marker", start=start)
        assert not [line for line in tproxy.printed.all()[start:] if " ready" in line]
        assert running.command(b"QUIT") == b"+OK bye"
    assert tproxy.wait() == 0


def test_client_that_takes_nothing_does_not_hold_up_the_end(make_tproxy, backends, messages):
    """A client whose session is over and that does not take the rest of its last message does not
    delay the end."""
    large = max(messages, key=len)
    backend = backends(Pop3(messages=(large,)))
    tproxy = make_tproxy("--grace", "600")
    port = tproxy.add("mail", backend.host, backend.port)
    with RawClient(port, rcvbuf=4096) as client:
        client.send(b"RETR 1\r\n" * 20)
        session = backend.session(0)
        until(session.is_stalled, "the full path to the client", every=0.1)
        tproxy.signal(signal.SIGTERM)
        until(lambda: tproxy.http("/readyz")[0] == 503, "the drain")
        tproxy.signal(signal.SIGTERM)
        assert tproxy.wait() == 0
