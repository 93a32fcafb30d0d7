"""Clusters with IPv4 and IPv6, and with IPv6 only."""

import pytest

from harness.destination_service import DestinationService
from harness.installation import Installation, destination_cr, list_and_fetch
from harness.kube import Kube
from harness.samples import HOME
from harness.tproxy import destination

HOSTS = {"IPv4": "127.0.0.1", "IPv6": "::1"}
RANGES = {"IPv4": "10.96.0.0/16", "IPv6": "fd00:10:96::/112"}
# The address that the API server names for itself has to be of the first family.
NAMED = {"IPv4": "127.0.0.1", "IPv6": "fd00::1"}


@pytest.mark.parametrize("families", [["IPv4", "IPv6"], ["IPv6"]], ids=["both", "IPv6 only"])
@pytest.mark.one_build
def test_families(
    make_kube, destination_service: DestinationService, make_cluster_tproxy, oauth_dovecot, families
):
    """A Service has an address of each family, a client of each family is served, and a restart
    writes nothing."""
    kube: Kube = make_kube(
        f"--service-cluster-ip-range={','.join(RANGES[family] for family in families)}",
        f"--advertise-address={NAMED[families[0]]}",
    )
    installation = Installation(kube, destination_service)
    mail = oauth_dovecot.mailbox([b"Subject: mail\r\n"])
    own = {"mail__user": mail.user, "mail__password": mail.password}
    destination_service.destinations["mail"] = destination(
        "mail", oauth_dovecot.host, oauth_dovecot.pop3, **own
    )
    installation.configure()
    listen = "::" if len(families) > 1 else "::1"
    namespace = kube.namespace()
    kube.apply(destination_cr("mail-a", namespace, "mail"))
    versions = None
    for _ in range(2):
        tproxy = make_cluster_tproxy(installation, "--listen", listen).ready()
        port = installation.available(namespace, "mail-a")
        for family in families:
            assert list_and_fetch(port, HOSTS[family]) == mail.files()
        home, alias = (installation.service_of(each, "mail-a") for each in (HOME, namespace))
        assert home["spec"]["ipFamilies"] == families
        assert len(home["spec"]["clusterIPs"]) == len(families)
        assert "ipFamilies" not in alias["spec"]
        written = [each["metadata"]["resourceVersion"] for each in (home, alias)]
        assert versions in (None, written)
        versions = written
        tproxy.kill()
