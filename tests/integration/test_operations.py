"""Operations: health, metrics, logs, the end, and texts that must never be written."""

import base64
import contextlib
import copy
import http.client
import os
import re
import signal
import socket
import subprocess
import threading

import pytest

from harness import backend as peer
from harness.backend import Pop3
from harness.clients import CURL_LOGINS, RawClient, curl, is_closed, plain, xoauth2
from harness.tproxy import Program, Tproxy, destination
from harness.util import PATIENCE, free_port, is_root, until


def use(port: int) -> None:
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"+OK 1 ")
        assert client.command(b"QUIT").startswith(b"+OK")
        assert client.rest() == b""


# --- health ---


def test_health_and_readiness(tproxy):
    assert tproxy.http("/healthz")[0] == 200
    until(lambda: tproxy.http("/readyz")[0] == 200, "readiness")


def test_admin_port_is_printed(tproxy):
    port = tproxy.admin_port()
    tproxy.printed.wait(lambda line: str(port) in line, "the admin port on the terminal")


def test_ready_when_a_file_is_bad(tproxy, backend):
    """A bad file does not affect the others."""
    tproxy.add("good", backend.host, backend.port)
    tproxy.write_text("{", "bad.json")
    tproxy.printed.wait(lambda line: "bad.json" in line, "the line about bad.json")
    assert tproxy.http("/readyz")[0] == 200


@pytest.mark.parametrize("path", ["/", "/status/x", "/metrics/x", "/healthz/../metrics", "/%00"])
def test_unknown_page(tproxy, path):
    status, _ = tproxy.http(path)
    assert status in (404, 400)


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        b"garbage\r\n\r\n",
        b"\0\1\2\3\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET /" + b"x" * 100000 + b" HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 20000 + b"\r\n",
    ],
    ids=["POST", "garbage", "binary", "two lengths", "long target", "many fields"],
)
def test_bad_request_is_refused(tproxy, request_):
    with socket.create_connection(("127.0.0.1", tproxy.admin_port()), PATIENCE) as sock:
        sock.settimeout(PATIENCE)
        with contextlib.suppress(OSError):
            sock.sendall(request_)
        with contextlib.suppress(ConnectionResetError):
            answer = sock.recv(65536)
            assert not answer or re.match(rb"HTTP/1\.1 4\d\d ", answer), answer
    assert tproxy.http("/healthz")[0] == 200


def test_idle_admin_clients_do_not_hold_up_others(tproxy, backend):
    port = tproxy.add("mail", backend.host, backend.port)
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", tproxy.admin_port())))
            sock.sendall(b"GET /metr")
        use(port)
        assert tproxy.http("/healthz")[0] == 200


def test_kept_alive_admin_connection(tproxy):
    connection = http.client.HTTPConnection("127.0.0.1", tproxy.admin_port(), timeout=PATIENCE)
    for path in ("/healthz", "/metrics", "/nothing", "/healthz"):
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == (404 if path == "/nothing" else 200), body
    connection.close()


# --- metrics ---


def test_connections_are_counted(tproxy, backend):
    port = tproxy.add("mail", backend.host, backend.port)
    assert tproxy.metric("tp_open_tcp_connections") == 0
    before = tproxy.metric("tp_tcp_connections_total")
    with RawClient(port), RawClient(port):
        assert tproxy.metric("tp_open_tcp_connections") == 2
    until(lambda: tproxy.metric("tp_open_tcp_connections") == 0, "no open connections")
    assert tproxy.metric("tp_tcp_connections_total") == before + 2


