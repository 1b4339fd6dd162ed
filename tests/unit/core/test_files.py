"""Files and folders are whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from slatewise.errors import DataError
from slatewise.files import new_file, new_folder


def break_off(writing, write) -> None:
    """Write something, then fail inside the block."""
    with writing as partial:
        write(partial)
        raise RuntimeError


def test_a_file_takes_its_place_only_when_all_went_well(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        break_off(new_file(path), lambda partial: partial.write_text("half"))
    assert path.read_text() == "old"
    with new_file(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_folder_appears_whole_and_never_replaces_a_full_one(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        break_off(new_folder(tmp_path / "a"), lambda partial: (partial / "one").touch())
    assert list(tmp_path.iterdir()) == []
    with new_folder(tmp_path / "a") as partial:
        (partial / "one").touch()
        assert not (tmp_path / "a").exists()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["one"]
    with pytest.raises(DataError, match="not empty"), new_folder(tmp_path / "a"):
        pass
