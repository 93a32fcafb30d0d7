"""The dialogue before the mailbox, the login at the backend, and the relay behind it."""

import base64
import hashlib
import socket
import threading

import pytest

from harness import backend as peer
from harness.backend import Pop3, Session
from harness.clients import RawClient, plain, xoauth2
from harness.messages import on_the_wire
from harness.util import until

STAMP = b"<4711.1700000000@scripted.test>"


def target(tproxy, server, name="mail", **properties) -> int:
    return tproxy.add(name, server.host, server.port, **properties)


# --- before the mailbox ---


def test_capabilities(tproxy, backend):
    port = target(tproxy, backend)
    with RawClient(port) as client:
        offered = client.multi(b"CAPA")
        assert client.multi(b"capa") == offered
    words = {line.split()[0] for line in offered}
    assert {b"TOP", b"UIDL", b"USER", b"RESP-CODES", b"AUTH-RESP-CODE", b"SASL"} <= words
    assert not words & {b"STLS", b"UTF8", b"LANG", b"APOP"}
    (sasl,) = [line for line in offered if line.startswith(b"SASL ")]
    assert sasl.split()[1:] == [b"PLAIN", b"LOGIN", b"XOAUTH2"]
    assert backend.connections() == 0


def test_mechanisms_are_listed(tproxy, backend):
    port = target(tproxy, backend)
    with RawClient(port) as client:
        assert client.multi(b"AUTH") == [b"PLAIN", b"LOGIN", b"XOAUTH2"]


def test_stls_is_refused_and_the_session_goes_on(tproxy, backend):
    port = target(tproxy, backend)
    with RawClient(port) as client:
        assert client.command(b"STLS").startswith(b"-ERR")
        assert client.command(b"STAT").startswith(b"+OK 1 ")


@pytest.mark.parametrize(
    "start", [b"AUTH PLAIN", b"AUTH LOGIN", b"AUTH XOAUTH2", b"AUTH LOGIN YQ=="]
)
def test_login_can_be_cancelled(tproxy, backend, start):
    port = target(tproxy, backend)
    with RawClient(port) as client:
        assert client.command(start).startswith(b"+ ")
        assert client.command(b"*").startswith(b"-ERR")
        assert client.command(b"AUTH PLAIN " + plain()).startswith(b"+OK")
        assert client.command(b"STAT").startswith(b"+OK 1 ")


@pytest.mark.parametrize("command", [b"AUTH GSSAPI", b"AUTH DIGEST-MD5 abc", b"AUTH CRAM-MD5"])
def test_unknown_mechanism(tproxy, backend, command):
    port = target(tproxy, backend)
    with RawClient(port) as client:
        assert client.command(command).startswith(b"-ERR")
        assert client.command(b"NOOP").startswith(b"+OK")
    assert backend.connections() == 0


@pytest.mark.parametrize("line", [b"AUTH PLAIN !!!not-base64!!!", b"AUTH PLAIN ="])
def test_malformed_credentials_do_no_harm(tproxy, backend, line):
    """Malformed credentials get an answer. They may be refused or, because nothing depends on them,
    accepted."""
    port = target(tproxy, backend)
    with RawClient(port) as client:
        assert client.command(line).startswith((b"-ERR", b"+OK"))
        assert client.command(b"STAT").startswith(b"+OK 1 ")


@pytest.mark.parametrize("command", [b"stat", b"Stat", b"STAT", b"STAT "])
def test_commands_in_any_case(tproxy, backend, command):
    port = target(tproxy, backend)
    with RawClient(port) as client:
        assert client.command(command).startswith(b"+OK 1 ")


@pytest.mark.parametrize(
    "command", [b"STAT", b"LIST", b"LIST 1", b"UIDL", b"RETR 1", b"TOP 1 0", b"LAST"]
)
def test_first_mailbox_command_logs_in(tproxy, backend, command):
    port = target(tproxy, backend)
    with RawClient(port) as client:
        client.send(command + b"\r\nQUIT\r\n")
        assert client.rest().endswith(b"+OK bye\r\n")
    assert backend.heard()[-2:] == [command, b"QUIT"]


def test_pass_without_user(tproxy, backend):
    port = target(tproxy, backend)
    with RawClient(port) as client:
        assert client.command(b"PASS secret").startswith((b"-ERR", b"+OK"))
        assert client.command(b"STAT").startswith(b"+OK 1 ")


