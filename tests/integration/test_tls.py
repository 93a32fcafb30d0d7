"""TLS to the mail server: versions, resumption, names."""

import ssl

import pytest

from harness.backend import Pop3
from harness.clients import RawClient

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def script(kind: str, context: ssl.SSLContext, **options) -> Pop3:
    return Pop3(tls=context, **options) if kind == "pop3s" else Pop3(stls=context, **options)


def target(tproxy, server, kind: str, name: str = "mail", host: str = "", **properties) -> int:
    if kind == "pop3s":
        properties["mail__transport__protocol"] = "pop3s"
    else:
        properties["mail__pop3__starttls__required"] = "true"
    return tproxy.add(name, host or server.host, server.port, **properties)


def use(port: int) -> None:
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"+OK 1 ")
        assert client.retr(1) == b"Subject: one\r\n\r\nfirst\r\n"
        assert client.command(b"QUIT").startswith(b"+OK")
        assert client.rest() == b""


@pytest.mark.parametrize("kind", ["pop3s", "stls"])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("key", ["good", "good_rsa"])
def test_versions_and_keys(tproxy, backend, certificates, kind, version, key):
    context = certificates.server_context(getattr(certificates, key), VERSIONS[version])
    backend.script = script(kind, context)
    use(target(tproxy, backend, kind))
    assert backend.session(0).tls_version == f"TLSv{version}"


def test_newest_version_is_preferred(tproxy, backend, certificates):
    backend.script = Pop3(tls=certificates.server_context(certificates.good))
    use(target(tproxy, backend, "pop3s"))
    assert backend.session(0).tls_version == "TLSv1.3"


def test_versions_can_be_restricted(tproxy, backend, certificates):
    backend.script = Pop3(tls=certificates.server_context(certificates.good))
    use(target(tproxy, backend, "pop3s", mail__pop3s__ssl__protocols="TLSv1.2"))
    assert backend.session(0).tls_version == "TLSv1.2"


@pytest.mark.parametrize("kind", ["pop3s", "stls"])
@pytest.mark.parametrize("version", VERSIONS)
def test_sessions_are_resumed(tproxy, backend, certificates, kind, version):
    context = certificates.server_context(certificates.good, VERSIONS[version])
    backend.script = script(kind, context)
    port = target(tproxy, backend, kind)
    for _ in range(4):
        use(port)
    assert [session.tls_resumed for session in backend.sessions] == [False, True, True, True]


def test_targets_share_no_tls_session(tproxy, backend, certificates):
    """A TLS session of one target is never used for another."""
    context = certificates.server_context(certificates.good)
    backend.script = Pop3(tls=context)
    for name in ("one", "two"):
        use(target(tproxy, backend, "pop3s", name=name))
    assert [session.tls_resumed for session in backend.sessions] == [False, False]


def test_server_that_has_forgotten_the_session(tproxy, backend, certificates):
    for _ in range(3):
        backend.script = Pop3(tls=certificates.server_context(certificates.good))
        if not backend.sessions:
            port = target(tproxy, backend, "pop3s")
        use(port)
    assert not any(session.tls_resumed for session in backend.sessions)


def test_name_is_sent_and_verified(make_tproxy, backend, certificates, directory):
    hosts = directory / "hosts"
    hosts.write_text("127.0.0.1 pop.test\n")
    context = certificates.server_context(certificates.good)
    names = []
    context.sni_callback = lambda sock, name, context: names.append(name)
    backend.script = Pop3(tls=context)
    tproxy = make_tproxy("--hosts", str(hosts))
    use(target(tproxy, backend, "pop3s", host="pop.test"))
    use(target(tproxy, backend, "pop3s", name="by-address"))
    assert names == ["pop.test", None], "no SNI for an address"


def test_trust_everything_is_possible_and_loud(tproxy, backend, certificates):
    backend.script = Pop3(tls=certificates.server_context(certificates.untrusted))
    use(target(tproxy, backend, "pop3s", mail__pop3s__ssl__trust="*"))
    tproxy.logs.wait(
        lambda line: line["level"].lower() == "warn" and "trust" in line["msg"],
        "the warning",
    )


def test_identity_check_can_be_switched_off(tproxy, backend, certificates):
    backend.script = Pop3(tls=certificates.server_context(certificates.wrong_name))
    use(target(tproxy, backend, "pop3s", mail__pop3s__ssl__checkserveridentity="false"))


def test_ssl_enable_makes_pop3_implicit_tls(tproxy, backend, certificates):
    backend.script = Pop3(tls=certificates.server_context(certificates.good))
    port = tproxy.add("mail", backend.host, backend.port, mail__pop3__ssl__enable="true")
    use(port)
    assert backend.session(0).tls_version


def test_capabilities_are_asked_again_inside_tls(tproxy, backend, certificates):
    """Capabilities are asked again inside TLS, because others may have changed the clear text."""
    backend.script = Pop3(stls=certificates.server_context(certificates.good))
    use(target(tproxy, backend, "stls"))
    assert backend.heard()[:3] == [b"CAPA", b"STLS", b"CAPA"]


def test_records_of_every_size(tproxy, backends, certificates):
    """Answers arrive in TLS records of 1 to 16384 octets."""
    message = b"Subject: sizes\r\n\r\n" + b"0123456789abcdef" * 8192 + b"\r\n"

    def retr(session):
        wire = b"+OK\r\n" + message + b".\r\n"
        size, at = 1, 0
        while at < len(wire):
            session.send(wire[at : at + size])
            at, size = at + size, size * 3 % 16411 or 1

    context = certificates.server_context(certificates.good)
    server = backends(Pop3(tls=context, replies={"RETR": retr}))
    port = target(tproxy, server, "pop3s")
    with RawClient(port) as client:
        client.command(b"STAT")
        assert client.retr(1) == message
