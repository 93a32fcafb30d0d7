"""What a user of one namespace may try against the others, row by row. docs/security.md names these
tests."""

import json
import re

import pytest

from harness.backend import Backend, Pop3
from harness.clients import RawClient
from harness.dns import hosts_file
from harness.fault_proxy import is_watch
from harness.http_server import HttpServer, Response
from harness.installation import INSTANCE, TARGET_PORTS, destination_cr, list_and_fetch
from harness.kube import ApiError
from harness.samples import HOME, TENANTS
from harness.tproxy import destination
from harness.util import until

NOT_CONFIGURED = "DestinationServiceInstance-NotConfigured"


def stat(port: int) -> bytes:
    """What the first mailbox command is answered."""
    with RawClient(port) as client:
        return client.command(b"STAT")


@pytest.fixture
def served(installation, alice, add_destination):
    """Applies alice's Destination, when the program runs; returns its port, and what it serves."""

    def serve(name: str = "mail-v") -> tuple[int, list[bytes]]:
        mail = add_destination(name)
        alice.apply(destination_cr(name, alice.namespace, name))
        return installation.available(alice.namespace, name), mail.files()

    return serve


# --- what a Destination may refer to ---


def test_instance_of_another_namespace(installation, api, make_cluster_tproxy, mallory):
    """An instance is one of the configuration, whatever a Destination calls it: no Secret is read
    but those that the configuration names."""
    installation.configure()
    make_cluster_tproxy(installation, url=api.url).ready()
    names = ["other", f"{HOME}/{INSTANCE}", f"{INSTANCE}.{HOME}", f"../{HOME}/{INSTANCE}", "*"]
    for i, name in enumerate(names):
        cr = destination_cr(f"m{i}", mallory.namespace, "x", destinationServiceInstanceName=name)
        mallory.apply(cr)
        condition = installation.wait_condition(mallory.namespace, f"m{i}", NOT_CONFIGURED)
        assert f'"{name}" is not configured' in condition["message"]
        assert f'"{INSTANCE}"' not in condition["message"], "the names of others are not told"
    asked = {
        (request.path, request.query.get("fieldSelector"))
        for request in api.requests.all()
        if "/secrets" in request.path
    }
    assert asked == {(f"/api/v1/namespaces/{HOME}/secrets", f"metadata.name={INSTANCE}")}


HOSTILE_REFERENCES = {
    "variable's name": {"chainRef": {"name": "c", "variables": [{"name": "v: x", "value": "y"}]}},
    "variable's value": {"chainRef": {"name": "c", "variables": [{"name": "v", "value": "é"}]}},
    "blanks": {"chainRef": {"name": "c", "variables": [{"name": "v", "value": " y "}]}},
    "chain": {"chainRef": {"name": "ché"}},
    "fragment": {"fragmentRef": {"name": "fragmént"}},
    "empty variable": {"chainRef": {"name": "c", "variables": [{"name": "v v", "value": ""}]}},
}


def test_text_that_would_reach_a_header(installation, cluster_tproxy, mallory):
    """It is refused, and the Destination service sees nothing of it."""
    for i, spec in enumerate(HOSTILE_REFERENCES.values()):
        mallory.apply(destination_cr(f"m{i}", mallory.namespace, f"hostile-{i}", **spec))
    for i, what in enumerate(HOSTILE_REFERENCES):
        condition = installation.wait_condition(mallory.namespace, f"m{i}", "ConfigurationFailed")
        assert "spec." in condition["message"], what
    assert not [r for r in installation.service.requests.all() if "hostile" in r.path]


@pytest.mark.parametrize("name", ["a/../../b", "..", "a?b=c#d", "%2e%2e/x", "a@subaccount", "ä b"])
@pytest.mark.one_build
def test_name_of_a_destination_is_one_segment(installation, cluster_tproxy, mallory, name):
    """Whatever is in it, it does not lead to another page of the Destination service."""
    mallory.apply(destination_cr("mail", mallory.namespace, name))
    installation.wait_condition(mallory.namespace, "mail", "NotFound")
    for request in installation.service.requests.all():
        assert re.fullmatch(r"/destination-configuration/v1/destinations/[^/?#]+", request.path)


# --- where a destination may lead ---


