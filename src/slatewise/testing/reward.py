"""The laws of reward models (see :mod:`slatewise.rewards`)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from slatewise.data.batch import ListBatch
from slatewise.decoding import random
from slatewise.decoding.search import Beam, beam_search
from slatewise.rewards import RewardModel
from slatewise.rng import torch_rng
from slatewise.tensors import load_tensors, save_tensors
from slatewise.testing.fixtures import (
    example_batch,
    example_data,
    example_generator,
    example_order,
    permuted,
    short_batch,
)
from slatewise.testing.laws import find, require, require_close, settings


def check_reward(name: str | ModuleType, **options: Any) -> None:
    """A reward values a list by what is in it, whoever asks, and values prefixes as it values lists.

    The laws: values (B, G), finite, not all equal, with a gradient; the same after permuting the candidate
    axis, for a list alone as among others, for a request alone as in a batch, and whatever stands behind the
    end of a short list; ``extension_value(prefix)[c]`` is the value of the prefix with c behind it, and
    ``expander`` says the same of every beam of a search, however it reorders its prefixes;
    ``prefix_value`` is the value of each prefix by itself; weights that are saved and loaded into a new model
    give the same values.

    Args:
        name: public name or module.   options: its config.

    Raises:
        LawBroken: a law does not hold.
    """
    called, module = find("rewards", name, "build")
    config = settings(module, options, called)
    torch.manual_seed(1)
    model: RewardModel = module.build(config, example_data().manifest).eval()
    require(isinstance(model, RewardModel), f"{called}: build must give a RewardModel.")
    _gradient(called, model)
    with torch.no_grad():
        for batch in (example_batch(), short_batch()):
            _symmetries(called, model, batch)
        _order_free(called, model)
        _extensions(called, model)
        for batch in (example_batch(), short_batch()):
            _prefixes(called, model, batch)
            _search(called, model, batch)
        _saved(called, model, module.build(config, example_data().manifest).eval())


def _lists(batch: ListBatch, count: int = 5, length: int | None = None) -> Tensor:
    generator = example_generator("scorer")
    length = length or example_data().schema.length
    return random.propose(
        generator,
        generator.encode(batch),
        length=length,
        count=count,
        rng=torch_rng(3),
        config=random.Config(),
    )


def _gradient(called: str, model: RewardModel) -> None:
    value_BG = model.value(example_batch(), _lists(example_batch()))
    require(
        value_BG.shape == (8, 5), f"{called}: values have shape {tuple(value_BG.shape)}, not (B, G) = (8, 5)."
    )
    require(value_BG.isfinite().all(), f"{called}: a value is not finite.")
    require((value_BG.std(1) > 0).all(), f"{called}: all lists of a request have the same value.")
    torch.autograd.backward(value_BG.sum())
    learnt = any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())
    require(learnt, f"{called}: no parameter gets a gradient from the values.")
    model.zero_grad()


def _symmetries(called: str, model: RewardModel, batch: ListBatch) -> None:
    lists_BGL = _lists(batch)
    value_BG = model.value(batch, lists_BGL)
    alone_BG = torch.cat([model.value(batch, lists_BGL[:, [g]]) for g in range(lists_BGL.shape[1])], 1)
    require_close(alone_BG, value_BG, f"{called}: a list alone has another value than among others.")
    rows = [torch.tensor([row]) for row in range(batch.size)]
    single_BG = torch.cat([model.value(batch.take(row), lists_BGL[row]) for row in rows])
    require_close(single_BG, value_BG, f"{called}: a request alone has other values than in a batch.")
    behind_BL = torch.arange(lists_BGL.shape[2]) >= batch.mask_BN.sum(1, keepdim=True)
    noise_BGL = torch.where(behind_BL[:, None], batch.num_candidates - 1, lists_BGL)
    require_close(
        model.value(batch, noise_BGL), value_BG, f"{called}: what stands behind a list's end counts."
    )


def _order_free(called: str, model: RewardModel) -> None:
    batch, lists_BGL = example_batch(), _lists(example_batch())
    order_N = example_order(batch.num_candidates)
    moved_BG = model.value(permuted(batch, order_N), order_N.argsort()[lists_BGL])
    require_close(
        moved_BG, model.value(batch, lists_BGL), f"{called}: permuting the candidates changes values."
    )


def _extensions(called: str, model: RewardModel) -> None:
    batch, n = example_batch(), example_batch().num_candidates
    memory, length = model.encode(batch), example_data().schema.length
    for t in range(length):
        prefix_BGT = _lists(batch, 3, length)[:, :, :t]
        shape = (batch.size, 3, n)
        item_BGN = torch.arange(n).expand(shape)
        longer = torch.cat([prefix_BGT[:, :, None].expand(*shape, t), item_BGN[..., None]], 3)
        wanted_BGN = model.value_of(memory, longer.flatten(1, 2)).view(shape)
        found_BGN = model.extension_value(memory, prefix_BGT)
        require(
            found_BGN.shape == shape, f"{called}: extension_value gave {tuple(found_BGN.shape)}, not {shape}."
        )
        outside = torch.ones(shape, dtype=torch.bool).scatter(2, prefix_BGT, False)
        sentence = f"{called}: extension_value after {t} items is not the value of the longer list."
        require_close(found_BGN[outside], wanted_BGN[outside], sentence)


def _prefixes(called: str, model: RewardModel, batch: ListBatch) -> None:
    memory, lists_BGL = model.encode(batch), _lists(batch)
    found_BGL = model.prefix_value(memory, lists_BGL)
    wanted = [model.value_of(memory, lists_BGL[:, :, : t + 1]) for t in range(lists_BGL.shape[2])]
    sentence = f"{called}: prefix_value is not the value of each prefix by itself."
    require_close(found_BGL, torch.stack(wanted, 2), sentence)


def _search(called: str, model: RewardModel, batch: ListBatch) -> None:
    """A beam search in which every extension's value is asked for twice, and prefixes change places."""
    memory, length = model.encode(batch), example_data().schema.length
    expand, rng = model.expander(memory), torch_rng(7)

    def compared(beam: Beam) -> Tensor:
        found_BKN = expand(beam)
        open_BKN = batch.mask_BN[:, None] & (batch.mask_BN.sum(1) > beam.length)[:, None, None]
        open_BKN = open_BKN & ~beam.score_BK.isneginf()[..., None]
        open_BKN = open_BKN.scatter(2, beam.lists_BKT, False)
        wanted_BKN = model.extension_value(memory, beam.lists_BKT)
        sentence = f"{called}: expander after {beam.length} items does not say what extension_value says."
        require_close(found_BKN[open_BKN], wanted_BKN[open_BKN], sentence)
        return torch.rand(found_BKN.shape, generator=rng)  # any scores: here prefixes are to change places

    beam_search(compared, batch.mask_BN, length=length, width=5)


def _saved(called: str, model: RewardModel, other: RewardModel) -> None:
    batch = example_batch()
    lists_BGL = _lists(batch)
    with tempfile.TemporaryDirectory() as folder:
        save_tensors(Path(folder) / "model.safetensors", model.state_dict(), {})
        other.load_state_dict(load_tensors(Path(folder) / "model.safetensors")[0])
    same = torch.equal(other.value(batch, lists_BGL), model.value(batch, lists_BGL))
    require(same, f"{called}: a saved and loaded model gives other values.")
