"""The ownership of Services. Labels are claims: a user who may write Services in one namespace can
set any labels, and must not disturb anybody with them."""

import pytest

from harness.destination_service import DestinationService
from harness.installation import CRS, Installation, destination_cr, list_and_fetch
from harness.samples import HOME
from harness.tproxy import destination
from harness.users import NamespaceUser, forged_service
from harness.util import until

TAKEN = "ConfigurationError-K8sResourceWithNameAlreadyPresent"

# The parts of our objects that a user copies: the labels, or everything.
FORGINGS = ["labels", "everything"]


def forge(user: NamespaceUser, how: str, name: str, namespace: str, cr: str) -> dict:
    """Creates a user's Service that claims to be made for a Destination and cannot be deleted."""
    about: dict = {"finalizers": ["example.com/hold"]}
    manager = ""
    if how == "everything":
        owner = {"apiVersion": "destination.connectivity.api.sap/v1", "kind": "Destination"}
        about["ownerReferences"] = [{**owner, "name": cr, "uid": "1-2-3", "controller": True}]
        manager = f"?fieldManager=tproxy-{HOME}"
    return user.create(user.services + manager, forged_service(name, namespace, cr, **about))


def version(user: NamespaceUser, name: str) -> str:
    return user.get(f"{user.services}/{name}")["metadata"]["resourceVersion"]


@pytest.mark.parametrize("how", FORGINGS)
def test_service_that_says_it_was_made_for_another_namespace(
    installation, make_cluster_tproxy, add_destination, alice, mallory, how
):
    """The start does not wait for the Service, the Service is not changed, and no policy is kept
    for it."""
    mail = add_destination("mail")
    installation.configure()
    alice.apply(destination_cr("mail-a", alice.namespace, "mail"))
    lies = {
        "of-nobody": (f"{alice.namespace}-x", "nobody"),
        "of-alice": (alice.namespace, "mail-a"),
        "mail-m": (alice.namespace, "mail-a"),
    }
    versions = {
        name: forge(mallory, how, name, *lie)["metadata"]["resourceVersion"]
        for name, lie in lies.items()
    }
    mallory.apply(destination_cr("mail-m", mallory.namespace, "mail"))

    make_cluster_tproxy(installation).ready()
    assert list_and_fetch(installation.available(alice.namespace, "mail-a")) == mail.files()
    condition = installation.wait_condition(mallory.namespace, "mail-m", TAKEN)
    assert f'"{mallory.namespace}"' in condition["message"]

    alice.delete(f"{alice.destinations}/mail-a")
    until(lambda: not installation.service_of(HOME, "mail-a"), "the Service to be gone")
    policy = f"tproxy-namespace-{alice.namespace}"
    until(lambda: policy not in installation.policies(), "the policy to be gone")
    assert versions == {name: version(mallory, name) for name in lies}


def test_service_that_says_it_was_made_for_nobody(
    installation, make_cluster_tproxy, add_destination, alice, mallory
):
    """The Service looks like that of a deleted Destination in its own namespace. Only the
    Destinations of that namespace can be affected."""
    mail = add_destination("mail")
    installation.configure()
    alice.apply(destination_cr("mail-a", alice.namespace, "mail"))
    forge(mallory, "everything", "x", mallory.namespace, "nobody")
    make_cluster_tproxy(installation).ready()
    assert list_and_fetch(installation.available(alice.namespace, "mail-a")) == mail.files()
    mallory.apply(destination_cr("mail-m", mallory.namespace, "mail"))
    assert list_and_fetch(installation.available(mallory.namespace, "mail-m")) == mail.files()
    alice.delete(f"{alice.destinations}/mail-a")
    policy = f"tproxy-namespace-{alice.namespace}"
    until(lambda: policy not in installation.policies(), "the policy to be gone")


@pytest.mark.parametrize("how", FORGINGS)
def test_condition_of_another_proxy(installation, make_cluster_tproxy, alice, mallory, how):
    """A Service of another namespace does not prove that tproxy has served a Destination."""
    theirs = {
        "type": "Available",
        "status": "True",
        "reason": "ConfigurationSuccessful",
        "message": "by somebody else",
        "lastUpdateTime": "2026-01-01T00:00:00Z",
    }
    installation.configure()
    alice.create(alice.destinations, destination_cr("web", alice.namespace, "not-there"))
    status = f"{CRS}/namespaces/{alice.namespace}/destinations/web/status"
    change = {"status": {"conditions": [theirs]}}
    installation.kube.patch(f"{status}?fieldManager=sap-operator", change)
    forge(mallory, how, "web", alice.namespace, "web")
    # A program that is ready has decided about each Destination. The second one starts with the
    # state in which the first has left the Service.
    for _ in range(2):
        proxy = make_cluster_tproxy(installation).ready()
        alice.create(alice.destinations, destination_cr("later", alice.namespace, "not-there"))
        installation.wait_condition(alice.namespace, "later", "NotFound")
        assert installation.condition(alice.namespace, "web") == theirs
        alice.delete(f"{alice.destinations}/later")
        proxy.kill()


def test_labels_removed_while_the_program_is_away(
    installation, make_cluster_tproxy, add_destination, alice
):
    """The field manager and the owner reference still identify the Service as ours."""
    mail = add_destination("mail")
    installation.configure()
    first = make_cluster_tproxy(installation).ready()
    alice.apply(destination_cr("mail-a", alice.namespace, "mail"))
    port = installation.available(alice.namespace, "mail-a")
    first.kill()
    before = installation.service_of(alice.namespace, "mail-a")
    change = {"metadata": {"labels": None}, "spec": {"externalName": "elsewhere.example.com"}}
    alice.patch(f"{alice.services}/mail-a", change)

    def put_right() -> bool:
        now = installation.service_of(alice.namespace, "mail-a")
        about = now["metadata"]
        same = all(about.get(key) == before["metadata"][key] for key in ("uid", "labels"))
        return same and now["spec"] == before["spec"]

    make_cluster_tproxy(installation).ready()
    until(put_right, "the Service to be put right")
    assert installation.condition(alice.namespace, "mail-a")["status"] == "True"
    assert list_and_fetch(port) == mail.files()


def test_adopting_what_another_installation_has_made(
    installation, make_cluster_tproxy, oauth, secrets, oauth_dovecot, alice
):
    """The first of two installations that need one Service keeps it, even if the annotation asks
    for the adoption of a leftover of SAP's proxy."""
    kube = installation.kube
    cr = destination_cr("mail-a", alice.namespace, "mail")
    cr["metadata"]["annotations"] = {"tproxy/adopt": "true"}
    with DestinationService(oauth, secrets) as service:
        second = Installation(kube, service, "second")
        mail = oauth_dovecot.mailbox([b"Subject: second\r\n"])
        own = {"mail__user": mail.user, "mail__password": mail.password}
        for each in (installation, second):
            each.service.destinations["mail"] = destination(
                "mail", oauth_dovecot.host, oauth_dovecot.pop3, **own
            )
            each.configure()
        theirs = make_cluster_tproxy(second).ready()
        alice.apply(cr)
        port = second.available(alice.namespace, "mail-a")
        theirs.kill()
        before = version(alice, "mail-a")
        make_cluster_tproxy(installation).ready()
        condition = installation.wait_condition(alice.namespace, "mail-a", TAKEN)
        assert "adopt" not in condition["message"]
        assert version(alice, "mail-a") == before
        make_cluster_tproxy(second).ready()
        assert list_and_fetch(port) == mail.files()
