"""Who gets which arm: a hash of a unit and a salt falls into one of 10,000 buckets, which are dealt out by shares."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate

BUCKETS = 10_000


class Buckets:
    """Arms by share. A unit keeps its arm as long as salt and shares are."""

    def __init__(self, shares: Mapping[str, float], salt: str = "") -> None:
        """``shares``: of each arm, in any unit; together above 0."""
        total = sum(shares.values())
        self._names, self._salt = list(shares), salt.encode()[:64]
        self._ends = [round(BUCKETS * end / total) for end in accumulate(shares.values())]

    def of(self, unit: str) -> str:
        """The arm of a unit."""
        if len(self._names) == 1:
            return self._names[0]
        digest = hashlib.blake2b(unit.encode(errors="replace"), digest_size=8, key=self._salt).digest()
        return self._names[bisect_right(self._ends, int.from_bytes(digest, "big") % BUCKETS)]
