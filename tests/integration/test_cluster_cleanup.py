"""`tproxy cleanup` removes what an installation has made, with the rights of its ServiceAccount, and
nothing of others."""

import contextlib
import copy
import os
import shutil
import subprocess
import urllib.parse

import pytest

from harness.dns import hosts_file
from harness.documents import BLOCK, section, stand_in
from harness.fault_proxy import refuse
from harness.http_server import where
from harness.image import Container
from harness.installation import CRS, MANIFESTS, PROXIES, Installation, destination_cr
from harness.samples import HOME, TENANTS
from harness.tproxy import destination
from harness.users import forged_service
from harness.util import PATIENCE, is_root, until

SERVICES = f"/api/v1/namespaces/{HOME}/services"
CONFIG_MAPS = f"/api/v1/namespaces/{HOME}/configmaps"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases"
POLICIES = f"/apis/networking.k8s.io/v1/namespaces/{HOME}/networkpolicies"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
HOLD = {"metadata": {"finalizers": ["example.com/hold"]}}
RELEASE = {"metadata": {"finalizers": None}}
THEIRS = {
    "type": "Available",
    "status": "True",
    "reason": "ConfigurationSuccessful",
    "message": "by somebody else",
    "lastUpdateTime": "2026-01-01T00:00:00Z",
}
OTHER = {"type": "Other", "status": "True", "reason": "Other"}


class Cleaner:
    """Runs the sub-command with the credentials of an installation's ServiceAccount."""

    def __init__(self, program, directory, installation: Installation, url: str = ""):
        mode = installation.mode(directory, url)
        names = ("--kube-url", "--kube-credentials")
        self.program = program
        self.arguments = ["cleanup", *(word for name in names for word in (name, mode[name]))]
        self._token = (directory / "credentials/token").read_text()

    def run(self, *more: str, code: int = 0) -> subprocess.CompletedProcess:
        done = self.program.run(*self.arguments, *more)
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
        assert self._token not in done.stdout + done.stderr
        return done


@pytest.fixture
def cleaner(program, directory, installation) -> Cleaner:
    return Cleaner(program, directory, installation)


class Served:
    """An installation that has served mailboxes in several ways, with objects of others beside
    it."""

    def __init__(self, installation: Installation, proxy, spaces: list[str]):
        self.installation = installation
        self.proxy = proxy
        self.one, self.two = spaces

    def stop(self) -> None:
        """Ends the program, as when the Deployment is scaled to 0."""
        self.proxy.__exit__(None)

    def lines(self, delete: str, remove: str) -> set[str]:
        """Returns a line for each object of the installation."""
        one, two = self.one, self.two
        services = [f"{one}/mail", f"{one}/wide", f"{HOME}/home", f"{HOME}/mail", f"{HOME}/wide"]
        policies = ["clusterwide", f"namespace-{HOME}", f"namespace-{one}"]
        resources = [f"{one}/mail", f"{one}/wide", f"{HOME}/home", f"{two}/absent"]
        return {
            *(f"{delete} Service {name}" for name in services),
            *(f"{delete} NetworkPolicy {HOME}/tproxy-{name}" for name in policies),
            *(f"{remove} the condition of Destination {name}" for name in resources),
            f"{remove} the status of TransparentProxy {HOME}/transparent-proxy",
            f"{delete} ConfigMap {HOME}/tproxy-last-configuration",
            f"{delete} ConfigMap {HOME}/tproxy-resting-ports",
            f"{delete} Lease {HOME}/tproxy",
        }

    def is_clean(self) -> bool:
        """Returns whether nothing of the installation is left."""
        i = self.installation
        resources = [(self.one, "mail"), (self.one, "wide"), (HOME, "home"), (self.two, "absent")]
        config_maps = {item["metadata"]["name"] for item in i.kube.items(CONFIG_MAPS)}
        (proxy,) = i.kube.items(PROXIES)
        return (
            not i.ours()
            and not any(i.condition(*resource) for resource in resources)
            and not any(name.startswith("tproxy-") for name in config_maps)
            and not i.kube.items(LEASES)
            and "status" not in proxy
        )