def test_logins_are_counted_by_result(tproxy, backends, backend):
    good = tproxy.add("good", backend.host, backend.port)
    refusing = backends(Pop3(password="another"))
    silent = backends(Pop3(replies={"greeting": peer.close}))
    for _ in range(3):
        use(good)
    for number, (server, result) in enumerate([(refusing, "auth"), (silent, "remote")]):
        port = tproxy.add(f"bad{number}", server.host, server.port)
        with RawClient(port) as client:
            assert client.command(b"STAT").startswith(b"-ERR")
        assert tproxy.metric("tproxy_logins_total", result=result) == 1
    assert tproxy.metric("tproxy_logins_total", result="ok") == 3
    assert tproxy.metric("tproxy_login_seconds_count") == 3
    assert 0 < tproxy.metric("tproxy_login_seconds_sum") < 30


def test_bytes_are_counted(tproxy, backend, messages):
    backend.script = Pop3(messages=(messages[18],))
    port = tproxy.add("mail", backend.host, backend.port)
    with RawClient(port) as client:
        assert client.retr(1) == messages[18]
        client.command(b"QUIT")
        client.rest()
    line = tproxy.summary("mail")
    assert len(messages[18]) < line["bytes_to_client"] < len(messages[18]) * 1.1
    assert 10 < line["bytes_to_backend"] < 100
    assert tproxy.metric("tproxy_bytes_total", to="client") == line["bytes_to_client"]
    assert tproxy.metric("tproxy_bytes_total", to="backend") == line["bytes_to_backend"]


def test_resumed_handshakes_are_counted(tproxy, backend, certificates):
    backend.script = Pop3(tls=certificates.server_context(certificates.good))
    port = tproxy.add("mail", backend.host, backend.port, mail__transport__protocol="pop3s")
    for _ in range(3):
        use(port)
    assert tproxy.metric("tproxy_tls_handshakes_total", resumed="no") == 1
    assert tproxy.metric("tproxy_tls_handshakes_total", resumed="yes") == 2


def test_metrics_of_the_process(tproxy):
    samples = tproxy.metrics()
    assert 100_000 < samples["tp_memory_bytes"][0].value < 2 << 30
    assert 0 <= samples["tp_cpu_percent"][0].value <= 100
    for name in samples:
        assert name.startswith(("tp_", "tproxy_")), name


def test_labels_stay_few(tproxy, backend):
    """No label may have a value for each target or client."""
    for number in range(20):
        use(tproxy.add(f"mail-{number}", backend.host, backend.port))
    text = tproxy.http("/metrics")[1]
    assert "mail-1" not in text and "127.0.0.1" not in text


# --- logs ---


def test_summary_line(tproxy, backend):
    port = tproxy.add("mail", backend.host, backend.port)
    with RawClient(port) as client:
        me = "%s:%d" % client.sock.getsockname()
        client.command(b"STAT")
        client.command(b"QUIT")
        client.rest()
    line = tproxy.summary("mail")
    assert line["client"] == me
    assert str(backend.port) in line["backend"]
    assert line["result"] == "ok"
    assert 0 <= line["duration_ms"] < PATIENCE * 1000
    session = line["session"]
    about = [entry for entry in tproxy.logs.all() if entry.get("session") == session]
    assert len(about) > 1, "at trace level a session says more than how it ended"
    ends = [entry for entry in tproxy.logs.all() if entry["msg"] == "session ended"]
    assert len(ends) == 1


def test_summary_of_a_login_that_failed(tproxy):
    port = tproxy.add("nobody-there", "127.0.0.1", free_port())
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"-ERR [SYS/TEMP]")
        client.command(b"QUIT")
        client.rest()
    assert tproxy.summary("nobody-there")["result"] == "connect"


