"""Prepared data on disk: what is written is what is read, and damage is one clear sentence."""

import shutil

import msgspec
import numpy as np
import pytest
import torch

from sample_logs import item_table, random_requests, user_table
from slatewise.data.log import Log
from slatewise.data.prepared import load_data
from slatewise.data.tables import read_table, write_table
from slatewise.errors import DataError
from slatewise.files import new_folder
from slatewise.protocols import log_v1
from slatewise.protocols.prepare import write_lists


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "prepared"
    log = Log(requests=random_requests(), users=user_table(), items=item_table())
    with new_folder(out) as partial:
        write_lists(
            log_v1.build(log_v1.Config(), log, 0), partial, name="sample", protocol="log-v1", source={}
        )
    return out


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_a_table_reads_back_as_written(tmp_path, rows):
    rng = np.random.default_rng(0)
    columns = {
        "a": rng.random(rows).astype(np.float32),
        "b": rng.integers(0, 9, (rows, 3)).astype(np.int32),
        "c": rng.random((rows, 2, 4)).astype(np.float32),
        "none": np.zeros((rows, 5, 0), np.float32),
    }
    write_table(tmp_path / "t.arrow", columns)
    read = read_table(tmp_path / "t.arrow", {"a": (), "b": (3,), "c": (2, 4), "none": (5, 0)})
    for name, column in columns.items():
        assert read[name].dtype == column.dtype
        assert np.array_equal(read[name], column)


def test_a_column_of_another_version_is_named(tmp_path):
    write_table(tmp_path / "t.arrow", {"a": np.zeros(3, np.float32)})
    with pytest.raises(DataError, match="has no column 'b'"):
        read_table(tmp_path / "t.arrow", {"a": (), "b": ()})


def test_slices_and_index_arrays_give_the_same_batch(folder):
    split = load_data(folder).split("train")
    one, other = split.batch(slice(3, 9)), split.batch(np.arange(3, 9))
    assert all(torch.equal(a, b) for a, b in zip(vars(one).values(), vars(other).values(), strict=True))
    assert one.request_B.tolist() == list(range(3, 9))
    sizes = [batch.size for batch in split.batches(64)]
    assert sizes == [64, 64, len(split) - 128]
    assert len(split.head(5)) == 5


def test_writing_into_a_batch_leaves_the_file_alone(folder):
    split = load_data(folder).split("test")
    split.batch(slice(0, 4)).candidate_numeric_BNF.fill_(99.0)
    split.batch(slice(0, 4)).feedback_BEK.fill_(99.0)
    again = load_data(folder).split("test").batch(slice(0, 4))
    assert again.candidate_numeric_BNF.max() < 99
    assert again.feedback_BEK.max() < 99


@pytest.mark.parametrize("name", ["train.arrow", "items.arrow", "users.arrow", "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "noise"])
def test_damaged_files_are_one_clear_error(copy, name, damage):
    path = copy / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(
            {"empty": b"", "half": content[: len(content) // 2], "noise": b"\x00\xff" * 500}[damage]
        )
    with pytest.raises(DataError, match=r"cannot be read|is not a prepared data set"):
        load_data(copy).split("train")


def test_unknown_split_and_unknown_target_are_named(folder):
    data = load_data(folder)
    with pytest.raises(DataError, match=r"no split 'valid' in .*; allowed: train, validation, test"):
        data.split("valid")
    with pytest.raises(DataError, match="Did you mean 'click'"):
        data.with_target({"clicks": 1.0})
    assert data.with_target({"watch": 2.0}).manifest.target_weights() == [0.0, 2.0]


def test_a_manifest_of_another_version_is_refused(copy):
    manifest = msgspec.json.decode((copy / "manifest.json").read_bytes())
    (copy / "manifest.json").write_bytes(msgspec.json.encode(manifest | {"colour": "red"}))
    with pytest.raises(DataError, match=r"manifest\.json cannot be read"):
        load_data(copy)


def test_a_failed_block_leaves_nothing_behind(tmp_path):
    def fail_half_way():
        with new_folder(tmp_path / "out") as partial:
            (partial / "half").write_text("x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_not_touched(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(DataError, match="already there"), new_folder(tmp_path / "out"):
        pass
    assert (tmp_path / "out" / "mine").read_text() == "x"