@pytest.fixture
def served(installation, make_cluster_tproxy, add_destination) -> Served:
    kube = installation.kube
    one, two = kube.namespace(), kube.namespace()
    add_destination("mail")
    installation.configure()
    proxy = make_cluster_tproxy(installation, "--leader-elect", "").ready()
    wide = {"scope": "clusterWide"}
    kube.apply(
        destination_cr("old", one, "mail"),
        destination_cr("mail", one, "mail"),
        destination_cr("wide", one, "mail", accessControl=wide),
        destination_cr("home", HOME, "mail"),
        destination_cr("absent", two, "not-there"),
    )
    for resource in ((one, "old"), (one, "mail"), (one, "wide"), (HOME, "home")):
        installation.available(*resource)
    installation.wait_condition(two, "absent", "NotFound")
    other = {"status": {"conditions": [OTHER, installation.condition(one, "mail")]}}
    kube.patch(f"{CRS}/namespaces/{one}/destinations/mail/status?fieldManager=tproxy-{HOME}", other)
    kube.delete(f"{CRS}/namespaces/{one}/destinations/old")
    until(lambda: not installation.service_of(HOME, "old"), "the Service of old to be gone")
    until(lambda: "status" in kube.items(PROXIES)[0], "the status of the configuration")
    return Served(installation, proxy, [one, two])


def add_foreign_objects(served: Served) -> set[str]:
    """Creates objects of others that look like those of the installation. Returns their paths."""
    kube, one = served.installation.kube, served.one
    labels = {"app.kubernetes.io/managed-by": "tproxy"}
    port = {"ports": [{"port": 110}]}
    services = {
        "mail-x": {"metadata": {"labels": {**labels, "tproxy/home": f"{HOME}-x"}}, "spec": port},
        "wide-x": {"metadata": {"labels": labels}, "spec": port},
        "tproxy": {"metadata": {}, "spec": port},
    }
    paths = set()
    for name, fields in services.items():
        fields["metadata"]["name"] = name
        kube.create(SERVICES, fields)
        paths.add(f"{SERVICES}/{name}")
    theirs = {"metadata": {"name": "tproxy-theirs"}}
    kube.create(POLICIES, {**theirs, "spec": {"podSelector": {}}})
    paths.add(f"{POLICIES}/tproxy-theirs")
    # These have the names of ours, in another namespace.
    for name in ("tproxy-last-configuration", "tproxy-resting-ports"):
        about = {"name": name, "labels": {**labels, "tproxy/home": HOME}}
        kube.create(f"/api/v1/namespaces/{one}/configmaps", {"metadata": about})
        paths.add(f"/api/v1/namespaces/{one}/configmaps/{name}")
    path = f"{CRS}/namespaces/{one}/destinations"
    kube.create(path, destination_cr("theirs", one, "web"))
    kube.patch(
        f"{path}/theirs/status?fieldManager=sap-operator", {"status": {"conditions": [THEIRS]}}
    )
    paths.add(f"{path}/theirs")
    return paths


def without_events(versions: dict[str, str]) -> dict[str, str]:
    return {path: version for path, version in versions.items() if "/events/" not in path}


def test_everything(served, cleaner):
    """A dry run changes nothing and tells what the real one does; a second one has nothing to do."""
    installation, kube = served.installation, served.installation.kube
    served.stop()
    foreign = add_foreign_objects(served)
    before = without_events(kube.versions())
    assert foreign <= before.keys()

    *planned, total = cleaner.run("--dry-run").stdout.splitlines()
    assert set(planned) == served.lines("would delete", "would remove")
    assert total == f"{HOME}: {len(planned)} would be removed; nothing was changed"
    assert without_events(kube.versions()) == before

    done = cleaner.run()
    *lines, total = done.stdout.splitlines()
    renamed = [line.replace("would delete", "deleted") for line in planned]
    assert lines == [line.replace("would remove", "removed") for line in renamed]
    assert total == f"{HOME}: {len(lines)} removed, 0 gone already, 0 failed"
    assert not done.stderr
    assert served.is_clean()
    conditions = installation.cr(served.one, "mail")["status"]["conditions"]
    assert conditions == [OTHER], "the condition of another controller"
    assert installation.condition(served.one, "theirs") == THEIRS

    after = without_events(kube.versions())
    removed = before.keys() - after.keys()
    assert len(removed) == len(served.lines("", "")) - 5  # five were changed
    changed = {path for path in after if after[path] != before[path]}
    assert len(changed) == 5 and all("destinations" in p or "proxies" in p for p in changed)
    assert not foreign & (removed | changed)

    again = cleaner.run().stdout
    assert again == f"{HOME}: 0 removed, 0 gone already, 0 failed\n"
    assert without_events(kube.versions()) == after


