"""A ranker into an artifact: written in every form that is asked for, each seen to rank as the ranker itself does."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np

import slatewise
from slatewise.config import fingerprint, replace, to_plain
from slatewise.data.batch import ListBatch
from slatewise.data.prepared import PreparedData
from slatewise.errors import ConfigError, RunError
from slatewise.evaluation.provenance import source_commit
from slatewise.export.agreement import compare, compare_ruled
from slatewise.export.artifact import MANIFEST, Artifact, ArtifactManifest, Built, digest_of
from slatewise.export.backends import Backend, golden_lists
from slatewise.export.feed import Limits, inputs_of
from slatewise.export.gate import Gate, Worth, check_exact, check_gate, true_value
from slatewise.export.graph import Graph, Traced, reads, trace
from slatewise.export.made_up import kinds, made_up
from slatewise.files import new_folder
from slatewise.names import plugin, public_name
from slatewise.ranker import Ranker
from slatewise.tensors import digest

BATCH = 32  # held-out requests ranked at once
TRACED = 3  # requests of the batch that is traced: an axis of 1 would be taken for one that is always 1
PACKAGES = ("torch", "numpy", "polars", "onnx", "onnxscript", "onnxruntime")
DEFAULT = ("onnxruntime",)


@dataclass(frozen=True)
class Wanted:
    """One form of the ranker that is to be written: what it is called, its backend, and whether its lists are the same."""

    name: str
    module: ModuleType
    config: Any
    exact: bool = True


def export(
    run: Path | str | Ranker,
    out: Path | str,
    *,
    backends: Sequence[str] = DEFAULT,
    int8: bool = False,
    data: PreparedData | None = None,
    split: str = "test",
    requests: int = 256,
    max_candidates: int = 1024,
    gate: Gate | None = None,
    worth: Worth | None = None,
    progress: Callable[[str], object] = lambda what: None,
) -> Artifact:
    """Write a ranker as an artifact, which appears whole or not at all.

    Every form must give the list of the ranker itself to the golden requests, to made-up ones (short, alone, of one candidate, wider
    than any before, without history), and to held-out ones where there is data.

    Args:
        run: a run folder, a ranker's folder, or a ranker.   out: the artifact's folder.
        backends: the first is the artifact's default; ``eager`` is always among them.
        int8: also weights of 8 bits, whose lists may differ as far as the ``gate`` allows; needs ``data``.
        data: what the ranker was trained on.   split, requests: which of its requests, and how many at most, spread over it.
        max_candidates: N at most.
        worth: what lists are worth, for the gate; by default the true value where the data knows one.
        progress: is told what is being done.

    Raises:
        ConfigError: an unknown backend, or limits that cannot be.
        DataError: ``out`` is there already, or there is no such split.
        RunError: ``run`` is none, or was trained on other data.
        ExportError: the ranker cannot be a graph, something is not installed, or a form ranks otherwise than the ranker.
    """
    forms = _forms(backends, int8, data)
    ranker = run if isinstance(run, Ranker) else Ranker.load(run)
    held_out = [] if data is None else list(_held_out(ranker, data, split, requests))
    if worth is None and data is not None:
        worth = true_value(data)
    with new_folder(Path(out)) as folder:
        ranker.save(folder)
        own = Ranker.load(folder)  # on the CPU, and checked on its golden requests
        artifact = _draft(own, folder, max_candidates)
        progress("tracing the ranking")
        written = any(hasattr(form.module, "write") for form in forms)
        traced = _traced(own, artifact) if written else []
        built = []
        for form in forms:
            progress(f"writing and comparing {form.name}")
            built.append(_build(form, own, artifact, traced, held_out, gate or Gate(), worth))
        files = {str(path.relative_to(folder)): digest_of(path) for path in _files(folder)}
        manifest = replace(artifact.manifest, backends=tuple(built), files=files)
        (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    return Artifact.open(out)


def _forms(backends: Sequence[str], int8: bool, data: PreparedData | None) -> list[Wanted]:
    """What to write, seen to be possible on this machine."""
    forms = []
    for name in dict.fromkeys([*map(public_name, backends), "eager"]):
        module = plugin("export.backends", name)
        forms.append(Wanted(name, module, module.Config()))
    if int8:
        if data is None:
            raise ConfigError(
                "int8 changes numbers, so it is held against the ranker on held-out requests; give the data, too."
            )
        module = plugin("export.backends", "onnxruntime")
        forms.append(Wanted("onnxruntime int8", module, module.Config(precision="int8"), exact=False))
    for form in forms:
        if hasattr(form.module, "require"):
            form.module.require()
    return forms


def _held_out(
    ranker: Ranker, data: PreparedData, split: str, requests: int
) -> Iterator[tuple[str, ListBatch]]:
    if ranker.card.manifest.fingerprint != data.manifest.fingerprint:
        raise RunError(
            f"the ranker was trained on other data than {data.path}; compare it on the data it was trained on."
        )
    if requests < 1:
        raise ConfigError(f"requests is {requests}, but a comparison needs at least 1.")
    chosen = data.split(split)
    rows = np.unique(np.linspace(0, len(chosen) - 1, requests).astype(np.int64))
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        yield f"of the {split} split's rows {part[0]} to {part[-1]}", chosen.batch(part)


def _draft(ranker: Ranker, folder: Path, max_candidates: int) -> Artifact:
    """The artifact before anything but the ranker is written."""
    card, schema, length = ranker.card, ranker.transform.schema(), ranker.length
    form = ranker.policy.form
    # one more than the list is long: with just as many, torch would trace another graph
    fewest = max(length, form.fewest) + 1
    widest = min(max_candidates, form.most or max_candidates)
    if widest < max(schema.candidates, fewest + 1):
        raise ConfigError(
            f"at most {widest} candidates are asked for or possible, but the requests of '{ranker.name}' have "
            f"{schema.candidates} and its lists need {fewest + 1}; allow more with max_candidates"
            + (f", up to {form.most}." if form.most else ".")
        )
    limits = Limits(candidates=widest, fewest=fewest, length=length, history=schema.history)
    example = made_up(ranker.transform, TRACED, fewest + 1)
    weights = digest(ranker.policy.state_dict())
    options = card.manifest.source.get("protocol_options", {})
    manifest = ArtifactManifest(
        model=f"{card.method}-{fingerprint(card.config, weights)}",
        method=card.method,
        config=card.config,
        seed=card.seed,
        version=slatewise.__version__,
        commit=source_commit(),
        versions=_versions(),
        data=card.manifest.fingerprint,
        protocol=card.manifest.protocol,
        target=card.manifest.target,
        schema=card.manifest.schema,
        limits=limits,
        inputs=reads(ranker.policy, example, length),
        backends=(),
        files={},
        positive_history=options.get("history_from") == "positive",
        ruled=form.ruled,
    )
    return Artifact(folder, manifest, ranker.transform, ranker.golden)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _traced(ranker: Ranker, artifact: Artifact) -> list[Traced]:
    """The graph, and behind it the one that takes rules."""
    manifest = artifact.manifest
    limits = manifest.limits
    example = made_up(artifact.transform, TRACED, min(limits.fewest + 4, limits.candidates))
    return [
        trace(
            Graph(ranker.policy, inputs_of(example), manifest.inputs, limits.length, ruled).eval(),
            example,
            limits,
            ranker.name,
        )
        for ruled in (False, True)[: 1 + manifest.ruled]
    ]


def _build(
    form: Wanted,
    ranker: Ranker,
    artifact: Artifact,
    traced: Sequence[Traced],
    held_out: list[tuple[str, ListBatch]],
    gate: Gate,
    worth: Worth | None,
) -> Built:
    """Write one form, load it as a server would, and hold it against the ranker."""
    for graph in traced if hasattr(form.module, "write") else ():
        form.module.write(graph, artifact.path, form.config)
    backend: Backend = form.module.load(artifact, form.config)
    batches: Iterable[tuple[str, ListBatch]] = held_out
    if form.exact:
        batches = [*_golden(artifact), *_made_up(artifact), *held_out]
    found = compare(
        ranker.policy, backend, artifact, batches, None if form.exact or not worth else worth.value
    )
    agreement = found.agreement(worth.word if worth else "")
    if form.exact and artifact.manifest.ruled:
        compare_ruled(found, ranker.policy, backend, artifact, _made_up(artifact))
    if form.exact:
        check_exact(form.name, found)
    else:
        check_gate(form.name, agreement, gate)
    golden = () if artifact.golden is None else golden_lists(backend, artifact, artifact.golden)
    return Built(
        name=form.name,
        backend=public_name(form.module.__name__.rsplit(".", 1)[-1]),
        options=to_plain(form.config),
        files=form.config.files,
        agreement=agreement,
        golden=golden,
    )


def _golden(artifact: Artifact) -> Iterator[tuple[str, ListBatch]]:
    if artifact.golden is not None:
        yield "of the golden requests", artifact.transform.batch(artifact.golden)


def _made_up(artifact: Artifact) -> Iterator[tuple[str, ListBatch]]:
    for kind, batch in kinds(artifact.transform, artifact.manifest.limits):
        yield f"of the made-up ones ({kind})", batch


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
