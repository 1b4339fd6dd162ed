"""The ranker: what training leaves behind and serving loads.

Folder::

    ranker.json          policy, its config, manifest, list length, versions
    model.safetensors    weights
    transform/           FeatureTransform: vocabularies and statistics
    golden.parquet       a few requests in the log schema, and golden.json the lists written for them when saved;
                         loading ranks them again and refuses a ranker that answers otherwise
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import torch

import slatewise
from slatewise.config import Frozen, to_plain
from slatewise.config import build as build_config
from slatewise.data.batch import ListBatch
from slatewise.data.features import FeatureTransform
from slatewise.data.prepared import PreparedData
from slatewise.data.schema import Manifest
from slatewise.errors import ConfigError, RunError
from slatewise.files import new_folder
from slatewise.names import plugin
from slatewise.policies import Policy, build_policy
from slatewise.tensors import load_tensors, save_tensors
from slatewise.types import Ranking, Retrieved

GOLDEN_REQUESTS = 4


class Card(Frozen):
    """``ranker.json``: all that is needed to build the policy again, and where it came from."""

    method: str
    policy: str
    policy_config: dict[str, Any]
    manifest: Manifest
    config: dict[str, Any]
    seed: int
    version: str
    format: int = 1


@dataclass
class Ranker:
    """A trained policy with its feature transform; ranks requests in the caller's own ids."""

    policy: Policy
    transform: FeatureTransform
    card: Card
    golden: pl.DataFrame | None = None
    path: Path | None = None

    @property
    def name(self) -> str:
        """The method's name."""
        return self.card.method

    @property
    def length(self) -> int:
        """The list length it was trained for."""
        return self.card.manifest.schema.length

    def rank_batch(self, batch: ListBatch, length: int | None = None) -> Ranking:
        """Rank prepared requests; on the policy's own device.

        Raises:
            ConfigError: ``length`` is not between 1 and the trained length.
        """
        length = self.length if length is None else length
        if not 1 <= length <= self.length:
            raise ConfigError(
                f"length is {length}, but this ranker writes lists of 1 to {self.length} items."
            )
        device = next(self.policy.parameters()).device
        return self.policy.rank(batch.to(device), length)

    @property
    def retriever(self) -> Callable[[ListBatch, int], Retrieved] | None:
        """Prepared requests and a number to the best items of the whole catalogue; None if it only ranks candidates."""
        retrieve: Callable[[ListBatch, int], Retrieved] | None = getattr(self.policy, "retrieve", None)
        if retrieve is None:
            return None
        device = next(self.policy.parameters()).device
        return lambda batch, count: retrieve(batch.to(device), count)

    @property
    def steps(self) -> Callable[[ListBatch], tuple[torch.Tensor, torch.Tensor]] | None:
        """Prepared requests to the scores of the policy's generator and of its ranker; None if it has not both."""
        step_scores = getattr(self.policy, "step_scores", None)
        if step_scores is None or not self.policy.two_steps:
            return None
        device = next(self.policy.parameters()).device
        return lambda batch: step_scores(batch.to(device))

    def rank(
        self,
        requests: pl.DataFrame,
        *,
        length: int | None = None,
        items: pl.DataFrame | None = None,
        users: pl.DataFrame | None = None,
        batch_size: int = 256,
    ) -> pl.DataFrame:
        """Rank requests in the log schema.

        Unknown users and items are served from their features; a request with fewer than ``length`` candidates gets
        all of them.

        Args:
            requests: at least ``request_id`` and ``candidates``; any other column of the log schema is used if known.
            items, users: features of items and users (also of such as were not there at training).

        Returns:
            ``request_id, position, item_id, score``; position counts from 1, score orders a request's items.
        """
        parts = []
        for start in range(0, requests.height, batch_size):
            frame = requests.slice(start, batch_size)
            batch = self.transform.batch(frame, items=items, users=users)
            parts.append(self._answer(frame, self.rank_batch(batch, length)))
        if not parts:
            return self._answer(requests, None)
        return pl.concat(parts)

    def _answer(self, frame: pl.DataFrame, ranking: Ranking | None) -> pl.DataFrame:
        ids = frame["candidates"].dtype.inner if isinstance(frame["candidates"].dtype, pl.List) else pl.String
        if ranking is None:
            empty = {"request_id": frame["request_id"], "position": [], "item_id": [], "score": []}
            return pl.DataFrame(
                empty, schema_overrides={"position": pl.Int32, "item_id": ids, "score": pl.Float32}
            )
        order, mask = ranking.order_BL.cpu(), ranking.mask_BL.cpu()
        score = ranking.score_BN.cpu().gather(1, order)
        row, place = mask.nonzero(as_tuple=True)
        flat = frame.select(pl.col("candidates").explode())["candidates"]
        offset = torch.from_numpy(
            frame["candidates"].list.len().cum_sum().shift(1, fill_value=0).to_numpy().copy()
        ).long()
        chosen = (offset[row] + order[row, place]).numpy()
        return pl.DataFrame(
            {
                "request_id": frame["request_id"].gather(row.numpy()),
                "position": pl.Series((place + 1).numpy()).cast(pl.Int32),
                "item_id": flat.gather(chosen),
                "score": pl.Series(score[row, place].numpy()).cast(pl.Float32),
            }
        )

    def save(self, path: Path | str) -> None:
        """Write the ranker's folder; it appears whole or not at all.

        Raises:
            DataError: ``path`` is already there.
        """
        with new_folder(Path(path)) as folder:
            (folder / "ranker.json").write_bytes(msgspec.json.format(msgspec.json.encode(self.card)))
            save_tensors(folder / "model.safetensors", self.policy.state_dict(), {})
            self.transform.save(folder / "transform")
            if self.golden is not None:
                self.golden.write_parquet(folder / "golden.parquet")
                lists = self.rank(self.golden)
                (folder / "golden.json").write_bytes(msgspec.json.encode(_by_request(lists)))

    @staticmethod
    def load(path: Path | str, *, device: str = "cpu") -> Ranker:
        """Load a ranker, or the ranker of a run folder, and check it on its golden requests.

        Raises:
            RunError: the folder is no ranker, is damaged, or answers its golden requests otherwise than when saved.
        """
        path = Path(path)
        folder = path / "ranker" if (path / "ranker").is_dir() else path
        if not (folder / "ranker.json").exists():
            raise RunError(
                f"{path} is not a run or ranker folder (no ranker.json); train one with `slatewise train`."
            )
        try:
            card = msgspec.json.decode((folder / "ranker.json").read_bytes(), type=Card)
        except msgspec.DecodeError as error:
            raise RunError(f"{folder / 'ranker.json'} cannot be read: {error}.") from None
        policy = make_policy(card.policy, card.policy_config, card.manifest)
        weights, _ = load_tensors(folder / "model.safetensors")
        try:
            policy.load_state_dict(weights)
        except RuntimeError:
            raise RunError(
                f"{folder / 'model.safetensors'} does not fit the config beside it; train the ranker again."
            ) from None
        ranker = Ranker(
            policy.to(device).eval(), FeatureTransform.load(folder / "transform"), card, path=path
        )
        if (folder / "golden.json").exists():
            ranker._check_golden(folder)
        return ranker

    def _check_golden(self, folder: Path) -> None:
        self.golden = pl.read_parquet(folder / "golden.parquet")
        expected = msgspec.json.decode((folder / "golden.json").read_bytes())
        if _by_request(self.rank(self.golden)) != expected:
            raise RunError(
                f"{folder} ranks its golden requests otherwise than when it was saved; its files or the library changed. "
                "Train the ranker again."
            )


