"""Fixtures of the tests on the real path: manifests, image, nodes, DNS, clients in pods."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.certs import Certificates
from harness.destination_service import DestinationService
from harness.dovecot import Dovecot, Mailbox
from harness.image import Image
from harness.installation import Installation
from harness.oauth import OAuthServer, Provider
from harness.secret_registry import Secrets
from harness.tproxy import ROOT, destination
from harness.util import work_directory
from node import network
from node.cluster import Cluster

IMAGE = Path(os.environ.get("TPROXY_IMAGE", ROOT / "build/tproxy-image.tar"))


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config) -> None:
    """Runs the tests in namespaces of their own, with the same arguments. Where this is not
    permitted they run without, and fail."""
    if network.INSIDE not in os.environ and not network.refusal():
        arguments = config.invocation_params.args
        network.enter([sys.executable, "-m", "pytest", *map(str, arguments)])


@pytest.fixture(scope="session")
def outside() -> None:
    """The namespaces that are neither a node's nor a pod's; all else is within them."""
    assert network.INSIDE in os.environ, (
        "these tests take network namespaces, which are not permitted here (they need root): "
        + network.refusal()
    )
    network.set_up_outside()


class OutsideOAuth(OAuthServer):
    host = network.OUTSIDE


class OutsideDestinations(DestinationService):
    host = network.OUTSIDE


class OutsideDovecot(Dovecot):
    host = network.OUTSIDE


@pytest.fixture(scope="session")
def certificates(outside):
    with work_directory("shared") as directory:
        yield Certificates(directory)


@pytest.fixture(scope="session")
def provider(outside):
    with work_directory("oauth") as directory, Provider(directory) as provider:
        yield provider


@pytest.fixture(scope="session")
def dovecot(certificates, provider):
    """A mail server that accepts passwords and the tokens of the OAuth server."""
    with work_directory("dovecot") as directory:
        server = OutsideDovecot(directory, certificates, provider.key)
        server.start()
        yield server
        server.stop()


@pytest.fixture(scope="session")
def secrets() -> Secrets:
    return Secrets()


@pytest.fixture(scope="session")
def oauth(provider, secrets):
    with OutsideOAuth(provider, secrets) as server:
        yield server


@pytest.fixture(scope="session")
def destination_service(oauth, secrets):
    with OutsideDestinations(oauth, secrets) as service:
        yield service


def built(*part: str) -> Path:
    script = ROOT / "scripts/build-cluster.sh"
    done = subprocess.run([script, *part], stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def cluster(outside):
    with work_directory("node") as directory:
        image = Image(IMAGE, directory / "image")
        with Cluster(built(), built("node"), directory, {"tproxy": image}) as cluster:
            yield cluster


@pytest.fixture(scope="session")
def installation(cluster, destination_service) -> Installation:
    """The manifests as they are, applied, and the Deployment up."""
    installed = Installation(cluster.kube, destination_service)
    installed.key = destination_service.service_key(by_name=True)
    installed.configure()
    cluster.kube.kubectl(
        "rollout", "status", "deployment/tproxy", "-n", installed.home, "--timeout=60s"
    )
    return installed


@pytest.fixture
def namespace(installation) -> str:
    return installation.kube.namespace()


@pytest.fixture
def add_destination(destination_service, dovecot):
    """Creates destinations, each with a mailbox of its own with two messages. The mail server is
    named by a host name, which the cluster's DNS knows."""

    def add(name: str, **properties: object) -> Mailbox:
        mail = dovecot.mailbox([f"Subject: {n}\r\n\r\n{name}\r\n".encode() for n in (1, 2)])
        own = {"mail__user": mail.user, "mail__password": mail.password, **properties}
        destination_service.destinations[name] = destination(
            name, "pop3.test", dovecot.pop3, **own
        )
        return mail

    return add
