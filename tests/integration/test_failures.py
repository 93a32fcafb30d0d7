"""Every way in which the mailbox can be unreachable: what the client is told, how soon, and that
the next client is served after the trouble."""

import contextlib
import socket
import ssl
import time
import warnings

import pytest

from harness import backend as peer
from harness import dns
from harness.backend import Backend, BlackHole, Pop3
from harness.clients import RawClient, plain
from harness.tproxy import destination
from harness.util import free_port, until

NAME = "mail-of-example"

# Short, so that a silent peer is given up soon, but longer than a slow machine needs.
SHORT = {"mail.pop3.timeout": "1000", "mail.pop3.connectiontimeout": "1000"}
SHORT_POP3S = {key.replace("pop3", "pop3s"): value for key, value in SHORT.items()}

# The bound for "within its deadline" of one second. It is generous, but without that deadline it
# takes 30 s.
SOON = 20.0


def failure(port: int, command: bytes = b"STAT") -> bytes:
    """Returns the answer to a client's first mailbox command, after checks that hold for every
    failure."""
    start = time.monotonic()
    with RawClient(port) as client:
        line = client.command(command)
        taken = time.monotonic() - start
        assert client.command(b"QUIT").startswith(b"+OK")
        assert client.rest() == b""
    assert taken < SOON, f"{taken:.1f} s until {line!r}"
    assert line.startswith(b"-ERR "), line
    assert len(line) + 2 <= 512
    assert all(32 <= octet < 127 for octet in line), line
    assert b"Pa55word" not in line
    return line


def check(line: bytes, codes: tuple[str, ...], words: tuple[str, ...]) -> None:
    text = line.decode()
    assert text.startswith(tuple(f"-ERR [{code}] " for code in codes)), text
    assert NAME in text, f"does not name the destination: {text}"
    assert any(word in text.lower() for word in words), f"none of {words} in: {text}"


def served(port: int) -> None:
    """Checks that a client is served."""
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"+OK 1 ")
        assert client.command(b"QUIT").startswith(b"+OK")


TEMP = ("SYS/TEMP",)
PERM = ("SYS/PERM",)
SILENCE = (
    "silent",
    "timed out",
    "timeout",
    "time-out",
    "no answer",
    "did not answer",
    "within",
    "waiting",
)
NONSENSE = ("protocol", "pop3", "expected", "understand", "unexpected", "invalid", "not ")
TOO_LONG = ("long", "no end", "octets", "bytes", "limit", *NONSENSE)
GONE = ("closed", "reset", "ended", "went away", "hung up", "lost")
USER_LOGIN = ("TOP", "UIDL", "USER")

MEGABYTE = b"x" * (1 << 20)

