"""Sequences and their windows: order, padding, every interaction new once, nothing of the held-out part."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from factories import make_data
from sample_logs import item_table, random_requests, user_table
from slatewise.data.features import FeatureTransform
from slatewise.data.interactions import InteractionLog, Windows, _cut
from slatewise.data.log import Lists, Log
from slatewise.data.prepared import PreparedData, load_data
from slatewise.errors import ConfigError, DataError
from slatewise.files import new_folder
from slatewise.protocols import log_v1
from slatewise.protocols.prepare import write_lists
from slatewise.training.loop import TrainConfig, train
from slatewise.training.run import Run


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lists, PreparedData]:
    out = tmp_path_factory.mktemp("interactions") / "data"
    items = item_table().with_columns(organic=pl.col("item_id") % 7 == 3)
    log = Log(requests=random_requests(), users=user_table(), items=items)
    lists = log_v1.build(log_v1.Config(history=6, split="user"), log, 0)
    with new_folder(out) as folder:
        write_lists(lists, folder, name="sample", protocol="log-v1", source={})
    return lists, load_data(out)


def expected(lists: Lists) -> dict[str, list[dict[str, object]]]:
    """Each user's exposures in training requests, one after the other, by a loop."""
    sequences: dict[str, list[dict[str, object]]] = {}
    training = lists.requests.filter(pl.col("split") == "train").sort("timestamp", maintain_order=True)
    for row in training.iter_rows(named=True):
        kinds = zip(row["feedback_click"], row["feedback_watch"], strict=True)
        for item, (click, watch) in zip(row["exposed"], kinds, strict=True):
            seen = {"item": item, "time": row["timestamp"], "click": click, "watch": watch}
            sequences.setdefault(row["user_id"], []).append(seen | {"device": row["context_device"]})
    return sequences


def test_sequences_are_the_training_exposures_in_time_order(written: tuple[Lists, PreparedData]) -> None:
    lists, data = written
    log, transform, wanted = (
        data.interactions(),
        FeatureTransform.load(data.path / "transform"),
        expected(lists),
    )
    assert len(log) == sum(map(len, wanted.values())) == data.manifest.counts["training interactions"]
    devices = next(c for c in transform.context.columns if c.column == "context_device").values
    place = [kind.name for kind in data.schema.feedback].index("watch")
    for user, start, end in zip(log.user_S, log.start_S, log.end_S, strict=True):
        rows = wanted.pop(transform.users.vocab.decode([user])[0])
        c = {name: column[start:end] for name, column in log.columns.items()}
        assert transform.items.vocab.decode(c["item"]).to_list() == [row["item"] for row in rows]
        assert c["time"].tolist() == [row["time"] for row in rows]
        assert c["feedback"].tolist() == [row["click"] for row in rows]  # the target is clicks
        np.testing.assert_allclose(c["kinds"][:, place], [row["watch"] for row in rows], rtol=1e-6)
        told = [devices[code - 1] for code in c["context_categories"][:, -1]]
        assert told == [row["device"] for row in rows]
    assert not wanted


def test_nothing_of_the_held_out_part_is_there(written: tuple[Lists, PreparedData]) -> None:
    lists, data = written
    log, transform = data.interactions(), FeatureTransform.load(data.path / "transform")
    held = lists.requests.filter(pl.col("split") != "train").group_by("user_id").agg(pl.min("timestamp"))
    first = dict(held.iter_rows())
    for user, end in zip(log.user_S, log.end_S, strict=True):
        limit = first.get(transform.users.vocab.decode([user])[0], np.inf)
        assert log.columns["time"][end - 1] <= limit


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 9))
def test_every_interaction_is_new_in_exactly_one_window(sizes: list[int], length: int) -> None:
    end = np.cumsum(sizes)
    sequence, start, stop, first = _cut(end - sizes, end, length)
    new: Counter[int] = Counter()
    for window in range(len(sequence)):
        assert 1 <= stop[window] - start[window] <= length
        assert end[sequence[window]] - sizes[sequence[window]] <= start[window]
        assert stop[window] <= end[sequence[window]]
        new.update(range(start[window] + first[window], stop[window]))
        if first[window]:
            assert first[window] == length - length // 2  # half of what it knows was there before
    assert new == Counter(range(end[-1]))