def test_every_line_has_time_level_and_message(tproxy, backend):
    port = tproxy.add("mail", backend.host, backend.port)
    use(port)
    tproxy.summary("mail")
    for line in tproxy.logs.all():
        assert {"time", "level", "msg"} <= set(line), line
        assert re.match(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$", line["time"]), line
        assert line["level"].lower() in ("trace", "debug", "info", "warn", "error", "fatal")


def test_text_for_people(make_tproxy, backend):
    tproxy = make_tproxy("--log-format", "text", "--log-level", "info")
    port = tproxy.add("mail", backend.host, backend.port)
    use(port)
    line = tproxy.logs.wait(lambda line: "session ended" in line["msg"], "the summary")["msg"]
    assert "mail" in line and not line.startswith("{")


def test_hostile_text_cannot_forge_a_line(tproxy, backend):
    backend.script = Pop3(greeting=b'-ERR "}\n{"msg":"forged"}\x1b[2J\r\n')
    port = tproxy.add("mail", backend.host, backend.port)
    with RawClient(port) as client:
        client.command(b"STAT")
    tproxy.summary("mail")
    assert not any(line["msg"] == "forged" for line in tproxy.logs.all())
    assert b"\x1b" not in tproxy.everything_said()


def test_level_is_respected(make_tproxy, backend):
    tproxy = make_tproxy("--log-level", "warn")
    port = tproxy.add("mail", backend.host, backend.port)
    use(port)
    backend.script = Pop3(replies={"greeting": peer.close})
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"-ERR")
    tproxy.logs.wait(lambda line: line.get("target") == "mail", "a warning about the failure")
    assert {line["level"].lower() for line in tproxy.logs.all()} <= {"warn", "error", "fatal"}


def test_probes_are_quiet(make_tproxy, backend):
    """A load balancer that probes every second causes no log lines at the default level."""
    tproxy = make_tproxy("--log-level", "info")
    port = tproxy.add("mail", backend.host, backend.port)
    start = len(tproxy.logs)
    for _ in range(10):
        RawClient(port).sock.close()
    use(port)
    tproxy.summary("mail")
    ends = [line for line in tproxy.logs.all()[start:] if line["msg"] == "session ended"]
    assert len(ends) == 1


# --- the level at run time ---


def set_level(proxy, *level: str, uid: int | None = None):
    return proxy.program.run("log-level", *level, "--control", proxy.control, uid=uid)


def test_level_changes_while_running(make_tproxy, backend):
    tproxy = make_tproxy("--log-level", "info")
    port = tproxy.add("mail", backend.host, backend.port)

    def levels_of_a_session() -> set[str]:
        start = len(tproxy.logs)
        use(port)
        tproxy.logs.wait(lambda line: line["msg"] == "session ended", "the summary", start=start)
        return {line["level"].lower() for line in tproxy.logs.all()[start:]}

    assert "debug" not in levels_of_a_session()
    run = set_level(tproxy, "debug")
    assert run.returncode == 0, run.stderr
    assert "debug" in levels_of_a_session()
    assert set_level(tproxy, "INFO").returncode == 0
    tproxy.logs.wait(lambda line: "info" in line["msg"], "that the level is info again")
    assert "debug" not in levels_of_a_session()


def test_level_changes_under_the_name_of_the_runbooks(make_tproxy, directory):
    """/etc/logging/change-log-level LEVEL is the same binary under another name."""
    tproxy = make_tproxy("--log-level", "info")
    alias = Program(tproxy.program.path, directory)
    alias.path = alias.path.rename(directory / "change-log-level")
    run = alias.run("warn", "--control", tproxy.control)
    assert run.returncode == 0, run.stderr
    assert set_level(tproxy).stdout.strip() == "warn"


def test_unknown_level_is_refused(tproxy):
    run = set_level(tproxy, "loud")
    assert run.returncode > 0 and "loud" in run.stderr


def test_level_without_a_running_process(program):
    run = program.run("log-level", "debug", "--control", f"tproxy-test-nobody-{os.getpid()}")
    assert run.returncode > 0 and run.stderr


@pytest.mark.skipif(not is_root(), reason="takes two users")
def test_other_users_may_not_change_the_level(make_tproxy):
    tproxy = make_tproxy("--log-level", "info")
    run = set_level(tproxy, "trace", uid=65533)
    assert run.returncode > 0
    again = set_level(tproxy)
    assert again.stdout.strip() == "info", again


