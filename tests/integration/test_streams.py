"""Streams at their edges: urgent data."""

import fcntl
import signal
import socket
import struct
import termios

import pytest

from harness.backend import Pop3
from harness.clients import RawClient
from harness.util import until

# --- urgent data ---

# What telnet sends at Ctrl-C: IAC IP, IAC DO TIMING-MARK, IAC DM; the last byte is urgent.
INTERRUPT = b"\xff\xf4\xff\xfd\x06\xff\xf2"


def is_all_taken(sock: socket.socket) -> bool:
    """Has the peer's kernel everything that was sent?"""
    size = bytearray(4)
    fcntl.ioctl(sock, termios.TIOCOUTQ, size)
    return struct.unpack("i", size)[0] == 0


def say_while_stopped(tproxy, client, *pieces: bytes, end: bool = False) -> None:
    """tproxy finds all of it at once. Every second piece ends with urgent data."""
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
def served(request, tproxy, backend, certificates):
    """The port of a target whose mail server says -ERR to what it does not know."""
    tls = certificates.server_context(certificates.good) if request.param == "pop3s" else None
    backend.script = Pop3(tls=tls)
    return tproxy.add(
        "mail", backend.host, backend.port, mail__transport__protocol=request.param
    )


def test_urgent_data_does_not_stall(tproxy, backend, served):
    with RawClient(served) as client:
        assert client.command(b"STAT").startswith(b"+OK")
        say_while_stopped(tproxy, client, b"NOOP\r\n", INTERRUPT, b"NOOP\r\nNOOP\r\n")
        assert client.line() == b"+OK"
        assert client.line().startswith(b"-ERR")
        assert client.line() == b"+OK"
    assert backend.heard()[-3:] == [b"NOOP", INTERRUPT + b"NOOP", b"NOOP"]


def test_nothing_behind_urgent_data_is_lost(tproxy, backend, served):
    with RawClient(served) as client:
        assert client.command(b"STAT").startswith(b"+OK")
        say_while_stopped(
            tproxy, client, b"DELE 1\r\n", INTERRUPT, b"\r\nQUIT\r\n", end=True
        )
        assert client.rest().endswith(b"+OK bye\r\n")
    assert backend.heard()[-3:] == [b"DELE 1", INTERRUPT, b"QUIT"]


def test_urgent_data_before_the_login(tproxy, backend, served):
    """It makes its line an unknown command, and that is all."""
    with RawClient(served) as client:
        say_while_stopped(tproxy, client, b"NOOP\r\n", INTERRUPT, b"NOOP\r\nSTAT\r\nQUIT\r\n")
        answers = client.rest().splitlines()
    assert [answer[:4] for answer in answers] == [b"+OK", b"-ERR", b"+OK ", b"+OK "]
    assert backend.heard()[-2:] == [b"STAT", b"QUIT"]


def test_urgent_data_of_the_backend(tproxy, backends):
    """In the middle of a message, at full speed."""
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
