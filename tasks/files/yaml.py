"""Read YAML files safely and validate them against a model. Errors name file, line and column."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from pydantic import BaseModel, ValidationError, create_model
from pydantic_core import ErrorDetails

from schemas.errors import InputError
from schemas.recipe import MODEL_NAME_PATTERN, SLUG_PATTERN
from schemas.secrets import find_secret

M = TypeVar("M", bound=BaseModel)

MAX_BYTES = 16 << 20
MAX_DEPTH = 64
"""Deepest nesting. A parser that recurses would end the process on far deeper texts."""
MAX_FAULTS = 20
"""Most mistakes of a file that an error lists."""
MAX_NODES = 2_000_000
"""Most values after aliases (`*name`) and merge keys (`<<`) are expanded."""

PATTERNS = {
    MODEL_NAME_PATTERN: "must be a model name such as openai:gpt-5-mini or "
    "openai:NAME@http://localhost:8000/v1",
    SLUG_PATTERN: "must consist of small letters, digits, `-`, `_` and `.`, and begin with a letter or "
    "a digit",
}
"""Meaning of a pattern, for patterns that have one."""

KeyPath = tuple[int | str, ...]
"""Keys and positions that lead to a value."""

MAX_PARSED = 256
"""Most parsed files that are kept in memory."""
_COMBINED = re.compile(r"/cache/vocabulary/[0-9a-f]{24}/")
"""Folder of a vocabulary with the files of a user (`tasks.files.own_vocabulary`)."""
_parsed: dict[tuple[object, ...], BaseModel] = {}


def shown_path(path: Path) -> str:
    """Return the path that errors name. A user's file in a combined vocabulary has the path inside it."""
    combined = _COMBINED.search(path.as_posix())
    if combined is None:
        return str(path)
    return str(path.resolve()) if path.is_symlink() else path.as_posix()[combined.end() :]


def read_yaml(path: Path, model: type[M], *, hint: str | None = None) -> M:
    """Read a YAML file into `model`. Raise `InputError` with `file:line:column` and a hint.

    A file that has not changed since it was last read is not parsed again.
    """
    try:
        state = path.stat()
        if state.st_size > MAX_BYTES:
            raise InputError(f"{path.name} is larger than {MAX_BYTES >> 20} MiB", place=shown_path(path))
        key = (path.absolute(), state.st_ino, state.st_mtime_ns, state.st_size, model)
        if (known := _parsed.get(key)) is not None:
            return cast(M, known)
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"there is no file {shown_path(path)}", hint=hint or "check the path") from None
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise InputError(f"{path.name} is not a UTF-8 text file", place=shown_path(path)) from error
    parsed = parse_yaml(text, model, place=shown_path(path), hint=hint)
    if model.model_config.get("frozen"):
        if len(_parsed) >= MAX_PARSED:
            _parsed.clear()
        _parsed[key] = parsed
    return parsed


def parse_yaml(text: str, model: type[M], *, place: str, hint: str | None = None) -> M:
    """Parse a YAML text into `model`. `place` names it in errors."""
    data = load_yaml(text, place=place, hint=hint)
    if not isinstance(data, dict):
        raise InputError("expected a mapping (`key: value` lines) at the top", place=place, hint=hint)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        rules = broken_rules(model, data) if {fault["loc"] for fault in error.errors()} == {()} else []
        raise _explain(error, yaml.compose(text, Loader=_FastLoader), model, place, rules) from None


def read_valid_part(path: Path, model: type[M], defaults: Mapping[KeyPath, Any] | None = None) -> M | None:
    """Return a file without the values that are not valid, so that the others can be checked.

    Rules that concern several keys of a section are not applied.

    Args:
        path: The file.
        model: Model of the file.
        defaults: Values by location, for required keys that are missing.

    Returns:
        `None` if the file is no mapping, or lacks a required key that has no default.
    """
    try:
        data = load_yaml(path.read_text(encoding="utf-8"), place=str(path))
    except (OSError, UnicodeDecodeError, InputError):
        return None
    if not isinstance(data, dict):
        return None
    for _ in range(MAX_FAULTS):
        try:
            return model.model_validate(data)
        except ValidationError as error:
            faults = {_path_of(fault["loc"]): fault["type"] for fault in error.errors(include_url=False)}
        if set(faults) == {()}:
            return without_rules(model, data)
        if not all(_repair(data, path, faults[path], model, defaults or {}) for path in _ordered(faults)):
            return None
    return None


def _ordered(paths: Iterable[KeyPath]) -> list[KeyPath]:
    """Return the locations that contain no other. Of a list, the last item is first."""
    return sorted(_deepest(paths), key=lambda path: [(str(p).zfill(12), p) for p in path], reverse=True)


