"""Lists drawn for a reward's training: only items with known feedback, shorter where few are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from factories import make_data, make_schema, make_split
from slatewise.errors import ConfigError
from slatewise.rewards.base import RewardMemory, RewardModel
from slatewise.rng import torch_rng
from slatewise.training.rewards import RewardConfig, _top, fit_reward, reward_loss


def test_drawn_lists_hold_known_items_only_and_end_where_they_run_out() -> None:
    batch = make_split(make_schema(), 8, 0).batch(slice(0, 8))
    known_BN = batch.observed_BN()
    known_BN[0, batch.exposed_BE[0, 2:]] = False  # two known candidates, lists of four
    lists_BGL = _top(torch.zeros(8, 1, 10), known_BN, 5, 4, torch.Generator().manual_seed(0))
    assert set(lists_BGL[0, :, :2].flatten().tolist()) == set(batch.exposed_BE[0, :2].tolist())
    assert not lists_BGL[0, :, 2:].any()
    assert bool(known_BN[1:].gather(1, lists_BGL[1:].flatten(1)).all())


class Recorder(RewardModel):
    """Keeps what it is to learn from."""

    def encode(self, batch):
        return RewardMemory(batch.mask_BN, None)

    def value_of(self, memory, lists_BGL):
        return torch.zeros(lists_BGL.shape[:2])

    def loss(self, memory, lists_BGL, feedback_BGLK, mask_BL):
        self.seen = lists_BGL, feedback_BGLK, mask_BL
        return torch.zeros(())


def recorded(data, config: RewardConfig, step: int = 0, shown: int = 4):
    batch = data.split("train").batch(slice(0, 16))
    mask_BE = batch.exposed_mask_BE & (torch.arange(4) < shown)
    batch = replace(batch, exposed_BE=batch.exposed_BE * mask_BE, exposed_mask_BE=mask_BE)
    model = Recorder()
    reward_loss(model, batch, config, data, torch_rng(0, "lists", step))
    return batch, *model.seen


@pytest.mark.parametrize("fewest", [None, 2])
def test_fresh_orders_of_the_logged_list_bring_its_feedback_in_their_order(tmp_path, fewest) -> None:
    data = make_data(tmp_path, fewest=fewest)
    config = RewardConfig(counterfactual=0, own=0, orders=3)
    batch, lists_BGL, feedback_BGLK, mask_BL = recorded(data, config)
    assert lists_BGL.shape == (16, 4, 4)
    assert torch.equal(lists_BGL[:, 0], batch.exposed_BE)
    assert torch.equal(mask_BL, batch.exposed_mask_BE)
    for b in range(16):
        size = int(mask_BL[b].sum())
        gain = dict(
            zip(batch.exposed_BE[b].tolist(), batch.feedback_BEK[b, :, 0].tolist()[:size], strict=False)
        )
        for g in range(4):
            one = lists_BGL[b, g, :size].tolist()
            assert sorted(one) == sorted(gain)
            assert feedback_BGLK[b, g, :size, 0].tolist() == [gain[item] for item in one]
    assert len({tuple(one) for one in lists_BGL[:, 1:].flatten(0, 1).tolist()}) > 20
    assert not torch.equal(recorded(data, config, step=1)[1], lists_BGL)  # drawn anew each step


def test_where_feedback_belongs_to_the_order_lists_are_not_reordered(tmp_path) -> None:
    data = make_data(tmp_path, unexposed_is_negative=False)
    batch, lists_BGL, _, _ = recorded(data, RewardConfig())
    assert torch.equal(lists_BGL, batch.exposed_BE[:, None])
    with pytest.raises(ConfigError, match="order_free"):
        fit_reward(RewardConfig(orders=2), data, run=None)  # type: ignore[arg-type]
    free = RewardConfig(orders=2, order_free=True, counterfactual=0, own=0)
    assert recorded(data, free)[1].shape == (16, 3, 4)


def test_drawn_lists_are_no_longer_than_what_was_shown(tmp_path) -> None:
    """Ten candidates with labels, but two places shown: there is no third place to learn from."""
    data = make_data(tmp_path)
    batch, lists_BGL, feedback_BGLK, mask_BL = recorded(data, RewardConfig(), shown=2)
    assert mask_BL.tolist() == [[True, True, False, False]] * 16
    wanted = batch.label_BN([1.0])[:, None].expand(-1, lists_BGL.shape[1], -1).gather(2, lists_BGL)
    assert torch.equal(feedback_BGLK[..., 0], wanted)


def test_independent_lists_are_as_random_lists_in_the_mean_and_the_logged_one_can_stay_out(tmp_path) -> None:
    """Four of ten candidates were shown."""
    data = make_data(tmp_path)
    config = RewardConfig(counterfactual=200, own=0, composition="independent", logged=False)
    batch, lists_BGL, _, _ = recorded(data, config)
    assert lists_BGL.shape[1] == 200
    shown_BGL = (lists_BGL[..., None] == batch.exposed_BE[:, None, None]).any(-1)
    assert float(shown_BGL.float().mean()) == pytest.approx(0.4, abs=0.02)
    mixed = recorded(data, RewardConfig(counterfactual=200, own=0, logged=False))[1]
    assert float((mixed[..., None] == batch.exposed_BE[:, None, None]).any(-1).float().mean()) > 0.5


def test_a_reward_needs_a_list_to_learn_from(tmp_path) -> None:
    with pytest.raises(ConfigError, match="logged"):
        fit_reward(RewardConfig(counterfactual=0, own=0, logged=False), make_data(tmp_path), run=None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="logged"):
        fit_reward(
            RewardConfig(logged=False),
            make_data(tmp_path, unexposed_is_negative=False),
            run=None,  # type: ignore[arg-type]
        )