def test_politeness_between_user_and_pass(tproxy, backend):
    port = target(tproxy, backend)
    with RawClient(port) as client:
        assert client.command(b"USER a").startswith(b"+OK")
        assert b"UIDL" in client.multi(b"CAPA")
        assert client.command(b"NOOP").startswith(b"+OK")
        assert client.command(b"USER b").startswith(b"+OK")
        assert client.command(b"PASS c").startswith(b"+OK")
        assert client.command(b"STAT").startswith(b"+OK 1 ")


# --- commands in one packet with the login ---

ONE_PACKET = {
    "no login": [],
    "USER and PASS": [b"USER a", b"PASS b"],
    "AUTH PLAIN": [b"AUTH PLAIN " + plain()],
    "AUTH PLAIN in two lines": [b"AUTH PLAIN", plain()],
    "AUTH LOGIN": [b"AUTH LOGIN", b"YQ==", b"Yg=="],
    "AUTH XOAUTH2": [b"AUTH XOAUTH2 " + xoauth2()],
    "APOP": [b"APOP a c4c9334bac560ecc979e58001b3e22fb"],
    "politeness first": [b"CAPA", b"NOOP", b"USER a", b"PASS b"],
}


@pytest.mark.parametrize("packets", ["one", "one per line", "one per octet"])
@pytest.mark.parametrize("login", ONE_PACKET)
def test_pipelined_commands_keep_their_order(tproxy, backend, login, packets):
    message = backend.script.messages[0]
    port = target(tproxy, backend)
    commands = [*ONE_PACKET[login], b"STAT", b"RETR 1", b"LIST", b"NOOP", b"QUIT"]
    script = b"".join(command + b"\r\n" for command in commands)
    pieces = {
        "one": [script],
        "one per line": script.splitlines(True),
        "one per octet": [script[i : i + 1] for i in range(len(script))],
    }[packets]
    with RawClient(port) as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            client.send(piece)
        answers = client.rest()
    end = b"+OK 1 %d\r\n+OK here it is\r\n%s+OK 1 messages\r\n1 %d\r\n.\r\n+OK\r\n+OK bye\r\n" % (
        len(message),
        on_the_wire(message),
        len(message),
    )
    assert answers.endswith(end)
    head = answers[: -len(end)].splitlines()
    if login == "politeness first":
        head = head[head.index(b".") + 1 :]
        assert len(head) == 3
    else:
        assert len(head) == len(ONE_PACKET[login])
    assert all(line.startswith((b"+OK", b"+ ")) for line in head), head
    assert backend.heard()[-5:] == commands[-5:]


def test_login_of_the_client_is_never_forwarded(tproxy, backend):
    port = target(tproxy, backend)
    for login in ONE_PACKET.values():
        with RawClient(port) as client:
            client.send(b"".join(line + b"\r\n" for line in [*login, b"STAT", b"QUIT"]))
            client.rest()
    heard = b"\n".join(backend.heard())
    for secret in (b"USER a", b"PASS b", plain(), xoauth2(), b"YQ==", b"Yg==", b"c4c9334bac"):
        assert secret not in heard


# --- the login at the backend ---


def opening(server, session: int = 0) -> list[bytes]:
    """Returns the commands that the backend got up to the first mailbox command."""
    commands = server.session(session).commands
    return commands[: commands.index(b"STAT")]


def use(port: int) -> None:
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"+OK 1 ")
        assert client.command(b"QUIT").startswith(b"+OK")


GOOD_PLAIN = base64.b64encode(b"\0robot\0Scripted-Pa55word")


def test_auth_plain_where_offered(tproxy, backend):
    use(target(tproxy, backend))
    login = [line for line in opening(backend) if line != b"CAPA"]
    assert login in ([b"AUTH PLAIN " + GOOD_PLAIN], [b"AUTH PLAIN", GOOD_PLAIN])


@pytest.mark.parametrize("capabilities", [("USER",), ("TOP", "UIDL"), ("SASL GSSAPI", "USER")])
def test_user_and_pass_where_plain_is_not_offered(tproxy, backend, capabilities):
    backend.script = Pop3(capabilities=capabilities)
    use(target(tproxy, backend))
    assert opening(backend)[-2:] == [b"USER robot", b"PASS Scripted-Pa55word"]


def test_server_without_capa(tproxy, backend):
    backend.script = Pop3(replies={"CAPA": b"-ERR what?\r\n"})
    use(target(tproxy, backend))
    assert opening(backend) == [b"CAPA", b"USER robot", b"PASS Scripted-Pa55word"]


def test_configured_mechanism_wins(tproxy, backend):
    use(target(tproxy, backend, mail__pop3__auth__mechanisms="LOGIN"))
    assert opening(backend)[-2:] == [b"USER robot", b"PASS Scripted-Pa55word"]


