"""Typed answers: a pydantic type goes out as a JSON schema, and a validated object comes back.

An answer that cannot be read is an abstention, never a default value.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from tasks.models.prompts import Prompt, read_prompt
from tasks.models.protocol import Completion, Failure, JsonSchema, Message, Model, Outcome, Request

M = TypeVar("M", bound=BaseModel)

LONGEST_QUOTE = 4000
"""Characters of an unusable answer that the repair request repeats."""
WIDEST_ENUM = 101
"""Number of integers in a range that is still written as an `enum`."""
DECODER_ERRORS = (ValueError, RecursionError)
_SCHEMA_KEYWORDS = ("type", "description", "enum", "const", "anyOf", "items", "properties", "$ref", "$defs")


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens and cost of one question over all its tries."""

    tries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    cached: bool = True
    """Every try came from the cache."""

    def plus(self, completion: Completion) -> Spent:
        """Return the sum with one more completion."""
        return Spent(
            self.tries + 1,
            self.tokens_in + completion.tokens_in,
            self.tokens_out + completion.tokens_out,
            self.cost_usd + completion.cost_usd,
            self.cached and completion.cached,
        )


@dataclass(frozen=True, slots=True)
class Parsed(Generic[M]):
    """A valid answer."""

    tag: str
    value: M
    revision: str | None
    spent: Spent


@dataclass(frozen=True, slots=True)
class Abstention:
    """A question without a valid answer."""

    tag: str
    reason: str
    """`refused`, `unparsable`, `truncated` (unparsable because the length limit was reached) or
    `failed:<kind>`."""
    detail: str
    revision: str | None
    spent: Spent


async def ask_structured(
    model: Model, requests: Iterable[Request], answer_type: type[M], *, repairs: int = 1
) -> AsyncIterator[Parsed[M] | Abstention]:
    """Ask every request for an `answer_type` and yield one result per request, in the order of completion.

    Args:
        model: An open model.
        requests: Drawn lazily. Their tags must be unique.
        answer_type: Type of the answer.
        repairs: How often an answer that does not validate is asked for again, with the problem. Refusals and
            failed calls are not repeated. Repairs are sent after all other requests.

    Raises:
        BudgetError: After the last result, if the budget did not cover every call.
        ModelError: After the last result, if too many of the model's calls have failed so far
            (`Model.failures`). Another run may answer them, so they are no abstentions. Requests that the
            server rejects (status 400 and similar) are.
    """
    schema = strict_schema(answer_type)
    in_progress: dict[str, tuple[Request, Spent]] = {}
    to_repair: list[tuple[Request, Spent]] = []

    def register(pairs: Iterable[tuple[Request, Spent]]) -> Iterator[Request]:
        for request, spent in pairs:
            if request.tag in in_progress:
                raise ValueError(f"two requests have the tag {request.tag!r}")
            in_progress[request.tag] = (request, spent)
            yield request

    first = ((replace(request, json_schema=schema), Spent()) for request in requests)
    for round_ in range(repairs + 1):
        pending: Iterable[tuple[Request, Spent]] = first if round_ == 0 else to_repair
        to_repair = []
        async for outcome in model.complete(register(pending)):
            request, spent = in_progress.pop(outcome.tag)
            if not (isinstance(outcome, Failure) and outcome.kind == "bad_request"):
                model.failures.add(model.name, outcome)
            result = _read(outcome, spent, answer_type)
            if isinstance(result, Abstention) and round_ < repairs and _is_repairable(outcome, result):
                assert isinstance(outcome, Completion)
                prompt = _repair_prompt(model.data_dir)
                to_repair.append((_repair(request, outcome.text, result.detail, prompt), result.spent))
            else:
                yield result
    model.failures.refuse()


def _read(outcome: Outcome, spent: Spent, answer_type: type[M]) -> Parsed[M] | Abstention:
    if isinstance(outcome, Failure):
        return Abstention(outcome.tag, f"failed:{outcome.kind}", outcome.message, None, spent)
    spent = spent.plus(outcome)
    if outcome.refusal:
        return Abstention(outcome.tag, "refused", outcome.text[:LONGEST_QUOTE], outcome.revision, spent)
    try:
        value = parse_answer(outcome.text, answer_type, cut_off=outcome.finish_reason == "length")
    except ValueError as error:
        reason = "truncated" if outcome.finish_reason == "length" else "unparsable"
        return Abstention(outcome.tag, reason, str(error), outcome.revision, spent)
    return Parsed(outcome.tag, value, outcome.revision, spent)


def _is_repairable(outcome: Outcome, result: Abstention) -> bool:
    """Return whether another try may help.

    A truncated answer without any text comes from a model that used its length up on reasoning, and it would
    do so again.
    """
    has_text = isinstance(outcome, Completion) and bool(outcome.text.strip())
    return result.reason == "unparsable" or (result.reason == "truncated" and has_text)


def _repair(request: Request, answer: str, problem: str, prompt: Prompt) -> Request:
    """Return the request with the unusable answer and its problem appended.

    The messages differ from the first request, so the cache key does too. They depend on the answer only, so
    the same repair has the same key in every run.
    """
    correction = Message("user", prompt.fill(problem=problem)[-1].content)
    quoted = Message("assistant", answer[:LONGEST_QUOTE])
    return replace(request, messages=(*request.messages, quoted, correction))


