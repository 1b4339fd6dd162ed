"""A policy's whole ranking as one graph: features of a batch in; list, mask, log-probability and first scores out.

The greedy loop is unrolled while it is traced, so its L cached steps stand in the graph one behind the other. The axes B
and N stay open. Only what the policy reads of a batch goes in.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from slatewise.data.batch import ListBatch
from slatewise.decoding.ruled import Rules
from slatewise.errors import ExportError
from slatewise.export.feed import Input, Limits, inputs_of
from slatewise.policies import Policy

OUTPUTS = ("order_BL", "mask_BL", "log_prob_B", "score_BN")  # of slatewise.types.Answer


RULE_NAMES = ("allowed_BLN", "group_BRN", "most_BR", "window_BR")  # of slatewise.decoding.ruled.Rules
COUNTED = 4  # rules of a request that count groups, at most


def rule_inputs(length: int) -> tuple[Input, ...]:
    """What a graph takes beside the batch to write lists of ``length`` under rules."""
    shapes: tuple[tuple[int | str, ...], ...] = (
        ("B", length, "N"),
        ("B", COUNTED, "N"),
        ("B", COUNTED),
        ("B", COUNTED),
    )
    kinds = ("bool", "int64", "int64", "int64")
    return tuple(
        Input(name=name, dtype=kind, shape=shape)
        for name, kind, shape in zip(RULE_NAMES, kinds, shapes, strict=True)
    )


class Graph(nn.Module):
    """The answer of a policy as a function of plain tensors.

    Fields of a batch that the policy does not read are zeros made inside; nothing of them is left in a traced graph.

    Args:
        everything: all fields of a batch.   read: those of them that are given, in this order; ``mask_BN`` among them.
        ruled: behind them come :func:`rule_inputs`.
    """

    def __init__(
        self,
        policy: Policy,
        everything: Sequence[Input],
        read: Sequence[Input],
        length: int,
        ruled: bool = False,
    ) -> None:
        super().__init__()
        self.policy, self.length, self.ruled = policy, length, ruled
        self.read = (*read, *(rule_inputs(length) if ruled else ()))
        names = {field.name for field in read}
        self.unread = tuple(field for field in everything if field.name not in names)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The inputs in the order of ``read``; gives what :data:`OUTPUTS` names."""
        given = {field.name: tensor for field, tensor in zip(self.read, tensors, strict=True)}
        mask_BN = given["mask_BN"]
        b, n = mask_BN.shape
        for field in self.unread:
            shape = [b if axis == "B" else n if axis == "N" else int(axis) for axis in field.shape]
            given[field.name] = mask_BN.new_zeros(shape, dtype=getattr(torch, field.dtype))
        rules = Rules(*(given.pop(name) for name in RULE_NAMES)) if self.ruled else None
        batch = ListBatch(**given)
        if rules is None:
            answer = self.policy.answer(batch, self.length)
        else:
            answer = self.policy.answer_ruled(batch, self.length, rules)
        return answer.order_BL, answer.mask_BL, answer.log_prob_B, answer.score_BN


class _Reads(TorchDispatchMode):
    """Notes which of the given tensors any operation takes."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names, self.seen = {id(tensor): name for name, tensor in tensors.items()}, set[str]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        taken = tree_iter((args, kwargs or {}))
        self.seen.update(self.names[id(part)] for part in taken if id(part) in self.names)
        return func(*args, **(kwargs or {}))


def reads(policy: Policy, batch: ListBatch, length: int) -> tuple[Input, ...]:
    """The fields of a batch that the policy's answer depends on; one of width 0 is none."""
    everything = inputs_of(batch)
    tensors = {field.name: getattr(batch, field.name) for field in everything if 0 not in field.shape}
    with _Reads(tensors) as watching:
        policy.answer(batch, length)
    return tuple(field for field in everything if field.name in watching.seen | {"mask_BN"})


@dataclass(frozen=True)
class Traced:
    """A graph that was traced, for backends to write in their own form."""

    program: torch.export.ExportedProgram
    inputs: tuple[Input, ...]
    ruled: bool = False


def open_rules(batch: ListBatch, length: int) -> Rules:
    """Rules that forbid nothing."""
    b, n = batch.mask_BN.shape
    counts_BR = torch.full((b, COUNTED), length)
    group_BRN = torch.zeros(b, COUNTED, n, dtype=torch.long)
    return Rules(
        batch.mask_BN[:, None].expand(-1, length, -1).clone(), group_BRN, counts_BR, counts_BR.clone()
    )


def trace(graph: Graph, batch: ListBatch, limits: Limits, called: str) -> Traced:
    """Trace the graph with open axes.

    Args:
        batch: an example, within the limits and with more than one request: torch takes an axis of 1 for one that
            is always 1.
        called: what the error calls the ranker.

    Raises:
        ExportError: what the policy does depends on values, or it cannot be traced for another reason.
    """
    advice = "Export it with --backend eager, which serves the ranker as it is."
    if graph.policy.form.obstacle:
        raise ExportError(
            f"'{called}' cannot be written as one graph: {graph.policy.form.obstacle}. {advice}"
        )
    axes = {
        "B": torch.export.Dim("B", min=1),
        "N": torch.export.Dim("N", min=limits.fewest, max=limits.candidates),
    }
    shapes = [
        {place: axes[str(axis)] for place, axis in enumerate(field.shape) if axis in axes}
        for field in graph.read
    ]
    rules = open_rules(batch, limits.length)
    given = [rules if field.name in RULE_NAMES else batch for field in graph.read]
    tensors = tuple(getattr(source, field.name) for source, field in zip(given, graph.read, strict=True))
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(graph, tensors, dynamic_shapes=(tuple(shapes),), strict=False)
    except Exception as error:  # torch says in many types of error that it cannot
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ExportError(f"'{called}' cannot be written as one graph: {reason}. {advice}") from error
    return Traced(program, graph.read, graph.ruled)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the remarks that torch's exporters make on their own workings."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
