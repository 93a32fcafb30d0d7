"""Fixtures. Every test runs twice, with the release binary and with the sanitized one, unless it is
marked one_build. Tests in a cluster take the most time and run once, with the sanitized one; the
tests in tests/e2e run the release binary there."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from harness.backend import Backend, Pop3
from harness.certs import Certificates
from harness.connectivity_proxy import ConnectivityProxy
from harness.destination_service import DestinationService
from harness.dovecot import PASSWORD_MARK, Dovecot, Mailbox
from harness.fault_proxy import FaultProxy
from harness.image import Image
from harness.installation import MANIFESTS, ClusterTproxy, Installation
from harness.kube import Kube
from harness.messages import varied_messages
from harness.oauth import OAuthServer, Provider
from harness.rights import Tally, audit_events, audit_flags, granted_rights, judge, request_of
from harness.secret_registry import Secrets
from harness.tproxy import ROOT, Program, Tproxy, destination
from harness.users import NamespaceUser
from harness.util import reserved_ports, work_directory

BUILDS = {
    "release": Path(os.environ.get("TPROXY_BIN", ROOT / "build/tproxy")),
    "sanitized": Path(os.environ.get("TPROXY_DEV_BIN", ROOT / "build/dev/tproxy")),
    "dynamic": Path(os.environ.get("TPROXY_DYNAMIC_BIN", ROOT / "build/dynamic/tproxy")),
}
IMAGE = Path(os.environ.get("TPROXY_IMAGE", ROOT / "build/tproxy-image.tar"))

TALLY = Tally()  # of all control planes


def pytest_configure(config):
    """Resets ignored signals, because the programs under test would inherit them. A shell ignores
    some for a test run in the background."""
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report):
    """Names a failed test and its error at once: a run that is stopped, or killed, has said it."""
    if report.failed and not os.environ.get("PYTEST_XDIST_WORKER"):
        print(f"\n{report.nodeid} failed ({report.when}):\n{report.longreprtext}", flush=True)


def pytest_generate_tests(metafunc):
    if "program" in metafunc.fixturenames and "build" in metafunc.fixturenames:
        if metafunc.definition.get_closest_marker("valgrind"):
            builds = ["dynamic"]
        elif metafunc.definition.get_closest_marker("one_build"):
            builds = ["release"]
        elif "kube_programs" in metafunc.fixturenames:
            builds = ["sanitized"]
        else:
            builds = ["release", "sanitized"]
        metafunc.parametrize("build", builds, scope="session")


def pytest_collection_modifyitems(items):
    for item in items:
        if "kube_programs" in item.fixturenames:
            item.add_marker("cluster")


def pytest_report_header(config):
    return [f"{name}: {path}" for name, path in BUILDS.items()] + [f"seed: {seed()}"]


def seed() -> int:
    """The seed, which TPROXY_TEST_SEED repeats. All workers of xdist need the same one."""
    if "TPROXY_TEST_SEED" not in os.environ:
        os.environ["TPROXY_TEST_SEED"] = str(random.SystemRandom().randrange(1 << 32))
    return int(os.environ["TPROXY_TEST_SEED"])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    TALLY.add(Tally(*getattr(node, "workeroutput", {}).get("rights", ())))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session, exitstatus):
    """Judges the roles of the manifests by what the program has done in all control planes, as one
    more test, which only appears if it fails."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["rights"] = TALLY.plain()
        return
    complaints = TALLY.complaints(complete=exitstatus == pytest.ExitCode.OK and is_complete(config))
    if complaints:
        place = ("harness/rights.py", None, "rights")
        name = "::".join(filter(None, place))
        words = "\n".join(["The roles of the manifests are not those that it needs:", *complaints])
        report = pytest.TestReport(name, place, {}, "failed", words, "call")
        config.hook.pytest_runtest_logreport(report=report)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def is_complete(config) -> bool:
    """Returns whether all cluster tests are run."""
    option, here = config.option, Path(__file__).parent
    chosen = {(config.invocation_params.dir / argument).resolve() for argument in config.args}
    part = option.keyword or option.deselect or option.markexpr not in ("", "cluster")
    return not part and bool(chosen & {here, *here.parents})


