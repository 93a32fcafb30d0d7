"""The disturbances end, and after a while everything has to be as the model says."""

import random
import time

from chaos.facts import Target
from chaos.fleet import Place
from chaos.judge import differences
from chaos.model import Model, Stand
from chaos.sessions import box_at
from chaos.snapshot import Snapshot
from chaos.world import World
from harness.kube import ApiError

# How long everything may take. A foreign Service that has gone is noticed within a minute.
PATIENCE = 120

# How often destinations are read again meanwhile.
READ_AGAIN = 5

# How long a target port rests when its mailbox has gone.
REST = 15 * 60


class Settling:
    def __init__(self, world: World):
        self._world = world
        self.last: list[str] = []  # what became right last of all
        self._ports: dict[Target, int] = {}  # at the last settling
        self._users: dict[int, tuple[tuple, float]] = {}  # of each port: who had it last, and when

    def settle(self, rng: random.Random) -> list[str]:
        """Returns what is wrong."""
        self.last = []
        self._recover(rng)
        wrong = self._wait(self._state)
        if not wrong:
            wrong = self._wait(self._answers)
        wrong += self._foreign_changes() + self._world.fleet.strange_writes()
        wrong += self._world.sessions.broken(self._world.fleet.living())
        if not wrong:
            self._remember()
        return wrong

    # --- the end of disturbances ---

    def _recover(self, rng: random.Random) -> None:
        world = self._world
        for place in world.fleet.places:
            place.mend()
            # Now and then a replica stays away.
            if place.stopped and rng.random() < 0.8:
                world.fleet.resume(place)
            elif not place.replica and rng.random() < 0.8:
                world.fleet.start(place)
        if not world.fleet.living():
            place = rng.choice(world.fleet.places)
            (world.fleet.resume if place.stopped else world.fleet.start)(place)
        for server in list(world.down):
            world.switch_on(server)
        self._unread, self._read_at = world.unread, 0.0
        world.unread = False

    def _read_again(self) -> None:
        """Has the destinations read again if they have changed. A reading that meets the end of an
        outage does not count, and the next one would come minutes later."""
        if self._unread and time.monotonic() > self._read_at:
            self._world.configure()
            self._read_at = time.monotonic() + READ_AGAIN

    # --- what must be so in the end ---

    def _wait(self, look) -> list[str]:
        deadline = time.monotonic() + PATIENCE
        while True:
            self._read_again()
            wrong = look()
            if not wrong or time.monotonic() > deadline:
                return wrong
            self.last = wrong
            time.sleep(0.1)

    def _state(self) -> list[str]:
        world = self._world
        wrong = world.fleet.complaints()
        self._seen: Snapshot = world.snapshot()
        self._model: Model = world.model(self._seen.owners())
        wrong += differences(world.facts, self._model.expected(), self._seen)
        return wrong + self._moved_ports()

    def _served(self) -> list[Target]:
        return [t for t, stand in self._model.stands.items() if stand is Stand.SERVED]

    def _moved_ports(self) -> list[str]:
        """No port moves, and none is used again before it has rested."""
        found, now = [], time.monotonic()
        for target in self._model.stands:
            port = self._seen.target_port(target.service)
            if not port or self._seen.owners().get(target.service) != target.key:
                continue
            before = self._ports.get(target, port)
            if before != port and self._world.past.keeps(target):
                found.append(f"port of {target}: it has moved from {before} to {port}")
            user, when = self._users.get(port, (who(target), now))
            if user != who(target) and now < when + REST:
                found.append(f"port {port}: {user} had it, and now {who(target)} has it")
            else:
                self._users[port] = who(target), now
        return found

    def _answers(self) -> list[str]:
        """Every mailbox that is served answers at every replica."""
        return [
            complaint
            for place in self._world.fleet.living()
            for target in self._served()
            if (complaint := self._answer(target, place))
        ]

    def _answer(self, target: Target, place: Place) -> str:
        port = self._seen.target_port(target.service)
        boxes = self._world.facts.boxes(target)
        try:
            box = box_at(place.address, port)
        except (OSError, EOFError, AssertionError) as error:
            return f"mailbox {target} at {place}:{port}: {error!r}"
        return "" if box in boxes else f"mailbox {target} at {place}:{port}: {box}, not {boxes}"

    def _foreign_changes(self) -> list[str]:
        found = []
        for path, made in self._world.foreign.items():
            try:
                there = self._world.kube.get(path)
            except ApiError as error:
                there = error.status
            if there != made:
                found.append(f"foreign object {path}: {there}, and it was {made}")
        return found

    # --- what is remembered ---

    def _remember(self) -> None:
        world, owners = self._world, self._seen.owners()
        self._ports = {
            target: self._seen.target_port(target.service)
            for target in self._model.stands
            if owners.get(target.service) == target.key
        }
        world.settled(self._model, owners)
        for target in self._served():
            for place in world.fleet.living():
                world.sessions.open(target, place, self._ports[target])


def who(target: Target) -> tuple[str, str, str]:
    """A CR that is created again may keep its port."""
    return target.namespace, target.resource, target.tenant
