"""Actions that must not happen at the mail server: logins for probes, deletions for clients that
vanish."""

import pytest

from harness.backend import Backend, Pop3
from harness.clients import RawClient, tls_client_hello
from harness.messages import on_the_wire
from harness.util import until

PROBES = {
    "nothing": b"",
    "QUIT": b"QUIT\r\n",
    "CAPA": b"CAPA\r\nQUIT\r\n",
    "NOOP": b"NOOP\r\nQUIT\r\n",
    "list of mechanisms": b"AUTH\r\nQUIT\r\n",
    "STLS": b"STLS\r\nQUIT\r\n",
    "unknown command": b"EHLO probe\r\nQUIT\r\n",
    "half a command": b"LIS",
    "HTTP": b"GET / HTTP/1.1\r\nHost: mail\r\n\r\n",
    "HTTP POST": b"POST /login HTTP/1.1\r\nHost: mail\r\nContent-Length: 9\r\n\r\nLIST\r\nDELE",
    "empty lines": b"\r\n\r\n\r\nQUIT\r\n",
}


@pytest.mark.parametrize("farewell", ["close", "half-close", "reset"])
@pytest.mark.parametrize("probe", PROBES)
def test_probe_causes_no_connection(tproxy, backend, probe, farewell):
    port = tproxy.add("mail", backend.host, backend.port)
    client = RawClient(port)
    client.send(PROBES[probe])
    if farewell == "half-close":
        client.half_close()
        client.rest()
    if farewell == "reset":
        client.reset()
    client.sock.close()
    tproxy.summary("mail")
    assert backend.connections() == 0


def test_probe_that_resets_before_the_greeting(tproxy, backend):
    port = tproxy.add("mail", backend.host, backend.port)
    for _ in range(20):
        RawClient(port, greet=False).reset()
    with RawClient(port) as client:
        assert client.command(b"QUIT").startswith(b"+OK")
    assert backend.connections() == 0


@pytest.mark.parametrize(
    "name, probe",
    [
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("HTTP", b"OPTIONS * HTTP/1.0\r\n\r\n"),
        ("TLS", None),
    ],
)
def test_foreign_protocol_is_named(tproxy, backend, name, probe):
    port = tproxy.add("mail", backend.host, backend.port)
    with RawClient(port) as client:
        client.send(probe or tls_client_hello())
        answer = client.rest()
    assert answer.startswith(b"-ERR ") and answer.endswith(b"\r\n")
    assert name.encode() in answer
    session = tproxy.summary("mail")["session"]
    said = [line for line in tproxy.logs.all() if line.get("session") == session]
    assert any(name in str(line) for line in said), said
    assert backend.connections() == 0


def test_greeting_waits_for_nothing(tproxy, backends):
    """A client gets its greeting at once even if the mail server never speaks."""
    silent = backends(Pop3(replies={"greeting": lambda session: session.hold()}))
    port = tproxy.add("mail", silent.host, silent.port)
    with RawClient(port) as client:
        assert client.greeting.startswith(b"+OK ")
        assert b"TOP" in client.multi(b"CAPA")
        assert client.command(b"NOOP").startswith(b"+OK")
    assert silent.connections() == 0


TRANSPORTS = ["pop3", "pop3s"]


def deleting_client(tproxy, dovecot, transport, messages):
    box = dovecot.mailbox(messages)
    tls = transport == "pop3s"
    port = tproxy.add(
        "mail",
        "127.0.0.1",
        dovecot.pop3s if tls else dovecot.pop3,
        mail__user=box.user,
        mail__password=box.password,
        mail__transport__protocol=transport,
    )
    client = RawClient(port)
    assert client.command(b"STAT").startswith(b"+OK")
    for number in range(1, len(messages) + 1):
        assert client.command(b"DELE %d" % number).startswith(b"+OK")
    return box, client


def wait_for_end(dovecot, box) -> str:
    """Waits for Dovecot's record of how the session ended and returns it."""
    return until(
        lambda: next(
            (
                line
                for line in dovecot.log().splitlines()
                if f"pop3({box.user})" in line and "Disconnected: " in line
            ),
            None,
        ),
        f"the end of the session of {box.user}",
    )