def test_windows_of_a_sequence_by_hand() -> None:
    """Seven interactions in windows of four: 0-3 new, then 2-5 of which 4, 5 are new, then 4-6 of which 6 is."""
    _, start, stop, first = _cut(np.array([0]), np.array([7]), 4)
    assert (start.tolist(), stop.tolist(), first.tolist()) == ([0, 2, 4], [4, 6, 7], [0, 2, 2])


def test_a_batch_is_what_its_rows_are(written: tuple[Lists, PreparedData]) -> None:
    _, data = written
    log = data.interactions()
    windows = log.windows(8)
    batch = windows.batch(slice(0, len(windows)))
    assert batch.size == len(windows) > len(log.user_S)
    assert int(batch.new_BT.sum()) == len(log)
    for row in range(len(windows)):
        start, end = windows.start_W[row], windows.end_W[row]
        size = end - start
        assert batch.mask_BT[row].tolist() == [True] * size + [False] * (8 - size)
        item = log.columns["item"][start:end]
        assert batch.item_BT[row, :size].tolist() == item.tolist()
        assert batch.time_BT[row, :size].tolist() == log.columns["time"][start:end].tolist()
        assert np.array_equal(batch.item_numeric_BTF[row, :size], data.items.numeric[item])
        assert np.array_equal(batch.organic_BT[row, :size], data.items.organic[item])
        assert np.array_equal(batch.user_numeric_BF[row], data.users.numeric[int(batch.user_B[row])])
        assert (np.diff(log.columns["time"][start:end]) >= 0).all()
    behind = ~batch.mask_BT
    for name in ("item_BT", "time_BT", "feedback_BT", "kinds_BTK", "context_numeric_BTF", "organic_BT"):
        assert not getattr(batch, name)[behind].any()
    few = windows.batch(np.array([5, 2]))
    assert torch.equal(few.item_BT, batch.item_BT[[5, 2]])
    assert torch.equal(few.new_BT, batch.new_BT[[5, 2]])
    assert batch.organic_BT.any()


def test_writing_into_a_batch_leaves_the_file_alone(written: tuple[Lists, PreparedData]) -> None:
    windows = written[1].interactions().windows(4)
    before = windows.batch(slice(0, 3)).time_BT.clone()
    windows.batch(slice(0, 3)).time_BT.fill_(7)
    assert torch.equal(windows.batch(slice(0, 3)).time_BT, before)


def test_the_training_loop_takes_windows(written: tuple[Lists, PreparedData], tmp_path: Path) -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

    model, windows, seen = Mean(), written[1].interactions().windows(4), []

    def loss(batch, step):
        seen.append(int(batch.new_BT.sum()))
        return ((model.weight - batch.feedback_BT[batch.new_BT]) ** 2).mean(), {}

    run = Run(tmp_path, seed=1, stages=tmp_path / "stages", quiet=True, device="cpu")
    train(model, loss, windows, TrainConfig(epochs=1, batch_size=8), run)
    assert len(seen) == len(windows) // 8
    assert model.weight.item() != 0


def test_data_without_users_or_times_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no interactions with users and timestamps"):
        make_data(tmp_path / "random").interactions()
    requests = random_requests().drop("user_id", "timestamp")
    lists = log_v1.build(log_v1.Config(), Log(requests=requests), 0)
    with new_folder(tmp_path / "out") as folder:
        write_lists(lists, folder, name="sample", protocol="log-v1", source={})
    with pytest.raises(DataError, match="prepare a log whose requests or interactions have both"):
        load_data(tmp_path / "out").interactions()


def test_rows_without_user_or_time_have_no_place_in_a_sequence_and_are_counted(tmp_path: Path) -> None:
    requests = random_requests().with_columns(
        user_id=pl.when(pl.int_range(200) == 3).then(None).otherwise("user_id"),
        timestamp=pl.when(pl.int_range(200) == 5).then(None).otherwise("timestamp"),
    )
    lists = log_v1.build(log_v1.Config(), Log(requests=requests), 0)
    with new_folder(tmp_path / "out") as folder:
        counts = write_lists(lists, folder, name="sample", protocol="log-v1", source={}).counts
    lost = int(requests["exposed"].list.len()[[3, 5]].sum())
    assert counts["training interactions left out: no user or time"] == lost
    assert len(load_data(tmp_path / "out").interactions()) == counts["training interactions"]


def test_a_window_holds_something(written: tuple[Lists, PreparedData]) -> None:
    log = written[1].interactions()
    assert isinstance(log, InteractionLog)
    assert isinstance(log.windows(1), Windows)
    with pytest.raises(ConfigError, match="a window of 0 interactions"):
        log.windows(0)
