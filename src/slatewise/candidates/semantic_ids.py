"""Semantic ids: each item is a path of a few codes, and items that are alike share the front of theirs.

Residual k-means (RQ-Kmeans, as GPR and OneRanker start from): the first code is the nearest of K centres, the second
the nearest centre to what the first leaves over, and so on. Generators write an item as its path, so a path must be
one item's alone. How is left open by the papers and decided in :mod:`~slatewise.candidates.free_paths`: the nearest item
keeps the place, the others get the nearest free one with as much of the front as there is room for.

Shapes, besides the legend in :mod:`slatewise.types`: I items, n items to be placed, S levels of a path, K codes a level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slatewise.candidates import clusters
from slatewise.candidates.free_paths import descend, place, sum_of_centres
from slatewise.candidates.retrieval import Bools, Floats, Ints
from slatewise.config import Frozen, Positive
from slatewise.errors import ConfigError, DataError
from slatewise.rng import child_seed


class SemanticIdConfig(Frozen):
    """``levels`` of a path (S) and ``codes`` a level (K): K ** S paths, below 2 ** 63."""

    levels: Positive = 3
    codes: Positive = 256


@dataclass(frozen=True)
class SemanticIds:
    """Paths of a catalogue's items, no two alike, and the centres behind them.

    Attributes:
        codes_IS: the path of each item; 0 where it has none.
        real_I: True where an item has a path. Index 0 and organic content have none.
        centres_SKD: centres of what the levels before leave over. Where a level had fewer than K distinct vectors,
            each is a centre and they repeat in turn: what collides then moves to a copy, which costs no error.
    """

    codes_IS: Ints
    real_I: Bools
    centres_SKD: Floats

    def assign(self, vectors_ID: Floats, real_I: Bools) -> SemanticIds:
        """Paths for the items that have none yet; every path that was given stays.

        Args:
            vectors_ID: vectors of all items; there may be more items than before, behind the others. Those of
                items with a path are not looked at.
            real_I: items that shall have a path; those that have one keep it even where this is False.

        Raises:
            DataError: fewer items than before, or a vector that is not finite.
            ConfigError: more items than paths.
        """
        old = len(self.real_I)
        if len(vectors_ID) < old or len(real_I) != len(vectors_ID):
            raise DataError(
                f"paths were asked for with {len(vectors_ID)} vectors and {len(real_I)} marks; both must be there "
                f"for each of the {old} items that there are, and new ones behind them."
            )
        had_I = np.append(self.real_I, np.zeros(len(real_I) - old, dtype=bool))
        codes_IS = np.zeros((len(real_I), len(self.centres_SKD)), dtype=np.int64)
        codes_IS[:old] = self.codes_IS
        new_I = real_I & ~had_I
        codes_IS[new_I] = place(vectors_ID[new_I].astype(np.float32), self.centres_SKD, codes_IS[had_I])
        return SemanticIds(codes_IS, had_I | new_I, self.centres_SKD)

    def nearest(self, vectors_ID: Floats) -> Ints:
        """(I, S) the path of each vector by itself, whoever else has it."""
        nobody = np.zeros((0, len(self.centres_SKD)), dtype=np.int64)
        return descend(vectors_ID.astype(np.float32), self.centres_SKD, nobody)

    def report(self, vectors_ID: Floats) -> dict[str, float]:
        """How well the paths describe the vectors of the items that have one.

        Returns:
            ``items`` with a path. ``collision_rate``: the share that would not have a path of its own if each took
            the nearest codes (1 − distinct paths / items). ``moved``: the share whose path is not its nearest.
            ``use_1`` … ``use_S``: the share of a level's K codes that stand in some path. ``distinct_1`` …: the
            number of its distinct centres. ``error``: squared distance between vector and sum of centres, over the
            vectors' squared distance from their mean; ``error_nearest``: the same before collisions were resolved.
        """
        vectors_nD, codes_nS = vectors_ID[self.real_I], self.codes_IS[self.real_I]
        nearest_nS = descend(vectors_nD, self.centres_SKD, codes_nS[:0])
        spread = ((vectors_nD - vectors_nD.mean(axis=0)) ** 2).sum()
        levels = range(len(self.centres_SKD))
        return {
            "items": float(len(codes_nS)),
            "collision_rate": 1 - len(np.unique(nearest_nS, axis=0)) / len(codes_nS),
            "moved": float((codes_nS != nearest_nS).any(axis=1).mean()),
            **{f"use_{s + 1}": len(np.unique(codes_nS[:, s])) / self.centres_SKD.shape[1] for s in levels},
            **{f"distinct_{s + 1}": float(len(np.unique(self.centres_SKD[s], axis=0))) for s in levels},
            "error": float(self._square(vectors_nD, codes_nS) / max(spread, 1e-12)),
            "error_nearest": float(self._square(vectors_nD, nearest_nS) / max(spread, 1e-12)),
        }

    def _square(self, vectors_nD: Floats, codes_nS: Ints) -> float:
        return float(((vectors_nD - sum_of_centres(self.centres_SKD, codes_nS)) ** 2).sum())

    def tensors(self) -> dict[str, Tensor]:
        """All of it for :func:`slatewise.tensors.save_tensors`; the shapes follow from items and config alone."""
        parts = {"codes_IS": self.codes_IS, "real_I": self.real_I, "centres_SKD": self.centres_SKD}
        return {name: torch.from_numpy(part) for name, part in parts.items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> SemanticIds:
        """What :meth:`tensors` gave."""
        return cls(**{name: tensors[name].cpu().numpy() for name in ("codes_IS", "real_I", "centres_SKD")})


def from_codes(vectors_ID: Floats, codes_IS: Ints, real_I: Bools, codes: int) -> SemanticIds:
    """Paths that were given before, with centres that are found again: the mean of what each code describes.

    That is where k-means left them, but for items that a collision moved. A code that stands in no path has a centre
    beyond all vectors, so that no item takes it while another is free.

    Args:
        vectors_ID: vectors of all items.   codes_IS, real_I: as in :class:`SemanticIds`.   codes: K.
    """
    left_nD, centres = vectors_ID[real_I].astype(np.float64), []
    for code_n in codes_IS[real_I].T:
        count_K, sum_KD = np.bincount(code_n, minlength=codes), np.zeros((codes, left_nD.shape[1]))
        np.add.at(sum_KD, code_n, left_nD)
        beyond_D = 2 * left_nD.max(axis=0) - left_nD.min(axis=0) + 1
        centre_KD = np.where(count_K[:, None] > 0, sum_KD / np.maximum(count_K, 1)[:, None], beyond_D)
        left_nD = left_nD - centre_KD[code_n]
        centres.append(centre_KD.astype(np.float32))
    return SemanticIds(codes_IS, real_I, np.stack(centres))


def fit(config: SemanticIdConfig, vectors_ID: Floats, real_I: Bools, seed: int) -> SemanticIds:
    """Learn the centres from the real items' vectors and give each of them a path.

    Items that are to have a path but not a say (new ones, say) come afterwards, by :meth:`SemanticIds.assign`.

    Raises:
        DataError: no real item, or a vector that is not finite.
        ConfigError: more items than paths, or more paths than fit into 63 bits.
    """
    if config.codes**config.levels >= 2**63:
        raise ConfigError(
            f"{config.levels} levels of {config.codes} codes make {config.codes}**{config.levels} paths, which must "
            "be below 2**63; lower levels or codes."
        )
    left_nD, centres = vectors_ID[real_I].astype(np.float32), []
    for level in range(config.levels):
        fitted = clusters.fit(left_nD, config.codes, child_seed(seed, "semantic ids", level)).centres_KD
        left_nD = left_nD - fitted[clusters.nearest(left_nD, fitted)]
        centres.append(fitted)
    nobody = np.zeros(len(real_I), dtype=bool)
    empty = SemanticIds(np.zeros((len(real_I), config.levels), dtype=np.int64), nobody, np.stack(centres))
    return empty.assign(vectors_ID, real_I)
