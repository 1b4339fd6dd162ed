"""Business rules of a request: what they mean, whether a list can be full under them, and which has to go if none can.

A rule takes candidates out, holds one at a position, or bounds how many of a group stand in any window of the list. The greedy
loop (in the exported graph, too) is masked by what may stand next; a choice after which no full list exists is taken back by forbidding it at its
position and writing the list again. So what comes is the list that takes, at each position, the best candidate from which
a full list is still possible.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from slatewise.errors import RequestError
from slatewise.export.graph import COUNTED
from slatewise.serving.filling import Filling
from slatewise.serving.records import Id

NODES = 500  # of the searches for a request's plan, and again for its list; beyond them no full list is taken to exist


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
        length: of a full list.   pinned: position to candidate.   out: candidates that may not be shown.
        groups: (R, N) codes, 0 = none.   most, window: of each.
        narrowed: candidates that may stand at a position, where that was found out.
        budget: nodes that are left of all searches for the request; plans share it.
        known: a list that was full under fewer rules, where there is one.
    """

    length: int
    pinned: dict[int, int]
    out: frozenset[int]
    groups: NDArray[np.int64]
    most: list[int]
    window: list[int]
    narrowed: dict[int, frozenset[int]] = field(default_factory=dict)
    budget: list[int] = field(default_factory=lambda: [NODES])
    known: InitVar[Sequence[int]] = ()

    def __post_init__(self, known: Sequence[int]) -> None:
        usable_N = np.ones(self.groups.shape[1], bool)
        usable_N[[*self.out, *self.pinned.values()]] = False
        self._usable: list[bool] = usable_N.tolist()
        self._filling = Filling(
            self.groups, self.most, self.window, usable_N, self.pinned, self.length, self.budget, known
        )
        self._kind: list[int] = self._filling.kind_N.tolist()

    def holds(self, chosen: Sequence[int]) -> bool:
        """Whether a beginning of a list keeps all rules so far."""
        return (
            len(set(chosen)) == len(chosen)
            and all(self._placed(position, at) for position, at in enumerate(chosen))
            and self._filling.kept_by(self._kinds(chosen))
        )

    def completable(self, chosen: Sequence[int]) -> bool:
        """Whether a full list begins so (within a bounded search)."""
        return self.holds(chosen) and self._filling.finished(self._kinds(chosen)) is not None

    def some_list(self) -> list[int]:
        """A full list that keeps the rules, whatever it is worth; a plan that :func:`plan_of` made has one."""
        free: dict[int, list[int]] = {}
        for at, usable in enumerate(self._usable):
            if usable:
                free.setdefault(self._kind[at], []).append(at)
        row = enumerate(self._filling.row)
        return [self.pinned[at] if at in self.pinned else free[kind].pop() for at, kind in row]

    def open_at(self, chosen: Sequence[int]) -> frozenset[int]:
        """Candidates behind a beginning from which a full list is possible."""
        able = self._filling.able(self._kinds(chosen)).tolist()
        taken = set(chosen)
        return frozenset(
            at
            for at, kind in enumerate(self._kind)
            if able[kind] and at not in taken and self._placed(len(chosen), at)
        )

    def greedy(self, order: Sequence[int]) -> list[int]:
        """The list that takes, at each position, the first of an order from which a full list is possible."""
        chosen: list[int] = []
        while len(chosen) < self.length:
            taken, able = set(chosen), dict[int, bool]()
            for at in order:
                if at in taken or not self._placed(len(chosen), at):
                    continue
                if self._kind[at] not in able:
                    able[self._kind[at]] = self.completable([*chosen, at])
                if able[self._kind[at]]:
                    chosen.append(at)
                    break
        return chosen

    def repaired(self, order: Sequence[int]) -> list[int] | None:
        """A list that keeps the rules, as it is; else its first wrong position is narrowed, and it has to be written again."""
        chosen = list(order[: self.length])
        if len(chosen) == self.length and self.holds(chosen):
            return chosen
        for position in range(self.length):
            if not self.completable(chosen[: position + 1]):
                able = self.open_at(chosen[:position])
                if not able or position in self.narrowed:  # the search's nodes are used up
                    break
                self.narrowed[position] = able
                return None
        return self.some_list()

    def allowed(self, length: int, width: int) -> NDArray[np.bool_]:
        """(L, N) what may stand where, as far as it is known."""
        allowed = np.zeros((length, width), bool)
        allowed[:, : len(self._usable)] = self._usable
        for position, at in self.pinned.items():
            allowed[position] = False
            allowed[position, at] = True
        for position, some in self.narrowed.items():
            allowed[position] = False
            allowed[position, list(some)] = True
        return allowed

    def _kinds(self, chosen: Sequence[int]) -> list[int]:
        return [self._kind[at] for at in chosen]

    def _placed(self, position: int, at: int) -> bool:
        return self._usable[at] if position not in self.pinned else self.pinned[position] == at


