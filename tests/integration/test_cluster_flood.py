"""One namespace has very many resources. Others are served as soon as without them, and it gets no
more than its share of the target ports."""

import contextlib
import json
import threading

import pytest

from harness.installation import CRS, TARGET_PORTS, Installation, destination_cr, list_and_fetch
from harness.util import until

FLOOD = 400
WRITERS = 4
BOUND = 3


def create_flood(installation: Installation, namespace: str) -> None:
    """Creates the resources over a few connections, because a process for each would take
    minutes."""
    headers = {
        "Authorization": f"Bearer {installation.kube.token}",
        "Content-Type": "application/json",
    }
    path = f"{CRS}/namespaces/{namespace}/destinations"
    failures = []

    def create(part: int) -> None:
        with contextlib.closing(installation.kube.connect()) as connection:
            for number in range(part, FLOOD, WRITERS):
                cr = destination_cr(f"flood-{number}", namespace, "mail")
                connection.request("POST", path, json.dumps(cr), headers)
                answer = connection.getresponse()
                text = answer.read()
                if answer.status != 201:
                    failures.append(text)

    writers = [threading.Thread(target=create, args=(part,)) for part in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not failures, failures[0]


def available(installation: Installation, namespace: str) -> int:
    """Returns the number of available resources in the namespace."""
    items = installation.kube.items(f"{CRS}/namespaces/{namespace}/destinations")
    conditions = [item.get("status", {}).get("conditions", []) for item in items]
    return sum(c["status"] == "True" for found in conditions for c in found)


def test_flood(installation, make_cluster_tproxy, add_destination):
    """The flood has been listed when the first of it is served. So has a single resource of another
    namespace, which is the last in every order."""
    installation.configure()
    add_destination("mail")
    spaces = sorted(installation.kube.namespace() for _ in range(2))
    create_flood(installation, spaces[0])
    installation.kube.apply(destination_cr("single", spaces[1], "mail"))
    proxy = make_cluster_tproxy(installation, *TARGET_PORTS)
    port = installation.available(spaces[1], "single")
    served = available(installation, spaces[0])
    assert served < FLOOD / 2, "the others had to wait for the flood"
    list_and_fetch(port)
    proxy.ready()
    until(lambda: available(installation, spaces[0]) == FLOOD, "the flood to be served", 120)


@pytest.mark.one_build
def test_bound(installation, make_cluster_tproxy, add_destination):
    """The oldest resources of a namespace keep their targets; the others report why they have
    none."""
    installation.configure()
    add_destination("mail")
    many, few = (installation.kube.namespace() for _ in range(2))
    names = [f"mail-{number}" for number in range(BOUND + 2)]
    make_cluster_tproxy(installation, *TARGET_PORTS, "--namespace-targets", str(BOUND))
    for name in names[:BOUND]:
        installation.kube.apply(destination_cr(name, many, "mail"))
        installation.available(many, name)
    for name in names[BOUND:]:
        installation.kube.apply(destination_cr(name, many, "mail"))
        condition = installation.wait_condition(many, name, "ConfigurationFailed")
        assert f"all {BOUND} targets that one namespace may have" in condition["message"]
        assert "--namespace-targets" in condition["message"]
    installation.kube.apply(destination_cr("other", few, "mail"))
    list_and_fetch(installation.available(few, "other"))
    installation.kube.delete(f"{CRS}/namespaces/{many}/destinations/{names[0]}")
    list_and_fetch(installation.available(many, names[BOUND]))
    assert installation.condition(many, names[-1])["reason"] == "ConfigurationFailed"