# The misbehaviour of the server: its script, the code, and words of which one must be in the text.
MISBEHAVIOUR = {
    "silent from the start": (dict(replies={"greeting": peer.silent}), TEMP, SILENCE),
    "silent at CAPA": (dict(replies={"CAPA": peer.silent}), TEMP, SILENCE),
    "silent in the middle of CAPA": (dict(replies={"CAPA": b"+OK\r\nTOP\r\n"}), TEMP, SILENCE),
    "silent at AUTH": (dict(replies={"AUTH": peer.silent}), TEMP, SILENCE),
    "silent at the credentials": (
        dict(password="x" * 300, replies={"SASL": peer.silent}),
        TEMP,
        SILENCE,
    ),
    "silent at USER": (dict(capabilities=USER_LOGIN, replies={"USER": peer.silent}), TEMP, SILENCE),
    "silent at PASS": (dict(capabilities=USER_LOGIN, replies={"PASS": peer.silent}), TEMP, SILENCE),
    "silent within a line": (dict(replies={"AUTH": b"+OK logg"}), TEMP, SILENCE),
    "closes at once": (dict(replies={"greeting": peer.close}), TEMP, GONE),
    "resets at once": (dict(replies={"greeting": peer.reset}), TEMP, GONE),
    "closes at CAPA": (dict(replies={"CAPA": peer.close}), TEMP, GONE),
    "closes at AUTH": (dict(replies={"AUTH": peer.close}), TEMP, GONE),
    "resets at AUTH": (dict(replies={"AUTH": peer.reset}), TEMP, GONE),
    "closes at PASS": (dict(capabilities=USER_LOGIN, replies={"PASS": peer.close}), TEMP, GONE),
    "refuses with its greeting": (
        dict(greeting=b"-ERR go away, too many of you\r\n"),
        TEMP,
        ("go away, too many of you",),
    ),
    "garbage as greeting": (dict(greeting=bytes(range(256)) + b"\r\n"), TEMP, NONSENSE),
    "HTTP as greeting": (
        dict(greeting=b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n"),
        TEMP,
        NONSENSE,
    ),
    "SMTP as greeting": (dict(greeting=b"220 mx.example.test ESMTP\r\n"), TEMP, NONSENSE),
    "a megabyte as greeting": (dict(greeting=b"+OK " + MEGABYTE + b"\r\n"), TEMP, TOO_LONG),
    "a megabyte without end": (dict(greeting=MEGABYTE), TEMP, TOO_LONG),
    "garbage at CAPA": (dict(replies={"CAPA": b"\0\1\2\xff\r\n"}), TEMP, NONSENSE),
    "a megabyte in CAPA": (
        dict(replies={"CAPA": b"+OK\r\nX-" + MEGABYTE + b"\r\n.\r\n"}),
        TEMP,
        TOO_LONG,
    ),
    "CAPA without end": (
        dict(replies={"CAPA": b"+OK\r\n" + b"X-MORE\r\n" * 200000}),
        TEMP,
        TOO_LONG,
    ),
    "garbage at AUTH": (dict(replies={"AUTH": b"\xff\xfe\r\n"}), TEMP, NONSENSE),
    "endless challenges": (
        dict(replies={"AUTH": b"+ \r\n" * 1000}),
        ("SYS/TEMP", "AUTH"),
        (*NONSENSE, *TOO_LONG, *SILENCE),
    ),
    "a megabyte at PASS": (
        dict(capabilities=USER_LOGIN, replies={"PASS": b"-ERR " + MEGABYTE + b"\r\n"}),
        TEMP,
        TOO_LONG,
    ),
}


@pytest.mark.parametrize("case", MISBEHAVIOUR)
def test_misbehaving_server(tproxy, backend, case):
    options, codes, words = MISBEHAVIOUR[case]
    good = Pop3(**{key: value for key, value in options.items() if key == "password"})
    backend.script = Pop3(**options)
    port = tproxy.add(NAME, backend.host, backend.port, mail__password=good.password, **SHORT)
    line = failure(port)
    check(line, codes, words)
    assert tproxy.summary(NAME)["result"] != "ok"
    assert backend.session(0).ended.wait(20), "the connection to the server was kept"
    assert b"QUIT" not in backend.heard()
    backend.script = good
    served(port)


@pytest.mark.parametrize("login", ["USER and PASS", "AUTH PLAIN"])
def test_login_of_the_client_carries_the_failure(tproxy, backend, login):
    backend.script = Pop3(replies={"greeting": peer.close})
    port = tproxy.add(NAME, backend.host, backend.port)
    with RawClient(port) as client:
        if login == "USER and PASS":
            client.send(b"USER a\r\nPASS b\r\n")
            first = client.line()
            # Either line may carry the failure, and neither may report success.
            line = first if first.startswith(b"-ERR") else client.line()
        else:
            line = client.command(b"AUTH PLAIN " + plain())
        check(line, TEMP, GONE)


# --- the backend's own words ---

VERBATIM = [
    b"-ERR [IN-USE] mailbox already in use by pid 12345",
    b"-ERR [LOGIN-DELAY] minimum time between logins is 300 s",
    b"-ERR [SYS/TEMP] storage is being moved",
    b"-ERR [SYS/PERM] account is closed",
    b"-ERR [AUTH] only app passwords are accepted",
]


@pytest.mark.parametrize("reply", VERBATIM, ids=lambda reply: reply.split()[1].decode())
@pytest.mark.parametrize("command", ["PASS", "AUTH"])
def test_reply_with_a_code_goes_through_verbatim(tproxy, backend, reply, command):
    capabilities = USER_LOGIN if command == "PASS" else (*USER_LOGIN, "SASL PLAIN")
    backend.script = Pop3(capabilities=capabilities, replies={command: reply + b"\r\n"})
    port = tproxy.add(NAME, backend.host, backend.port)
    assert failure(port) == reply


@pytest.mark.parametrize("reply", VERBATIM[1:3], ids=lambda reply: reply.split()[1].decode())
def test_greeting_with_a_code_goes_through_verbatim(tproxy, backend, reply):
    backend.script = Pop3(greeting=reply + b"\r\n")
    port = tproxy.add(NAME, backend.host, backend.port)
    assert failure(port) == reply
    backend.script = Pop3()
    served(port)


@pytest.mark.parametrize("command", ["PASS", "AUTH"])
def test_wrong_password_without_a_code(tproxy, backend, command):
    capabilities = USER_LOGIN if command == "PASS" else (*USER_LOGIN, "SASL PLAIN")
    backend.script = Pop3(
        capabilities=capabilities, replies={command: b"-ERR Authentication failure: bad.\r\n"}
    )
    port = tproxy.add(NAME, backend.host, backend.port)
    check(failure(port), ("AUTH",), ("authentication failure: bad.",))


# Words of servers without response codes, and what they mean to clients.
WORDS = {
    b"maildrop already locked": b"IN-USE",
    b"Maildrop lock busy!  Is another session active?": b"IN-USE",
    b"Server Unavailable. 21": b"SYS/TEMP",
    b"Temporary problem, please try again later": b"SYS/TEMP",
    b"Logon failure: unknown user name or bad password.": b"AUTH",
    b"account is locked": b"AUTH",
}


@pytest.mark.parametrize("words", WORDS, ids=lambda words: words.decode()[:20])
def test_words_without_a_code(tproxy, backend, words):
    """A lock or a high load does not keep clients out after it is over."""
    refusing = Pop3(capabilities=USER_LOGIN, replies={"PASS": b"-ERR " + words + b"\r\n"})
    backend.script = refusing
    port = tproxy.add(NAME, backend.host, backend.port)
    check(failure(port), (WORDS[words].decode(),), (words.decode().lower(),))
    backend.script = Pop3(capabilities=USER_LOGIN)
    assert logs_in(port) == (WORDS[words] != b"AUTH")


@pytest.mark.parametrize("words", [b"maildrop already locked", b"Server Unavailable. 21"])
def test_words_in_the_greeting(tproxy, backend, words):
    backend.script = Pop3(greeting=b"-ERR " + words + b"\r\n")
    port = tproxy.add(NAME, backend.host, backend.port)
    check(failure(port), (WORDS[words].decode(),), (words.decode().lower(),))
    backend.script = Pop3()
    served(port)


def test_long_and_dirty_reply_is_cut_and_cleaned(tproxy, backend):
    dirty = b"-ERR [IN-USE] \x1b[31m\x00\xff" + b"long " * 150 + b"\r\n"
    backend.script = Pop3(capabilities=USER_LOGIN, replies={"PASS": dirty})
    port = tproxy.add(NAME, backend.host, backend.port)
    assert failure(port).startswith(b"-ERR [")


def test_wrong_password_at_dovecot(tproxy, dovecot):
    box = dovecot.mailbox([b"Subject: x\r\n\r\nx\r\n"])
    port = tproxy.add(
        NAME, "127.0.0.1", dovecot.pop3, mail__user=box.user, mail__password="Pa55word-wrong"
    )
    assert failure(port).startswith(b"-ERR [AUTH] ")
    tproxy.write(
        destination(
            NAME,
            "127.0.0.1",
            dovecot.pop3,
            **{"mail.user": box.user, "mail.password": box.password},
        )
    )
    until(lambda: logs_in(port), "the login with the corrected password")


def logs_in(port: int) -> bool:
    with RawClient(port) as client:
        return client.command(b"STAT").startswith(b"+OK")


# --- no new attempts by itself after a refused login ---


def logins(server: Backend) -> int:
    return sum(1 for line in server.heard() if line.startswith((b"AUTH", b"PASS")))


def test_refused_credentials_are_not_sent_again_for_a_while(tproxy, backend):
    """Refused credentials are not sent again for a while, because repeated failures lock
    accounts."""
    backend.script = Pop3(password="another")
    port = tproxy.add(NAME, backend.host, backend.port)
    first = failure(port)
    assert first.startswith(b"-ERR [AUTH] ")
    assert logins(backend) == 1
    for _ in range(5):
        assert failure(port).startswith(b"-ERR [AUTH] ")
    assert logins(backend) == 1
    with RawClient(port) as client:
        assert client.command(b"AUTH PLAIN " + plain()).startswith(b"-ERR [AUTH] ")
    assert logins(backend) == 1


def test_corrected_file_is_tried_at_once(tproxy, backend):
    port = tproxy.add(NAME, backend.host, backend.port, mail__password="wrong")
    assert failure(port).startswith(b"-ERR [AUTH] ")
    tproxy.write(destination(NAME, backend.host, backend.port))
    tproxy.wait_log(f"default/{NAME}: changed")
    assert logs_in(port)


def test_refused_credentials_are_tried_again_later(tproxy, backend):
    """Refused credentials are tried again later, because the administrator may have corrected the
    account instead of the file."""
    backend.script = Pop3(password="another")
    port = tproxy.add(NAME, backend.host, backend.port)
    assert failure(port).startswith(b"-ERR [AUTH] ")
    backend.script = Pop3()
    until(lambda: logs_in(port), "a new try", every=0.25)


def test_targets_fail_apart(tproxy, backend):
    backend.script = Pop3(password="another")
    bad = tproxy.add(NAME, backend.host, backend.port)
    good = tproxy.add("good", backend.host, backend.port, mail__password="another")
    assert failure(bad).startswith(b"-ERR [AUTH] ")
    served(good)


def test_passing_failure_is_not_remembered(tproxy, backend):
    backend.script = Pop3(replies={"AUTH": b"-ERR [IN-USE] busy\r\n"})
    port = tproxy.add(NAME, backend.host, backend.port)
    for count in (1, 2, 3):
        assert failure(port) == b"-ERR [IN-USE] busy"
        assert logins(backend) == count
    backend.script = Pop3()
    served(port)


# --- three failures ---


def test_third_failure_ends_the_session(tproxy, backend):
    backend.script = Pop3(replies={"greeting": b"-ERR [SYS/TEMP] busy\r\n"})
    port = tproxy.add(NAME, backend.host, backend.port)
    with RawClient(port) as client:
        for _ in range(3):
            assert client.command(b"AUTH PLAIN " + plain()) == b"-ERR [SYS/TEMP] busy"
        assert client.rest() == b""


def test_error_line_survives_input_that_nobody_reads(tproxy, backend):
    """The error line arrives although the connection is closed with unread input. A reset would
    destroy it."""
    backend.script = Pop3(replies={"greeting": b"-ERR [SYS/TEMP] busy\r\n"})
    port = tproxy.add(NAME, backend.host, backend.port)
    with RawClient(port) as client:
        client.send((b"AUTH PLAIN " + plain() + b"\r\n") * 3 + b"NOOP\r\n" * 5000)
        assert client.rest().splitlines()[:3] == [b"-ERR [SYS/TEMP] busy"] * 3


def test_login_succeeds_after_a_failure_in_the_same_session(tproxy, backend):
    backend.script = Pop3(replies={"greeting": peer.close})
    port = tproxy.add(NAME, backend.host, backend.port)
    with RawClient(port) as client:
        check(client.command(b"AUTH PLAIN " + plain()), TEMP, GONE)
        assert b"USER" in client.multi(b"CAPA")
        backend.script = Pop3()
        assert client.command(b"AUTH PLAIN " + plain()).startswith(b"+OK")
        assert client.command(b"STAT").startswith(b"+OK 1 ")
        assert client.command(b"QUIT").startswith(b"+OK")


# --- the way to the server ---


def test_connection_refused(tproxy):
    closed = free_port()
    port = tproxy.add(NAME, "127.0.0.1", closed)
    line = failure(port)
    check(line, TEMP, ("refused",))
    assert str(closed).encode() in line
    listener = socket.create_server(("127.0.0.1", closed))
    with contextlib.closing(listener):
        with RawClient(port) as client:
            client.send(b"STAT\r\n")
            listener.settimeout(20)
            listener.accept()[0].close()


def test_black_hole(tproxy, backend):
    with BlackHole() as hole:
        port = tproxy.add(NAME, hole.host, hole.port, **SHORT)
        check(failure(port), TEMP, SILENCE)
        tproxy.write(destination(NAME, backend.host, backend.port))
        until(lambda: logs_in(port), "the login at the other server")


DNS_FAILURES = {
    "NXDOMAIN": (dns.rcode("NXDOMAIN"), ("exist", "no such", "not found", "nxdomain", "unknown")),
    "SERVFAIL": (dns.rcode("SERVFAIL"), ("servfail", "server", "fail")),
    "REFUSED": (dns.rcode("REFUSED"), ("refused", "fail")),
    "silence": (dns.silent, SILENCE),
    "garbage": (
        dns.garbage,
        ("answer", "malformed", "invalid", "name server", "resolve", *SILENCE),
    ),
    "no addresses": (dns.addresses(), ("address", "resolve")),
    "silence over TCP": (
        dns.truncated(dns.silent),
        ("name server", "resolve", *SILENCE),
    ),
}


@pytest.mark.parametrize("case", DNS_FAILURES)
def test_name_does_not_resolve(make_tproxy, backend, directory, case):
    answer, words = DNS_FAILURES[case]
    with dns.ScriptedDns(answer) as server:
        conf = dns.resolv_conf(directory, server.port, extra="options timeout:1 attempts:1")
        tproxy = make_tproxy("--resolv-conf", str(conf))
        port = tproxy.add(NAME, "pop.example.test", backend.port)
        line = failure(port)
        check(line, TEMP, words)
        assert b"pop.example.test" in line
        assert len(server.queries) > 0
        server.answer = dns.addresses("127.0.0.1")
        # A negative answer may be remembered for a short while.
        until(lambda: logs_in(port), "the login after the name server has recovered", every=0.25)


def test_name_server_is_down(make_tproxy, backend, directory):
    conf = dns.resolv_conf(directory, free_port(udp=True), extra="options timeout:1 attempts:1")
    tproxy = make_tproxy("--resolv-conf", str(conf))
    port = tproxy.add(NAME, "pop.example.test", backend.port)
    check(failure(port), TEMP, ("pop.example.test",))
    other = tproxy.add("other", backend.host, backend.port)
    served(other)


# --- TLS ---

CERTIFICATES = {
    "untrusted": ("trust", "issuer", "certificate"),
    "wrong_name": ("name", "127.0.0.1"),
    "expired": ("expired", "valid"),
}


def tls_target(tproxy, server: Backend, kind: str, **properties) -> int:
    if kind == "pop3s":
        return tproxy.add(
            NAME, server.host, server.port, mail__transport__protocol="pop3s", **properties
        )
    return tproxy.add(
        NAME, server.host, server.port, mail__pop3__starttls__required="true", **properties
    )


def tls_script(context: ssl.SSLContext, kind: str, **options) -> Pop3:
    return Pop3(tls=context, **options) if kind == "pop3s" else Pop3(stls=context, **options)


def no_credentials_were_sent(server: Backend) -> bool:
    return not any(line.startswith((b"AUTH", b"USER", b"PASS")) for line in server.heard())


@pytest.mark.parametrize("kind", ["pop3s", "stls"])
@pytest.mark.parametrize("fault", CERTIFICATES)
def test_bad_certificate(tproxy, backend, certificates, kind, fault):
    bad = certificates.server_context(getattr(certificates, fault))
    backend.script = tls_script(bad, kind)
    port = tls_target(tproxy, backend, kind)
    line = failure(port)
    check(line, PERM, CERTIFICATES[fault])
    assert b"certificate" in line.lower()
    assert no_credentials_were_sent(backend)
    backend.script = tls_script(certificates.server_context(certificates.good), kind)
    served(port)


def test_certificate_for_another_host_name(make_tproxy, backend, certificates, directory):
    """The certificate is valid for pop.test and for localhost, but not for this name."""
    hosts = directory / "hosts"
    hosts.write_text("127.0.0.1 mx.test pop.test\n")
    tproxy = make_tproxy("--hosts", str(hosts))
    context = certificates.server_context(certificates.good)
    backend.script = Pop3(tls=context)
    bad = tproxy.add(NAME, "mx.test", backend.port, mail__transport__protocol="pop3s")
    check(failure(bad), PERM, ("mx.test",))
    good = tproxy.add("good", "pop.test", backend.port, mail__transport__protocol="pop3s")
    served(good)


def test_system_does_not_trust_the_test_authority(make_tproxy, backend, certificates, directory):
    """Without the test's CA file the good certificate is not trusted."""
    other = directory / "other-ca.pem"
    other.write_bytes(certificates.untrusted.read_bytes().split(b"-----END PRIVATE KEY-----")[-1])
    only_certificates = b"".join(
        b"-----BEGIN CERT" + part.split(b"-----END CERT")[0] + b"-----END CERTIFICATE-----\n"
        for part in certificates.untrusted.read_bytes().split(b"-----BEGIN CERT")[1:]
    )
    other.write_bytes(only_certificates)
    tproxy = make_tproxy("--ca-file", str(other))
    backend.script = Pop3(tls=certificates.server_context(certificates.good))
    port = tproxy.add(NAME, "127.0.0.1", backend.port, mail__transport__protocol="pop3s")
    check(failure(port), PERM, ("certificate",))


@pytest.mark.parametrize("kind", ["pop3s", "stls"])
def test_silence_in_the_handshake(tproxy, backend, certificates, kind):
    context = certificates.server_context(certificates.good)
    short = SHORT_POP3S if kind == "pop3s" else SHORT
    backend.script = tls_script(context, kind, replies={"TLS": peer_reads_on})
    port = tls_target(tproxy, backend, kind, **short)
    check(failure(port), TEMP, SILENCE)
    backend.script = tls_script(context, kind)
    served(port)


def peer_reads_on(session) -> None:
    """Reads the ClientHello and stays silent."""
    while session._receive():
        pass


@pytest.mark.parametrize("kind", ["pop3s", "stls"])
@pytest.mark.parametrize("how", [peer.close, peer.reset], ids=["close", "reset"])
def test_end_in_the_handshake(tproxy, backend, certificates, kind, how):
    context = certificates.server_context(certificates.good)
    backend.script = tls_script(context, kind, replies={"TLS": how})
    port = tls_target(tproxy, backend, kind)
    check(failure(port), TEMP, (*GONE, "tls", "handshake"))
    backend.script = tls_script(context, kind)
    served(port)


def test_clear_text_where_tls_is_due(tproxy, backend, certificates):
    """A destination for pop3s leads to the clear-text port."""
    backend.script = Pop3()
    port = tls_target(tproxy, backend, "pop3s")
    check(failure(port), TEMP, ("tls",))
    assert no_credentials_were_sent(backend)


def test_tls_where_clear_text_is_due(tproxy, backend, certificates):
    """A destination for pop3 leads to the TLS port: the server waits for tproxy, and tproxy for its
    greeting."""
    backend.script = Pop3(tls=certificates.server_context(certificates.good))
    port = tproxy.add(NAME, backend.host, backend.port, **SHORT)
    check(failure(port), TEMP, SILENCE)


def test_server_speaks_old_tls_only(tproxy, backend, certificates):
    context = certificates.server_context(certificates.good_rsa)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    backend.script = Pop3(tls=context)
    port = tls_target(tproxy, backend, "pop3s")
    check(failure(port), ("SYS/TEMP", "SYS/PERM"), ("tls",))
    assert no_credentials_were_sent(backend)


STLS_REFUSALS = {
    "not offered": dict(),
    "refused": dict(capabilities=("USER", "STLS"), replies={"STLS": b"-ERR not today\r\n"}),
    "garbage": dict(capabilities=("USER", "STLS"), replies={"STLS": b"\xff\xff\r\n"}),
    "silence": dict(capabilities=("USER", "STLS"), replies={"STLS": peer.silent}),
}


@pytest.mark.parametrize("case", STLS_REFUSALS)
def test_required_stls_is_not_to_be_had(tproxy, backend, case):
    backend.script = Pop3(**STLS_REFUSALS[case])
    port = tls_target(tproxy, backend, "stls", **SHORT)
    check(failure(port), ("SYS/TEMP", "SYS/PERM"), ("stls", *NONSENSE))
    assert no_credentials_were_sent(backend)


@pytest.mark.parametrize("required", [True, False])
def test_poisoned_stls(tproxy, backend, certificates, required):
    """Clear text behind the +OK is refused, because it would be taken for the server's words inside
    TLS."""
    context = certificates.server_context(certificates.good)
    backend.script = Pop3(
        stls=context, replies={"STLS": b"+OK begin\r\n+OK injected\r\n", "TLS": peer_reads_on}
    )
    which = "mail__pop3__starttls__required" if required else "mail__pop3__starttls__enable"
    port = tproxy.add(NAME, backend.host, backend.port, **{which: "true"}, **SHORT)
    check(failure(port), ("SYS/TEMP", "SYS/PERM"), ("stls", "tls"))
    assert no_credentials_were_sent(backend)
    backend.script = Pop3(stls=context)
    served(port)


# --- a loop ---


def test_destination_that_points_at_the_proxy_itself(make_tproxy, backend, reserve_ports):
    range_ = reserve_ports(1)
    tproxy = make_tproxy("--target-ports", f"{range_}-{range_}")
    port = tproxy.add(NAME, "127.0.0.1", range_)
    assert port == range_
    check(failure(port), PERM, ("loop", "itself"))


def test_destinations_that_point_at_each_other(tproxy, backend):
    one = tproxy.add(NAME, backend.host, backend.port)
    two = tproxy.add("two", "127.0.0.1", one)
    tproxy.write(destination(NAME, "127.0.0.1", two))
    until(lambda: not logs_in(one), "the changed destination")
    check(failure(one), PERM, ("loop", "itself"))


def test_loop_is_found_before_credentials_are_sent(tproxy, backend):
    """The greeting must reveal a loop, because a proxy would accept any login of its own."""
    one = tproxy.add("one", backend.host, backend.port)
    port = tproxy.add(NAME, "127.0.0.1", one)
    check(failure(port), PERM, ("loop", "itself"))
    assert backend.connections() == 0


# --- one client's trouble does not affect others ---


def test_stuck_login_does_not_hold_up_others(tproxy, backends, backend):
    stuck = backends(Pop3(replies={"AUTH": peer.silent}))
    bad = tproxy.add(NAME, stuck.host, stuck.port)
    good = tproxy.add("good", backend.host, backend.port)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(bad)) for _ in range(20)]
        for client in clients:
            client.send(b"STAT\r\n")
        stuck.commands.wait(lambda item: item[1] == b"CAPA", "20 connections", count=20)
        stuck.commands.wait(lambda item: item[1].startswith(b"AUTH"), "a login")
        served(good)


def test_auth_that_is_listed_and_unknown(tproxy, backend):
    """The refusal says nothing about the password: another mechanism is tried, without a pause."""
    backend.script = Pop3(replies={"AUTH": b"-ERR Unknown command\r\n"})
    port = tproxy.add(NAME, backend.host, backend.port)
    for _ in range(2):
        line = failure(port)
        check(line, PERM, ("mail.pop3.auth.mechanisms can choose another login (login)",))
        assert line.endswith(b": -ERR Unknown command")
    assert len(backend.sessions) == 2
