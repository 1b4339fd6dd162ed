"""The mined store: lists and step values for every request of a split, on disk, mined once and read as memory.

Folder::

    store.json     StoreFacts: the key, and all that it is made of
    00000.arrow    SHARD requests each, fixed width: lists, value, step_value (float16)

A shard is whole or not there, and depends on nothing but its place, so mining that was interrupted goes on where it
stopped and ends in the same bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from slatewise.config import Frozen, fingerprint, replace, to_plain
from slatewise.data.batch import ListBatch
from slatewise.data.prepared import PreparedData, Split
from slatewise.data.tables import read_table, write_table
from slatewise.decoding import beam
from slatewise.decoding._loop import encode
from slatewise.errors import ConfigError, DataError
from slatewise.files import new_file
from slatewise.generators import Generator
from slatewise.groups.beam_mining import Mined, MiningConfig, mine
from slatewise.rewards import RewardModel
from slatewise.tensors import digest

FORMAT = 2
SHARD = 1024  # requests a file
BATCH = 128  # requests mined at once: a part of the bytes, since sums round otherwise in another batch

Labels = Callable[[ListBatch], Mined]


class StoreFacts(Frozen):
    """``store.json``.

    Attributes:
        evaluator: digest of the evaluator's weights and architecture.
        data, target: the prepared data's fingerprint and the weights of its feedback kinds.
        requests: the first so many requests of the train split.
        mining: the settings.   own: lists of a generator beside the beam's.
        generator: digest of that generator; empty where ``own`` is 0.
        lists, length, candidates: G, L and N.   shard: requests a file.
    """

    evaluator: str
    data: str
    target: dict[str, float]
    requests: int
    mining: MiningConfig
    own: int
    generator: str
    lists: int
    length: int
    candidates: int
    shard: int = SHARD
    format: int = FORMAT

    @property
    def key(self) -> str:
        """Changes when anything changes that the lists depend on (not with the shards they are kept in)."""
        return fingerprint({name: value for name, value in to_plain(self).items() if name != "shard"})

    def shards(self) -> list[slice]:
        """The requests of each file."""
        starts = range(0, self.requests, self.shard)
        return [slice(start, min(start + self.shard, self.requests)) for start in starts]


@dataclass(frozen=True)
class Miner:
    """An evaluator with its settings, and a generator whose own lists may stand beside the beam's.

    ``architecture`` is whatever names the evaluator's plug-in and options (weights alone do not say how they are used).
    """

    reward: RewardModel
    architecture: Any
    config: MiningConfig
    data: PreparedData
    generator: Generator | None = None
    own: int = 0

    def beside(self, generator: Generator, own: int) -> Miner:
        """The same with ``own`` lists of a generator (the most probable ones) beside the beam's."""
        return dataclasses.replace(self, generator=generator, own=own)

    def __call__(self, batch: ListBatch) -> Mined:
        """Mine a batch, which must be where the evaluator is."""
        length, own_BGL = self.data.schema.length, None
        # in full precision, whatever a training step around it has: the same labels as in the store
        with torch.no_grad(), torch.autocast(batch.mask_BN.device.type, enabled=False):
            if self.generator is not None and self.own:
                own_BGL = beam.propose(
                    self.generator,
                    encode(self.generator, batch),
                    length=length,
                    count=self.own,
                    rng=torch.Generator(),
                    config=beam.Config(width=self.own),
                )
            return mine(self.reward, self.reward.encode(batch), self.config, length=length, own_BGL=own_BGL)

    def facts(self, requests: int = 0) -> StoreFacts:
        """What a store of this miner would be; ``requests`` limits it to the first so many of the train split (0: all).

        Raises:
            ConfigError: ``requests`` is negative.
        """
        if requests < 0:
            raise ConfigError(f"requests is {requests}, but must be 0 (all) or more.")
        manifest, schema = self.data.manifest, self.data.schema
        total = len(self.data.split("train"))
        own = self.own if self.generator is not None else 0
        return StoreFacts(
            evaluator=fingerprint(digest(self.reward.state_dict()), self.architecture),
            data=manifest.fingerprint,
            target=manifest.target,
            requests=min(requests, total) if requests else total,
            mining=self.config,
            own=own,
            generator=digest(self.generator.state_dict()) if self.generator is not None and own else "",
            lists=1 if self.config.keep == "best" else self.config.width + own,
            length=schema.length,
            candidates=schema.candidates,
        )


@dataclass(frozen=True)
class MinedStore:
    """A complete store, opened; ``shards`` are memory-mapped."""

    facts: StoreFacts
    shards: list[dict[str, NDArray[np.generic]]]

    def __call__(self, batch: ListBatch) -> Mined:
        """What was mined for the requests of a batch of the train split, on the batch's device."""
        rows_B = batch.request_B.cpu().numpy()
        file_B, place_B = np.divmod(rows_B, self.facts.shard)
        columns = {
            name: np.empty((len(rows_B), *column.shape[1:]), column.dtype)
            for name, column in self.shards[0].items()
        }
        for file in np.unique(file_B):
            here_B = file_B == file
            for name, column in self.shards[file].items():
                columns[name][here_B] = column[place_B[here_B]]
        lists_BGL, value_BG, step_value_BGLN = (
            torch.from_numpy(columns[name]).to(batch.mask_BN.device)
            for name in ("lists", "value", "step_value")
        )
        return Mined(lists_BGL.long(), value_BG, step_value_BGLN)


