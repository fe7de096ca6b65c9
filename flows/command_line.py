"""What all commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

PathArgument = click.Path(path_type=Path)


class _Release(click.ParamType[Path]):
    """A path, or a published release `org/name@tag`, which is fetched once and then found offline."""

    name = "release"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if isinstance(value, Path) or "@" not in value:
            return Path(value)
        from flows.workspace import open_workspace
        from tasks.release.fetching import HubRef, fetch_release

        return fetch_release(value, open_workspace().hub_cache) if HubRef.of(value) else Path(value)


class _Model(click.ParamType[str]):
    """A model or the name of a judge without one. An address with a password is refused here, before Prefect
    records what a flow was called with."""

    name = "model"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if ":" in value:
            from tasks.models.names import parse_model_name

            parse_model_name(value)
        return str(value)


ReleaseArgument = _Release()
ModelArgument = _Model()
C = TypeVar("C", bound=Callable[..., Any])


def as_json(command: C) -> C:
    """The `--json` switch that every command has."""
    option: Callable[[C], C] = click.option(
        "--json", "as_json_", is_flag=True, help="Print exactly one JSON object to stdout."
    )
    return option(command)
