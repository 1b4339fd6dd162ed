"""Files and folders that are whole or not there: written under a temporary name, then renamed."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slatewise.errors import DataError


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A file to write under another name; it takes ``path``'s place when the block ends well."""
    partial = _partial(path)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill under another name; it appears as ``path`` only when the block ends well.

    Raises:
        DataError: ``path`` is already there and not empty.
    """
    if path.exists() and (path.is_file() or any(path.iterdir())):
        raise DataError(f"{path} is already there and not empty; name another folder or remove it.")
    partial = _partial(path)
    partial.mkdir(parents=True)
    try:
        yield partial
        if path.exists():
            path.rmdir()
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
