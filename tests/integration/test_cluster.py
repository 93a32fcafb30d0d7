"""The main job: a Destination custom resource becomes a Service behind which a mailbox answers."""

import pytest

from harness.installation import INSTANCE, Installation, destination_cr, list_and_fetch
from harness.samples import HOME
from harness.tproxy import destination
from harness.util import until


NAME = "example-dest-pop3"


@pytest.fixture
def mail(oauth_dovecot, messages):
    return oauth_dovecot.mailbox(messages)


def basic(dovecot, mail) -> dict:
    return destination(
        NAME, dovecot.host, dovecot.pop3, mail__user=mail.user, mail__password=mail.password
    )


def test_basic(installation, cluster_tproxy, oauth_dovecot, mail, messages):
    installation.service.destinations["example-dest-pop3"] = basic(oauth_dovecot, mail)
    namespace = installation.kube.namespace()
    installation.kube.apply(destination_cr("mail-a", namespace, "example-dest-pop3"))
    port = installation.available(namespace, "mail-a")
    assert list_and_fetch(port) == messages
