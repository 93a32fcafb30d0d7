"""A connection to the API server dies without a notice."""


import pytest

from harness.clients import RawClient, is_closed
from harness.installation import CRS, TARGET_PORTS, destination_cr, list_and_fetch
from harness.util import until
from harness.wire import Wire

# In seconds. The kernel needs 25 on an idle machine; the end of a watch would come after 300 or
# more.
NOTICED = 90


@pytest.mark.one_build
def test_dead_watch(installation, api, make_cluster_tproxy, add_destination, namespace):
    """The watch of the Destinations is idle when packets begin to vanish and a resource is deleted.
    The program notices within seconds, and closes the mailbox after the route works again."""
    installation.configure(metrics={"prometheus": {"enabled": True}})
    add_destination("mail")
    installation.kube.apply(*(destination_cr(name, namespace, "mail") for name in ("one", "two")))
    with Wire(api.port) as wire:
        proxy = make_cluster_tproxy(installation, *TARGET_PORTS, url=wire.url).ready()
        ports = [installation.available(namespace, name) for name in ("one", "two")]
        restarts = "tproxy_kube_watch_restarts_total"
        before = proxy.metric(restarts, kind="destinations") if restarts in proxy.metrics() else 0
        wire.cut()
        installation.kube.delete(f"{CRS}/namespaces/{namespace}/destinations/one")
        until(
            lambda: restarts in proxy.metrics()
            and proxy.metric(restarts, kind="destinations") > before,
            "the dead connection to be noticed",
            patience=NOTICED,
            every=0.5,
        )
        list_and_fetch(ports[0])
        wire.mend()
        until(lambda: is_closed(ports[0]), "the mailbox of the deleted one to close", patience=60)
        list_and_fetch(ports[1])
