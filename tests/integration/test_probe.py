"""`tproxy probe`: a login of the running program, step by step, and what a failure means."""

import contextlib
import json
import os
import pty
import re
import ssl
import subprocess

import pytest
from test_docs import first_cells, rows

from harness import backend as peer
from harness.backend import Pop3
from harness.certs import GOOD_NAMES, end_of
from harness.clients import RawClient
from harness.documents import section, text_of
from harness.samples import TRANSPARENT_PROXIES
from harness.tproxy import Tproxy, destination
from harness.util import free_port, until

CODES = {
    cells[0].strip("`"): int(cells[1])
    for cells in rows(section("docs/troubleshooting.md", "A probe fails"))
}


def probe(
    proxy: Tproxy, name: str, *arguments: str, stdin: str = ""
) -> subprocess.CompletedProcess:
    done = proxy.program.run("probe", "--control", proxy.control, *arguments, name, stdin=stdin)
    assert "Pa55word" not in done.stdout + done.stderr
    return done


def probed(proxy: Tproxy, name: str, *arguments: str, stdin: str = "") -> dict:
    """Returns the JSON, after checks that hold for every probe."""
    done = probe(proxy, name, "--json", *arguments, stdin=stdin)
    assert not stdin or stdin.strip() not in done.stdout
    assert done.stderr == ""
    result = json.loads(done.stdout)
    assert done.returncode == CODES.get(result["result"], 0)
    assert ("remedy" in result) == ("meaning" in result) == (result["result"] != "ok")
    failed = [step["result"] for step in result["steps"] if step["result"] != "ok"]
    assert failed == ([] if result["result"] == "ok" else [result["result"]])
    assert all(0 <= step["microseconds"] < 60_000_000 for step in result["steps"])
    assert all(step["details"] == {} for step in result["steps"] if step["result"] != "ok")
    return result


def names(result: dict) -> list[str]:
    return [step["step"] for step in result["steps"]]


def text_of_step(result: dict, name: str) -> str:
    (text,) = [step["text"] for step in result["steps"] if step["step"] == name]
    return text


# --- what goes well ---


def test_steps(tproxy, backend):
    """A probe is one login, and QUIT ends it without a deletion. Later ones need not ask CAPA."""
    tproxy.add("mine", backend.host, backend.port)
    result = probed(tproxy, "mine")
    assert result["result"] == "ok" and result["mailbox"] == "mine"
    assert names(result) == [
        "the destination",
        "the addresses",
        "the connection",
        "the greeting",
        "the answer to CAPA",
        "the end of the answer to CAPA",
        "the answer to AUTH PLAIN",
        "the answer to STAT",
        "the answer to QUIT",
    ]
    assert details(result, "the destination") == {"destination": "from a file"}
    address = f"{backend.host}:{backend.port}"
    assert text_of_step(result, "the addresses") == address
    assert text_of_step(result, "the connection") == address
    assert text_of_step(result, "the greeting") == "+OK scripted server ready"
    assert text_of_step(result, "the answer to STAT") == "+OK 1 23"
    assert "the answer to CAPA" not in names(probed(tproxy, "mine"))
    assert backend.connections() == 2
    heard = [line.split()[0] for line in backend.heard()]
    assert heard == [b"CAPA", b"AUTH", b"STAT", b"QUIT", b"AUTH", b"STAT", b"QUIT"]
    assert tproxy.metric("tproxy_logins_total", result="ok") == 2
    assert tproxy.summary("mine", count=2)["result"] == "ok"


def details(result: dict, name: str) -> dict:
    (found,) = [step["details"] for step in result["steps"] if step["step"] == name]
    return found


CIPHERS = {
    ssl.TLSVersion.TLSv1_2: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    ssl.TLSVersion.TLSv1_3: "TLS_AES_256_GCM_SHA384",
}


