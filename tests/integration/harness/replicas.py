"""Several replicas of the program, of which one leads, and their writes in the API server's audit
log."""

import base64
import datetime
import json

from harness.clients import RawClient
from harness.installation import ClusterTproxy
from harness.kube import Kube
from harness.rights import audit_events
from harness.samples import HOME

LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases/tproxy"

# The shortest periods, for tests that wait for the end of a term.
DURATION = 3
SHORT = (
    *("--leader-elect-lease-duration", str(DURATION)),
    *("--leader-elect-renew-deadline", "2"),
    *("--leader-elect-retry-period", "1"),
)

LEADS = "this replica leads: "

WRITES = ("create", "update", "patch", "delete")

# Since when a replica leads, and who it is for the audit log.
Term = tuple[datetime.datetime, str]


def moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


class Replica:
    """One of several programs with the same ServiceAccount. The addresses differ, because the
    target ports are the same; the tokens differ, so that the audit log can tell them apart."""

    def __init__(self, proxy: ClusterTproxy, address: str):
        self.proxy = proxy
        self.address = address
        payload = (proxy.credentials / "token").read_text().split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        self.token_id = f"JTI={claims['jti']}"

    def lease_line(self, words: str, start: int = 0) -> dict:
        """Waits for a line of the election with these words."""
        return self.proxy.logs.wait(
            lambda line: line["module"] == "lease" and words in line["msg"], words, start=start
        )

    def term(self, start: int = 0) -> Term:
        """Waits until it leads."""
        return self._term_of(self.lease_line(LEADS, start))

    def terms(self) -> list[Term]:
        """Returns all its terms so far."""
        return [
            self._term_of(line)
            for line in self.proxy.logs.all()
            if line["module"] == "lease" and line["msg"].startswith(LEADS)
        ]

    def identity(self) -> str:
        """Returns its name in the Lease, once it has led."""
        return self.lease_line(LEADS)["msg"].removeprefix(LEADS).split(",")[0]

    def leads(self) -> bool:
        """Returns whether it says so itself. It needs `metrics.prometheus.enabled`."""
        return self.proxy.metric("tproxy_leader") == 1

    def follows(self) -> "Replica":
        """Waits until it knows of a leader."""
        self.lease_line(" leads, since ")
        return self

    def status(self) -> str:
        components = json.loads(self.proxy.http("/status")[1])["Components"]
        return components["sap-transp-proxy-manager"]["Message"]

    def answers(self, port: int) -> bool:
        with RawClient(port, host=self.address) as client:
            return client.command(b"STAT").startswith(b"+OK 1 ")

    def _term_of(self, line: dict) -> Term:
        return moment(line["msg"].rsplit(" ", 1)[1]), self.token_id


class Audit:
    """The writes of all replicas since it was made, except those of the Lease."""

    def __init__(self, kube: Kube):
        self._directory = kube.directory
        self._begin = now()

    def writes(self) -> list[tuple[datetime.datetime, str, str]]:
        """Returns when each write was received, whose it is, and what it is."""
        found = []
        for event in audit_events(self._directory):
            what, verb = event["objectRef"], event["verb"]
            received = moment(event["requestReceivedTimestamp"])
            if received >= self._begin and verb in WRITES and what["resource"] != "leases":
                (token,) = event["user"]["extra"]["authentication.kubernetes.io/credential-id"]
                place = "/".join(filter(None, (what.get("namespace"), what.get("name"))))
                found.append((received, token, f"{verb} {what['resource']} {place}"))
        return sorted(found)

    def check(self, terms: list[Term]) -> None:
        """Checks that within each term its leader, and nobody else, has written."""
        writes = self.writes()
        ends = [*(begin for begin, _ in terms[1:]), now()]
        for (begin, leader), end in zip(terms, ends, strict=True):
            there = [write for write in writes if begin <= write[0] < end]
            assert there, "a term without a write proves nothing"
            assert not [write for write in there if write[1] != leader]

    def strangers(self, terms: list[Term]) -> list[str]:
        """Returns the writes of those who did not lead when the write was received."""
        found = []
        for received, token, what in self.writes():
            leader = max((term for term in terms if term[0] <= received), default=None)
            if not leader or leader[1] != token:
                since = f", in the term since {leader[0].time()}" if leader else ""
                found.append(f"{received.time()} {what}, by {token}{since}")
        return found