def test_apop_where_configured(tproxy, backend):
    backend.script = Pop3(greeting=b"+OK ready " + STAMP + b"\r\n")
    use(target(tproxy, backend, mail__pop3__apop__enable="true"))
    digest = hashlib.md5(STAMP + b"Scripted-Pa55word").hexdigest().encode()
    assert opening(backend)[-1] == b"APOP robot " + digest


def test_apop_at_dovecot(tproxy, dovecot):
    box = dovecot.mailbox([b"Subject: x\r\n\r\nx\r\n"])
    port = tproxy.add(
        "mail",
        "127.0.0.1",
        dovecot.pop3,
        mail__user=box.user,
        mail__password=box.password,
        mail__pop3__apop__enable="true",
    )
    use(port)
    assert f"user=<{box.user}>, method=APOP" in dovecot.log()


def test_capabilities_are_remembered(tproxy, backend):
    """A later login needs fewer round trips."""
    port = target(tproxy, backend)
    for _ in range(3):
        use(port)
    assert [b"CAPA" in opening(backend, number) for number in range(3)] == [True, False, False]


def test_remembered_capabilities_of_a_changed_server(tproxy, backend):
    """The server no longer offers a mechanism: after the failure the remembered capabilities are
    forgotten."""
    port = target(tproxy, backend)
    use(port)
    backend.script = Pop3(capabilities=("USER",), replies={"AUTH": b"-ERR unknown command\r\n"})

    def logs_in() -> bool:
        with RawClient(port) as client:
            return client.command(b"STAT").startswith(b"+OK")

    until(logs_in, "the login by USER and PASS", every=0.25)


def test_server_that_closes_on_a_lost_mechanism(tproxy, backend):
    """The server closes instead of refusing the mechanism: the remembered capabilities are
    forgotten, too."""
    port = target(tproxy, backend)
    use(port)
    backend.script = Pop3(capabilities=("USER",), replies={"AUTH": peer.close})
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"-ERR")
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"+OK")


def test_stls_that_is_offered_later(tproxy, backend, certificates):
    """A later login uses STLS if the server now offers it, although an earlier one sent the
    password in clear text."""
    port = target(tproxy, backend, mail__pop3__starttls__enable="true")
    use(port)
    backend.script = Pop3(stls=certificates.server_context(certificates.good))
    use(port)
    assert [backend.session(n).tls_version is not None for n in range(2)] == [False, True]


def test_long_credentials_do_not_make_long_commands(tproxy, backend):
    """Command lines have at most 255 octets; answers to a challenge may be longer."""
    password = "long " * 80 + "end"
    backend.script = Pop3(password=password)
    use(target(tproxy, backend, mail__password=password))
    long_lines = [line for line in opening(backend) if len(line) + 2 > 255]
    assert opening(backend)[-2] == b"AUTH PLAIN"
    assert long_lines == [base64.b64encode(f"\0robot\0{password}".encode())]


@pytest.mark.parametrize("password", ["with blanks in it", "Grüße-東京", " leading", 'quo"te\\'])
@pytest.mark.parametrize("capabilities", [("USER",), ("SASL PLAIN",)])
def test_unusual_passwords(tproxy, backend, password, capabilities):
    class Utf8(Pop3):
        def _answer(self, session, command, argument, user, encrypted):
            if command == "PASS":
                return self._verdict(argument == password.encode())
            return super()._answer(session, command, argument, user, encrypted)

    backend.script = Utf8(password=password, capabilities=capabilities)
    use(target(tproxy, backend, mail__password=password))


def test_starttls_falls_back_only_with_a_warning(tproxy, backend):
    use(target(tproxy, backend, mail__pop3__starttls__enable="true"))
    tproxy.logs.wait(
        lambda line: line["level"].lower() == "warn" and "clear" in line["msg"],
        "the warning",
    )


def test_own_answers_of_the_backend_are_relayed(tproxy, backend):
    """After the login the client's commands reach the mail server itself, including CAPA."""
    backend.script = Pop3(capabilities=("TOP", "UIDL", "USER", "SASL PLAIN", "X-OF-BACKEND"))
    port = target(tproxy, backend)
    with RawClient(port) as client:
        assert b"X-OF-BACKEND" not in client.multi(b"CAPA")
        assert client.command(b"STAT").startswith(b"+OK")
        assert b"X-OF-BACKEND" in client.multi(b"CAPA")


# --- the client logs in itself ---

