"""Special cases of streams: urgent data, clients that end their stream, slow readers."""

import fcntl
import signal
import socket
import struct
import termios
import threading
import time

import pytest

from harness.backend import Pop3
from harness.clients import RawClient
from harness.util import PATIENCE, until

# --- urgent data ---

# Telnet sends this at Ctrl-C: IAC IP, IAC DO TIMING-MARK, IAC DM; the last byte is urgent.
INTERRUPT = b"\xff\xf4\xff\xfd\x06\xff\xf2"


def is_all_taken(sock: socket.socket) -> bool:
    """Returns whether the peer's kernel has taken everything that was sent."""
    size = bytearray(4)
    fcntl.ioctl(sock, termios.TIOCOUTQ, size)
    return struct.unpack("i", size)[0] == 0


def say_while_stopped(tproxy, client, *pieces: bytes, end: bool = False) -> None:
    """Sends the pieces so that tproxy finds all at once. Every second one ends with urgent data."""
    tproxy.signal(signal.SIGSTOP)
    try:
        for number, piece in enumerate(pieces):
            client.sock.send(piece, socket.MSG_OOB if number % 2 else 0)
        if end:
            client.half_close()
        until(lambda: end or is_all_taken(client.sock), "the arrival")
    finally:
        tproxy.signal(signal.SIGCONT)


@pytest.fixture(params=["pop3", "pop3s"])
def serve(request, make_tproxy, backend, certificates):
    """Returns a function that starts a proxy for a mail server with or without TLS, and returns the
    proxy and the port."""

    def start(*arguments: str, **replies):
        tls = certificates.server_context(certificates.good) if request.param == "pop3s" else None
        backend.script = Pop3(tls=tls, replies=replies)
        tproxy = make_tproxy(*arguments)
        return tproxy, tproxy.add(
            "mail", backend.host, backend.port, mail__transport__protocol=request.param
        )

    return start


def test_urgent_data_does_not_stall(serve, backend):
    tproxy, port = serve()
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"+OK")
        say_while_stopped(tproxy, client, b"NOOP\r\n", INTERRUPT, b"NOOP\r\nNOOP\r\n")
        assert client.line() == b"+OK"
        assert client.line().startswith(b"-ERR")
        assert client.line() == b"+OK"
    assert backend.heard()[-3:] == [b"NOOP", INTERRUPT + b"NOOP", b"NOOP"]


def test_nothing_behind_urgent_data_is_lost(serve, backend):
    tproxy, port = serve()
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"+OK")
        say_while_stopped(
            tproxy, client, b"DELE 1\r\n", INTERRUPT, b"\r\nQUIT\r\n", end=True
        )
        assert client.rest().endswith(b"+OK bye\r\n")
    assert backend.heard()[-3:] == [b"DELE 1", INTERRUPT, b"QUIT"]


def test_urgent_data_before_the_login(serve, backend):
    """Urgent data makes its line an unknown command, and has no other effect."""
    tproxy, port = serve()
    with RawClient(port) as client:
        say_while_stopped(tproxy, client, b"NOOP\r\n", INTERRUPT, b"NOOP\r\nSTAT\r\nQUIT\r\n")
        answers = client.rest().splitlines()
    assert [answer[:4] for answer in answers] == [b"+OK", b"-ERR", b"+OK ", b"+OK "]
    assert backend.heard()[-2:] == [b"STAT", b"QUIT"]


def test_urgent_data_of_the_backend(tproxy, backends):
    """The backend sends urgent data in the middle of a message, at full speed."""
    line = b"x" * 76 + b"\r\n"
    text = line * 20000

    def retr(session) -> None:
        session.send(b"+OK\r\n")
        for at in range(0, len(text), 100 * len(line)):
            session.send(text[at : at + 99 * len(line)])
            session._sock.send(text[at + 99 * len(line) : at + 100 * len(line)], socket.MSG_OOB)
        session.send(b".\r\n")

    server = backends(Pop3(replies={"RETR": retr}))
    port = tproxy.add("mail", server.host, server.port)
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"+OK")
        assert client.retr(1) == text
        assert client.command(b"QUIT") == b"+OK bye"


# --- clients that end their stream ---

MESSAGE = b"+OK\r\nSubject: precious\r\n\r\nwords\r\n.\r\n"


def slow_batch(session) -> None:
    """At RETR, processes all commands up to QUIT before it sends anything, and needs 3 s."""
    while session.read_line() != b"QUIT":
        pass
    time.sleep(3)
    session.send(MESSAGE + b"+OK deleted\r\n+OK bye\r\n")
    session.close()


