"""The replicas. Each has a place: an address, and a proxy of its own to the API server."""

import contextlib
import signal
from collections.abc import Callable

from harness.fault_proxy import FaultProxy
from harness.http_server import proper
from harness.kube import ApiError, Kube
from harness.replicas import LEASE, Audit, Replica, Term


class Place:
    def __init__(self, number: int, api: FaultProxy):
        self.address = f"127.0.2.{number}"
        self.api = api
        self.replica: Replica | None = None
        self.stopped = False  # by SIGSTOP
        self.stalls = contextlib.ExitStack()  # what the proxy keeps back

    def __str__(self) -> str:
        return self.address

    @property
    def lives(self) -> bool:
        return self.replica is not None and not self.stopped

    def mend(self) -> None:
        """Ends all faults of the proxy."""
        self.stalls.close()
        self.api.behaviour = proper


class Fleet:
    """`start` starts the program with an address and the URL of the API server."""

    def __init__(self, kube: Kube, start: Callable[[str, str], Replica], apis: list[FaultProxy]):
        self.places = [Place(number, api) for number, api in enumerate(apis, 1)]
        self._kube = kube
        self._start = start
        self._audit = Audit(kube)
        self._replicas: list[Replica] = []  # all that there ever were
        self._audited: int | None = 0  # the number of terms at the last audit; None: audit again

    def living(self) -> list[Place]:
        return [place for place in self.places if place.lives]

    # --- life ---

    def start(self, place: Place) -> None:
        place.replica = self._start(place.address, place.api.url)
        self._replicas.append(place.replica)

    def kill(self, place: Place) -> None:
        place.replica.proxy.kill()
        place.replica, place.stopped = None, False

    def stop(self, place: Place) -> None:
        place.replica.proxy.signal(signal.SIGSTOP)
        place.stopped = True

    def resume(self, place: Place) -> None:
        place.replica.proxy.signal(signal.SIGCONT)
        place.stopped = False
        self._audited = None

    def terminate(self, place: Place) -> None:
        """Sends SIGTERM to a replica that runs: one that only begins would end at once, without a
        word. The caller waits for the end."""
        proxy = place.replica.proxy
        proxy.logs.wait(lambda line: " serves a cluster" in line["msg"], "its beginning")
        proxy.signal(signal.SIGTERM)

    def end(self, place: Place) -> None:
        """Waits for the end of a replica that was terminated."""
        code = place.replica.proxy.wait()
        assert code == 0, f"{place} ends with {code}"
        place.replica = None

    def resume_all(self) -> None:
        for place in self.places:
            if place.stopped:
                self.resume(place)

    # --- who leads ---

    def leader(self) -> Place | None:
        """Returns the one that leads; None: none of the living, or several."""
        leaders = [p for p in self.living() if is_ready(p) and p.replica.leads()]
        return leaders[0] if len(leaders) == 1 else None

    def complaints(self) -> list[str]:
        """Returns what is wrong: not exactly one leads, or it does not have the Lease."""
        unready = [place for place in self.living() if not is_ready(place)]
        if unready:
            return [f"replica {place}: it is not ready" for place in unready]
        leader = self.leader()
        if not leader:
            return ["not exactly one replica leads"]
        holder, identity = self._holder(), leader.replica.identity()
        return [] if holder == identity else [f"the Lease is {holder}'s, and {identity} leads"]

    def strange_writes(self) -> list[str]:
        """Returns the writes of replicas that did not lead, if the leader has changed or one has
        slept."""
        terms = self._terms()
        if len(terms) == self._audited:
            return []
        self._audited = len(terms)
        return [f"write without a term: {what}" for what in self._audit.strangers(terms)]

    # --- inside ---

    def _terms(self) -> list[Term]:
        return [term for replica in self._replicas for term in replica.terms()]

    def _holder(self) -> str:
        try:
            return self._kube.get(LEASE)["spec"].get("holderIdentity") or "nobody"
        except ApiError as error:
            assert error.reason == "NotFound", error
            return "nobody"


def is_ready(place: Place) -> bool:
    """Before that, a replica may not know its configuration."""
    return place.replica.proxy.http("/readyz")[0] == 200
