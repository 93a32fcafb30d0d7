"""Everything has a bound, and reaching it is reported."""

import contextlib
import os
import re
import socket
import threading

import pytest

from harness import backend as peer
from harness.backend import Pop3
from harness.clients import RawClient, plain
from harness.tproxy import Program, Tproxy, destination
from harness.util import PATIENCE, Feed, is_root, until

TOO_MANY = rb"^-ERR \[SYS/TEMP\] .*too many connections"


def use(port: int) -> None:
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"+OK 1 ")
        assert client.command(b"QUIT").startswith(b"+OK")


# --- lines ---


def test_longest_command_line(tproxy, backend):
    """A line of 255 octets with its end is accepted."""
    port = tproxy.add("mail", backend.host, backend.port)
    with RawClient(port) as client:
        assert client.command(b"NOOP" + b" " * 249).startswith(b"+OK")
        assert client.command(b"USER " + b"u" * 248).startswith(b"+OK")


@pytest.mark.parametrize("command", [b"NOOP " + b"x" * 300, b"USER " + b"x" * 5000, b"x" * 256])
def test_too_long_command_line(tproxy, backend, command):
    port = tproxy.add("mail", backend.host, backend.port)
    with RawClient(port) as client:
        assert re.search(rb"^-ERR .*(long|255)", client.command(command))
    tproxy.summary("mail")
    assert backend.connections() == 0


@pytest.mark.parametrize("start", [b"", b"LIST ", b"PASS ", b"AUTH PLAIN ", b"AUTH PLAIN\r\n"])
def test_megabyte_without_line_end(tproxy, backend, start):
    port = tproxy.add("mail", backend.host, backend.port)
    before = tproxy.metric("tp_memory_bytes")
    with RawClient(port) as client:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            client.send(start + b"A" * (1 << 20))
        answer = client.line()
        if answer.startswith(b"+ "):
            answer = client.line()
        assert answer.startswith(b"-ERR ")
    tproxy.summary("mail")
    # AUTH on a line of its own is a login: tproxy connects to the backend while the client
    # continues.
    assert backend.connections() <= start.count(b"\r\n")
    assert tproxy.metric("tp_memory_bytes") < before + (1 << 20)


@pytest.mark.parametrize("size", [300, 4000, 12000])
def test_long_credentials(tproxy, backend, size):
    """Long credentials are accepted, because some clients send long tokens."""
    port = tproxy.add("mail", backend.host, backend.port)
    for lines in (
        [b"AUTH PLAIN " + plain("u", "p" * size)],
        [b"AUTH PLAIN", plain("u", "p" * size)],
    ):
        with RawClient(port) as client:
            for line in lines:
                answer = client.command(line)
            assert answer.startswith(b"+OK")
            assert client.command(b"STAT").startswith(b"+OK 1 ")
    with RawClient(port) as client:
        client.command(b"USER u")
        assert client.command(b"PASS " + b"p" * size).startswith(b"+OK")


def test_too_long_credentials(tproxy, backend):
    port = tproxy.add("mail", backend.host, backend.port)
    with RawClient(port) as client:
        client.send(b"AUTH PLAIN " + plain("u", "p" * 16384) + b"\r\n")
        assert client.line().startswith(b"-ERR ")
    tproxy.summary("mail")
    assert backend.connections() == 0


def test_endless_bad_commands(tproxy, backend):
    port = tproxy.add("mail", backend.host, backend.port)
    with RawClient(port) as client:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            client.send(b"NONSENSE\r\n" * 100)
        answers = client.rest().splitlines()
    assert 3 <= len(answers) <= 20 and all(line.startswith(b"-ERR") for line in answers)


