"""DeGRe's ways to its labels: mined into the run, on the fly, from a store by name; exposure, rounds, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from slatewise.api import fit, mine
from slatewise.config import build
from slatewise.data.prepared import PreparedData
from slatewise.errors import ConfigError, DataError
from slatewise.methods import degre, degre_goalrank
from slatewise.methods.degre import dense_loss, exposure_loss
from slatewise.ranker import Ranker
from slatewise.rewards import build_reward
from slatewise.tensors import digest
from slatewise.testing.fixtures import example_data, example_generator
from slatewise.testing.method import short_training
from slatewise.training.generators import check_warm_start, start_generator
from slatewise.training.rewards import reward_options

TOWER = {"tower": {"width": 16}}


def train(out: Path, **options: Any) -> Ranker:
    config = short_training(degre.Config, 3)
    config["reward"]["options"] = TOWER
    config["train"] |= {"requests": 64, "validations": 1}
    settings = {"generator": TOWER, "mining": {"width": 2, "polish_rounds": 0, "keep": "all"}, **options}
    return fit("degre", example_data(), out=out, **(config | settings))


def weights(ranker: Ranker) -> str:
    return digest(ranker.policy.state_dict())


def stages(folder: Path) -> list[str]:
    return sorted(path.name.rsplit("-", 1)[0] for path in (folder / "stages").iterdir())


def test_a_run_mines_its_own_store_once_and_learns_the_same_from_every_source(tmp_path) -> None:
    own = train(tmp_path / "own")
    assert stages(tmp_path / "own") == ["degre", "mined", "reward"]
    fresh = train(tmp_path / "fresh", on_the_fly=True)
    assert stages(tmp_path / "fresh") == ["degre", "reward"]
    batch = example_data().split("test").batch(slice(0, 16))
    assert torch.equal(own.rank_batch(batch).order_BL, fresh.rank_batch(batch).order_BL)
    mine(tmp_path / "own", example_data(), tmp_path / "named", width=2, quiet=True)
    named = train(tmp_path / "by-name", mined=str(tmp_path / "named"))
    assert stages(tmp_path / "by-name") == ["degre", "reward"]
    assert weights(named) == weights(own)


def test_settings_of_loss_and_supervision_all_matter(tmp_path) -> None:
    settings: dict[str, dict[str, Any]] = {
        "plain": {},
        "alpha": {"loss": {"alpha": 0.5}},
        "soft temperature": {"loss": {"alpha": 0.5, "soft_temperature": 0.1}},
        "no hard label": {"loss": {"hard": False}},
        "not weighed": {"loss": {"weigh": False}},
        "tau_w": {"loss": {"tau_w": 0.01}},
        "best": {"mining": {"width": 2, "keep": "best"}},
        "cold": {"warm_start": "none"},
        "exposure": {"supervision": "exposure"},
        "no cross-attention": {"generator": {**TOWER, "cross_attention": False}},
    }
    found = {name: weights(train(tmp_path / name, **options)) for name, options in settings.items()}
    assert len(set(found.values())) == len(settings)
    assert "mined" not in stages(tmp_path / "exposure")


def test_a_second_round_mines_with_the_trained_generators_lists(tmp_path) -> None:
    train(tmp_path / "run", rounds=2, own=2, mining={"width": 2, "polish_rounds": 0, "keep": "best"})
    assert stages(tmp_path / "run") == ["degre", "degre-round-2", "mined", "mined", "reward"]


MISTAKES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"on_the_fly": True, "mined": "named"}, ConfigError, "leave one of them out"),
    ({"supervision": "exposure", "rounds": 2}, ConfigError, "rounds must be 1"),
    ({"on_the_fly": True, "supervision": "exposure"}, ConfigError, "on_the_fly false"),
    ({"loss": {"hard": False, "alpha": 0.0}}, ConfigError, "nothing to learn"),
    (
        {"generator": {"tower": {"width": 24}}},
        ConfigError,
        'copies a tower of form = "sum", width = 16 into one of',
    ),
    (
        {"generator": {"heads": 3}, "warm_start": "none"},
        ConfigError,
        "width = 64 cannot be shared among heads = 3",
    ),
    ({"train": {"batch_size": 0}}, ConfigError, "batch_size"),
    ({"mined": "nowhere"}, DataError, "not a mined store"),
    ({"mined": "named", "mining": {"width": 3}}, ConfigError, "mined with width = 2"),
]


def test_mistakes_are_said(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    train(tmp_path / "run", supervision="exposure")
    mine(tmp_path / "run", example_data(), "named", width=2, quiet=True)
    for number, (options, error, said) in enumerate(MISTAKES):
        with pytest.raises(error, match=said):
            train(tmp_path / str(number), **options)


def test_the_defaults_start_from_the_rewards_tower() -> None:
    """Of the default config, and of the paper's form: every weight of the tower is copied."""
    data, paper = example_data(), {"tower": {"form": "fields"}}
    for changes in ({}, {"reward": {"options": paper}, "generator": paper}, {"reward": {"name": "listwise"}}):
        config = build(degre.Config, changes)
        check_warm_start("reward", reward_options(config.reward).tower, config.generator.tower)
        reward = build_reward(config.reward.name, reward_options(config.reward), data.manifest)
        with torch.no_grad():
            for weight in reward.tower.parameters():
                weight.normal_()
        generator = start_generator("degre", config.generator, data, 1, reward)
        for name, weight in generator.tower.named_parameters():
            assert torch.equal(weight, reward.tower.get_parameter(name)), name


def test_both_weights_of_the_sum_matter(tmp_path) -> None:
    config = short_training(degre_goalrank.Config, 3)
    config["reward"]["options"] = TOWER
    dense = {"mining": {"width": 2}}
    found = {}
    for pair in ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0)):
        weighted = {"dense_weight": pair[0], "group_weight": pair[1], "generator": TOWER, "dense": dense}
        found[pair] = weights(
            fit("degre-goalrank", example_data(), out=tmp_path / str(pair), **(config | weighted))
        )
    assert len(set(found.values())) == 3


def test_exposure_loss_is_the_mean_of_the_shown_lists_log_probability() -> None:
    data: PreparedData = example_data()
    batch, generator = data.split("train").batch(slice(0, 6)), example_generator()
    memory = generator.encode(batch)
    loss = exposure_loss(generator, memory, batch, data.schema.length)
    log_prob = generator.log_prob(memory, batch.exposed_BE[:, None, : data.schema.length])
    assert loss.item() == pytest.approx(-log_prob.sum(2).mean().item(), rel=1e-5)


def test_the_dense_loss_of_one_list_is_its_log_probability() -> None:
    from slatewise.groups.beam_mining import Mined
    from slatewise.losses.dense_distillation import DistillationConfig

    data = example_data()
    batch, generator = data.split("train").batch(slice(0, 6)), example_generator()
    lists = batch.exposed_BE[:, None, : data.schema.length].expand(-1, 3, -1)  # the same list three times
    steps = torch.zeros(*lists.shape, batch.num_candidates).half()
    memory = generator.encode(batch)
    loss, numbers = dense_loss(
        generator,
        memory,
        batch,
        lambda batch: Mined(lists, torch.ones(6, 3), steps),
        DistillationConfig(alpha=0.0),
    )
    assert loss.item() == pytest.approx(
        -generator.log_prob(memory, lists[:, :1]).sum(2).mean().item(), rel=1e-5
    )
    assert float(numbers["distinct"]) == 1.0