def test_stranger_may_not_pretend_to_be_the_process(program):
    """Anybody may use an abstract name first, so the owner of the other end is checked."""
    name = f"tproxy-test-stranger-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind("\0" + name)
        stranger.listen(1)
        stranger.settimeout(PATIENCE)

        def answer():
            with contextlib.suppress(OSError):
                peer_, _ = stranger.accept()
                peer_.recv(100)
                peer_.sendall(b"nonsense without end" * 1000)
                peer_.close()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        run = program.run("log-level", "debug", "--control", name)
    assert run.returncode > 0 and run.stderr


# --- logs that nobody reads ---


def test_reader_that_does_not_read_holds_up_nothing(make_tproxy, backend):
    tproxy = make_tproxy()
    port = tproxy.add("mail", backend.host, backend.port)
    tproxy.admin_port()  # a log line reports its port
    tproxy.stop_reading()
    for _ in range(400):
        use(port)
    assert tproxy.http("/healthz")[0] == 200
    dropped = tproxy.metric("tproxy_log_dropped_total")
    assert dropped > 0
    tproxy.go_on_reading()
    use(port)
    tproxy.logs.wait(lambda line: "dropped" in line["msg"], "the notice about dropped lines")


# --- secrets ---

SECRETS = {
    "the destination's password": "Xq7-dest-password-9",
    "a wrong password": "Zk2-wrong-password-4",
    "what a client typed as password": "Typed-passw0rd-33",
    "what a client sent as token": "eyJ-client-token-77",
}


def forms(secret: str) -> list[bytes]:
    """Returns the secret as it is, and the part of it that any base64 text around it contains."""
    found = [secret.encode()]
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + secret.encode()).decode()
        found.append(text[4:-4].encode())
    return found


def test_no_secret_is_ever_written(tproxy, backend, backends, certificates):
    password, wrong, typed, token = SECRETS.values()
    mail = b"Subject: private\r\n\r\nMail-content-word-55\r\n"
    context = certificates.server_context(certificates.good)
    servers = {
        "plain": backends(Pop3(password=password, messages=(mail,))),
        "login": backends(Pop3(password=password, messages=(mail,), capabilities=("USER",))),
        "tls": backends(Pop3(password=password, messages=(mail,), tls=context)),
        "refusing": backends(Pop3(password="other", messages=(mail,))),
        "echoing": backends(
            Pop3(capabilities=("USER",), replies={"PASS": f"-ERR no: {wrong}\r\n".encode()})
        ),
        "apop": backends(
            Pop3(password=password, messages=(mail,), greeting=b"+OK <1@scripted.test>\r\n")
        ),
    }
    extra = {
        "tls": {"mail.transport.protocol": "pop3s"},
        "apop": {"mail.pop3.apop.enable": "true"},
        "refusing": {"mail.password": wrong},
    }
    for name, server in servers.items():
        properties = {"mail.password": password, **extra.get(name, {})}
        port = tproxy.add(name, server.host, server.port, **properties)
        logins = [
            b"USER someone\r\nPASS %s\r\n" % typed.encode(),
            b"AUTH PLAIN %s\r\n" % plain("someone", typed),
            b"AUTH PLAIN\r\n%s\r\n" % plain("someone", typed),
            b"AUTH LOGIN\r\nc29tZW9uZQ==\r\n%s\r\n" % base64.b64encode(typed.encode()),
            b"AUTH XOAUTH2 %s\r\n" % xoauth2("someone", token),
            b"PASS %s\r\n" % typed.encode(),
            b"PASSWORD %s\r\nAUTH PLAIN %s extra\r\n" % (typed.encode(), typed.encode()),
        ]
        answers = b""
        for login in logins:
            with RawClient(port) as client:
                client.send(login + b"RETR 1\r\nQUIT\r\n")
                answers += client.rest().replace(mail, b"")
        assert password.encode() not in answers
    # A file has a mistake right beside the secret, and another file is not JSON.
    tproxy.write(destination("bad", "", 1, **{"mail.password": password}), file="bad1.json")
    tproxy.write_text('{"Name": "x", "mail.password": "%s" "a"}' % password, "bad2.json")
    for file in ("bad1.json", "bad2.json"):
        tproxy.printed.wait(lambda line, file=file: file in line, f"the line about {file}")
    pages = "".join(tproxy.http(path)[1] for path in ("/metrics", "/healthz", "/readyz", "/"))
    said = tproxy.everything_said() + pages.encode()
    assert b"session ended" in said, "the test sees the log"
    for what, secret in SECRETS.items():
        if what == "a wrong password":
            continue  # one server repeats it in its own words, see below
        for form in forms(secret):
            assert form not in said, f"{what} is in the log as {form!r}"
    assert b"Mail-content-word-55" not in said


