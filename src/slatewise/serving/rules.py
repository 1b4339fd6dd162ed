"""Business rules of a request: what they mean, whether a list can be full under them, and which has to go if none can.

A rule takes candidates out, holds one at a position, or bounds how many of a group stand in any window of the list. The greedy
loop (in the exported graph, too) is masked by what may stand next; a choice after which no full list exists is taken back by forbidding it at its
position and writing the list again. So what comes is the list that takes, at each position, the best candidate from which
a full list is still possible.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from slatewise.errors import RequestError
from slatewise.export.graph import COUNTED
from slatewise.serving.records import Id

NODES = 3_000  # of all searches for one request; beyond them no full list is taken to exist


class Rule(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One rule, of one of four kinds.

    Attributes:
        exclude: these items are out.
        pin: this item stands at ``position`` (from 1).
        of: a group: a name of the request's ``groups``, or a feature of items that is a category (``category``, ``brand``).
        at_most: of one group in the list, or in any ``window`` of so many positions.
        distance: two of one group are at least so many positions apart (2: never side by side).
    """

    exclude: list[Id] | None = None
    pin: Id | None = None
    position: int | None = None
    of: str | None = None
    at_most: int | None = None
    window: int | None = None
    distance: int | None = None


Kinds = tuple[tuple[int, ...], ...]  # of the candidates of a list: their groups under each rule
Groups = Mapping[str, Sequence[Id | int | None]]


def check_rules(rules: Sequence[Rule], candidates: int) -> None:
    """Hold rules to what can be.

    Raises:
        RequestError: with the path to the rule.
    """
    if len(rules) > 64:
        raise RequestError("rules", f"are {len(rules)}; at most 64 are allowed.")
    for place, rule in enumerate(rules):
        at = f"rules[{place}]"
        kinds = [
            name for name in ("exclude", "pin", "at_most", "distance") if getattr(rule, name) is not None
        ]
        if len(kinds) != 1:
            raise RequestError(at, "must be of one kind: exclude, pin, at_most or distance.")
        counts = kinds[0] in ("at_most", "distance")
        if counts == (rule.of is None):
            raise RequestError(
                f"{at}.of",
                "names the group that at_most or distance is about, and is no part of other rules.",
            )
        if (rule.position is None) == (rule.pin is not None):
            raise RequestError(
                f"{at}.position", "says where a pinned item stands, and is no part of other rules."
            )
        if rule.window is not None and rule.at_most is None:
            raise RequestError(f"{at}.window", "belongs to at_most.")
        if rule.exclude is not None and len(rule.exclude) > 10 * max(candidates, 100):
            raise RequestError(f"{at}.exclude", f"has {len(rule.exclude)} items; that is too many.")
        for name in ("position", "at_most", "window", "distance"):
            value = getattr(rule, name)
            if value is not None and not 1 <= value <= 10_000:
                raise RequestError(f"{at}.{name}", f"is {value}; allowed are 1 to 10000.")
    counting = sum(rule.of is not None for rule in rules)
    if counting > COUNTED:
        raise RequestError("rules", f"have {counting} that count groups; at most {COUNTED} are allowed.")


