"""Lines of JSON events, decoded into typed records, a block at a time; a bad line is named by its number.

The form is the one ranking services such as Metarank take in (docs.metarank.ai/reference/event-schema):
``item`` and ``user`` events carry features, a ``ranking`` event the shown list, an ``interaction`` event what
was done with an item of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from slatewise.data.log_files import UNPACK_ERRORS, open_packed
from slatewise.errors import DataError

BLOCK = 1 << 22  # bytes decoded together: small enough that the records stay near, large enough for polars

Text = str | int  # an id; a number is read as the string of its digits


class Field(msgspec.Struct, gc=False):
    """One feature: a number, boolean, string, or list of them."""

    name: str
    value: Any = None


class RankedItem(msgspec.Struct, gc=False):
    """One item of a ranking; ``relevancy`` is the stage before's score, ``label`` an explicit judgement."""

    id: Text
    fields: list[Field] | None = None
    relevancy: float | None = None
    label: float | None = None


class _Event(msgspec.Struct, tag_field="event", gc=False):
    timestamp: str | int | float


class ItemEvent(_Event, tag="item"):
    """What is known of an item from now on."""

    item: Text
    fields: list[Field] | None = None


class UserEvent(_Event, tag="user"):
    """What is known of a user from now on."""

    user: Text
    fields: list[Field] | None = None


class RankingEvent(_Event, tag="ranking"):
    """The list that was shown, in its order."""

    id: Text
    items: list[RankedItem]
    user: Text | None = None
    session: Text | None = None
    fields: list[Field] | None = None


class InteractionEvent(_Event, tag="interaction"):
    """What a user did with an item, and in which ranking, if in any."""

    type: str
    item: Text
    ranking: Text | None = None
    user: Text | None = None
    session: Text | None = None
    fields: list[Field] | None = None


Event = ItemEvent | UserEvent | RankingEvent | InteractionEvent


class Block(msgspec.Struct):
    """Some lines' events, the number of each one's line (from 1), and how many lines were left out."""

    events: list[Event]
    lines: list[int]
    bad: int = 0


def read_blocks(path: Path, *, skip_bad: bool) -> Iterator[Block]:
    """Decode a file of events.

    Raises:
        DataError: the file cannot be read, or a line is no event and ``skip_bad`` is False.
    """
    decoder = msgspec.json.Decoder(Event)
    number = 1
    for raw in _whole_lines(path):
        lines = raw.split(b"\n")
        yield _decode(decoder, lines, number, path, skip_bad)
        number += len(lines)


def _decode(
    decoder: msgspec.json.Decoder[Event], lines: list[bytes], start: int, path: Path, skip_bad: bool
) -> Block:
    decode = decoder.decode
    block = Block([], [])
    for number, line in enumerate(lines, start):
        try:
            event = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if not line.strip():
                continue
            if not skip_bad:
                raise bad_line(path, number, str(error)) from None
            block.bad += 1
        else:
            block.events.append(event)
            block.lines.append(number)
    return block


def bad_line(path: Path, number: int, what: str) -> DataError:
    """The error that names a line."""
    rule = "every line must be one item, user, ranking or interaction event"
    return DataError(
        f'{path}, line {number}: {what.rstrip(".")}; {rule} (bad_lines = "skip" leaves such lines out).'
    )


def _whole_lines(path: Path) -> Iterator[bytes]:
    """The file in blocks that end where a line does, without that line's end."""
    rest = b""
    try:
        with open_packed(path) as file:
            while block := file.read(BLOCK):
                whole, cut, tail = (rest + block).rpartition(b"\n")
                rest = tail
                if cut:
                    yield whole
    except UNPACK_ERRORS as error:
        raise DataError(
            f"{path} cannot be read: {str(error).strip().rstrip('.') or type(error).__name__}."
        ) from None
    if rest:
        yield rest
