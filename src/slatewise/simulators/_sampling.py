"""What a store logs: requests, a noisy retriever's candidates, and a randomised list with its propensity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slatewise.rng import numpy_rng

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

START = 1_700_000_000  # seconds; where a store's clock starts
GAP = 30  # seconds between one request and the next


@dataclass(frozen=True)
class Requests:
    """B requests as the logging policy saw and answered them.

    Attributes:
        user_B, item_BN: rows of the store's tables.
        score_BN: the retriever's score of each candidate.
        logged_BL: the logged list, indices into the candidate axis.
        log_prob_B: log-probability of the logged list under the logging policy, in nats.
        timestamp_B: seconds, strictly increasing.
    """

    user_B: Tensor
    item_BN: Tensor
    score_BN: Tensor
    logged_BL: Tensor
    log_prob_B: Tensor
    timestamp_B: Tensor

    @property
    def size(self) -> int:
        """B."""
        return self.user_B.shape[0]


def distinct(rng: np.random.Generator, rows: int, count: int, among: int) -> Ints:
    """``count`` distinct numbers below ``among`` in each row, uniformly (R. Floyd's algorithm)."""
    chosen = np.full((rows, count), -1, dtype=np.int64)
    draw = rng.random((rows, count))
    for place, top in enumerate(range(among - count, among)):
        pick = (draw[:, place] * (top + 1)).astype(np.int64)
        taken = (chosen == pick[:, None]).any(axis=1)
        chosen[:, place] = np.where(taken, top, pick)
    return chosen


def plackett_luce(rng: np.random.Generator, logit_BN: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """A list a request drawn without replacement by softmax(logit), and its log-probability: (B, L), (B,)."""
    noise_BN = torch.from_numpy(rng.gumbel(size=tuple(logit_BN.shape))).to(logit_BN.device)
    order_BN = (logit_BN + noise_BN).argsort(dim=1, descending=True, stable=True)
    sorted_BN = logit_BN.gather(1, order_BN)
    rest_BN = sorted_BN.flip(1).logcumsumexp(dim=1).flip(1)
    return order_BN[:, :length], (sorted_BN - rest_BN)[:, :length].sum(dim=1)


def keep_best(score: Floats, count: int, rng: np.random.Generator) -> Ints:
    """The columns of the ``count`` best scores of each row, in an order that tells nothing of the scores."""
    best = np.argsort(-score, axis=1, kind="stable")[:, :count]
    shuffle = np.argsort(rng.random(best.shape), axis=1, kind="stable")
    return np.take_along_axis(best, shuffle, axis=1)


def rngs(seed: int) -> dict[str, np.random.Generator]:
    """One generator a quantity, so that the first requests of a longer draw are those of a shorter one."""
    return {
        name: numpy_rng(seed, "requests", name) for name in ("user", "pool", "retriever", "shuffle", "policy")
    }
