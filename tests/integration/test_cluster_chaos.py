"""Random changes and faults around two replicas; see the package chaos. `make chaos` runs more of
them, with other seeds."""

import os
import random
import tempfile
from pathlib import Path

import pytest

from chaos.fleet import Fleet
from chaos.sessions import Mailboxes
from chaos.steps import Chaos
from chaos.world import SUBDOMAINS, World
from harness.dns import hosts_file
from harness.fault_proxy import FaultProxy
from harness.replicas import SHORT, Replica

STEPS = int(os.environ.get("CHAOS_STEPS", "100"))
SEED = os.environ.get("CHAOS_SEED", "388")  # a number, or "random"; with 388 every step occurs

REPLICAS = 2

# Access tokens for the Destination service are renewed after a few seconds.
LIFETIME = 20


@pytest.fixture
def kube(make_kube):
    """It is restarted, and forgets old versions of objects."""
    return make_kube("--watch-cache=false", "--etcd-compaction-interval=0")


@pytest.fixture
def apis(kube):
    proxies = [FaultProxy(kube) for _ in range(REPLICAS)]
    for proxy in proxies:
        proxy.start()
    yield proxies
    for proxy in proxies:
        proxy.__exit__(None)


@pytest.fixture
def world(installation, oauth, backends, certificates, apis, make_cluster_tproxy, directory):
    for tenant in SUBDOMAINS:
        installation.service.tenant(tenant)
    installation.key = installation.service.service_key(by_name=True, lifetime=LIFETIME)
    hosts = ("--hosts", str(hosts_file(directory, *oauth.host_names())))
    # So few ports that one which is given twice is soon found, and enough for all that rest.
    last = 16384 + 4 * STEPS + 100
    flags = ("--target-ports", f"16384-{last}", "--log-level", "info", *hosts, *SHORT)

    def start(address: str, url: str) -> Replica:
        more = ("--leader-elect", "", "--listen", address, *flags)
        return Replica(make_cluster_tproxy(installation, *more, url=url), address)

    fleet = Fleet(installation.kube, start, apis)
    mailboxes = Mailboxes(backends, certificates.server_context(certificates.good))
    world = World(installation, oauth, mailboxes, fleet)
    for place in fleet.places:
        fleet.start(place)
    yield world
    fleet.resume_all()
    world.sessions.leave(lambda target, replica: True)


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(300 + 10 * STEPS)
def test_chaos(world, capsys):
    seed = random.SystemRandom().randrange(1 << 32) if SEED == "random" else int(SEED)

    def tell(line: str) -> None:
        if "CHAOS_STEPS" in os.environ:
            with capsys.disabled():
                print(line, flush=True)

    tell(f"\nseed {seed}, {STEPS} steps")
    Chaos(world, seed).run(STEPS, tell)
