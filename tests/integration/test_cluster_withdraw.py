"""A name passes from one user's Destination to another's. The first user's alias never leads into
the second one's mailbox, and conditions name what cannot be deleted at once."""

import pytest

from harness.fault_proxy import refuse
from harness.http_server import proper, where
from harness.installation import TARGET_PORTS, destination_cr, list_and_fetch
from harness.samples import HOME
from harness.util import until
from test_cluster_names import DUPLICATE, TAKEN, next_second

NOWHERE = "withdrawn.tproxy.invalid"
AT_HOME = f"mail-a.{HOME}.svc.cluster.local"
HOLD = {"metadata": {"finalizers": ["example.com/hold"]}}
RELEASE = {"metadata": {"finalizers": None}}


class Handover:
    """mallory's Destination "mail-a" is served; alice's, which is younger and for all namespaces,
    needs the name."""

    def __init__(self, installation, mails, alice, mallory):
        self.installation = installation
        self.mails = mails
        self.alice, self.mallory = alice, mallory
        mallory.apply(destination_cr("mail-a", mallory.namespace, "older"))
        self.port = installation.available(mallory.namespace, "mail-a")
        next_second()
        scope = {"scope": "clusterWide"}
        alice.apply(destination_cr("mail-a", alice.namespace, "younger", accessControl=scope))
        installation.wait_condition(alice.namespace, "mail-a", DUPLICATE)

    def begin(self) -> None:
        self.mallory.delete(f"{self.mallory.destinations}/mail-a")

    def owner(self) -> str:
        """Returns the namespace of the home Service's Destination; "" if there is no Service."""
        service = self.installation.service_of(HOME, "mail-a")
        return service["metadata"]["labels"]["tproxy/destination-namespace"] if service else ""

    def lead(self) -> str:
        """Returns where mallory's alias leads; "" if it is deleted."""
        alias = self.installation.service_of(self.mallory.namespace, "mail-a")
        return alias["spec"]["externalName"] if alias else ""

    def waits(self, words: str) -> None:
        """Checks that alice is told what she waits for, and that the name is still mallory's."""
        condition = self.installation.wait_condition(self.alice.namespace, "mail-a", TAKEN)
        assert words in condition["message"]
        assert f'"{self.mallory.namespace}"' in condition["message"]
        assert self.owner() == self.mallory.namespace

    def done(self) -> None:
        port = self.installation.available(self.alice.namespace, "mail-a")
        assert self.lead() in ("", NOWHERE)
        assert port != self.port
        assert self.owner() == self.alice.namespace
        assert list_and_fetch(port) == self.mails["younger"].files()

    def alias_goes(self) -> None:
        until(lambda: not self.lead(), "the alias to be gone")


@pytest.fixture
def handover(installation, api, make_cluster_tproxy, add_destination, alice, mallory):
    mails = {name: add_destination(name) for name in ("older", "younger")}
    installation.configure()
    make_cluster_tproxy(installation, *TARGET_PORTS, url=api.url).ready()
    return Handover(installation, mails, alice, mallory)


def at_alias(handover, *methods: str):
    path = f"/api/v1/namespaces/{handover.mallory.namespace}/services/mail-a"
    return lambda request: request.method in methods and request.path == path


def test_alias_that_a_finalizer_keeps(handover):
    """mallory keeps the alias in her own namespace with a finalizer. Her later changes of it delay
    nobody."""
    path = f"{handover.mallory.services}/mail-a"
    handover.mallory.patch(path, HOLD)
    handover.begin()
    handover.done()
    assert handover.lead() == NOWHERE
    handover.mallory.patch(path, {"spec": {"externalName": AT_HOME}})
    handover.mallory.patch(path, RELEASE)
    handover.alias_goes()
    assert list_and_fetch(handover.installation.target_port("mail-a"))


def test_alias_whose_deletion_is_refused(handover, api):
    refused = at_alias(handover, "DELETE")
    api.behaviour = where(refused, refuse(403, "Forbidden", "the webhook says no"))
    handover.begin()
    handover.done()
    assert handover.lead() == NOWHERE
    api.behaviour = proper
    handover.alias_goes()


@pytest.mark.parametrize("code, reason", [(403, "Forbidden"), (500, "InternalError")])
def test_alias_that_can_be_neither_deleted_nor_changed(handover, api, code, reason):
    api.behaviour = where(at_alias(handover, "DELETE", "PATCH"), refuse(code, reason, "no"))
    handover.begin()
    handover.waits("stays until the Service of this name there has been deleted or leads nowhere")
    assert handover.lead() == AT_HOME
    api.behaviour = proper
    handover.done()
    handover.alias_goes()


def test_alias_whose_deletion_is_not_answered(handover, api):
    with api.stalled(at_alias(handover, "DELETE")):
        handover.begin()
        handover.waits("stays until the Service of this name there has been deleted")
    handover.done()
    handover.alias_goes()


def test_home_service_that_a_finalizer_keeps(handover):
    """A DELETE is answered with success although the Service still exists."""
    kube = handover.installation.kube
    path = f"/api/v1/namespaces/{HOME}/services/mail-a"
    kube.patch(path, HOLD)
    handover.begin()
    handover.waits("is being deleted; it waits for its finalizers")
    assert kube.get(path)["metadata"]["deletionTimestamp"]
    handover.alias_goes()
    kube.patch(path, RELEASE)
    handover.done()


def test_destination_that_comes_back(handover):
    """mallory's Destination returns after the alias has been cut off. It is the younger one now, so
    the alias stays cut off."""
    path = f"{handover.mallory.services}/mail-a"
    handover.mallory.patch(path, HOLD)
    handover.begin()
    handover.done()
    again = destination_cr("mail-a", handover.mallory.namespace, "older")
    handover.mallory.apply(again)
    handover.installation.wait_condition(handover.mallory.namespace, "mail-a", DUPLICATE)
    handover.done()
    assert handover.lead() == NOWHERE
    handover.mallory.patch(path, RELEASE)
    handover.alias_goes()
