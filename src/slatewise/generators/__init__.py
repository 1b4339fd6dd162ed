"""Generators: sequence policies π(list | user, candidates), as pure modules (decoding lives in :mod:`slatewise.decoding`)."""

from __future__ import annotations

from slatewise.data.schema import Schema
from slatewise.generators.base import Generator, Memory, State
from slatewise.names import plugin

__all__ = ["Generator", "Memory", "State", "build_generator"]


def build_generator(name: str, config: object, schema: Schema) -> Generator:
    """The generator plug-in ``name`` built from its config for data of this schema."""
    generator: Generator = plugin("generators", name).build(config, schema)
    return generator
