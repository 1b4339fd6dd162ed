"""Where a recipe's rows live and which data each is trained and graded on: one set for all, or one a first stage and seed.

With stages, a seed goes: train the stage on its earlier part of the data, let it retrieve candidates for the recipe's
requests, train the rows that name it on these. All of it is kept under the output folder and found again by what made it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slatewise.api import prepare, train
from slatewise.config import fingerprint
from slatewise.data.features import FeatureTransform
from slatewise.data.prepared import PreparedData, load_data
from slatewise.errors import ConfigError, DataError
from slatewise.recipe import Recipe
from slatewise.recipe_parts import DataSpec
from slatewise.training.run import Run


@dataclass(frozen=True)
class Shared:
    """Prepared data that all seeds share, and where more can be prepared from.

    Attributes:
        main: the recipe's data, None where all rows take their candidates from a stage.
        early: what each stage is trained on.   source: the data set's official files.
    """

    main: Path | None
    early: dict[str, Path]
    source: Path | None


def prepare_shared(recipe: Recipe, source: Path | None, data: Path | None, out: Path) -> Shared:
    """Prepare what is not there yet.

    Raises:
        ConfigError: ``data`` is given to a recipe whose stages are trained on data of their own.
    """
    if data is not None and recipe.stages:
        raise ConfigError(
            f"prepared data was given, but the recipe's stages ({', '.join(recipe.stages)}) are trained on data of their own; "
            "leave it out, and name the data set's files if it has any."
        )
    main = None
    if any(not row.candidates_from for row in recipe.rows.values()):
        main = data or _prepared(recipe.data, source, out)
    early = {name: _prepared(recipe.stage_data(name), source, out) for name in recipe.stages}
    return Shared(main, early, source)


def _prepared(spec: DataSpec, source: Path | None, out: Path) -> Path:
    key = fingerprint(spec.dataset, spec.protocol, spec.dataset_options, spec.protocol_options, spec.seed)
    folder = out / "data" / f"{spec.dataset}-{spec.protocol or 'default'}-{key}"
    return folder if folder.exists() else _prepare(spec, folder, source)


def _prepare(spec: DataSpec, folder: Path, source: Path | None, **candidates: Any) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    prepare(
        spec.dataset,
        folder,
        source=source,
        protocol=spec.protocol or None,
        seed=spec.seed,
        dataset_options=spec.dataset_options,
        protocol_options=spec.protocol_options,
        **candidates,
    )
    return folder


def data_of(
    recipe: Recipe, stage: str, shared: Shared, out: Path, seed: int, *, quiet: bool = True
) -> PreparedData:
    """The data of the rows that take their candidates from ``stage`` ("" = none does); the stage is trained if need be."""
    if not stage:
        assert shared.main is not None
        return _open(recipe, shared.main)
    method, options = recipe.row(stage)
    early, count = _open(recipe, shared.early[stage]), recipe.stages[stage].candidates
    key = fingerprint(method, options, early.manifest.fingerprint, recipe.data, count)
    folder = out / f"seed-{seed}" / f"data-{_slug(stage)}-{key}"
    if not folder.exists():
        run = run_folder(out, seed, f"stage {stage}", method, options, early)
        train(method, options, early, Run(run, seed, out / f"seed-{seed}" / "stages", quiet=quiet))
        _prepare(recipe.data, folder, shared.source, candidates_from=run, candidates=count)
    return _open(recipe, folder)


def _open(recipe: Recipe, path: Path) -> PreparedData:
    data = load_data(path)
    return data.with_target(recipe.data.target) if recipe.data.target else data


def row_folder(recipe: Recipe, row: str, data: PreparedData, out: Path, seed: int) -> Path:
    """Where the run of a row and seed lives."""
    own = data if recipe.rows[row].candidates_from else None  # data of the recipe's own has a name of its own
    return run_folder(out, seed, row, *recipe.row(row), own)


def run_folder(
    out: Path, seed: int, name: str, method: str, options: dict[str, Any], data: PreparedData | None = None
) -> Path:
    """The folder of a run; another config is another folder, and so is other ``data``, where that changes."""
    made = () if data is None else (data.manifest.fingerprint,)
    return out / f"seed-{seed}" / f"{_slug(name)}-{fingerprint(method, options, *made)[:6]}"


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")


def same_requests(several: Sequence[PreparedData]) -> None:
    """Refuse data sets whose requests to test on are not the same, so that no row could be compared with another.

    Raises:
        DataError: with the numbers of both.
    """
    first, *others = [_asked(data) for data in several]
    for asked in others:
        if len(asked[0]) != len(first[0]) or any((a != b).any() for a, b in zip(asked, first, strict=True)):
            raise DataError(
                f"the rows of this recipe are tested on other requests ({len(first[0]):,} and {len(asked[0]):,} of them): a first "
                "stage has learnt from some; let its data end before the recipe's test requests begin."
            )


def _asked(data: PreparedData) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Time and user id of each request to test on."""
    columns, users = data.split("test").columns, FeatureTransform.load(data.path / "transform").users.vocab
    return np.asarray(columns["time"]), users.decode(columns["user"]).to_numpy()
