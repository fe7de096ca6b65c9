"""Read YAML files safely and validate them against a model. Errors name file, line and column."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from schemas.errors import InputError

M = TypeVar("M", bound=BaseModel)

MAX_BYTES = 16 << 20


def read_yaml(path: Path, model: type[M], *, hint: str | None = None) -> M:
    """Read a YAML file into `model`. Raise `InputError` with `file:line:column` and a hint."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path.name} is larger than {MAX_BYTES >> 20} MiB", place=str(path))
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"there is no file {path}", hint=hint or "check the path") from None
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise InputError(f"{path.name} is not a UTF-8 text file", place=str(path)) from error
    return parse_yaml(text, model, place=str(path), hint=hint)


def parse_yaml(text: str, model: type[M], *, place: str, hint: str | None = None) -> M:
    """Parse a YAML text into `model`. `place` names it in errors."""
    try:
        data = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader subclass
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        position = f"{place}:{mark.line + 1}:{mark.column + 1}" if mark else place
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise InputError(f"not readable as YAML: {problem}", place=position, hint=hint) from None
    except RecursionError:
        raise InputError("nested too deeply", place=place) from None
    if not isinstance(data, dict):
        raise InputError("expected a mapping (`key: value` lines) at the top", place=place, hint=hint)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _explain(error, yaml.compose(text, Loader=_FastLoader), model, place) from None


_FastLoader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _UniqueKeyLoader(_FastLoader):  # type: ignore[valid-type,misc]
    """A safe loader that refuses repeated keys instead of keeping the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} occurs twice", key_node.start_mark
                )
            seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def _explain(
    error: ValidationError, node: yaml.Node | None, model: type[BaseModel], place: str
) -> InputError:
    first = error.errors()[0]
    path = tuple(p for p in first["loc"] if not _is_union_tag(p))
    value, mark = _locate(node, path)
    key = ".".join(str(p) for p in path) or "(top)"
    message = first["msg"].removeprefix("Value error, ")
    hint = f"`counterfoil recipe --explain` lists every key of a {model.__name__.lower()}"
    if model.__name__ != "Recipe":
        hint = "compare it with the other files in the same folder"
    if first["type"] == "extra_forbidden":
        message = "unknown key" + _suggestion(str(path[-1]), model, path[:-1])
    elif first["type"] == "missing":
        message = "missing key"
    more = error.error_count() - 1
    if more:
        message += f" (and {more} more mistake{'s' if more > 1 else ''} in this file)"
    line = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
    secret = first["type"] == "extra_forbidden"  # the value of an unknown key may be a password
    shown = "" if value is None or secret else f" (it is {value!r})"
    return InputError(f"{key}: {message}{shown}", place=f"{place}{line}", hint=hint)


def _is_union_tag(part: Any) -> bool:
    return isinstance(part, str) and ("[" in part or part in {"constrained-str", "str", "int", "literal"})


def _locate(node: yaml.Node | None, path: tuple[Any, ...]) -> tuple[str | None, Any]:
    """Return the scalar at `path`, if it is one, and the position of the deepest part that exists."""
    mark = node.start_mark if node is not None else None
    for part in path:
        if isinstance(node, yaml.MappingNode):
            match = [(k, v) for k, v in node.value if k.value == str(part)]
            if not match:
                return None, mark
            mark, node = match[0][0].start_mark, match[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            mark = node.start_mark
        else:
            return None, mark
    value = node.value if isinstance(node, yaml.ScalarNode) else None
    return (value[:80] if value is not None else None), mark


def _suggestion(key: str, model: type[BaseModel], parents: tuple[Any, ...]) -> str:
    from difflib import get_close_matches

    section: Any = model
    for part in parents:
        field = getattr(section, "model_fields", {}).get(part)
        section = getattr(field, "annotation", None)
    names = [f.alias or n for n, f in getattr(section, "model_fields", {}).items()]
    near = get_close_matches(key, names, n=1)
    return f"; did you mean `{near[0]}`?" if near else ""
