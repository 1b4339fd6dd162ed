"""Typed, closed configs: frozen msgspec structs, read from TOML, changed by ``key=value``, written into every run."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, dataclass_transform, get_args, get_origin

import msgspec

from slatewise.errors import ConfigError
from slatewise.names import nearest

T = TypeVar("T")

# numbers that a config field may have; msgspec says what came and what is allowed
Positive = Annotated[int, msgspec.Meta(ge=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Weight = Annotated[float, msgspec.Meta(ge=0)]
Above0 = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Part = Annotated[float, msgspec.Meta(gt=0, le=1)]  # a share that is not nothing
Chance = Annotated[float, msgspec.Meta(ge=0, lt=1)]


if TYPE_CHECKING:
    # msgspec tells type checkers that structs are mutable unless each says otherwise; configs never are
    @dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
    class _Closed(type): ...

    class Frozen(metaclass=_Closed):
        """Base of every config: immutable, keyword only, and an unknown key is an error."""

else:

    class Frozen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """Base of every config: immutable, keyword only, and an unknown key is an error."""


def build(kind: type[T], values: dict[str, Any], *, where: str = "config") -> T:
    """Turn plain values into the config ``kind``, laid over its defaults table by table.

    A nested config's default may differ from its type's own (PRM's scorer has two encoder layers); changing one key
    of it leaves the others as the outer config has them.

    Raises:
        ConfigError: an unknown key or a value of the wrong type, with the key's path and the nearest allowed key.
    """
    try:
        return msgspec.convert(merge(_defaults(kind), values), kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_explain(kind, str(error))}") from None


def _defaults(kind: type[Any]) -> dict[str, Any]:
    try:
        plain = msgspec.to_builtins(kind())
    except TypeError:  # a field without default: there is nothing to lay the values over
        return {}
    return plain if isinstance(plain, dict) else {}


def _explain(kind: type[Any], message: str) -> str:
    unknown = re.search(r"unknown field `(?P<field>[^`]+)`(?: - at `\$(?P<path>[^`]*)`)?", message)
    if not unknown:
        return message[0].lower() + message[1:] + "."
    field, path = unknown["field"], (unknown["path"] or "").strip(".")
    allowed = _fields_at(kind, path)
    hint = nearest(field, allowed) + (f" Allowed: {', '.join(allowed)}." if allowed else "")
    return f"unknown key '{f'{path}.{field}'.strip('.')}'.{hint}"


def _fields_at(kind: Any, path: str) -> list[str]:
    for part in filter(None, path.split(".")):
        kind = next((f.type for f in msgspec.structs.fields(kind) if f.name == part.split("[")[0]), None)
        if get_origin(kind) in (dict, tuple):
            kind = get_args(kind)[-1 if get_origin(kind) is dict else 0]
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            return []
    return sorted(f.encode_name for f in msgspec.structs.fields(kind))


def replace(config: T, **changes: Any) -> T:
    """The config with some fields changed."""
    changed: T = msgspec.structs.replace(config, **changes)  # type: ignore[type-var]
    return changed


def to_plain(config: Any) -> Any:
    """The config as dicts, lists and scalars, every default spelled out."""
    return msgspec.to_builtins(config)


def fingerprint(*parts: Any) -> str:
    """Twelve hex digits that change when any part (a config, dict, string or number) changes."""
    encoded = msgspec.json.encode([to_plain(part) for part in parts], order="sorted")
    return hashlib.blake2b(encoded, digest_size=6).hexdigest()


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: the file is not there or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise ConfigError(f"{path} is not a TOML file: {error}.") from None


def parse_overrides(settings: list[str]) -> dict[str, Any]:
    """``["reward.epochs=3", "mix=[1, 2]"]`` to ``{"reward": {"epochs": 3}, "mix": [1, 2]}``; values are TOML.

    Raises:
        ConfigError: an entry has no ``=``.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set needs key=value, got '{setting}'.")
        try:
            value = tomllib.loads(f"v = {text}")["v"]
        except tomllib.TOMLDecodeError:
            value = text  # a bare word is a string: --set head=list
        leaf: dict[str, Any] = {key.strip().split(".")[-1]: value}
        for part in reversed(key.strip().split(".")[:-1]):
            leaf = {part: leaf}
        values = merge(values, leaf)
    return values


def merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``change`` laid over it, tables merged key by key, everything else replaced."""
    result = dict(base)
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merge(result[key], value) if both else value
    return result
