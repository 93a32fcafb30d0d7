"""Chains of certificates with any extensions, well-formed or not."""

import datetime
import ipaddress
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

NAME_CONSTRAINTS = "2.5.29.30"
SEQUENCE = 0x30
ATTRIBUTES = {
    "C": NameOID.COUNTRY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "CN": NameOID.COMMON_NAME,
    "emailAddress": NameOID.EMAIL_ADDRESS,
}


def der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    length = len(body).to_bytes(4, "big").lstrip(b"\0")
    head = bytes([len(body)]) if len(body) < 128 else bytes([0x80 | len(length)]) + length
    return bytes([tag]) + head + body


def name(text: str) -> x509.Name:
    """Returns the X.509 name of a text such as "O=One/CN=Two"."""
    pairs = [part.split("=", 1) for part in text.split("/") if part]
    return x509.Name([x509.NameAttribute(ATTRIBUTES[kind], value) for kind, value in pairs])


def base(text: str) -> bytes:
    """Returns the GeneralName of a subtree, given as "DNS:good.test", "IP:10.0.0.0/8", "DIR:O=One"
    ..."""
    kind, _, value = text.partition(":")
    match kind:
        case "IP":
            net = ipaddress.ip_network(value)
            return der(0x87, net.network_address.packed, net.netmask.packed)
        case "DIR":
            return der(0xA4, name(value).public_bytes())
        case "OTHER":  # the number N is the end of its object identifier, 1.2.3.N
            oid = der(0x06, bytes([0x2A, 0x03, int(value)]))
            return der(0xA0, oid, der(0xA0, der(0x0C, b"x")))
        case _:
            return der({"EMAIL": 0x81, "DNS": 0x82, "URI": 0x86, "ID": 0x88}[kind], value.encode())


def subtree(what: str | bytes, *bounds: bytes) -> bytes:
    return der(SEQUENCE, base(what) if isinstance(what, str) else what, *bounds)


@dataclass(frozen=True)
class Extension:
    oid: str
    value: bytes
    critical: bool = True


def constraints(permitted=(), excluded=(), critical: bool = True) -> Extension:
    """Returns name constraints. A string is a base, bytes are a whole subtree."""
    lists = []
    for tag, trees in (0xA0, permitted), (0xA1, excluded):
        whole = [tree if isinstance(tree, bytes) else subtree(tree) for tree in trees]
        if whole:
            lists.append(der(tag, *whole))
    return Extension(NAME_CONSTRAINTS, der(SEQUENCE, *lists), critical)


class Certificate:
    """A certificate and its key. `above` has signed it; None: it is self-signed."""

    def __init__(
        self,
        subject: str,
        above: "Certificate | None" = None,
        extensions: tuple[Extension, ...] = (),
        names: tuple[str, ...] = (),
        *,
        ca: bool = True,
        key=None,
        expired: bool = False,
        key_ids: bool = True,
        signer_key=None,
    ):
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.subject = name(subject)
        signer = signer_key or (above or self).key
        now = datetime.datetime.now(datetime.timezone.utc)
        day = datetime.timedelta(days=1)
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name((above or self).subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 9 * day)
            .not_valid_after(now - day if expired else now + 9 * day)
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
        )
        if key_ids:
            own = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
            other = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
            builder = builder.add_extension(own, critical=False)
            builder = builder.add_extension(other, critical=False)
        if names:
            value = der(SEQUENCE, *(self._alternative(text) for text in names))
            builder = builder.add_extension(
                x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), value), False
            )
        for extension in extensions:
            builder = builder.add_extension(
                x509.UnrecognizedExtension(
                    x509.ObjectIdentifier(extension.oid), extension.value
                ),
                extension.critical,
            )
        plain = isinstance(signer, ed25519.Ed25519PrivateKey)
        self.pem = (
            builder.sign(signer, None if plain else hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
            .decode()
        )

    @staticmethod
    def _alternative(text: str) -> bytes:
        kind, _, value = text.partition(":")
        if kind == "IP":
            return der(0x87, ipaddress.ip_address(value).packed)
        return base(text)

    @property
    def key_pem(self) -> str:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()


def pem(*certificates: Certificate) -> str:
    return "".join(certificate.pem for certificate in certificates)


def openssl_accepts(directory: Path, root: Certificate, chain: list[Certificate], host: str) -> bool:
    """Returns OpenSSL's verdict on a chain that begins with the server's certificate."""
    files = {"root": [root], "between": chain[1:], "own": chain[:1]}
    for file, list_ in files.items():
        (directory / file).write_text(pem(*list_))
    try:
        ipaddress.ip_address(host)
        identity = ["-verify_ip", host]
    except ValueError:
        identity = ["-verify_hostname", host]
    between = ["-untrusted", "between"] if chain[1:] else []
    command = ["openssl", "verify", "-CAfile", "root", *between, *identity, "own"]
    return subprocess.run(command, cwd=directory, capture_output=True, check=False).returncode == 0
