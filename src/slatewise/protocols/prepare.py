"""From a data set's name to prepared data on disk: load, build the lists, learn the transform, write."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from slatewise import config as configs
from slatewise.data.clock import known, seconds
from slatewise.data.entities import entity_vectors
from slatewise.data.features import FeatureTransform
from slatewise.data.history import (
    History,
    exposure_interactions,
    history_columns,
    request_history,
    with_feedback,
)
from slatewise.data.log import Lists
from slatewise.data.log_columns import is_outcome
from slatewise.data.prepared import JUDGES, SPLITS
from slatewise.data.requests import width_of
from slatewise.data.schema import CANDIDATES_FROM, Manifest
from slatewise.data.sequences import sequence_columns
from slatewise.data.tables import Array, write_table
from slatewise.errors import ConfigError, DataError
from slatewise.files import new_folder
from slatewise.names import available, plugin, public_name
from slatewise.protocols.first_stage import FirstStage, Progress, described, retrieve_candidates

EXAMPLES = 8
CANDIDATES = 50  # of a request, from a first stage


def prepare(
    dataset: str,
    protocol: str | None,
    source: Path | None,
    out: Path,
    *,
    dataset_options: dict[str, Any],
    protocol_options: dict[str, Any],
    seed: int = 0,
    first_stage: FirstStage | None = None,
    candidates: int = CANDIDATES,
    progress: Progress | None = None,
) -> Manifest:
    """Prepare a data set under ``out``, which appears only when all went well.

    Args:
        dataset, protocol: public names; protocol None: the data set's own default.
        source: folder of the data set's files, None for a data set that needs none.
        out: folder to make.
        dataset_options, protocol_options: values for their configs.
        seed: for whatever the protocol draws.
        first_stage: a trained model that finds ``candidates`` for each request in the whole catalogue, instead of those
            that the protocol has; ``progress`` is told how far it is.

    Returns:
        The manifest that was written.

    Raises:
        ConfigError: an unknown name or option.   DataError: the data is not what it should be, or ``out`` is
            in use.
    """
    reader = plugin("data.datasets", dataset)
    protocol = public_name(protocol or default_protocol(dataset))
    cutter = plugin("protocols", protocol)
    reading = configs.build(reader.Config, dataset_options, where=dataset)
    cutting = configs.build(cutter.Config, protocol_options, where=protocol)
    origin = {
        "dataset": public_name(dataset),
        "dataset_options": configs.to_plain(reading),
        "protocol_options": configs.to_plain(cutting),
        "seed": seed,
    }
    if first_stage is not None:
        first_stage.check(public_name(dataset), protocol)
    with new_folder(out) as folder:
        lists = cutter.build(cutting, reader.load(reading, source), seed)
        if first_stage is not None:
            lists = retrieve_candidates(lists, first_stage, candidates, seed, progress)
            origin[CANDIDATES_FROM] = {**first_stage.facts, "candidates": candidates}
            protocol = described(protocol, first_stage)
        return write_lists(lists, folder, name=public_name(dataset), protocol=protocol, source=origin)


def default_protocol(dataset: str) -> str:
    """The protocol that a data set is prepared with if none is named.

    Raises:
        ConfigError: the data set is unknown, or has no default.
    """
    name = getattr(plugin("data.datasets", dataset), "DEFAULT_PROTOCOL", None)
    if name is None:
        raise ConfigError(
            f"data set '{dataset}' has no default protocol; name one with --protocol: "
            f"{', '.join(available('protocols'))}."
        )
    return str(name)


def write_lists(lists: Lists, folder: Path, *, name: str, protocol: str, source: dict[str, Any]) -> Manifest:
    """Write lists as prepared data into an empty folder (layout: :mod:`slatewise.data.prepared`).

    Args:
        lists: what a protocol handed over.   folder: is there, and empty.
        name, protocol: public names for the manifest.   source: options, enough to prepare it again.

    Raises:
        DataError: a table or column is not what the log schema says, or there is nothing to train on.
    """
    histories = request_history(lists.requests, lists.interactions, lists.target, lists.history)
    counts = dict(lists.counts)
    done = training_interactions(lists, counts)
    transform = fit_transform(lists, histories, done)
    vectors = entity_vectors(transform.items.vocab, lists.item_vectors)
    schema = transform.schema(vectors.shape[1])
    digest = hashlib.blake2b(digest_size=6)
    digest.update(configs.fingerprint(schema, lists.target, lists.unexposed_is_negative).encode())
    digest.update(configs.fingerprint(source[CANDIDATES_FROM]).encode() if CANDIDATES_FROM in source else b"")
    transform.save(folder / "transform")
    users, items = transform.users.table, transform.items.table
    _write(folder / "users.arrow", {"numeric": users.numeric, "categories": users.categories}, digest)
    _write(
        folder / "items.arrow",
        {
            "numeric": items.numeric,
            "categories": items.categories,
            "vector": vectors,
            "organic": items.organic.astype(np.uint8),  # Arrow's own booleans are bits and cannot be mapped
        },
        digest,
    )
    if done is not None:
        _write_interactions(done, transform, folder, digest)
    for split, requests, part in _parts(lists.requests, histories):
        _write(folder / f"{split}.arrow", transform.columns(requests, part), digest)
        counts[split] = requests.height
    _write_examples(requests, part, folder)
    manifest = Manifest(
        name=name,
        protocol=protocol,
        schema=schema,
        target=lists.target,
        unexposed_is_negative=lists.unexposed_is_negative,
        counts=counts,
        source=source,
        fingerprint=digest.hexdigest(),
        truth=lists.truth,
        trained_until=_trained_until(lists, done),
    ).with_target(lists.target)
    (folder / "manifest.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    return manifest


def _write_examples(requests: pl.DataFrame, histories: History, folder: Path) -> None:
    """A few requests of the last split as a caller sends them, history included: to try ``rank`` with, and for the
    golden requests that every ranker carries."""
    few = slice(0, EXAMPLES)
    asked = requests[few].select(
        pl.exclude("split", "history", "^history_.*$", *filter(is_outcome, requests.columns))
    )
    asked.with_columns(history_columns(histories.rows(few))).write_parquet(folder / "examples.parquet")


def training_interactions(lists: Lists, counts: dict[str, int]) -> pl.DataFrame | None:
    """What may be trained on one after the other, with ``feedback``; None where users or times are not known.

    That is what the protocol says, else the exposures of the training requests. Rows without a user or a time have no
    place in a sequence; ``counts`` is told how many there are, and how many are left.
    """
    done = lists.training_interactions
    if done is None:
        if not {"user_id", "timestamp", "exposed"} <= set(lists.requests.columns):
            return None
        done = exposure_interactions(lists.requests.filter(split="train"), lists.target)
    placed = done.filter(pl.col("user_id").is_not_null(), pl.Series(known(done["timestamp"])))
    if placed.height < done.height:
        counts["training interactions left out: no user or time"] = done.height - placed.height
    if not placed.height:
        return None
    counts["training interactions"] = placed.height
    return with_feedback(placed, lists.target)


def _trained_until(lists: Lists, done: pl.DataFrame | None) -> int:
    """The last moment of the training requests and interactions, in seconds; 0 where no time is known."""
    frames = [lists.requests.filter(split="train"), *([] if done is None else [done])]
    moments = [seconds(frame["timestamp"]) for frame in frames if "timestamp" in frame.columns]
    return max((int(time_n.max(initial=0)) for time_n in moments), default=0)


def fit_transform(
    lists: Lists, histories: History, interactions: pl.DataFrame | None = None
) -> FeatureTransform:
    """Learn the transform from the training requests and interactions; widths are those of all splits.

    Raises:
        DataError: there is no training request, or a split has an unknown name.
    """
    allowed = (*SPLITS, JUDGES)
    if strange := set(lists.requests["split"].unique()) - set(allowed):
        raise DataError(f"requests name the split '{min(map(str, strange))}'; allowed: {', '.join(allowed)}.")
    train = (lists.requests["split"] == "train").to_numpy()
    if not train.any():
        raise DataError("the lists have no training request; give more data or other shares to the splits.")
    return FeatureTransform.fit(
        lists.requests.filter(pl.Series(train)),
        lists.users,
        lists.items,
        length=lists.length,
        exposed_width=width_of(lists.requests, "exposed"),
        history=lists.history,
        candidates_width=width_of(lists.requests, "candidates"),
        histories=histories.rows(train),
        interactions=interactions,
    )


def _parts(requests: pl.DataFrame, histories: History) -> Iterator[tuple[str, pl.DataFrame, History]]:
    """Each split's requests; the judges' only where there are any, the test split last."""
    for split in (JUDGES, *SPLITS):
        rows = (requests["split"] == split).to_numpy()
        if split == JUDGES and not rows.any():
            continue
        yield split, requests.filter(pl.Series(rows)), histories.rows(rows)


def _write_interactions(done: pl.DataFrame, transform: FeatureTransform, folder: Path, digest: Any) -> None:
    interactions, sequences = sequence_columns(done, transform)
    _write(folder / "interactions.arrow", interactions, digest)
    _write(folder / "sequences.arrow", sequences, digest)


def _write(path: Path, columns: dict[str, Array], digest: Any) -> None:
    """Write a table, and let every value of it count in the fingerprint."""
    write_table(path, columns)
    for name, array in columns.items():
        digest.update(f"{name}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
