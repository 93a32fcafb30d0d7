"""Chains of certificates get OpenSSL's verdict; if tproxy is stricter or milder the row gives the
reason."""

import re
import shutil
import ssl
import subprocess
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from harness.backend import Pop3
from harness.chains import (
    NAME_CONSTRAINTS,
    SEQUENCE,
    Certificate,
    Extension,
    base,
    constraints,
    der,
    openssl_accepts,
    pem,
    subtree,
)
from harness.clients import RawClient

HOST = "mail.good.test"
NOT_PERMITTED = "is not permitted by the name constraints of CA certificate"
EXCLUDED = "is excluded by the name constraints of CA certificate"
NOT_COMPARED = "cannot be compared with the name constraints of CA certificate"
BAD = "have a bad address or mask, a minimum or a maximum"
MALFORMED = "has name constraints that are malformed"

MINIMUM, MAXIMUM = der(0x80, b"\1"), der(0x81, b"\3")
ZERO = der(0x80, b"\0")
UNKNOWN = "1.2.3.4"


@dataclass(frozen=True)
class Row:
    """A chain and its verdict. `above` are the extensions of the CAs, the root's first."""

    title: str
    above: tuple[tuple[Extension, ...], ...]
    says: str = ""  # the reason of the refusal; empty: the chain is accepted
    names: tuple[str, ...] = (f"DNS:{HOST}",)
    host: str = HOST
    subject: str = "O=Good/CN=server"
    own: tuple[Extension, ...] = ()
    between: str = "O=Good/CN=CA {n}"
    stricter: str = ""  # the reason why OpenSSL accepts it
    milder: str = ""  # the reason why OpenSSL refuses it


def root(*extensions):
    return (tuple(extensions),)


def below(*extensions):
    """Returns extensions of a CA below the root."""
    return ((), tuple(extensions))


def deep(first, second):
    return ((), (first,), (second,))