def test_secret_in_the_servers_own_words(tproxy, backends):
    """A server repeats the password in its refusal: it is not in the log."""
    secret = "Repeated-secret-81"
    server = backends(
        Pop3(capabilities=("USER",), replies={"PASS": f"-ERR wrong {secret}\r\n".encode()})
    )
    port = tproxy.add("mail", server.host, server.port, mail__password=secret)
    with RawClient(port) as client:
        assert secret.encode() not in client.command(b"STAT")
    tproxy.summary("mail")
    assert secret.encode() not in tproxy.everything_said()


def test_secrets_of_curl(tproxy, backend):
    """Secrets of a real client are not in the log either."""
    port = tproxy.add("mail", backend.host, backend.port)
    for login in CURL_LOGINS.values():
        options = [word.replace("anything", "Typed-passw0rd-33") for word in login]
        assert curl(port, "1", *options).returncode == 0
    said = tproxy.everything_said()
    for form in [*forms("Typed-passw0rd-33"), *forms("Scripted-Pa55word")]:
        assert form not in said


def test_secrets_are_not_in_the_command_line_or_environment(tproxy, backend):
    tproxy.add("mail", backend.host, backend.port)
    for file in ("cmdline", "environ") if is_root() else ("cmdline",):
        with open(f"/proc/{tproxy.pid}/{file}", "rb") as text:
            assert b"Scripted-Pa55word" not in text.read()


