"""An A/B test in a simulated store: users meet the lists of their arm's ranker, and the log of it is what a server would have written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from slatewise.data.schema import Manifest
from slatewise.errors import ConfigError, DataError
from slatewise.ranker import Ranker
from slatewise.rng import child_seed
from slatewise.serving.buckets import Buckets
from slatewise.simulators import build_truth
from slatewise.simulators.store_v1 import Feedback

CHUNK = 1024
KINDS = tuple(field.name for field in fields(Feedback))  # of feedback that a simulated log has


@dataclass(frozen=True)
class Arm:
    """An arm: one ranker or several, of which each request meets one by these shares."""

    name: str
    rankers: Mapping[str, float]


def simulate(
    manifest: Manifest,
    rankers: Mapping[str, Ranker],
    arms: Mapping[str, Arm],
    requests: int,
    seed: int,
    unit: str = "user_id",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pl.DataFrame:
    """The log, in the log schema, with the column ``arm``.

    Units fall into arms of equal shares; requests are new ones of the store, none that it logged for training.
    ``propensity`` is the probability of the shown list in its arm: the shares of the arm's rankers that write this very
    list; null where one of them draws its lists.

    Args:
        unit: ``user_id`` or ``request_id``: what falls into an arm.
        manifest: of data that the store made.   rankers: by name.   arms: each of one or several of them.

    Raises:
        DataError: the data comes from no store.   ConfigError: an arm names a ranker that is not there.
    """
    if unit not in ("user_id", "request_id"):
        raise ConfigError(f"--unit is '{unit}'; a simulated experiment assigns user_id or request_id.")
    if manifest.truth is None:
        raise DataError(
            f"{manifest.name} comes from no simulator, so nobody knows what users would do with other lists."
        )
    for arm in arms.values():
        if strange := [name for name in arm.rankers if name not in rankers]:
            raise ConfigError(
                f"arm '{arm.name}' names the ranker '{strange[0]}'; there are: {', '.join(rankers)}."
            )
    store = build_truth(manifest.truth)
    drawn = store.requests(requests, child_seed(seed, "ab", "requests"))
    asked = store.requests_frame(drawn)
    by_unit = Buckets(dict.fromkeys(arms, 1.0), f"ab {seed}")
    by_request = {name: Buckets(arm.rankers, f"mix {seed}") for name, arm in arms.items()}
    arm_R = [by_unit.of(str(one)) for one in asked[unit]]
    ranker_R = np.array([by_request[arm].of(str(at)) for at, arm in enumerate(arm_R)])
    length = next(iter(rankers.values())).length
    known = {name: all(rankers[one].policy.certain for one in arm.rankers) for name, arm in arms.items()}
    rows_of = {
        name: np.flatnonzero(
            [
                chosen == name or (known[arm] and name in arms[arm].rankers)
                for arm, chosen in zip(arm_R, ranker_R, strict=True)
            ]
        )
        for name in rankers
    }
    lists_RL, written = np.zeros((requests, length), np.int64), dict[str, NDArray[np.int64]]()
    done, total = 0, sum(map(len, rows_of.values()))
    for name, rows in rows_of.items():
        written[name] = np.full((requests, length), -1)
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            batch = rankers[name].transform.batch(asked[part])
            written[name][part] = rankers[name].rank_batch(batch, length).order_BL.cpu().numpy()
            done += len(part)
            progress(done, total)
        lists_RL[ranker_R == name] = written[name][ranker_R == name]
    propensity_R = np.zeros(requests)
    for name, lists_of in written.items():
        share_R = np.array([_share(arms[arm], name) for arm in arm_R])
        propensity_R += share_R * (lists_of == lists_RL).all(1)
    lists = torch.from_numpy(lists_RL)
    feedback = store.sample(drawn.user_B, drawn.item_BN, lists, child_seed(seed, "ab", "feedback"))
    kinds = {f"feedback_{kind}": pl.Series(values.tolist()) for kind, values in vars(feedback).items()}
    shown = asked["candidates"].list.gather(pl.Series(lists_RL.tolist()))
    versions = {name: f"{ranker.name} seed {ranker.card.seed}" for name, ranker in rankers.items()}
    version_R = [f"{name}: {versions[name]}" for name in ranker_R]
    return asked.with_columns(
        exposed=shown,
        arm=pl.Series(arm_R),
        model_version=pl.Series(version_R),
        propensity=pl.Series(propensity_R).set(~pl.Series([known[arm] for arm in arm_R]), None),
        **kinds,
    )


def _share(arm: Arm, ranker: str) -> float:
    return arm.rankers.get(ranker, 0.0) / sum(arm.rankers.values())


def read_mix(text: str) -> Arm:
    """``hybrid=goalrank:0.3,mg-e:0.7``.

    Raises:
        ConfigError: it is written otherwise.
    """
    name, equals, rest = text.partition("=")
    shares: dict[str, float] = {}
    for part in rest.split(","):
        ranker, _, share = part.rpartition(":")
        try:
            shares[ranker] = float(share)
        except ValueError:
            equals = ""
    if not equals or not name or "" in shares or not sum(shares.values()) > 0:
        raise ConfigError(f"'{text}' is no mix; write NAME=RANKER:SHARE,RANKER:SHARE.")
    return Arm(name, shares)
