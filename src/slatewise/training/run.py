"""The run folder: config, metrics, checkpoints, and the stages (reward, auxiliary policies …) a method trains in order.

Layout::

    config.json        method, resolved config, data fingerprint, seed, version
    metrics.jsonl      one object a line: {"stage", "step", ...}
    stages/<name>-<key>/   checkpoint.safetensors while it trains, model.safetensors when it is done
    ranker/            what serving loads
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from slatewise.config import fingerprint
from slatewise.errors import RunError
from slatewise.tensors import load_tensors, save_tensors


@dataclass(frozen=True)
class Run:
    """Where a training run writes, and its one seed.

    Attributes:
        path: the run folder.   seed: the run's seed.
        stages: folder of trained stages; several rows of a table may share one, so that a reward is trained once.
        quiet: no progress bars.
        stage: name of the stage that is being trained (part of every metrics line).
    """

    path: Path
    seed: int
    stages: Path
    quiet: bool = False
    stage: str = "run"
    device: str = field(default_factory=lambda: "cuda" if torch.cuda.is_available() else "cpu")

    def log(self, **values: Any) -> None:
        """Append one line to ``metrics.jsonl`` of this stage."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "metrics.jsonl").open("ab") as file:
            file.write(msgspec.json.encode({"stage": self.stage, **values}) + b"\n")

    def trained(self, name: str, key: tuple[Any, ...], module: nn.Module, fit: Callable[[Run], None]) -> None:
        """Train ``module`` as the stage ``name`` unless a stage with the same key is already there; load it if so.

        Args:
            key: everything the result depends on (configs, data fingerprint); the seed is added here.
            fit: trains the module in place, given the stage's own run (its folder holds checkpoint and metrics).
        """
        folder = self.stages / f"{name}-{fingerprint(name, *key, self.seed)}"
        done = folder / "model.safetensors"
        stage = Run(folder, self.seed, self.stages, self.quiet, name, self.device)
        module.to(self.device)
        if not done.exists():
            fit(stage)
            save_tensors(done, module.state_dict(), {"stage": name, "seed": self.seed})
            (folder / "checkpoint.safetensors").unlink(missing_ok=True)
        module.load_state_dict(load_tensors(done)[0])
        module.eval()


def open_run(path: Path, *, seed: int, resume: bool, quiet: bool = False) -> Run:
    """A new run folder, or an old one to go on with.

    Raises:
        RunError: the folder has something in it and ``resume`` is False.
    """
    if path.is_file() or (path.exists() and any(path.iterdir()) and not resume):
        raise RunError(
            f"{path} is already there and not empty; add --resume to go on with it, or name another folder."
        )
    path.mkdir(parents=True, exist_ok=True)
    return Run(path, seed, path / "stages", quiet=quiet or not sys.stderr.isatty())