def test_order(served, cleaner):
    """Clients are led away before anything else happens, and the records go last."""
    served.stop()
    lines = cleaner.run("--dry-run").stdout.splitlines()
    kinds = [line.split(" ")[2 if "delete" in line else 5] for line in lines[:-1]]
    order = ["Service", "NetworkPolicy", "Destination", "TransparentProxy", "ConfigMap", "Lease"]
    assert kinds == sorted(kinds, key=order.index)
    spaces = [line.split(" ")[3].split("/")[0] for line in lines if " Service " in line]
    assert spaces == [served.one] * 2 + [HOME] * 3


def test_tenants(
    installation, make_cluster_tproxy, oauth, oauth_dovecot, cleaner, namespace, directory
):
    installation.key = installation.service.service_key(by_name=True)
    for tenant in ("a", "b"):
        own = destination("mail", oauth_dovecot.host, oauth_dovecot.pop3)
        installation.service.tenant(tenant).destinations["mail"] = own
    installation.configure(tenantMode="shared")
    cr = destination_cr("mail", namespace, "mail")
    cr["metadata"]["annotations"] = {TENANTS: '["a", "b"]'}
    hosts = hosts_file(directory, *oauth.host_names())
    with make_cluster_tproxy(installation, "--hosts", str(hosts)).ready():
        installation.kube.apply(cr)
        installation.wait_condition(namespace, "mail", "ConfigurationSuccessful")
    assert len(installation.cr(namespace, "mail")["status"]["tenants"]) == 2
    cleaner.run()
    assert installation.cr(namespace, "mail")["status"] == {"conditions": []}
    assert not installation.ours()


def test_second_installation(served, cleaner, kube, destination_service, make_cluster_tproxy):
    """Another installation goes on beside it, whether it runs or not."""
    served.stop()
    second = Installation(kube, destination_service, "second")
    label = "transparent-proxy.connectivity.api.sap/namespace"
    space = kube.namespace(**{label: "second"})
    second.configure(managedNamespacesMode="labelSelector")
    with make_cluster_tproxy(second).ready():
        kube.apply(destination_cr("mail-2", space, "mail"))
        second.available(space, "mail-2")
        before, versions = second.ours(), second.versions()
        cleaner.run()
        assert served.is_clean()
    assert second.ours() == before
    kept = second.versions()
    names = {item["metadata"]["uid"] for item in kube.items(f"/api/v1/namespaces/{space}/services")}
    names.add(second.cr(space, "mail-2")["metadata"]["uid"])
    assert names and all(versions[uid] == kept[uid] for uid in names)
    assert second.condition(space, "mail-2")["status"] == "True"


def test_what_only_looks_like_ours(served, cleaner):
    """A Service that somebody else has made with our labels stays, and is named."""
    kube = served.installation.kube
    served.stop()
    forged = forged_service("forged", served.one, "mail")
    kube.create(f"/api/v1/namespaces/{served.one}/services", forged)
    path = f"{CRS}/namespaces/{served.two}/destinations/absent"
    kube.patch(f"{path}?fieldManager=x", {"metadata": {"managedFields": [{}]}})
    done = cleaner.run()
    assert f"Service {served.one}/forged is left alone: it has our labels" in done.stderr
    assert f"the condition of Destination {served.two}/absent is left alone" in done.stderr
    assert served.installation.service_of(served.one, "forged")
    assert served.installation.condition(served.two, "absent")


# --- what stays ---


def without_verb(kube, path: str, resource: str, verb: str) -> dict:
    """Takes a verb from a role. Returns the role as it was."""
    role = kube.get(path)
    rules = copy.deepcopy(role["rules"])
    for rule in rules:
        if rule["resources"] == [resource] and verb in rule["verbs"]:
            rule["verbs"].remove(verb)
    assert rules != role["rules"]
    kube.patch(path, {"rules": [rule for rule in rules if rule["verbs"]]})
    return {"rules": role["rules"]}