@pytest.fixture(scope="session")
def shared_directory():
    with work_directory("shared") as directory:
        yield directory


@pytest.fixture(scope="session")
def certificates(shared_directory) -> Certificates:
    return Certificates(shared_directory)


@pytest.fixture(scope="session")
def messages() -> list[bytes]:
    return varied_messages(seed())


@pytest.fixture(scope="session")
def dovecot(certificates):
    with work_directory("dovecot") as directory:
        server = Dovecot(directory, certificates)
        server.start()
        yield server
        server.stop()


@pytest.fixture(scope="session")
def oauth_provider():
    with work_directory("oauth") as directory, Provider(directory) as provider:
        yield provider


@pytest.fixture(scope="session")
def oauth_dovecot(certificates, oauth_provider):
    """A Dovecot that accepts passwords and the tokens of the OAuth server."""
    with work_directory("dovecot") as directory:
        server = Dovecot(directory, certificates, oauth_provider.key)
        server.start()
        yield server
        server.stop()


@pytest.fixture
def secrets() -> Secrets:
    """The secrets of this test's servers."""
    return Secrets()


@pytest.fixture
def oauth(oauth_provider, secrets, certificates):
    """The OAuth server with clients and requests of this test only."""
    with OAuthServer(oauth_provider, secrets, certificates=certificates) as server:
        yield server


@pytest.fixture
def destination_service(oauth, secrets, certificates):
    with DestinationService(oauth, secrets, certificates=certificates) as service:
        yield service


@pytest.fixture
def connectivity_proxy(oauth):
    """A Connectivity Proxy for one tenant that requires tokens."""
    with ConnectivityProxy(oauth) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def kube_programs() -> Path:
    """etcd, kube-apiserver and kubectl. Tests that need them run with `make cluster-test`."""
    script = ROOT / "scripts/build-cluster.sh"
    done = subprocess.run([script], stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip())


@contextlib.contextmanager
def audited_kube(programs: Path, directory: Path, *flags: str):
    """Starts a control plane with an audit log, by which the roles are judged in the end."""
    places = [MANIFESTS / "base", MANIFESTS / "overlays/secrets-cluster-wide"]
    with Kube(programs, directory, *audit_flags(directory), *flags) as control_plane:
        rights = granted_rights(
            thing for place in places for thing in control_plane.rendered(place)
        )
        yield control_plane
    TALLY.add(judge(rights, map(request_of, audit_events(directory))))


@pytest.fixture(scope="session")
def kube(kube_programs):
    """A control plane. It contains objects of other tests unless the test calls reset()."""
    with (
        work_directory("kube") as directory,
        audited_kube(kube_programs, directory) as control_plane,
    ):
        yield control_plane


@pytest.fixture
def make_kube(kube_programs, directory):
    """Starts control planes with extra flags, for tests that kill them."""
    with contextlib.ExitStack() as stack:

        def start(*flags: str) -> Kube:
            place = Path(tempfile.mkdtemp(prefix="kube", dir=directory))
            return stack.enter_context(audited_kube(kube_programs, place, *flags))

        yield start


@pytest.fixture(scope="session")
def program(build, shared_directory) -> Program:
    """The program. `build` is the parameter that pytest_generate_tests adds."""
    if build == "dynamic":
        valgrind = shutil.which("valgrind")
        assert valgrind, "valgrind is not installed (make deps)"
        checks = ["--leak-check=full", "--show-leak-kinds=definite,indirect,possible", "--quiet"]
        checks += ["--errors-for-leak-kinds=definite,indirect,possible", "--error-exitcode=96"]
        return Program(BUILDS[build], shared_directory, (valgrind, *checks, "--vgdb=no"))
    return Program(BUILDS[build], shared_directory)


@pytest.fixture(scope="session")
def image() -> Image:
    with work_directory("image") as directory:
        yield Image(IMAGE, directory)


