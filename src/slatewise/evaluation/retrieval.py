"""Metrics of what a policy finds in the whole catalogue, and of what a recommendation brings.

``catalogue-hr@K``: the share of a request's wanted items among the K that the policy finds in the catalogue; NaN for one
that cannot search, and where nothing was wanted. ``cold-hr@K``: the same over wanted items that training never saw.
``cold-hit@K``: the share of those wanted items among the first K of the list, where the request has any.
``item-value@K``: what each of the first K items of the list brings, shown by itself: the expected amount where a
simulator knows it, else the logged one (0 for what was not wanted). ``catalogue-value@K``: the same of the K found.
``overlap@K``: the share of the first K of a request's candidates by the generator that are among the first K by the
ranking decoder (OneRanker's Fig. 3); NaN for a policy that has not both.
The amount is the feedback ``value`` where the data has it, else the target.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from slatewise.data.batch import ListBatch
from slatewise.data.prepared import PreparedData
from slatewise.errors import ConfigError
from slatewise.evaluation.entrants import Entrant
from slatewise.evaluation.truth import Truth
from slatewise.types import Ranking, Retrieved

SEARCHED = ("catalogue-hr", "cold-hr", "catalogue-value")
KINDS = (*SEARCHED, "cold-hit", "item-value", "overlap")
AMOUNT = "value"

Columns = dict[str, Tensor]
Steps = Callable[[ListBatch], tuple[Tensor, Tensor]]


def is_retrieval(name: str) -> bool:
    """True for the name of one of these metrics.

    Raises:
        ConfigError: the kind is one of them, but K is missing or no number above 0.
    """
    kind, _, places = name.partition("@")
    if kind not in KINDS:
        return False
    if not re.fullmatch("[1-9][0-9]*", places):
        raise ConfigError(f"metric '{name}' needs a number of places above 0, e.g. {kind}@100.")
    return True


class CatalogueMetrics:
    """Grades what policies find."""

    def __init__(
        self, names: Sequence[str], field: Sequence[Entrant], data: PreparedData, truth: Truth | None
    ) -> None:
        asked = [name.split("@") for name in names]
        self._of = {kind: [int(at) for one, at in asked if one == kind] for kind in KINDS}
        self._finders = {entrant.name: entrant.retrieve for entrant in field}
        self._steps = {entrant.name: entrant.steps for entrant in field}
        self._truth, self._target = truth, data.manifest.target_weights()
        self._trained = data.schema.trained_items or data.schema.items
        kinds = [kind.name for kind in data.schema.feedback]
        amount = {AMOUNT: 1.0} if AMOUNT in kinds else data.manifest.target
        self._amount, self._amounts = amount, [amount.get(kind, 0.0) for kind in kinds]

    def measure(self, batch: ListBatch, rankings: Mapping[str, Ranking]) -> dict[str, Columns]:
        """The metrics of every policy, each (B,) float64."""
        return {
            name: self._listed(batch, ranking)
            | self._found(batch, self._finders[name])
            | self._overlap(batch, self._steps[name])
            for name, ranking in rankings.items()
        }

    def _listed(self, batch: ListBatch, ranking: Ranking) -> Columns:
        columns: Columns = {}
        for places in self._of["item-value"]:
            order, mask = ranking.order_BL[:, :places].cpu(), ranking.mask_BL[:, :places].cpu()
            worth = self._worth(batch, batch.candidates_BN.cpu().gather(1, order)) * mask
            columns[f"item-value@{places}"] = worth.sum(1) / mask.sum(1).clamp_min(1)
        for places in self._of["cold-hit"]:
            order, mask = ranking.order_BL[:, :places].cpu(), ranking.mask_BL[:, :places].cpu()
            cold_BN = (batch.label_BN(self._target).cpu() > 0) & (batch.candidates_BN.cpu() >= self._trained)
            columns[f"cold-hit@{places}"] = (cold_BN.gather(1, order) & mask).sum(1).double() / cold_BN.sum(1)
        return columns

    def _found(self, batch: ListBatch, finder: Callable[[ListBatch, int], Retrieved] | None) -> Columns:
        wide = [places for kind in SEARCHED for places in self._of[kind]]
        if not wide:
            return {}
        nothing_B = torch.full((batch.size,), torch.nan, dtype=torch.float64)
        if finder is None:
            return {f"{kind}@{places}": nothing_B for kind in SEARCHED for places in self._of[kind]}
        found = finder(batch, max(wide))
        items_BK, mask_BK = found.items_BK.cpu(), found.mask_BK.cpu()
        label_BN, items_BN = batch.label_BN(self._target).cpu(), batch.candidates_BN.cpu()
        place_BKN = (items_BK[:, :, None] == items_BN[:, None]) & mask_BK[:, :, None]
        columns: Columns = {}
        for kind, wanted_BN in (
            ("catalogue-hr", label_BN > 0),
            ("cold-hr", (label_BN > 0) & (items_BN >= self._trained)),
        ):
            for places in self._of[kind]:
                hit_BN = place_BKN[:, :places].any(1) & wanted_BN
                columns[f"{kind}@{places}"] = hit_BN.sum(1).double() / wanted_BN.sum(1)
        for places in self._of["catalogue-value"]:
            real_BK = mask_BK[:, :places]
            worth = self._worth(batch, items_BK[:, :places]) * real_BK
            columns[f"catalogue-value@{places}"] = worth.sum(1) / real_BK.sum(1).clamp_min(1)
        return columns

    def _overlap(self, batch: ListBatch, steps: Steps | None) -> Columns:
        if steps is None or not self._of["overlap"]:
            nothing_B = torch.full((batch.size,), torch.nan, dtype=torch.float64)
            return {f"overlap@{places}": nothing_B for places in self._of["overlap"]}
        first_BN, second_BN = (
            score.masked_fill(~batch.mask_BN.to(score.device), -torch.inf)
            .argsort(dim=1, descending=True, stable=True)
            .cpu()
            for score in steps(batch)
        )
        columns: Columns = {}
        for places in self._of["overlap"]:
            first_BK, second_BK = first_BN[:, :places], second_BN[:, :places]
            count_B = batch.mask_BN.sum(1).cpu().clamp(max=places)
            real_BK = torch.arange(first_BK.shape[1]) < count_B[:, None]
            same_BKK = (first_BK[:, :, None] == second_BK[:, None]) & real_BK[:, :, None] & real_BK[:, None]
            columns[f"overlap@{places}"] = same_BKK.sum((1, 2)).double() / count_B
        return columns

    def _worth(self, batch: ListBatch, items_BK: Tensor) -> Tensor:
        """What each item brings, (B, K) float64."""
        if self._truth is not None:
            return self._truth.alone(batch, items_BK, self._amount)
        label_BN, items_BN = batch.label_BN(self._amounts).double().cpu(), batch.candidates_BN.cpu()
        return ((items_BK[:, :, None] == items_BN[:, None]) * label_BN[:, None]).sum(2)