def test_everything_pipelined_before_the_login_has_a_bound(tproxy, backends):
    """A client that continues to send while the login hangs does not fill the memory."""
    stuck = backends(Pop3(replies={"AUTH": peer.silent}))
    port = tproxy.add("mail", stuck.host, stuck.port)
    before = tproxy.metric("tp_memory_bytes")
    with RawClient(port) as client:
        client.send(b"STAT\r\n")
        stuck.commands.wait(lambda item: item[1].startswith(b"AUTH"), "the login")
        client.sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(1000):
                client.sock.send(b"NOOP\r\n" * 10000)
        assert tproxy.metric("tp_memory_bytes") < before + (2 << 20)


def test_slow_reader_gets_every_answer_before_the_login(make_tproxy, backend):
    """Answers to a slow reader are not collected in memory: tproxy reads no more until they are
    taken."""
    tproxy = make_tproxy("--login-timeout", "600")
    port = tproxy.add("mail", backend.host, backend.port)
    commands = 60000
    before = tproxy.metric("tp_memory_bytes")
    with RawClient(port, rcvbuf=4096) as client:
        asking = threading.Thread(target=client.send, args=(b"CAPA\r\n" * commands + b"QUIT\r\n",))
        asking.start()
        session = peer.Session(0, client.sock, Feed())
        until(session.is_stalled, "the full path to the proxy", every=0.1)
        answer = [client.line(), *client.lines()]
        assert tproxy.metric("tp_memory_bytes") < before + (2 << 20)
        rest = client.rest().split(b"\r\n")
        asking.join()
    assert rest[-2:] == [b"+OK bye", b""]
    assert len(rest) == (len(answer) + 1) * (commands - 1) + 2


# --- waits ---


def test_client_that_never_logs_in(make_tproxy, backend):
    tproxy = make_tproxy("--login-timeout", "1")
    port = tproxy.add("mail", backend.host, backend.port)
    with RawClient(port) as silent, RawClient(port) as talking:
        talking.send(b"USER a\r\n")
        for client in (silent, talking):
            rest = client.rest()
            assert rest == b"" or rest.splitlines()[-1].startswith((b"-ERR", b"+OK")), rest
    for count in (1, 2):
        assert "timeout" in tproxy.summary("mail", count)["result"]
    assert b"PASS" not in b"".join(backend.heard())


def test_politeness_does_not_put_off_the_login(make_tproxy, backend):
    """The time to log in counts from the greeting, whatever else the client sends."""
    tproxy = make_tproxy("--login-timeout", "2")
    port = tproxy.add("mail", backend.host, backend.port)
    with RawClient(port) as client:

        def ended() -> bool:
            try:
                return not client.command(b"NOOP").startswith(b"+OK")
            except (EOFError, OSError):
                return True

        until(ended, "the end of the session", patience=10, every=0.2)


def test_login_deadline_does_not_cut_a_running_session(make_tproxy, backend):
    tproxy = make_tproxy("--login-timeout", "1")
    port = tproxy.add("mail", backend.host, backend.port)
    with RawClient(port) as client, RawClient(port) as clock:
        assert client.command(b"STAT").startswith(b"+OK")
        clock.rest()  # ends at its login deadline, which began later than the other's
        assert client.command(b"STAT").startswith(b"+OK")


def test_answer_timeout(make_tproxy, backends):
    tproxy = make_tproxy("--answer-timeout", "1")
    stuck = backends(Pop3(replies={"AUTH": peer.silent}))
    port = tproxy.add("mail-of-example", stuck.host, stuck.port)
    with RawClient(port) as client:
        answer = client.command(b"STAT")
    assert answer.startswith(b"-ERR [SYS/TEMP] ") and b"mail-of-example" in answer


@pytest.mark.parametrize("transport", ["pop3", "pop3s"])
def test_idle_session(make_tproxy, backends, certificates, transport):
    """An idle session is closed on both sides, without QUIT."""
    tls = certificates.server_context(certificates.good) if transport == "pop3s" else None
    server = backends(Pop3(tls=tls))
    tproxy = make_tproxy("--idle-timeout", "1")
    port = tproxy.add("mail", server.host, server.port, mail__transport__protocol=transport)
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"+OK")
        assert client.command(b"DELE 1").startswith(b"+OK")
        client.rest()
    assert server.session(0).ended.wait(PATIENCE)
    assert b"QUIT" not in server.heard()
    assert tproxy.summary("mail")["result"] != "ok"


