"""The Python API: prepare, fit, mine, refresh, rank, evaluate, compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slatewise.config import Frozen, fingerprint, to_plain
from slatewise.data.prepared import PreparedData, load_data
from slatewise.errors import ConfigError, DataError, RunError
from slatewise.files import new_file
from slatewise.ranker import Ranker
from slatewise.training.run import Run, open_run

if TYPE_CHECKING:
    import polars as pl

    from slatewise.evaluation.results import Evaluation
    from slatewise.groups.store import MinedStore
    from slatewise.protocols.first_stage import FirstStage
    from slatewise.rewards import RewardModel
    from slatewise.training.refresh import Refreshed
    from slatewise.training.rewards import RewardConfig

__all__ = ["evaluate", "fit", "load_data", "mine", "open_reward", "prepare", "refresh", "train"]

RETRIEVERS = (
    "oneranker",
    "gpr",
    "hstu",
    "matrix-factorization",
    "popularity",
)  # methods that search a catalogue


def prepare(
    dataset: str,
    out: Path | str,
    *,
    source: Path | str | None = None,
    protocol: str | None = None,
    seed: int = 0,
    dataset_options: dict[str, Any] | None = None,
    protocol_options: dict[str, Any] | None = None,
    candidates_from: Path | str | None = None,
    candidates: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PreparedData:
    """Prepare a data set under a protocol and open it; see ``slatewise prepare``.

    Args:
        candidates_from: a run whose ranker finds ``candidates`` (50) for each request in the whole catalogue, with its
            scores; ``progress`` is told how far it is. See :mod:`slatewise.protocols.first_stage`.

    Raises:
        ConfigError, DataError: unknown names or options, or data that is not what its schema says.
        RunError: ``candidates_from`` is no run, or its ranker only orders given candidates.
    """
    from slatewise.protocols.prepare import CANDIDATES
    from slatewise.protocols.prepare import prepare as prepare_data

    if candidates is not None and candidates_from is None:
        raise ConfigError(
            f"candidates is {candidates}, but the protocol says who is a candidate; it needs candidates_from, a run that "
            "retrieves them."
        )
    prepare_data(
        dataset,
        protocol,
        Path(source) if source else None,
        Path(out),
        seed=seed,
        dataset_options=dataset_options or {},
        protocol_options=protocol_options or {},
        first_stage=open_first_stage(candidates_from) if candidates_from else None,
        candidates=CANDIDATES if candidates is None else candidates,
        progress=progress,
    )
    return load_data(out)


def open_first_stage(run: Path | str) -> FirstStage:
    """The ranker of a run folder as what ``prepare`` retrieves candidates with.

    Raises:
        RunError: the folder is no run, or its ranker only orders given candidates.
    """
    from slatewise.protocols.first_stage import FirstStage

    ranker = Ranker.load(run)
    if ranker.retriever is None:
        raise RunError(
            f"{run} only orders candidates that it is given (method {ranker.name}); name a run that can search the whole "
            f"catalogue: {', '.join(RETRIEVERS)}."
        )
    card = ranker.card
    return FirstStage(
        name=str(run),
        method=ranker.name,
        manifest=card.manifest,
        transform=ranker.transform,
        find=ranker.retriever,
        score=lambda batch: ranker.rank_batch(batch, 1).score_BN,
        facts={
            "method": card.method,
            "config": fingerprint(card.config, card.policy_config, card.seed),
            "data": card.manifest.fingerprint,
        },
    )


class RunFacts(Frozen):
    """``config.json`` of a run: what it trains, on what, from which seed."""

    method: str
    options: dict[str, Any]
    data: str
    seed: int
    version: str
    target: dict[str, float] = {}
    refresh: bool = False

    def identity(self) -> str:
        """Changes when anything the result depends on changes."""
        more = ("refresh",) if self.refresh else ()
        return fingerprint(self.method, self.options, self.data, self.target, self.seed, *more)


def train(
    method: str, options: dict[str, Any], data: PreparedData, run: Run, *, refresh: bool = False
) -> Ranker:
    """Train a method in a run folder and save its ranker there; a run that is complete is loaded, not trained again.

    Args:
        refresh: after training, OneRanker's fake items take in the items that training never saw.

    Raises:
        RunError: the folder holds a run of another method, config, data set or seed.
    """
    import msgspec

    import slatewise
    from slatewise.methods import fit_method
    from slatewise.training.refresh import refresh_clusters

    facts = RunFacts(
        method=method,
        options=to_plain(options),
        data=data.manifest.fingerprint,
        seed=run.seed,
        version=slatewise.__version__,
        target=data.manifest.target,
        refresh=refresh,
    )
    config = run.path / "config.json"
    new = not config.exists()
    if not new:
        before = msgspec.json.decode(config.read_bytes(), type=RunFacts)
        if before.identity() != facts.identity():
            raise RunError(
                f"{run.path} holds a run of another method, config, data set or seed; name another folder."
            )
    else:
        run.path.mkdir(parents=True, exist_ok=True)
        with new_file(config) as partial:
            partial.write_bytes(msgspec.json.format(msgspec.json.encode(facts)))
    if (run.path / "ranker").is_dir():
        return Ranker.load(run.path)
    try:
        ranker = fit_method(method, options, data, run)
    except (ConfigError, DataError):
        # refused before anything was trained: leave no folder that stands in the way of the next try
        if new and not (run.path / "stages").exists():
            config.unlink()
            (run.path / "metrics.jsonl").unlink(missing_ok=True)
            with suppress(OSError):  # somebody else's files are in it
                run.path.rmdir()
        raise
    if refresh:
        refresh_clusters(ranker)
    ranker.save(run.path / "ranker")
    ranker.path = run.path
    return ranker


def mine(
    run: Path | str,
    data: PreparedData,
    out: Path | str,
    *,
    requests: int = 0,
    shard: int | None = None,
    quiet: bool = False,
    **settings: Any,
) -> MinedStore:
    """Mine the train split under the reward of a run (any method that has one); see ``slatewise mine``.

    What is there already is kept: an interrupted call goes on where it stopped.

    Args:
        requests: only the first so many requests (0: all).   shard: requests a file (``None``: the store's own size).
        settings: :class:`~slatewise.groups.beam_mining.MiningConfig` as keyword arguments, e.g. ``width=8``.

    Raises:
        RunError: no run with a trained reward.   DataError: ``out`` holds something else.   ConfigError: a setting.
    """
    from slatewise.config import build
    from slatewise.groups.beam_mining import MiningConfig
    from slatewise.groups.store import SHARD, Miner, mine_store
    from slatewise.training.rewards import architecture

    config = build(MiningConfig, settings, where="mining")
    reward, described, data = open_reward(Path(run), data)
    miner = Miner(reward, architecture(described), config, data)
    return mine_store(
        Path(out), miner, requests=requests, shard=SHARD if shard is None else shard, quiet=quiet
    )


def refresh(
    run: Path | str, items: pl.DataFrame | Path | str, out: Path | str, *, keep_clusters: bool = False
) -> Refreshed:
    """The ranker of a run, saved as ``out`` with the items of a table that it did not know; see ``slatewise refresh``.

    Args:
        items: ``item_id`` and features, a frame or a file.
        keep_clusters: leave OneRanker's fake items as they are: nothing that it answers about old items changes.

    Raises:
        RunError: no run, or one that does not know items by features.   DataError: ``out`` is there, or a bad table.
    """
    import polars as pl

    from slatewise.data.log_files import read_frame
    from slatewise.training.refresh import refresh as refresh_ranker

    frame = items if isinstance(items, pl.DataFrame) else read_frame(Path(items))
    refreshed = refresh_ranker(Ranker.load(run), frame, clusters=not keep_clusters)
    refreshed.ranker.save(out)
    return refreshed


def open_reward(run: Path, data: PreparedData) -> tuple[RewardModel, RewardConfig, PreparedData]:
    """The trained reward of a run folder, how it was trained, and the data weighed by the run's target.

    Raises:
        RunError: the folder is no run, its method has no reward, it was trained on other data, or has not got so far.
    """
    import msgspec

    from slatewise.config import build
    from slatewise.names import plugin
    from slatewise.training.rewards import load_reward

    if not (run / "config.json").exists():
        raise RunError(f"{run} is not a run folder (no config.json); train one with `slatewise train`.")
    facts = msgspec.json.decode((run / "config.json").read_bytes(), type=RunFacts)
    config = build(plugin("methods", facts.method).Config, facts.options, where=f"method '{facts.method}'")
    if not hasattr(config, "reward"):
        raise RunError(
            f"{run} has no reward: method '{facts.method}' trains none. Name a run of one that does."
        )
    if facts.data != data.manifest.fingerprint:
        raise RunError(
            f"{run} was trained on other data than {data.path}; mine on the data it was trained on."
        )
    data = data.with_target(facts.target) if facts.target else data
    # `reproduce` keeps the stages of all rows of a seed beside the rows
    stages = run / "stages" if (run / "stages").is_dir() else run.parent / "stages"
    return load_reward(config.reward, data, Run(run, facts.seed, stages)), config.reward, data


def fit(
    method: str, data: PreparedData, *, out: Path | str, seed: int = 0, resume: bool = False, **options: Any
) -> Ranker:
    """Train ``method`` on prepared data into the folder ``out`` and return its ranker.

    Args:
        options: the method's config as keyword arguments; tables as dicts, e.g. ``train={"epochs": 1}``.

    Raises:
        ConfigError: unknown method or option.   RunError: ``out`` is not empty and ``resume`` is False.
    """
    from slatewise.config import build
    from slatewise.names import plugin

    build(plugin("methods", method).Config, options, where=f"method '{method}'")
    return train(method, options, data, open_run(Path(out), seed=seed, resume=resume))


def evaluate(
    rankers: Sequence[Ranker],
    data: PreparedData,
    *,
    split: str = "test",
    metrics: Sequence[str] | None = None,
    limit: int | None = None,
) -> Evaluation:
    """Evaluate rankers beside every floor and ceiling of the data; see ``slatewise evaluate``."""
    from slatewise.evaluation.offline import Config
    from slatewise.evaluation.offline import evaluate as evaluate_policies
    from slatewise.evaluation.policies import floors_and_ceilings

    policies = [*floors_and_ceilings(data), *rankers]
    return evaluate_policies(policies, data, split, metrics=metrics, config=Config(limit=limit))
