"""What sequence models are asked: targets of windows, worth, where items lie; and that training asks what ranking asks."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from slatewise.api import prepare
from slatewise.data.interactions import InteractionBatch
from slatewise.data.prepared import PreparedData, load_data
from slatewise.data.tables import Entities
from slatewise.errors import ConfigError, DataError
from slatewise.generators import oneranker
from slatewise.generators.oneranker import OneRanker
from slatewise.methods.oneranker import Config, _drawn, _plan, _refresh, _shown
from slatewise.modules.event_tokens import before, clock, visible
from slatewise.modules.item_table import ItemConfig
from slatewise.training.loop import TrainConfig
from slatewise.training.rank_candidates import candidates, generated, repeated
from slatewise.training.run import Run
from slatewise.training.sequences import (
    SemanticIdConfig,
    SequenceConfig,
    item_space,
    start_model,
    targets,
    worth_scale,
)

SMALL = {"users": 60, "items": 80, "requests": 600, "validation": 40, "test": 40}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    path = tmp_path_factory.mktemp("sequences") / "d"
    prepare("store", path, dataset_options=SMALL, protocol_options={"history": 60})
    return load_data(path)


def made(data: PreparedData, path: Path, **changes: object) -> OneRanker:
    config = oneranker.Config(width=16, layers=2, dropout=0.0, id_dropout=0.0, **changes)  # type: ignore[arg-type]
    sequence = SequenceConfig(ids=SemanticIdConfig(levels=2, codes=16))
    model, _ = start_model("oneranker", config, sequence, data, Run(path, 3, path, quiet=True))
    if model.target is not None and model.target.preference is not None:
        model.target.use_centres(
            torch.randn(model.target.centre_JD.shape), torch.ones_like(model.target.weight_J)
        )
    return model.eval()


def test_targets_by_hand(data: PreparedData) -> None:
    batch = data.interactions().windows(6).batch(slice(0, 2))
    wanted_BT = torch.tensor([[0, 1, 0, 1, 1, 0], [1, 0, 0, 0, 0, 0]]).bool()
    new_BT = torch.tensor([[0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1]]).bool()
    asked = targets(replace(batch, new_BT=new_BT), wanted_BT, 2)
    assert asked.row_R.tolist() == [0, 0, 1]
    assert asked.place_R.tolist() == [3, 4, 0]
    assert asked.mask_RJ.tolist() == [[True, True], [True, False], [True, False]]
    assert asked.next_RJ[asked.mask_RJ].tolist() == [3, 4, 4, 0]


def test_the_impression_task_learns_what_was_shown_wanted_or_not(data: PreparedData) -> None:
    batch = data.interactions().windows(30).batch(slice(0, 20))
    asked = targets(batch, (batch.kinds_BTK[..., 0] > 0) & batch.mask_BT, 1)
    torch.manual_seed(0)
    drawn_GR = torch.stack([_shown(batch, asked, 5)[0] for _ in range(200)])
    time_R1 = batch.time_BT[asked.row_R, asked.place_R][:, None]
    for r in range(0, len(asked.row_R), 9):
        row = int(asked.row_R[r])
        here = batch.item_BT[row][(batch.time_BT[row] == time_R1[r]) & batch.mask_BT[row]]
        assert set(drawn_GR[:, r].tolist()) == set(here.tolist())


def test_centres_and_the_consistency_loss_come_when_they_should(data: PreparedData) -> None:
    """After a share of the steps that training really takes; one fitting at the start and ``refresh`` more."""
    windows = len(data.interactions().windows(20))
    for settings, steps in (
        ({"epochs": 3, "batch_size": 8}, 3 * (windows // 8)),
        ({"epochs": 10, "batch_size": 16, "requests": 32}, 20),
        ({"epochs": 10, "batch_size": 16, "max_steps": 44}, 44),
    ):
        train = TrainConfig(**settings)
        plan = _plan(Config(sequence=SequenceConfig(window=20, train=train)), data, "cpu")
        assert plan.dc_from == round(0.3 * steps)
        assert len(range(0, steps, plan.refresh_every)) == 5


def test_centres_are_of_items_none_of_which_is_taken_for_a_new_one(
    data: PreparedData, tmp_path: Path
) -> None:
    centres = []
    for seed in (1, 2):
        model = made(data, tmp_path, items=ItemConfig(newness=0.5)).train()
        torch.manual_seed(seed)
        assert model.target is not None
        model.target.centre_JD.zero_()
        _refresh(model, 0)
        assert model.items.training
        centres.append(model.target.centre_JD.clone())
    assert torch.equal(*centres)


def test_a_worth_of_no_kind_is_refused(data: PreparedData) -> None:
    with pytest.raises(ConfigError, match="names clik, but this data's feedback is click, conversion, value"):
        worth_scale(SequenceConfig(worth={"clik": 1.0}), data, data.manifest.target_weights())


def test_at_most_so_many_moments_of_a_window() -> None:
    row_R = torch.tensor([0, 0, 0, 0, 2, 2, 5])
    torch.manual_seed(0)
    drawn = [_drawn(row_R, 2) for _ in range(20)]
    assert all(row_R[one].sort().values.tolist() == [0, 0, 2, 2, 5] for one in drawn)
    assert len({tuple(one.sort().values.tolist()) for one in drawn}) > 3


def test_a_candidate_that_came_before_is_repeated() -> None:
    index_RN = torch.tensor([[4, 7, 4, 7, 9], [1, 1, 1, 2, 2]])
    mask_RN = torch.tensor([[True, False, True, True, True], [True] * 5])
    assert repeated(index_RN, mask_RN).tolist() == [
        [False, False, True, False, False],
        [False, True, True, False, True],
    ]


def test_the_rankers_candidates(data: PreparedData) -> None:
    """The wanted item first, then what was met at its moment with what that brought, then sampled ones with nothing."""
    batch = data.interactions().windows(30).batch(slice(0, 20))
    wanted_BT = (batch.kinds_BTK[..., 0] > 0) & batch.mask_BT
    asked = targets(batch, wanted_BT, 1)
    worth_BT = batch.kinds_BTK[..., 0] + batch.kinds_BTK[..., 2]
    found_RK = torch.full((len(asked.row_R), 2), 7)
    torch.manual_seed(0)
    among = candidates(batch, asked, worth_BT, found_RK, together=5, others=6)
    own_R = batch.item_BT[asked.row_R, asked.place_R]
    assert torch.equal(among.index_RN[:, 0], own_R)
    assert torch.equal(among.gain_RN[:, 0], worth_BT[asked.row_R, asked.place_R])
    assert bool((among.gain_RN[:, 11:] == 0).all())
    for r in range(0, len(own_R), 7):
        row, time = int(asked.row_R[r]), int(batch.time_BT[asked.row_R[r], asked.place_R[r]])
        here = [
            i
            for i, t in zip(batch.item_BT[row].tolist(), batch.time_BT[row].tolist(), strict=True)
            if t == time
        ]
        met = among.index_RN[r, :11][among.mask_RN[r, :11]].tolist()
        assert sorted(met) == sorted(here)  # lists of six: five places on either side hold the moment
        real = among.index_RN[r][among.mask_RN[r]].tolist()
        assert len(set(real)) == len(real)


def test_found_candidates_are_drawn_from_what_the_generator_finds_best(
    data: PreparedData, tmp_path: Path
) -> None:
    model, batch = made(data, tmp_path), data.split("test").batch(slice(0, 9))
    shared_M = model.items.catalogue()[:64]
    wants = model.wants(model.at_requests(batch))
    assert wants is not None
    score_RM = wants.vector_RV @ model.item_vectors(model.items.of(shared_M)).T
    best_RP = shared_M[score_RM.topk(8).indices]
    found_RK = generated(model, wants, 9, shared_M, 400, 0.125)
    for r in range(9):
        assert set(found_RK[r].tolist()) == set(best_RP[r].tolist())
    anything_RK = generated(model, None, 9, shared_M, 4000, 0.125)
    assert set(anything_RK[0].tolist()) == set(shared_M.tolist())


def test_windows_in_which_nobody_wanted_anything_are_no_error(data: PreparedData, tmp_path: Path) -> None:
    from slatewise.methods import oneranker as method

    model = made(data, tmp_path).train()
    batch = data.interactions().windows(6).batch(slice(0, 4))
    config = method.Config()
    total, _ = method._loss(
        model,
        replace(batch, kinds_BTK=torch.zeros_like(batch.kinds_BTK)),
        10**6,
        config,
        method._plan(config, data, "cpu"),
    )
    total.backward()
    assert float(total.detach()) == 0.0


def test_interactions_of_one_moment_do_not_see_each_other() -> None:
    """Tokens: user, then C and item of interactions at 10, 20, 20, 30; the last one is padding."""
    time_BS = torch.tensor([[10, 10, 10, 20, 20, 20, 20, 30, 30]])
    mask_BS = torch.tensor([[True] * 7 + [False] * 2])
    seen = visible(time_BS, mask_BS)[0]
    assert seen[5].nonzero().flatten().tolist() == [0, 1, 2, 5]  # the C of the second at 20
    assert seen[6].nonzero().flatten().tolist() == [0, 1, 2, 5, 6]  # its item sees its own C
    assert seen[1].nonzero().flatten().tolist() == [0, 1]
    assert seen[:7, 7:].sum() == 0
    unknown = visible(torch.zeros(1, 5, dtype=torch.long), torch.ones(1, 5, dtype=torch.bool))[0]
    assert torch.equal(unknown, torch.ones(5, 5).tril().bool())


def test_the_clock_by_hand() -> None:
    time_BT = torch.tensor([[0, 6 * 3600, 6 * 3600, 4 * 86_400]])
    assert before(time_BT).tolist() == [[0, 0, 0, 6 * 3600]]
    clock_TF = clock(time_BT, before(time_BT))[0]
    assert clock_TF[0].tolist() == [0.0] * 6
    assert clock_TF[1, :2].tolist() == pytest.approx(
        [1.0, 0.0], abs=1e-6
    )  # six o'clock: a quarter of the day
    assert clock_TF[3, 4].item() == pytest.approx(np.log1p(90) / 4, rel=1e-6)
    assert clock_TF[:, 5].tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("place", ["first", "last"])
def test_training_asks_what_ranking_asks(place: str, data: PreparedData, tmp_path: Path) -> None:
    """The state at an interaction of a window is that of a request of its moment, with the history that it has; whatever
    else of the moment stands before it."""
    model, train = made(data, tmp_path), data.split("train")
    short_R = np.flatnonzero((train.columns["num_history"] > 5) & (train.columns["num_history"] <= 40))[:12]
    requests = train.batch(short_R)
    log, windows = data.interactions(), data.interactions().windows(60)
    rows, places = [], []
    for user, time in zip(requests.user_B.tolist(), requests.time_B.tolist(), strict=True):
        sequence = int(np.flatnonzero(log.user_S == user)[0])
        rows.append(int(np.flatnonzero((windows.sequence_W == sequence) & (windows.first_W == 0))[0]))
        own = log.columns["time"][log.start_S[sequence] : log.end_S[sequence]]
        first, behind = np.searchsorted(own, time), np.searchsorted(own, time, side="right")
        assert behind > first + 1
        places.append(int(first if place == "first" else behind - 1))
    with torch.no_grad():
        asked = model.at_requests(requests)
        batch = windows.batch(np.array(rows))
        trained = model.at_interactions(batch, torch.arange(len(rows)), torch.tensor(places))
        torch.testing.assert_close(trained.state_RD, asked.state_RD, rtol=1e-4, atol=1e-5)
        ours, theirs = model.wants(trained), model.wants(asked)
        assert ours is not None
        assert theirs is not None
        torch.testing.assert_close(ours.vector_RV, theirs.vector_RV, rtol=1e-4, atol=1e-4)
    assert asked.state_RD.std(0).min() > 1e-3


def test_padding_and_neighbours_never_change_an_answer(data: PreparedData, tmp_path: Path) -> None:
    model, batch = made(data, tmp_path), data.split("test").batch(slice(0, 9))
    with torch.no_grad():
        together = model.score_candidates(batch)
        alone = torch.cat([model.score_candidates(batch.take(torch.tensor([row]))) for row in range(9)])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.score_candidates(_padded(batch)), together, rtol=1e-4, atol=1e-5)


def _padded(batch: object) -> object:
    """The batch with 7 more places behind every history."""
    wide = {}
    for field in fields(batch):  # type: ignore[arg-type]
        value: Tensor = getattr(batch, field.name)
        if field.name.startswith("history_"):
            value = torch.cat([value, value.new_zeros(value.shape[0], 7, *value.shape[2:])], 1)
        wide[field.name] = value
    return type(batch)(**wide)


def test_windows_are_batches_of_interactions(data: PreparedData) -> None:
    assert isinstance(data.interactions().windows(5).batch(slice(0, 3)), InteractionBatch)


def test_a_new_item_lies_where_its_features_say() -> None:
    """Collaborative vectors are a map of the features; an item without one gets what the map says."""
    rng = np.random.default_rng(0)
    numeric = rng.standard_normal((200, 3)).astype(np.float32)
    vector = (numeric @ rng.standard_normal((3, 4))).astype(np.float32)
    numeric[0] = vector[0] = 0
    known = vector.copy()
    known[150:] = 0
    items = Entities(numeric, np.zeros((200, 0), np.int32), known, np.zeros(200, bool))
    full = Entities(numeric, np.zeros((200, 0), np.int32), vector, np.zeros(200, bool))
    lasting = np.ones(3, bool)
    (ours, unmet), (truth, _) = item_space(items, 150, lasting), item_space(full, 200, lasting)
    assert np.corrcoef(ours[150:, 3:].ravel(), truth[150:, 3:].ravel())[0, 1] > 0.99
    np.testing.assert_array_equal(unmet[150:], ours[150:])
    np.testing.assert_array_equal(unmet[:, :3], ours[:, :3])
    # who was met lies where those who met it say
    assert np.abs(unmet[1:150, 3:] - ours[1:150, 3:]).max() > 1e-3
    assert not ours[0].any()
    assert not unmet[0].any()
    some = np.array([True, False, True])
    before = item_space(items, 150, some)
    assert before[0].shape[1] == 6
    assert (before[0][150:].std(0) > 0).all()
    numeric[150:, 1] = 9  # what only meeting an item tells is no part of where it lies
    np.testing.assert_array_equal(item_space(items, 150, some), before)
    nothing = Entities(
        np.zeros((5, 0), np.float32),
        np.zeros((5, 0), np.int32),
        np.zeros((5, 0), np.float32),
        np.zeros(5, bool),
    )
    with pytest.raises(DataError, match="neither features nor collaborative vectors"):
        item_space(nothing, 5, np.ones(0, bool))
