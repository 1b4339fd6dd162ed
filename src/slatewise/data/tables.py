"""Fixed-width tables on disk, memory-mapped, and what of them becomes tensors: the ground floor of prepared data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from slatewise.errors import DataError

Array = NDArray[np.generic]


def write_table(path: Path, columns: dict[str, Array]) -> None:
    """Write arrays of one common first dimension as one Arrow record batch of fixed-size-list columns."""
    rows = len(next(iter(columns.values())))
    arrays, names = (
        [pa.array(np.arange(rows, dtype=np.int32))],
        ["row"],
    )  # a table without features keeps its length
    for name, array in columns.items():
        flat = pa.array(np.ascontiguousarray(array).reshape(-1))
        width = int(np.prod(array.shape[1:], dtype=np.int64))
        if array.ndim > 1 and width == 0:
            continue  # Arrow has no zero-width list; the reader restores the empty axis from the schema
        arrays.append(flat if array.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, width))
        names.append(name)
    batch = pa.record_batch(arrays, names=names)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def read_table(
    path: Path,
    shapes: dict[str, tuple[int, ...]],
    kinds: Mapping[str, type] | None = None,
    again: str = "Prepare the data again.",
) -> dict[str, Array]:
    """Memory-map a table written by :func:`write_table`.

    Args:
        path: the file.   shapes: trailing axes of each column.
        kinds: dtypes of columns that may have a zero width and then are not in the file; float32 where not said.
        again: what to do about a file that cannot be read.

    Raises:
        DataError: the file is missing, cut short, or has other columns.
    """
    try:
        with pa.memory_map(str(path)) as source:
            batch = pa.ipc.open_file(source).get_batch(0)
    except (FileNotFoundError, pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} cannot be read as a prepared table: {error}. {again}") from None
    columns: dict[str, Array] = {}
    for name, shape in shapes.items():
        if 0 in shape:
            columns[name] = np.zeros((batch.num_rows, *shape), (kinds or {}).get(name, np.float32))
            continue
        if name not in batch.schema.names:
            raise DataError(f"{path} has no column '{name}'; it was written by another version. {again}")
        column = batch.column(name)
        flat = column.flatten() if shape else column
        columns[name] = flat.to_numpy(zero_copy_only=True).reshape(batch.num_rows, *shape)
    return columns


@dataclass(frozen=True)
class Entities:
    """Features of all users or all items of the vocabulary; row 0 is the unknown one.

    Attributes:
        numeric: (I, F) float32, standardised.   categories: (I, C) int32.   vector: (I, D) float32 or width 0.
        organic: (I,) bool; of items, True where it is content that is never recommended. Of users, False.
    """

    numeric: Array
    categories: Array
    vector: Array
    organic: Array


def long_tensor(array: Array) -> torch.Tensor:
    """Integers of any width as a tensor of its own (int64)."""
    return torch.from_numpy(np.array(array, dtype=np.int64, order="C"))


def float_tensor(array: Array) -> torch.Tensor:
    """Numbers as a tensor of its own (float32)."""
    return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))
