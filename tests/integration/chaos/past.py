"""What the model has to know of the time before. A name stays with the CR that has its Service, and
a Service stays when its destination is of no use any more; so it counts what was there when
everything had settled last, and what may have happened since."""

from chaos.facts import Key, Target


class Past:
    def __init__(self):
        self._had: dict[Target, bool | None] = {}  # whether it has a home Service; None: perhaps
        self._able: set[Target] = set()  # could use its name all the time since
        self._unbroken: set[Target] = set()  # has had its Service all the time since
        # Those that may have left their Service to a CR that is created again at once.
        self._heirs: set[Target] = set()

    def keeps(self, target: Target) -> bool:
        """Returns whether it has had its home Service all the time."""
        return target in self._unbroken

    def able(self, target: Target) -> bool:
        return target in self._able

    def may_have(self, target: Target) -> bool:
        return not self.never_had(target)

    def never_had(self, target: Target) -> bool:
        return self._had.get(target, False) is False

    def note(self, model) -> None:
        """Notes a change, after which the model says what should be."""
        for target in self._had.keys() - model.stands.keys():
            if self._had.pop(target) is not False:
                self._heirs.add(target._replace(uid=""))
        for target in model.stands:
            heir = target._replace(uid="") in self._heirs
            had = self._had.setdefault(target, None if heir else False)
            if target in model.possible and not had:
                self._had[target] = None
            if not model.stays(target):
                self.lose(target)
            if not model.usable(target):
                self._able.discard(target)
        self._able &= model.stands.keys()
        self._unbroken &= model.stands.keys()

    def lose(self, target: Target) -> None:
        """Its home Service may have gone, or may go."""
        self._unbroken.discard(target)
        if self._had.get(target):
            self._had[target] = None

    def settle(self, model, owners: dict[str, Key]) -> None:
        """Everything is as it should be."""
        self._heirs.clear()
        self._able = {target for target in model.stands if model.usable(target)}
        self._unbroken = {t for t in model.stands if owners.get(t.service) == t.key}
        for target in model.stands:
            if target in self._unbroken:
                self._had[target] = True
            elif not model.stays(target):
                self._had[target] = False
