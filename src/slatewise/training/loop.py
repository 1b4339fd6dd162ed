"""The one training loop, as a function.

Everything random in a step follows from (seed, stage, step) alone, so a run that was killed and resumed from any
checkpoint ends in the same weights, bit for bit, on the same machine and thread count (CPU).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeVar

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from slatewise.config import Above0, Count, Frozen, Positive, Share, Weight, fingerprint
from slatewise.errors import TrainingError
from slatewise.rng import child_seed, numpy_rng
from slatewise.tensors import load_tensors, save_tensors
from slatewise.training.run import Run


class Batch(Protocol):
    """What a model learns from in one step."""

    def to(self, device: str) -> Self:
        """The batch on ``device``."""
        ...


BatchT = TypeVar("BatchT", bound=Batch)
BatchT_co = TypeVar("BatchT_co", bound=Batch, covariant=True)


class Batches(Protocol[BatchT_co]):
    """What :func:`train` draws batches from: a split of requests, windows of interactions, …"""

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def batch(self, rows: NDArray[np.int64]) -> BatchT_co:
        """The chosen rows as one batch."""
        ...


StepLoss = Callable[[BatchT, int], tuple[Tensor, dict[str, Any]]]
Validate = Callable[[], float]


class TrainConfig(Frozen):
    """Settings of :func:`train`.

    ``schedule = "cosine"`` warms up linearly over ``warmup`` of the steps and then falls to zero. ``validations`` is
    how many times the model is validated in all; with ``keep = "best"`` the best of them (and, where
    ``validate_start`` is set, the untrained start) is what training returns. Training stops early after ``patience`` validations without
    a new best (0: never). ``requests`` limits the training requests (0: all). ``max_steps`` ends early (0: never).
    """

    epochs: Above0 = 4.0
    batch_size: Positive = 128
    learning_rate: Above0 = 1e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: Share = 0.1
    weight_decay: Weight = 0.01
    clip: Weight = 1.0
    precision: Literal["fp32", "bf16"] = "fp32"
    validations: Count = 4
    validate_start: bool = False
    keep: Literal["best", "last"] = "best"
    patience: Count = 0
    requests: Count = 0
    max_steps: Count = 0
    checkpoint_seconds: Weight = 120.0


def planned(config: TrainConfig, length: int) -> tuple[int, int, int]:
    """Of ``length`` requests (or windows): how many are trained on, the steps that the schedule spans, and the last step."""
    count = min(config.requests, length) if config.requests else length
    total = max(1, round(config.epochs * max(1, count // config.batch_size)))
    return count, total, min(total, config.max_steps) if config.max_steps else total


class Best:
    """The best validated weights so far."""

    def __init__(self) -> None:
        self.value, self.weights, self.worse = -math.inf, dict[str, Tensor](), 0

    def offer(self, value: float, model: nn.Module) -> None:
        """Keep ``model``'s weights if ``value`` is a new best."""
        if value > self.value:
            self.value, self.worse = value, 0
            self.weights = {k: v.detach().clone() for k, v in model.state_dict().items()}
        else:
            self.worse += 1


