"""Lists drawn for a reward's training: only items with known feedback, shorter where few are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from factories import make_data, make_schema, make_split
from slatewise import config as configs
from slatewise.errors import ConfigError
from slatewise.evaluation.regression import pcoc
from slatewise.rewards.base import RewardMemory, RewardModel
from slatewise.rng import torch_rng
from slatewise.training.rewards import RewardConfig, _fit, _top, fit_reward, reward_loss
from slatewise.training.run import open_run


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


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("listwise", {}),
        ("listwise", {"head": "list"}),
        ("listwise", {"causal": False, "discount": "log"}),
        ("pointwise", {}),
        ("lookahead", {"list_layers": 1}),
        ("lookahead", {"list_layers": 1, "head": "step"}),
    ],
)
def test_a_fitted_level_makes_the_mean_right_and_changes_no_order(tmp_path, name: str, options: dict) -> None:
    data = make_data(tmp_path / "data", unexposed_is_negative=False)
    config = RewardConfig(name=name, options=options, fit_level=True)
    config = replace_train(config, epochs=1)
    fitted = fit_reward(config, data, open_run(tmp_path / "yes", seed=1, resume=False, quiet=True))
    plain = fit_reward(
        configs.replace(config, fit_level=False),
        data,
        open_run(tmp_path / "no", seed=1, resume=False, quiet=True),
    )
    with torch.no_grad():
        batch = data.split("validation").batch(slice(0, len(data.split("validation"))))
        value_B1, plain_B1 = (
            fitted.value(batch, batch.exposed_BE[:, None]),
            plain.value(batch, batch.exposed_BE[:, None]),
        )
        gain_BL = batch.feedback_BEK[..., 0]
        if options.get("discount"):
            gain_BL = gain_BL / torch.log2(torch.arange(gain_BL.shape[1]) + 2.0)
        assert pcoc(value_B1[:, 0].numpy(), gain_BL.sum(1).numpy()) == pytest.approx(1.0, abs=1e-5)
        ratio_B1 = value_B1 / plain_B1
        assert torch.allclose(ratio_B1, ratio_B1[:1].expand_as(ratio_B1), rtol=1e-5)
        assert float(ratio_B1[0]) != pytest.approx(1.0, abs=1e-4)  # there was something to do
        prefix_BG0 = batch.exposed_BE[:, None, :0]
        extended = [model.extension_value(model.encode(batch), prefix_BG0) for model in (fitted, plain)]
        assert torch.allclose(extended[0], extended[1] * ratio_B1[0], rtol=1e-4)


def test_a_level_needs_lists_that_bring_something(tmp_path) -> None:
    data = make_data(tmp_path / "data", unexposed_is_negative=False, target={"click": -1.0})
    config = replace_train(RewardConfig(fit_level=True), epochs=1)
    with pytest.raises(ConfigError, match="fit_level"):
        fit_reward(config, data, open_run(tmp_path / "run", seed=1, resume=False, quiet=True))


def test_a_reward_without_a_head_has_no_level_to_fit(tmp_path) -> None:
    run = open_run(tmp_path / "run", seed=1, resume=False, quiet=True)
    with pytest.raises(ConfigError, match="Recorder has no head with a level"):
        _fit(Recorder(), RewardConfig(fit_level=True), make_data(tmp_path / "data"), run, 0)


def replace_train(config: RewardConfig, **changes) -> RewardConfig:
    return configs.replace(config, train=configs.replace(config.train, **changes))
