"""A traced graph as ``model.onnx``; the one file that needs the packages onnx and onnxscript, and only when exporting."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from slatewise.errors import ExportError
from slatewise.export.graph import OUTPUTS, Traced, quiet

OPSET = 20
WEIGHT = 1 << 40  # numbers of the largest weight that is looked for twice: any


def require_onnx() -> None:
    """See that what writes the file is installed.

    Raises:
        ExportError: it is not.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ExportError(
            f"writing model.onnx needs the package '{error.name}'; install slatewise with the extra 'export'."
        ) from None


def write_onnx(traced: Traced, path: Path) -> None:
    """Write the graph with its weights as one file.

    Raises:
        ExportError: an operation of the model has no counterpart in ONNX.
    """
    names = [field.name for field in traced.inputs]
    with quiet():
        try:
            program = torch.onnx.export(
                traced.program,
                (),
                input_names=names,
                output_names=list(OUTPUTS),
                opset_version=OPSET,
                custom_translation_table=_translations(),
                optimize=False,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise ExportError(f"an operation of the model cannot be written in ONNX: {reason}") from error
        assert program is not None
        _simplify(program.model)
        program.save(path, external_data=False)


def _simplify(model: Any) -> None:
    """Compute what is constant, keep what is the same once, and leave out where nodes came from: files of this machine.

    These passes take a second where the exporter's own take the better part of a minute; ONNX Runtime makes the rest
    of them when it loads the file, and runs both equally fast.
    """
    from onnx_ir.passes import common
    from onnxscript.optimizer import fold_constants

    common.InlinePass()(model)
    fold_constants(model)
    common.RemoveUnusedNodesPass()(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.DeduplicateInitializersPass(size_limit=WEIGHT)(model)
    common.CommonSubexpressionEliminationPass()(model)
    common.RemoveUnusedNodesPass()(model)
    common.ClearMetadataAndDocStringPass()(model)


def without_shapes(path: Path) -> Any:
    """The model of a file without the shapes that the exporter noted, which other tools find contradictory."""
    import onnx

    model = onnx.load(path)
    del model.graph.value_info[:]
    return model


def _translations() -> dict[Any, Any]:
    """Operations for which the exporter has no translation, or none that is exact."""
    import onnx
    from onnxscript import opset20 as op

    double = onnx.TensorProto.DOUBLE

    def sort(self: Any, stable: bool = True, dim: int = -1, descending: bool = False) -> Any:
        """TopK of all: of equal values it takes the first, as a stable sort does."""
        count = op.Gather(op.Shape(self), op.Constant(value_ints=[dim]))
        return op.TopK(self, count, axis=dim, largest=int(descending), sorted=1)

    def log2(self: Any) -> Any:
        """In double precision: a quotient of single precision misses the whole log2 of powers of two."""
        ln2 = op.Constant(value=onnx.helper.make_tensor("ln2", double, [], [math.log(2.0)]))
        return op.CastLike(op.Div(op.Log(op.Cast(self, to=double)), ln2), self)

    return {torch.ops.aten.sort.stable: sort, torch.ops.aten.log2.default: log2}