def mine_store(
    folder: Path, miner: Miner, *, requests: int = 0, shard: int = SHARD, quiet: bool = False
) -> MinedStore:
    """Mine the train split into ``folder``, or what is missing there.

    Args:
        requests: only the first so many (0: all).   shard: requests a file.   quiet: no progress bar.

    Raises:
        DataError: the folder holds something else, or lists of another evaluator, data set or settings.
    """
    facts = replace(miner.facts(requests), shard=shard)
    _claim(folder, facts)
    split, device = miner.data.split("train"), next(miner.reward.parameters()).device
    todo = [(file, rows) for file, rows in enumerate(facts.shards()) if not _path(folder, file).exists()]
    left = sum(rows.stop - rows.start for _, rows in todo)
    with _progress(quiet) as progress:
        bar = progress.add_task("mining", total=facts.requests, completed=facts.requests - left)
        for file, rows in todo:
            columns = _shard(miner, split, rows, device, lambda count: progress.advance(bar, count))
            with new_file(_path(folder, file)) as partial:
                write_table(partial, columns)
    return open_store(folder)


def open_store(folder: Path) -> MinedStore:
    """Open a complete store.

    Raises:
        DataError: the folder is no store, is damaged, or its mining has not ended.
    """
    facts = _facts(folder)
    if facts is None:
        raise DataError(f"{folder} is not a mined store (no store.json); make one with `slatewise mine`.")
    files = [_path(folder, file) for file in range(len(facts.shards()))]
    there = sum(file.exists() for file in files)
    if there < len(files):
        raise DataError(
            f"mining into {folder} has not ended ({there} of {len(files)} files are there); run the same "
            "`slatewise mine` again, and it will go on."
        )
    shape = (facts.lists, facts.length)
    shapes = {"lists": shape, "value": shape[:1], "step_value": (*shape, facts.candidates)}
    again = "Remove this file and run the same `slatewise mine` again."
    return MinedStore(facts, [read_table(file, shapes, again=again) for file in files])


def check_store(store: MinedStore, wanted: StoreFacts, folder: Path) -> None:
    """Refuse a store whose labels are not for this data or not mined as the config says; its evaluator may be another.

    Raises:
        DataError: another data set or list length, or fewer requests.   ConfigError: other mining settings.
    """
    has = store.facts
    if (has.data, has.length, has.candidates) != (wanted.data, wanted.length, wanted.candidates):
        raise DataError(f"{folder} was mined on other data; mine again on this data.")
    if has.target != wanted.target:
        raise DataError(
            f"{folder} was mined for the target {has.target}, but this data's is {wanted.target}; mine again."
        )
    if has.requests < wanted.requests:
        raise DataError(
            f"{folder} has lists for {has.requests:,} requests, but {wanted.requests:,} are trained on; mine more, or "
            "lower train.requests."
        )
    if has.mining != wanted.mining:
        settings = ", ".join(f"{name} = {value}" for name, value in to_plain(has.mining).items())
        raise ConfigError(f"{folder} was mined with {settings}; give the method the same mining settings.")


def _claim(folder: Path, facts: StoreFacts) -> None:
    """Make the folder a store of these facts, or find that it is one; what a killed process left half-written goes."""
    before = _facts(folder)
    if before is not None and before != facts:
        differ = [name for name, value in to_plain(facts).items() if to_plain(before)[name] != value]
        raise DataError(
            f"{folder} holds lists that were mined otherwise (differing: {', '.join(differ)}); name another folder."
        )
    if before is None and folder.exists() and (folder.is_file() or any(folder.glob("[!.]*"))):
        raise DataError(f"{folder} is already there and not a mined store; name another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    for partial in folder.glob(".*.partial"):
        partial.unlink()
    if before is None:
        with new_file(folder / "store.json") as partial:
            partial.write_bytes(
                msgspec.json.format(msgspec.json.encode({"key": facts.key} | to_plain(facts)))
            )


def _facts(folder: Path) -> StoreFacts | None:
    path = folder / "store.json"
    if not path.exists():
        return None
    try:
        values = msgspec.json.decode(path.read_bytes())
        values.pop("key")
        facts = msgspec.convert(values, StoreFacts)
    except (msgspec.MsgspecError, AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read: {error}. Remove the folder and mine again.") from None
    if facts.format != FORMAT:
        raise DataError(
            f"{folder} is a store of format {facts.format}, and this version reads {FORMAT}; mine again, into another folder."
        )
    return facts


def _path(folder: Path, file: int) -> Path:
    return folder / f"{file:05}.arrow"


def _shard(
    miner: Miner, split: Split, rows: slice, device: torch.device, advance: Callable[[int], None]
) -> dict[str, NDArray[Any]]:
    parts: list[Mined] = []
    for start in range(rows.start, rows.stop, BATCH):
        batch = split.batch(slice(start, min(start + BATCH, rows.stop))).to(device)
        parts.append(miner(batch))
        advance(batch.size)
    small = np.uint8 if split.schema.candidates <= 256 else np.uint16
    return {
        "lists": _joined([part.lists_BGL for part in parts]).astype(small),
        "value": _joined([part.value_BG for part in parts]).astype(np.float32),
        "step_value": _joined([part.step_value_BGLN for part in parts]),
    }


def _joined(parts: list[Tensor]) -> NDArray[Any]:
    return torch.cat(parts).cpu().numpy()


def _progress(quiet: bool) -> Progress:
    columns = (
        TextColumn("{task.description:>12}"),
        BarColumn(),
        TextColumn("{task.completed:,}/{task.total:,}"),
    )
    return Progress(*columns, TimeRemainingColumn(), disable=quiet, transient=True)
