"""What lists that know the truth reach in a simulated store: the yardstick beside every learned policy."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.config import Frozen
from slatewise.rng import child_seed, numpy_rng
from slatewise.simulators._model import Target
from slatewise.simulators._sampling import Requests
from slatewise.simulators.store_v1 import Store

RANDOM = 200  # random lists a request, for the row `random`


class Reference(Frozen):
    """One policy's mean over requests.

    Attributes:
        policy: what wrote the lists.
        value: expected value of a list.
        share: value / optimum, in %.
        error: standard error of ``share``, in points.
        regret: (optimum − value) / (optimum − mean of the lists compared with), in %.
        top_1, top_01: requests whose list is in the best 1 % and .1 % of the lists compared with, in %; for
            ``random`` it is that of one list a request.
    """

    policy: str
    value: float
    share: float
    error: float
    regret: float
    top_1: float
    top_01: float


def references(
    store: Store | None = None, requests: int = 300, *, seed: int = 0, kind: Target = "click"
) -> tuple[list[Reference], bool]:
    """A row a policy, on ``requests`` fresh requests.

    Returns:
        The rows, and whether their lists were compared with all lists (else with 10,000 random ones).
    """
    store = store or Store()
    drawn = store.requests(requests, child_seed(seed, "reference"))
    values = _values(store, drawn, seed, kind)
    best_B = values["optimum"][:, 0]
    among = store.standing(
        drawn.user_B,
        drawn.item_BN,
        torch.stack([v[:, 0] for v in values.values()], dim=1),
        kind=kind,
        seed=seed,
    )
    rows = []
    for place, (name, value_BG) in enumerate(values.items()):
        value_B = value_BG.mean(dim=1)
        share_B = 100 * value_B / best_B
        rows.append(
            Reference(
                policy=name,
                value=float(value_B.mean()),
                share=float(share_B.mean()),
                error=float(share_B.std() / requests**0.5),
                regret=float((100 * (best_B - value_B) / (best_B - among.mean_B)).mean()),
                top_1=float(100 * among.in_top(0.01)[:, place].mean()),
                top_01=float(100 * among.in_top(0.001)[:, place].mean()),
            )
        )
    return rows, among.exact


def shares(store: Store | None = None, requests: int = 300, *, seed: int = 0) -> dict[str, float]:
    """Mean expected clicks of each policy in % of the optimum."""
    store = store or Store()
    values = _values(store, store.requests(requests, child_seed(seed, "reference")), seed, "click")
    return {
        name: float(100 * (value_BG.mean(dim=1) / values["optimum"][:, 0]).mean())
        for name, value_BG in values.items()
    }


def _values(store: Store, drawn: Requests, seed: int, kind: Target) -> dict[str, Tensor]:
    """Values of each policy's lists, (B, G) with G = 1 except for ``random``."""
    user_B, item_BN, length = drawn.user_B, drawn.item_BN, store.config.length
    greedy_BL, greedy_B = store.greedy(user_B, item_BN, kind=kind)
    beam_BL, beam_B = store.beam(user_B, item_BN, 8, kind=kind)

    def polish(order_BL: Tensor, rounds: int | None) -> Tensor:
        return store.local_search(user_B, item_BN, order_BL, rounds, kind)[1][:, None]

    def true(lists_BGL: Tensor) -> Tensor:
        return store.value(user_B, item_BN, lists_BGL, kind)

    draw = numpy_rng(seed, "reference", "random").random((drawn.size, RANDOM, item_BN.shape[1]))
    random_BGL = torch.from_numpy(draw.argsort(axis=2)[..., :length].copy())
    return {
        "random": true(random_BGL),
        "logged": true(drawn.logged_BL[:, None]),
        "retriever order": true(
            drawn.score_BN.argsort(dim=1, descending=True, stable=True)[:, None, :length]
        ),
        "true single-item sort": store.single_item_sort(user_B, item_BN, kind=kind)[1][:, None],
        "true greedy": greedy_B[:, None],
        "true beam 8": beam_B[:, None],
        "true beam 64": store.beam(user_B, item_BN, 64, kind=kind)[1][:, None],
        "true greedy + 3 rounds": polish(greedy_BL, 3),
        "true beam 8 + 3 rounds": polish(beam_BL, 3),
        "true beam 8 + local search to the end": polish(beam_BL, None),
        "optimum": store.optimum(user_B, item_BN, kind=kind)[1][:, None],
    }