@pytest.mark.parametrize("version", CIPHERS)
@pytest.mark.parametrize("protocol", ["pop3", "pop3s"])
def test_tls(tproxy, backend, certificates, protocol, version):
    """The server's certificate is told also when the session before is resumed."""
    context = certificates.server_context(certificates.good, version)
    backend.script = Pop3(tls=context) if protocol == "pop3s" else Pop3(stls=context)
    tproxy.add(
        "mine",
        backend.host,
        backend.port,
        mail__transport__protocol=protocol,
        mail__pop3__starttls__required="true",
    )
    first, second = probed(tproxy, "mine"), probed(tproxy, "mine")
    name = version.name.replace("_", ".")
    assert text_of_step(first, "the TLS handshake") == name
    assert text_of_step(second, "the TLS handshake") == f"{name}, session resumed"
    shown = details(first, "the TLS handshake")
    assert shown == details(second, "the TLS handshake") == {
        "cipher suite": CIPHERS[version],
        "certificate for": ", ".join(GOOD_NAMES),
        "certificate valid until": end_of(certificates.good),
    }
    lines = probe(tproxy, "mine").stdout.splitlines()
    (at,) = [i for i, line in enumerate(lines) if "the TLS handshake" in line]
    assert [line.strip() for line in lines[at + 1 : at + 4]] == [
        f"{name}: {value}" for name, value in shown.items()
    ]


def test_lines_for_people(tproxy, backend):
    tproxy.add("mine", backend.host, backend.port)
    done = probe(tproxy, "mine")
    assert done.returncode == 0 and done.stderr == ""
    *steps, end = done.stdout.splitlines()
    assert end == "mine: ok"
    assert steps.pop(1) == " " * 16 + "destination: from a file"
    assert all(re.match(r" +\d+\.\d ms  the ", step) for step in steps) and len(steps) == 9


def on_terminal(proxy: Tproxy, **environment: str) -> str:
    ours, theirs = pty.openpty()
    arguments = ("probe", "--control", proxy.control, "mine")
    process = proxy.program.spawn(*arguments, stdout=theirs, env=environment)
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # EIO: the last one has closed the terminal
        while data := os.read(ours, 4096):
            said += data
    os.close(ours)
    process.communicate()
    return said.decode()


def test_colour(tproxy, backend):
    """Only a terminal gets colours, and only if nobody minds."""
    tproxy.add("mine", backend.host, backend.port)
    assert "\33" not in probe(tproxy, "mine").stdout
    said = on_terminal(tproxy, TERM="xterm")
    assert "\33[32mmine: ok\33[0m" in said and "\33[31m" not in said
    assert said.count("\33[0m") == said.count("\33[") / 2
    for unwanted in {"TERM": "dumb"}, {"NO_COLOR": "1"}:
        said = on_terminal(tproxy, **unwanted)
        assert "\33" not in said and "mine: ok" in said
    backend.script = Pop3(replies={"STAT": b"-ERR broken\r\n"})
    said = on_terminal(tproxy, NO_COLOR="")
    assert re.search("\33\\[31m +[0-9.]+ ms  the answer to STAT: failed.*\33\\[0m", said)
    assert "\33[31mmine: failed (remote)" in said


def test_client_logs_in_itself(tproxy, backend):
    backend.script = Pop3(replies={"STAT": b"-ERR log in first\r\n"})
    tproxy.add("mine", backend.host, backend.port, Authentication="NoAuthentication")
    result = probed(tproxy, "mine")
    assert result["result"] == "ok"
    assert text_of_step(result, "the answer to STAT") == "-ERR log in first"


# --- what is broken ---

SHORT = {"mail.pop3.timeout": "1000", "mail.pop3.connectiontimeout": "1000"}

