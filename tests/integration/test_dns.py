"""Name resolution with a real name server and a scripted one."""

import contextlib

import pytest

from harness import dns
from harness.backend import BlackHole, Pop3
from harness.clients import RawClient


def served(port: int) -> None:
    with RawClient(port) as client:
        assert client.command(b"STAT").startswith(b"+OK 1 ")
        assert client.command(b"QUIT").startswith(b"+OK")


@pytest.mark.parametrize("name", ["pop.test", "alias.test", "POP.test.", "pop", "pop.sub"])
def test_real_name_server(make_tproxy, backend, directory, name):
    """An address, an alias, another spelling, and names that the search list completes are
    found."""
    records = {"pop.test": ["127.0.0.1"], "pop.sub.test": ["127.0.0.1"]}
    with dns.Dnsmasq(records, {"alias.test": "pop.test"}) as server:
        conf = dns.resolv_conf(directory, server.port, extra="search nowhere.test test")
        tproxy = make_tproxy("--resolv-conf", str(conf))
        served(tproxy.add("mail", name, backend.port))


def test_dead_address_costs_little(make_tproxy, backend, directory):
    """One of two addresses never answers: the other is tried soon."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(BlackHole("127.0.0.2", backend.port))
        records = {"pop.test": ["127.0.0.2", "127.0.0.1"]}
        server = stack.enter_context(dns.Dnsmasq(records))
        conf = dns.resolv_conf(directory, server.port)
        tproxy = make_tproxy("--resolv-conf", str(conf))
        port = tproxy.add(
            "mail", "pop.test", backend.port, **{"mail.pop3.connectiontimeout": "9000"}
        )
        for _ in range(6):
            served(port)


def test_refused_address_is_followed_by_the_next(make_tproxy, backend, directory):
    with dns.Dnsmasq({"pop.test": ["127.0.0.3", "127.0.0.1", "127.0.0.2"]}) as server:
        conf = dns.resolv_conf(directory, server.port)
        tproxy = make_tproxy("--resolv-conf", str(conf))
        served(tproxy.add("mail", "pop.test", backend.port))


def test_hosts_file_comes_first(make_tproxy, backend, directory):
    hosts = directory / "hosts"
    hosts.write_text("# comment\n127.0.0.1\tmx.test  pop.test # here\n::1 other.test\n")
    with dns.ScriptedDns(dns.addresses("192.0.2.1")) as server:
        conf = dns.resolv_conf(directory, server.port)
        tproxy = make_tproxy("--resolv-conf", str(conf), "--hosts", str(hosts))
        served(tproxy.add("mail", "Pop.Test", backend.port))
        assert server.queries.all() == []


def test_truncated_answer_is_asked_for_over_tcp(make_tproxy, backend, directory):
    with dns.ScriptedDns(dns.truncated(dns.addresses("127.0.0.1"))) as server:
        conf = dns.resolv_conf(directory, server.port)
        tproxy = make_tproxy("--resolv-conf", str(conf))
        served(tproxy.add("mail", "pop.test", backend.port))
        assert ("tcp", "pop.test", "A") in server.queries.all()


def test_false_answers_are_ignored(make_tproxy, backend, backends, directory):
    """Datagrams with a wrong id, or about another name, are ignored."""
    answer = dns.spoofed(dns.addresses("127.0.0.1"), dns.addresses("127.0.0.9"))
    with dns.ScriptedDns(answer) as server:
        conf = dns.resolv_conf(directory, server.port)
        tproxy = make_tproxy("--resolv-conf", str(conf))
        served(tproxy.add("mail", "pop.test", backend.port))
        logs = tproxy.everything_said()
        assert b"127.0.0.9" not in logs


def test_silent_name_server_is_followed_by_the_next(make_tproxy, backend, directory):
    with dns.ScriptedDns(dns.silent) as first, dns.ScriptedDns(
        dns.addresses("127.0.0.1")
    ) as second:
        conf = dns.resolv_conf(directory, first.port, second.port)
        tproxy = make_tproxy("--resolv-conf", str(conf))
        served(tproxy.add("mail", "pop.test", backend.port))
        assert len(first.queries) > 0


def test_lost_packet_costs_little(make_tproxy, backend, directory):
    """The question is repeated long before the timeout in resolv.conf, because clients would not
    wait."""
    with dns.ScriptedDns(dns.lost_first(dns.addresses("127.0.0.1"))) as server:
        conf = dns.resolv_conf(directory, server.port, extra="options timeout:30 attempts:2")
        tproxy = make_tproxy("--resolv-conf", str(conf))
        served(tproxy.add("mail", "pop.test", backend.port))
        assert server.queries.all().count(("udp", "pop.test", "A")) == 2


def test_failure_over_tcp_says_so(make_tproxy, backend, directory):
    """The name server answers over UDP, so the message has to say that TCP fails."""
    with dns.ScriptedDns(dns.truncated(dns.garbage)) as server:
        conf = dns.resolv_conf(directory, server.port)
        tproxy = make_tproxy("--resolv-conf", str(conf))
        with RawClient(tproxy.add("mail", "pop.test", backend.port)) as client:
            answer = client.command(b"STAT")
        assert answer.startswith(b"-ERR [SYS/TEMP] ")
        assert b"failed over TCP, after a truncated answer" in answer


def test_answer_is_remembered(make_tproxy, backend, directory):
    with dns.ScriptedDns(dns.addresses("127.0.0.1")) as server:
        conf = dns.resolv_conf(directory, server.port)
        tproxy = make_tproxy("--resolv-conf", str(conf))
        port = tproxy.add("mail", "pop.test", backend.port)
        served(port)
        asked = len(server.queries)
        for _ in range(5):
            served(port)
        assert len(server.queries) == asked


def test_name_with_only_an_ipv6_address(make_tproxy, directory, backends):
    """The address is tried and refuses, and the failure contains it."""
    server = backends(Pop3())
    with dns.ScriptedDns(dns.addresses("::1")) as names:
        conf = dns.resolv_conf(directory, names.port)
        tproxy = make_tproxy("--resolv-conf", str(conf))
        port = tproxy.add("mail-of-example", "pop.test", server.port)
        with RawClient(port) as client:
            answer = client.command(b"STAT")
        assert answer.startswith(b"-ERR [SYS/TEMP] ") and b"[::1]" in answer
    assert server.connections() == 0
