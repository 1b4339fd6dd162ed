"""The documentation names what there is, and nothing else: plug-ins, verbs, options, files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from slatewise.cli import build_app
from slatewise.names import available
from slatewise.recipe import read_recipe

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
ROOMS = (
    "methods",
    "data.datasets",
    "protocols",
    "rewards",
    "decoding",
    "groups",
    "metrics",
    "export.backends",
)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("room", ROOMS)
def test_the_readme_names_every_plugin(room: str) -> None:
    text = (ROOT / "README.md").read_text()
    assert [name for name in available(room) if f"`{name}`" not in text] == []


def test_every_method_has_its_row_in_papers() -> None:
    text = (ROOT / "docs" / "papers.md").read_text()
    assert [name for name in available("methods") if f"| `{name}` |" not in text] == []


def commands(path: Path) -> list[list[str]]:
    """Command lines of a page's shell blocks that begin with ``slatewise``."""
    blocks = re.findall(r"```(?:sh|bash)?\n(.*?)```", path.read_text(), re.S)
    lines = [line.split("#")[0] for block in blocks for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("slatewise ")]


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_commands_have_verbs_and_options_that_exist(path: Path) -> None:
    group: Any = typer.main.get_command(build_app())
    for _, verb, *rest in commands(path):
        assert verb in group.commands, f"{verb} in {path}"
        command = group.commands[verb]
        if hasattr(command, "commands"):  # a noun with verbs of its own
            assert rest[0] in command.commands, f"{verb} {rest[0]} in {path}"
            command = command.commands[rest[0]]
        known = {option for parameter in command.params for option in parameter.opts}
        unknown = [word for word in rest if word.startswith("--") and word not in known]
        assert not unknown, f"slatewise {verb} has no {unknown} ({path})"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text())
    dead = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert not dead


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_recipes_that_pages_name_are_there(path: Path) -> None:
    named = set(re.findall(r"recipes/[\w/-]+\.toml", path.read_text()))
    assert [recipe for recipe in named if not (ROOT / recipe).exists()] == []


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").rglob("*.toml")), ids=name_of)
def test_every_recipe_reads(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.title
    assert recipe.seeds