PERMIT = constraints(["DNS:good.test"])
PLAIN = constraints(["DNS:good.test"], critical=False)
ROWS = [
    # DNS names
    Row("permitted on root", root(PERMIT)),
    Row("permitted below", below(PERMIT)),
    Row("permitted, not critical", below(PLAIN)),
    Row("other on root", root(constraints(["DNS:other.test"])), NOT_PERMITTED),
    Row("other below", below(constraints(["DNS:other.test"])), NOT_PERMITTED),
    Row("other, not critical", below(constraints(["DNS:other.test"], critical=False)), NOT_PERMITTED),
    Row("excluded", below(constraints(excluded=["DNS:good.test"])), EXCLUDED),
    Row("excluded on root", root(constraints(excluded=["DNS:mail.good.test"], critical=False)), EXCLUDED),
    Row("other excluded", below(constraints(excluded=["DNS:other.test"]))),
    Row("permitted and excluded", below(constraints(["DNS:good.test"], ["DNS:mail.good.test"])), EXCLUDED),
    Row("permitted, other excluded", below(constraints(["DNS:good.test"], ["DNS:x.good.test"]))),
    Row("one of several", below(constraints(["DNS:a.test", "DNS:good.test"]))),
    Row("none of several", below(constraints(["DNS:a.test", "DNS:b.test"])), NOT_PERMITTED),
    Row("two CAs agree", deep(constraints(["DNS:test"]), PERMIT)),
    Row("upper CA forbids", deep(constraints(["DNS:other.test"]), PERMIT), NOT_PERMITTED),
    Row("lower CA forbids", deep(PERMIT, constraints(["DNS:x.good.test"])), NOT_PERMITTED),
    Row("root forbids for two", (tuple([constraints(["DNS:x.test"])]), (PERMIT,), ()), NOT_PERMITTED),
    Row("case", below(constraints(["DNS:GOOD.Test"]))),
    Row("case of the name", below(constraints(excluded=["DNS:good.test"])), EXCLUDED,
        ("DNS:MAIL.GOOD.TEST",)),
    Row("label boundary", below(constraints(["DNS:ood.test"])), NOT_PERMITTED),
    Row("the whole name", below(constraints(["DNS:mail.good.test"]))),
    Row("leading dot", below(constraints(["DNS:.good.test"]))),
    Row("leading dot, domain itself", below(constraints(["DNS:.mail.good.test"])), NOT_PERMITTED),
    Row("leading dot excluded", below(constraints(excluded=["DNS:.good.test"])), EXCLUDED),
    Row("empty base permits all", below(constraints(["DNS:"]))),
    Row("empty base excludes all", below(constraints(excluded=["DNS:"])), EXCLUDED),
    Row("wildcard permitted", below(PERMIT), names=("DNS:*.good.test",)),
    Row("wildcard, leading dot", below(constraints(["DNS:.good.test"])), names=("DNS:*.good.test",)),
    Row("wildcard beyond", below(constraints(["DNS:mail.good.test"])), NOT_PERMITTED,
        ("DNS:*.good.test",)),
    Row("wildcard excluded", below(constraints(excluded=["DNS:good.test"])), EXCLUDED,
        ("DNS:*.good.test",)),
    Row("wildcard over excluded", below(constraints(excluded=["DNS:mail.good.test"])), EXCLUDED,
        ("DNS:*.good.test",), stricter="the wildcard stands for the excluded host, too"),
    Row("wildcard beside excluded", below(constraints(excluded=["DNS:a.mail.good.test"])),
        names=("DNS:*.good.test",)),
    Row("a second name", below(PERMIT), NOT_PERMITTED, (f"DNS:{HOST}", "DNS:x.other.test")),
    Row("no DNS name constrained", below(constraints(["IP:10.0.0.0/8"]))),
    # addresses
    Row("address", below(constraints(["IP:127.0.0.0/8"])), names=("IP:127.0.0.1",), host="127.0.0.1"),
    Row("one address", below(constraints(["IP:127.0.0.1/32"])), names=("IP:127.0.0.1",),
        host="127.0.0.1"),
    Row("address beyond", below(constraints(["IP:10.0.0.0/8"])), NOT_PERMITTED, ("IP:127.0.0.1",),
        "127.0.0.1"),
    Row("odd mask", below(constraints(["IP:127.0.0.0/9"])), names=("IP:127.0.0.1",), host="127.0.0.1"),
    Row("odd mask beyond", below(constraints(["IP:127.128.0.0/9"])), NOT_PERMITTED,
        ("IP:127.0.0.1",), "127.0.0.1"),
    Row("address excluded", below(constraints(excluded=["IP:127.0.0.0/8"])), EXCLUDED,
        ("IP:127.0.0.1",), "127.0.0.1"),
    Row("all addresses excluded", below(constraints(["DNS:good.test"], ["IP:0.0.0.0/0", "IP:::/0"]))),
    Row("all excluded, one there", below(constraints(["DNS:good.test"], ["IP:0.0.0.0/0", "IP:::/0"])),
        EXCLUDED, (f"DNS:{HOST}", "IP:::1")),
    Row("version 6", below(constraints(["IP:2001:db8::/32"])),
        names=(f"DNS:{HOST}", "IP:2001:db8::25")),
    Row("version 6 beyond", below(constraints(["IP:2001:db8::/32"])), NOT_PERMITTED,
        (f"DNS:{HOST}", "IP:2001:db9::25")),
    Row("version 4 where 6 is permitted", below(constraints(["IP:2001:db8::/32"])), NOT_PERMITTED,
        ("IP:127.0.0.1",), "127.0.0.1"),
    Row("mask with a hole", below(constraints([subtree(der(0x87, bytes([127, 0, 0, 1, 255, 0, 0, 255])))])),
        BAD, ("IP:127.0.0.1",), "127.0.0.1", stricter="it is not a mask (RFC 4632 section 3.1)"),
    Row("address too short", below(constraints([subtree(der(0x87, bytes([127, 0, 0, 1])))])), BAD,
        ("IP:127.0.0.1",), "127.0.0.1"),
    Row("address too short, none asked", below(constraints([subtree(der(0x87, bytes(4)))]))),
    # other forms
    Row("subject", below(constraints(["DIR:O=Good"])), between="O=Root/CN=CA {n}"),
    Row("subject, case and blanks", below(constraints(["DIR:O= gOOD "]))),
    Row("subject beyond", below(constraints(["DIR:O=Other"])), NOT_PERMITTED),
    Row("subject of a CA beyond", deep(constraints(["DIR:O=Good"]), PERMIT), NOT_PERMITTED,
        between="O=Root/CN=CA {n}"),
    Row("subject too short", below(constraints(["DIR:O=Good/CN=server/CN=x"])), NOT_PERMITTED),
    Row("subject excluded", below(constraints(excluded=["DIR:O=Good/CN=server"])), EXCLUDED),
    Row("empty directory name", below(constraints(["DIR:"]))),
    Row("no subject", below(constraints(["DIR:O=Other"])), subject=""),
    Row("mail address in the subject", below(constraints(["EMAIL:good.test"])), NOT_PERMITTED,
        subject="O=Good/emailAddress=me@other.test"),
    Row("mail host", below(constraints(["EMAIL:good.test"])), names=(f"DNS:{HOST}", "EMAIL:me@good.test")),
    Row("mail domain", below(constraints(["EMAIL:.test"])), names=(f"DNS:{HOST}", "EMAIL:me@good.test")),
    Row("mailbox", below(constraints(["EMAIL:me@good.test"])), names=(f"DNS:{HOST}", "EMAIL:me@GOOD.test")),
    Row("other mailbox", below(constraints(["EMAIL:me@good.test"])), NOT_PERMITTED,
        (f"DNS:{HOST}", "EMAIL:Me@good.test")),
    Row("mail address without host", below(constraints(["EMAIL:good.test"])), "malformed",
        (f"DNS:{HOST}", "EMAIL:me")),
    Row("URI, none there", below(constraints(["URI:good.test"]))),
    Row("URI", below(constraints(["URI:good.test"])), NOT_COMPARED,
        (f"DNS:{HOST}", "URI:https://good.test/"), stricter="URIs are not compared; mail servers have none"),
    Row("registered ID, none there", below(constraints(["ID:x"]))),
    Row("registered ID", below(constraints(["ID:x"])), NOT_COMPARED, (f"DNS:{HOST}", "ID:x")),
    Row("other name", below(constraints(excluded=["OTHER:1"], critical=False)), NOT_COMPARED,
        (f"DNS:{HOST}", "OTHER:1")),
    Row("other name of another kind", below(constraints(["OTHER:1"])), names=(f"DNS:{HOST}", "OTHER:2")),
    # the extension itself
    Row("minimum 0", below(constraints([subtree("DNS:good.test", ZERO)]))),
    Row("minimum", below(constraints([subtree("DNS:good.test", MINIMUM)])), BAD),
    Row("maximum", below(constraints([subtree("DNS:good.test", MAXIMUM)])), BAD),
    Row("maximum of another form", below(constraints([subtree("IP:10.0.0.0/8", MAXIMUM)]))),
    Row("empty", below(Extension(NAME_CONSTRAINTS, der(SEQUENCE)))),
    Row("empty list", below(Extension(NAME_CONSTRAINTS, der(SEQUENCE, der(0xA0))))),
    Row("not DER", below(Extension(NAME_CONSTRAINTS, b"\x30\x05\xa0")), MALFORMED),
    Row("not DER, not critical", below(Extension(NAME_CONSTRAINTS, b"x", False)), MALFORMED),
    Row("more behind it", below(Extension(NAME_CONSTRAINTS, der(SEQUENCE) + b"\5\0")), MALFORMED,
        stricter="what is behind the extension is not looked at"),
    Row("unknown form", below(constraints([subtree(der(0x8A, b"x"))])), MALFORMED),
    Row("on the server's own", below(), own=(constraints(["DNS:other.test"]),)),
    # other critical extensions
    Row("unknown, not critical", below(Extension(UNKNOWN, b"\5\0", False))),
    Row("unknown below", below(Extension(UNKNOWN, b"\5\0")),
        "CA certificate CA 1 has the critical extension 1.2.3.4, which is not supported"),
    Row("unknown on root", root(Extension(UNKNOWN, b"\5\0")),
        "but cannot be used: it has the critical extension 1.2.3.4, which is not supported"),
    Row("unknown on its own", below(), "it has the critical extension 1.2.3.4, which is not supported",
        own=(Extension(UNKNOWN, b"\5\0"),)),
    Row("policies", below(Extension("2.5.29.32", der(SEQUENCE, der(SEQUENCE, der(6, b"\x2a\3\4")))))),
    Row("policy constraints", below(Extension("2.5.29.36", der(SEQUENCE, ZERO))),
        "has the critical extension 2.5.29.36 (policyConstraints), which is not supported",
        stricter="a policy is required, and policies are not judged"),
    Row("any policy inhibited", below(Extension("2.5.29.54", der(2, b"\0")))),
]  # fmt: skip


