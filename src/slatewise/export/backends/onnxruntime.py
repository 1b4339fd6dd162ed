"""ONNX Runtime on the CPU: the whole ranking as one graph, in full precision or with weights of 8 bits.

``precision = "int8"`` quantises the weights of the matrix products, and what goes into them while it runs (dynamic
quantisation). That changes numbers, so an export keeps it only if the lists stay the same often enough.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from slatewise.config import Frozen, Positive
from slatewise.errors import ExportError, RunError
from slatewise.export.artifact import Artifact
from slatewise.export.backends import Served, ruled_name
from slatewise.export.feed import Feed
from slatewise.export.graph import OUTPUTS, Traced

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

MODEL = "model.onnx"


class Config(Frozen):
    """``precision`` says which file is loaded; ``threads`` is how many one call computes on: beside other processes, 1."""

    precision: Literal["fp32", "int8"] = "fp32"
    threads: Positive = 1

    @property
    def files(self) -> tuple[str, ...]:
        """What it needs of an artifact."""
        return (MODEL if self.precision == "fp32" else "model.int8.onnx",)


class OnnxRuntime:
    """A backend."""

    def __init__(self, session: InferenceSession, ruled: InferenceSession | None) -> None:
        self.session, self.ruled = session, ruled

    def rank(self, feed: Feed) -> Served:
        """The answers of the graph."""
        return Served(*self.session.run(OUTPUTS, feed))

    def rank_ruled(self, feed: Feed) -> Served:
        """The same under rules, by a graph of its own."""
        assert self.ruled is not None
        return Served(*self.ruled.run(OUTPUTS, feed))


def require() -> None:
    """See that what writes, quantises and runs the graph is installed.

    Raises:
        ExportError: it is not.
    """
    from slatewise.export.onnx import require_onnx

    require_onnx()
    try:
        _runtime()
    except RunError as error:
        raise ExportError(str(error)) from None


def write(traced: Traced, folder: Path, config: Config) -> None:
    """Write the graph, and for ``int8`` a copy of it with weights of 8 bits.

    Raises:
        ExportError: the model cannot be written in ONNX.
    """
    from slatewise.export.onnx import write_onnx

    plain, wanted = MODEL, config.files[0]
    if traced.ruled:
        plain, wanted = ruled_name(plain), ruled_name(wanted)
    if not (folder / plain).exists():
        write_onnx(traced, folder / plain)
    if config.precision == "int8":
        _quantise(folder / plain, folder / wanted)


def _quantise(model: Path, out: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from slatewise.export.graph import quiet
    from slatewise.export.onnx import without_shapes

    with quiet():
        # Weights of 7 bits: without VNNI a processor adds two products in 16 bits, which full weights overflow
        quantize_dynamic(
            without_shapes(model), out, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8
        )


def load(artifact: Artifact, config: Config) -> OnnxRuntime:
    """The graph, ready to run.

    Raises:
        RunError: the package is not installed, or the file is none that it can run.
    """
    name = config.files[0]
    ruled = _session(artifact.path / ruled_name(name), config) if artifact.manifest.ruled else None
    return OnnxRuntime(_session(artifact.path / name, config), ruled)


def _session(path: Path, config: Config) -> InferenceSession:
    runtime = _runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = config.threads, 1
    options.log_severity_level = 4  # what goes wrong is raised; the rest is talk
    try:
        return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base of their own
        raise RunError(f"{path} cannot be loaded: {str(error).splitlines()[0]}") from None


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise RunError(
            "the backend 'onnxruntime' needs the package onnxruntime; install slatewise with the extra 'export'."
        ) from None
    return onnxruntime
