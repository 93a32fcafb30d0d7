"""Clients that keep places without using them neither keep others out nor fill the log."""

import contextlib
import os
import re
import signal

import pytest

from harness import backend as peer
from harness.backend import Pop3
from harness.clients import RawClient
from harness.tproxy import Tproxy
from harness.util import free_port, is_root, until

TOO_MANY = rb"^-ERR \[SYS/TEMP\] too many connections$"


def busy(port: int) -> RawClient:
    client = RawClient(port)
    assert client.command(b"STAT").startswith(b"+OK 1 ")
    return client


def turned_away(client: RawClient) -> bool:
    """Returns whether the next line tells the client that it has lost its place."""
    return bool(re.match(TOO_MANY, client.line())) and client.rest() == b""


# --- places ---


def test_silent_clients_of_two_targets_do_not_keep_out_a_third(make_tproxy, backend):
    """The client that has been silent longest loses its place, whichever its target is."""
    tproxy = make_tproxy("--max-sessions", "8")
    first, second, third = (tproxy.add(name, backend.host, backend.port) for name in "abc")
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(RawClient((first, second)[n % 2])) for n in range(8)]
        for client in silent[:3]:
            stack.enter_context(busy(third))
            assert turned_away(client)
        for client in silent[3:]:
            assert client.command(b"NOOP").startswith(b"+OK")
    assert tproxy.metric("tproxy_connections_refused_total") == 3


@pytest.mark.parametrize("said", [b"", b"CAPA\r\n", b"NOOP\r\n", b"nonsense\r\n", b"US", b"AUTH\r\n"])
def test_talk_without_a_login_is_silence(make_tproxy, backend, said):
    """Silent clients also lose their places within one target, which may have half of the
    sessions."""
    tproxy = make_tproxy("--max-sessions", "4")
    port = tproxy.add("mail", backend.host, backend.port)
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(RawClient(port)) for _ in range(2)]
        for client in silent:
            client.send(said)
            if said.endswith(b"\n"):
                client.line()
        for client in silent:
            stack.enter_context(busy(port))
            assert client.rest().endswith(b"-ERR [SYS/TEMP] too many connections\r\n")
        assert re.match(TOO_MANY, stack.enter_context(RawClient(port)).greeting)


@pytest.mark.parametrize("said", [b"STAT\r\n", b"USER a\r\n", b"AUTH PLAIN\r\n", b"APOP a b\r\n"])
def test_login_keeps_its_place(make_tproxy, backends, said):
    stuck = backends(Pop3(replies={"AUTH": peer.silent}))
    tproxy = make_tproxy("--max-sessions", "4")
    port = tproxy.add("mail", stuck.host, stuck.port)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(port)) for _ in range(2)]
        for number, client in enumerate(clients, 1):
            client.send(said)
            tproxy.wait_log("backend: none -> finding the destination", count=number)
        for _ in range(3):
            assert re.match(TOO_MANY, stack.enter_context(RawClient(port)).greeting)


def test_client_whose_command_was_not_read_yet_keeps_its_place(make_tproxy, backend):
    """A client whose command tproxy had no time to read does not count as silent."""
    tproxy = make_tproxy("--max-sessions", "6")
    port = tproxy.add("mail", backend.host, backend.port)
    tproxy.signal(signal.SIGSTOP)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(port, greet=False)) for _ in range(4)]
        for client in clients:
            client.send(b"STAT\r\nQUIT\r\n")
        tproxy.signal(signal.SIGCONT)
        answers = [client.rest() for client in clients]
    served = [answer for answer in answers if re.match(rb"\+OK .*\r\n\+OK 1 ", answer)]
    assert len(served) >= 3, answers


def test_unread_bytes_spare_a_client_once(make_tproxy, backend):
    """Unread bytes spare a client only once."""
    tproxy = make_tproxy("--max-sessions", "4")
    port = tproxy.add("mail", backend.host, backend.port)
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            talker = stack.enter_context(RawClient(port))
            talker.sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(1000):
                    talker.sock.send(b"NOOP\r\n" * 10000)
        until(lambda: is_served(port), "a place")


