"""Laws of generators: cached steps equal the teacher-forced pass, padding is invisible, sizes reach what is promised."""

from __future__ import annotations

import itertools

import pytest
import torch

from batches import close, make_batch, make_generator, permuted
from factories import make_schema
from slatewise.generators import autoregressive
from slatewise.generators.base import Generator, list_mask
from slatewise.modules.tower import TowerConfig

KINDS = ("autoregressive", "scorer")


def roll_out(generator: Generator, batch, lists: int, length: int):
    """Random lists by cached steps, with the log-probability of each choice."""
    memory, rng = generator.encode(batch), torch.Generator().manual_seed(1)
    state, chosen, log_prob = generator.start(memory, lists), [], []
    for _ in range(length):
        logits, state = generator.step(memory, state)
        noise = -torch.log(-torch.log(torch.rand(logits.shape, generator=rng)))
        choice = (logits + noise).argmax(-1)
        log_prob.append(logits.log_softmax(-1).gather(2, choice[..., None]).squeeze(2))
        state = generator.advance(memory, state, choice)
        chosen.append(choice)
    lists_BGL = torch.stack(chosen, -1)
    return memory, lists_BGL, torch.stack(log_prob, -1) * list_mask(batch.mask_BN, length)[:, None]


@pytest.mark.parametrize("kind", KINDS)
def test_cached_steps_equal_one_teacher_forced_pass(kind: str) -> None:
    batch, generator = make_batch(fewest=2), make_generator(kind)
    memory, lists_BGL, stepped = roll_out(generator, batch, lists=3, length=4)
    assert close(generator.log_prob(memory, lists_BGL), stepped)


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_of_all_lists_sum_to_one(kind: str) -> None:
    batch, generator = (
        make_batch(candidates=5, length=3, exposed=3),
        make_generator(kind, candidates=5, length=3, exposed=3),
    )
    everything = torch.tensor(list(itertools.permutations(range(5), 3))).expand(batch.size, -1, -1)
    total_B = generator.log_prob(generator.encode(batch), everything).sum(2).exp().sum(1)
    assert close(total_B, torch.ones(batch.size))


@pytest.mark.parametrize("kind", KINDS)
def test_permuting_candidates_permutes_the_distribution(kind: str) -> None:
    batch, generator = make_batch(), make_generator(kind)
    order_N = torch.randperm(10, generator=torch.Generator().manual_seed(3))
    _, lists_BGL, stepped = roll_out(generator, batch, lists=2, length=4)
    moved = permuted(batch, order_N)
    assert close(generator.log_prob(generator.encode(moved), order_N.argsort()[lists_BGL]), stepped)


@pytest.mark.parametrize("kind", KINDS)
def test_unreal_candidates_change_nothing(kind: str) -> None:
    batch, generator = make_batch(fewest=2), make_generator(kind)
    _, lists_BGL, stepped = roll_out(generator, batch, lists=2, length=4)
    batch.candidate_numeric_BNF[~batch.mask_BN] = 1e3
    batch.item_numeric_BNF[~batch.mask_BN] = -1e3
    assert close(generator.log_prob(generator.encode(batch), lists_BGL), stepped)


def test_the_autoregressive_policy_depends_on_what_stands_in_the_list() -> None:
    batch, generator = make_batch(), make_generator()
    memory = generator.encode(batch)
    lists = torch.tensor([[0, 1, 2], [1, 0, 2]]).expand(batch.size, -1, -1)
    third_BG = generator.log_prob(memory, lists)[:, :, 2]
    assert not close(third_BG[:, 0], third_BG[:, 1], 1e-4)


@pytest.mark.parametrize(
    ("config", "low", "high"),
    [
        (
            autoregressive.Config(
                tower=TowerConfig(width=32), encoder_layers=2, decoder_layers=2, feedforward=4
            ),
            0.5e5,
            1.5e5,
        ),
        (
            autoregressive.Config(
                tower=TowerConfig(width=1024), encoder_layers=4, decoder_layers=4, feedforward=4
            ),
            0.8e8,
            1.5e8,
        ),
    ],
)
def test_size_goes_from_a_tenth_to_a_hundred_million_parameters(config, low: float, high: float) -> None:
    with torch.device("meta"):
        generator = autoregressive.build(config, make_schema())
    assert low < sum(p.numel() for p in generator.parameters()) < high


def test_an_id_unknown_to_the_vocabulary_is_served_like_index_zero() -> None:
    batch, generator = make_batch(), make_generator()
    table = dict(generator.named_modules())["tower"]
    batch.candidates_BN[0, 0] = 0
    known, _ = table(batch)
    batch.candidates_BN[0, 0] = 10_000
    unknown, _ = table(batch)
    assert close(known, unknown)