def test_client_that_stops_reading(make_tproxy, backends, messages):
    """A stalled transfer counts as idle."""
    server = backends(Pop3(messages=(messages[1],)))
    tproxy = make_tproxy("--idle-timeout", "1")
    port = tproxy.add("mail", server.host, server.port)
    with RawClient(port, rcvbuf=2048) as client:
        client.command(b"STAT")
        client.send(b"RETR 1\r\n" * 4)
        assert server.session(0).ended.wait(PATIENCE)
        tproxy.summary("mail")


def test_busy_session_is_not_idle(make_tproxy, backend):
    tproxy = make_tproxy("--idle-timeout", "6")
    port = tproxy.add("mail", backend.host, backend.port)
    with RawClient(port) as busy, RawClient(port) as idle:
        assert busy.command(b"STAT").startswith(b"+OK")
        assert idle.command(b"STAT").startswith(b"+OK")
        idle.sock.settimeout(0.2)

        def idle_is_over() -> bool:
            assert busy.command(b"NOOP").startswith(b"+OK")
            try:
                return idle.sock.recv(1) == b""
            except TimeoutError:
                return False

        until(idle_is_over, "the end of the idle session")
        assert busy.command(b"STAT").startswith(b"+OK")


# --- sessions ---


def test_most_sessions_of_one_target(make_tproxy, backend):
    """A target may have half of all sessions. Its other sessions continue, other targets are
    served, and a place that becomes free is used again."""
    tproxy = make_tproxy("--max-sessions", "6")
    port = tproxy.add("mail", backend.host, backend.port)
    other = tproxy.add("other", backend.host, backend.port)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(busy(port)) for _ in range(3)]
        with RawClient(port) as refused:
            assert re.match(TOO_MANY, refused.greeting), refused.greeting
            assert refused.rest() == b""
        use(other)
        clients[0].command(b"QUIT")
        clients[0].rest()
        until(lambda: greeted(port), "a free place")
    tproxy.logs.wait(lambda line: "max-sessions" in line["msg"], "the bound's name in the log")
    assert tproxy.metric("tproxy_connections_refused_total") >= 1


def busy(port: int) -> RawClient:
    """Opens a session that is logged in."""
    client = RawClient(port)
    assert client.command(b"STAT").startswith(b"+OK 1 ")
    return client


def greeted(port: int) -> bool:
    with contextlib.suppress(OSError, EOFError), RawClient(port) as client:
        return client.greeting.startswith(b"+OK")
    return False


def test_most_sessions_of_all(make_tproxy, backend):
    tproxy = make_tproxy("--max-sessions", "4")
    ports = [tproxy.add(f"mail-{n}", backend.host, backend.port) for n in range(3)]
    with contextlib.ExitStack() as stack:
        for port in (ports[0], ports[0], ports[1], ports[1]):
            stack.enter_context(busy(port))
        assert re.match(TOO_MANY, stack.enter_context(RawClient(ports[2])).greeting)
    until(lambda: greeted(ports[2]), "a free place")


def test_refused_client_that_talks_gets_its_line(make_tproxy, backend):
    tproxy = make_tproxy("--max-sessions", "2")
    port = tproxy.add("mail", backend.host, backend.port)
    with busy(port):
        for _ in range(20):
            with RawClient(port, greet=False) as client:
                with contextlib.suppress(OSError):
                    client.send(b"USER a\r\nPASS b\r\nSTAT\r\n" * 50)
                assert re.match(TOO_MANY, client.rest())


