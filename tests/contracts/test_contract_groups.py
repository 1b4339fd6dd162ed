"""Every group family of the library is under the public laws."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from slatewise.groups import random
from slatewise.names import available
from slatewise.testing import LawBroken, check_group

OPTIONS: dict[str, dict[str, Any]] = {
    "auxiliary": {"policy": "dnn"},
    "greedy": {"count": 1},
    "logged": {"count": 1},
}


@pytest.mark.parametrize("name", available("groups"))
def test_keeps_the_laws(name: str) -> None:
    check_group(name, **OPTIONS.get(name, {}))


def test_the_laws_can_be_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def unseeded(config, context, *, count, rng):
        key_BGN = torch.rand(context.memory.size, count, context.mask_BN.shape[1])
        return key_BGN.masked_fill(~context.mask_BN[:, None], -1.0).topk(context.length, 2).indices

    monkeypatch.setattr(random, "build", unseeded)
    with pytest.raises(LawBroken, match="random: one rng, two answers"):
        check_group("random")
