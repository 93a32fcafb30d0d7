"""Trouble with one Service, in one namespace or of one tenant: those affected are told, nobody else
waits, and a restarted program becomes ready."""

import json

import pytest

from harness.clients import is_closed
from harness.dns import hosts_file
from harness.fault_proxy import refusal
from harness.http_server import Request, Response, silent, where
from harness.installation import CRS, PROXIES, Installation, destination_cr, list_and_fetch
from harness.kube import ApiError
from harness.samples import HOME, TENANTS
from harness.tproxy import destination
from harness.users import forged_service
from harness.util import until

TAKEN = "ConfigurationError-K8sResourceWithNameAlreadyPresent"
CREATION = "ServiceCreationFailed"
HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
HOLD = {"metadata": {"finalizers": ["example.com/hold"]}}
RELEASE = {"metadata": {"finalizers": None}}


def manager_of(proxy) -> dict:
    return json.loads(proxy.http("/status")[1])["Components"]["sap-transp-proxy-manager"]


@pytest.fixture
def webhook(installation):
    """Makes the API server call a webhook, which does not answer, for new Services of a
    namespace."""
    kube = installation.kube

    def add(namespace: str) -> None:
        kube.create(
            HOOKS,
            {
                "metadata": {"name": "broken"},
                "webhooks": [
                    {
                        "name": "broken.example.com",
                        "admissionReviewVersions": ["v1"],
                        "sideEffects": "None",
                        "failurePolicy": "Fail",
                        "timeoutSeconds": 1,
                        "clientConfig": {"url": "https://127.0.0.1:1/x"},
                        "namespaceSelector": {
                            "matchLabels": {"kubernetes.io/metadata.name": namespace}
                        },
                        "rules": [
                            {
                                "apiGroups": [""],
                                "apiVersions": ["v1"],
                                "operations": ["CREATE"],
                                "resources": ["services"],
                            }
                        ],
                    }
                ],
            },
        )

        def asked() -> bool:
            service = {"metadata": {"name": "try"}, "spec": {"ports": [{"port": 1}]}}
            try:
                kube.create(f"/api/v1/namespaces/{namespace}/services?dryRun=All", service)
            except ApiError as error:
                return error.code == 500
            return False

        until(asked, "the webhook to be asked", every=0.1)

    def remove() -> None:
        kube.delete(f"{HOOKS}/broken")

    add.remove = remove
    yield add
    names = [item["metadata"]["name"] for item in kube.items(HOOKS)]
    if "broken" in names:
        remove()


def test_webhook_of_one_namespace(
    installation, make_cluster_tproxy, add_destination, alice, mallory, webhook
):
    """A webhook fails for each new Service of one namespace."""
    mail = add_destination("mail")
    installation.configure()
    webhook(mallory.namespace)
    for user, name in ((alice, "mail-a"), (mallory, "mail-m")):
        user.apply(destination_cr(name, user.namespace, "mail"))
    make_cluster_tproxy(installation).ready()
    assert list_and_fetch(installation.available(alice.namespace, "mail-a")) == mail.files()
    condition = installation.wait_condition(mallory.namespace, "mail-m", CREATION)
    assert condition["status"] == "False"
    assert 'failed calling webhook "broken.example.com"' in condition["message"]
    webhook.remove()
    assert list_and_fetch(installation.available(mallory.namespace, "mail-m")) == mail.files()


@pytest.mark.one_build
def test_no_address_is_left(make_kube, destination_service, make_cluster_tproxy, oauth_dovecot):
    """The API server cannot create a Service that has an address. The existing ones continue."""
    kube = make_kube("--service-cluster-ip-range=10.96.0.0/29")
    installation = Installation(kube, destination_service)
    mail = oauth_dovecot.mailbox([b"Subject: mail\r\n"])
    own = {"mail__user": mail.user, "mail__password": mail.password}
    destination_service.destinations["mail"] = destination(
        "mail", oauth_dovecot.host, oauth_dovecot.pop3, **own
    )
    installation.configure()
    namespace = kube.namespace()
    first = make_cluster_tproxy(installation).ready()
    kube.apply(destination_cr("mail-a", namespace, "mail"))
    port = installation.available(namespace, "mail-a")
    first.kill()
    path = f"/api/v1/namespaces/{namespace}/services"
    with pytest.raises(ApiError, match="range is full"):
        for i in range(8):
            body = {"metadata": {"name": f"fill-{i}"}, "spec": {"ports": [{"port": 1}]}}
            kube.create(path, body)
    kube.apply(destination_cr("mail-b", namespace, "mail"))
    make_cluster_tproxy(installation).ready()
    condition = installation.wait_condition(namespace, "mail-b", CREATION)
    assert "range is full" in condition["message"]
    assert list_and_fetch(port) == mail.files()
    kube.delete(f"{path}/fill-0")
    assert list_and_fetch(installation.available(namespace, "mail-b")) == mail.files()


