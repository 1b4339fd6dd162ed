"""Starting a server: one process or several under a parent; the one file that needs uvicorn."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec

from slatewise.errors import ConfigError
from slatewise.export.artifact import Artifact
from slatewise.export.backends import load_backend
from slatewise.serving.features import open_store
from slatewise.serving.keys import Keys
from slatewise.serving.log import open_log
from slatewise.serving.settings import Settings

BACKLOG = 2048
GRACE = 10  # seconds that requests on their way have, when the server is stopped


def run(settings: Settings, host: str, port: int, workers: int) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        ConfigError: the packages of the extra ``serve`` are not installed, or a setting cannot be.
        RunError: an artifact is none, or cannot be loaded here.
        DataError, UnavailableError: the log or the feature store cannot be opened.
    """
    settings.check()
    try:
        import uvicorn

        from slatewise.serving import app
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"serving needs {error.name}; install it with pip install 'slatewise[serve]'."
        ) from None
    _try(settings)
    with tempfile.TemporaryDirectory(prefix="slatewise-") as folder:
        if workers > 1:
            from slatewise.serving.numbers import FOLDER

            os.environ[FOLDER] = folder
        path = Path(folder) / "settings.json"
        path.write_bytes(msgspec.json.encode(settings))
        os.environ[app.SETTINGS] = str(path)
        uvicorn.run(
            "slatewise.serving.app:create",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            backlog=BACKLOG,
            access_log=False,
            log_level="info",
            timeout_graceful_shutdown=GRACE,
            server_header=False,
        )


def _try(settings: Settings) -> None:
    """Open once all that a worker opens: a worker that cannot start has nobody to tell."""
    Keys.load(Path(settings.keys) if settings.keys else None)
    if settings.log:
        open_log(settings.log).close()
    if settings.features:
        open_store(settings.features).close()
    for arm in settings.arms:
        load_backend(Artifact.open(arm.path), settings.backend or None)