def _repair(
    data: Any, path: KeyPath, kind: str, model: type[BaseModel], defaults: Mapping[KeyPath, Any]
) -> bool:
    """Remove a value that is not valid, or add a missing one. Return whether that was possible."""
    holder = data
    for part in path[:-1]:
        try:
            holder = holder[part]
        except (LookupError, TypeError):
            return False
    last = path[-1]
    if kind == "missing":
        if path not in defaults or not isinstance(holder, dict):
            return False
        holder[last] = defaults[path]
        return True
    section = _section(model, path)
    try:
        if kind == "value_error" and section is not None and isinstance(holder[last], dict):
            holder[last] = _without_broken_key(section, holder[last])
        elif path in defaults:
            holder[last] = defaults[path]
        else:
            del holder[last]
    except (LookupError, TypeError):
        return False
    return True


def _without_broken_key(section: type[BaseModel], data: dict[Any, Any]) -> dict[Any, Any]:
    """Return a section that breaks a rule without the first key that makes it invalid."""
    for key in data:
        part = {name: value for name, value in data.items() if name != key}
        try:
            section.model_validate(part)
        except ValidationError:
            continue
        return part
    return {}


def without_rules(model: type[M], data: Mapping[str, Any]) -> M | None:
    """Return a section of valid single values, without the rules that concern several of them."""
    fields: dict[str, Any] = {name: (field.annotation, field) for name, field in model.model_fields.items()}
    lenient = create_model(model.__name__, __config__=model.model_config, **fields)
    try:
        part = lenient.model_validate(data)
    except ValidationError:
        return None
    return model.model_construct(part.model_fields_set, **{name: getattr(part, name) for name in fields})


def broken_rules(model: type[BaseModel], data: Mapping[str, Any]) -> list[str]:
    """Return the message of every rule on several keys that a file breaks. Its single values are valid."""
    part = without_rules(model, data)
    messages = []
    for rule in model.__pydantic_decorators__.model_validators.values() if part is not None else ():
        if rule.info.mode == "after":
            try:
                rule.func(part)
            except ValueError as error:
                messages.append(str(error))
    return messages


def load_yaml(text: str, *, place: str, hint: str | None = None) -> Any:
    """Parse a YAML text of unknown origin. Its size and depth are checked before it is loaded.

    Raises:
        InputError: If it is not YAML, too large, nested too deeply, or has a value that cannot be read.
    """
    if len(text) > MAX_BYTES:
        raise InputError(f"the text is larger than {MAX_BYTES >> 20} MiB", place=place)
    try:
        check_expansion(text, place)
        return yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader subclass
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        position = f"{place}:{mark.line + 1}:{mark.column + 1}" if mark else place
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not valid YAML"
        raise InputError(f"not readable as YAML: {problem}", place=position, hint=hint) from None
    except RecursionError:
        raise InputError("nested too deeply", place=place) from None
    except (ValueError, OverflowError, TypeError, AttributeError, LookupError) as error:
        # The loader raises these for dates such as 2026-99-99 and for numbers of thousands of digits.
        problem = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InputError(f"a value cannot be read: {problem}", place=place, hint=hint) from None


