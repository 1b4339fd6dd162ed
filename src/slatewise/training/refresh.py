"""A trained ranker meets items that came after its training: what it knows of them, it knows by their features.

A new item goes behind the old ones of the vocabulary. It lies where its features say, gets a semantic id beside those that
are there, and (OneRanker) the fake items move a little towards it. No weight is trained, and of the old items no index,
feature, place or id changes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch

from slatewise import config as configs
from slatewise.candidates import semantic_ids
from slatewise.data.columns import NumberColumn
from slatewise.data.entities import POPULARITY, EntityFeatures
from slatewise.data.log_faults import errors
from slatewise.data.log_tables import check_table
from slatewise.data.schema import Manifest
from slatewise.errors import DataError, RunError
from slatewise.modules.item_table import ItemTable
from slatewise.policies.catalogue import Catalogue
from slatewise.ranker import Ranker, make_policy
from slatewise.training.sequences import extend_space


@dataclass(frozen=True)
class Refreshed:
    """A ranker that knows more items.

    Attributes:
        ranker: the very one that was given, where nothing was new.
        new, known: how many of the given items it did not know, and did.
        missing: features that it reads of items and that were not given: unknown of the new ones.
    """

    ranker: Ranker
    new: int
    known: int
    missing: tuple[str, ...]


def refresh(ranker: Ranker, items: pl.DataFrame, *, clusters: bool = True) -> Refreshed:
    """A ranker that also knows the given items.

    What it answers about old items changes through the fake items alone, and not at all with ``clusters = False``; models
    without step 2 (hstu, gpr) rank by the likelihood of paths, of which new items take a share.

    Args:
        items: ``item_id`` and features, as in the items table of its data; old items in it are passed over.
        clusters: let the fake items know of the new items, and of those that its data had and training never saw.

    Raises:
        RunError: the ranker does not know items by their features.
        DataError: the table is not what the log schema says.   ConfigError: there are more items than paths.
    """
    policy = _catalogue(ranker)
    table = ranker.transform.items
    items = _checked(items, table)
    known = int((table.vocab.encode(items["item_id"]) > 0).sum())
    columns = [column.column for column in table.features.columns]
    missing = tuple(name for name in columns if name not in (*items.columns, POPULARITY))
    if known == items.height:
        return Refreshed(ranker, 0, known, missing)
    now = table.extended(items)
    manifest = _manifest(ranker.card.manifest, table, now)
    wider = make_policy("catalogue", configs.to_plain(policy.config), manifest).to(
        next(policy.parameters()).device
    )
    assert isinstance(wider, Catalogue)
    _extend(policy.model.items, wider.model.items, now)
    own = {f"model.items.{name}" for name, _ in policy.model.items.named_buffers(recurse=False)}
    weights = {name: weight for name, weight in policy.state_dict().items() if name not in own}
    wider.load_state_dict(wider.state_dict() | weights)
    if clusters and wider.has_clusters:
        wider.refresh_clusters()
    card = configs.replace(ranker.card, manifest=manifest, policy_config=configs.to_plain(wider.config))
    transform = replace(ranker.transform, items=now)
    made = Ranker(wider.eval(), transform, card, ranker.golden)
    return Refreshed(made, items.height - known, known, missing)


def refresh_clusters(ranker: Ranker) -> Ranker:
    """The ranker, whose fake items now also stand for the items that its data had and training never saw.

    Raises:
        RunError: it does not know items by their features.   ConfigError: it has no fake items.
    """
    policy = _catalogue(ranker)
    policy.refresh_clusters()
    ranker.card = configs.replace(ranker.card, policy_config=configs.to_plain(policy.config))
    return ranker


def _catalogue(ranker: Ranker) -> Catalogue:
    if not isinstance(ranker.policy, Catalogue):
        raise RunError(
            f"a ranker of method {ranker.name} cannot be refreshed: it does not know the catalogue by features; name a run of "
            "oneranker, gpr or hstu, or train again on data that has the new items."
        )
    return ranker.policy


def _checked(items: pl.DataFrame, table: EntityFeatures) -> pl.DataFrame:
    items, faults = check_table(items, "items", {"item_id": table.vocab.ids.dtype})
    if found := errors(faults):
        raise DataError(f"the items to refresh with cannot be read: {found[0].sentence}")
    for column in table.features.columns:
        if isinstance(column, NumberColumn) and column.column in items.columns:
            given = items[column.column]
            strange = given.filter(given.is_not_null() & given.cast(pl.Float64, strict=False).is_null())
            if len(strange):
                raise DataError(
                    f"the items to refresh with: {column.column} has '{strange[0]}', but the ranker reads a number there."
                )
    return items


def _manifest(manifest: Manifest, before: EntityFeatures, now: EntityFeatures) -> Manifest:
    """That of data with these items: other indices than in the old data, so another fingerprint."""
    digest, old = hashlib.blake2b(manifest.fingerprint.encode(), digest_size=6), len(before.vocab)
    digest.update("\n".join(map(str, now.vocab.ids[old - 1 :])).encode())
    for part in (now.table.numeric, now.table.categories, now.table.organic):
        digest.update(np.ascontiguousarray(part[old:]).tobytes())
    trained = manifest.schema.trained_items or old
    schema = configs.replace(manifest.schema, items=len(now.vocab), trained_items=trained)
    return configs.replace(manifest, schema=schema, fingerprint=digest.hexdigest())


def _extend(before: ItemTable, now: ItemTable, entities: EntityFeatures) -> None:
    """Fill the table of a wider model: all items' features, places and semantic ids."""
    old, trained = len(before.space_IV), before.trained
    space_IV = before.space_IV.cpu().numpy()
    space_IV = np.concatenate(
        [space_IV, extend_space(space_IV, entities.table, before.lasting_F.cpu().numpy())]
    )
    codes_IS = before.codes_IS.cpu().numpy()
    has_I = codes_IS[:, 0] >= 0
    fitted_I = has_I & (np.arange(old) < trained)
    codes_IS = np.where(has_I[:, None], codes_IS, 0)
    ids = semantic_ids.from_codes(space_IV[:old], codes_IS, fitted_I, before.codes)
    real_I = ~entities.table.organic.astype(bool)
    real_I[0] = False
    ids = replace(ids, real_I=has_I).assign(space_IV, real_I)
    paths_IS = np.where(ids.real_I[:, None], ids.codes_IS, -1)
    # new items lie where they lie as new ones; the old ones stay
    unmet_IV = np.concatenate([before.unmet_IV.cpu().numpy(), space_IV[old:]])
    unmet_paths_IS = np.concatenate([before.unmet_codes_IS.cpu().numpy(), paths_IS[old:]])
    now.load(entities.table, *map(torch.from_numpy, (space_IV, paths_IS, unmet_IV, unmet_paths_IS)))