def make_policy(name: str, options: dict[str, Any], manifest: Manifest) -> Policy:
    """The policy plug-in ``name`` with plain options, weights random."""
    return build_policy(
        name, build_config(plugin("policies", name).Config, options, where=f"policy '{name}'"), manifest
    )


def make_ranker(
    method: str,
    config: object,
    policy: str,
    policy_config: object,
    parts: Mapping[str, torch.nn.Module],
    data: PreparedData,
    seed: int,
) -> Ranker:
    """A ranker from trained parts: ``parts`` names submodules of the policy and gives their trained counterparts."""
    plain = to_plain(policy_config)
    module = make_policy(policy, plain, data.manifest)
    for name, trained in parts.items():
        module.get_submodule(name).load_state_dict(trained.state_dict())
        module.to(next(trained.parameters()).device)
    card = Card(
        method=method,
        policy=policy,
        policy_config=plain,
        manifest=data.manifest,
        config=to_plain(config),
        seed=seed,
        version=slatewise.__version__,
    )
    examples = data.path / "examples.parquet"
    golden = pl.read_parquet(examples).head(GOLDEN_REQUESTS) if examples.exists() else None
    return Ranker(module.eval(), FeatureTransform.load(data.path / "transform"), card, golden)


def _by_request(lists: pl.DataFrame) -> list[list[Any]]:
    grouped = lists.group_by("request_id", maintain_order=True).agg("item_id")
    return [[request, items] for request, items in grouped.iter_rows()]
