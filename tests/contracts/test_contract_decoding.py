"""Every decoding strategy of the library is under the public laws."""

from __future__ import annotations

import pytest
import torch

from slatewise.decoding import greedy
from slatewise.generators.base import list_mask
from slatewise.names import available
from slatewise.testing import LawBroken, check_decoder


@pytest.mark.parametrize("name", available("decoding"))
def test_keeps_the_laws(name: str) -> None:
    check_decoder(name)


def test_the_laws_can_be_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def last_ones(generator, memory, *, length, count, rng, config):  # as if every candidate were real
        lists_BGL = memory.mask_BN.shape[1] - 1 - torch.arange(length).expand(memory.size, count, length)
        return lists_BGL * list_mask(memory.mask_BN, length)[:, None]

    monkeypatch.setattr(greedy, "propose", last_ones)
    with pytest.raises(LawBroken, match="greedy: a list has a candidate that is not real"):
        check_decoder("greedy")
