"""AOTInductor: the graph compiled to machine code of this kind of processor; it needs a C++ compiler while exporting.

What it writes can be loaded by the same version of torch, on a processor with the same instructions.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from slatewise.config import Frozen
from slatewise.errors import ExportError, RunError
from slatewise.export.artifact import Artifact
from slatewise.export.backends import Served, ruled_name
from slatewise.export.feed import Feed
from slatewise.export.graph import RULE_NAMES, Traced, quiet

Compiled = Callable[..., tuple[Tensor, ...]]
COMPILERS = ("c++", "g++", "clang++")


class Config(Frozen):
    """Nothing to set; it computes on as many threads as torch does."""

    @property
    def files(self) -> tuple[str, ...]:
        """What it needs of an artifact."""
        return ("model.pt2",)


class AotInductor:
    """A backend."""

    def __init__(self, run: Compiled, ruled: Compiled | None, names: tuple[str, ...]) -> None:
        self.run, self.ruled, self.names = run, ruled, names

    def rank(self, feed: Feed) -> Served:
        """The answers of the compiled graph."""
        return _run(self.run, feed, self.names)

    def rank_ruled(self, feed: Feed) -> Served:
        """The same under rules, by a graph of its own."""
        assert self.ruled is not None
        return _run(self.ruled, feed, (*self.names, *RULE_NAMES))


@torch.inference_mode()
def _run(compiled: Compiled, feed: Feed, names: tuple[str, ...]) -> Served:
    answer = compiled(*(torch.from_numpy(feed[name]) for name in names))
    return Served(*(tensor.numpy() for tensor in answer))


def require() -> None:
    """See that there is a compiler.

    Raises:
        ExportError: there is none.
    """
    named = os.environ.get("CXX", "")
    if not any(map(shutil.which, [named, *COMPILERS] if named else COMPILERS)):
        raise ExportError(
            f"the backend 'aot-inductor' needs a C++ compiler ({', '.join(COMPILERS)}, or the one that CXX names), and "
            "there is none here; leave it out, or install one."
        )


def write(traced: Traced, folder: Path, config: Config) -> None:
    """Compile the graph.

    Raises:
        ExportError: it cannot be compiled.
    """
    name = config.files[0]
    path = str(folder / (ruled_name(name) if traced.ruled else name))
    try:
        with quiet():
            torch._inductor.aoti_compile_and_package(traced.program, package_path=path)
    except Exception as error:  # the compiler's and torch's errors are of many types
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ExportError(f"the graph could not be compiled: {reason}") from error


def load(artifact: Artifact, config: Config) -> AotInductor:
    """The compiled graph, ready to run.

    Raises:
        RunError: the file was compiled for another torch or processor, or is damaged.
    """
    name = config.files[0]
    ruled = _loaded(artifact.path / ruled_name(name)) if artifact.manifest.ruled else None
    names = tuple(field.name for field in artifact.manifest.inputs)
    return AotInductor(_loaded(artifact.path / name), ruled, names)


def _loaded(path: Path) -> Compiled:
    try:
        compiled: Compiled = torch._inductor.aoti_load_package(str(path))
    except Exception as error:  # what the loader raises has no type of its own
        raise RunError(f"{path} cannot be loaded: {str(error).splitlines()[0]}") from None
    return compiled
