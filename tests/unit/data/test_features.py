"""The transform: what a column becomes, and that serving sees exactly what training saw."""

from dataclasses import fields

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sample_logs import item_table, random_requests, user_table
from slatewise.data.columns import FeatureSet
from slatewise.data.entities import EntityFeatures, entity_vectors
from slatewise.data.features import FeatureTransform
from slatewise.data.geometry import score_geometry
from slatewise.data.vocab import Vocab
from slatewise.errors import DataError


def _fit(requests, users=None, items=None, **widths):
    widths = {"length": 3, "exposed_width": 4, "history": 5, "candidates_width": 9} | widths
    return FeatureTransform.fit(requests, users, items, **widths)


def _equal(one, other, skip=()):
    for field in fields(one):
        if field.name not in skip:
            assert torch.equal(getattr(one, field.name), getattr(other, field.name)), field.name


def test_numbers_are_standardised_missing_is_the_mean_and_nan_never_leaks():
    frame = pl.DataFrame({"x": [1.0, 3.0, None, float("nan"), float("inf")], "c": [7.0] * 5})
    features = FeatureSet.fit(frame, ["x", "c"])
    assert features.numeric(frame).tolist() == [[-1, 0], [1, 0], [0, 0], [0, 0], [0, 0]]
    assert features.numeric(pl.DataFrame({"x": [1e9, -1e300], "c": [9.0, 7.0]}))[:, 0].tolist() == [8, -8]
    assert features.numeric(pl.DataFrame({"other": [1]})).tolist() == [[0, 0]]
    assert features.numeric(pl.DataFrame({"x": ["3", "junk"]}))[:, 0].tolist() == [1, 0]


def test_what_each_type_becomes():
    rows = 200
    frame = pl.DataFrame(
        {
            "hour": [row % 24 for row in range(rows)],
            "cents": list(range(rows)),
            "kind": [["a", "b", None][row % 3] for row in range(rows)],
            "on": [row % 2 == 0 for row in range(rows)],
            "title": [f"title {row}" for row in range(rows)],
            "day": pl.Series(range(rows)).cast(pl.Date),
            "tags": [[["x"], ["y", "x"], None, []][row % 4] for row in range(rows)],
            "vector": [[float(row), 1.0] for row in range(rows)],
            "nothing": [None] * rows,
        }
    )
    features = FeatureSet.fit(frame, frame.columns)
    assert features.numeric_names == ("cents", "day", "tags=x", "tags=y", "vector[0]", "vector[1]")
    assert features.category_sizes == (25, 3, 3)  # hour, kind, on; titles say nothing that returns
    assert features.categories(frame)[:3].tolist() == [[1, 1, 2], [2, 2, 1], [3, 0, 2]]
    assert features.categories(pl.DataFrame({"hour": [3.0, 99.0], "on": [True, None]})).tolist() == [
        [4, 0, 2],
        [0, 0, 0],
    ]
    flags = features.numeric(frame)[:4, 2:4]
    assert flags[2].tolist() == [0, 0]  # a missing list is the mean, an empty one is not
    assert (flags[3] < 0).all()
    assert flags[1, 1] > 0 > flags[0, 1]


def test_flags_are_capped_at_the_most_frequent():
    frame = pl.DataFrame({"tags": [[f"t{i}" for i in range(40) if row >= i] for row in range(50)]})
    names = FeatureSet.fit(frame, ["tags"]).numeric_names
    assert len(names) == 32
    assert "tags=t0" in names
    assert "tags=t39" not in names


@pytest.mark.parametrize(
    "series", [pl.Series("s", [{"a": 1}]), pl.Series("s", [b"x"]), pl.Series("s", [[[1]]])]
)
def test_a_type_that_cannot_be_a_feature_is_named(series):
    with pytest.raises(DataError, match="column 's' has type"):
        FeatureSet.fit(series.to_frame(), ["s"])


def test_vectors_of_two_lengths_are_refused():
    with pytest.raises(DataError, match="equally long"):
        FeatureSet.fit(pl.DataFrame({"v": [[1.0], [1.0, 2.0]]}), ["v"])


def test_statistics_come_from_trained_entities_only():
    items = pl.DataFrame({"item_id": [1, 2, 3], "price": [1.0, 3.0, 1000.0], "kind": ["a", "b", "later"]})
    fitted = EntityFeatures.fit("item_id", items, pl.Series([1, 2, 2]), pl.Series([2, 2, 1]))
    assert fitted.trained == 3
    assert len(fitted.vocab) == 4
    assert fitted.table.numeric[:, 0].tolist() == [0, -1, 1, 8]
    assert fitted.table.categories[:, 0].tolist() == [0, 1, 2, 0]
    popularity = fitted.table.numeric[:, 1]
    assert popularity[2] > popularity[1] > popularity[3] == popularity[0]  # 2, 1 and no exposures


