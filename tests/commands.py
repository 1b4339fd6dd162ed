"""The command line, called in this process: torch is loaded once."""

from __future__ import annotations

import sys

import pytest

from slatewise.cli import main


def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    """``slatewise ARGUMENTS``: its exit code, and what it wrote to stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["slatewise", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err
