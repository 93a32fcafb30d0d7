"""A certificate authority for the tests, and the good and bad certificates that it issues."""

import datetime
import ssl
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import trustme
from cryptography import x509

GOOD_NAMES = ("localhost", "127.0.0.1", "pop.test")

# The hosts of the OAuth server's tenants, without and with client certificates, and of the other
# services.
SERVICE_NAMES = (
    "*.authentication.test",
    "*.authentication.cert.test",
    "*.accounts.ondemand.com",
    "*.services.test",
)


@dataclass
class ClientCertificate:
    """The certificate that a client without a secret shows."""

    name: str  # a line of the certificate's subject
    chain: str = field(repr=False)  # PEM: the certificate, then the intermediate ones
    key: str = field(repr=False)  # PEM


def end_of(file: Path) -> str:
    """Returns the end of the validity of the first certificate in a file, as RFC 3339 has it."""
    first = x509.load_pem_x509_certificates(file.read_bytes())[0]
    return first.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")


class Certificates:
    """Certificates, each as one PEM file with its key and chain. tproxy trusts those in ca_file;
    those in stranger_file have issued `untrusted`."""

    def __init__(self, directory: Path):
        self._directory = directory
        self._ca = trustme.CA(organization_name="tproxy tests")
        self._clients = trustme.CA(organization_name="a root for clients")
        self._broker = self._clients.create_child_ca()
        stranger = trustme.CA(organization_name="a stranger")
        self.ca_file = self._write("ca", self._ca.cert_pem.bytes())
        self.stranger_file = self._write("stranger", stranger.cert_pem.bytes())
        self.good = self._issue("good", self._ca, GOOD_NAMES)
        self.services = self._issue("services", self._ca, SERVICE_NAMES)
        self.good_rsa = self._issue("good-rsa", self._ca, GOOD_NAMES, key_type=trustme.KeyType.RSA)
        self.wrong_name = self._issue("wrong-name", self._ca, ("imap.test", "127.0.0.2"))
        self.untrusted = self._issue("untrusted", stranger, GOOD_NAMES)
        self.expired = self._issue(
            "expired",
            self._ca,
            GOOD_NAMES,
            not_after=datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc),
        )

    def _write(self, name: str, pem: bytes) -> Path:
        path = self._directory / f"{name}.pem"
        path.write_bytes(pem)
        path.chmod(0o644)
        return path

    def _issue(self, name: str, authority: trustme.CA, names, **options) -> Path:
        return self._write(
            name, authority.issue_cert(*names, **options).private_key_and_cert_chain_pem.bytes()
        )

    def client(self) -> ClientCertificate:
        """Returns a new client certificate, like those that a service broker issues."""
        name = str(uuid.uuid4())
        issued = self._broker.issue_cert(
            "client.test", common_name=name, key_type=trustme.KeyType.RSA
        )
        chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        return ClientCertificate(
            f"CN={name}", chain.decode(), issued.private_key_pem.bytes().decode()
        )

    def mutual_context(self) -> ssl.SSLContext:
        """Returns the context of a server that asks for a client's certificate and accepts any that
        its CA has signed."""
        context = self.server_context(self.services)
        self._clients.configure_trust(context)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    @staticmethod
    def server_context(certificate: Path, version=None) -> ssl.SSLContext:
        """Returns the context of a server. `version` is the only ssl.TLSVersion that it speaks."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        if version:
            context.minimum_version = context.maximum_version = version
        return context

    def client_context(self, shown: ClientCertificate | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        if shown:
            path = self._write(f"client-{uuid.uuid4()}", f"{shown.key}{shown.chain}".encode())
            context.load_cert_chain(path)
        return context
