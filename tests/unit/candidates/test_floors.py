"""The floors: rankers by score geometry and by co-occurrence, on splits made by hand."""

import numpy as np
import pytest
import torch

from slatewise.candidates import cooccurrence, geometry
from slatewise.data.prepared import Split, request_shapes
from slatewise.data.schema import FeedbackKind, Schema
from slatewise.data.tables import Entities
from slatewise.errors import DataError


def split(
    rows: int, columns: dict[str, np.ndarray], scores: tuple[str, ...] = ("score",), items: int = 20
) -> Split:
    """A split with N = 6, L = E = 2, H = 4; columns that are not given are zero."""
    schema = Schema(
        candidates=6, length=2, exposed=2, history=4, users=5, items=items,
        feedback=(FeedbackKind(name="click", binary=True),), candidate_numeric=scores,
    )  # fmt: skip
    full = {name: np.zeros((rows, *shape), np.float32) for name, shape in request_shapes(schema).items()}
    for name in ("user", "candidates", "history", "exposed", "num_candidates", "num_history", "num_exposed"):
        full[name] = full[name].astype(np.int32)
    full["num_candidates"][:], full["num_exposed"][:], full["user"][:] = 6, 2, 1
    entities = [
        Entities(
            np.zeros((n, 0), np.float32), np.zeros((n, 0), np.int32), np.zeros((n, 0)), np.zeros(n, bool)
        )
        for n in (5, items)
    ]
    return Split("train", schema, full | columns, *entities)


def gapped(rows: int, seed: int) -> Split:
    """The two exposed candidates are those whose scores are lowest; the level varies by request."""
    rng = np.random.default_rng(seed)
    score = np.sort(rng.random((rows, 6)) + 10 * rng.random((rows, 1)), axis=1)
    place = rng.permuted(np.tile(np.arange(6), (rows, 1)), axis=1)
    standing = np.arange(6) / 6
    shuffled = np.stack([np.take_along_axis(score, place, 1), standing[place]], axis=2).astype(np.float32)
    exposed = np.argsort(place, axis=1)[:, :2].astype(np.int32)
    columns = {
        "candidate_numeric": shuffled,
        "exposed": exposed,
        "feedback": np.ones((rows, 2, 1), np.float32),
    }
    return split(rows, columns, ("score", "score_rank"))


def test_geometry_learns_what_the_standing_gives_away() -> None:
    ranker = geometry.fit(gapped(400, 0), [1.0])
    batch = gapped(200, 1).batch(slice(None))
    best = ranker.score(batch).topk(2, dim=1).indices.sort(dim=1).values
    assert torch.equal(best, batch.exposed_BE.sort(dim=1).values)


def test_geometry_reads_score_columns_only_and_hides_unreal_candidates() -> None:
    data = gapped(100, 0)
    doubled = np.repeat(data.columns["candidate_numeric"], 2, axis=2)
    names = ("price", "score", "score_rank", "distance")
    wider = split(100, data.columns | {"candidate_numeric": doubled}, names)
    assert geometry.score_columns(wider) == [1, 2]
    data.columns["num_candidates"][:50] = 4
    data.columns["exposed"][:50] %= 4
    score_BN = geometry.fit(data, [1.0]).score(data.batch(slice(0, 60)))
    assert torch.isneginf(score_BN[:50, 4:]).all()
    assert torch.isfinite(score_BN[50:]).all()


def test_geometry_needs_scores_and_two_kinds_of_labels() -> None:
    with pytest.raises(DataError, match="candidate_scores"):
        geometry.fit(split(3, {}, ("price",)), [1.0])
    with pytest.raises(DataError, match="labels"):
        geometry.fit(split(3, {}), [1.0])


def test_cooccurrence_by_hand() -> None:
    """Lists (exposed and history before): {1,2,3}, {1,2}, {4,5}; scores are against the history's end."""
    train = split(3, {
        "candidates": np.array([[1, 2, 9, 9, 9, 9], [1, 2, 9, 9, 9, 9], [4, 5, 9, 9, 9, 9]], np.int32),
        "exposed": np.array([[0, 1]] * 3, np.int32),
        "history": np.array([[3, 0, 0, 0], [0] * 4, [0] * 4], np.int32),
        "num_history": np.array([1, 0, 0], np.int32),
    })  # fmt: skip
    ranker = cooccurrence.fit(train, last=2)
    cosine = ranker.cosine.toarray()
    assert cosine[1, 2] == pytest.approx(1.0)
    assert cosine[1, 3] == pytest.approx(1 / np.sqrt(2))
    assert cosine[1, 4] == 0
    assert cosine[4, 5] == pytest.approx(1.0)
    test = split(2, {
        "candidates": np.array([[2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6]], np.int32),
        "num_candidates": np.array([6, 5], np.int32),
        "history": np.array([[4, 5, 1, 0], [0] * 4], np.int32),
        "num_history": np.array([3, 0], np.int32),
    }).batch(slice(None))  # fmt: skip
    score_BN = ranker.score(test)
    expected = [1.0, 1 / np.sqrt(2), 1.0, 1.0, 0.0, 0.0]  # history's last two: 5 and 1, not 4
    np.testing.assert_allclose(score_BN[0].numpy(), expected, rtol=1e-6)
    assert score_BN[1].tolist() == [0.0] * 5 + [-np.inf]


def test_cooccurrence_is_the_same_however_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    data = split(50, {
        "candidates": np.stack([rng.permutation(19)[:6] + 1 for _ in range(50)]).astype(np.int32),
        "exposed": np.tile(np.array([[0, 1]], np.int32), (50, 1)),
        "history": rng.integers(1, 20, (50, 4)).astype(np.int32), "num_history": np.full(50, 4, np.int32),
    })  # fmt: skip
    whole = cooccurrence.fit(data).score(data.batch(slice(None)))
    monkeypatch.setattr(cooccurrence, "CHUNK", 7)
    monkeypatch.setattr(cooccurrence, "CELLS", 60)
    again = cooccurrence.fit(data).score(data.batch(slice(None)))
    np.testing.assert_allclose(again.numpy(), whole.numpy(), rtol=1e-5)