def test_descriptors_run_out(program, directory, certificates, backend):
    """One descriptor is kept in reserve to report the shortage."""
    limited = Program.__new__(Program)
    limited.path = program.path
    limited.wrapper = (*program.wrapper, "prlimit", "--nofile=40:40")
    with Tproxy(limited, directory, "--max-sessions", "1000") as tproxy:
        port = tproxy.add("mail", backend.host, backend.port)
        with contextlib.ExitStack() as stack:
            clients = []
            for _ in range(60):
                sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
                sock.settimeout(PATIENCE)
                clients.append(sock)
                sock.sendall(b"STAT\r\n")
            first = clients[0].recv(512)
            assert first.startswith(b"+OK")
            tproxy.logs.wait(
                lambda line: "too many open files" in line["msg"].lower(), "the bound in the log"
            )
        until(lambda: greeted(port), "service after the crowd has left")
        use(port)


@pytest.mark.skipif(not is_root(), reason="looks into /proc of another user")
def test_no_descriptor_is_left_behind(tproxy, backend, backends, certificates):
    """After every kind of session there are as many descriptors as before."""
    tls = backends(Pop3(tls=certificates.server_context(certificates.good)))
    silent = backends(Pop3(replies={"greeting": peer.close}))
    refusing = backends(Pop3(password="another"))
    ports = [
        tproxy.add("good", backend.host, backend.port),
        tproxy.add("tls", tls.host, tls.port, mail__transport__protocol="pop3s"),
        tproxy.add("silent", silent.host, silent.port),
        tproxy.add("refusing", refusing.host, refusing.port),
    ]

    def count() -> int:
        return len(os.listdir(f"/proc/{tproxy.pid}/fd"))

    def round_of_sessions() -> None:
        for port in ports:
            for command in (b"QUIT\r\n", b"STAT\r\nQUIT\r\n", b"", b"GET / HTTP/1.0\r\n\r\n"):
                with RawClient(port) as client:
                    client.send(command)
            client = RawClient(port)
            client.send(b"RETR 1\r\n")
            client.reset()
        until(lambda: tproxy.metric("tp_open_tcp_connections") == 0, "no open connections")

    round_of_sessions()
    before = count()
    for _ in range(5):
        round_of_sessions()
    until(lambda: count() <= before + 1, f"{before} descriptors instead of {count()}")


def test_crowd(tproxy, backends, messages):
    """500 clients at the same time have complete sessions."""
    server = backends(Pop3(messages=(b"Subject: x\r\n\r\nx\r\n",)))
    port = tproxy.add("mail", server.host, server.port)
    script = b"USER a\r\nPASS b\r\nSTAT\r\nRETR 1\r\nQUIT\r\n"
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(500 // 2):
            clients.append(stack.enter_context(RawClient(port, greet=False)))
            clients[-1].send(script)
        for client in clients:
            answer = client.rest()
            assert answer.startswith(b"+OK") and answer.endswith(b".\r\n+OK bye\r\n")


def test_changing_files_under_load(tproxy, backends):
    """Running sessions keep their destination while files change."""
    first, second = backends(Pop3()), backends(Pop3())
    port = tproxy.add("mail", first.host, first.port)
    for number in range(60):
        server = (first, second)[number % 2]
        tproxy.write(destination("mail", server.host, server.port))
        with RawClient(port) as client:
            client.send(b"STAT\r\n")
            if number % 7 == 0:
                (tproxy.directory / "mail.json").unlink()
            assert client.line().startswith(b"+OK 1 ")
        if number % 7 == 0:
            start = len(tproxy.printed)
            tproxy.write(destination("mail", server.host, server.port))
            until(lambda: greeted(port) or find(tproxy, start), "the target")
            port = find(tproxy, start) or port


def find(tproxy: Tproxy, start: int) -> int:
    for line in tproxy.printed.all()[start:]:
        if line.startswith("mail ") and line.endswith("ready"):
            return int(re.search(r":(\d+)", line).group(1))
    return 0