OWN_LOGIN = {
    "NoAuthentication": {
        "Authentication": "NoAuthentication",
        "mail.user": None,
        "mail.password": None,
    },
    "auth is false": {"mail.pop3.auth": "false"},
}


@pytest.mark.parametrize("kind", OWN_LOGIN)
def test_plain_relay(tproxy, backend, kind):
    port = target(tproxy, backend, **OWN_LOGIN[kind])
    with RawClient(port) as client:
        assert client.greeting.startswith(b"+OK ")
        assert client.command(b"USER robot").startswith(b"+OK")
        assert client.command(b"PASS wrong") == b"-ERR [AUTH] wrong credentials"
        assert client.command(b"USER robot").startswith(b"+OK")
        assert client.command(b"PASS Scripted-Pa55word") == b"+OK logged in"
        assert client.retr(1) == backend.script.messages[0]
        assert client.command(b"QUIT") == b"+OK bye"
        assert client.rest() == b""
    heard = [line for line in backend.heard() if line != b"CAPA"]
    assert heard == [
        *[b"USER robot", b"PASS wrong", b"USER robot", b"PASS Scripted-Pa55word"],
        *[b"RETR 1", b"QUIT"],
    ]
    assert backend.connections() == 1


def test_plain_relay_of_a_sasl_dialogue(tproxy, backend):
    port = target(tproxy, backend, **OWN_LOGIN["NoAuthentication"])
    with RawClient(port) as client:
        assert client.command(b"AUTH PLAIN") == b"+ "
        assert client.command(GOOD_PLAIN) == b"+OK logged in"
        assert client.command(b"STAT").startswith(b"+OK 1 ")


def test_plain_relay_over_tls(tproxy, backend, certificates):
    backend.script = Pop3(tls=certificates.server_context(certificates.good))
    port = target(
        tproxy, backend, mail__transport__protocol="pop3s", **OWN_LOGIN["NoAuthentication"]
    )
    with RawClient(port) as client:
        client.send(b"USER robot\r\nPASS Scripted-Pa55word\r\nRETR 1\r\nQUIT\r\n")
        answers = client.rest()
    assert on_the_wire(backend.script.messages[0]) in answers
    assert answers.endswith(b"+OK bye\r\n")


def test_plain_relay_that_fails(tproxy, backends):
    server = backends(Pop3(replies={"greeting": peer.close}))
    port = target(tproxy, server, name="mail-of-example", **OWN_LOGIN["NoAuthentication"])
    with RawClient(port) as client:
        answer = client.command(b"USER robot")
        assert answer.startswith(b"-ERR [SYS/TEMP] ") and b"mail-of-example" in answer


# --- the relay ---


def many_retrs(port: int, message: bytes, count: int, rcvbuf: int) -> None:
    """Sends all questions before it reads the first answer."""
    with RawClient(port, rcvbuf=rcvbuf) as client:
        assert client.command(b"STAT").startswith(b"+OK")
        sender = threading.Thread(
            target=client.send, args=(b"RETR 1\r\n" * count + b"QUIT\r\n",), daemon=True
        )
        sender.start()
        expected = b"+OK here it is\r\n" + on_the_wire(message)
        wire = client.rest()
        sender.join()
    assert len(wire) == len(expected) * count + len(b"+OK bye\r\n")
    assert wire == expected * count + b"+OK bye\r\n"


@pytest.mark.parametrize("transport", ["pop3", "pop3s"])
@pytest.mark.parametrize("rcvbuf", [0, 2048])
def test_thousand_pipelined_retrs(tproxy, backend, messages, certificates, transport, rcvbuf):
    message = messages[15]
    tls = certificates.server_context(certificates.good) if transport == "pop3s" else None
    backend.script = Pop3(messages=(message,), tls=tls)
    port = target(tproxy, backend, mail__transport__protocol=transport)
    many_retrs(port, message, 300 if rcvbuf else 1000, rcvbuf)


