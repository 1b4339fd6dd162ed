"""The folder is the registry: a plug-in's public name is its file's name, nothing else has to be kept in step."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from pathlib import Path
from types import ModuleType

from slatewise.errors import ConfigError


def public_name(module_name: str) -> str:
    """File name to public name: ``goalrank_v1`` is written ``goalrank-v1`` on the command line and in recipes."""
    return module_name.replace("_", "-")


def available(room: str) -> list[str]:
    """Public names of the plug-ins in ``slatewise.<room>``, sorted (files that start with ``_`` are private).

    A module is a plug-in if it defines ``Config``; that is looked up in its source, not by importing it.
    """
    package = importlib.import_module(f"slatewise.{room}")
    return sorted(
        public_name(info.name)
        for info in pkgutil.iter_modules(package.__path__)
        if not info.name.startswith("_") and _defines_config(package.__name__, info.name)
    )


def _defines_config(package: str, name: str) -> bool:
    spec = importlib.util.find_spec(f"{package}.{name}")
    if spec is None or spec.origin is None:
        return False
    return "\nclass Config(" in Path(spec.origin).read_text(encoding="utf-8")


def nearest(name: str, allowed: list[str]) -> str:
    """`` Did you mean 'x'?`` for an error sentence, or an empty string where nothing is near."""
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def plugin(room: str, name: str) -> ModuleType:
    """Import the plug-in called ``name`` from ``slatewise.<room>``.

    Raises:
        ConfigError: no such plug-in; the sentence has the nearest name and the list of what there is.
    """
    allowed = available(room)
    if public_name(name) not in allowed:
        what = room.rsplit(".", 1)[-1].rstrip("s")
        raise ConfigError(
            f"unknown {what} '{name}'.{nearest(public_name(name), allowed)} Allowed: {', '.join(allowed)}."
        )
    return importlib.import_module(f"slatewise.{room}.{name.replace('-', '_')}")
