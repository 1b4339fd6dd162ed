"""From lists to disk: serving sees exactly the prepared batch, and nothing half-written stays."""

import json
from dataclasses import fields, replace

import numpy as np
import polars as pl
import pytest
import torch
import typer
from typer.testing import CliRunner

from sample_logs import item_table, random_requests, user_table
from slatewise.cli import prepare as verb
from slatewise.data.features import FeatureTransform
from slatewise.data.history import history_columns, request_history
from slatewise.data.log import Log
from slatewise.data.prepared import SPLITS, load_data
from slatewise.errors import ConfigError, DataError
from slatewise.files import new_folder
from slatewise.protocols import log_v1
from slatewise.protocols.prepare import prepare, write_lists


def _lists(requests=None, **options):
    log = Log(
        requests=random_requests() if requests is None else requests,
        users=user_table(),
        items=item_table(),
        truth={"simulator": "none"},
    )
    return log_v1.build(log_v1.Config(**options), log, 0)


def _write(lists, out):
    with new_folder(out) as folder:
        return write_lists(lists, folder, name="sample", protocol="log-v1", source={"seed": 0})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    out = tmp_path_factory.mktemp("prepare") / "data"
    lists = _lists(history=6)
    return lists, _write(lists, out), out


def test_the_served_batch_is_the_prepared_batch(prepared):
    lists, _, out = prepared
    transform, data = FeatureTransform.load(out / "transform"), load_data(out)
    history = request_history(lists.requests, lists.interactions, lists.target, lists.history)
    requests = lists.requests.with_columns(history_columns(history))
    assert requests["history"].list.len().max() == 6
    assert set(requests.columns) >= {"history_feedback", "history_timestamp", "history_context_device"}
    for name in SPLITS:
        split = data.split(name)
        logged = split.batch(slice(None))
        served = transform.batch(requests.filter(split=name))
        for field in fields(logged):
            assert torch.equal(getattr(logged, field.name), getattr(served, field.name)), field.name
        past = logged.history_mask_BH
        assert (logged.history_time_BH < logged.time_B[:, None])[past].all()
        assert logged.history_context_categories_BHC[past].any()
        assert not logged.history_context_categories_BHC[~past].any()
        assert np.array_equal(
            split.columns["propensity"], requests.filter(split=name)["propensity"].cast(pl.Float32)
        )


def test_the_manifest_says_what_there_is(prepared):
    lists, manifest, out = prepared
    data = load_data(out)
    assert data.manifest == manifest
    assert manifest.truth == {"simulator": "none"}
    shown = lists.requests.filter(split="train")["exposed"].list.len().sum()
    counts = {"requests": 200, "training interactions": shown, "train": 140, "validation": 20, "test": 40}
    assert manifest.counts == counts
    assert [len(data.split(name)) for name in SPLITS] == [140, 20, 40]
    schema = data.schema
    assert (schema.candidates, schema.length, schema.exposed, schema.history) == (9, 4, 4, 6)
    assert [(kind.name, kind.binary) for kind in schema.feedback] == [("click", True), ("watch", False)]
    assert schema.candidate_numeric[:2] == ("score", "score_z")
    assert schema.candidate_numeric[-1] == "price"
    assert (
        len(data.items.numeric) == schema.items == len(FeatureTransform.load(out / "transform").items.vocab)
    )
    assert not data.items.numeric[0, :-1].any()
    assert lists.length == 4


def test_labels_and_ids_survive_the_way_to_disk(prepared):
    lists, _, out = prepared
    transform = FeatureTransform.load(out / "transform")
    rows = lists.requests.filter(split="train")
    batch = load_data(out).split("train").batch(slice(None))
    label = batch.label_BN([1.0, 0.0])
    for row in (0, 31, 139):
        request = rows.row(row, named=True)
        clicks = dict(zip(request["exposed"], request["feedback_click"], strict=True))
        offered = transform.items.vocab.decode(batch.candidates_BN[row][batch.mask_BN[row]].numpy()).to_list()
        assert offered == request["candidates"]
        assert label[row][batch.mask_BN[row]].tolist() == [clicks.get(item, 0.0) for item in offered]


