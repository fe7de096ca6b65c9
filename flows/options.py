"""Read the options of a command, and make the parameters of its Prefect flow from them."""

from __future__ import annotations

import functools
import inspect
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union, get_args, get_origin

from annotated_types import BaseMetadata
from pydantic import BeforeValidator, Field, ValidationError

from flows.machine import check_text
from schemas.errors import InputError
from schemas.options import (
    DatasetReference,
    KeyVariableName,
    ModelReference,
    NotInForms,
    Options,
    ReleaseReference,
)
from schemas.places import read_address
from schemas.secrets import JSON_PATTERN, TEXT_PATTERN

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

T = TypeVar("T")
SomeOptions = TypeVar("SomeOptions", bound=Options)


def read_options(model: type[SomeOptions], values: Mapping[str, Any]) -> SomeOptions:
    """Validate the options of a command, and download the published releases that they name.

    Raises:
        InputError: If an option is unknown, invalid or not UTF-8, or a model address contains a password.
    """
    for name, value in values.items():
        for part in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(part, (str, Path)):
                check_text(name, str(part))
    try:
        options = model.model_validate(dict(values))
    except ValidationError as error:
        raise _explain(error, model) from None
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        value = getattr(options, name)
        if name in model.addresses and name not in WRITTEN:
            value = tuple(map(fetch_copy, value)) if isinstance(value, tuple) else fetch_copy(value)
            found[name] = value
        if has_mark(field, ModelReference):
            for model_name in value if isinstance(value, tuple) else (value or "",):
                _check_model(model_name)
        if has_mark(field, DatasetReference):
            found[name] = _fetch_data(value)
        if has_mark(field, ReleaseReference):
            found[name] = tuple(map(_fetch, value)) if isinstance(value, tuple) else _fetch(value)
    return options.model_copy(update=found)


WRITTEN = ("out",)
"""Options that name results. The command uploads them."""


def fetch_copy(place: Any) -> Any:
    """Return the path of a copy of an address of object storage, and any other value unchanged."""
    address = None if place is None else read_address(place)
    if address is None:
        return place
    from flows.workspace import open_workspace
    from tasks.files.remote import fetch_address

    copy = fetch_address(address, open_workspace().cache.parent / "remote")
    return str(copy) if isinstance(place, str) else copy


def _explain(error: ValidationError, model: type[Any]) -> InputError:
    first = error.errors()[0]
    given = str(first["loc"][0]) if first["loc"] else ""
    fields: dict[str, FieldInfo] = model.model_fields
    by_alias = {field.alias: name for name, field in fields.items() if field.alias}
    name = by_alias.get(given, given)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return InputError(f"there is no option {given!r}", hint=f"the options are {', '.join(fields)}")
    hint = sentence(fields[name].description or "") if name in fields else None
    start = f"{name}: " if name else ""
    return InputError(f"{start}{message[:1].lower()}{message[1:]}", hint=hint)


def _check_model(name: str) -> None:
    """Check the name of a model, or of the model of a score such as `rerank:openai:NAME@URL`."""
    if ":" not in name:
        return
    from tasks.models.names import parse_model_name

    try:
        parse_model_name(name)
    except InputError:
        from tasks.relabel.scoring import is_score, model_of  # slow to import

        scoring = model_of(name) if is_score(name) else None
        if scoring is None:
            raise
        parse_model_name(scoring)


def _fetch(place: Path) -> Path:
    if "@" not in str(place):
        return place
    from flows.workspace import open_workspace
    from tasks.publish.fetching import fetch_release
    from tasks.release.references import HubRef

    return fetch_release(str(place), open_workspace().hub_cache) if HubRef.of(str(place)) else place


def _fetch_data(place: Path) -> Path:
    """Download a dataset of the Hub. Return its file if it has only one, or else its folder."""
    if "@" not in str(place):
        if not place.is_absolute() and len(place.parts) == 2 and not place.parent.exists():
            raise InputError(
                f"there is no file {place}",
                hint=f"check the path, or name a revision of a dataset of the Hub: {place}@main",
            )
        return place
    from flows.workspace import open_workspace
    from tasks.files.records import RECORD_FILES
    from tasks.publish.fetching import fetch_dataset
    from tasks.release.references import HubRef

    if not HubRef.of(str(place)):
        return place
    folder = fetch_dataset(str(place), open_workspace().hub_cache)
    files = [p for p in folder.rglob("*") if p.is_file() and p.name.endswith(RECORD_FILES)]
    return files[0] if len(files) == 1 else folder