@lru_cache(maxsize=8)
def _repair_prompt(data_dir: Path) -> Prompt:
    return read_prompt(data_dir, "json_repair")


def parse_answer(text: str, answer_type: type[M], *, cut_off: bool = False) -> M:
    """Parse a model's text as `answer_type`, strictly: no number from a string, no boolean as a number.

    Raises:
        ValueError: If the text is invalid. The message states the problem.
    """
    found = find_json_object(text, cut_off=cut_off)
    try:
        return answer_type.model_validate_json(_to_json(found), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the answer"
        raise ValueError(f"{place}: {first['msg']}") from None


def _to_json(value: object) -> bytes:
    import orjson

    return orjson.dumps(value)


# Finding the JSON object


def find_json_object(text: str, *, cut_off: bool = False) -> dict[str, Any]:
    """Return the only JSON object in a text. Code fences and prose around it are ignored.

    Args:
        text: A model's answer.
        cut_off: The text ends where the length limit was reached. An object without its end is closed then,
            and a member that may be incomplete (a last number, a key without a value) is left out.

    Raises:
        ValueError: If the text does not contain exactly one object. The message is written for people and
            models to read.
    """
    found: list[dict[str, Any]] = []
    start = text.find("{")
    while start >= 0:
        try:
            value, end = _decoder().raw_decode(text, start)
        except _AmbiguousError:
            raise
        except DECODER_ERRORS:
            if cut_off and not found:
                return _close(text[start:])
            value, end = None, start + 1
        if isinstance(value, dict):
            found.append(value)
        start = text.find("{", end)
    if len(found) != 1:
        raise ValueError(f"expected one JSON object, found {len(found) or 'none'}")
    return found[0]


class _AmbiguousError(ValueError):
    """JSON that parsers read in different ways."""


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_reject_constant)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise _AmbiguousError(f"the key {name!r} is given twice")
    return dict(pairs)


def _reject_constant(name: str) -> NoReturn:
    raise _AmbiguousError(f"{name} is not a JSON value")


def _close(text: str) -> dict[str, Any]:
    """Close an object that was cut off."""
    closers, in_string, complete = _open_parts(text)
    candidates = [text + '"' + closers] if in_string else []
    candidates += [text[:complete].rstrip().rstrip(",") + _open_parts(text[:complete])[0]]
    for candidate in candidates:
        try:
            value = _decoder().decode(candidate)
        except DECODER_ERRORS:
            continue
        if isinstance(value, dict):
            return value
    raise ValueError("the JSON object ends in the middle")


def _open_parts(text: str) -> tuple[str, bool, int]:
    """Scan the brackets and strings of a JSON text that was cut off.

    Returns:
        The closing brackets that are missing, whether the text ends inside a string, and the length up to the
        end of the last complete member.
    """
    stack: list[str] = []
    in_string = escaped = False
    complete = 1
    for i, char in enumerate(text):
        if in_string:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                in_string = False
        elif char == '"':
            in_string = True
        elif char in "{[":
            stack.append("}" if char == "{" else "]")
            complete = i + 1
        elif char in "}]" and stack:
            stack.pop()
            complete = i + 1
        elif char == ",":
            complete = i
    return "".join(reversed(stack)), in_string, complete


# Strict JSON schemas


def strict_schema(answer_type: type[BaseModel]) -> JsonSchema:
    """Return the strict JSON schema of a type, as servers with structured output accept it.

    Every property is required and no others are allowed. An integer range becomes an `enum`, because grammars
    (llama.cpp) ignore `minimum` and `maximum`. Keywords that strict servers reject are left out; pydantic
    checks every answer anyway.

    Raises:
        TypeError: If the type contains a free-form mapping. No strict schema can express one.
    """
    return JsonSchema(answer_type.__name__, _strict(answer_type.model_json_schema()))


def _strict(node: dict[str, Any]) -> dict[str, Any]:
    if "oneOf" in node:
        node = {**node, "anyOf": node["oneOf"]}
    if node.get("type") == "integer" and "enum" not in node:
        node = _range_as_enum(node)
    kept = {name: _strict_part(name, node[name]) for name in _SCHEMA_KEYWORDS if name in node}
    if node.get("type") == "object":
        if "properties" not in node:
            raise TypeError("a free-form mapping has no strict JSON schema: name its fields")
        kept |= {"required": list(node["properties"]), "additionalProperties": False}
    return kept


def _strict_part(name: str, part: Any) -> Any:
    if name in ("properties", "$defs"):
        return {key: _strict(value) for key, value in part.items()}
    if name == "anyOf":
        return [_strict(option) for option in part]
    return _strict(part) if name == "items" else part


def _range_as_enum(node: dict[str, Any]) -> dict[str, Any]:
    low = node.get("minimum", node.get("exclusiveMinimum", 0) + 1 if "exclusiveMinimum" in node else None)
    high = node.get("maximum", node.get("exclusiveMaximum", 0) - 1 if "exclusiveMaximum" in node else None)
    if low is None or high is None or not 0 <= high - low < WIDEST_ENUM:
        return node
    return {**node, "enum": list(range(int(low), int(high) + 1))}
