"""A scripted mail server that records what its clients send."""

import base64
import contextlib
import fcntl
import hashlib
import socket
import ssl
import struct
import termios
import threading
from collections.abc import Callable

from harness.messages import on_the_wire
from harness.util import PATIENCE, Feed


class Gone(Exception):
    """The peer has closed or reset the connection."""


class Session:
    """One connection on the server's side."""

    def __init__(self, number: int, sock: socket.socket, commands: Feed):
        self.number = number
        self.commands: list[bytes] = []
        self.tls_version: str | None = None
        self.tls_resumed = False
        self.ended = threading.Event()
        self._sock = sock
        self._all_commands = commands
        self._input = b""
        self._unsent_before = 0

    def read_line(self) -> bytes:
        """Returns the next line without CRLF. Lines must end with CRLF."""
        while b"\r\n" not in self._input:
            self._input += self._receive()
        line, self._input = self._input.split(b"\r\n", 1)
        self.commands.append(line)
        self._all_commands.add((self.number, line))
        return line

    def send(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise Gone from error

    def hold(self) -> None:
        """Sends nothing more; reads until the peer closes."""
        while True:
            self.read_line()

    def handshake(self, context: ssl.SSLContext) -> None:
        assert not self._input, "the client sent data behind STLS"
        try:
            self._sock = context.wrap_socket(self._sock, server_side=True)
        except (OSError, ssl.SSLError) as error:
            raise Gone from error
        self.tls_version = self._sock.version()
        self.tls_resumed = bool(self._sock.session_reused)

    def wait_for_eof(self) -> None:
        """Reads the rest until the peer closes its side."""
        with contextlib.suppress(Gone):
            self.hold()

    def is_stalled(self) -> bool:
        """Returns whether there is something to send and the peer has taken nothing since the last
        call."""
        before, self._unsent_before = self._unsent_before, self._unsent()
        return 0 < before == self._unsent_before

    def _unsent(self) -> int:
        size = bytearray(4)
        fcntl.ioctl(self._sock, termios.TIOCOUTQ, size)
        return struct.unpack("i", size)[0]

    def half_close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()
        raise Gone

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.close()
        raise Gone

    def _receive(self) -> bytes:
        try:
            data = self._sock.recv(65536)
        except OSError as error:
            raise Gone from error
        if not data:
            raise Gone
        return data


def silent(session: Session) -> None:
    """Never replies."""
    session.hold()


def close(session: Session) -> None:
    session.close()


def reset(session: Session) -> None:
    session.reset()


Reply = bytes | Callable[[Session], None]


class Pop3:
    """A POP3 server. `replies` replaces the answer in one situation: to a command ("CAPA", "PASS",
    ...), to the line after a SASL challenge ("SASL"), at the start ("greeting"), and in place of
    the handshake after STLS or on a TLS port ("TLS"). `replies["*"]` is the answer to every command
    that has no other."""

    def __init__(
        self,
        user: str = "robot",
        password: str = "Scripted-Pa55word",
        messages: tuple[bytes, ...] = (b"Subject: one\r\n\r\nfirst\r\n",),
        greeting: bytes = b"+OK scripted server ready\r\n",
        capabilities: tuple[str, ...] = ("TOP", "UIDL", "USER", "SASL PLAIN"),
        tls: ssl.SSLContext | None = None,
        stls: ssl.SSLContext | None = None,
        replies: dict[str, Reply] | None = None,
    ):
        self.user = user
        self.password = password
        self.messages = list(messages)
        self.greeting = greeting
        self.capabilities = capabilities
        self.tls = tls
        self.stls = stls
        self.replies = replies or {}

    def __call__(self, session: Session) -> None:
        if self.tls:
            self._handshake(session, self.tls)
        self._say(session, "greeting", self.greeting)
        encrypted = bool(self.tls)
        user = None
        while True:
            line = session.read_line()
            word, _, argument = line.partition(b" ")
            command = word.decode("latin-1").upper()
            if command == "STLS" and self.stls and not encrypted:
                self._say(session, "STLS", b"+OK begin TLS\r\n")
                if self.replies.get("STLS", b"+OK")[:3] == b"+OK":
                    self._handshake(session, self.stls)
                    encrypted = True
                continue
            if command == "USER":
                user = argument
            self._say(session, command, self._answer(session, command, argument, user, encrypted))
            if command == "QUIT":
                session.close()

    def _say(self, session: Session, situation: str, usual: bytes) -> None:
        reply = self.replies.get(situation, usual)
        if callable(reply):
            reply(session)
        else:
            session.send(reply)

    def _handshake(self, session: Session, context: ssl.SSLContext) -> None:
        reply = self.replies.get("TLS")
        if callable(reply):
            reply(session)
        elif reply:
            session.send(reply)
            session.hold()
        else:
            session.handshake(context)

    def _answer(self, session, command, argument, user, encrypted) -> bytes:
        if command in self.replies:
            return b""
        if "*" in self.replies:
            return self.replies["*"]
        if command == "CAPA":
            stls = ["STLS"] if self.stls and not encrypted else []
            lines = [*self.capabilities, *stls, "."]
            return b"+OK\r\n" + b"".join(line.encode() + b"\r\n" for line in lines)
        if command == "AUTH":
            return self._auth(session, argument)
        if command == "USER":
            return b"+OK\r\n"
        if command == "PASS":
            good = user == self.user.encode() and argument == self.password.encode()
            return self._verdict(good)
        if command == "APOP":
            stamp = self.greeting[self.greeting.index(b"<") : self.greeting.index(b">") + 1]
            digest = hashlib.md5(stamp + self.password.encode()).hexdigest()
            return self._verdict(argument == f"{self.user} {digest}".encode())
        return self._transaction(command, argument)

    def _auth(self, session: Session, argument: bytes) -> bytes:
        mechanism, _, response = argument.partition(b" ")
        if mechanism.upper() != b"PLAIN":
            return b"-ERR mechanism not supported\r\n"
        if not response:
            session.send(b"+ \r\n")
            response = session.read_line()
            if "SASL" in self.replies:
                self._say(session, "SASL", b"")
                return b""
        expected = f"\0{self.user}\0{self.password}".encode()
        return self._verdict(base64.b64decode(response) == expected)

    def _verdict(self, good: bool) -> bytes:
        return b"+OK logged in\r\n" if good else b"-ERR [AUTH] wrong credentials\r\n"

    def _transaction(self, command: str, argument: bytes) -> bytes:
        sizes = [len(message) for message in self.messages]
        if command == "STAT":
            return f"+OK {len(sizes)} {sum(sizes)}\r\n".encode()
        if command == "LIST":
            listing = "".join(f"{n} {size}\r\n" for n, size in enumerate(sizes, 1))
            return f"+OK {len(sizes)} messages\r\n{listing}.\r\n".encode()
        if command == "RETR":
            return b"+OK here it is\r\n" + on_the_wire(self.messages[int(argument) - 1])
        if command in ("NOOP", "DELE", "RSET"):
            return b"+OK\r\n"
        if command == "QUIT":
            return b"+OK bye\r\n"
        return b"-ERR unknown command\r\n"


class Backend:
    """A listening socket with a script that runs in a thread for each connection."""

    host = "127.0.0.1"

    def __init__(self, script: Callable[[Session], None] | None = None):
        self.script = script or Pop3()
        self.sessions: list[Session] = []
        self.commands = Feed()  # pairs (number of the session, line)
        self._arrivals = Feed()  # addresses of the clients
        self._marks: set[tuple[str, int]] = set()
        self._failures: list[BaseException] = []
        self._listener = socket.create_server((self.host, 0), backlog=512)
        self._sockets: list[socket.socket] = []
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Backend":
        return self

    def __exit__(self, kind, *rest) -> None:
        self.stop()
        if kind is None and self._failures:
            raise self._failures[0]

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def connections(self) -> int:
        """Returns the number of connections so far, including those not yet accepted. They are
        accepted in order, so a connection of our own marks the end."""
        with socket.socket() as mark:
            mark.bind((self.host, 0))
            name = mark.getsockname()
            self._marks.add(name)
            mark.settimeout(PATIENCE)
            mark.connect((self.host, self.port))
            self._arrivals.wait(lambda peer: peer == name, "our own connection")
        return len(self.sessions)

    def session(self, number: int) -> Session:
        """Returns the number-th connection, counted from 0."""
        self._arrivals.wait(
            lambda peer: peer not in self._marks, f"connection {number}", count=number + 1
        )
        return self.sessions[number]

    def heard(self) -> list[bytes]:
        return [line for _, line in self.commands.all()]

    def wait_command(self, line: bytes, count: int = 1) -> None:
        self.commands.wait(
            lambda item: item[1].upper() == line.upper(), f"command {line!r}", count=count
        )

    def _accept(self) -> None:
        while True:
            try:
                sock, peer = self._listener.accept()
            except OSError:
                return
            if peer in self._marks:
                sock.close()
                self._arrivals.add(peer)
                continue
            session = Session(len(self.sessions), sock, self.commands)
            self.sessions.append(session)
            self._sockets.append(sock)
            self._arrivals.add(peer)
            threading.Thread(target=self._serve, args=(session,), daemon=True).start()

    def _serve(self, session: Session) -> None:
        try:
            self.script(session)
        except Gone:
            pass
        except BaseException as failure:
            self._failures.append(failure)
        finally:
            with contextlib.suppress(OSError):
                session._sock.close()
            session.ended.set()


class BlackHole:
    """A port whose accept queue is full, so that the kernel drops every further SYN."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0):
        self.host = host
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((host, port))
        self._listener.listen(0)
        self.port = self._listener.getsockname()[1]
        self._fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect((host, self.port))
            self._fillers.append(filler)
        probe = socket.socket()
        probe.settimeout(0.3)
        try:
            probe.connect((host, self.port))
            raise AssertionError("the black hole answers")
        except TimeoutError:
            pass
        finally:
            probe.close()

    def __enter__(self) -> "BlackHole":
        return self

    def __exit__(self, *exception) -> None:
        for sock in [self._listener, *self._fillers]:
            sock.close()