def test_ids_outside_training_and_table_are_unknown():
    transform = _fit(random_requests(), user_table(), item_table())
    vocab, schema = transform.items.vocab, transform.schema()
    assert vocab.encode(pl.Series([999])).tolist() == [0]
    assert (
        schema.trained_items <= vocab.encode(pl.Series([44]))[0] < schema.items
    )  # in the table, never offered
    assert schema.trained_items == 41
    assert schema.trained_users == 13
    assert schema.users == 16


def test_geometry_of_a_hand_computed_request():
    out = score_geometry(np.array([[2.0, 6.0, 4.0, 99.0]]), np.array([[True, True, True, False]]))
    std = np.sqrt(8 / 3)
    expected = [
        [-2 / std, 2 / 3, 2 / std, 0],
        [2 / std, 0, 0, 2 / std],
        [0, 1 / 3, 2 / std, 2 / std],
        [0, 0, 0, 0],
    ]
    np.testing.assert_allclose(out[0], expected, rtol=1e-6)


@given(
    st.lists(
        st.sampled_from([-1e300, -2.0, 0.0, 1.0, 1.0 + 1e-12, 3.5, np.nan, np.inf, 1e-300]),
        min_size=1,
        max_size=8,
    ),
    st.randoms(use_true_random=False),
)
def test_geometry_is_finite_and_permutes_with_the_candidates_bit_for_bit(scores, random):
    order = random.sample(range(len(scores)), len(scores))
    score, mask = np.array([scores]), np.ones((1, len(scores)), bool)
    out = score_geometry(score, mask)
    assert np.isfinite(out).all()
    assert (score_geometry(score[:, order], mask) == out[:, order]).all()
    wide = score_geometry(np.pad(score, ((0, 0), (0, 5))), np.pad(mask, ((0, 0), (0, 5))))
    assert (wide[:, : len(scores)] == out).all()
    assert (wide[:, len(scores) :] == 0).all()


def test_one_and_equal_scores_have_no_geometry():
    assert (score_geometry(np.array([[5.0]]), np.ones((1, 1), bool)) == 0).all()
    assert (score_geometry(np.full((1, 7), 0.1), np.ones((1, 7), bool)) == 0).all()


@pytest.mark.parametrize("strings", [False, True])
def test_a_batch_of_one_is_the_row_of_the_batch_of_all(strings):
    requests = random_requests(strings=strings).with_columns(history=pl.col("exposed"))
    transform = _fit(requests, user_table(), item_table(strings=strings))
    together = transform.batch(requests)
    for row in (0, 57, 199):
        _equal(transform.batch(requests[row]), together.take(torch.tensor([row])), skip=("request_B",))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_permuting_candidates_permutes_their_features(seed):
    requests, rng = random_requests(20, seed=seed), np.random.default_rng(seed)
    transform = _fit(requests, user_table(), item_table())
    orders = [rng.permutation(len(one)) for one in requests["candidates"]]
    columns = ("candidates", "candidate_scores", "candidate_price")
    shuffled = requests.with_columns(
        pl.Series(
            name, [np.array(one)[order].tolist() for one, order in zip(requests[name], orders, strict=True)]
        )
        for name in columns
    )
    before, after = transform.batch(requests), transform.batch(shuffled)
    for row, order in enumerate(map(torch.from_numpy, orders)):
        for name in ("candidates_BN", "item_numeric_BNF", "candidate_numeric_BNF", "item_categories_BNC"):
            assert torch.equal(getattr(before, name)[row, order], getattr(after, name)[row, : len(order)])
    shown = [one.candidates_BN.gather(1, one.exposed_BE) * one.exposed_mask_BE for one in (before, after)]
    assert torch.equal(*shown)


def test_exposed_items_are_found_even_where_they_are_unknown():
    transform = _fit(random_requests())
    requests = pl.DataFrame(
        {
            "candidates": [[901, 902, 3], [4]],
            "exposed": [[3, 902, 901], None],
            "feedback_click": [[1.0, 0.0, 1.0], None],
        }
    )
    batch = transform.batch(requests)
    assert batch.exposed_BE[0, :3].tolist() == [2, 1, 0]
    assert batch.exposed_mask_BE.sum(1).tolist() == [3, 0]
    assert batch.feedback_BEK[0, :3, 0].tolist() == [1, 0, 1]
    assert batch.candidates_BN[0, :2].tolist() == [0, 0]