def test_own_target_of_another_user(
    installation, cluster_tproxy, served, mallory, oauth_dovecot
):
    """A destination that leads to a target port, which the pod itself always reaches: it is a loop,
    and shows nothing of the other mailbox."""
    victim, messages = served()
    installation.service.destinations["loop"] = destination("loop", "127.0.0.1", victim)
    mallory.apply(destination_cr("loop", mallory.namespace, "loop"))
    port = installation.available(mallory.namespace, "loop")
    answer = stat(port)
    assert re.match(rb"-ERR \[SYS/PERM\] .*loop", answer), answer
    assert list_and_fetch(victim) == messages


def test_peer_that_does_not_speak_pop3(installation, cluster_tproxy, mallory, backends):
    """The API server, another Service of the cluster, a port of the node: nothing is sent before
    the greeting of a POP3 server, and the words of others reach a client as one short line."""
    words = b"HTTP/1.1 400 Bad Request\r\n" + b"Secret: x\x07\r\n" * 1000 + b"\r\n"
    peers = {"http": words, "ssh": b"SSH-2.0-OpenSSH_9\r\n" + b"y" * 3000}
    for name, greeting in peers.items():
        peer = backends(Pop3(greeting=greeting))
        installation.service.destinations[name] = destination(name, peer.host, peer.port)
        mallory.apply(destination_cr(name, mallory.namespace, name))
        answer = stat(installation.available(mallory.namespace, name))
        assert answer.startswith(b"-ERR [SYS/TEMP] ") and len(answer) <= 510, answer
        assert b"Secret" not in answer and not re.search(rb"[^ -~]", answer)
        assert not [line for line in peer.heard() if line]


@pytest.fixture
def start_strict(make_cluster_tproxy, installation):
    """Starts the program as it runs in a pod: without --allow-loopback."""

    def start(*arguments: str):
        installation.configure()
        return make_cluster_tproxy(installation, "--allow-loopback", None, *arguments).ready()

    return start


LOCAL = ["127.0.0.1", "localhost", "127.1", "[::1]", "::ffff:127.0.0.1", "0.0.0.0"]


@pytest.mark.one_build
def test_loopback_as_mail_server(installation, start_strict, mallory):
    start_strict()
    for i, host in enumerate(LOCAL):
        installation.service.destinations[f"d{i}"] = destination(f"d{i}", host, 110)
        mallory.apply(destination_cr(f"m{i}", mallory.namespace, f"d{i}"))
    for i, _ in enumerate(LOCAL):
        installation.wait_condition(mallory.namespace, f"m{i}", "LoopbackUrlNotSupported")


METADATA = ["169.254.169.254", "::ffff:169.254.169.254", "metadata.test", "loop.test"]


@pytest.mark.one_build
def test_link_local_as_mail_server(installation, start_strict, mallory, directory):
    """The metadata address of a cloud, by its number and by a name; and names of this machine."""
    hosts = hosts_file(directory, "loop.test")
    hosts.write_text(hosts.read_text() + "169.254.169.254 metadata.test\n")
    start_strict("--hosts", str(hosts))
    for i, host in enumerate(METADATA):
        installation.service.destinations[f"d{i}"] = destination(f"d{i}", host, 110)
        mallory.apply(destination_cr(f"m{i}", mallory.namespace, f"d{i}"))
    for i, host in enumerate(METADATA):
        answer = stat(installation.available(mallory.namespace, f"m{i}"))
        assert answer.startswith(b"-ERR [SYS/PERM] "), (host, answer)
        assert b"which is not allowed" in answer, (host, answer)


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "loop.test"])
@pytest.mark.one_build
def test_token_service_on_the_node(installation, start_strict, mallory, directory, host):
    """tproxy asks the token service itself when the Destination service has no token. It would send
    what the destination says, and hand the answer's token to the destination's mail server: so a
    metadata service must be out of reach."""
    installation.service.token_error = "no token today"
    start_strict("--hosts", str(hosts_file(directory, "loop.test")))
    with HttpServer() as metadata:
        port = metadata.url.rpartition(":")[2]
        installation.service.destinations["d"] = destination(
            "d",
            "mail.example.com",
            110,
            Authentication="OAuth2ClientCredentials",
            tokenServiceURL=f"http://{host}:{port}/computeMetadata/v1/token",
            clientId="c",
            clientSecret="Client-5ecret",
        )
        mallory.apply(destination_cr("m", mallory.namespace, "d"))
        answer = stat(installation.available(mallory.namespace, "m"))
        assert answer.startswith(b"-ERR [SYS/PERM] "), answer
        assert b"which is not allowed" in answer, answer
        assert not metadata.requests.all()