# The script of the server, properties of the destination, the class, the step that fails.
BROKEN = {
    "name": (None, {"mail.pop3.host": "no.such.host.invalid"}, "dns", "the addresses"),
    "port": (None, {"mail.pop3.port": None}, "connect", "the connection"),
    "TLS": (
        Pop3(replies={"greeting": b"+OK in clear text\r\n"}),
        {"mail.pop3.ssl.enable": "true"},
        "tls",
        "the TLS handshake",
    ),
    "no STLS": (
        Pop3(),
        {"mail.pop3.starttls.required": "true"},
        "config",
        "the end of the answer to CAPA",
    ),
    "greeting": (Pop3(greeting=b"220 smtp\r\n"), {}, "protocol", "the greeting"),
    "CAPA": (Pop3(replies={"CAPA": peer.close}), {}, "remote", "the answer to CAPA"),
    "silence": (peer.silent, SHORT, "timeout", "the greeting"),
    "end": (peer.close, {}, "remote", "the greeting"),
    "password": (Pop3(password="Other-Pa55word"), {}, "auth", "the answer to AUTH PLAIN"),
    "in use": (
        Pop3(replies={"AUTH": b"-ERR [IN-USE] locked\r\n"}),
        {},
        "remote",
        "the answer to AUTH PLAIN",
    ),
    "STAT": (Pop3(replies={"STAT": b"-ERR broken\r\n"}), {}, "remote", "the answer to STAT"),
    "QUIT": (Pop3(replies={"QUIT": peer.close}), {}, "remote", "the answer to QUIT"),
    "token": (
        Pop3(),
        {
            "Authentication": "OAuth2ClientCredentials",
            "tokenServiceURL": "http://127.0.0.1:9/token",
            "clientId": "client",
            "clientSecret": "Scripted-Pa55word",
        },
        "connect",
        "the destination",
    ),
    "Connectivity Proxy": (Pop3(), {"ProxyType": "OnPremise"}, "connect", "the connection"),
    "SOCKS5": (peer.close, {"ProxyType": "OnPremise"}, "socks", "the tunnel"),
    "user token": (
        Pop3(),
        {
            "Authentication": "OAuth2RefreshToken",
            "tokenServiceURL": "http://127.0.0.1:9/token",
            "clientId": "client",
            "clientSecret": "Scripted-Pa55word",
        },
        "config",
        "the login",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_each_step_fails_once(tproxy, backend, case):
    script, properties, result, step = BROKEN[case]
    backend.script = script or backend.script
    fields = {**destination("mine", backend.host, backend.port), **properties}
    fields["mail.pop3.port"] = fields["mail.pop3.port"] or str(free_port())
    if fields["ProxyType"] == "OnPremise":
        proxy = json.loads(json.dumps(TRANSPARENT_PROXIES["Connectivity Proxy"]))
        integration = proxy["spec"]["config"]["integration"]
        integration["connectivityProxy"] = {
            "serviceName": "localhost",
            "tcpPort": backend.port if case == "SOCKS5" else free_port(),
        }
        tproxy.write_text(json.dumps(proxy), "proxy.json")
    tproxy.write(fields)
    tproxy.port("mine")
    said = probed(tproxy, "mine")
    assert (said["result"], names(said)[-1]) == (result, step), said
    assert said["text"] == said["steps"][-1]["text"] != ""
    told = probe(tproxy, "mine")
    assert told.returncode == CODES[result]
    end = [f"mine: failed ({result}): {said['meaning']}", f"  {said['remedy']}"]
    assert told.stdout.splitlines()[-2:] == end


@pytest.mark.parametrize("wrong", ["wrong_name", "untrusted", "expired"])
def test_certificate(tproxy, backend, certificates, wrong):
    backend.script = Pop3(tls=certificates.server_context(getattr(certificates, wrong)))
    tproxy.add("mine", backend.host, backend.port, mail__transport__protocol="pop3s")
    said = probed(tproxy, "mine")
    assert (said["result"], names(said)[-1]) == ("certificate", "the TLS handshake")


def test_refused_login_is_not_repeated(tproxy, backend):
    """During the pause the server is not asked. After it a probe says so before it asks again."""
    backend.script = Pop3(password="Other-Pa55word")
    tproxy.add("mine", backend.host, backend.port)
    assert probed(tproxy, "mine")["result"] == "auth"
    assert "is not asked again" in probed(tproxy, "mine")["text"]
    assert backend.connections() == 1

    def warned() -> bool:
        done = probe(tproxy, "mine")
        return done.returncode == 1 and "add --again" in done.stderr

    until(warned, "the end of the pause")
    assert backend.connections() == 1
    assert probed(tproxy, "mine", "--again")["result"] == "auth"
    assert backend.connections() == 2
    backend.script.password = "Scripted-Pa55word"
    until(lambda: probed(tproxy, "mine", "--again")["result"] == "ok", "the end of the pause")
    assert probed(tproxy, "mine")["result"] == "ok"


def test_token_that_is_not_needed(tproxy, backend):
    tproxy.add("mine", backend.host, backend.port)
    result = probed(tproxy, "mine", "--user", "somebody", "--token-file", "-", stdin="token-1")
    assert result["result"] == "ok"
    assert details(result, "the answer to STAT") == {
        "user token": "not used: clients need none here"
    }
    assert b"somebody" not in b"".join(backend.heard())


@pytest.mark.parametrize("token", ["", "\n", "x" * 13000, "a\tb"])
def test_no_token_to_send(tproxy, backend, token):
    tproxy.add("mine", backend.host, backend.port)
    done = probe(tproxy, "mine", "--user", "somebody", "--token-file", "-", stdin=token)
    assert done.returncode == 1 and "standard input has no token" in done.stderr
    done = probe(tproxy, "mine", "--user", "somebody", "--token-file", "/no/such")
    assert done.returncode == 1 and "/no/such: No such file" in done.stderr
    assert backend.connections() == 0


def test_prober_goes(tproxy, backend):
    """A probe whose client goes ends like a session whose client goes."""
    backend.script = peer.silent
    port = tproxy.add("mine", backend.host, backend.port)
    process = tproxy.program.spawn("probe", "--control", tproxy.control, "mine")
    until(lambda: backend.connections() == 1, "the connection")
    process.kill()
    process.communicate()
    tproxy.summary("mine")
    with RawClient(port) as client:
        assert client.command(b"QUIT").startswith(b"+OK")


def test_no_probe(tproxy, program):
    done = probe(tproxy, "other")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no mailbox other is served here" in done.stderr
    done = program.run("probe", "--control", "no-such-tproxy", "mine")
    assert done.returncode == 1 and "no tproxy is running" in done.stderr


@pytest.mark.one_build
@pytest.mark.parametrize("arguments", 
    [
        (),
        ("a", "b"),
        ("--all", "a"),
        ("a b",),
        ("--user", "u", "a"),
        ("--token-file", "-", "a"),
        ("--user", "u v", "--token-file", "-", "a"),
    ],
)
def test_wrong_usage(program, arguments):
    done = program.run("probe", *arguments)
    assert done.returncode == 2 and "see tproxy probe --help" in done.stderr


# --- documents ---


@pytest.mark.one_build
def test_flags(program):
    there = set(re.findall(r"^  (--[a-z-]+)", program.run("probe", "--help").stdout, re.MULTILINE))
    said = {cell.split()[0] for cell in first_cells(section("docs/operations.md", "Probe"))}
    assert said == there


@pytest.mark.one_build
def test_words_of_the_documents():
    """The document has each diagnosis, in the same words."""
    source = text_of("tproxy/diagnosis.c")
    table = source[source.index("table[] = {") : source.index("static_assert")]
    entries = re.findall(r"\{FAIL_\w+, (\d+), ([^{}]*)\}", table)
    there = []
    for code, texts in entries:
        meaning, remedy = re.findall(r'((?:"[^"]*"\s*)+)', texts)
        there.append((code, *("".join(re.findall(r'"([^"]*)"', t)) for t in (meaning, remedy))))
    said = [tuple(row[1:]) for row in rows(section("docs/troubleshooting.md", "A probe fails"))]
    assert len(there) > 10 and said == there