def test_service_that_a_user_holds(
    installation, make_cluster_tproxy, add_destination, alice, mallory
):
    """The alias of a deleted Destination stays because of a user's finalizer."""
    mail = add_destination("mail")
    installation.configure()
    for user, name in ((alice, "mail-a"), (mallory, "mail-m")):
        user.apply(destination_cr(name, user.namespace, "mail"))
    proxy = make_cluster_tproxy(installation).ready()
    for user, name in ((alice, "mail-a"), (mallory, "mail-m")):
        installation.available(user.namespace, name)
    port = installation.target_port("mail-m")
    mallory.patch(f"{mallory.services}/mail-m", HOLD)
    mallory.delete(f"{mallory.destinations}/mail-m")
    until(lambda: is_closed(port), "the listener to be closed")

    def told() -> list[str]:
        events = installation.events(mallory.namespace)
        return [e["note"] for e in events if e["reason"] == "ServiceDeletionFailed"]

    (note,) = until(told, "an Event")
    assert '"mail-m"' in note and mallory.namespace in note and "finalizer" in note
    assert manager_of(proxy)["Status"] == "warning"
    assert "cannot be deleted" in manager_of(proxy)["Message"]

    proxy.kill()
    proxy = make_cluster_tproxy(installation).ready()
    assert list_and_fetch(installation.available(alice.namespace, "mail-a")) == mail.files()
    alice.delete(f"{alice.destinations}/mail-a")
    until(lambda: not installation.service_of(HOME, "mail-a"), "the other Service to be gone")
    mallory.patch(f"{mallory.services}/mail-m", RELEASE)
    until(lambda: not installation.ours(), "all to be gone")
    until(lambda: manager_of(proxy)["Status"] == "ok", "nothing to be said any more")


def test_name_that_a_user_holds(
    installation, make_cluster_tproxy, add_destination, alice, mallory
):
    """A user has made a Service that looks exactly like that of a deleted Destination and cannot be
    deleted. It withholds its name only from the Destinations of that namespace."""
    mail = add_destination("mail")
    installation.configure()
    alice.apply(destination_cr("mail-a", alice.namespace, "mail"))
    owner = {"apiVersion": "destination.connectivity.api.sap/v1", "kind": "Destination"}
    owners = [{**owner, "name": "nobody", "uid": "1-2-3", "controller": True}]
    metadata = {**HOLD["metadata"], "ownerReferences": owners}
    mallory.create(
        f"{mallory.services}?fieldManager=tproxy-{HOME}",
        forged_service("mail-m", mallory.namespace, "nobody", **metadata),
    )
    for name in ("mail-m", "other"):
        mallory.apply(destination_cr(name, mallory.namespace, "mail"))
    make_cluster_tproxy(installation).ready()
    assert list_and_fetch(installation.available(alice.namespace, "mail-a")) == mail.files()
    assert list_and_fetch(installation.available(mallory.namespace, "other")) == mail.files()
    condition = installation.wait_condition(mallory.namespace, "mail-m", TAKEN)
    assert '"nobody"' in condition["message"]
    mallory.patch(f"{mallory.services}/mail-m", RELEASE)
    assert list_and_fetch(installation.available(mallory.namespace, "mail-m")) == mail.files()


@pytest.fixture
def tenants(installation, oauth, oauth_dovecot, directory):
    """An installation in shared mode with a destination "mail" for each of three tenants. Returns
    their mailboxes and flags for the program."""
    installation.key = installation.service.service_key(by_name=True)
    installation.configure(tenantMode="shared")
    mails = {}
    for tenant in "abc":
        mails[tenant] = oauth_dovecot.mailbox([f"Subject: {tenant}\r\n".encode()])
        own = {"mail__user": mails[tenant].user, "mail__password": mails[tenant].password}
        there = installation.service.tenant(tenant).destinations
        there["mail"] = destination("mail", oauth_dovecot.host, oauth_dovecot.pop3, **own)
    return mails, ("--hosts", str(hosts_file(directory, *oauth.host_names("nobody"))))


@pytest.mark.parametrize("result", ["refused", "failing"])
def test_service_of_one_tenant(
    installation, api, make_cluster_tproxy, tenants, namespace, result
):
    """A tenant's Service cannot be created: other tenants are served, added and removed."""
    code, reason = {"refused": (403, "Forbidden"), "failing": (500, "InternalError")}[result]
    real = api.answer
    broken = True

    def answer(request: Request) -> Response:
        if broken and request.method == "POST" and b'"mail-h-b"' in request.body:
            return Response.json(code, refusal(code, reason, "not this one"))
        return real(request)

    api.answer = answer
    mails, hosts = tenants
    cr = destination_cr("mail-h", namespace, "mail")
    cr["metadata"]["annotations"] = {TENANTS: '["a", "b", "c"]'}
    installation.kube.apply(cr)
    make_cluster_tproxy(installation, *hosts, url=api.url).ready()
    condition = installation.wait_condition(namespace, "mail-h", "FailedToApplyConfiguration")
    assert 'for tenants: ["b"]' in condition["message"]
    assert "not this one" in condition["message"]
    for tenant in "ac":
        port = installation.target_port(f"mail-h-{tenant}")
        assert list_and_fetch(port) == mails[tenant].files()
    broken = False
    installation.wait_condition(namespace, "mail-h", "ConfigurationSuccessful")
    assert list_and_fetch(installation.target_port("mail-h-b")) == mails["b"].files()