def check_expansion(text: str, place: str) -> None:
    """Raise `InputError` if a YAML text is nested too deeply, or too large after its aliases are expanded.

    The events of the parser are read one after the other, so the check itself needs no recursion.
    """
    anchors: dict[str, _Extent] = {}
    opened: list[_Extent] = []
    for event in yaml.parse(text, Loader=_FastLoader):
        where = f"{place}:{event.start_mark.line + 1}" if event.start_mark else place
        ended = None
        if isinstance(event, yaml.CollectionStartEvent):
            opened.append(_Extent(event.anchor))
        elif isinstance(event, yaml.ScalarEvent):
            ended = _Extent(event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                raise InputError(f"the alias *{event.anchor} names nothing before it", place=where)
            ended = replace(anchors[event.anchor], anchor=None)
        elif isinstance(event, yaml.CollectionEndEvent):
            ended = opened.pop()
        if ended is not None:
            if ended.anchor is not None:
                anchors[ended.anchor] = ended
            if opened:
                opened[-1].nodes += ended.nodes
                opened[-1].depth = max(opened[-1].depth, ended.depth + 1)
        if len(opened) + (ended.depth if ended else 0) > MAX_DEPTH:
            raise InputError(f"nested more than {MAX_DEPTH} levels deep", place=where)
        if max(ended.nodes if ended else 0, opened[-1].nodes if opened else 0) > MAX_NODES:
            raise InputError(f"more than {MAX_NODES:,} values after its aliases are expanded", place=where)


@dataclass
class _Extent:
    """Number of values and levels of a part of a YAML text."""

    anchor: str | None
    nodes: int = 1
    depth: int = 1


_FastLoader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _UniqueKeyLoader(_FastLoader):  # type: ignore[valid-type,misc]
    """A safe loader that refuses repeated keys instead of keeping the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be a text, not a list or a mapping", key_node.start_mark
                )
            key = key_node.value
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} occurs twice", key_node.start_mark
                )
            seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def _explain(
    error: ValidationError, node: yaml.Node | None, model: type[BaseModel], place: str, rules: Sequence[str]
) -> InputError:
    faults = [(rule, place) for rule in rules] or list(_faults(error, node, model, place))
    hint = f"`counterfoil recipe --explain` lists every key of a {model.__name__.lower()}"
    if model.__name__ != "Recipe":
        hint = "compare it with the other files in the same folder"
    message, position = faults[0]
    further = [f"  {also} ({at.removeprefix(f'{place}:')})" for also, at in faults[1:MAX_FAULTS]]
    if further:
        more = len(faults) - 1
        message += f" (and {more} more mistake{'s' if more > 1 else ''} in this file)"
        further += [f"  … and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
    explained = InputError("\n".join([message, *further]), place=position, hint=hint)
    if further:
        last = len(faults[:MAX_FAULTS]) - 1
        explained.parts = tuple(
            InputError(one, place=at, hint=hint if n == last else None)
            for n, (one, at) in enumerate(faults[:MAX_FAULTS])
        )
    return explained


def _faults(
    error: ValidationError, node: yaml.Node | None, model: type[BaseModel], place: str
) -> Iterator[tuple[str, str]]:
    """Yield the message and the place of each mistake, one per place.

    A list of wrong items is also too short, and a section with a wrong value also lacks it. Such consequences
    are left out.
    """
    by_path: dict[KeyPath, list[ErrorDetails]] = {}
    for fault in error.errors(include_url=False):
        by_path.setdefault(_path_of(fault["loc"]), []).append(fault)
    named = _deepest(by_path)
    for path, faults in by_path.items():
        if path not in named:
            continue
        value, mark = _locate(node, path)
        key = ".".join(str(p) for p in path) or "(top)"
        kinds = {fault["type"] for fault in faults}
        if "extra_forbidden" in kinds:
            message = "unknown key" + _suggestion(str(path[-1]), model, path[:-1])
        elif "missing" in kinds:
            message = "missing key"
        else:
            message = _in_words(faults)
        # The value of an unknown key may be a password.
        secret = "extra_forbidden" in kinds or find_secret(value) is not None
        shown = "" if value is None or secret else f" (it is {value!r})"
        line = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        yield f"{key}: {message}{shown}", f"{place}{line}"


def _path_of(loc: tuple[int | str, ...]) -> KeyPath:
    """Return a location without the members of unions."""
    return tuple(p for p in loc if not _is_union_tag(p))


def _deepest(paths: Iterable[KeyPath]) -> set[KeyPath]:
    """Return the locations that contain no other."""
    known = set(paths)
    outer = {path[:end] for path in known for end in range(len(path))}
    return known - outer


def _section(model: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    """Return the model of a section, or `None` if there is none at this location."""
    section: Any = model
    for part in path:
        fields = {f.alias or n: f for n, f in getattr(section, "model_fields", {}).items()}
        section = getattr(fields.get(str(part)), "annotation", None)
    return section if isinstance(section, type) and issubclass(section, BaseModel) else None


def _in_words(faults: Sequence[ErrorDetails]) -> str:
    """Describe the required value. The members of a union are alternatives."""
    alternatives = list(dict.fromkeys(_requirement(fault) for fault in faults))
    first, *others = alternatives
    return " or ".join([first, *(one.removeprefix("must be ") for one in others)])


def _requirement(fault: ErrorDetails) -> str:
    """Describe the required value in YAML terms."""
    limits = fault.get("ctx") or {}
    match fault["type"]:
        case "list_type" | "tuple_type" | "set_type":
            return "must be a list, such as [first, second]"
        case "dict_type" | "model_type":
            return "must be a mapping (`key: value` lines)"
        case "string_type":
            return "must be a text"
        case "int_type" | "int_parsing" | "int_from_float":
            return "must be a whole number"
        case "float_type" | "float_parsing":
            return "must be a number"
        case "bool_type" | "bool_parsing":
            return "must be true or false"
        case "finite_number":
            return "must be a finite number"
        case "literal_error":
            return f"must be {limits['expected']}"
        case "greater_than_equal":
            return f"must be at least {limits['ge']:g}"
        case "greater_than":
            return f"must be above {limits['gt']:g}"
        case "less_than_equal":
            return f"must be at most {limits['le']:g}"
        case "less_than":
            return f"must be below {limits['lt']:g}"
        case "too_short":
            return f"needs at least {limits['min_length']} item{'s' if limits['min_length'] > 1 else ''}"
        case "too_long":
            return f"must have at most {limits['max_length']} items"
        case "string_pattern_mismatch":
            return PATTERNS.get(limits["pattern"], f"must match {limits['pattern']}")
    return fault["msg"].removeprefix("Value error, ")


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
