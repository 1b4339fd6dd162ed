"""Training a judge: a stage of its own, shared by every row that it grades; no ranker and no reward ever loads it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from slatewise.config import Count, Frozen, Positive, build
from slatewise.data.batch import ListBatch
from slatewise.data.drawn_lists import independent_lists
from slatewise.data.prepared import JUDGES, PreparedData, Split
from slatewise.data.schema import Manifest
from slatewise.errors import ConfigError
from slatewise.evaluation.judges import Judge, Mean, TrainedJudge
from slatewise.modules.gather import list_mask
from slatewise.names import plugin
from slatewise.rng import child_seed, torch_rng
from slatewise.training.loop import TrainConfig, train
from slatewise.training.run import Run

SELF = "self"


class JudgeConfig(Frozen):
    """A judge and how it grades.

    Attributes:
        kind: ``gru``, ``sets``, ``pointwise`` or ``self`` (the reward of the row ``row``, which is not trained here).
        users: ``same``: it learns from the rankers' training requests; ``disjoint``: from the split of the judges.
        orders: random lists a request and step that it learns from, negatives among them, in random order.
        members: so many judges that differ in their seed are trained, and averaged.
        lists: random lists that a list is compared with; an order-free judge is given every set instead.
        exact: requests for which an order-aware judge's regret and rank among all lists are found.
        seed: of training and of the random lists; rankers' seeds are graded by one and the same judge.
    """

    kind: str
    users: Literal["same", "disjoint"] = "disjoint"
    row: str = ""
    options: dict[str, Any] = {}
    train: TrainConfig = TrainConfig(epochs=4, learning_rate=2e-3, keep="last")
    orders: Count = 4
    members: Positive = 1
    lists: Positive = 10_000
    exact: Count = 200
    seed: int = 0

    def check(self, name: str) -> None:
        """Refuse what cannot grade.

        Raises:
            ConfigError: naming the judge, what came and what is allowed.
        """
        if (self.kind == SELF) != bool(self.row):
            raise ConfigError(
                f"judge '{name}': kind \"self\" needs the row whose reward it is, and no other kind has one."
            )
        if self.kind != SELF:
            build(plugin("evaluation.judges", self.kind).Config, self.options, where=f"judge '{name}'")
        for field, least in (("orders", 1), ("members", 1), ("lists", 100), ("exact", 0)):
            if getattr(self, field) < least:
                raise ConfigError(
                    f"judge '{name}': {field} is {getattr(self, field)}, but must be at least {least}."
                )


def fit_judge(config: JudgeConfig, data: PreparedData, run: Run) -> Judge:
    """Train (or load) a judge as a stage of ``run``; it learns from training requests only, for all its epochs.

    Raises:
        ConfigError: unknown kind or option, or a target that is not one kind of yes-or-no feedback.
        DataError: disjoint users are asked of data that has no split for judges.
    """
    members = [_member(config, data, run, member) for member in range(config.members)]
    return members[0] if len(members) == 1 else Mean(members)


def _member(config: JudgeConfig, data: PreparedData, run: Run, member: int) -> TrainedJudge:
    split = data.split("train" if config.users == "same" else JUDGES)
    _check_target(data)
    module = plugin("evaluation.judges", config.kind)
    options = build(module.Config, config.options, where=f"judge '{config.kind}'")
    seed = child_seed(config.seed, "member", member) if member else config.seed
    torch.manual_seed(child_seed(seed, "init", "judge", config.kind, config.users))
    judge: TrainedJudge = module.build(options, data.manifest)
    key = (config.kind, options, config.users, config.train, config.orders, data.manifest.fingerprint)
    replace(run, seed=seed).trained(
        f"judge-{config.kind}-{config.users}",
        (*key, data.manifest.target),
        judge,
        lambda stage: _fit(judge, config, data, split, stage),
    )
    judge.device = run.device
    return judge


def _check_target(data: PreparedData) -> None:
    kinds = [kind for kind in data.schema.feedback if data.manifest.target.get(kind.name)]
    if len(kinds) != 1 or not kinds[0].binary or data.manifest.target[kinds[0].name] != 1:
        raise ConfigError(
            f"judges count one kind of yes-or-no feedback, but the target is {data.manifest.target}; "
            'set a target such as {"click": 1.0}.'
        )


def _fit(judge: TrainedJudge, config: JudgeConfig, data: PreparedData, split: Split, stage: Run) -> None:
    judge.features.learn_items(split)  # type: ignore[operator, union-attr]

    def step_loss(batch: ListBatch, step: int) -> tuple[Tensor, dict[str, Any]]:
        rng = torch_rng(stage.seed, "judge-lists", step, device=stage.device)
        return judge_loss(judge, batch, data.manifest, config.orders, rng), {}

    train(judge, step_loss, split, config.train, stage)


def judge_loss(
    judge: TrainedJudge, batch: ListBatch, manifest: Manifest, orders: int, rng: torch.Generator
) -> Tensor:
    """Binary cross-entropy a place, on ``orders`` random lists of the items whose feedback is known.

    Where the protocol labels unexposed candidates, they are among them; without them a judge would value lists that
    it never saw the like of (measured on MovieLens: predicted over true value 1.7 instead of 0.95). The lists teach no
    dependence between labels, which have none (:func:`slatewise.data.drawn_lists.independent_lists`). A judge that
    looks at one item at a time learns from all these items at once.
    """
    known_BN = batch.known_BN(manifest.unexposed_is_negative)
    if judge.alone:
        lists_BGL = known_BN.long().argsort(dim=1, descending=True, stable=True)[:, None]
    else:
        lists_BGL = independent_lists(batch.observed_BN(), known_BN, orders, manifest.schema.length, rng)
    label_BN = batch.label_BN(manifest.target_weights())
    label_BGL = label_BN[:, None].expand(-1, lists_BGL.shape[1], -1).gather(2, lists_BGL)
    logit_BGL = judge.place_logits(judge.item_states(batch), lists_BGL)
    loss_BGL = F.binary_cross_entropy_with_logits(logit_BGL, label_BGL, reduction="none")
    real_BL = list_mask(known_BN, lists_BGL.shape[2])
    return loss_BGL[real_BL[:, None].expand_as(loss_BGL)].mean()