def is_served(port: int) -> bool:
    with contextlib.suppress(OSError, EOFError), RawClient(port) as client:
        return client.command(b"STAT").startswith(b"+OK 1 ")
    return False


@pytest.mark.skipif(not is_root(), reason="looks into /proc of another user")
def test_clients_that_were_refused_take_few_descriptors(make_tproxy, backend):
    """Refused clients neither read nor close; each would otherwise keep a descriptor for two
    seconds."""
    tproxy = make_tproxy("--max-sessions", "2", "--log-level", "info")
    port = tproxy.add("mail", backend.host, backend.port)
    with contextlib.ExitStack() as stack:
        stack.enter_context(busy(port))
        for _ in range(400):
            refused = stack.enter_context(RawClient(port))
            assert re.match(TOO_MANY, refused.greeting)
            assert len(os.listdir(f"/proc/{tproxy.pid}/fd")) < 64 + 32


def test_silent_clients_give_way_before_descriptors_run_out(program, directory, backend):
    limited = type(program).__new__(type(program))
    limited.path = program.path
    limited.wrapper = (*program.wrapper, "prlimit", "--nofile=40:40")
    with Tproxy(limited, directory, "--max-sessions", "1000") as tproxy:
        port = tproxy.add("mail", backend.host, backend.port)
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(RawClient(port)) for _ in range(60)]
            assert turned_away(silent[0])
            assert silent[-1].command(b"NOOP").startswith(b"+OK")
            # A login needs a descriptor for the mail server, too.
            with busy(port), busy(port):
                pass
            lines = [line["msg"] for line in tproxy.logs.all()]
            assert not any("too many open files" in line for line in lines)


# --- the log ---


def stop(tproxy: Tproxy) -> list[str]:
    """Ends the program and returns all its lines."""
    tproxy.signal(signal.SIGTERM)
    tproxy.wait()
    tproxy.wait_log("stopped")
    return [line["msg"] for line in tproxy.logs.all()]


def test_repeated_lines_are_summed_up(make_tproxy, backend):
    """The first line is written at once, then a count; every line is counted."""
    tproxy = make_tproxy("--max-sessions", "2", "--log-level", "info")
    port = tproxy.add("mail", backend.host, backend.port)
    other = tproxy.add("other", "127.0.0.1", free_port())
    with busy(port):
        for _ in range(100):
            with RawClient(port) as client:
                assert re.match(TOO_MANY, client.greeting)
    for _ in range(30):
        with RawClient(other) as client:
            assert client.command(b"STAT").startswith(b"-ERR [SYS/TEMP]")
            client.command(b"QUIT")
            client.rest()
    for request in (b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x00") * 10:
        with RawClient(other) as client:
            client.send(request)
            client.rest()
    lines = stop(tproxy)
    for text, count in {
        "client refused:": 100,
        "login failed (connect):": 30,
        "the client speaks HTTP": 10,
        "the client speaks TLS": 10,
    }.items():
        about = [line for line in lines if line.startswith(text)]
        assert len(about) == 2, about
        assert f"({count - 1} more of the same in the last " in about[1]
    ends = [line for line in tproxy.logs.all() if line["msg"].startswith("session ended")]
    assert sorted(line["target"] for line in ends) == ["mail", "other", "other"]
    about = [line["msg"] for line in ends if line["target"] == "other"]
    assert "(29 more of the same in the last " in about[1]


def test_sessions_that_log_in_have_a_line_each(make_tproxy, backend):
    tproxy = make_tproxy("--log-level", "info")
    port = tproxy.add("mail", backend.host, backend.port)
    for _ in range(20):
        with busy(port) as client:
            client.command(b"QUIT")
            client.rest()
    assert stop(tproxy).count("session ended") == 20