def test_former_tenant_whose_service_stays(installation, make_cluster_tproxy, tenants, namespace):
    """The listener is closed, other tenants are added and removed, and the condition names the
    Service that stays."""
    mails, hosts = tenants
    proxy = make_cluster_tproxy(installation, *hosts).ready()
    cr = destination_cr("mail-h", namespace, "mail")
    cr["metadata"]["annotations"] = {TENANTS: '["a"]'}
    installation.kube.apply(cr)
    installation.wait_condition(namespace, "mail-h", "ConfigurationSuccessful")
    port = installation.target_port("mail-h-a")
    path = f"/api/v1/namespaces/{namespace}/services/mail-h-a"
    installation.kube.patch(path, HOLD)
    cr["metadata"]["annotations"] = {TENANTS: '["b"]'}
    installation.kube.apply(cr)
    until(lambda: is_closed(port), "the listener to be closed")

    def message() -> str:
        return installation.condition(namespace, "mail-h")["message"]

    until(lambda: '"mail-h-a"' in message() and "mail-h-b" in message(), "the sentence")
    assert list_and_fetch(installation.target_port("mail-h-b")) == mails["b"].files()
    assert manager_of(proxy)["Status"] == "warning"
    installation.kube.patch(path, RELEASE)
    until(lambda: '"mail-h-a"' not in message(), "the sentence to go")


def test_deleted_in_a_pause(installation, api, make_cluster_tproxy, add_destination, namespace):
    """The API server has failed so often that the next attempt is far away."""
    add_destination("mail")
    installation.configure()
    make_cluster_tproxy(installation, url=api.url).ready()
    path = f"{CRS}/namespaces/{namespace}/destinations"
    installation.kube.create(path, destination_cr("mail-a", namespace, "mail"))
    port = installation.available(namespace, "mail-a")
    real = api.answer

    def is_status(request: Request) -> bool:
        return request.method == "PATCH" and request.path.endswith("/mail-a/status")

    def answer(request: Request) -> Response:
        if is_status(request):
            return Response.json(500, refusal(500, "InternalError", "no"))
        return real(request)

    api.answer = answer
    seen = len(api.requests.all())
    installation.kube.patch(f"{path}/mail-a/status", {"status": {"conditions": []}})
    # The next pause is about 16 seconds long.
    api.requests.wait(is_status, "the fifth try", count=5, start=seen)
    installation.kube.delete(f"{path}/mail-a")
    until(lambda: is_closed(port), "the listener to be closed", patience=8)


def test_deleted_while_the_api_server_does_not_answer(
    installation, api, make_cluster_tproxy, add_destination, namespace
):
    """A webhook may delay the creation of a Service for half a minute."""
    add_destination("mail")
    installation.configure()
    make_cluster_tproxy(installation, url=api.url).ready()
    path = f"{CRS}/namespaces/{namespace}/destinations"

    def creation(request: Request) -> bool:
        return request.method == "POST" and f"/namespaces/{namespace}/services" in request.path

    with api.stalled(creation):
        installation.kube.create(path, destination_cr("mail-a", namespace, "mail"))
        api.requests.wait(creation, "the creation of the alias")
        port = installation.target_port("mail-a")
        assert not is_closed(port)
        installation.kube.delete(f"{path}/mail-a")
        until(lambda: is_closed(port), "the listener to be closed", patience=15)
        until(lambda: not installation.service_of(HOME, "mail-a"), "the Service to be gone")
    until(lambda: not installation.ours(), "all to be gone")


@pytest.mark.one_build
def test_wait_for_targets_has_an_end(
    installation, make_cluster_tproxy, destination_service, namespace
):
    """The Destination service keeps each question for a minute and answers none."""
    installation.configure()
    patient = {"integration": {"destinationService": {"readTimeoutSeconds": 60}}}
    installation.kube.patch(f"{PROXIES}/transparent-proxy", {"spec": {"config": patient}})
    names = [f"mail-{i}" for i in range(40)]
    installation.kube.apply(*[destination_cr(name, namespace, name) for name in names])
    destination_service.behaviour = where(
        lambda request: "/destination-configuration/" in request.path, silent
    )
    proxy = make_cluster_tproxy(installation)
    until(lambda: proxy.http("/readyz")[1] == "waiting for targets\n", "it to wait for targets")
    until(lambda: proxy.http("/readyz")[0] == 200, "the proxy to be ready", patience=90)
