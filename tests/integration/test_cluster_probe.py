"""`tproxy probe` in a cluster: a mailbox is named by its resource, and by its tenant."""

import json

from test_cluster_tenants import NAME, mail_of, shared, start  # noqa: F401

from harness.installation import destination_cr
from harness.tproxy import Tproxy, destination
from harness.util import until


def probe(proxy: Tproxy, name: str) -> tuple[int, dict]:
    done = proxy.program.run("probe", "--control", proxy.control, "--json", name)
    return done.returncode, json.loads(done.stdout) if done.stdout else {"text": done.stderr}


def test_resource(installation, cluster_tproxy, oauth_dovecot, namespace):
    """The destination is asked for at the service, and the probe sees the mail of its mailbox."""
    box = oauth_dovecot.mailbox([b"Subject: one\r\n\r\n"])
    own = {"mail__user": box.user, "mail__password": box.password}
    there = installation.service.destinations
    there[NAME] = destination(NAME, oauth_dovecot.host, oauth_dovecot.pop3, **own)
    installation.kube.apply(destination_cr("mail", namespace, NAME))
    until(lambda: probe(cluster_tproxy, f"{namespace}/mail")[0] == 0, "the probe to succeed")
    code, said = probe(cluster_tproxy, f"{namespace}/mail")
    origin = said["steps"][0]["details"]
    assert origin.keys() == {"destination"} and "cached for " in origin["destination"]
    assert code == 0 and said["steps"][-2]["text"].startswith("+OK 1 ")
    code, said = probe(cluster_tproxy, f"{namespace}/lost")
    assert code == 1 and f"no mailbox {namespace}/lost is served here" in said["text"]


def test_tenant(installation, shared, start):
    """Each tenant has a mailbox of its own; a wrong tenant has none."""
    proxy = start()
    shared.apply("acme", "umbrella")
    shared.serves("acme", "umbrella")
    for tenant in ("acme", "umbrella"):
        code, said = probe(proxy, f"{shared.namespace}/mail-h/{tenant}")
        stat = f"+OK 1 {len(mail_of(tenant))}"
        assert code == 0 and said["steps"][-2]["text"].startswith(stat), said
    code, said = probe(proxy, f"{shared.namespace}/mail-h/globex")
    assert code == 1 and "mail-h/globex is served here" in said["text"]
