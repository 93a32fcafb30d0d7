"""A certificate authority for the tests and the certificates, good and bad, that it issues."""

import datetime
import ssl
from pathlib import Path

import trustme

GOOD_NAMES = ("localhost", "127.0.0.1", "pop.test")


class Certificates:
    """ca_file is what tproxy trusts. Each certificate is one PEM file with key and chain."""

    def __init__(self, directory: Path):
        self._directory = directory
        self._ca = trustme.CA(organization_name="tproxy tests")
        stranger = trustme.CA(organization_name="a stranger")
        self.ca_file = self._write("ca", self._ca.cert_pem.bytes())
        self.good = self._issue("good", self._ca, GOOD_NAMES)
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

    @staticmethod
    def server_context(certificate: Path, version=None) -> ssl.SSLContext:
        """version: the only ssl.TLSVersion that the server speaks."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        if version:
            context.minimum_version = context.maximum_version = version
        return context

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca_file))