# Reading the declaration of an option.


def marks(field: FieldInfo) -> list[Any]:
    """Return the marks of an option: `Argument`, `OffSwitch`, `ReleaseReference` and so on."""
    return [*field.metadata, *_inner_marks(field.annotation)]


def _inner_marks(annotation: Any) -> list[Any]:
    own = list(annotation.__metadata__) if hasattr(annotation, "__metadata__") else []
    return own + [mark for part in get_args(annotation) for mark in _inner_marks(part)]


def has_mark(field: FieldInfo, kind: type[Any]) -> bool:
    """Return whether an option has a mark of this kind."""
    return any(isinstance(mark, kind) for mark in marks(field))


def sentence(text: str) -> str:
    """Return a description as a sentence."""
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith(".") else ".")


# Prefect parameters from options.


def takes(model: type[Options]) -> Callable[[Callable[[Any], T]], Callable[..., T]]:
    """Decorate a function of options, so that it takes one parameter per option.

    Prefect makes its form from the signature and from the `Args:` of the docstring.
    """

    def decorate(run: Callable[[Any], T]) -> Callable[..., T]:
        signature = flow_signature(model)

        @functools.wraps(run)
        def flow_function(*args: Any, **kwargs: Any) -> T:
            return run(read_options(model, signature.bind(*args, **kwargs).arguments))

        flow_function.__signature__ = signature  # type: ignore[attr-defined]
        flow_function.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        flow_function.__doc__ = f"{inspect.getdoc(run)}\n\n{_parameters_section(model)}"
        return flow_function

    return decorate


def flow_options(model: type[Options]) -> dict[str, FieldInfo]:
    """Return the options that are flow parameters."""
    return {name: field for name, field in model.model_fields.items() if not has_mark(field, NotInForms)}


def flow_parameters(options: Options) -> dict[str, Any]:
    """Return options as parameters of a flow run: text in place of paths, lists in place of tuples."""
    return {name: _plain(getattr(options, name)) for name in flow_options(type(options))}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value


def flow_signature(model: type[Options]) -> inspect.Signature:
    """Return the signature of a flow: one parameter per option, with the types of JSON."""
    return inspect.Signature(
        [
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=inspect.Parameter.empty if field.is_required() else _plain(field.default),
                annotation=_form_type(field),
            )
            for name, field in flow_options(model).items()
        ]
    )


def _form_type(field: FieldInfo) -> Any:
    limits = [
        limit for limit in field.metadata if isinstance(limit, BaseMetadata) or hasattr(limit, "pattern")
    ]
    plain = _json_type(field.annotation)
    if (pattern := _secret_pattern(field)) is not None:
        # A Prefect server checks parameters before it stores them.
        limits.append(Field(json_schema_extra={"not": _secret_in(plain, pattern)}))
    return Annotated[(plain, *limits)] if limits else plain


def _secret_pattern(field: FieldInfo) -> str | None:
    """Return the pattern of keys that an option might hold by mistake, or `None`."""
    if has_mark(field, BeforeValidator):
        return JSON_PATTERN
    return TEXT_PATTERN if has_mark(field, ModelReference) or has_mark(field, KeyVariableName) else None


def _secret_in(plain: Any, pattern: str) -> dict[str, Any]:
    """Return the JSON schema of a value with a key: a text, or a list that contains one."""
    text = {"type": "string", "pattern": pattern}
    return {"type": "array", "contains": text} if get_origin(plain) is list else text


def _json_type(annotation: Any) -> Any:
    if get_origin(annotation) is Annotated:
        return _json_type(get_args(annotation)[0])
    if get_origin(annotation) is tuple:
        return list[_json_type(get_args(annotation)[0])]  # type: ignore[misc]
    if get_origin(annotation) in (Union, UnionType):
        return Union[tuple(_json_type(part) for part in get_args(annotation))]  # noqa: UP007
    return str if annotation is Path else annotation


def _parameters_section(model: type[Options]) -> str:
    lines = [
        textwrap.indent(f"{name}: {sentence(field.description or '')}", "    ")
        for name, field in flow_options(model).items()
    ]
    return "\n".join(["Args:", *lines])
