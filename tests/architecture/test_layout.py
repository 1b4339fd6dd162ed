"""How the house is kept: small files, plug-ins with their room's verb, nothing of one machine in the tree."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from slatewise.config import Frozen
from slatewise.names import available, plugin

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "slatewise"

# What a plug-in of each room exports beside Config.
VERBS = {
    "benchmarks": ("run",),
    "candidates": ("retrieve",),
    "data.datasets": ("load",),
    "decoding": ("decode", "propose"),
    "evaluation.judges": ("build",),
    "export.backends": ("load",),
    "generators": ("build",),
    "groups": ("build",),
    "methods": ("fit",),
    "metrics": ("compute",),
    "policies": ("build",),
    "protocols": ("build",),
    "rewards": ("build",),
    "serving.features": ("connect",),
    "simulators": ("create",),
}
SETTINGS_ONLY = {"evaluation"}  # has a Config in a file that is no plug-in
PLUGINS = [(room, name) for room in VERBS for name in available(room)]


@pytest.mark.parametrize(("room", "name"), PLUGINS, ids=lambda part: part)
def test_a_plugin_has_a_config_and_its_rooms_verb(room: str, name: str) -> None:
    module = plugin(room, name)
    assert issubclass(module.Config, Frozen)
    assert module.__doc__
    assert module.Config.__doc__
    for verb in VERBS[room]:
        assert callable(getattr(module, verb, None)), f"{module.__name__} has no {verb}()"


def test_every_room_with_plugins_is_under_law() -> None:
    packages = [path.parent for path in SOURCE.rglob("__init__.py") if path.parent != SOURCE]
    rooms = {".".join(path.relative_to(SOURCE).parts) for path in packages}
    assert {room for room in rooms if available(room)} - SETTINGS_ONLY == set(VERBS)


def test_losses_are_functions_called_loss() -> None:
    for path in (SOURCE / "losses").glob("[!_]*.py"):
        module = importlib.import_module(f"slatewise.losses.{path.stem}")
        assert callable(module.loss), path


def test_a_verb_of_the_command_line_is_a_file_with_a_command() -> None:
    for path in (SOURCE / "cli").rglob("[!_]*.py"):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        assert importlib.import_module(f"slatewise.{name}").command.__doc__, path


def test_no_file_is_long() -> None:
    long = {
        path.name: lines
        for path in SOURCE.rglob("*.py")
        if (lines := len(path.read_text().split("\n"))) > 400
    }
    assert not long


# Spelled in pieces, so that this file does not match itself.
FORBIDDEN = {
    "a package registry's host": "|".join(["py" + "pi", "pythonhosted" + r"\.org", "anaconda" + r"\.org"]),
    "an absolute path of a machine": r"(^|[^A-Za-z0-9_./~])/("
    + "home|Users|work|root|tmp|mnt"
    + r")/[A-Za-z0-9_.]",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_of_one_machine_is_in_the_tree(what: str) -> None:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout; only tracked files are looked at.")
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    pattern = re.compile(FORBIDDEN[what])
    found = [f"{name}:{number}" for name in filter(None, names) for number in _lines(ROOT / name, pattern)]
    assert not found, f"{what} stands in: {', '.join(found)}"


def _lines(path: Path, pattern: re.Pattern[str]) -> list[int]:
    try:
        lines = path.read_text().split("\n")
    except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
        return []
    return [number for number, line in enumerate(lines, 1) if pattern.search(line)]


def test_the_pattern_finds_what_it_should() -> None:
    path = re.compile(FORBIDDEN["an absolute path of a machine"])
    assert path.search("open('" + "/ho" + "me/me/x')")
    assert path.search("/ho" + "me/me/x")
    assert not path.search("python/home/x")
    assert not path.search("../" + "work/data")
