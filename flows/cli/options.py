"""Make the parameters of a command from its options."""

from __future__ import annotations

from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import click

from flows.commands import Command
from flows.options import has_mark, marks, sentence
from schemas.options import Argument, ModelReference, OffSwitch, ReleaseReference

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

NO_JSON = ("serve",)
"""Commands that run until they are stopped and print no result."""


def click_parameters(command: Command) -> list[click.Parameter]:
    """Return the arguments and options of a command, the arguments first."""
    fields = command.model.model_fields
    made = [click_parameter(name, field) for name, field in fields.items()]
    made.sort(key=lambda parameter: not isinstance(parameter, click.Argument))
    if command.name not in NO_JSON:
        text = "Print exactly one JSON object to stdout."
        made.append(click.Option(["--json", "as_json"], is_flag=True, help=text))
    return made


def click_parameter(name: str, field: FieldInfo) -> click.Parameter:
    """Return the parameter of one option."""
    kind, several = value_type(field)
    argument = next((mark for mark in marks(field) if isinstance(mark, Argument)), None)
    if argument:
        metavar = argument.metavar or name.upper()
        return click.Argument([name], type=kind, required=field.is_required(), metavar=metavar)
    off = next((mark for mark in marks(field) if isinstance(mark, OffSwitch)), None)
    if off:
        flag: dict[str, Any] = {"is_flag": True, "flag_value": False, "default": True}
        return click.Option([off.flag, name], help=sentence(off.help), **flag)
    required = field.is_required()
    default = None if required or several else field.default
    is_flag = kind is click.BOOL
    return click.Option(
        [f"--{(field.alias or name).replace('_', '-')}", name],
        type=None if is_flag else kind,
        is_flag=is_flag,
        multiple=several,
        required=required,
        default=default,
        show_default=default is not None and not is_flag,
        help=sentence(field.description or ""),
    )


def value_type(field: FieldInfo) -> tuple[click.ParamType[Any], bool]:
    """Return the type of a value of the option, and whether the option may be repeated."""
    annotation, several = _plain_type(field.annotation)
    if get_origin(annotation) is Literal:
        return click.Choice(get_args(annotation)), several
    if annotation is Path:
        return (_ReleasePath() if has_mark(field, ReleaseReference) else click.Path(path_type=Path)), several
    if annotation in (int, float):
        return _number_type(annotation, field), several
    if annotation is bool:
        return click.BOOL, several
    return (_Model() if has_mark(field, ModelReference) else click.STRING), several


def _plain_type(annotation: Any) -> tuple[Any, bool]:
    """Return the type without `None` and marks, and whether it is that of a list."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        (kept,) = [part for part in parts if part is not type(None)]
        return _plain_type(kept)
    if origin is tuple:
        return _plain_type(parts[0])[0], True
    return _plain_type(parts[0]) if origin is Annotated else (annotation, False)


def _number_type(kind: type[int] | type[float], field: FieldInfo) -> click.ParamType[Any]:
    limits: dict[str, Any] = {}
    for limit in field.metadata:
        for bound in ("ge", "gt", "le", "lt"):
            if (value := getattr(limit, bound, None)) is not None:
                limits["min" if bound[0] == "g" else "max"] = value
                limits["min_open" if bound[0] == "g" else "max_open"] = bound[1] == "t"
    if not limits:
        return click.INT if kind is int else click.FLOAT
    return click.IntRange(**limits) if kind is int else click.FloatRange(**limits)


class _ReleasePath(click.Path):
    """A path or a published release."""

    name = "release"

    def __init__(self) -> None:
        super().__init__(path_type=Path)
        self.name = "release"


class _Model(click.types.StringParamType):
    """The name of a model."""

    name = "model"
