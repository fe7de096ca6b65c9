"""Commands that run in the process of a test, as `main` runs them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flows.cli import main


def run_here(monkeypatch: pytest.MonkeyPatch, home: Path, *arguments: object) -> int:
    """Run a command and return its exit code. `capsys` has its output."""
    monkeypatch.setenv("COUNTERFOIL_HOME", str(home))
    monkeypatch.setattr(sys, "argv", ["counterfoil", *map(str, arguments)])
    try:
        main()
    except SystemExit as leaving:
        return int(leaving.code or 0)
    return 0