@pytest.mark.parametrize(
    "role, resource, verb, words",
    [
        (f"{RBAC}/clusterroles/tproxy", "services", "delete", "Service {one}/mail stays: DELETE"),
        (f"{RBAC}/clusterroles/tproxy", "services", "list", "services cannot be listed"),
        (
            f"{RBAC}/clusterroles/tproxy",
            "destinations/status",
            "patch",
            "the condition of Destination {one}/mail stays: PATCH destinations/status {one}/mail",
        ),
        (
            f"{RBAC}/namespaces/{HOME}/roles/tproxy",
            "configmaps",
            "delete",
            f"ConfigMap {HOME}/tproxy-resting-ports stays: DELETE",
        ),
    ],
    ids=["delete Services", "list Services", "patch status", "delete ConfigMaps"],
)
def test_missing_right(served, cleaner, role, resource, verb, words):
    """What the API server refuses is named in its words; the rest goes. With the right the rest of
    that goes, too."""
    kube = served.installation.kube
    served.stop()
    rules = without_verb(kube, role, resource, verb)
    plural, _, sub = resource.partition("/")

    def refused() -> bool:
        done = kube.kubectl(
            *("auth", "can-i", verb, f"{plural}/tproxy-resting-ports", "-n", HOME),
            *(["--subresource", sub] if sub else []),
            *("--as", f"system:serviceaccount:{HOME}:tproxy"),
            check=False,
        )
        return done.stdout.strip() == "no"

    until(refused, "the right to be taken away", every=0.1)
    done = cleaner.run(code=1)
    (line, *_) = [
        line for line in done.stderr.splitlines() if words.format(one=served.one) in line
    ]
    assert "is forbidden: User" in line and "run cleanup again" in line
    assert "What it may do" in line
    assert " removed, " in done.stdout.splitlines()[-1] and not served.is_clean()
    kube.patch(role, rules)
    until(lambda: not refused(), "the right to be back", every=0.1)
    cleaner.run()
    assert served.is_clean()


def test_finalizer(served, cleaner):
    """An object that a finalizer keeps is named with the finalizer; the rest goes."""
    kube, one = served.installation.kube, served.one
    served.stop()
    kept = [
        f"/api/v1/namespaces/{one}/services/mail",
        f"{SERVICES}/wide",
        f"{POLICIES}/tproxy-clusterwide",
    ]
    for path in kept:
        kube.patch(path, HOLD)
    done = cleaner.run(code=1)
    for name in (f"Service {one}/mail", f"Service {HOME}/wide"):
        said = f"tproxy: {name} is being deleted, but finalizers keep it: example.com/hold; "
        assert said in done.stderr
    assert done.stdout.splitlines()[-1].endswith("removed, 0 gone already, 3 failed")
    assert len(served.installation.ours()) == 3
    for path in kept:
        kube.patch(path, RELEASE)
    cleaner.run()
    assert served.is_clean()


def test_installation_that_runs(served, cleaner):
    """An installation that runs makes everything again, which is said with the remedy."""
    done = cleaner.run(code=1)
    assert "is there again, so a tproxy of this installation runs" in done.stderr
    assert f"kubectl -n {HOME} scale deployment -l app.kubernetes.io/name=tproxy" in done.stderr
    served.installation.available(served.one, "mail")
    served.stop()
    cleaner.run()
    assert served.is_clean()


def test_changes_at_the_same_time(served, program, directory, api):
    """Objects that go, and resources that change while the removal is under way, are no errors."""
    kube, one = served.installation.kube, served.one
    served.stop()
    resource = f"{CRS}/namespaces/{one}/destinations/mail"
    left = ["first", "second"]

    def disturb(exchange) -> None:
        path, method = exchange.request.path, exchange.request.method
        if method == "DELETE" and path == f"{SERVICES}/mail":
            kube.delete(path)
        if method == "PATCH" and path == f"{resource}/status" and left:
            kube.patch(resource, {"metadata": {"annotations": {"x": left.pop()}}})
        exchange.reply(exchange.proper())

    api.behaviour = disturb
    done = Cleaner(program, directory, served.installation, api.url).run()
    assert f"gone already: Service {HOME}/mail\n" in done.stdout
    assert f"removed the condition of Destination {one}/mail\n" in done.stdout
    assert not left and served.is_clean()


def of_policies(request) -> bool:
    return request.method == "DELETE" and request.path.startswith(POLICIES)


@contextlib.contextmanager
def stuck(served, program, directory, api):
    """Runs the sub-command until it waits for the answers about the policies."""
    served.stop()
    cleaner = Cleaner(program, directory, served.installation, api.url)
    api.behaviour = where(of_policies, lambda exchange: exchange.hold())
    process = program.spawn(*cleaner.arguments)
    try:
        until(lambda: any(map(of_policies, api.writes())), "the first policy to be reached")
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE)