def test_no_history_holds_the_present_or_the_future(prepared):
    lists, _, out = prepared
    vocab = FeatureTransform.load(out / "transform").items.vocab
    for name in SPLITS:
        rows = lists.requests.filter(split=name)
        columns = load_data(out).split(name).columns
        for row in range(0, rows.height, 7):
            user, time = rows["user_id"][row], rows["timestamp"][row]
            before = lists.requests.filter((pl.col("user_id") == user) & (pl.col("timestamp") < time))
            seen = before["exposed"].explode().to_list() if before.height else []
            kept = vocab.decode(columns["history"][row][: columns["num_history"][row]]).to_list()
            assert kept == seen[-6:]


def test_training_statistics_do_not_depend_on_the_test_requests(tmp_path):
    requests = random_requests()
    changed = requests.with_columns(
        candidate_scores=pl.when(pl.int_range(200) < 160)
        .then("candidate_scores")
        .otherwise(pl.col("candidate_scores") * 50),
        context_load=pl.when(pl.int_range(200) < 160).then("context_load").otherwise(1e6),
        feedback_click=pl.when(pl.int_range(200) < 160)
        .then("feedback_click")
        .otherwise(pl.col("feedback_click").list.eval(pl.element() * 0.0)),
    )
    for name, one in (("a", requests), ("b", changed)):
        _write(_lists(one), tmp_path / name)
    first, other = (load_data(tmp_path / name).split("train").batch(slice(None)) for name in "ab")
    for field in fields(first):
        assert torch.equal(getattr(first, field.name), getattr(other, field.name)), field.name


def test_only_what_training_requests_saw_counts_as_trained(tmp_path):
    requests = random_requests()
    last = requests["timestamp"].max()
    seen = pl.DataFrame({"user_id": ["u1", "u1"], "item_id": [41, 42], "timestamp": [-1, last - 1]})
    lists = log_v1.build(log_v1.Config(), Log(requests=requests, items=item_table(), interactions=seen), 0)
    late = lists.requests.with_columns(
        user_id=pl.when(pl.int_range(200) == 199).then(pl.lit("u1")).otherwise("user_id")
    )
    _write(type(lists)(**{**vars(lists), "requests": late}), tmp_path / "out")
    data, vocab = (
        load_data(tmp_path / "out"),
        FeatureTransform.load(tmp_path / "out" / "transform").items.vocab,
    )
    early, only_test = vocab.encode(pl.Series([41, 42]))
    assert 0 < early < data.schema.trained_items <= only_test < data.schema.items
    assert only_test in data.split("test").columns["history"][-1]
    assert only_test not in data.split("train").columns["history"]


def test_the_fingerprint_follows_the_data(tmp_path):
    one, same = (_write(_lists(), tmp_path / name).fingerprint for name in ("one", "same"))
    other = _write(_lists(random_requests(seed=1)), tmp_path / "other").fingerprint
    weighed = _write(_lists(target={"click": 2.0}), tmp_path / "weighed").fingerprint
    assert one == same
    assert len({one, other, weighed}) == 3


def test_fewer_candidates_than_the_length(tmp_path):
    requests = random_requests().with_columns(
        pl.col(
            "candidates", "candidate_scores", "candidate_price", "exposed", "feedback_click", "feedback_watch"
        )
    )
    manifest = _write(_lists(requests, length=12), tmp_path / "out")
    assert manifest.schema.length == manifest.schema.exposed == 12 > manifest.schema.candidates
    assert load_data(tmp_path / "out").split("test").batch(slice(None)).feedback_BEK.shape == (40, 12, 2)


