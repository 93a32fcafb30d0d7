"""Mail clients: a raw one that sends exactly what a test wants, poplib, and curl."""

import base64
import contextlib
import poplib
import socket
import ssl
import struct
import subprocess

from harness.util import PATIENCE

# poplib refuses lines above 2048 octets by default.
poplib._MAXLINE = 1 << 20


class RawClient:
    """A client that sends and receives bytes."""

    def __init__(self, port: int, greet: bool = True, host: str = "127.0.0.1", rcvbuf: int = 0):
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sock.settimeout(PATIENCE)
        self.sock.connect((host, port))
        self._input = bytearray()
        self.greeting = self.line() if greet else b""

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *exception) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def line(self) -> bytes:
        """Returns the next line without CRLF. Raises EOFError at the end of the stream."""
        while b"\r\n" not in self._input:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(bytes(self._input))
            self._input += data
        end = self._input.index(b"\r\n")
        line = bytes(self._input[:end])
        del self._input[: end + 2]
        return line

    def lines(self) -> list[bytes]:
        """Returns the lines up to a lone dot, still dot-stuffed."""
        found = []
        while (line := self.line()) != b".":
            found.append(line)
        return found

    def command(self, command: bytes) -> bytes:
        self.send(command + b"\r\n")
        return self.line()

    def multi(self, command: bytes) -> list[bytes]:
        """Sends a command. Returns the lines of its positive multi-line answer."""
        status = self.command(command)
        assert status.startswith(b"+OK"), (command, status)
        return self.lines()

    def retr(self, number: int) -> bytes:
        """Returns message `number` without dot-stuffing."""
        status = self.command(b"RETR %d" % number)
        assert status.startswith(b"+OK"), status
        searched = 0
        while not (end := self._message_end(searched)):
            searched = len(self._input)
            data = self.sock.recv(262144)
            assert data, "the stream ends within a message"
            self._input += data
        wire = bytes(self._input[: end - 3])
        del self._input[:end]
        return b"".join(
            line[1:] if line.startswith(b".") else line for line in wire.splitlines(True)
        )

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def rest(self) -> bytes:
        """Returns all bytes up to the end of the stream. A reset is an error."""
        while True:
            data = self.sock.recv(262144)
            if not data:
                rest = bytes(self._input)
                self._input.clear()
                return rest
            self._input += data

    def reset(self) -> None:
        """Resets the connection, like a client that vanishes."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def _message_end(self, searched: int) -> int:
        """Returns the end of the message at the start of the input; 0 if it is not complete."""
        if self._input.startswith(b".\r\n"):
            return 3
        found = self._input.find(b"\r\n.\r\n", max(0, searched - 4))
        return found + 5 if found >= 0 else 0


def is_closed(port: int) -> bool:
    """Returns whether nobody listens on the port. A listener that closes while the connection is made
    resets it: the next one tells."""
    try:
        with RawClient(port, greet=False):
            return False
    except ConnectionResetError:
        return False
    except ConnectionRefusedError:
        return True


def plain(user: str = "anyone", password: str = "anything", authzid: str = "") -> bytes:
    """Returns the SASL PLAIN message in base64."""
    return base64.b64encode(f"{authzid}\0{user}\0{password}".encode())


def xoauth2(user: str = "anyone", token: str = "no-token") -> bytes:
    return base64.b64encode(f"user={user}\x01auth=Bearer {token}\x01\x01".encode())


def with_poplib(port: int, user: str = "anyone", password: str = "anything") -> poplib.POP3:
    client = poplib.POP3("127.0.0.1", port, timeout=PATIENCE)
    client.user(user)
    client.pass_(password)
    return client


def fetch_with_poplib(client: poplib.POP3, number: int) -> bytes:
    _, lines, _ = client.retr(number)
    return b"".join(line + b"\r\n" for line in lines)


# Each way in which curl can log in. It uses USER and PASS only if no SASL mechanism is offered.
CURL_LOGINS = {
    "no credentials": [],
    "whatever it likes": ["--user", "anyone:anything"],
    "AUTH PLAIN, two lines": ["--user", "anyone:anything", "--login-options", "AUTH=PLAIN"],
    "AUTH PLAIN, one line": [
        *["--user", "anyone:anything", "--login-options", "AUTH=PLAIN", "--sasl-ir"]
    ],
    "AUTH LOGIN, two lines": ["--user", "anyone:anything", "--login-options", "AUTH=LOGIN"],
    "AUTH LOGIN, one line": [
        *["--user", "anyone:anything", "--login-options", "AUTH=LOGIN", "--sasl-ir"]
    ],
    "AUTH XOAUTH2, two lines": ["--user", "anyone:", "--oauth2-bearer", "no-token"],
    "AUTH XOAUTH2, one line": ["--user", "anyone:", "--oauth2-bearer", "no-token", "--sasl-ir"],
    "with an authorization identity": [
        *["--user", "anyone:anything", "--sasl-authzid", "other", "--login-options", "AUTH=PLAIN"]
    ],
}


def curl(port: int, path: str, *options: str) -> subprocess.CompletedProcess:
    """Runs curl pop3://127.0.0.1:port/path. The caller checks returncode, stdout and stderr."""
    command = ["curl", "--silent", "--show-error", "--max-time", str(PATIENCE)]
    return subprocess.run(
        [*command, *options, f"pop3://127.0.0.1:{port}/{path}"], capture_output=True
    )


def tls_client_hello() -> bytes:
    """Returns the first bytes of a client that expects TLS on the port."""
    outgoing = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(
        ssl.MemoryBIO(), outgoing, server_hostname="localhost"
    )
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()