@pytest.mark.parametrize("transport", ["pop3", "pop3s"])
def test_bulk_in_both_directions(tproxy, backends, certificates, transport):
    """Each side writes 8 MB before it expects the other to have read anything."""
    size = 8 << 20
    upload = bytes(range(256)) * (size // 256)
    download = upload[::-1]
    received = hashlib.sha256()
    counted = threading.Event()

    def script(session: Session) -> None:
        login = Pop3(tls=context, replies={"XBULK": bulk})
        login(session)

    def bulk(session: Session) -> None:
        writer = threading.Thread(target=session.send, args=(download,), daemon=True)
        writer.start()
        data, session._input = session._input, b""
        count = len(data)
        received.update(data)
        while count < size:
            data = session._receive()
            count += len(data)
            received.update(data)
        writer.join()
        counted.set()
        session.close()

    context = certificates.server_context(certificates.good) if transport == "pop3s" else None
    server = backends(script)
    port = target(tproxy, server, mail__transport__protocol=transport)
    with RawClient(port) as client:
        client.command(b"STAT")
        client.send(b"XBULK\r\n")
        sender = threading.Thread(target=client.send, args=(upload,), daemon=True)
        sender.start()
        got = client.rest()
        sender.join()
    assert counted.wait(20)
    assert received.digest() == hashlib.sha256(upload).digest()
    assert got == download


def test_slow_reader_does_not_hold_up_others(tproxy, backends, messages):
    server = backends(Pop3(messages=(messages[1], b"Subject: small\r\n\r\nx\r\n")))
    port = target(tproxy, server)
    with RawClient(port, rcvbuf=2048) as slow:
        slow.command(b"STAT")
        slow.send(b"RETR 1\r\nRETR 1\r\nRETR 1\r\n")
        slow.line()
        for _ in range(50):
            with RawClient(port) as client:
                assert client.command(b"STAT").startswith(b"+OK 2 ")
                assert client.retr(2) == b"Subject: small\r\n\r\nx\r\n"
                assert client.command(b"QUIT").startswith(b"+OK")


def test_backend_that_ends_the_session(tproxy, backends, messages):
    """Everything that the backend has sent arrives, and then the end of the stream, not a reset."""
    wire = b"+OK here it is\r\n" + on_the_wire(messages[1])

    def last_words(session: Session) -> None:
        session.send(wire)
        session.close()

    server = backends(Pop3(replies={"RETR": last_words}))
    port = target(tproxy, server)
    with RawClient(port) as client:
        client.command(b"STAT")
        client.send(b"RETR 1\r\n")
        assert client.rest() == wire
    tproxy.summary("mail")


@pytest.mark.parametrize("transport", ["pop3", "pop3s"])
def test_backend_that_is_cut_off_inside_a_message(tproxy, backends, certificates, transport):
    def cut(session: Session) -> None:
        session.send(b"+OK here it is\r\nSubject: x\r\n\r\nhalf a mess")
        session.reset()

    tls = certificates.server_context(certificates.good) if transport == "pop3s" else None
    server = backends(Pop3(tls=tls, replies={"RETR": cut}))
    port = target(tproxy, server, mail__transport__protocol=transport)
    with RawClient(port) as client:
        client.command(b"STAT")
        client.send(b"RETR 1\r\n")
        try:
            assert not client.rest().endswith(b"\r\n.\r\n")
        except ConnectionResetError:
            pass
    tproxy.summary("mail")
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"+OK")


@pytest.mark.parametrize("transport", ["pop3", "pop3s"])
@pytest.mark.parametrize("farewell", ["close", "reset"])
def test_client_that_vanishes_from_a_stalled_transfer(
    tproxy, backends, messages, certificates, transport, farewell
):
    tls = certificates.server_context(certificates.good) if transport == "pop3s" else None
    server = backends(Pop3(messages=(messages[1],), tls=tls))
    port = target(tproxy, server, mail__transport__protocol=transport)
    client = RawClient(port, rcvbuf=2048)
    client.command(b"STAT")
    client.send(b"RETR 1\r\n" * 4)
    client.line()
    until(server.session(0).is_stalled, "the stall", every=0.1)
    if farewell == "reset":
        client.reset()
    client.sock.close()
    assert tproxy.summary("mail")["result"] != "ok"
    assert server.session(0).ended.wait(20)
    assert b"QUIT" not in server.heard()


def test_hundred_sessions_at_once(tproxy, backends, messages):
    message = messages[15]
    server = backends(Pop3(messages=(message,)))
    port = target(tproxy, server)
    clients = [RawClient(port) for _ in range(100)]
    for client in clients:
        client.send(b"USER a\r\nPASS b\r\nRETR 1\r\n")
    for client in clients:
        assert client.line().startswith(b"+OK") and client.line().startswith(b"+OK")
        client.send(b"NOOP\r\n")
        assert client.line() == b"+OK here it is"
        text = b"".join(line + b"\r\n" for line in client.lines()) + b".\r\n"
        assert text == on_the_wire(message)
        assert client.line() == b"+OK"
    for client in clients:
        assert client.command(b"QUIT") == b"+OK bye"
        client.sock.close()