def test_only_candidates_are_needed_at_ranking_time():
    transform = _fit(random_requests(), user_table(), item_table())
    batch = transform.batch(pl.DataFrame({"candidates": [[1, 999], list(range(20))]}))
    assert batch.num_candidates == 20  # wider than any request in training
    assert batch.mask_BN.sum(1).tolist() == [2, 20]
    assert batch.user_B.tolist() == [0, 0]
    assert batch.candidate_numeric_BNF.abs().sum() == 0
    assert batch.context_numeric_BF.abs().sum() == 0
    assert not batch.history_mask_BH.any()
    assert (
        transform.batch(pl.DataFrame({"candidates": [["1", "x"]]})).candidates_BN[0, 0]
        == batch.candidates_BN[0, 0]
    )
    with pytest.raises(DataError, match="20 candidates, but at most 10"):
        transform.batch(pl.DataFrame({"candidates": [list(range(20))]}), width=10)


def test_features_of_new_items_and_users_come_from_the_frames_given():
    users, items = user_table(), item_table()
    transform = _fit(random_requests(), users, items)
    requests = pl.DataFrame({"user_id": ["new"], "candidates": [[5, 777, 778]], "history": [[777, 5]]})
    plain = transform.batch(requests)
    new = items.filter(pl.col("item_id") == 5).with_columns(item_id=pl.lit(777, pl.Int64))
    given = transform.batch(requests, items=new, users=users.head(1).with_columns(user_id=pl.lit("new")))
    columns = len(transform.items.features.numeric_names)
    assert torch.equal(given.item_numeric_BNF[0, 1, :columns], plain.item_numeric_BNF[0, 0, :columns])
    assert torch.equal(given.item_categories_BNC[0, 1], plain.item_categories_BNC[0, 0])
    assert torch.equal(
        given.item_numeric_BNF[0, 1, columns:], plain.item_numeric_BNF[0, 1, columns:]
    )  # popularity
    assert torch.equal(given.history_numeric_BHF[0, 0, :columns], plain.item_numeric_BNF[0, 0, :columns])
    assert torch.equal(given.item_numeric_BNF[0, 0], plain.item_numeric_BNF[0, 0])
    assert torch.equal(given.item_numeric_BNF[0, 2], plain.item_numeric_BNF[0, 2])
    known = transform.batch(pl.DataFrame({"user_id": ["u0"], "candidates": [[1]]}))
    assert torch.equal(given.user_numeric_BF, known.user_numeric_BF)
    assert given.user_B.tolist() == [0]
    _equal(transform.batch(requests, items=items, users=users), plain)  # what was trained on changes nothing


def test_columns_that_a_frame_lacks_stay_as_prepared():
    transform = _fit(random_requests(), None, item_table())
    requests = pl.DataFrame({"candidates": [[5, 6]]})
    dearer = transform.batch(requests, items=pl.DataFrame({"item_id": [5], "price": [1e6]}))
    plain = transform.batch(requests)
    changed = (dearer.item_numeric_BNF != plain.item_numeric_BNF)[0]
    assert changed.nonzero().tolist() == [[0, transform.items.numeric_names.index("price")]]
    assert torch.equal(dearer.item_categories_BNC, plain.item_categories_BNC)


def test_save_and_load_give_the_same_batch(tmp_path):
    requests = random_requests().with_columns(history=pl.col("exposed"))
    transform = _fit(requests, user_table(), item_table())
    transform.save(tmp_path / "transform")
    loaded = FeatureTransform.load(tmp_path / "transform")
    assert loaded.schema(7) == transform.schema(7)
    _equal(loaded.batch(requests), transform.batch(requests))


@pytest.mark.parametrize(
    "name", ["transform.json", "items.json", "items.arrow", "items_ids.arrow", "users.arrow"]
)
def test_a_damaged_transform_is_one_clear_error(tmp_path, name):
    _fit(random_requests(), user_table(), item_table()).save(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="Prepare the data again"):
        FeatureTransform.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match="Prepare the data again"):
        FeatureTransform.load(tmp_path)


def test_data_without_any_feature_has_empty_axes():
    transform = _fit(
        random_requests().select("user_id", "candidates", "exposed", "feedback_click"), history=0
    )
    batch = transform.batch(pl.DataFrame({"user_id": ["u1"], "candidates": [[1, 2]]}))
    assert batch.user_numeric_BF.shape == (1, 0)
    assert batch.candidate_numeric_BNF.shape == (1, 9, 0)
    assert batch.history_BH.shape == (1, 0)
    assert transform.schema().item_numeric == ("log_popularity",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"exposed": [[999]]}, "request 'r0': the exposed item '999' is not among its candidates"),
        ({"feedback_click": [[1.0] * 9]}, "request 'r0': 'feedback_click' has 9 values"),
        ({"candidate_scores": [[1.0]]}, "request 'r0': 'candidate_scores' has 1 values"),
        (
            {
                "candidates": [[1, 2]],
                "candidate_scores": [None],
                "exposed": [[1]],
                "feedback_click": [[1.0]],
                "feedback_watch": [[1.0]],
                "candidate_price": [["a", "b"]],
            },
            "holds lists of strings",
        ),
        ({"candidates": [[]]}, "request 'r0' has no candidates"),
        ({"candidates": [7]}, "must be a list in every row"),
    ],
)
def test_a_bad_request_is_named(change, message):
    requests = random_requests()
    transform = _fit(requests)
    bad = requests.head(1).with_columns(pl.Series(name, values) for name, values in change.items())
    with pytest.raises(DataError, match=message):
        transform.batch(bad)