@pytest.mark.parametrize("farewell", ["close", "half-close", "reset", "inside a command"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_client_that_vanishes_deletes_nothing(tproxy, dovecot, transport, farewell):
    messages = [b"Subject: 1\r\n\r\na\r\n", b"Subject: 2\r\n\r\nb\r\n"]
    box, client = deleting_client(tproxy, dovecot, transport, messages)
    if farewell == "half-close":
        client.half_close()
        client.rest()
    elif farewell == "reset":
        client.reset()
    elif farewell == "inside a command":
        client.send(b"QUIT")
    client.sock.close()
    assert "Logged out" not in wait_for_end(dovecot, box)
    assert box.files() == messages
    tproxy.summary("mail")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_quit_deletes(tproxy, dovecot, transport):
    """With QUIT the messages are deleted, which shows that the other tests would notice a
    deletion."""
    messages = [b"Subject: 1\r\n\r\na\r\n", b"Subject: 2\r\n\r\nb\r\n"]
    box, client = deleting_client(tproxy, dovecot, transport, messages)
    assert client.command(b"QUIT").startswith(b"+OK")
    assert client.rest() == b""
    assert "Logged out" in wait_for_end(dovecot, box)
    assert box.files() == []


def test_client_that_vanishes_during_the_login(make_tproxy, backends):
    """tproxy waits for the verdict on the credentials as long as for any answer, and then ends the
    login without QUIT."""
    tproxy = make_tproxy("--answer-timeout", "1")
    server = backends(Pop3(replies={"AUTH": lambda session: session.hold()}))
    port = tproxy.add("mail", server.host, server.port)
    client = RawClient(port)
    client.send(b"STAT\r\n")
    server.commands.wait(lambda item: item[1].startswith(b"AUTH"), "the login")
    client.reset()
    assert server.session(0).ended.wait(20)
    assert b"QUIT" not in server.heard()
    tproxy.summary("mail")


@pytest.mark.parametrize("login", [b"", b"USER a\r\nPASS b\r\n"])
def test_quit_right_after_the_login(tproxy, backend, login):
    """The mail server gets a QUIT, because the client asked for it."""
    port = tproxy.add("mail", backend.host, backend.port)
    with RawClient(port) as client:
        client.send(login + (b"" if login else b"NOOP\r\n") + b"QUIT\r\n")
        answers = client.rest().splitlines()
    assert len(answers) == (3 if login else 2)
    assert all(answer.startswith(b"+OK") for answer in answers)
    if login:
        assert backend.session(0).ended.wait(20)
        assert backend.heard()[-1] == b"QUIT"
    else:
        assert backend.connections() == 0


# --- half-close ---

QUESTIONS = b"STAT\r\nRETR 1\r\nLIST\r\nRETR 2\r\nRETR 1\r\n"


def expected_answers(messages) -> bytes:
    def retr(message):
        return b"+OK here it is\r\n" + on_the_wire(message)

    sizes = [len(message) for message in messages]
    stat = b"+OK 2 %d\r\n" % sum(sizes)
    listing = b"+OK 2 messages\r\n1 %d\r\n2 %d\r\n.\r\n" % tuple(sizes)
    return stat + retr(messages[0]) + listing + retr(messages[1]) + retr(messages[0])


@pytest.mark.parametrize("login", [b"", b"USER a\r\nPASS b\r\n"], ids=["no login", "login"])
@pytest.mark.parametrize("quits", [True, False])
def test_half_closed_client_gets_its_answers(tproxy, backends, messages, quits, login):
    """A client sends all commands at once and ends its stream, like printf 'STAT ...' | nc. It gets
    its answers."""
    mails = [messages[1], b"Subject: .\r\n\r\n.\r\n"]
    server = backends(Pop3(messages=tuple(mails)))
    port = tproxy.add("mail", server.host, server.port)
    with RawClient(port) as client:
        client.send(login + QUESTIONS + (b"QUIT\r\n" if quits else b""))
        client.half_close()
        answer = client.rest()
    if login:
        assert answer.startswith(b"+OK")
        answer = answer.split(b"\r\n", 2)[2]
    assert answer == expected_answers(mails) + (b"+OK bye\r\n" if quits else b"")
    assert (b"QUIT" in server.heard()) == quits


def test_half_closed_client_of_a_tls_backend(tproxy, backends, certificates):
    """Servers drop their answers at close_notify, so the end of the client's stream is not passed
    on. The session ends after the server has been silent for a while."""
    mails = [b"Subject: 1\r\n\r\n" + b"x" * 70 + b"\r\n", b"Subject: 2\r\n\r\n\r\n"]
    context = certificates.server_context(certificates.good)
    server = backends(Pop3(messages=tuple(mails), tls=context))
    port = tproxy.add("mail", server.host, server.port, mail__transport__protocol="pop3s")
    with RawClient(port) as client:
        client.send(QUESTIONS)
        client.half_close()
        assert client.rest() == expected_answers(mails)
    assert server.session(0).ended.wait(20)
    assert b"QUIT" not in server.heard()


def test_half_closed_client_of_dovecot(tproxy, dovecot, messages):
    box = dovecot.mailbox([messages[1]])
    port = tproxy.add(
        "mail", "127.0.0.1", dovecot.pop3, mail__user=box.user, mail__password=box.password
    )
    with RawClient(port) as client:
        client.send(b"USER a\r\nPASS b\r\nRETR 1\r\nQUIT\r\n")
        client.half_close()
        for _ in range(2):
            assert client.line().startswith(b"+OK")
        answer = client.rest()
    assert len(answer) > len(messages[1])
    assert answer.endswith(b"\r\n.\r\n+OK Logging out.\r\n")


def test_backend_is_not_kept_for_a_client_that_has_gone(tproxy, backend):
    port = tproxy.add("mail", backend.host, backend.port)
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"+OK")
    assert backend.session(0).ended.wait(20)
    assert b"QUIT" not in backend.heard()


def test_backend_class_counts_connections():
    """The harness itself counts connections; otherwise an assertion about zero connections would
    prove nothing."""
    with Backend() as server:
        assert server.connections() == 0
        with RawClient(server.port) as client:
            assert server.connections() == 1
            client.command(b"CAPA")
        assert server.connections() == 1
        assert server.heard() == [b"CAPA"]