def test_killed_in_the_middle(served, program, directory, api, cleaner):
    """A run that is killed in the middle leaves the rest to the next one."""
    with stuck(served, program, directory, api) as process:
        assert process.stdout.readline() == f"deleted Service {served.one}/mail\n".encode()
        process.kill()
        process.communicate(timeout=PATIENCE)
    assert served.installation.policies() and not served.is_clean()
    cleaner.run()
    assert served.is_clean()


def test_signal(served, program, directory, api, cleaner):
    """SIGTERM ends it with a sum of what was done."""
    with stuck(served, program, directory, api) as process:
        process.terminate()
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert b"tproxy: Terminated: the rest stays; run cleanup again\n" in err
    assert b" removed, 0 gone already, 0 failed\n" in out
    cleaner.run()
    assert served.is_clean()


def test_busy_api_server(served, program, directory, api):
    """Requests that are put off are made again."""
    served.stop()
    busy = refuse(429, "TooManyRequests")
    seen: set[str] = set()

    def first_time(request) -> bool:
        new = request.method != "GET" and request.path not in seen
        if new:
            seen.add(request.path)
        return new

    api.behaviour = where(first_time, busy)
    Cleaner(program, directory, served.installation, api.url).run()
    assert len(seen) == len(served.lines("", "")) and served.is_clean()


@pytest.mark.one_build
@pytest.mark.parametrize(
    "arguments",
    [["--nonsense"], ["--namespace"], ["everything"], ["--kube-url", "x://y"], []],
    ids=" ".join,
)
def test_wrong_usage(program, arguments):
    done = program.run("cleanup", *arguments)
    assert done.returncode == 2 and done.stderr and not done.stdout


def test_server_that_is_no_api_server(program, destination_service):
    """A URL that leads elsewhere does not look like a clean cluster."""
    done = program.run("cleanup", "--kube-url", destination_service.url)
    assert done.returncode == 1
    assert "services cannot be listed" in done.stderr and "--kube-url" in done.stderr


# --- as a Job ---

CREDENTIALS = "/var/run/secrets/kubernetes.io/serviceaccount"

# There is no node, so the commands of the document find a Job that the test runs.
KUBECTL = """
case $1 in
wait) exec {wait} ;;
logs) exec cat {log} ;;
esac
exec {kubectl} "$@"
"""


@pytest.mark.one_build
@pytest.mark.skipif(not is_root(), reason="only root may give a process another root")
def test_job(served, image, directory):
    """The commands of the document run the image with the rights of the ServiceAccount."""
    installation, kube = served.installation, served.installation.kube
    served.stop()
    text = section("docs/install.md", "Removing")
    (commands,) = [body for word, body in BLOCK.findall(text) if "kubectl apply -k cleanup" in body]
    shutil.copytree(MANIFESTS, directory / "manifests")
    (directory / "go").mkdir()
    script = KUBECTL.format(
        wait=f"sh -c 'touch {directory}/go/on; while [ ! -e {directory}/log ]; do sleep 0.1; done'",
        log=directory / "log",
        kubectl=kube.programs / "kubectl",
    )
    stand_in(directory, "bin/kubectl", script)
    environment = {
        **os.environ,
        "HOME": str(directory),
        "KUBECONFIG": str(kube.kubeconfig),
        "PATH": f"{directory}/bin:{os.environ['PATH']}",
    }
    shell = subprocess.Popen(
        ["bash", "-euc", commands], cwd=directory, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        until((directory / "go/on").exists, "the Job to be applied")
        job = kube.get(f"/apis/batch/v1/namespaces/{HOME}/jobs/tproxy-cleanup")
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["image"] == "registry.example.com/mail/tproxy:1.0"
        server = urllib.parse.urlsplit(kube.url)
        files = kube.credentials(directory / "account", HOME, pod["serviceAccountName"])
        program = Container(
            image,
            {CREDENTIALS: files},
            KUBERNETES_SERVICE_HOST=server.hostname,
            KUBERNETES_SERVICE_PORT=str(server.port),
        )
        done = program.run(*container["args"])
        assert done.returncode == 0, done.stderr
        (directory / "log.new").write_text(done.stdout)
        (directory / "log.new").rename(directory / "log")
        out, _ = shell.communicate(timeout=PATIENCE)
    finally:
        shell.kill()
        shell.wait()
    assert shell.returncode == 0
    assert out.endswith(" 0 failed\n") and f"deleted Service {served.one}/mail\n" in out
    assert served.is_clean()