@dataclass
class Plan:
    """Rules of one request, on its candidates.

    Attributes:
        length: of the list that they allow.   pinned: position to candidate.   out: candidates that may not be shown.
        groups: (R, N) codes, 0 = none.   most, window: of each.
        narrowed: candidates that may stand at a position, where that was found out.
        budget: nodes that are left of all searches for the request; plans share it.
    """

    length: int
    pinned: dict[int, int]
    out: frozenset[int]
    groups: NDArray[np.int64]
    most: list[int]
    window: list[int]
    narrowed: dict[int, frozenset[int]] = field(default_factory=dict)
    budget: list[int] = field(default_factory=lambda: [NODES])

    def __post_init__(self) -> None:
        self._of = [tuple(column) for column in self.groups.T.tolist()]
        taken = self.out | set(self.pinned.values())
        self._pool = Counter(self._of[at] for at in range(self.groups.shape[1]) if at not in taken)
        self._known: dict[object, Kinds | None] = {}

    def holds(self, chosen: Sequence[int]) -> bool:
        """Whether a beginning of a list keeps all rules so far."""
        kinds = [self._of[at] for at in chosen]
        return len(set(chosen)) == len(chosen) and all(
            self._placed(position, at) and self._fits(kinds[:position], kinds[position])
            for position, at in enumerate(chosen)
        )

    def completable(self, chosen: Sequence[int]) -> bool:
        """Whether a full list begins so (within a bounded search)."""
        return self.holds(chosen) and self._end_of(chosen) is not None

    def some_list(self) -> list[int]:
        """A full list that keeps the rules, whatever it is worth; empty where none was found."""
        found: list[int] = []
        for position, kind in enumerate(self._end_of([]) or ()):
            fits = (
                at
                for at, own in enumerate(self._of)
                if own == kind and at not in found and self._placed(position, at)
            )
            found.append(next(fits))
        return found

    def open_at(self, chosen: Sequence[int]) -> frozenset[int]:
        """Candidates behind a beginning from which a full list is possible."""
        can: dict[tuple[int, ...], bool] = {}
        found = []
        for at, kind in enumerate(self._of):
            if at in chosen or not self._placed(len(chosen), at):
                continue
            if len(chosen) in self.pinned or kind not in can:
                can[kind] = self.completable([*chosen, at])
            if can[kind]:
                found.append(at)
        return frozenset(found)

    def greedy(self, order: Sequence[int]) -> list[int]:
        """The list that takes, at each position, the first of an order from which a full list is possible."""
        chosen: list[int] = []
        while len(chosen) < self.length:
            able = self.open_at(chosen)
            if not able:  # the search's nodes are used up
                return self.some_list()
            chosen.append(next(at for at in order if at in able))
        return chosen

    def repaired(self, order: Sequence[int]) -> list[int] | None:
        """A list that keeps the rules, as it is; else its first wrong position is narrowed, and it has to be written again."""
        chosen = list(order[: self.length])
        if len(chosen) == self.length and self.holds(chosen):
            return chosen
        for position in range(self.length):
            if not self.completable(chosen[: position + 1]):
                able = self.open_at(chosen[:position])
                if not able or able == self.narrowed.get(position):  # the search's nodes are used up
                    break
                self.narrowed[position] = able
                return None
        return self.some_list()

    def allowed(self, length: int, width: int) -> NDArray[np.bool_]:
        """(L, N) what may stand where, as far as it is known."""
        allowed = np.zeros((length, width), bool)
        allowed[:, [at for at in range(len(self._of)) if at not in self.out]] = True
        for position, at in self.pinned.items():
            allowed[:, at] = False
            allowed[position] = False
            allowed[position, at] = True
        for position, some in self.narrowed.items():
            allowed[position] = False
            allowed[position, list(some)] = True
        return allowed

    def _placed(self, position: int, at: int) -> bool:
        if position in self.pinned:
            return self.pinned[position] == at
        return at not in self.out and at not in self.pinned.values()

    def _fits(self, before: Sequence[tuple[int, ...]], kind: tuple[int, ...]) -> bool:
        return all(
            not code or sum(one[rule] == code for one in before[max(0, len(before) - window + 1) :]) < most
            for rule, (code, most, window) in enumerate(zip(kind, self.most, self.window, strict=True))
            if window > 0
        )

    def _end_of(self, chosen: Sequence[int]) -> Kinds | None:
        pool = Counter(self._pool)
        pool.subtract(self._of[at] for position, at in enumerate(chosen) if position not in self.pinned)
        return self._ends([self._of[at] for at in chosen], pool)

    def _ends(self, kinds: list[tuple[int, ...]], pool: Counter[tuple[int, ...]]) -> Kinds | None:
        """How a list can go on to its end; depth first over kinds of candidates: those that the rules cannot tell apart are one."""
        position = len(kinds)
        if position >= self.length:
            return ()
        state = self._state(kinds)
        if state in self._known:
            return self._known[state]
        self.budget[0] -= 1
        if self.budget[0] < 0:
            return None
        held = self._of[self.pinned[position]] if position in self.pinned else None
        found = None
        for kind in [held] if held is not None else [kind for kind, left in pool.most_common() if left > 0]:
            if not self._fits(kinds, kind):
                continue
            pool[kind] -= held is None
            rest = self._ends([*kinds, kind], pool)
            pool[kind] += held is None
            if rest is not None:
                found = (kind, *rest)
                break
        if found is not None or self.budget[0] >= 0:
            self._known[state] = found
        return found

    def _state(self, kinds: Sequence[tuple[int, ...]]) -> object:
        """All of a beginning that matters for its end."""
        used = Counter(kind for position, kind in enumerate(kinds) if position not in self.pinned)
        recent = []
        for rule, window in enumerate(self.window):
            codes = [kind[rule] for kind in kinds]
            whole = window >= self.length
            recent.append(
                frozenset(Counter(codes).items())
                if whole
                else tuple(codes[max(0, len(codes) - window + 1) :])
            )
        return len(kinds), frozenset(used.items()), tuple(recent)