def train(
    model: nn.Module,
    step_loss: StepLoss[BatchT],
    split: Batches[BatchT],
    config: TrainConfig,
    run: Run,
    validate: Validate | None = None,
) -> None:
    """Train ``model`` in place.

    Args:
        step_loss: batch and step to (loss, numbers to log); the torch seed is set before each call.
        split: training requests (or windows of interactions); each epoch is one pass in a new order.
        validate: a number that should be high, measured on validation data; called with the model in eval mode.

    Raises:
        TrainingError: the loss was not finite three times running, or the checkpoint is of another run.
    """
    count, total, last = planned(config, len(split))
    optimizer = torch.optim.AdamW(
        _parameter_groups(model, config.weight_decay), lr=config.learning_rate, fused=True
    )
    best, start = Best(), 0
    identity = fingerprint(config, run.stage, run.seed, count)
    checkpoint = run.path / "checkpoint.safetensors"
    if checkpoint.exists():
        start = _restore(checkpoint, model, optimizer, best, identity)
        _cut_metrics(run, start)
    elif validate is not None and config.validate_start:
        _validate(model, validate, best, run, 0)
    validate_at = (
        {round(total * (i + 1) / config.validations) for i in range(config.validations)}
        if validate
        else set()
    )
    clock, refused, saved = time.perf_counter(), 0, time.perf_counter()
    with _progress(run) as progress:
        bar = progress.add_task(run.stage, total=last, completed=start, note="")
        for step in range(start, last):
            model.train()
            batch = split.batch(_batch_rows(count, step, config.batch_size, run)).to(run.device)
            torch.manual_seed(child_seed(run.seed, run.stage, "step", step))
            _set_rate(optimizer, config, step, total)
            with torch.autocast(run.device.split(":")[0], torch.bfloat16, enabled=config.precision == "bf16"):
                loss, numbers = step_loss(batch, step)
            if torch.isfinite(loss):
                refused = 0
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip or math.inf)
                if torch.isfinite(norm):
                    optimizer.step()
            else:
                refused += 1
                if refused == 3:
                    raise TrainingError(
                        f"stage {run.stage}: the loss was {loss.item()} three steps running (step {step}); "
                        "lower learning_rate, or look for extreme values in the data with `slatewise check`."
                    )
            done = step + 1
            if done % 20 == 0 or done == last:
                rate = 20 * config.batch_size / (time.perf_counter() - clock)
                clock = time.perf_counter()
                run.log(
                    step=done,
                    loss=float(loss.detach()),
                    requests_per_second=round(rate, 1),
                    **{k: float(v) for k, v in numbers.items()},
                )
                progress.update(
                    bar, completed=done, note=f"loss {float(loss.detach()):.4f}  {rate:,.0f} requests/s"
                )
            if validate is not None and done in validate_at:
                _validate(model, validate, best, run, done)
                if config.patience and best.worse >= config.patience:
                    break
            if time.perf_counter() - saved > config.checkpoint_seconds:
                _save(checkpoint, model, optimizer, best, done, identity)
                saved = time.perf_counter()
    if config.keep == "best" and best.weights:
        model.load_state_dict(best.weights)
    model.eval()


def _validate(model: nn.Module, validate: Validate, best: Best, run: Run, step: int) -> None:
    model.eval()
    with torch.no_grad():
        value = validate()
    run.log(step=step, split="validation", value=value)
    best.offer(value, model)


def _batch_rows(count: int, step: int, size: int, run: Run) -> NDArray[np.int64]:
    epoch, place = divmod(step, max(1, count // size))
    return np.sort(_order(count, run.seed, run.stage, epoch)[place * size : (place + 1) * size])


@lru_cache(maxsize=1)
def _order(count: int, seed: int, stage: str, epoch: int) -> NDArray[np.int64]:
    return numpy_rng(seed, stage, "data", epoch).permutation(count)


def _parameter_groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weight matrices decay; biases, norms and embeddings (rare rows must not fade between visits) do not."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.dim() > 1 and id(p) not in tables]
    rest = [p for p in trained if p.dim() <= 1 or id(p) in tables]
    return [{"params": matrices, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]


def _set_rate(optimizer: torch.optim.Optimizer, config: TrainConfig, step: int, total: int) -> None:
    share, rate = (step + 1) / total, config.learning_rate
    if config.schedule == "cosine":
        if share < config.warmup:
            rate *= share / config.warmup
        else:
            rate *= 0.5 * (1 + math.cos(math.pi * (share - config.warmup) / (1 - config.warmup + 1e-9)))
    for group in optimizer.param_groups:
        group["lr"] = rate


def _save(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, best: Best, step: int, identity: str
) -> None:
    tensors = {f"model/{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"best/{k}": v for k, v in best.weights.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{k}": torch.as_tensor(v) for k, v in state.items()}
    save_tensors(path, tensors, {"step": step, "identity": identity, "best": best.value, "worse": best.worse})


def _restore(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, best: Best, identity: str
) -> int:
    tensors, facts = load_tensors(path)
    if facts.get("identity") != identity:
        raise TrainingError(
            f"{path} was written with another training config, data or seed; remove the run and start again."
        )
    model.load_state_dict(_under(tensors, "model/"))
    best.weights, best.value, best.worse = _under(tensors, "best/"), facts["best"], facts["worse"]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _under(tensors, "optimizer/").items():
        index, key = name.split("/")
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return int(facts["step"])


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _cut_metrics(run: Run, step: int) -> None:
    """Drop the lines that a killed run wrote after its last checkpoint; they will be written again."""
    path = run.path / "metrics.jsonl"
    if path.exists():
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if line.endswith(b"\n") and msgspec.json.decode(line)["step"] <= step]
        path.write_bytes(b"".join(kept))


def _progress(run: Run) -> Progress:
    columns = (
        TextColumn("{task.description:>12}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} {task.fields[note]}"),
    )
    return Progress(*columns, TimeRemainingColumn(), disable=run.quiet, transient=True)
