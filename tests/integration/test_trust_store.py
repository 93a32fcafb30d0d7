"""A destination's own trust store: certificates that are trusted in place of all others."""

import base64

import pytest
from test_tls import VERSIONS, target, use

from harness.backend import Pop3
from harness.clients import RawClient
from harness.destination_service import certificates_of
from harness.tproxy import destination


def der(pem: bytes) -> bytes:
    """Returns the first certificate of a PEM file."""
    return base64.b64decode(b"".join(pem.split(b"-----")[2].split()))


def store(file: bytes, name: str = "mail.pem") -> dict[str, object]:
    """Returns what a destination has of a trust store."""
    return {"TrustStoreLocation": name, "certificates": certificates_of({name: file})}


def is_refused(port: int) -> None:
    """The mail server's certificate is not trusted."""
    with RawClient(port) as client:
        answer = client.command(b"STAT")
    assert answer.startswith(b"-ERR [SYS/PERM]")
    assert b"is not among the certificates of TrustStoreLocation" in answer


@pytest.fixture
def stranger(certificates) -> bytes:
    """The certificate of a CA that tproxy does not trust by itself."""
    return certificates.stranger_file.read_bytes()


@pytest.fixture
def usual(certificates) -> bytes:
    """The certificate of the CA that tproxy trusts."""
    return certificates.ca_file.read_bytes()


@pytest.fixture
def strange(backend, certificates):
    """A mail server with a certificate of that stranger."""
    backend.script = Pop3(tls=certificates.server_context(certificates.untrusted))
    return backend


@pytest.mark.parametrize("name", ["mail.pem", "mail.CRT", "mail.cer", "mail.der"])
def test_certificate_of_a_private_ca(tproxy, strange, stranger, name):
    """A PEM file with one certificate, or a DER file."""
    file = der(stranger) if name == "mail.der" else stranger
    use(target(tproxy, strange, "pop3s", **store(file, name)))


def test_answer_of_the_service(tproxy, strange, stranger):
    """A destination in the form of the Destination service's answer, and STLS."""
    strange.script = Pop3(stls=strange.script.tls)
    files = store(stranger)
    inner = destination(
        "mail",
        strange.host,
        strange.port,
        mail__pop3__starttls__required="true",
        TrustStoreLocation=files["TrustStoreLocation"],
    )
    tproxy.write(
        {"destinationConfiguration": inner, "certificates": files["certificates"]}, "mail.json"
    )
    use(tproxy.port("mail"))


def test_one_of_several_certificates(tproxy, strange, stranger, usual):
    use(target(tproxy, strange, "pop3s", **store(usual + stranger)))


def test_check(make_tproxy, stranger):
    """`tproxy check` judges the store as the running program does."""
    tproxy = make_tproxy()
    for name in ("mail.pem", "mail.p12"):
        tls = {"mail__transport__protocol": "pop3s"}
        tproxy.write(destination(name, "127.0.0.1", 995, **tls, **store(stranger, name)))
    done = tproxy.program.run("check", str(tproxy.directory))
    lines = (done.stdout + done.stderr).splitlines()
    assert [line for line in lines if "mail.pem" in line and "ok" in line], lines
    assert [line for line in lines if "is a key store" in line and "TrustStoreInvalid" in line]


def test_without_the_store(tproxy, strange):
    port = target(tproxy, strange, "pop3s")
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"-ERR [SYS/PERM]")


def test_another_store(tproxy, strange, usual):
    is_refused(target(tproxy, strange, "pop3s", **store(usual)))


def test_in_place_of_the_usual_certificates(tproxy, backend, certificates, stranger):
    """A certificate that tproxy trusts by itself does not count for a destination with a store."""
    backend.script = Pop3(tls=certificates.server_context(certificates.good))
    use(target(tproxy, backend, "pop3s", name="usual"))
    is_refused(target(tproxy, backend, "pop3s", name="own", **store(stranger)))


def test_name_is_verified(make_tproxy, strange, stranger, directory):
    hosts = directory / "hosts"
    hosts.write_text("127.0.0.1 other.test\n")
    hosts.chmod(0o644)
    tproxy = make_tproxy("--hosts", str(hosts))
    port = target(tproxy, strange, "pop3s", host="other.test", **store(stranger))
    with RawClient(port) as client:
        assert b"it is for localhost" in client.command(b"STAT")


@pytest.mark.parametrize("version", VERSIONS)
def test_change(tproxy, backend, certificates, stranger, usual, version):
    """A changed store takes effect for the next login. No TLS session is resumed that was verified
    with the earlier one."""
    context = certificates.server_context(certificates.untrusted, VERSIONS[version])
    backend.script = Pop3(tls=context)

    def change(file: bytes) -> None:
        tls = {"mail__transport__protocol": "pop3s"}
        start = len(tproxy.logs)
        tproxy.write(destination("mail", backend.host, backend.port, **tls, **store(file)))
        tproxy.wait_log("default/mail: changed", start=start)

    port = target(tproxy, backend, "pop3s", **store(stranger))
    use(port)
    use(port)
    change(usual)
    is_refused(port)
    change(usual + stranger)
    use(port)
    use(port)
    assert [session.tls_resumed for session in backend.sessions if session.tls_version] == [
        False,
        True,
        False,
        True,
    ]


def test_stores_share_no_tls_session(tproxy, strange, stranger, usual):
    """A session that was verified with one store does not help a destination with another."""
    use(target(tproxy, strange, "pop3s", name="one", **store(stranger)))
    is_refused(target(tproxy, strange, "pop3s", name="other", **store(usual)))
    use(target(tproxy, strange, "pop3s", name="both", **store(usual + stranger)))
    resumed = [session.tls_resumed for session in strange.sessions if session.tls_version]
    assert not any(resumed)