def plan_of(
    rules: Sequence[Rule], candidates: Sequence[Id], groups: Groups, length: int
) -> tuple[Plan, list[str]]:
    """The rules of a request as a plan under which a full list exists, and the paths of those that had to go.

    If no full list exists, one rule is dropped: the last by whose going there is one; if none alone helps, the last goes, and so on.

    Args:
        groups: of each candidate, by name.

    Raises:
        RequestError: a rule is of a group that nobody knows.
    """
    for place, rule in enumerate(rules):
        if rule.of is not None and rule.of not in groups:
            known = f" Known are: {', '.join(groups)}." if groups else ""
            raise RequestError(
                f"rules[{place}].of",
                f"is '{rule.of}', which is no group of the request and no category of items.{known}",
            )
    kept, budget = list(range(len(rules))), [NODES]

    def planned(some: Sequence[int]) -> Plan | None:
        budget[0] = max(budget[0], 4 * length)  # enough for rules under which any way leads to the end
        return _plan([rules[place] for place in some], candidates, groups, length, budget)

    while (plan := planned(kept)) is None:
        without = [[other for other in kept if other != place] for place in reversed(kept)]
        kept = next((some for some in without if planned(some) is not None), without[0])
    return plan, [f"rules[{place}]" for place in range(len(rules)) if place not in kept]


def _plan(
    rules: Sequence[Rule], candidates: Sequence[Id], groups: Groups, length: int, budget: list[int]
) -> Plan | None:
    """None where no full list exists."""
    place_of = {str(item): at for at, item in enumerate(candidates)}
    out = {place_of[str(item)] for rule in rules for item in rule.exclude or () if str(item) in place_of}
    if len(out) == len(candidates):
        return None
    length = min(length, len(candidates) - len(out))
    pinned: dict[int, int] = {}
    for rule in rules:
        if rule.pin is None or rule.position is None:
            continue
        at, position = place_of.get(str(rule.pin)), rule.position - 1
        if at is None or at in out or position >= length or pinned.get(position, at) != at:
            return None
        if any(other == at and where != position for where, other in pinned.items()):
            return None
        pinned[position] = at
    counting = [rule for rule in rules if rule.of is not None]
    codes = np.zeros((COUNTED, len(candidates)), np.int64)
    most, window = [length] * COUNTED, [1] * COUNTED
    for row, rule in enumerate(counting):
        assert rule.of is not None
        codes[row] = _codes(groups[rule.of])
        most[row] = rule.at_most or 1
        window[row] = min(rule.distance or rule.window or length, length)
    plan = Plan(length, pinned, frozenset(out), codes, most, window, budget=budget)
    return plan if plan.completable([]) else None


def _codes(values: Sequence[Id | int | None]) -> list[int]:
    """Each value's number, from 1 on; 0 for none."""
    seen: dict[str, int] = {}
    return [0 if value is None else seen.setdefault(str(value), len(seen) + 1) for value in values]
