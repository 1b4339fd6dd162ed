"""How a result was made: command, commit, machine, versions."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

import slatewise
from slatewise.data.prepared import PreparedData


def made_by(data: PreparedData | None = None, **more: object) -> dict[str, str]:
    """Facts for a report's box: command, commit, machine, versions, the data's counts, and ``more``."""
    facts = {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "slatewise": slatewise.__version__ + (f", commit {commit}" if (commit := source_commit()) else ""),
        "machine": machine(),
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}",
    }
    if data is not None:
        manifest = data.manifest
        facts["data"] = f"{manifest.name} under {manifest.protocol}, fingerprint {manifest.fingerprint}"
        facts["counts"] = ", ".join(f"{name} {count:,}" for name, count in manifest.counts.items())
    return facts | {name.replace("_", " "): str(value) for name, value in more.items()}


def machine() -> str:
    """Processor, cores, torch's threads, and the accelerator if there is one."""
    parts = [_processor(), f"{os.cpu_count()} cores", f"{torch.get_num_threads()} torch threads"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def source_commit() -> str | None:
    """Commit of the working tree that slatewise runs from, with ``+`` if it has changes; None elsewhere."""
    here = Path(slatewise.__file__ or ".").resolve()
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None  # installed, perhaps inside a repository of something else
    commit = _git(here.parent, "rev-parse", "--short=12", "HEAD")
    return (
        None if commit is None else commit + ("+" if _git(here.parent, "status", "--porcelain", ".") else "")
    )


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
