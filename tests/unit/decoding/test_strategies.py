"""Laws that every strategy keeps, and what each one promises by itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from batches import all_lists, close, make_batch, make_generator, permuted, well_formed
from slatewise.config import build
from slatewise.decoding import beam, diverse, greedy, gumbel, markov, random, sample, tree
from slatewise.errors import ConfigError
from slatewise.generators.base import CLOSED, Generator, list_mask
from slatewise.names import available
from slatewise.policies import decode
from slatewise.policies.decode import Decode
from slatewise.rng import torch_rng

STRATEGIES = [greedy, sample, gumbel, beam, tree, markov, random, diverse]
RANDOM = [sample, gumbel, markov, random]


def _propose(strategy, generator, memory, *, length=4, count=5, seed=3, **settings) -> Tensor:
    config = build(strategy.Config, settings)
    return strategy.propose(generator, memory, length=length, count=count, rng=torch_rng(seed), config=config)


def test_the_folder_has_these_strategies() -> None:
    assert available("decoding") == sorted(s.__name__.rsplit(".", 1)[-1] for s in STRATEGIES)


@pytest.mark.parametrize("kind", ["autoregressive", "scorer"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_lists_are_well_formed_even_for_short_requests_and_large_counts(strategy, kind: str) -> None:
    batch, generator = make_batch(8, fewest=1), make_generator(kind)
    assert batch.mask_BN.sum(1).min() < 4
    memory = generator.encode(batch)
    for count in (1, 7, 40):
        lists_BGL = _propose(strategy, generator, memory, count=count)
        assert lists_BGL.shape == (8, count, 4)
        assert well_formed(lists_BGL, batch.mask_BN)
        assert not lists_BGL.requires_grad


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_seed_one_answer_and_no_dropout(strategy) -> None:
    batch, generator = make_batch(fewest=3), make_generator()
    memory = generator.encode(batch)
    quiet = _propose(strategy, generator, memory)
    generator.train()
    generator.tower.eval()
    assert torch.equal(_propose(strategy, generator, memory), quiet)
    assert generator.training
    assert generator.decoder.training
    assert not generator.tower.training
    changed = not torch.equal(_propose(strategy, generator, memory, seed=4), quiet)
    assert changed == (strategy in RANDOM)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_policy_that_draws_lists_says_so(strategy) -> None:
    decoder = strategy.__name__.rsplit(".", 1)[-1]
    policy = Decode(make_generator(), decode.Config(decoder=decoder))
    assert policy.certain == (strategy not in RANDOM)


@pytest.mark.parametrize("kind", ["autoregressive", "scorer"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_decode_reports_the_lists_own_log_probability(strategy, kind: str) -> None:
    batch, generator = make_batch(8, fewest=1), make_generator(kind)
    slate = strategy.decode(generator, batch, length=4, rng=torch_rng(0), config=strategy.Config())
    assert well_formed(slate.order_BL[:, None], batch.mask_BN)
    assert torch.equal(slate.mask_BL, list_mask(batch.mask_BN, 4))
    passed_B = generator.log_prob(generator.encode(batch), slate.order_BL[:, None]).sum((1, 2))
    assert close(slate.log_prob_B, passed_B, 1e-4)


@pytest.mark.parametrize("strategy", [greedy, beam, tree, diverse])
def test_permuting_the_candidates_permutes_the_answer(strategy) -> None:
    batch, generator = make_batch(), make_generator()
    order_N = torch.randperm(batch.num_candidates, generator=torch_rng(1))
    first = strategy.decode(generator, batch, length=4, rng=torch_rng(0), config=strategy.Config())
    second = strategy.decode(
        generator, permuted(batch, order_N), length=4, rng=torch_rng(0), config=strategy.Config()
    )
    assert torch.equal(order_N[second.order_BL], first.order_BL)


def _teacher_forced_logits(generator: Generator, batch, prefix_BGT: Tensor) -> Tensor:
    """log pi(next | prefix) for every next candidate, from full passes: one list for each candidate.

    The list goes on behind the candidate with any item, which must not matter.
    """
    memory, n, t = generator.encode(batch), batch.num_candidates, prefix_BGT.shape[2]
    rows = []
    for item in range(n):
        rest_BG2 = torch.tensor([item, (item + 1) % n]).expand(*prefix_BGT.shape[:2], 2)
        lists_BGL = torch.cat([prefix_BGT, rest_BG2], 2)[:, :, :4]
        rows.append(generator.log_prob(memory, lists_BGL)[:, :, t])
    logits_BGN = torch.stack(rows, 2)
    return logits_BGN.scatter(2, prefix_BGT, CLOSED)


def test_greedy_is_the_teacher_forced_argmax() -> None:
    batch, generator = make_batch(), make_generator()
    lists_BGL = _propose(greedy, generator, generator.encode(batch), count=1)
    for position in range(4):
        logits_BGN = _teacher_forced_logits(generator, batch, lists_BGL[:, :, :position])
        assert torch.equal(logits_BGN.argmax(2), lists_BGL[:, :, position])


@torch.no_grad()
def test_beam_wide_enough_is_brute_force() -> None:
    small = {"candidates": 5, "length": 3, "exposed": 3}
    batch, generator = make_batch(**small), make_generator(**small)
    memory, every_ML = generator.encode(batch), all_lists(5, 3)
    log_prob_BM = generator.log_prob(memory, every_ML.expand(6, -1, -1)).sum(2)
    lists_BGL = _propose(beam, generator, memory, length=3, count=60, width=60)
    ranked_BGL = every_ML[log_prob_BM.argsort(dim=1, descending=True)]
    assert torch.equal(lists_BGL[:, :10], ranked_BGL[:, :10])
    assert all(len({tuple(one) for one in lists.tolist()}) == 60 for lists in lists_BGL)
    narrow = beam.decode(generator, batch, length=3, rng=torch_rng(0), config=beam.Config(width=1))
    assert torch.equal(narrow.order_BL, _propose(greedy, generator, memory, length=3, count=1)[:, 0])


@torch.no_grad()
def test_sampling_follows_the_policy() -> None:
    small = {"candidates": 4, "length": 2, "exposed": 2}
    batch, generator = make_batch(2, **small), make_generator(**small)
    memory, every_ML = generator.encode(batch), all_lists(4, 2)
    expected_BM = generator.log_prob(memory, every_ML.expand(2, -1, -1)).sum(2).exp()
    assert close(expected_BM.sum(1), torch.ones(2))
    lists_BGL = _propose(sample, generator, memory, length=2, count=20_000)
    seen_BM = (lists_BGL[:, :, None] == every_ML).all(-1).float().mean(1)
    assert expected_BM.max() > 3 * expected_BM.median()
    assert (seen_BM - expected_BM).abs().max() < 0.015


@torch.no_grad()
def test_gumbel_samples_a_scorers_policy_exactly() -> None:
    small = {"candidates": 4, "length": 2, "exposed": 2}
    batch, generator = make_batch(2, **small), make_generator("scorer", **small)
    memory, every_ML = generator.encode(batch), all_lists(4, 2)
    expected_BM = generator.log_prob(memory, every_ML.expand(2, -1, -1)).sum(2).exp()
    lists_BGL = _propose(gumbel, generator, memory, length=2, count=20_000)
    seen_BM = (lists_BGL[:, :, None] == every_ML).all(-1).float().mean(1)
    assert (seen_BM - expected_BM).abs().max() < 0.015


@pytest.mark.parametrize("settings", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}])
def test_truncated_to_nothing_else_sampling_is_greedy(settings) -> None:
    batch, generator = make_batch(fewest=2), make_generator()
    memory = generator.encode(batch)
    sampled_BGL = _propose(sample, generator, memory, **settings)
    assert torch.equal(sampled_BGL, _propose(greedy, generator, memory))


def test_truncation_by_hand() -> None:
    logits = torch.tensor([[[0.5, 0.2, 0.25, 0.05]]]).log()
    kept = {
        name: (sample.truncate(logits, build(sample.Config, settings)) > CLOSED / 2).flatten().tolist()
        for name, settings in {"k": {"top_k": 2}, "p": {"top_p": 0.7}, "exact": {"top_p": 0.5}}.items()
    }
    assert kept["k"] == [True, False, True, False]
    assert kept["p"] == [True, False, True, False]  # 0.5 is not enough, 0.75 is
    assert kept["exact"] == [True, False, False, False]


def test_random_lists_are_uniform() -> None:
    batch, generator = make_batch(2, fewest=3), make_generator()
    lists_BGL = _propose(random, generator, generator.encode(batch), length=2, count=20_000)
    for lists_GL, real in zip(lists_BGL, batch.mask_BN.sum(1).tolist(), strict=True):
        pairs = (lists_GL[:, 0] * 10 + lists_GL[:, 1]).unique(return_counts=True)[1]
        assert len(pairs) == real * (real - 1)
        assert (pairs / 20_000 * len(pairs) - 1).abs().max() < 0.35


@torch.no_grad()
def test_tree_branches_then_goes_on_greedily() -> None:
    batch, generator = make_batch(), make_generator()
    memory = generator.encode(batch)
    lists_BGL = _propose(tree, generator, memory, count=9, steps=2)
    for lists_GL in lists_BGL.tolist():
        assert len({tuple(one[:2]) for one in lists_GL}) == 9
        firsts = [one[0] for one in lists_GL]
        assert sorted(firsts.count(first) for first in set(firsts)) == [3, 3, 3]
    for position in (2, 3):
        logits_BGN = _teacher_forced_logits(generator, batch, lists_BGL[:, :, :position])
        assert torch.equal(logits_BGN.argmax(2), lists_BGL[:, :, position])


def test_branching_is_even_and_enough() -> None:
    assert tree.branching(9, 2, 50) == [3, 3]
    assert tree.branching(10, 2, 50) == [4, 3]
    assert tree.branching(27, 3, 50) == [3, 3, 3]
    assert tree.branching(20, 1, 50) == [20]
    assert tree.branching(20, 1, 6) == [6]  # no more than there are
    assert tree.branching(20, 2, 4) == [4, 3]


@torch.no_grad()
def test_markov_pair_scores_are_the_generators_and_the_best_pairs_begin() -> None:
    batch, generator = make_batch(), make_generator()
    memory, n = generator.encode(batch), batch.num_candidates
    first_BN, second_BNN = markov.pair_log_probs(generator, memory)
    pairs_ML = all_lists(n, 2)
    passed_BML = generator.log_prob(memory, pairs_ML.expand(6, -1, -1))
    joint_BM = first_BN[:, pairs_ML[:, 0]] + second_BNN[:, pairs_ML[:, 0], pairs_ML[:, 1]]
    assert close(joint_BM, passed_BML.sum(2), 1e-4)
    lists_BGL = _propose(markov, generator, memory, count=7, sample=False)
    best_BG2 = pairs_ML[joint_BM.topk(7, dim=1).indices]
    assert torch.equal(lists_BGL[:, :, :2], best_BG2)
    for b in range(6):  # the third item is the best after the second that is not taken
        for one in lists_BGL[b].tolist():
            row = second_BNN[b, one[1]].clone()
            row[one[:2]] = -torch.inf
            assert int(row.argmax()) == one[2]


def _share_in_common(lists_BGL: Tensor) -> float:
    at_same_place = (lists_BGL[:, :, None] == lists_BGL[:, None]).float().mean()
    return float(at_same_place)


def test_diverse_lists_differ_more_the_stronger_the_penalty() -> None:
    batch, generator = make_batch(), make_generator()
    memory = generator.encode(batch)
    same = _propose(diverse, generator, memory, strength=0.0, overlap=0.0)
    assert torch.equal(same, _propose(greedy, generator, memory))
    shares = [
        _share_in_common(_propose(diverse, generator, memory, strength=strength, overlap=0.0))
        for strength in (0.0, 2.0, 100.0)
    ]
    assert shares[0] == 1.0
    assert shares[0] > shares[1] > shares[2]
    strong = _propose(diverse, generator, memory, count=2, strength=0.0, overlap=1000.0)
    assert torch.equal(strong[:, 0], same[:, 0])
    assert all(not set(a) & set(b) for a, b in strong.tolist())  # 10 candidates: two lists of 4 share none


def test_diverse_keeps_away_from_earlier_lists() -> None:
    batch, generator = make_batch(), make_generator()
    memory = generator.encode(batch)
    earlier_BGL = _propose(greedy, generator, memory, count=2)
    config = diverse.Config(strength=0.0, overlap=1000.0)
    lists_BGL = diverse.propose(
        generator, memory, length=4, count=1, rng=torch_rng(0), config=config, earlier_BGL=earlier_BGL
    )
    assert all(
        not set(a[0]) & set(b[0]) for a, b in zip(lists_BGL.tolist(), earlier_BGL.tolist(), strict=True)
    )
    second = diverse.decode(generator, batch, length=4, rng=torch_rng(0), config=config)
    assert torch.equal(second.order_BL, lists_BGL[:, 0])


@pytest.mark.parametrize(
    ("strategy", "settings"),
    [
        (sample, {"temperature": 0.0}),
        (sample, {"top_p": 1.5}),
        (beam, {"width": 0}),
        (diverse, {"strength": -1.0}),
        (tree, {"steps": 0}),
        (greedy, {"width": 3}),
    ],
)
def test_settings_out_of_range_are_refused(strategy, settings) -> None:
    with pytest.raises(ConfigError):
        build(strategy.Config, settings)
