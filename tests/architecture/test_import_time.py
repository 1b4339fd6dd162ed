"""``import slatewise`` and ``slatewise --help`` stay light: nothing heavy is loaded before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "polars", "pyarrow", "numpy", "scipy", "sklearn", "implicit", "matplotlib")
SERVERS = (
    *("starlette", "uvicorn", "prometheus_client", "onnx", "onnxruntime", "ray"),
    *("sqlalchemy", "psycopg", "redis"),
)


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after running ``code``."""
    script = f"{code}\nimport sys\nprint(' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    ["import slatewise", "from slatewise.cli import build_app; build_app()", "import slatewise.errors"],
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    assert not loaded_by(code) & {*HEAVY, *SERVERS}


def test_the_api_loads_what_it_needs_and_no_server() -> None:
    loaded = loaded_by("import slatewise; slatewise.fit; slatewise.evaluate; slatewise.Ranker")
    assert {"torch", "polars"} <= loaded
    assert not loaded & {*SERVERS, "matplotlib"}


def test_every_public_name_is_there() -> None:
    import slatewise

    assert all(hasattr(slatewise, name) for name in slatewise.__all__)
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        slatewise.fitt  # noqa: B018
