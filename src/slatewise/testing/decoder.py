"""The laws of decoding strategies (see :mod:`slatewise.decoding`)."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from slatewise.data.batch import ListBatch
from slatewise.generators import Generator
from slatewise.generators.base import list_mask
from slatewise.rng import torch_rng
from slatewise.testing.fixtures import (
    example_batch,
    example_data,
    example_generator,
    example_order,
    permuted,
    short_batch,
)
from slatewise.testing.laws import find, require, require_close, require_lists, settings
from slatewise.types import Slate


def check_decoder(name: str | ModuleType, **options: Any) -> None:
    """A strategy writes well-formed lists, is settled by its ``rng``, and leaves no trace.

    The laws, on an autoregressive generator and on a scorer, for requests with few and with many candidates:
    ``propose`` gives the number of lists it was asked for, each of distinct real candidates; ``decode`` gives
    one, its mask, and its log-probability under the generator; no gradient; the generator stays in its mode;
    the same ``rng`` gives the same lists; a strategy that draws nothing permutes its answer with the
    candidates and treats a request alone as in a batch.

    Args:
        name: public name or module.   options: its config.

    Raises:
        LawBroken: a law does not hold.
    """
    called, module = find("decoding", name, "propose", "decode")
    config, length = settings(module, options, called), example_data().schema.length
    for kind in ("autoregressive", "scorer"):
        generator = example_generator(kind)

        def decode(batch: ListBatch, seed: int = 0, generator: Generator = generator) -> Slate:
            slate: Slate = module.decode(generator, batch, length=length, rng=torch_rng(seed), config=config)
            return slate

        for batch in (example_batch(), short_batch()):
            _proposals(called, module, config, generator, batch, length)
            _slate(called, generator, batch, decode(batch), length)
            require(
                torch.equal(decode(batch).order_BL, decode(batch).order_BL),
                f"{called}: one rng, two answers.",
            )
        if _draws_nothing(decode):
            _symmetries(called, decode)


def _proposals(
    called: str, module: ModuleType, config: Any, generator: Generator, batch: ListBatch, length: int
) -> None:
    generator.train()
    memory = generator.eval().encode(batch)
    generator.train()
    for count in (1, 5, 30):
        lists_BGL: Tensor = module.propose(
            generator, memory, length=length, count=count, rng=torch_rng(0), config=config
        )
        wanted = (batch.size, count, length)
        require(
            lists_BGL.shape == wanted, f"{called}: proposed {tuple(lists_BGL.shape)}, asked were {wanted}."
        )
        require_lists(lists_BGL, batch.mask_BN, called)
        require(not lists_BGL.requires_grad, f"{called}: lists carry a gradient.")
    require(generator.training, f"{called}: the generator is left in another mode than it came in.")
    generator.eval()


def _slate(called: str, generator: Generator, batch: ListBatch, slate: Slate, length: int) -> None:
    require_lists(slate.order_BL[:, None], batch.mask_BN, called)
    require(
        torch.equal(slate.mask_BL, list_mask(batch.mask_BN, length)), f"{called}: the slate's mask is wrong."
    )
    with torch.no_grad():
        own_B = generator.log_prob(generator.encode(batch), slate.order_BL[:, None]).sum((1, 2))
    require_close(slate.log_prob_B, own_B, f"{called}: log_prob_B is not the generator's.", tolerance=1e-3)


def _draws_nothing(decode: Any) -> bool:
    batch = example_batch(32)
    return torch.equal(decode(batch, 1).order_BL, decode(batch, 2).order_BL)


def _symmetries(called: str, decode: Any) -> None:
    batch = example_batch()
    order_N, first = example_order(batch.num_candidates), decode(batch)
    second = decode(permuted(batch, order_N))
    same = torch.equal(order_N[second.order_BL], first.order_BL)
    require(same, f"{called}: permuting the candidates does not permute the list.")
    alone = [decode(batch.take(torch.tensor([row]))).order_BL for row in range(batch.size)]
    require(torch.equal(torch.cat(alone), first.order_BL), f"{called}: a request alone gets another list.")
