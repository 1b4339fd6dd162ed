"""Every reward model of the library is under the public laws, listwise and lookahead with every head."""

from __future__ import annotations

from typing import Any

import pytest

from slatewise.names import available
from slatewise.rewards import pointwise
from slatewise.testing import LawBroken, check_reward

VARIANTS: list[dict[str, Any]] = [
    {"head": "list"},
    {"causal": False},
    {"head": "list", "causal": False, "candidate_layers": 1},
    {"discount": "log", "additive": False, "interaction": "attention"},
    {"tower": {"form": "fields", "history": "mean"}},
]
EVALUATORS: list[dict[str, Any]] = [
    {"head": "monotone"},
    {"head": "step"},
    {"interaction": "both", "list_layers": 2, "tower": {"form": "sum"}},
]


@pytest.mark.parametrize("name", available("rewards"))
def test_keeps_the_laws(name: str) -> None:
    check_reward(name)


@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: " ".join(options))
def test_listwise_keeps_them_in_every_form(options: dict[str, Any]) -> None:
    check_reward("listwise", **options)


@pytest.mark.parametrize("options", EVALUATORS, ids=lambda options: " ".join(options))
def test_lookahead_keeps_them_in_every_form(options: dict[str, Any]) -> None:
    check_reward("lookahead", **options)


def test_the_laws_can_be_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def drifting(self, memory, prefix_BGT):
        return plain(self, memory, prefix_BGT) + prefix_BGT.shape[2]

    plain = pointwise.Pointwise.extension_value
    monkeypatch.setattr(pointwise.Pointwise, "extension_value", drifting)
    with pytest.raises(LawBroken, match="extension_value after 1 items"):
        check_reward("pointwise")
