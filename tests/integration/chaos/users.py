"""What users do: CRs, their namespaces, and Services of their own."""

import json
import random

from chaos.facts import Key, Resource
from chaos.world import DESTINATIONS, NAMESPACES, SUBDOMAINS, World
from harness.samples import HOME

# Few names, so that many CRs want the same. In shared mode the last one with the tenant "me", and
# the first one with the tenant "acme-me", want one Service.
NAMES = ("inbox", "letters", "outbox", "inbox-acme")
BAD_NAMES = ("no.label", "a" * 64)

MOST = 12  # CRs at a time


def any_resource(world: World, rng: random.Random) -> Key | None:
    keys = sorted(world.facts.resources)
    return rng.choice(keys) if keys else None


def any_destination(rng: random.Random) -> str:
    return rng.choice((*DESTINATIONS * 3, "nowhere", "*"))


def any_port(rng: random.Random) -> int | None:
    return rng.choice((None, None, 1110, 2110))


def any_scope(rng: random.Random) -> str | None:
    return rng.choice((None, "namespaced", "clusterWide"))


def any_tenants(rng: random.Random) -> str | None:
    if rng.random() < 0.1:
        return rng.choice((None, "acme", "[]", '["acme", "Acme"]', '["evil.example.com/"]'))
    return json.dumps(rng.sample(SUBDOMAINS, rng.randint(1, len(SUBDOMAINS))))


def any_new(world: World, rng: random.Random) -> Resource | None:
    spaces = (*NAMESPACES, HOME)
    names = BAD_NAMES if rng.random() < 0.05 else NAMES
    resource = Resource(
        rng.choice(spaces),
        rng.choice(names),
        any_destination(rng),
        any_port(rng),
        any_scope(rng),
        any_tenants(rng),
    )
    full = len(world.facts.resources) >= MOST
    return None if full or resource.key in world.facts.resources else resource


def create(world: World, rng: random.Random) -> str | None:
    resource = any_new(world, rng)
    if not resource:
        return None
    world.create(resource)
    return f"creates {resource}"


def create_many(world: World, rng: random.Random) -> str | None:
    made = [create(world, rng) for _ in range(4)]
    return "; ".join(filter(None, made))


def change(world: World, rng: random.Random) -> str | None:
    key = any_resource(world, rng)
    if not key:
        return None
    field, value = rng.choice(
        (
            ("destination", any_destination(rng)),
            ("port", any_port(rng)),
            ("scope", any_scope(rng)),
            ("tenants", any_tenants(rng)),
        )
    )
    world.change(key, **{field: value})
    return f"changes {'/'.join(key)}: {field} {value}"


def delete(world: World, rng: random.Random) -> str | None:
    key = any_resource(world, rng)
    if not key:
        return None
    world.delete(key)
    return f"deletes {'/'.join(key)}"


def delete_all(world: World, rng: random.Random) -> str | None:
    """Deletes all CRs of a name, or of a namespace."""
    part, value = rng.choice([(0, name) for name in NAMESPACES] + [(1, name) for name in NAMES])
    keys = [key for key in sorted(world.facts.resources) if key[part] == value]
    for key in keys:
        world.delete(key)
    return f"deletes {', '.join('/'.join(key) for key in keys)}" if keys else None


def replace(world: World, rng: random.Random) -> str | None:
    """Deletes a CR and creates it again at once, perhaps with another destination."""
    key = any_resource(world, rng)
    if not key:
        return None
    old = world.facts.resources[key]
    new = Resource(*key, any_destination(rng), any_port(rng), old.scope, old.tenants)
    for _ in range(rng.choice((1, 1, 3))):
        world.delete(key)
        world.create(new)
    return f"deletes {'/'.join(key)} and creates {new}"


def move(world: World, rng: random.Random) -> str | None:
    """Deletes a CR, and creates one of its name in another namespace."""
    key = any_resource(world, rng)
    spaces = [s for s in NAMESPACES if key and (s, key[1]) not in world.facts.resources]
    if not spaces:
        return None
    old = world.facts.resources[key]
    new = Resource(
        rng.choice(spaces), old.name, old.destination, old.port, old.scope, old.tenants
    )
    first, second = rng.sample((lambda: world.delete(key), lambda: world.create(new)), 2)
    first()
    second()
    return f"moves {'/'.join(key)} to {new.namespace}"


def end_namespace(world: World, rng: random.Random) -> str:
    name, services_first = rng.choice(NAMESPACES), rng.random() < 0.5
    world.end_namespace(name, services_first)
    return f"deletes the namespace {name}, {'Services' if services_first else 'CRs'} first"


def add_service(world: World, rng: random.Random) -> str | None:
    """Creates a Service where a CR may want one."""
    key = rng.choice((*NAMESPACES, HOME)), rng.choice(NAMES)
    forged = key[0] != HOME and rng.random() < 0.3
    if key in world.facts.foreign or not world.add_foreign(key, forged):
        return None
    return f"creates the Service {'/'.join(key)}{' with our labels' if forged else ''}"


def seize(world: World, rng: random.Random) -> str | None:
    """Deletes a Service of ours, and creates a foreign one in its place, if that is fast enough."""
    keys = sorted(world.model().expected().services)
    if not keys:
        return None
    key = rng.choice(keys)
    path = f"/api/v1/namespaces/{key[0]}/services/{key[1]}"
    if not world.in_peace(path) or not world.meddle(path, None):
        return None
    taken = world.add_foreign(key, False)
    if key[0] == HOME:
        world.home_service_deleted(key[1])
    return f"seizes the Service {'/'.join(key)}: {'done' if taken else 'too late'}"


def remove_service(world: World, rng: random.Random) -> str | None:
    """Deletes a foreign Service. A CR that waits for the name notices it within a minute, and at
    once when it is changed."""
    keys = sorted(world.facts.foreign)
    if not keys:
        return None
    key = rng.choice(keys)
    world.remove_foreign(key)
    for resource in list(world.facts.resources.values()):
        if key[1].startswith(resource.name) and rng.random() < 0.9:
            port = 3110 if resource.port != 3110 else None
            world.change(resource.key, port=port)
    return f"deletes the foreign Service {'/'.join(key)}"
