"""An export that ranks otherwise fails, says where, and leaves nothing; weights of 8 bits pass a gate or fail with both numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slatewise.errors import ConfigError, ExportError
from slatewise.export import write
from slatewise.export.backends import eager, onnxruntime
from slatewise.export.gate import Gate
from slatewise.export.write import export
from slatewise.testing.backend import example_ranker
from slatewise.testing.fixtures import example_data

HELD_OUT = 32  # the test split of the tiny store, ranked at once; no golden or made-up batch is so large


def wrong_in(rows: int, served: Any) -> Any:
    """The first two items of the first so many lists change places, where the batch is a held-out one."""
    order_BL = served.order_BL.copy()
    if len(order_BL) == HELD_OUT:
        order_BL[:rows, :2] = order_BL[:rows, 1::-1]
    return replace(served, order_BL=order_BL)


def test_one_wrong_list_of_a_held_out_request_fails_the_export(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = eager.Eager.rank
    monkeypatch.setattr(eager.Eager, "rank", lambda self, feed: wrong_in(1, plain(self, feed)))
    with pytest.raises(ExportError, match="request 0 of the test split's rows 0 to 31 gets the candidates"):
        export(example_ranker(), tmp_path / "artifact", backends=["eager"], data=example_data())
    assert list(tmp_path.iterdir()) == []
    export(example_ranker(), tmp_path / "artifact", backends=["eager"])  # without data nobody sees it


def test_a_list_that_is_wrong_under_rules_fails_the_export(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(eager.Eager, "rank_ruled", eager.Eager.rank)  # rules are forgotten
    with pytest.raises(ExportError, match="gets, under rules, the candidates"):
        export(example_ranker(), tmp_path / "artifact", backends=["eager"])
    assert list(tmp_path.iterdir()) == []


def test_int8_is_written_if_its_lists_pass_the_gate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its place is taken by the ranker itself with 4 of 32 lists changed."""

    class Rough(eager.Eager):
        def rank(self, feed: Any) -> Any:
            return wrong_in(4, super().rank(feed))

    def load(artifact: Any, config: Any) -> Rough:
        own = eager.load(artifact, eager.Config())
        return Rough(own.graph, own.ruled)

    monkeypatch.setattr(onnxruntime, "load", load)
    monkeypatch.setattr(onnxruntime, "write", lambda traced, folder, config: None)
    monkeypatch.setattr(write, "_traced", lambda ranker, artifact: [])

    def exported(name: str, **asked: float) -> Any:
        gate, out = Gate(**asked), tmp_path / name
        return export(example_ranker(), out, backends=["eager"], int8=True, data=example_data(), gate=gate)

    form = exported("good", identical=0.875, lost=1.0).manifest.backends[1]
    assert (form.name, form.agreement.requests, form.agreement.identical) == ("onnxruntime int8", 32, 28)
    assert form.agreement.value == "true value"
    lost = f"{form.agreement.lost:.2%}"
    with pytest.raises(ExportError, match=rf"87.5% of 32 held-out .* and {lost} of their true value is lost"):
        exported("few", identical=0.9, lost=1.0)
    with pytest.raises(ExportError, match=r"asked are at least 80\.0% and at most"):
        exported("dear", identical=0.8, lost=max(form.agreement.lost - 1e-6, 0.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good"]


def test_int8_needs_data(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give the data, too"):
        export(example_ranker(), tmp_path / "artifact", int8=True)


@pytest.mark.slow
def test_real_weights_of_8_bits_pass_a_mild_gate_and_fail_a_strict_one(tmp_path: Path) -> None:
    ranker, data = example_ranker(), example_data()
    mild, strict = Gate(identical=0.5, lost=0.5), Gate(identical=1.0)
    form = export(
        ranker, tmp_path / "a", backends=["eager"], int8=True, data=data, gate=mild
    ).manifest.backends[1]
    assert 0.5 <= form.agreement.share < 1.0
    with pytest.raises(ExportError, match="onnxruntime int8 fails its gate"):
        export(ranker, tmp_path / "b", backends=["eager"], int8=True, data=data, gate=strict)
    assert not (tmp_path / "b").exists()
