"""Export: a trained ranker as an artifact, one folder that a server loads without anything that trains.

``slatewise.export(run, out)`` does it, so this room can be called; its parts are :mod:`~slatewise.export.artifact` (the folder),
:mod:`~slatewise.export.graph` (a policy's whole ranking as one graph), :mod:`~slatewise.export.backends` (what runs it),
:mod:`~slatewise.export.agreement` (whether it ranks as the ranker does) and :mod:`~slatewise.export.write` (all of it).
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """A room that has the name of its verb: ``import slatewise.export.artifact`` must not hide ``slatewise.export(…)``."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """See :func:`slatewise.export.write.export`."""
        from slatewise.export.write import export

        return export(*arguments, **options)


sys.modules[__name__].__class__ = _Room
