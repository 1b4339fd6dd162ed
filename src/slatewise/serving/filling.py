"""Whether a list can be full under rules that count groups: a bounded search that passes over whatever the rules cannot tell apart.

Candidates with the same groups under all rules are one *kind*, and a list is a row of kinds. Groups that are too small to break
their rule count as none, so most requests have few kinds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Count:
    """A rule that counts: at most ``most`` of a group in any ``window`` positions.

    Attributes:
        code_K: the group of each kind, 0 = none.   of: the same as a list.   groups: how many codes there are.
    """

    code_K: Ints
    of: list[int]
    groups: int
    most: int
    window: int


class Filling:
    """Full lists of one request, as rows of kinds."""

    def __init__(
        self,
        group_RN: Ints,
        most: Sequence[int],
        window: Sequence[int],
        usable_N: Bools,
        pinned: Mapping[int, int],
        length: int,
        budget: list[int],
        known: Sequence[int] = (),
    ) -> None:
        """Find out the kinds.

        Args:
            group_RN: the group of each candidate under each rule; 0 = none.   most, window: of each rule.
            usable_N: candidates that may stand where none is pinned.   pinned: position to candidate.
            length: of a full list.   budget: nodes that are left of all searches; fillings share it.
            known: candidates of a list that was full under fewer rules, where there is one.
        """
        self.length, self._budget = length, budget
        there_N = usable_N.copy()
        there_N[list(pinned.values())] = True
        code_RN, rules = [], []
        for group_N, at_most, places in zip(group_RN, most, window, strict=True):
            size_G = np.bincount(group_N[there_N], minlength=int(group_N.max()) + 1)
            binding_G = (size_G > at_most) & (at_most < places)
            binding_G[0] = False
            if binding_G.any():
                code_RN.append(np.where(binding_G, np.cumsum(binding_G), 0)[group_N])
                rules.append((int(binding_G.sum()) + 1, at_most, places))
        together_N = np.zeros(len(usable_N), np.int64)
        for code_N, (groups, *_) in zip(code_RN, rules, strict=True):
            together_N = together_N * groups + code_N
        _, example_K, self.kind_N = np.unique(together_N, return_index=True, return_inverse=True)
        self._rules = [
            Count(code_N[example_K], code_N[example_K].tolist(), groups, at_most, places)
            for code_N, (groups, at_most, places) in zip(code_RN, rules, strict=True)
        ]
        self._left_K = np.bincount(self.kind_N[usable_N], minlength=len(example_K))
        self._pins = [
            int(self.kind_N[pinned[position]]) if position in pinned else None for position in range(length)
        ]
        self._recent = max((rule.window - 1 for rule in self._rules if rule.window < length), default=0)
        self._failed: set[tuple[int, bytes, tuple[int | None, ...]]] = set()
        self.row: list[int] = [int(self.kind_N[at]) for at in known]  # the last full list that was found

    def kept_by(self, row: Sequence[int | None]) -> bool:
        """Whether a row keeps the rules; None stands for nothing."""
        for rule in self._rules:
            near: Counter[int] = Counter()
            for position, kind in enumerate(row):
                gone = row[position - rule.window] if position >= rule.window else None
                if gone is not None:
                    near[rule.of[gone]] -= 1
                if kind is None:
                    continue
                near[code := rule.of[kind]] += 1
                if code and near[code] > rule.most:
                    return False
        return True

    def finished(self, beginning: Sequence[int]) -> list[int] | None:
        """A full row that begins so, and keeps the rules; None where there is none, or none was found in time."""
        row = self._mended([*beginning, *self.row[len(beginning) :]], len(beginning)) if self.row else None
        if row is None:
            written, left_K = [*beginning, *self._pins[len(beginning) :]], self._left(beginning)
            if (left_K < 0).any() or not self.kept_by(written):
                return None
            row = self._search(written, len(beginning), left_K)
        self.row = self.row if row is None else row
        return row

    def _mended(self, row: list[int | None], start: int) -> list[int] | None:
        """The row if it is one; kinds behind ``start`` of which too few are left give way to the first that fit."""
        left_K = self._left(row)
        for position in range(start, self.length):
            kind = row[position]
            if self._pins[position] is not None:
                row[position] = self._pins[position]
            elif kind is not None and left_K[kind] < 0:
                row[position] = None
                left_K[kind] += 1
        if (left_K < 0).any() or not self.kept_by(row):
            return None
        for position in range(start, self.length):
            if row[position] is None:
                open_K = self._open(row, position, left_K)
                if not open_K.any():
                    return None
                row[position] = kind = int(open_K.argmax())
                left_K[kind] -= 1
        return [kind for kind in row if kind is not None]

    def able(self, beginning: Sequence[int]) -> Bools:
        """(K,) kinds behind a beginning from which a full list is possible; at a pinned position that of the pin."""
        position, able_K = len(beginning), np.zeros(len(self._left_K), bool)
        if (pin := self._pins[position]) is not None:
            able_K[pin] = self.finished([*beginning, pin]) is not None
            return able_K
        written = [*beginning, *self._pins[position:]]
        maybe_K = self._open(written, position, self._left(beginning))
        while maybe_K.any():
            kind = int(maybe_K.argmax())
            maybe_K[kind] = False
            row = self.finished([*beginning, kind])
            if row is not None:  # so does whatever fits in the same place
                others = [*row[:position], None, *row[position + 1 :]]
                able_K |= self._open(others, position, self._left(others))
                maybe_K &= ~able_K
        return able_K

    def _left(self, row: Sequence[int | None]) -> Ints:
        """(K,) candidates of each kind that are left behind a row; below 0 where it has more than there are."""
        free = [kind for kind, pin in zip(row, self._pins, strict=False) if pin is None and kind is not None]
        return self._left_K - np.bincount(np.array(free, np.int64), minlength=len(self._left_K))

    def _open(self, row: Sequence[int | None], position: int, left_K: Ints) -> Bools:
        """(K,) kinds that fit into an empty position between what stands before and behind it."""
        open_K = left_K > 0
        for rule in self._rules:
            whole = rule.window >= self.length
            before = row if whole else row[max(0, position - rule.window + 1) : position]
            near = Counter(rule.of[kind] for kind in before if kind is not None)
            full = [code for code, count in near.items() if count >= rule.most]
            for ahead in range(position + 1, 0 if whole else min(position + rule.window, self.length)):
                last = row[ahead]
                if last is not None:
                    part = row[max(0, ahead - rule.window + 1) : ahead + 1]
                    same = sum(kind is not None and rule.of[kind] == rule.of[last] for kind in part)
                    full += [rule.of[last]] if same >= rule.most else []
            closed_G = np.zeros(rule.groups, bool)
            closed_G[full] = True
            closed_G[0] = False
            open_K &= ~closed_G[rule.code_K]
        return open_K

    def _search(self, row: list[int | None], position: int, left_K: Ints) -> list[int] | None:
        """Depth first; ``row`` is filled before ``position``, and behind it where an item is pinned."""
        while position < self.length and row[position] is not None:
            position += 1
        if position == self.length:
            return [kind for kind in row if kind is not None]
        state = position, left_K.tobytes(), tuple(row[max(0, position - self._recent) : position])
        if state in self._failed or self._budget[0] <= 0:
            return None
        self._budget[0] -= 1
        worth_K = self._worth(row, position, left_K)
        if worth_K is not None:
            worth_K[~self._open(row, position, left_K)] = -np.inf
        while worth_K is not None and worth_K[kind := int(worth_K.argmax())] > -np.inf:
            worth_K[kind] = -np.inf
            left_K[kind] -= 1
            found = self._search([*row[:position], kind, *row[position + 1 :]], position + 1, left_K)
            left_K[kind] += 1
            if found is not None or self._budget[0] <= 0:
                return found
        self._failed.add(state)
        return None

    def _worth(self, row: Sequence[int | None], position: int, left_K: Ints) -> NDArray[np.float64] | None:
        """(K,) which kinds to try first; None where the groups have too little room for what is empty.

        In a window large groups go first, since they need the most places; in the whole list small ones, whose place
        nobody else can take.
        """
        worth_K, empty = np.zeros(len(left_K)), row.count(None)
        places = self.length - position
        for rule in self._rules:
            left_G = np.bincount(rule.code_K, weights=left_K, minlength=rule.groups)
            if whole := rule.window >= self.length:
                codes = [rule.of[kind] for kind in row if kind is not None]
                room_G = rule.most - np.bincount(np.array(codes, np.int64), minlength=rule.groups)
            else:
                most = rule.most * (places // rule.window) + min(rule.most, places % rule.window)
                room_G = np.full(rule.groups, most)
            if left_G[0] + np.minimum(left_G, room_G)[1:].sum() < empty:
                return None
            left_G[0] = 0
            worth_K += left_G[rule.code_K] * (-1 if whole else 1)
        return worth_K