def test_missing_scores_and_feedback_are_zero():
    requests = random_requests(2, seed=3).head(1)
    nothing = [None] * len(requests["candidates"][0])
    batch = _fit(random_requests()).batch(
        requests.with_columns(
            candidate_scores=pl.Series([nothing], dtype=pl.List(pl.Float64)),
            candidate_price=pl.Series([None], dtype=pl.List(pl.Float64)),
            feedback_click=pl.Series([None], dtype=pl.List(pl.Float64)),
        )
    )
    assert batch.candidate_numeric_BNF.abs().sum() == 0
    assert batch.feedback_BEK[:, :, 0].abs().sum() == 0


def test_two_rows_for_one_item_are_refused():
    with pytest.raises(DataError, match="item_id '1' more than once"):
        _fit(random_requests(), None, pl.DataFrame({"item_id": [1, 1]}))


def test_item_vectors_have_mean_norm_one():
    frame = pl.DataFrame({"item_id": [1, 2, 999], "vector": [[3.0, 4.0], [0.0, 15.0], [1.0, 1.0]]})
    vectors = entity_vectors(Vocab.of(pl.Series([1, 2, 3])), frame)
    np.testing.assert_allclose(vectors, [[0, 0], [0.3, 0.4], [0, 1.5], [0, 0]], rtol=1e-6)
    assert entity_vectors(Vocab.of(pl.Series([1])), None).shape == (2, 0)
    with pytest.raises(DataError, match="equally long"):
        entity_vectors(
            Vocab.of(pl.Series([1])), pl.DataFrame({"item_id": [1, 2], "vector": [[1.0], [1.0, 2.0]]})
        )


def test_organic_items_are_marked_and_are_no_feature(tmp_path):
    items = item_table().with_columns(organic=pl.col("item_id") < 3)
    transform = _fit(random_requests(), None, items)
    assert transform.items.numeric_names == _fit(random_requests(), None, item_table()).items.numeric_names
    codes = transform.items.vocab.encode(pl.Series([0, 1, 2, 3]))
    assert transform.items.table.organic[codes].tolist() == [True, True, True, False]
    assert transform.items.table.organic.sum() == 3
    transform.save(tmp_path)
    loaded = FeatureTransform.load(tmp_path)
    request = pl.DataFrame({"candidates": [[5]], "history": [[2, 999, 3]]})
    assert loaded.batch(request).history_organic_BH.tolist() == [[True, False, False, False, False]]
    new = pl.DataFrame({"item_id": [999, 2], "organic": [True, False]})
    assert loaded.batch(request, items=new).history_organic_BH[0, :3].tolist() == [False, True, False]
    unsaid = loaded.batch(request, items=new.drop("organic").with_columns(price=pl.lit(1.0)))
    assert unsaid.history_organic_BH[0, :3].tolist() == [True, False, False]


@pytest.mark.parametrize("values", [["yes", "no"], [0.5, 1.0], [2, 0]])
def test_a_column_organic_must_be_true_or_false(values):
    with pytest.raises(DataError, match="must be true or false"):
        _fit(random_requests(), None, pl.DataFrame({"item_id": [1, 2], "organic": values}))


def test_times_and_contexts_unknown_at_ranking_are_zero():
    transform = _fit(random_requests(), None, item_table())
    request = pl.DataFrame({"candidates": [[1, 2]], "history": [[3, 4]], "timestamp": ["no time"]})
    batch = transform.batch(request)
    assert batch.time_B.tolist() == [0]
    assert batch.history_time_BH.abs().sum() == batch.history_context_numeric_BHF.abs().sum() == 0
    assert batch.history_context_categories_BHC.sum() == 0
    assert batch.history_context_categories_BHC.shape == (1, 5, 2)
    told = request.with_columns(
        timestamp=pl.lit("2026-03-01"),
        history_timestamp=pl.Series([[1_700_000_000_000, None]]),
        history_context_device=pl.Series([["phone", "car"]]),
    )
    batch = transform.batch(told)
    assert batch.time_B.tolist() == [1772323200]
    assert batch.history_time_BH[0, :2].tolist() == [1_700_000_000, 0]
    assert batch.history_context_categories_BHC[0, :, 1].tolist() == [2, 0, 0, 0, 0]
    with pytest.raises(DataError, match="'history_timestamp' has 1 values for 2 entries of 'history'"):
        transform.batch(told.with_columns(history_timestamp=pl.Series([[1]])))