@pytest.mark.parametrize(
    "packets", [[b"RETR 1\r\nDELE 1\r\nQUIT\r\n"], [b"RETR 1\r\nDELE 1\r\nQU", b"IT\r\n"]]
)
def test_message_that_is_deleted_is_delivered(serve, packets):
    """A server that deletes before it sends may take any time."""
    _, port = serve(RETR=slow_batch)
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"+OK")
        for packet in packets:
            client.send(packet)
            until(lambda: is_all_taken(client.sock), "the arrival")
        client.half_close()
        assert client.rest() == MESSAGE + b"+OK deleted\r\n+OK bye\r\n"


def test_maildrop_of_a_client_that_has_gone_is_released(serve, backend):
    """When the answer is overdue, tproxy disconnects from the server, so that the maildrop is
    released."""
    tproxy, port = serve("--answer-timeout", "4", RETR=lambda session: session.hold())
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"+OK")
        client.send(b"RETR 1\r\n")
        client.half_close()
        assert client.rest() == b""
    assert backend.session(0).ended.wait(PATIENCE)
    tproxy.summary("mail")
    assert b"QUIT" not in backend.heard()


def test_client_that_breaks_off_after_its_end_is_missed_at_once(serve, backend):
    """The server neither answers nor closes, so nothing else would end the session for minutes."""
    over = threading.Event()
    tproxy, port = serve(QUIT=lambda session: over.wait(PATIENCE))
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"+OK")
        client.send(b"QUIT\r\n")
        backend.wait_command(b"QUIT")
        client.half_close()
        client.reset()
    assert tproxy.summary("mail")["result"] == "client vanished"
    over.set()


# --- slow readers ---


def test_slow_reader_is_not_idle(serve):
    """The client takes bytes all the time, while the relay itself has nothing to do for longer than
    the idle time."""
    text = (b"x" * 76 + b"\r\n") * 20000
    _, port = serve("--idle-timeout", "4", RETR=b"+OK\r\n" + text + b".\r\n")
    with RawClient(port, rcvbuf=8192) as client:
        assert client.command(b"STAT").startswith(b"+OK")
        client.send(b"RETR 1\r\n")
        got = b""
        slow = time.monotonic() + 12
        while time.monotonic() < slow:
            got += client.sock.recv(5000)
            time.sleep(0.1)
        while not got.endswith(b"\r\n.\r\n"):
            piece = client.sock.recv(1 << 20)
            assert piece, f"cut after {len(got)} bytes"
            got += piece
        assert got == b"+OK\r\n" + text + b".\r\n"
        assert client.command(b"QUIT") == b"+OK bye"


def test_reader_that_stops_is_idle(serve, backend):
    tproxy, port = serve("--idle-timeout", "1", RETR=b"+OK\r\n" + b"x" * (4 << 20) + b"\r\n.\r\n")
    with RawClient(port, rcvbuf=8192) as client:
        assert client.command(b"STAT").startswith(b"+OK")
        client.send(b"RETR 1\r\n")
        assert client.sock.recv(1000)
        assert backend.session(0).ended.wait(PATIENCE)
        assert tproxy.summary("mail")["result"] == "idle"


# --- the end of a message ---

# The number of bytes that are copied before a message counts as large, and the size of the pipe
# that then carries it.
COPIED, PIPE = 65536, 131072
MARKER = b"\r\n.\r\n"


def test_end_marker_is_not_cut(tproxy, backends):
    """Messages end where a pipe is full. Some clients do not recognise an end marker that arrives
    in two pieces. tproxy is stopped until it can find the whole end of the message."""
    sizes = [COPIED + PIPE + k for k in range(-1, 7)] * 3
    turn = [threading.Event() for _ in range(3)]

    def retr(session) -> None:
        # The first piece makes tproxy read much at a time; the second makes it copy again.
        for event, size in zip(turn, (4 * PIPE, 100, sizes[session.number]), strict=True):
            assert event.wait(PATIENCE)
            session.send(b"x" * (size - len(MARKER)) + (MARKER if event is turn[2] else b"xxxxx"))
        until(lambda: is_all_taken(session._sock), "the arrival")
        tproxy.signal(signal.SIGCONT)

    def take(client, size: int) -> bytes:
        got = b""
        while len(got) < size:
            got += client.sock.recv(1 << 20)
            assert not 0 < size - len(got) < len(MARKER), f"{size - len(got)} of {size} come late"
        return got

    server = backends(Pop3(replies={"RETR": retr}))
    port = tproxy.add("mail", server.host, server.port)
    for size in sizes:
        with RawClient(port, rcvbuf=1 << 20) as client:
            assert client.command(b"STAT").startswith(b"+OK")
            client.send(b"RETR 1\r\n")
            for event, piece in ((turn[0], 4 * PIPE), (turn[1], 100)):
                event.set()
                while piece:
                    piece -= len(client.sock.recv(piece))
            tproxy.signal(signal.SIGSTOP)
            turn[2].set()
            assert take(client, size).endswith(b"x" + MARKER)
            for event in turn:
                event.clear()
            assert client.command(b"QUIT") == b"+OK bye"
