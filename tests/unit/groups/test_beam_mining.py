"""Mining: the beam against brute force, step values against lists valued one by one, short requests, truncation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from batches import all_lists, close, make_batch, well_formed
from factories import make_data
from slatewise.config import build
from slatewise.generators.base import CLOSED
from slatewise.groups.beam_mining import NO_VALUE, Mined, MiningConfig, _compact, mine
from slatewise.groups.policy_mix import first_copies
from slatewise.losses.dense_distillation import soft_labels
from slatewise.modules.gather import open_candidates
from slatewise.rewards.base import RewardModel
from slatewise.rewards.ensemble import Ensemble
from slatewise.rewards.listwise import Config, Listwise


def make_reward(tmp_path, seed: int = 3, **schema) -> RewardModel:
    from factories import make_schema

    manifest = make_data(tmp_path / f"data{seed}", make_schema(**schema)).manifest
    torch.manual_seed(seed)
    reward = Listwise(build(Config, {"tower": {"width": 32}}), manifest)
    with torch.no_grad():
        reward.head.out.weight.mul_(6.0)  # far from equal values
        reward.head.out.bias -= 2.0
        for layer in reward.reader.layers:
            layer.pairwise.out.weight.mul_(6.0)  # and with effects of one item on another
    return reward.eval()


def run(reward: RewardModel, batch, length: int, own_BGL: Tensor | None = None, **config) -> Mined:
    with torch.no_grad():
        return mine(reward, reward.encode(batch), build(MiningConfig, config), length=length, own_BGL=own_BGL)


def wanted_steps(reward: RewardModel, batch, lists_BGL: Tensor) -> tuple[Tensor, Tensor]:
    """Every prefix with every candidate behind it, each list valued whole, counted from the best; and what is open."""
    b, g, length = lists_BGL.shape
    n, memory = batch.num_candidates, reward.encode(batch)
    open_BGLN = open_candidates(lists_BGL, batch.mask_BN)
    total = torch.zeros(b, g, length, n)
    with torch.no_grad():
        for t in range(length):
            for item in range(n):
                lists = torch.cat([lists_BGL[:, :, :t], torch.full((b, g, 1), item)], 2)
                total[:, :, t, item] = reward.value_of(memory, lists)
    best = total.masked_fill(~open_BGLN, -torch.inf).amax(-1, keepdim=True)
    return total - best, open_BGLN


def test_a_wide_beam_is_brute_force(tmp_path) -> None:
    reward, batch = make_reward(tmp_path, candidates=5, length=3), make_batch(4, candidates=5, length=3)
    mined = run(reward, batch, 3, width=64)
    every = reward.value(batch, all_lists(5, 3).expand(4, -1, -1)).detach()
    assert mined.lists_BGL.shape == (4, 64, 3)
    assert close(mined.value_BG[:, :60], every.sort(1, descending=True).values)
    assert close(mined.value_BG, reward.value(batch, mined.lists_BGL).detach())
    assert (first_copies(mined.lists_BGL).sum(1) == 60).all()


SETTINGS = [
    {"width": 4},
    {"width": 1},
    {"width": 4, "keep": "best"},
    {"width": 3, "polish_rounds": 2},
    {"width": 3, "polish_rounds": 1, "keep": "best"},
    {"width": 3, "polish_rounds": 1, "top_k": 3},
]


@pytest.mark.parametrize("config", SETTINGS, ids=str)
@pytest.mark.parametrize("fewest", [None, 1])
def test_step_values_are_those_of_lists_valued_one_by_one(tmp_path, config, fewest) -> None:
    reward, batch = make_reward(tmp_path), make_batch(6, fewest=fewest)
    mined = run(reward, batch, 4, **config)
    count = 1 if config.get("keep") == "best" else config["width"]
    assert mined.lists_BGL.shape == (6, count, 4)
    assert well_formed(mined.lists_BGL, batch.mask_BN)
    assert close(mined.value_BG, reward.value(batch, mined.lists_BGL).detach())
    wanted, open_BGLN = wanted_steps(reward, batch, mined.lists_BGL)
    some_BGL = open_BGLN.any(-1)
    assert close(mined.step_value_BGLN[open_BGLN].float(), wanted[open_BGLN], 2e-3)
    assert (mined.step_value_BGLN[~open_BGLN] == torch.tensor(NO_VALUE).half()).all()
    assert mined.step_value_BGLN.isfinite().all()
    q_BGLN = soft_labels(mined.step_value_BGLN, 1e5, mined.step_value_BGLN > NO_VALUE)
    assert (q_BGLN.masked_fill(open_BGLN, 0.0)[some_BGL] == 0).all()


def test_a_value_however_far_below_is_still_a_value() -> None:
    lists_BGL, mask_BN = torch.tensor([[[0, 1]]]), torch.tensor([[True, True, True, False]])
    total_BGLN = torch.tensor([[[[3e6, 2.0, -1e6, CLOSED], [CLOSED, 7.0, 6.5, CLOSED]]]])
    steps = _compact(total_BGLN, lists_BGL, mask_BN)[0, 0]
    assert (steps > NO_VALUE).tolist() == [[True, True, True, False], [False, True, True, False]]
    assert steps[1, 1:3].tolist() == [0.0, -0.5]
    assert bool(steps.isfinite().all())


def test_best_come_first_and_copies_last(tmp_path) -> None:
    reward, batch = make_reward(tmp_path), make_batch(6)
    mined = run(reward, batch, 4, width=8, polish_rounds=3)  # several lists climb the same hill
    first_BG = first_copies(mined.lists_BGL)
    assert not first_BG.all()
    for value_G, first_G in zip(mined.value_BG, first_BG, strict=True):
        distinct = int(first_G.sum())
        assert first_G[:distinct].all()
        assert (value_G[: distinct - 1] >= value_G[1:distinct]).all()
    plain, best = run(reward, batch, 4, width=8), run(reward, batch, 4, width=8, polish_rounds=3, keep="best")
    greedy, climbed = run(reward, batch, 4, width=1), run(reward, batch, 4, width=1, polish_rounds=3)
    assert (best.value_BG[:, 0] >= plain.value_BG[:, 0] - 1e-6).all()
    assert (climbed.value_BG > greedy.value_BG + 1e-6).any()  # a narrow beam is myopic
    assert (
        mined.value_BG[:, 0] >= best.value_BG[:, 0] - 1e-6
    ).all()  # eight starts, the best one's among them
    assert torch.equal(run(reward, batch, 4, width=8, keep="best").lists_BGL[:, 0], plain.lists_BGL[:, 0])


def truncated_beam(reward: RewardModel, batch, length: int, width: int, top_k: int) -> list[list[list[int]]]:
    """The plain way: each expanded prefix valued whole, one request after the other."""
    found, memory = [], reward.encode(batch)

    def value(row: int, items: list[int]) -> float:
        lists = torch.zeros(batch.size, 1, len(items), dtype=torch.long)
        lists[row, 0] = torch.tensor(items)
        with torch.no_grad():
            return float(reward.value_of(memory, lists)[row, 0])

    for row in range(batch.size):
        real = batch.mask_BN[row].nonzero().flatten().tolist()
        single = {item: value(row, [item]) for item in real}
        order, beam = sorted(real, key=lambda item: -single[item]), [[]]
        for _ in range(min(length, len(real))):
            grown = [
                [*prefix, item]
                for prefix in beam
                for item in [other for other in order if other not in prefix][:top_k]
            ]
            beam = sorted(grown, key=lambda items: -value(row, items))[:width]
        found.append(beam)
    return found


@pytest.mark.parametrize("top_k", [1, 3, 10])
def test_truncation_tries_the_best_of_what_remains(tmp_path, top_k: int) -> None:
    reward, batch = make_reward(tmp_path), make_batch(4, fewest=3)
    mined = run(reward, batch, 4, width=3, top_k=top_k)
    wanted = truncated_beam(reward, batch, 4, 3, top_k)
    for lists_GL, mask_N, lists in zip(mined.lists_BGL.tolist(), batch.mask_BN, wanted, strict=True):
        size = min(4, int(mask_N.sum()))
        assert [one[:size] for one in lists_GL[: len(lists)]] == lists
        assert all(one == lists_GL[0] for one in lists_GL[len(lists) :])
    has_value = mined.step_value_BGLN > NO_VALUE
    left_BGL = open_candidates(mined.lists_BGL, batch.mask_BN).sum(-1)
    assert torch.equal(has_value.sum(-1), left_BGL.clamp_max(top_k))
    steps, _ = wanted_steps(reward, batch, mined.lists_BGL)
    best = steps.masked_fill(~has_value, -torch.inf).amax(-1, keepdim=True)
    assert close(mined.step_value_BGLN[has_value].float(), (steps - best)[has_value], 2e-3)


def test_own_lists_stand_beside_the_beam(tmp_path) -> None:
    reward, batch = make_reward(tmp_path), make_batch(3)
    own = all_lists(10, 4)[torch.tensor([0, 777, 4000])].expand(3, -1, -1)
    mined = run(reward, batch, 4, own, width=2)
    assert mined.lists_BGL.shape == (3, 5, 4)
    for lists_GL, own_GL in zip(mined.lists_BGL.tolist(), own.tolist(), strict=True):
        assert all(one in lists_GL for one in own_GL)
    wanted, open_BGLN = wanted_steps(reward, batch, mined.lists_BGL)
    assert close(mined.step_value_BGLN[open_BGLN].float(), wanted[open_BGLN], 2e-3)


def test_a_request_alone_is_mined_as_in_a_batch(tmp_path) -> None:
    reward, batch = make_reward(tmp_path), make_batch(5, fewest=2)
    together = run(reward, batch, 4, width=3, polish_rounds=1)
    alone = [run(reward, batch.take(torch.tensor([row])), 4, width=3, polish_rounds=1) for row in range(5)]
    assert torch.equal(together.lists_BGL, torch.cat([one.lists_BGL for one in alone]))
    steps = torch.cat([one.step_value_BGLN for one in alone]).float()
    assert close(together.step_value_BGLN.float(), steps, 2e-3)


def test_an_ensemble_mines_too(tmp_path) -> None:
    members = [make_reward(tmp_path, seed) for seed in (3, 4)]
    batch = make_batch(3)
    mined = run(Ensemble(members), batch, 4, width=2, top_k=3)
    mean = (members[0].value(batch, mined.lists_BGL) + members[1].value(batch, mined.lists_BGL)) / 2
    assert close(mined.value_BG, mean.detach())
