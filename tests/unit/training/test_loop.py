"""The training loop: accumulates nothing it should not, keeps the best, stops early, refuses what is not a number."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest
import torch
from torch import nn

from factories import make_schema, make_split
from slatewise.errors import TrainingError
from slatewise.tensors import load_tensors, save_tensors
from slatewise.training.loop import TrainConfig, train
from slatewise.training.run import Run


class Line(nn.Module):
    """One weight, to be fitted to 3."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1))

    def loss(self, *_):
        return (self.weight - 3.0).square().sum(), {}


def make_run(folder: Path) -> Run:
    return Run(folder, seed=1, stages=folder / "stages", quiet=True, device="cpu")


SPLIT = make_split(make_schema(), 40, 0)
CONFIG = TrainConfig(epochs=20, batch_size=10, learning_rate=0.1, weight_decay=0.0, validations=10)


def test_the_best_validated_weights_are_kept_and_training_stops_when_nothing_gets_better(
    tmp_path: Path,
) -> None:
    model, seen = Line(), []

    def validate() -> float:
        seen.append(model.weight.item())
        return -abs(model.weight.item() - 1.0)  # best on the way, not at the end

    config = TrainConfig(**{**{f: getattr(CONFIG, f) for f in CONFIG.__struct_fields__}, "patience": 2})
    train(model, model.loss, SPLIT, config, make_run(tmp_path), validate)
    assert model.weight.item() == min(seen, key=lambda w: abs(w - 1.0))
    assert len(seen) < CONFIG.validations


def test_keep_last_ends_at_the_end(tmp_path: Path) -> None:
    model = Line()
    config = TrainConfig(epochs=50, batch_size=10, learning_rate=0.2, weight_decay=0.0, keep="last")
    train(model, model.loss, SPLIT, config, make_run(tmp_path), lambda: -model.weight.item())
    assert model.weight.item() == pytest.approx(3.0, abs=0.05)


def test_an_untrained_start_that_validates_best_is_what_comes_back(tmp_path: Path) -> None:
    model = Line()
    config = TrainConfig(epochs=5, batch_size=10, validate_start=True)
    train(model, model.loss, SPLIT, config, make_run(tmp_path), lambda: -abs(model.weight.item()))
    assert model.weight.item() == 0.0


def test_a_loss_that_is_not_finite_is_skipped_and_three_running_are_an_error(tmp_path: Path) -> None:
    model = Line()

    def sometimes(batch, step):
        loss, numbers = model.loss()
        return (loss * float("nan"), numbers) if step in (1, 2) else (loss, numbers)

    train(model, sometimes, SPLIT, TrainConfig(epochs=2, batch_size=10), make_run(tmp_path / "a"))
    assert torch.isfinite(model.weight).all()
    with pytest.raises(TrainingError, match="three steps running"):
        train(
            model, lambda b, s: (model.loss()[0] * float("inf"), {}), SPLIT, CONFIG, make_run(tmp_path / "b")
        )


def test_every_epoch_visits_every_request_once_in_a_new_order(tmp_path: Path) -> None:
    model, rows = Line(), []

    def step(batch, step):
        rows.append(batch.request_B.tolist())
        return model.loss()

    train(model, step, SPLIT, TrainConfig(epochs=2, batch_size=10), make_run(tmp_path))
    first, second = list(chain(*rows[:4])), list(chain(*rows[4:]))
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second


def test_a_stage_is_trained_once_and_loaded_after(tmp_path: Path) -> None:
    calls, run = [], make_run(tmp_path)

    def fit(model: Line):
        def stage_fit(stage: Run) -> None:
            calls.append(stage.stage)
            model.weight.data.fill_(7.0)

        return stage_fit

    first, second, other = Line(), Line(), Line()
    run.trained("line", ("a",), first, fit(first))
    run.trained("line", ("a",), second, fit(second))
    run.trained("line", ("b",), other, fit(other))
    assert calls == ["line", "line"]
    assert second.weight.item() == 7.0


def test_tensors_come_back_with_their_facts(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x.safetensors", {"a": torch.arange(4)}, {"step": 3})
    tensors, facts = load_tensors(tmp_path / "x.safetensors")
    assert tensors["a"].tolist() == [0, 1, 2, 3]
    assert facts == {"step": 3}
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]
