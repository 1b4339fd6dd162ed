"""Both forms of the feature tower: sets in, sets out; ids nobody has met; every field has its say."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from batches import close, make_batch, permuted
from factories import make_schema
from slatewise.modules.tower import FieldTower, Tower, TowerConfig, build_tower

FORMS = [
    TowerConfig(width=24),
    TowerConfig(form="fields", width=24),
    TowerConfig(form="fields", width=24, field_width=8, history="mean"),
    TowerConfig(form="fields", history="none", item_ids=False, user_ids=False, item_vectors=False, scores=False, width=24),
]  # fmt: skip


def tower_of(config: TowerConfig, **changes) -> Tower:
    torch.manual_seed(0)
    return build_tower(config, make_schema(**changes)).eval()


@pytest.mark.parametrize("config", FORMS, ids=str)
def test_candidates_are_a_set_and_vectors_have_the_width(config: TowerConfig) -> None:
    tower, batch = tower_of(config), make_batch()
    order_N = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    x_BND, user_BD = tower(batch)
    assert x_BND.shape == (6, 10, 24)
    assert user_BD.shape == (6, 24)
    moved_BND, same_BD = tower(permuted(batch, order_N))
    assert close(moved_BND, x_BND[:, order_N])
    assert close(same_BD, user_BD)


def test_every_group_of_fields_reaches_every_candidate() -> None:
    tower, batch = tower_of(TowerConfig(form="fields", width=24)), make_batch()
    before_BND, user_BD = tower(batch)
    changes = {
        "item_numeric_BNF": batch.item_numeric_BNF + 1,
        "candidate_numeric_BNF": batch.candidate_numeric_BNF + 1,
        "user_numeric_BF": batch.user_numeric_BF + 1,
        "context_numeric_BF": batch.context_numeric_BF + 1,
        "history_feedback_BH": batch.history_feedback_BH + 1,
    }
    for name, changed in changes.items():
        after_BND, after_BD = tower(replace(batch, **{name: changed}))
        with_history = batch.history_mask_BH.any(1)
        assert bool(((after_BND - before_BND).abs().amax(2) > 1e-5)[with_history].all()), name
        of_user = not name.startswith(("item", "candidate"))
        assert close(after_BD, user_BD) != of_user, name


def test_an_item_met_after_training_has_features_but_no_id() -> None:
    tower, batch = tower_of(TowerConfig(form="fields", width=24), trained_items=20), make_batch()
    cold = replace(batch, candidates_BN=torch.full_like(batch.candidates_BN, 30))
    other = replace(batch, candidates_BN=torch.full_like(batch.candidates_BN, 31))
    with torch.no_grad():
        tower.vector.weight.zero_()
    assert close(tower(cold)[0], tower(other)[0])
    assert not close(tower(batch)[0], tower(cold)[0])


def test_groups_are_normalised_by_themselves() -> None:
    """Whatever the size of one group's numbers, the others' fields stay what they are."""
    tower = tower_of(TowerConfig(form="fields", width=24))
    assert isinstance(tower, FieldTower)
    seen: list[torch.Tensor] = []
    tower.between.register_forward_pre_hook(lambda module, told: seen.append(told[0]))
    batch = make_batch()
    tower(batch)
    tower(replace(batch, user_numeric_BF=batch.user_numeric_BF * 1000))
    (before, after), fields = seen, len(tower.norms["item"].weight) + 1
    assert close(before[:, :fields], after[:, :fields])
    users = slice(fields, fields + len(tower.norms["user"].weight))
    assert close(after[:, users].mean((1, 2)), torch.zeros(60), 1e-4)
    assert close(after[:, users].var((1, 2), unbiased=False), torch.ones(60), 1e-2)
