"""TLS servers for unit tests: makes certificates in DIR, then serves until its input ends.

Prints one line "NAME PORT" for each server, and "ready". The first line of a client is a command:
ECHO n, SEND n, CLOSE (after one byte, with close_notify), DROP (after one byte, without), INFO, WHO
(the client's common name), or GET, the first of many HTTP requests, which are answered with their
number.
"""

import contextlib
import random
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import BinaryIO

GOOD = "subjectAltName=DNS:mail.test,DNS:*.wild.test,IP:127.0.0.1,IP:2001:db8::25"
OLD = ("20200101000000Z", "20200131000000Z")
TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def openssl(directory: Path, *args: str) -> None:
    subprocess.run(["openssl", *args], cwd=directory, check=True, capture_output=True)


def make_ca(directory: Path, name: str, subject: str) -> None:
    openssl(directory, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.crt", "-days", "30",
            "-subj", subject, "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip


def make_cert(directory: Path, name: str, extensions: str, ca: str = "ca", key: str = "P-256",
              subject: str = "/CN=mail.test", dates: tuple[str, str] = ("", "")) -> None:  # fmt: skip
    """Makes a certificate signed by `ca`.

    `key` is a curve, the bits of RSA, or another kind. Dates are YYYYMMDD000000Z; empty: valid now.
    """
    if "basicConstraints" not in extensions:
        extensions += "\nbasicConstraints=CA:FALSE"
    kind = ["-newkey", f"rsa:{key}" if key.isdecimal() else key]
    if key.startswith("P-"):
        kind = ["-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{key}"]
    openssl(directory, "req", "-new", *kind, "-nodes", "-keyout", f"{name}.key",
            "-out", f"{name}.csr", "-subj", subject)  # fmt: skip
    (directory / f"{name}.ext").write_text(f"{extensions}\n")
    (directory / f"{name}.db").write_text("")
    (directory / f"{name}.cnf").write_text(
        "[ca]\ndefault_ca=x\n[x]\npolicy=p\nunique_subject=no\nrand_serial=yes\n"
        f"database={name}.db\nnew_certs_dir=.\ndefault_md=sha256\n[p]\ncommonName=optional\n"
    )
    start, end = dates
    openssl(directory, "ca", "-batch", "-notext", "-config", f"{name}.cnf", "-in", f"{name}.csr",
            "-out", f"{name}.crt", "-cert", f"{ca}.crt", "-keyfile", f"{ca}.key",
            "-extfile", f"{name}.ext", *(["-startdate", start] if start else []),
            *(["-enddate", end] if end else ["-days", "20"]))  # fmt: skip


def make_clients(directory: Path) -> None:
    """Makes certificates that clients show, with their keys in every notation."""
    for name, key in ("ec", "P-256"), ("ec384", "P-384"), ("rsa", "2048"), ("ed", "ed25519"):
        make_cert(directory, f"{name}client", "", key=key, subject=f"/CN={name} client")
    make_cert(directory, "stranger", "", ca="other", subject="/CN=stranger")
    make_cert(directory, "deepclient", "", ca="middle", subject="/CN=deep client")
    files = ("deepclient.crt", "middle.crt", "ca.crt")
    whole = "".join((directory / name).read_text() for name in files)
    (directory / "deepclient.whole").write_text(whole)
    openssl(directory, "ec", "-in", "ecclient.key", "-out", "ecclient.sec1")
    openssl(directory, "rsa", "-in", "rsaclient.key", "-traditional", "-out", "rsaclient.pkcs1")
    openssl(directory, "pkcs8", "-topk8", "-in", "ecclient.key", "-passout", "pass:x",
            "-out", "ecclient.locked")  # fmt: skip
    openssl(directory, "rsa", "-in", "rsaclient.key", "-traditional", "-aes128",
            "-passout", "pass:x", "-out", "rsaclient.locked")  # fmt: skip


def make_all(directory: Path) -> None:
    make_ca(directory, "ca", "/O=Test/CN=Test CA")
    make_ca(directory, "other", "/CN=Other CA")
    make_cert(directory, "good", GOOD)
    make_cert(directory, "rsa", GOOD, key="2048")
    make_cert(directory, "expired", GOOD, dates=OLD)
    make_cert(directory, "future", GOOD, dates=("20990101000000Z", "20990131000000Z"))
    make_cert(directory, "unknown", GOOD, ca="other")
    make_cert(directory, "cnonly", "")
    make_cert(directory, "weak", GOOD, key="1024")
    make_cert(directory, "purpose", GOOD + "\nextendedKeyUsage=clientAuth")
    make_cert(directory, "many", "subjectAltName=" + ",".join(f"DNS:h{i}.test" for i in range(40)))
    between = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign"
    make_cert(directory, "middle", between, subject="/CN=Middle CA")
    make_cert(directory, "chain", GOOD, ca="middle")
    make_cert(directory, "old", between, subject="/CN=Old CA", dates=OLD)
    make_cert(directory, "oldchain", GOOD, ca="old")
    make_clients(directory)
    make_cert(directory, "strange", f"{between}\n1.2.3.4=critical,ASN1:NULL", ca="other",
              subject="/CN=Strange CA")  # fmt: skip
    make_cert(directory, "below", GOOD, ca="strange")
    strange = [(directory / f"{name}.crt").read_text() for name in ("other", "strange", "ca")]
    (directory / "strange.pem").write_text("".join(strange))
    for name, issuer in ("chain", "middle"), ("oldchain", "old"):
        alone, above = directory / f"{name}.crt", directory / f"{issuer}.crt"
        (directory / f"{name}.whole").write_text(alone.read_text() + above.read_text())
    openssl(directory, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "self.key",
            "-out", "self.crt", "-days", "30", "-subj", "/CN=self", "-addext", GOOD,
            "-addext", "basicConstraints=critical,CA:FALSE")  # fmt: skip
    good, own = (directory / "good.crt").read_text(), (directory / "self.crt").read_text()
    ca = (directory / "ca.crt").read_text()
    (directory / "junk.pem").write_text(
        f"# words\n{good[:200]}\n-----END CERTIFICATE-----\n{ca}\n-----BEGIN CERTIFICATE-----\n"
        f"!!!\n-----END CERTIFICATE-----\n{own}\n-----BEGIN CERTIFICATE-----\n"
    )
    (directory / "empty.pem").write_text("no certificates here\n")
    openssl(directory, "x509", "-in", "ca.crt", "-outform", "DER", "-out", "ca.der")


def serve_http(stream: BinaryIO) -> None:
    count, line = 1, b"GET"
    while line:
        while stream.readline().strip():
            pass
        body = f"request {count}\n".encode()
        stream.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        stream.flush()
        count, line = count + 1, stream.readline()


def serve(connection: ssl.SSLSocket) -> None:
    stream = connection.makefile("rwb")
    command, _, argument = stream.readline().decode().strip().partition(" ")
    match command:
        case "ECHO":
            data = stream.read(int(argument))
            stream.write(data)
        case "SEND":
            stream.write(random.Random(int(argument)).randbytes(int(argument)))
        case "INFO":
            stream.write(f"{connection.version()} {int(connection.session_reused)}\n".encode())
        case "WHO":
            names = dict(part[0] for part in connection.getpeercert()["subject"])
            stream.write(f"{names['commonName']}\n".encode())
        case "GET":
            serve_http(stream)
        case "CLOSE" | "DROP":
            stream.write(b"x")
    stream.flush()
    if command == "DROP":
        connection.shutdown(socket.SHUT_RDWR)
    else:
        connection.unwrap()


def handle(context: ssl.SSLContext, connection: socket.socket) -> None:
    connection.settimeout(60)
    try:
        with context.wrap_socket(connection, server_side=True) as secured:
            serve(secured)
    except (OSError, ValueError):
        pass  # the client meant to cause this


def accept_all(context: ssl.SSLContext, listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=handle, args=(context, connection), daemon=True).start()


def start(directory: Path, name: str, cert: str, low: ssl.TLSVersion, high: ssl.TLSVersion,
          tickets: bool = True, ciphers: str = "DEFAULT:@SECLEVEL=0", curve: str = "",
          want_client: bool = False) -> None:  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(ciphers)
    context.load_cert_chain(directory / cert, (directory / cert).with_suffix(".key"))
    context.minimum_version, context.maximum_version = low, high
    if not tickets:
        context.options |= ssl.OP_NO_TICKET
    if curve:
        # Some Pythons accept only NIST's curves here. OpenSSL prefers X25519 anyway.
        with contextlib.suppress(ssl.SSLError if curve == "X25519" else ()):
            context.set_ecdh_curve(curve)
    if want_client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(directory / "ca.crt")
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept_all, args=(context, listener), daemon=True).start()
    print(name, listener.getsockname()[1], flush=True)