@pytest.fixture
def directory():
    """A directory for one test that the unprivileged proxy can read."""
    with work_directory("test") as path:
        yield path


def start_judged(stack: contextlib.ExitStack, secrets: Secrets, proxy: Tproxy) -> Tproxy:
    """Starts the proxy. At the end it is stopped and its exit judged, and its output must contain
    no secret."""

    def search() -> None:
        secrets.add(PASSWORD_MARK)
        assert not secrets.shown_in(proxy.everything_said()), "secrets of the test are in the log"

    stack.callback(search)
    return stack.enter_context(proxy)


@pytest.fixture
def make_tproxy(program, directory, certificates, secrets):
    """Starts proxies with extra arguments."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str) -> Tproxy:
            place = Path(tempfile.mkdtemp(prefix="proxy", dir=directory))
            place.chmod(0o755)
            trust = () if "--ca-file" in arguments else ("--ca-file", str(certificates.ca_file))
            return start_judged(stack, secrets, Tproxy(program, place, *trust, *arguments))

        yield start


@pytest.fixture
def tproxy(make_tproxy) -> Tproxy:
    """A running proxy without a destination."""
    return make_tproxy()


@pytest.fixture
def installation(kube, destination_service) -> Installation:
    """tproxy's manifests in an empty cluster, without a configuration."""
    kube.reset()
    return Installation(kube, destination_service)


@pytest.fixture
def api(installation):
    """The proxy between the program and the API server, with which a test causes faults."""
    with FaultProxy(installation.kube) as proxy:
        yield proxy


@pytest.fixture
def namespace(installation) -> str:
    """An application's namespace."""
    return installation.kube.namespace()


@pytest.fixture
def alice(installation) -> NamespaceUser:
    """A user of one namespace."""
    return NamespaceUser(installation.kube, "alice")


@pytest.fixture
def mallory(installation) -> NamespaceUser:
    """A hostile user of another namespace."""
    return NamespaceUser(installation.kube, "mallory")


@pytest.fixture
def add_destination(installation, oauth_dovecot):
    """Creates destinations, each with a mailbox of its own. The mailbox holds the given messages,
    or one that names it."""

    def add(name: str, messages: list[bytes] = (), **properties: object) -> Mailbox:
        mail = oauth_dovecot.mailbox(messages or [f"Subject: {name}\r\n\r\n".encode()])
        own = {"mail__user": mail.user, "mail__password": mail.password, **properties}
        installation.service.destinations[name] = destination(
            name, oauth_dovecot.host, oauth_dovecot.pop3, **own
        )
        return mail

    return add


@pytest.fixture
def make_cluster_tproxy(program, directory, certificates, secrets):
    """Starts the program beside an installation."""
    with contextlib.ExitStack() as stack:

        def start(installation: Installation, *arguments: str, url: str = "") -> ClusterTproxy:
            place = Path(tempfile.mkdtemp(prefix="proxy", dir=directory))
            place.chmod(0o755)
            mode = {**installation.mode(place, url), "--ca-file": str(certificates.ca_file)}
            proxy = ClusterTproxy(program, place, mode, *arguments)
            return start_judged(stack, secrets, proxy)

        yield start


@pytest.fixture
def reserve_ports():
    """Reserves consecutive ports for this test. Returns the first."""
    with contextlib.ExitStack() as stack:
        yield lambda count: stack.enter_context(reserved_ports(count))


@pytest.fixture
def cluster_tproxy(make_cluster_tproxy, installation) -> ClusterTproxy:
    """The program, configured with one instance, and ready."""
    installation.configure()
    return make_cluster_tproxy(installation).ready()


@pytest.fixture
def backend():
    """A scripted server that behaves well; a test replaces `backend.script` to change that."""
    with Backend(Pop3()) as server:
        yield server


@pytest.fixture
def backends():
    """Makes further scripted servers."""
    with contextlib.ExitStack() as stack:
        yield lambda script: stack.enter_context(Backend(script))