class Signers:
    """Signs certificates with two keys, because creating keys takes time."""

    def __init__(self):
        self.ca, self.server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))

    def chain(self, row: Row, number: int) -> tuple[Certificate, list[Certificate]]:
        above, certificates = None, []
        for n, extensions in enumerate(row.above):
            subject = row.between.format(n=n) if n else f"CN=root {number}"
            above = Certificate(subject, above, extensions, key=self.ca)
            certificates.insert(0, above)
        own = Certificate(row.subject, above, row.own, row.names, ca=False, key=self.server)
        return certificates[-1], [own, *certificates[:-1]]


def server_context(directory, name: str, chain: list[Certificate]) -> ssl.SSLContext:
    file = directory / f"{name}.pem"
    file.write_text(chain[0].key_pem + pem(*chain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


class World:
    """A proxy that trusts some roots, and servers that show chains."""

    def __init__(self, make_tproxy, backends, directory):
        self._make, self._backends, self.directory = make_tproxy, backends, directory
        self.proxy = None

    def trust(self, *roots: Certificate, text: str = "") -> None:
        hosts, file = self.directory / "hosts", self.directory / "roots.pem"
        hosts.write_text(f"127.0.0.1 {HOST}\n")
        file.write_text(text or pem(*roots))
        for path in hosts, file:
            path.chmod(0o644)
        self.proxy = self._make("--ca-file", str(file), "--hosts", str(hosts))

    def serve(self, name: str, context: ssl.SSLContext, host: str = HOST) -> int:
        server = self._backends(Pop3(tls=context))
        kind = {"mail__transport__protocol": "pop3s"}
        return self.proxy.add(name, host, server.port, **kind)

    def says(self, name: str, chain: list[Certificate], host: str = HOST) -> str:
        """Returns the answer to STAT that a client gets."""
        return ask(self.serve(name, server_context(self.directory, name, chain), host))


def ask(port: int) -> str:
    with RawClient(port) as client:
        return client.command(b"STAT").decode().strip()


@pytest.fixture
def world(make_tproxy, backends, directory) -> World:
    return World(make_tproxy, backends, directory)


def test_name_constraints(world):
    """Every row has OpenSSL's verdict, except where it gives a reason."""
    signers = Signers()
    chains = [signers.chain(row, number) for number, row in enumerate(ROWS)]
    world.trust(*(root for root, _ in chains))
    wrong = []
    for number, (row, (top, chain)) in enumerate(zip(ROWS, chains, strict=True)):
        said = world.says(f"row-{number}", chain, row.host)
        good = said.startswith("+OK")
        if good == bool(row.says) or row.says not in said:
            wrong.append(f"{row.title}: {said}")
        judge = openssl_accepts(world.directory, top, chain, row.host)
        if (judge != good) != bool(row.stricter or row.milder):
            wrong.append(f"{row.title}: OpenSSL {'accepts' if judge else 'refuses'}")
    assert not wrong, "\n".join(wrong)


def test_message_names_certificate_and_name(world):
    signers = Signers()
    top, chain = signers.chain(Row("", below(constraints(["DNS:other.test"]))), 1)
    world.trust(top)
    assert (
        f"certificate of {HOST} refused: its name {HOST} is not permitted by the name constraints"
        " of CA certificate CA 1"
    ) in world.says("one", chain)


def test_unusable_ca_leaves_the_others(world):
    """The unusable CA is reported at the start, and again if a server needs it."""
    strange = Certificate("CN=Strange", None, (Extension(UNKNOWN, b"\5\0"),))
    edwards = Certificate("CN=Edwards", key=ed25519.Ed25519PrivateKey.generate())
    good = Certificate("CN=Good")
    names = (f"DNS:{HOST}",)
    torn = good.pem.replace(good.pem.splitlines()[3], "!!!")
    world.trust(text=torn + pem(strange, edwards, good))
    for what in (
        "1 (no name) cannot be used: its base64 is damaged or cut off",
        "2 (Strange) cannot be used: it has the critical extension 1.2.3.4, which is not supported",
        "3 (Edwards) cannot be used: it is signed with an algorithm that is not supported",
    ):
        world.proxy.wait_log(f"{world.directory}/roots.pem: certificate {what}", level="warn")
    chain = [Certificate("CN=x", good, (), names, ca=False)]
    assert world.says("good", chain).startswith("+OK")
    said = world.says("strange", [Certificate("CN=x", strange, (), names, ca=False)])
    assert "issuer Strange is in " in said
    assert "roots.pem, but cannot be used: it has the critical extension 1.2.3.4" in said
    said = world.says("edwards", [Certificate("CN=x", edwards, (), names, ca=False)])
    assert "it is signed with an algorithm that is not supported" in said


def test_unreadable_certificate_of_the_server(world):
    """An unreadable certificate that is not needed has no effect; one that is needed is
    reported."""
    good = Certificate("CN=Good")
    edwards = Certificate("CN=Edwards", good, key=ed25519.Ed25519PrivateKey.generate())
    names = (f"DNS:{HOST}",)
    world.trust(good)
    chain = [Certificate("CN=x", good, (), names, ca=False), edwards]
    assert world.says("spare", chain).startswith("+OK")
    said = world.says("needed", [Certificate("CN=x", edwards, (), names, ca=False), edwards])
    assert "is signed with an algorithm that is not supported" in said


# --- which chain ---


def leaf(above: Certificate, **options) -> Certificate:
    return Certificate("CN=x", above, (), (f"DNS:{HOST}",), ca=False, **options)


@pytest.mark.parametrize("key_ids", [True, False])
def test_two_intermediates_of_one_name(world, key_ids):
    """tproxy uses the second certificate if the first has another key, has expired, or leads to no
    root."""
    top, stranger = Certificate("CN=Top", key_ids=key_ids), Certificate("CN=Stranger")
    right = Certificate("CN=Between", top, key_ids=key_ids)
    others = {
        "key": Certificate("CN=Between", top, key_ids=key_ids),
        "expired": Certificate("CN=Between", top, key=right.key, expired=True, key_ids=key_ids),
        "cross": Certificate("CN=Between", stranger, key=right.key, key_ids=key_ids),
        "names": Certificate("CN=Between", top, (constraints(["DNS:other.test"]),), key=right.key,
                             key_ids=key_ids),
    }  # fmt: skip
    world.trust(top)
    own = leaf(right, key_ids=key_ids)
    for name, wrong in others.items():
        for order, chain in ("first", [wrong, right]), ("second", [right, wrong]):
            said = world.says(f"{name}-{order}", [own, *chain])
            assert said.startswith("+OK"), f"{name} {order}: {said}"
    assert world.says("all", [own, *others.values(), right]).startswith("+OK")


def test_two_levels_of_equal_names(world):
    top = Certificate("CN=Top", key_ids=False)
    upper = [Certificate("CN=Upper", top, key_ids=False) for _ in range(2)]
    lower = [Certificate("CN=Lower", upper[1], key_ids=False) for _ in range(2)]
    world.trust(top)
    chain = [leaf(lower[1], key_ids=False), *lower, *upper]
    assert world.says("twins", chain).startswith("+OK")


def test_expired_root_beside_a_cross_signed_one(world):
    """A trusted root has expired, but another trusted root has signed the same CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    old, new = Certificate("CN=Old", key=key, expired=True), Certificate("CN=New")
    cross = Certificate("CN=Old", new, key=key)
    world.trust(old, new)
    assert world.says("cross", [leaf(cross), cross]).startswith("+OK")
    assert "CA certificate Old expired on " in world.says("alone", [leaf(old)])


def test_any_order(world):
    top = Certificate("CN=Top")
    upper = Certificate("CN=Upper", top)
    lower = Certificate("CN=Lower", upper)
    world.trust(top)
    assert world.says("order", [leaf(lower), top, upper, lower]).startswith("+OK")


def test_no_chain_is_good(world):
    """The message describes the chain in the order in which it was sent."""
    top = Certificate("CN=Top", key_ids=False)
    wrong = [Certificate("CN=Between", top, key_ids=False) for _ in range(9)]
    world.trust(top)
    right = Certificate("CN=Between", top, key_ids=False)
    said = world.says("none", [leaf(right, key_ids=False), *wrong])
    assert "it is not signed by the CA certificate Between that came with it" in said


@pytest.mark.parametrize("between, good", [(8, True), (9, False)])
def test_chain_that_is_too_long(world, between, good):
    top = Certificate("CN=Top")
    chain = [top]
    for n in range(between):
        chain.insert(0, Certificate(f"CN=CA {n}", chain[0]))
    world.trust(top)
    said = world.says("long", [leaf(chain[0]), *chain[:-1]])
    assert said.startswith("+OK") == good
    too_long = "its chain is too long: there are more than 8 CA certificates between it and a trusted"
    assert good or too_long in said


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("octets", [15_000, 16_384, 40_000])
def test_certificates_that_are_too_large(world, version, octets):
    top = Certificate("CN=Top")
    own = Certificate("CN=x", top, (Extension(UNKNOWN, bytes(octets), False),), (f"DNS:{HOST}",),
                      ca=False)  # fmt: skip
    world.trust(top)
    context = server_context(world.directory, "large", [own])
    context.minimum_version = context.maximum_version = version
    said = ask(world.serve("large", context))
    if octets == 15_000:
        assert said.startswith("+OK")
    else:
        found = re.search(r"the server's Certificate message of (\d+) octets is too long: at most"
                          r" 16384 are possible", said)  # fmt: skip
        assert found, said
        assert octets < int(found[1]) < octets + 1000


# --- words ---


def test_address_as_a_dns_name(world):
    """An address in a DNS name looks like an IP address but does not count."""
    top = Certificate("CN=Top")
    own = Certificate("CN=x", top, (), ("DNS:127.0.0.1",), ca=False)
    world.trust(top)
    assert (
        "it has 127.0.0.1 as a DNS name; an address has to stand in it as an IP address"
    ) in world.says("address", [own], "127.0.0.1")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_server_demands_a_client_certificate(world, version):
    top = Certificate("CN=Top")
    world.trust(top)
    context = server_context(world.directory, "demand", [leaf(top)])
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=top.pem)
    assert "client certificate" in ask(world.serve("demand", context))


class SServer:
    """OpenSSL's s_server, which sends the lines that it reads, and a KeyUpdate for the line K."""

    def __init__(self, directory, own: Certificate):
        file = directory / "server.pem"
        file.write_text(own.key_pem + own.pem)
        words = "-accept 127.0.0.1:0 -naccept 1 -tls1_3 -crlf -cert".split()
        self._process = subprocess.Popen(
            [shutil.which("openssl"), "s_server", *words, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.port = int(self.wait(r"^ACCEPT [\d.]*:(\d+)$")[1])

    def __enter__(self) -> "SServer":
        return self

    def __exit__(self, *exception) -> None:
        self._process.kill()
        self._process.communicate()

    def wait(self, pattern: str) -> re.Match:
        for line in self._process.stdout:
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"no {pattern}")

    def say(self, *lines: str) -> None:
        self._process.stdin.write("".join(f"{line}\n" for line in lines))
        self._process.stdin.flush()


KEY_UPDATE = "the server wants to change its keys (KeyUpdate of TLS 1.3), which is not supported"


def test_key_update_in_the_login(world):
    top = Certificate("CN=Top")
    world.trust(top)
    with SServer(world.directory, leaf(top)) as server:
        entry = world.proxy.add("update", HOST, server.port, mail__transport__protocol="pop3s")
        with RawClient(entry) as client:
            client.send(b"STAT\r\n")
            server.wait("CIPHER")
            server.say("+OK hello")
            server.wait("^CAPA")
            server.say("K")
            assert KEY_UPDATE in client.line().decode()


def test_key_update_in_the_mailbox(world):
    """The client is disconnected without a QUIT, and the log gives the reason."""
    top = Certificate("CN=Top")
    world.trust(top)
    with SServer(world.directory, leaf(top)) as server:
        entry = world.proxy.add("update", HOST, server.port, mail__transport__protocol="pop3s")
        with RawClient(entry) as client:
            client.send(b"STAT\r\n")
            server.wait("CIPHER")
            server.say("+OK hello")
            for command, *answer in (
                ("CAPA", "+OK", "USER", "."),
                ("USER", "+OK"),
                ("PASS", "+OK"),
                ("STAT", "+OK 0 0"),
            ):
                server.wait(f"^{command}")
                server.say(*answer)
            assert client.line() == b"+OK 0 0"
            server.say("K")
            assert client.rest() == b""
    world.proxy.wait_log(f"the connection to the mail server broke: {KEY_UPDATE}", level="info")
    assert world.proxy.summary("update")["result"] == "backend vanished"
