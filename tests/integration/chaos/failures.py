"""Replicas that end, and what is around them: the API server, the way to it, and BTP."""

import random
from collections.abc import Callable

from chaos.facts import Content, Kind
from chaos.fleet import Place
from chaos.world import DESTINATIONS, NAMESPACES, SUBDOMAINS, World
from harness.fault_proxy import (
    is_watch,
    is_write,
    list_of,
    refuse,
    refuse_in_watch,
    too_many,
    watch_of,
)
from harness.http_server import Behaviour, Exchange, close, cut_off, once, status, where
from harness.samples import HOME

# --- replicas ---


def any_living(world: World, rng: random.Random) -> Place | None:
    living = world.fleet.living()
    return rng.choice(living) if living else None


def kill(world: World, rng: random.Random) -> str | None:
    there = [place for place in world.fleet.places if place.replica]
    if not there:
        return None
    place = rng.choice(there)
    world.leave_replica(place)
    world.interrupt()
    world.fleet.kill(place)
    return f"kills {place}"


def stop(world: World, rng: random.Random) -> str | None:
    place = any_living(world, rng)
    if not place:
        return None
    stop_place(world, place)
    return f"stops {place}"


def stop_place(world: World, place: Place) -> None:
    world.interrupt()
    world.fleet.stop(place)


def resume(world: World, rng: random.Random) -> str | None:
    stopped = [place for place in world.fleet.places if place.stopped]
    if not stopped:
        return None
    world.fleet.resume(stopped[0])
    return f"resumes {stopped[0]}"


def start(world: World, rng: random.Random) -> str | None:
    absent = [place for place in world.fleet.places if not place.replica]
    if not absent:
        return None
    world.fleet.start(absent[0])
    return f"starts {absent[0]}"


def terminate(world: World, rng: random.Random) -> str | None:
    """Sends SIGTERM: sessions go on until their clients leave."""
    place = any_living(world, rng)
    if not place:
        return None
    world.interrupt()
    world.fleet.terminate(place)
    broken = world.sessions.broken([place])
    assert not broken, f"{place} ends, and sessions with it: {broken}"
    world.leave_replica(place)
    world.fleet.end(place)
    if rng.random() < 0.7:
        world.fleet.start(place)
        return f"restarts {place}"
    return f"ends {place}"


# --- the API server ---


def restart_api_server(world: World, rng: random.Random) -> str:
    world.interrupt()
    world.kube.kill()
    also = rng.choice((kill, stop, start, resume))(world, rng)
    world.kube.restart()
    return f"restarts the API server; {also}"


def compact(world: World, rng: random.Random) -> str:
    """etcd forgets the versions from which the watches would go on."""
    world.interrupt()
    places = [place for place in world.fleet.places if rng.random() < 0.8]
    for place in places:
        place.mend()
        place.api.stop()
    maps = "/api/v1/namespaces/default/configmaps"
    for _ in range(2):
        world.kube.create(maps, {"metadata": {"generateName": "filler-"}})
    world.kube.compact()
    for place in places:
        place.api.start()
    return f"compacts etcd; the watches of {[str(place) for place in places]} are cut"


def unanswered(exchange: Exchange) -> None:
    """Carries out the request, and loses the answer."""
    exchange.proper()
    close(exchange)


def not_watch(request) -> bool:
    return not is_watch(request)


REFUSALS: dict[str, Callable[[int], Behaviour]] = {
    "429": lambda n: where(not_watch, once(too_many, n)),
    "500": lambda n: where(not_watch, once(refuse(500, "InternalError", "no leader"), n)),
    "503": lambda n: where(not_watch, once(status(503), n)),
    "closed connections": lambda n: where(not_watch, once(close, n)),
    "writes without an answer": lambda n: where(is_write, once(unanswered, n)),
    "lists that break off": lambda n: where(list_of("services"), once(cut_off, n)),
    "expired watches": lambda n: where(is_watch, once(refuse_in_watch(410, "Expired", "old"), n)),
}


def refuse_requests(world: World, rng: random.Random) -> str:
    place, what = rng.choice(world.fleet.places), rng.choice(sorted(REFUSALS))
    times = rng.randint(1, 6)
    place.api.behaviour = REFUSALS[what](times)
    if what == "expired watches":
        place.api.drop(at_least=0)
    return f"{times} times for {place}: {what}"


KINDS = ("destinations", "services", "networkpolicies", "leases", "transparentproxies")


def drop_watches(world: World, rng: random.Random) -> str:
    place, kind = rng.choice(world.fleet.places), rng.choice((*KINDS, ""))
    place.api.drop(watch_of(kind) if kind else is_watch, at_least=0)
    return f"drops the watches of {kind or 'all kinds'} of {place}"


def cut_watch(world: World, rng: random.Random) -> str:
    place, kind, after = rng.choice(world.fleet.places), rng.choice(KINDS), rng.randint(1, 400)
    place.api.cut(watch_of(kind), after)
    return f"cuts the next event of {kind} for {place} after {after} bytes"


def stall_watches(world: World, rng: random.Random) -> str:
    """The watches report nothing until everything settles."""
    place, kind = rng.choice(world.fleet.places), rng.choice(KINDS)
    place.stalls.enter_context(place.api.stalled(watch_of(kind)))
    return f"stalls the watches of {kind} of {place}"


# --- BTP ---


def switch(world: World, rng: random.Random) -> str:
    name, server = rng.choice(
        (("Destination service", world.installation.service), ("token server", world.oauth))
    )
    if server in world.down:
        world.switch_on(server)
        return f"the {name} is there again"
    world.switch_off(server)
    return f"the {name} is away"


def change_destination(world: World, rng: random.Random) -> str:
    tenants = SUBDOMAINS if world.facts.shared else ("",)
    tenant, name = rng.choice(tenants), rng.choice(DESTINATIONS)
    secure = world.mailboxes.secure
    content = rng.choice(
        [
            *(Content(Kind.POP3, box) for box in range(secure)),
            Content(Kind.POP3S, secure),
            *(Content(kind) for kind in Kind if kind not in (Kind.POP3, Kind.POP3S)),
        ]
    )
    world.set_content(tenant, name, content)
    return f"destination {name}{' of ' + tenant if tenant else ''}: {content}"


# --- the configuration ---


def change_label(world: World, rng: random.Random) -> str:
    namespace = rng.choice((*NAMESPACES, HOME))
    labelled = namespace not in world.facts.labelled
    world.label(namespace, labelled)
    return f"{namespace} is {'labelled' if labelled else 'not labelled any more'}"


def change_configuration(world: World, rng: random.Random) -> str:
    facts = world.facts
    what = rng.choice(("wide", "wide", "shared", "selects"))
    setattr(facts, what, not getattr(facts, what))
    world.configure()
    return f"configuration: {what} {getattr(facts, what)}"
