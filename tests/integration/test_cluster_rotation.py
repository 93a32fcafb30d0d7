"""Keys, secrets and destinations change while there are sessions: new ones take effect without a
restart, and no session fails."""

import threading
from collections import Counter
from collections.abc import Callable

import pytest

from harness.destination_service import HOST, key_secret, private_key_secret
from harness.dns import hosts_file
from harness.installation import (
    CONNECTIVITY,
    CONNECTIVITY_HOSTS,
    INSTANCE,
    destination_cr,
    list_and_fetch,
)
from harness.samples import HOME
from harness.user_logins import fetch
from harness.util import PATIENCE, until

# The seconds in which a changed Secret must take effect, and a changed destination: the shortest
# interval that can be configured, and the time to read the destination.
AT_ONCE = 5
INTERVAL = 60 + AT_ONCE

PAUSE = 0.05  # between two sessions

VIRTUAL_HOST = "pop.test"
FAR = {"mail.pop3.host": VIRTUAL_HOST, "mail.pop3.port": "110", "ProxyType": "OnPremise"}

PRIVATE_KEY = "x509-svc-key-private-key"  # the Secret's name unless it is configured

Session = Callable[[], list[bytes]]


class Traffic:
    """Sessions of several kinds, one after another for each kind, until the end. None may fail."""

    def __init__(self, sessions: dict[str, Session]):
        self.done: Counter[str] = Counter()
        self.latest: dict[str, list[bytes]] = {}  # the messages that each kind has fetched
        self.failures: list[BaseException] = []
        self._sessions = sessions
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._go_on, args=(name,)) for name in sessions]

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        assert not self.failures, self.failures

    def until(self, condition: Callable[[], bool], what: str, patience: float) -> None:
        """Waits while sessions continue."""
        until(lambda: self.failures or condition(), what, patience, every=0.05)
        assert not self.failures, self.failures

    def go_round(self) -> None:
        """Waits until a session of each kind has begun and ended."""
        wanted = Counter({name: self.done[name] + 2 for name in self._sessions})
        self.until(lambda: self.done >= wanted, "more sessions", PATIENCE)

    def _go_on(self, name: str) -> None:
        try:
            while not self._over.wait(PAUSE):
                self.latest[name] = self._sessions[name]()
                self.done[name] += 1
        except BaseException as failure:
            self.failures.append(failure)


@pytest.fixture
def mails(installation, oauth, oauth_dovecot, connectivity_proxy, add_destination):
    """The mailboxes by destination: with a password, on premise, with tokens, for users."""
    connectivity_proxy.expose(VIRTUAL_HOST, 110, (oauth_dovecot.host, oauth_dovecot.pop3))
    return {
        "near": add_destination("near"),
        "far": add_destination("far", **FAR),
        "tokens": add_destination("tokens", mail__password=None),
        "users": add_destination("users", mail__password=None),
    }


@pytest.fixture
def start(
    installation, make_cluster_tproxy, oauth, connectivity_proxy, mails, namespace, directory
):
    """Returns a function that starts the program and returns the kinds of sessions."""

    def start(**config: object) -> dict[str, Session]:
        found, clients = installation.service.destinations, {}
        for name, kind in (("tokens", "OAuth2ClientCredentials"), ("users", "OAuth2RefreshToken")):
            clients[name] = oauth.mail_client(mails[name].user)
            found[name] |= oauth.properties(clients[name], kind)
        installation.configure(connectivity=connectivity_proxy, **config)
        installation.kube.apply(*(destination_cr(name, namespace, name) for name in mails))
        hosts = hosts_file(directory, HOST, *oauth.host_names(), *CONNECTIVITY_HOSTS)
        make_cluster_tproxy(installation, "--hosts", str(hosts)).ready()
        ports = {name: installation.available(namespace, name) for name in mails}
        user = mails["users"].user
        token = oauth.refresh_token(clients["users"], user)
        sessions = {name: (lambda port=port: list_and_fetch(port)) for name, port in ports.items()}
        return {**sessions, "users": lambda: fetch(ports["users"], user, token)}

    return start


def rotate(kube, name: str, key: dict[str, object], apart: bool) -> None:
    """Applies a new key. With `apart` the private key has a Secret of its own."""
    if apart:
        key = dict(key)
        kube.apply(private_key_secret(PRIVATE_KEY, HOME, key.pop("key")))
    kube.apply(key_secret(name, HOME, key, "key"))


@pytest.mark.parametrize(
    "kind, apart",
    [("binding-secret", False), ("x509", False), ("x509", True), ("ias", True)],
    ids=["secrets", "certificates", "certificates apart", "IAS"],
)
def test_service_keys(
    installation, start, destination_service, connectivity_proxy, oauth, kind, apart
):
    """The old key is refused from then on."""
    service, kube = destination_service, installation.kube
    installation.key = service.service_key(kind, by_name=True)
    other = "x509" if kind == "ias" else kind
    installation.connectivity_key = connectivity_proxy.service_key(other, by_name=True)
    keys = {INSTANCE: installation.key, CONNECTIVITY[1]: installation.connectivity_key}

    def granted(client: str) -> int:
        return sum(request.status == 200 for request in oauth.requests_of(client))

    with Traffic(start()) as traffic:
        traffic.go_round()
        for name in (*keys, *keys):
            keys[name] = service.renewed(keys[name])
            client = keys[name]["clientid"]
            before = granted(client)
            rotate(kube, name, keys[name], apart and name == INSTANCE)
            traffic.until(lambda: granted(client) > before, f"a token for {name}", AT_ONCE)
            traffic.go_round()


@pytest.mark.slow
@pytest.mark.one_build
def test_destinations(installation, start, mails, oauth, add_destination, oauth_dovecot):
    """The destinations get another mailbox with its password, other tokens for it, and another
    route to it."""
    sessions = start(manager={"executionIntervalMinutes": 1})
    found = installation.service.destinations
    with Traffic(sessions) as traffic:
        traffic.go_round()
        for name in ("near", "tokens", "far"):
            changed = dict(found[name])
            mails[name] = add_destination(f"other-{name}")
            changed["mail.user"] = mails[name].user
            if name == "tokens":
                changed |= oauth.properties(oauth.mail_client(mails[name].user))
            else:
                changed["mail.password"] = mails[name].password
            found[name] = changed
        found["users"] |= {"mail.pop3.starttls.enable": "true", "mail.pop3.host": "localhost"}

        def is_seen() -> bool:
            return all(traffic.latest[name] == mails[name].files() for name in mails)

        def is_encrypted() -> bool:
            return oauth_dovecot.logins(mails["users"].user, 1)[-1] == ("XOAUTH2", True)

        traffic.until(lambda: is_seen() and is_encrypted(), "what is new", INTERVAL)
        for _ in range(5):
            traffic.go_round()
            assert is_seen()
