"""Finding the one JSON object in what a model wrote."""

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

DECODER_ERRORS = (ValueError, RecursionError)


def one_json_object(text: str, *, cut_off: bool = False) -> dict[str, Any]:
    """The only JSON object in a text, fences and prose around it aside.

    `cut_off` says that the text stops where the length ran out: then an object without its end is closed,
    and what cannot be known to be whole (a last number, a key without its value) is left out.
    Raises `ValueError` with the problem, for a person or a model to read.
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
                return _closed(text[start:])
            value, end = None, start + 1
        if isinstance(value, dict):
            found.append(value)
        start = text.find("{", end)
    if len(found) != 1:
        raise ValueError(f"expected one JSON object, found {len(found) or 'none'}")
    return found[0]


class _AmbiguousError(ValueError):
    """Valid for a lenient parser, ambiguous for everybody else."""


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise _AmbiguousError(f"the key {name!r} is given twice")
    return dict(pairs)


def _no_constant(name: str) -> NoReturn:
    raise _AmbiguousError(f"{name} is not a JSON value")


def _closed(text: str) -> dict[str, Any]:
    """A cut-off object with its end put back."""
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
    """What closes the brackets that are open at the end; whether it ends inside a string; and the length up
    to the last point where a whole member had been read."""
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


# A pydantic type as a strict JSON schema: what servers with structured output accept.
#
# Every property is required, nothing else is allowed, and an integer range is an `enum`, because grammars
# (llama.cpp) ignore `minimum` and `maximum`. Keywords that strict servers refuse are left to pydantic, which
# checks every answer anyway.


WIDEST_ENUM = 101
_KEPT = ("type", "description", "enum", "const", "anyOf", "items", "properties", "$ref", "$defs")


def strict_schema(answer_type: type[BaseModel]) -> JsonSchema:
    """The schema of a type. `TypeError` for free-form mappings, which no strict schema can express."""
    return JsonSchema(answer_type.__name__, _strict(answer_type.model_json_schema()))


def _strict(node: dict[str, Any]) -> dict[str, Any]:
    if "oneOf" in node:
        node = {**node, "anyOf": node["oneOf"]}
    if node.get("type") == "integer" and "enum" not in node:
        node = _range_as_enum(node)
    kept = {name: _strict_part(name, node[name]) for name in _KEPT if name in node}
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


# Typed answers: JSON schema out, validated objects in. What cannot be read is an abstention, not a default.
#
# An answer that does not validate is asked for once more with what was wrong with it (`repairs`); a refusal
# or
# a failed call is not asked again. Every try counts towards tokens and cost.


M = TypeVar("M", bound=BaseModel)
PROMPTS = Path(__file__).resolve().parents[2] / "data"
LONGEST_QUOTE = 4000
"""Characters of an unusable answer that are shown to the model again."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What one question cost so far, over all its tries."""

    tries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    cached: bool = True
    """Every try came from the cache."""

    def plus(self, completion: Completion) -> Spent:
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
    """No valid answer. `reason` is `refused`, `unparsable`, `truncated` (unparsable, because the length ran
    out) or `failed:<kind>`; `detail` says more."""

    tag: str
    reason: str
    detail: str
    revision: str | None
    spent: Spent


async def ask_structured(
    model: Model, requests: Iterable[Request], answer_type: type[M], *, repairs: int = 1
) -> AsyncIterator[Parsed[M] | Abstention]:
    """Ask every request for an `answer_type`; exactly one result a request, in the order of completion.

    Tags must be unique. Requests are drawn lazily; those to be asked again wait until the others are done.
    After the last result `BudgetError` is raised where the money did not last, and `ModelError` where too
    many of the model's calls have failed so far (`Model.failures`): what another run would answer is no
    abstention. What the server will not take (400 and the like) is.
    """
    schema = strict_schema(answer_type)
    open_requests: dict[str, tuple[Request, Spent]] = {}
    again: list[tuple[Request, Spent]] = []

    def drawn(pairs: Iterable[tuple[Request, Spent]]) -> Iterator[Request]:
        for request, spent in pairs:
            if request.tag in open_requests:
                raise ValueError(f"two requests have the tag {request.tag!r}")
            open_requests[request.tag] = (request, spent)
            yield request

    first = ((replace(request, json_schema=schema), Spent()) for request in requests)
    for round_ in range(repairs + 1):
        asking: Iterable[tuple[Request, Spent]] = first if round_ == 0 else again
        again = []
        async for outcome in model.complete(drawn(asking)):
            request, spent = open_requests.pop(outcome.tag)
            if not (isinstance(outcome, Failure) and outcome.kind == "bad_request"):
                model.failures.add(model.name, outcome)
            result = _read(outcome, spent, answer_type)
            if isinstance(result, Abstention) and round_ < repairs and _may_be_mended(outcome, result):
                assert isinstance(outcome, Completion)
                again.append((_asked_again(request, outcome.text, result.detail), result.spent))
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


def _may_be_mended(outcome: Outcome, result: Abstention) -> bool:
    """Whether to ask again: not after a refusal or a failure, and not where the length ran out before the
    first word of an answer (a model that thinks would only think as long again)."""
    said_something = isinstance(outcome, Completion) and bool(outcome.text.strip())
    return result.reason == "unparsable" or (result.reason == "truncated" and said_something)


def parse_answer(text: str, answer_type: type[M], *, cut_off: bool = False) -> M:
    """A model's text as an `answer_type`, strictly: no number from a string, no truth value as a number.
    Raises `ValueError` with what is wrong."""
    found = one_json_object(text, cut_off=cut_off)
    try:
        return answer_type.model_validate_json(_dumped(found), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the answer"
        raise ValueError(f"{place}: {first['msg']}") from None


def _dumped(value: object) -> bytes:
    import orjson

    return orjson.dumps(value)


def _asked_again(request: Request, answer: str, problem: str) -> Request:
    """The same question with the unusable answer and what was wrong with it. Other messages, so another
    cache key; the same content every time, so the same key every time."""
    correction = Message("user", _repair_prompt().fill(problem=problem)[-1].content)
    shown = Message("assistant", answer[:LONGEST_QUOTE])
    return replace(request, messages=(*request.messages, shown, correction))


@lru_cache(maxsize=1)
def _repair_prompt() -> Prompt:
    return read_prompt(PROMPTS, "json_repair")