def plan_of(
    rules: Sequence[Rule], candidates: Sequence[Id], groups: Groups, length: int
) -> tuple[Plan, list[str]]:
    """The rules of a request as a plan under which a full list exists, and the paths of those that had to go.

    A full list has ``length`` items, or all candidates where there are fewer. Where the rules together leave none, they are
    taken in their order, and each is kept with which, beside those kept before, a full list still exists.

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
    length, budget = min(length, len(candidates)), [NODES]
    parts = _parts(rules, candidates, groups, length)
    everything = _plan(parts, len(candidates), length, budget)
    if everything is not None:
        return everything, []
    plan, kept = _plan([], len(candidates), length, budget), list[int]()
    assert plan is not None
    for place in range(len(rules)):
        there = plan.some_list()
        more = _plan([parts[at] for at in (*kept, place)], len(candidates), length, budget, there)
        if more is not None:
            plan = more
            kept.append(place)
    budget[0] = NODES  # for writing the list
    return plan, [f"rules[{place}]" for place in range(len(rules)) if place not in kept]


@dataclass(frozen=True)
class _Part:
    """A rule in places of candidates; ``possible``: not where it pins what cannot be pinned."""

    out: frozenset[int] = frozenset()
    pin: tuple[int, int] | None = None  # position, candidate
    codes: list[int] = field(default_factory=list)
    most: int = 0
    window: int = 0
    possible: bool = True


def _parts(rules: Sequence[Rule], candidates: Sequence[Id], groups: Groups, length: int) -> list[_Part]:
    place_of = {str(item): at for at, item in enumerate(candidates)}
    parts = []
    for rule in rules:
        if rule.exclude is not None:
            found = (place_of.get(str(item)) for item in rule.exclude)
            parts.append(_Part(out=frozenset(at for at in found if at is not None)))
        elif rule.pin is not None and rule.position is not None:
            at, position = place_of.get(str(rule.pin)), rule.position - 1
            parts.append(
                _Part(possible=False) if at is None or position >= length else _Part(pin=(position, at))
            )
        else:
            assert rule.of is not None
            window = min(rule.distance or rule.window or length, length)
            parts.append(_Part(codes=_codes(groups[rule.of]), most=rule.at_most or 1, window=window))
    return parts


def _plan(
    parts: Sequence[_Part], count: int, length: int, budget: list[int], known: Sequence[int] = ()
) -> Plan | None:
    """None where no full list exists, or none was found.

    Args:
        count: of the candidates.   known: a full list that keeps some of the rules, and may keep all.
    """
    out = frozenset[int]().union(*(part.out for part in parts))
    pins = {part.pin for part in parts if part.pin is not None}
    pinned = dict(pins)
    if (
        not all(part.possible for part in parts)
        or len(pins) > min(len(pinned), len(set(pinned.values())))  # two at one place, or one at two
        or out.intersection(pinned.values())
        or count - len(out) < length
    ):
        return None
    codes = np.zeros((COUNTED, count), np.int64)
    most, window = [length] * COUNTED, [1] * COUNTED
    for row, part in enumerate(part for part in parts if part.codes):
        codes[row], most[row], window[row] = part.codes, part.most, part.window
    budget[0] = max(budget[0], length)  # enough for rules under which any way leads to the end
    plan = Plan(length, pinned, out, codes, most, window, budget=budget, known=known)
    return plan if plan.completable([]) else None


def _codes(values: Sequence[Id | int | None]) -> list[int]:
    """Each value's number, from 1 on; 0 for none."""
    seen: dict[str, int] = {}
    return [0 if value is None else seen.setdefault(str(value), len(seen) + 1) for value in values]