@pytest.mark.one_build
def test_release_binary_needs_nothing(program):
    """The release binary is static: no interpreter, no shared library. It is hardened:
    position-independent, with protected relocations and stack."""
    headers = subprocess.run(
        ["readelf", "--wide", "--file-header", "--program-headers", "--dynamic", program.path],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "INTERP" not in headers and "NEEDED" not in headers
    assert "DYN (" in headers and "GNU_RELRO" in headers
    (stack,) = [line for line in headers.splitlines() if "GNU_STACK" in line]
    assert " RW " in stack and "RWE" not in stack


def test_core_dumps_are_off(tproxy):
    """Core dumps are off, because a core would contain every password."""
    tproxy.http("/healthz")
    with open(f"/proc/{tproxy.pid}/limits") as text:
        line = next(line for line in text if line.startswith("Max core file size"))
    assert line.split()[4:6] == ["0", "0"]


# --- the end ---


def test_drain(make_tproxy, backend):
    """The program is not ready at once, accepts new sessions for a while, and then no more; running
    sessions continue to their end."""
    tproxy = make_tproxy("--drain-delay", "2", "--grace", "60")
    port = tproxy.add("mail", backend.host, backend.port)
    with RawClient(port) as running:
        assert running.command(b"STAT").startswith(b"+OK")
        tproxy.signal(signal.SIGTERM)
        until(lambda: tproxy.http("/readyz")[0] == 503, "not being ready", patience=1.9)
        assert tproxy.http("/healthz")[0] == 200
        use(port)

        until(lambda: is_closed(port), "the closed listener", every=0.05)
        assert running.retr(1) == backend.script.messages[0]
        assert tproxy.running()
        assert running.command(b"QUIT") == b"+OK bye"
        assert running.rest() == b""
    assert tproxy.wait() == 0


def test_grace_is_over(make_tproxy, backend):
    """The remaining sessions are closed, without QUIT at the server."""
    tproxy = make_tproxy("--drain-delay", "0", "--grace", "1")
    port = tproxy.add("mail", backend.host, backend.port)
    with RawClient(port) as running, RawClient(port) as idle:
        assert running.command(b"STAT").startswith(b"+OK")
        assert running.command(b"DELE 1").startswith(b"+OK")
        tproxy.signal(signal.SIGTERM)
        running.rest()
        idle.rest()
    assert tproxy.wait() == 0
    assert backend.session(0).ended.wait(PATIENCE)
    assert b"QUIT" not in backend.heard()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_end_without_sessions(make_tproxy, backend, number):
    tproxy = make_tproxy()
    use(tproxy.add("mail", backend.host, backend.port))
    tproxy.signal(number)
    assert tproxy.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_ignored_signal_stays_ignored(program, directory, backend, number):
    """A signal that is ignored at the start stays ignored. nohup and shells start programs in the
    background like that."""
    name = number.name.removeprefix("SIG")
    ignoring = copy.copy(program)
    ignoring.wrapper = (*program.wrapper, "sh", "-c", f"trap '' {name} TERM; exec \"$@\"", "sh")
    with Tproxy(ignoring, directory) as tproxy:
        port = tproxy.add("mail", backend.host, backend.port)
        tproxy.signal(number)
        # tproxy would have acted on a signal in the turn in which it answers the request.
        assert tproxy.http("/readyz")[0] == 200
        use(port)
        tproxy.signal(signal.SIGTERM)  # this signal is never ignored
        assert tproxy.wait() == 0
    assert any("Terminated" in str(line) for line in tproxy.logs.all())


def test_end_during_a_login(make_tproxy, backends):
    tproxy = make_tproxy("--drain-delay", "0", "--grace", "1")
    stuck = backends(Pop3(replies={"AUTH": peer.silent}))
    port = tproxy.add("mail", stuck.host, stuck.port)
    with RawClient(port) as client:
        client.send(b"STAT\r\n")
        stuck.commands.wait(lambda item: item[1].startswith(b"AUTH"), "the login")
        tproxy.signal(signal.SIGTERM)
        client.rest()
    assert tproxy.wait() == 0
    assert b"QUIT" not in stuck.heard()


def test_second_signal_ends_at_once(make_tproxy, backend):
    """A person who presses Ctrl-C twice does not want to wait."""
    tproxy = make_tproxy("--drain-delay", "0", "--grace", "600")
    port = tproxy.add("mail", backend.host, backend.port)
    with RawClient(port) as running:
        assert running.command(b"STAT").startswith(b"+OK")
        tproxy.signal(signal.SIGINT)
        until(lambda: tproxy.http("/readyz")[0] == 503, "the drain")
        tproxy.signal(signal.SIGINT)
        assert tproxy.wait() >= 0


def test_listeners_of_the_next_process(make_tproxy, backend):
    """Two processes can have their listeners at the same time."""
    one, two = make_tproxy(), make_tproxy()
    for proxy in (one, two):
        use(proxy.add("mail", backend.host, backend.port))


def test_greeting_tells_installations_apart_but_nothing_else(tproxy, backend):
    one = tproxy.add("one", backend.host, backend.port)
    two = tproxy.add("two", backend.host, backend.port)
    with RawClient(one) as first, RawClient(two) as second:
        assert first.greeting == second.greeting
        assert (
            b"one" not in first.greeting.split()
            and socket.gethostname().encode() not in first.greeting
        )


def test_version_in_metrics(tproxy):
    version = tproxy.program.run("--version").stdout.split()[1]
    (info,) = tproxy.metrics()["tproxy_build_info"]
    assert info.labels["version"] == version
