"""Chooses what happens next. Each step has a random generator of its own, made of the seed and the
step's number, so a step that turns out otherwise leaves the later ones as they are."""

import random
import time
from collections.abc import Callable

from chaos import failures, meddlers, users
from chaos.settling import Settling
from chaos.world import World
from harness.fault_proxy import watch_of
from harness.util import until

# Returns what it did; None: it cannot be done now.
Step = Callable[[World, random.Random], str | None]


def oversleep(world: World, rng: random.Random) -> str | None:
    """The leader is stopped in the middle of its work, and wakes up when another one leads. Only
    its own clock tells it so, if its watch of the Lease does not."""
    leader = world.fleet.leader()
    if not leader or len(world.fleet.living()) < 2:
        return None
    before = [users.create_many(world, rng), users.change(world, rng)]
    time.sleep(rng.uniform(0, 0.1))
    failures.stop_place(world, leader)
    until(lambda: world.fleet.leader() is not None, "another leader", every=0.1)
    blind = rng.random() < 0.5
    if blind:
        leader.stalls.enter_context(leader.api.stalled(watch_of("leases")))
    asleep = [users.change(world, rng), users.delete(world, rng)]
    world.fleet.resume(leader)
    awake = [users.change(world, rng), meddlers.delete_service(world, rng)]
    watch = " without the watch of the Lease" if blind else ""
    return f"stops {leader} after {before}; resumes it{watch} after {asleep}; then {awake}"


STEPS: dict[Step, int] = {
    users.create: 14,
    users.create_many: 3,
    users.change: 10,
    users.delete: 5,
    users.delete_all: 1,
    users.replace: 5,
    users.move: 3,
    users.end_namespace: 2,
    users.add_service: 3,
    users.seize: 2,
    users.remove_service: 5,
    meddlers.change_service: 4,
    meddlers.delete_service: 4,
    meddlers.change_policy: 4,
    meddlers.change_status: 2,
    meddlers.delete_lease: 1,
    failures.kill: 3,
    failures.stop: 3,
    oversleep: 2,
    failures.resume: 6,
    failures.start: 6,
    failures.terminate: 3,
    failures.restart_api_server: 1,
    failures.compact: 2,
    failures.refuse_requests: 5,
    failures.drop_watches: 3,
    failures.cut_watch: 3,
    failures.stall_watches: 3,
    failures.switch: 4,
    failures.change_destination: 6,
    failures.change_label: 2,
    failures.change_configuration: 1,
}

# The most steps between two settlings.
MOST = 6

# How many of the last steps a finding tells.
TOLD = 15

# The seconds from which on a settling tells what it waited for.
LONG = 5


class Finding(AssertionError):
    """Something is not as it should be. It tells how to see it again."""


class Chaos:
    def __init__(self, world: World, seed: int):
        self._world = world
        self._seed = seed
        self._settling = Settling(world)
        self._told: list[str] = []
        self._begin = time.monotonic()

    def run(self, steps: int, tell: Callable[[str], None]) -> None:
        settle_at = 1
        for number in range(1, steps + 1):
            rng = random.Random(f"{self._seed}/{number}")
            try:
                self._tell(f"{number}: {self._step(rng)}", tell)
                wrong = self._world.sessions.broken(self._world.fleet.living())
                if not wrong and number in (settle_at, steps):
                    wrong = self._settle(rng, tell)
                    settle_at = number + rng.randint(1, MOST)
            except Exception as error:
                raise self._finding(number, repr(error)) from error
            if wrong:
                raise self._finding(number, *wrong)

    def _settle(self, rng: random.Random, tell: Callable[[str], None]) -> list[str]:
        begin = time.monotonic()
        wrong = self._settling.settle(rng)
        seconds = time.monotonic() - begin
        last = f"; at last {self._settling.last}" if seconds > LONG else ""
        tell(f"    settled in {seconds:.1f} s{last}")
        return wrong

    def _step(self, rng: random.Random) -> str:
        while True:
            (step,) = rng.choices(list(STEPS), STEPS.values())
            if told := step(self._world, rng):
                return told

    def _tell(self, line: str, tell: Callable[[str], None]) -> None:
        self._told.append(line)
        tell(f"{time.monotonic() - self._begin:.1f} s, {line}")

    def _finding(self, number: int, *wrong: str) -> Finding:
        lines = [f"seed {self._seed}, step {number}", *wrong, "the last steps:"]
        return Finding("\n".join(lines + self._told[-TOLD:]))
