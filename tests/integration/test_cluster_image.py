"""The image as a pod of a cluster: its own file tree, read-only, a user without rights, and only
what the kubelet gives to a container."""

import json
import urllib.parse

import pytest

from harness.image import Container
from harness.installation import ClusterTproxy, destination_cr, list_and_fetch
from harness.samples import HOME
from harness.util import is_root

pytestmark = pytest.mark.skipif(not is_root(), reason="only root may give a process another root")

CREDENTIALS = "/var/run/secrets/kubernetes.io/serviceaccount"

# The flags that are needed because mail servers and other tests share the machine. No other flag of
# the harness is used.
FLAGS = {"--listen": "127.0.0.1", "--allow-loopback": ""}
NOT_SAID = ("--target-ports", "--log-level", "--log-format", "--drain-delay", "--grace")

DOMAIN = "cluster.test"


@pytest.fixture
def pod(image, installation, directory) -> ClusterTproxy:
    installation.configure()
    server = urllib.parse.urlsplit(installation.kube.url)
    search = " ".join(f"{part}{DOMAIN}" for part in (f"{HOME}.svc.", "svc.", ""))
    resolv_conf = directory / "resolv.conf"
    resolv_conf.write_text(f"nameserver 127.0.0.1\nsearch {search}\noptions ndots:5\n")
    mounts = {
        CREDENTIALS: installation.kube.credentials(directory / "credentials", HOME, "tproxy"),
        "/etc/resolv.conf": resolv_conf,
    }
    container = Container(
        image,
        mounts,
        KUBERNETES_SERVICE_HOST=server.hostname,
        KUBERNETES_SERVICE_PORT=str(server.port),
    )
    not_said = [word for flag in NOT_SAID for word in (flag, None)]
    with ClusterTproxy(container, directory, FLAGS, *not_said) as running:
        yield running.ready()


def test_main_job(pod, image, installation, namespace, add_destination, oauth, messages):
    add_destination("basic", messages)
    mail = add_destination("token", messages, mail__password=None)
    client = oauth.mail_client(mail.user)
    installation.service.destinations["token"] |= oauth.properties(client)
    for name in ("basic", "token"):
        installation.kube.apply(destination_cr(name, namespace, name))
        assert list_and_fetch(installation.available(namespace, name)) == messages
        alias = installation.service_of(namespace, name)
        assert alias["spec"]["externalName"] == f"{name}.{HOME}.svc.{DOMAIN}"
    assert json.loads(pod.http("/status")[1])["Status"] == "ok"

    # kubectl exec POD -- /etc/logging/change-log-level LEVEL
    assert not any(line["level"] == "debug" for line in pod.logs.all())
    change = Container(image, {}, "/etc/logging/change-log-level")
    run = change.run("debug", "--control", pod.control)
    assert run.returncode == 0, run.stderr
    add_destination("more")
    installation.kube.apply(destination_cr("more", namespace, "more"))
    pod.wait_log('destination more of instance "dest-service-instance": found', level="debug")