def main() -> None:
    directory = Path(sys.argv[1])
    make_all(directory)
    start(directory, "any", "good.crt", TLS12, TLS13)
    start(directory, "v12", "good.crt", TLS12, TLS12)
    start(directory, "v12cache", "good.crt", TLS12, TLS12, tickets=False)
    start(directory, "v13", "good.crt", TLS13, TLS13)
    start(directory, "v13stateful", "good.crt", TLS13, TLS13, tickets=False)
    start(directory, "p384", "good.crt", TLS12, TLS13, curve="secp384r1")
    start(directory, "x25519", "good.crt", TLS12, TLS13, curve="X25519")
    start(directory, "client12", "good.crt", TLS12, TLS12, want_client=True)
    start(directory, "client13", "good.crt", TLS13, TLS13, want_client=True)
    start(directory, "rsa", "rsa.crt", TLS12, TLS12, ciphers="ECDHE-RSA-AES256-SHA384")
    for name in ("expired", "future", "unknown", "cnonly", "weak", "purpose", "many", "self",
                 "below"):  # fmt: skip
        start(directory, name, f"{name}.crt", TLS12, TLS13)
    start(directory, "chain", "chain.whole", TLS12, TLS13)
    start(directory, "halfchain", "chain.crt", TLS12, TLS13)
    start(directory, "oldchain", "oldchain.whole", TLS12, TLS13)
    print("ready", flush=True)
    sys.stdin.read()


main()
