"""What all commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

PathArgument = click.Path(path_type=Path)
C = TypeVar("C", bound=Callable[..., Any])


def as_json(command: C) -> C:
    """The `--json` switch that every command has."""
    option: Callable[[C], C] = click.option(
        "--json", "as_json_", is_flag=True, help="Print exactly one JSON object to stdout."
    )
    return option(command)