def test_without_tables_and_without_features(tmp_path):
    requests = random_requests().select("user_id", "timestamp", "candidates", "exposed", "feedback_click")
    lists = log_v1.build(log_v1.Config(history=0), Log(requests=requests), 0)
    manifest = _write(lists, tmp_path / "out")
    batch = load_data(tmp_path / "out").split("test").batch(slice(0, 5))
    assert manifest.schema.item_numeric == ("log_popularity",)
    assert batch.user_numeric_BF.shape == (5, 0)
    assert batch.history_BH.shape == (5, 0)
    assert batch.candidate_numeric_BNF.shape == (5, 9, 0)


def test_a_parquet_folder_goes_all_the_way(tmp_path):
    random_requests().write_parquet(tmp_path / "requests.parquet")
    item_table().drop("genres").write_parquet(tmp_path / "items.parquet")
    options = {"dataset_options": {}, "protocol_options": {"history": 3}}
    manifest = prepare("parquet", "log-v1", tmp_path, tmp_path / "out", **options)
    assert manifest.protocol == "log-v1"
    assert manifest.source["protocol_options"]["history"] == 3
    assert load_data(tmp_path / "out").schema.history == 3


def test_the_verb_prints_one_object(tmp_path):
    random_requests().write_parquet(tmp_path / "requests.parquet")
    app = typer.Typer()
    app.command()(verb.command)
    arguments = ["parquet", "--source", str(tmp_path), "--protocol", "log-v1", "--set", "history=2"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out"), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["rows"] == [
        {"split": "train", "requests": 140},
        {"split": "validation", "requests": 20},
        {"split": "test", "requests": 40},
    ]
    assert report["schema"]["history"] == 2
    assert report["seconds"] > 0
    table = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "again")])
    assert "140" in table.stdout
    assert "N = 9 candidates, L = 4, H = 2" in table.stdout


@pytest.mark.parametrize(
    ("dataset", "protocol", "options", "message"),
    [
        ("parkuet", None, {}, "Did you mean 'parquet'"),
        ("parquet", "log-v2", {}, "Did you mean 'log-v1'"),
        ("parquet", "log-v1", {"histori": 3}, "unknown key 'histori'. Did you mean 'history'"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(tmp_path, dataset, protocol, options, message):
    with pytest.raises(ConfigError, match=message):
        prepare(dataset, protocol, tmp_path, tmp_path / "out", dataset_options={}, protocol_options=options)
    assert not (tmp_path / "out").exists()


def test_a_failure_half_way_leaves_nothing(tmp_path):
    lists = _lists()
    broken = lists.requests.with_columns(candidate_scores=pl.col("candidate_scores").list.head(1))
    with pytest.raises(DataError, match="'candidate_scores' has 1 values"):
        _write(type(lists)(**{**vars(lists), "requests": broken}), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_split_name_is_refused(tmp_path):
    lists = _lists()
    strange = lists.requests.with_columns(split=pl.lit("dev"))
    with pytest.raises(DataError, match="the split 'dev'; allowed: train, validation, test"):
        _write(type(lists)(**{**vars(lists), "requests": strange}), tmp_path / "out")


def test_the_split_of_the_judges_is_there_where_the_protocol_has_one(prepared, tmp_path):
    lists, manifest, out = prepared
    with pytest.raises(DataError, match="no split 'judges'"):
        load_data(out).split("judges")
    users = lists.requests["user_id"].unique(maintain_order=True)[:3].to_list()
    theirs = pl.col("user_id").is_in(users)
    requests = lists.requests.with_columns(
        split=pl.when(theirs).then(pl.lit("judges")).otherwise(pl.col("split"))
    )
    found = _write(replace(lists, requests=requests), tmp_path / "data")
    assert found.counts["judges"] == requests.filter(theirs).height
    data = load_data(tmp_path / "data")
    assert len(data.split("judges")) == found.counts["judges"]
    assert found.fingerprint != manifest.fingerprint
    trained = data.split("train").columns["user"]
    assert not set(data.split("judges").columns["user"].tolist()) & set(trained.tolist())
